//! Removing old entries: whole files, oldest first, after an entry that says so. It decides by age and length only; what must
//! be kept how long is the policy's business.

use std::fs;
use std::io;
use std::path::Path;

use gateway_policy::Timestamp;

use super::{Log, LogError};
use crate::Event;
use crate::chain::{segment_path, segments};
use crate::entry::Line;
use crate::event::LogFault;
use crate::records::{self, Stored};

const DAY: i64 = 86_400;

impl Log {
    /// Removes the oldest files when all their entries are older than the policy keeps them, or all files together are too
    /// long. First an entry says so, then they go.
    ///
    /// # Errors
    /// [`LogError::Disk`]; what is not removed now is removed the next time.
    pub fn remove_old(&mut self, now: Timestamp) -> Result<(), LogError> {
        let dir = self.dir.clone();
        let failed = |action| {
            let path = dir.clone();
            move |source| LogError::Disk {
                action,
                path,
                source,
            }
        };
        let all = segments(&self.dir).map_err(failed("be read"))?;
        let mut lengths: Vec<u64> = Vec::with_capacity(all.len());
        for first in &all {
            lengths.push(
                fs::metadata(segment_path(&self.dir, *first))
                    .map_err(failed("be read"))?
                    .len(),
            );
        }
        let mut total: u64 = lengths.iter().sum();
        let oldest_kept = now.plus(-i64::from(self.settings.keep_days) * DAY);
        let mut gone = 0;
        for (place, next) in all.iter().enumerate().skip(1) {
            let too_old = first_time(&segment_path(&self.dir, *next))
                .map_err(failed("be read"))?
                .is_some_and(|begun| begun < oldest_kept);
            if !too_old && total <= self.settings.keep_bytes {
                break;
            }
            total -= lengths[place - 1];
            gone = place;
        }
        let Some(first_kept) = all.get(gone).copied().filter(|_| gone > 0) else {
            return Ok(());
        };
        let kept =
            records::read(&self.dir.join(records::CHECKPOINTS)).map_err(failed("be read"))?;
        let first_checkpoint = kept
            .lines
            .iter()
            .flatten()
            .filter_map(|line| records::read_checkpoint(line)?.parse().ok())
            .find(|checkpoint| checkpoint.count + 1 >= first_kept)
            .map_or(self.next_sequence, |checkpoint| checkpoint.sequence);
        let event = Event::Log {
            what: LogFault::OldRemoved,
            count: first_kept - 1,
            first_checkpoint: Some(first_checkpoint),
        };
        self.append(&event, now)?;
        self.sync()?;
        self.remove_before(&all[..gone], first_checkpoint)
            .map_err(failed("remove old entries"))
    }

    fn remove_before(&mut self, segments: &[u64], first_checkpoint: u64) -> io::Result<()> {
        for first in segments {
            self.disk.remove(&segment_path(&self.dir, *first))?;
        }
        self.disk.sync_dir(&self.dir)?;
        let kept_checkpoint = |line: &serde_json::Value| {
            records::read_checkpoint(line)
                .and_then(|signed| signed.parse().ok())
                .is_none_or(|checkpoint| checkpoint.sequence >= first_checkpoint)
        };
        self.checkpoints.retain(kept_checkpoint)?;
        self.receipts.retain(|line| {
            Stored::read(line).is_none_or(|stored| stored.sequence >= first_checkpoint)
        })
    }
}

pub(super) fn first_time(path: &Path) -> io::Result<Option<Timestamp>> {
    let bytes = fs::read(path)?;
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    Ok(Line::read(line).and_then(|line| line.at))
}
