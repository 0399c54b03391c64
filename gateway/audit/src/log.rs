//! The log on the disk: appending, making durable, beginning new files, removing old ones, and what to do with a log that
//! does not verify. One owner at a time; it has no thread and no clock.

mod retention;
mod syncing;
#[cfg(test)]
mod tests;
mod vouching;

pub use syncing::Synchronisation;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use gateway_policy::Timestamp;
use rustls::pki_types::CertificateDer;

use crate::chain::{segment_path, segments};
use crate::disk::Disk;
use crate::entry;
use crate::event::{Kind, LogFault};
use crate::records::{self, Lines, Stored};
use crate::verify::{Options, Report, verify};
use crate::{Checkpoint, Digest, Event, Id, Record};

/// Bounds of the log.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A file that has grown to this length is followed by a new one.
    pub segment_bytes: u64,
    /// Files whose entries are all older than this are removed.
    pub keep_days: u32,
    /// The oldest files are removed when all together are longer.
    pub keep_bytes: u64,
    /// A file whose first entry is so many seconds old is followed by a new one, so that entries go soon after their days are
    /// over; `None`: only its length decides.
    pub segment_seconds: Option<u32>,
    /// Entries and head that were once vouched for elsewhere: a log that has fewer or others when it is opened was changed.
    pub vouched: Option<(u64, Digest)>,
    /// The city's roots, to check countersignatures when the log is opened.
    pub roots: Vec<CertificateDer<'static>>,
}

impl Default for Settings {
    /// 4 MiB a file, 400 days, 256 MiB.
    fn default() -> Self {
        Self {
            segment_bytes: 4 << 20,
            keep_days: 400,
            keep_bytes: 256 << 20,
            segment_seconds: None,
            vouched: None,
            roots: Vec::new(),
        }
    }
}

/// Entries that wait for the disk are bounded too; beyond, they are counted and lost, and the log says how many.
const MOST_WAITING: usize = 1 << 20;

/// Logs that were put aside; the first ones are evidence, so a new one takes the place of the newest.
const MOST_SET_ASIDE: usize = 8;

/// Why the log could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused.
    #[error("the audit log cannot {action} in {}", .path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// No randomness for the log's name.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// Too many entries wait for the disk.
    #[error("too many entries wait for the disk")]
    Full,
    /// A checkpoint or countersignature does not belong here.
    #[error("not a checkpoint of this log, or not the next one")]
    NotOurs,
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    disk: Disk,
    settings: Settings,
    id: Id,
    opened: Timestamp,
    after_fault: bool,
    /// Entries appended, and the hash of the last; not all durable.
    count: u64,
    head: Digest,
    /// The same as of the last synchronisation.
    durable: (u64, Digest),
    file: File,
    /// First entry of the newest file.
    segment: u64,
    /// Time of that entry.
    begun: Timestamp,
    /// Bytes of the newest file that are durable.
    length: u64,
    /// Lines behind them, kept until they are durable too.
    waiting: Vec<u8>,
    /// So many of those bytes are in the file.
    written: usize,
    /// The last attempt to write failed; what is behind `length` in the file is not to be trusted.
    failed: bool,
    checkpoints: Lines,
    receipts: Lines,
    certificates: Lines,
    keys: Lines,
    known_keys: BTreeSet<Digest>,
    known_chains: BTreeSet<Digest>,
    accesses: Option<(Id, u64, Digest)>,
    last_checkpoint: Option<Checkpoint>,
    next_sequence: u64,
    last_receipt: Option<Stored>,
}

impl Log {
    /// Opens the log in `dir`, or begins one. A log that does not verify is put aside whole (`<dir>-set-aside-<time>`) and
    /// another begun, which says so in its first entry; an unfinished last line that no checkpoint covers is dropped, and an
    /// entry says so. Also returns what verification found.
    ///
    /// # Errors
    /// [`LogError`] when the disk refuses.
    pub fn open(
        dir: &Path,
        settings: Settings,
        now: Timestamp,
    ) -> Result<(Self, Option<Report>), LogError> {
        Self::open_on(Disk::default(), dir, settings, now)
    }

    pub(crate) fn open_on(
        disk: Disk,
        dir: &Path,
        settings: Settings,
        now: Timestamp,
    ) -> Result<(Self, Option<Report>), LogError> {
        let failed = |action| {
            move |source| LogError::Disk {
                action,
                path: dir.to_owned(),
                source,
            }
        };
        disk.make_dir(dir).map_err(failed("be kept"))?;
        let all = segments(dir).map_err(failed("be read"))?;
        let half_begun = matches!(all[..], [1])
            && whole_lines(&segment_path(dir, 1)).map_err(failed("be read"))? == 0;
        let nothing_else = !dir.join(records::CHECKPOINTS).exists()
            || fs::metadata(dir.join(records::CHECKPOINTS)).is_ok_and(|file| file.len() == 0);
        if (all.is_empty() || half_begun) && nothing_else {
            // The power went before the first entry was there.
            disk.remove(&segment_path(dir, 1))
                .map_err(failed("be repaired"))?;
            return Ok((Self::begin(disk, dir, settings, Kind::First, now)?, None));
        }
        let options = Options {
            roots: settings.roots.clone(),
            written: settings.vouched,
            ..Options::default()
        };
        let report = verify(dir, &options).map_err(failed("be read"))?;
        if !report.findings.is_empty() {
            put_aside(&disk, dir, now).map_err(failed("be put aside"))?;
            let log = Self::begin(disk, dir, settings, Kind::SetAside, now)?;
            return Ok((log, Some(report)));
        }
        let log = Self::resume(disk, dir, settings, &report, now)?;
        Ok((log, Some(report)))
    }

    fn begin(
        disk: Disk,
        dir: &Path,
        settings: Settings,
        because: Kind,
        now: Timestamp,
    ) -> Result<Self, LogError> {
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(|_| LogError::NoRandomness)?;
        let event = Event::Opened {
            log: Id(id),
            because,
        };
        let (line, head) = entry::line(1, now, &event, Digest::ZERO);
        let failed = |action| {
            move |source| LogError::Disk {
                action,
                path: dir.to_owned(),
                source,
            }
        };
        disk.make_dir(dir).map_err(failed("be kept"))?;
        let (file, length) = new_segment(&disk, dir, 1, &line).map_err(failed("begin"))?;
        Self::with(
            disk,
            dir,
            settings,
            (Id(id), now, because == Kind::SetAside),
            (1, head),
            (file, 1, now, length),
        )
    }

    fn resume(
        disk: Disk,
        dir: &Path,
        settings: Settings,
        report: &Report,
        now: Timestamp,
    ) -> Result<Self, LogError> {
        let failed = |action| {
            move |source| LogError::Disk {
                action,
                path: dir.to_owned(),
                source,
            }
        };
        let mut all = segments(dir).map_err(failed("be read"))?;
        let newest = all.last().copied().unwrap_or(1);
        if newest > report.count {
            // A file that was being begun when the power went: the one before it is still the newest.
            disk.remove(&segment_path(dir, newest))
                .map_err(failed("be repaired"))?;
            all.pop();
        }
        let segment = all.last().copied().unwrap_or(1);
        let path = segment_path(dir, segment);
        let file = disk.open(&path, false).map_err(failed("be opened"))?;
        let length = whole_lines(&path).map_err(failed("be read"))?;
        let begun = retention::first_time(&path).map_err(failed("be read"))?;
        let id = report.log.ok_or(LogError::NotOurs)?;
        let opened = report.opened.unwrap_or(now);
        let mut log = Self::with(
            disk,
            dir,
            settings,
            (id, opened, report.after_fault),
            (report.count, report.head),
            (file, segment, begun.unwrap_or(now), length),
        )?;
        log.accesses = report.accesses;
        log.last_checkpoint.clone_from(&report.last_checkpoint);
        log.last_receipt.clone_from(&report.last_receipt);
        log.next_sequence = report
            .last_checkpoint
            .as_ref()
            .map_or(1, |last| last.sequence + 1);
        if let Some(tail) = &report.tail {
            log.failed = true;
            let event = Event::Log {
                what: LogFault::TailDropped,
                count: tail.bytes,
                first_checkpoint: None,
            };
            log.append(&event, now)?;
            log.sync()?;
        }
        Ok(log)
    }

    fn with(
        disk: Disk,
        dir: &Path,
        settings: Settings,
        (id, opened, after_fault): (Id, Timestamp, bool),
        (count, head): (u64, Digest),
        (file, segment, begun, length): (File, u64, Timestamp, u64),
    ) -> Result<Self, LogError> {
        let failed = |source| LogError::Disk {
            action: "be opened",
            path: dir.to_owned(),
            source,
        };
        let lines = |name| Lines::open(dir.join(name), disk.clone()).map_err(failed);
        let (checkpoints, receipts) = (lines(records::CHECKPOINTS)?, lines(records::RECEIPTS)?);
        let (certificates, keys) = (lines(records::CERTIFICATES)?, lines(records::KEYS)?);
        disk.sync_dir(dir).map_err(failed)?;
        let known_keys = records::keys(&records::read(&dir.join(records::KEYS)).map_err(failed)?);
        let chains = records::read(&dir.join(records::CERTIFICATES)).map_err(failed)?;
        Ok(Self {
            known_keys: known_keys.into_keys().collect(),
            known_chains: chains
                .lines
                .iter()
                .flatten()
                .filter_map(records::read_chain)
                .map(|chain| records::chain_digest(&chain))
                .collect(),
            dir: dir.to_owned(),
            disk,
            settings,
            id,
            opened,
            after_fault,
            count,
            head,
            durable: (count, head),
            file,
            segment,
            begun,
            length,
            waiting: Vec::new(),
            written: 0,
            failed: false,
            checkpoints,
            receipts,
            certificates,
            keys,
            accesses: None,
            last_checkpoint: None,
            next_sequence: 1,
            last_receipt: None,
        })
    }

    /// Appends an entry and returns its number. It is in the log from now on, and durable after [`Log::sync`]; while the
    /// disk refuses, it waits in memory.
    ///
    /// # Errors
    /// [`LogError::Full`]: too much waits already, and this entry is not in the log.
    pub fn append(&mut self, record: &impl Record, at: Timestamp) -> Result<u64, LogError> {
        let number = self.put(record, at)?;
        // A failure shows in the next synchronisation.
        let _ = self.write();
        Ok(number)
    }

    /// As [`Log::append`], for one of several entries that [`Log::write`] brings into the file together.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn put(&mut self, record: &impl Record, at: Timestamp) -> Result<u64, LogError> {
        if self.waiting.len() > MOST_WAITING {
            return Err(LogError::Full);
        }
        let file_length = self.length + u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        let old = self
            .settings
            .segment_seconds
            .is_some_and(|longest| at.0.saturating_sub(self.begun.0) >= i64::from(longest));
        if (old || file_length >= self.settings.segment_bytes) && !self.failed {
            // When it fails, the file grows beyond its bound; entries matter more.
            let _ = self.sync().and_then(|()| self.continue_in_new_file(at));
        }
        let number = self.count + 1;
        let (line, head) = entry::line(number, at, record, self.head);
        self.waiting.extend(line.as_bytes());
        (self.count, self.head) = (number, head);
        Ok(number)
    }

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// [`LogError::Disk`]; everything is still there and can be tried again.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if self.waiting.is_empty() && !self.failed {
            return Ok(());
        }
        self.write()?;
        if let Err(source) = self.disk.sync(&self.file) {
            // What the kernel has dropped after a failed fsync is unknown (PostgreSQL's lesson of 2018): write it all again.
            self.failed = true;
            return Err(self.disk_error("be made durable", source));
        }
        self.length += u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        self.waiting.clear();
        self.written = 0;
        self.durable = (self.count, self.head);
        Ok(())
    }

    /// Brings into the file what was put into the log, as far as it is not there.
    ///
    /// # Errors
    /// [`LogError::Disk`]; everything is still there and can be tried again.
    pub fn write(&mut self) -> Result<(), LogError> {
        if self.failed {
            self.disk
                .set_len(&self.file, self.length)
                .map_err(|source| self.disk_error("be repaired", source))?;
            (self.failed, self.written) = (false, 0);
        }
        let at = self.length + u64::try_from(self.written).unwrap_or(u64::MAX);
        if let Err(source) = self
            .disk
            .write_at(&self.file, &self.waiting[self.written..], at)
        {
            self.failed = true;
            return Err(self.disk_error("be written", source));
        }
        self.written = self.waiting.len();
        Ok(())
    }

    fn continue_in_new_file(&mut self, at: Timestamp) -> Result<(), LogError> {
        let number = self.count + 1;
        let event = Event::Continued {
            log: self.id,
            previous: self.head,
        };
        let (line, head) = entry::line(number, at, &event, self.head);
        match new_segment(&self.disk, &self.dir, number, &line) {
            Ok((file, length)) => {
                (self.file, self.segment, self.length) = (file, number, length);
                self.begun = at;
                (self.count, self.head) = (number, head);
                self.durable = (number, head);
                Ok(())
            }
            Err(source) => {
                let _ = self.disk.remove(&segment_path(&self.dir, number));
                Err(self.disk_error("begin a new file", source))
            }
        }
    }

    fn disk_error(&self, action: &'static str, source: io::Error) -> LogError {
        LogError::Disk {
            action,
            path: self.dir.clone(),
            source,
        }
    }

    /// Whether everything appended is in the file: it survives this process, though not a power cut yet.
    #[must_use]
    pub fn is_written(&self) -> bool {
        !self.failed && self.written == self.waiting.len()
    }

    /// Bytes that are not durable yet.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Keeps entries for another number of days from now on.
    pub const fn keep_days(&mut self, days: u32) {
        self.settings.keep_days = days;
    }

    /// Which log.
    #[must_use]
    pub const fn id(&self) -> Id {
        self.id
    }

    /// When it began, as far as it is still there.
    #[must_use]
    pub const fn opened(&self) -> Timestamp {
        self.opened
    }

    /// It began because the one before it was put aside.
    #[must_use]
    pub const fn after_fault(&self) -> bool {
        self.after_fault
    }

    /// Number and hash of the last durable entry.
    #[must_use]
    pub const fn durable(&self) -> (u64, Digest) {
        self.durable
    }

    /// Number and hash of the last entry, durable or not.
    #[must_use]
    pub const fn written(&self) -> (u64, Digest) {
        (self.count, self.head)
    }

    /// Number the next checkpoint must have.
    #[must_use]
    pub const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// How the log of accesses stood, as this log had it when it was opened.
    #[must_use]
    pub const fn accesses(&self) -> Option<(Id, u64, Digest)> {
        self.accesses
    }

    /// The newest checkpoint.
    #[must_use]
    pub const fn last_checkpoint(&self) -> Option<&Checkpoint> {
        self.last_checkpoint.as_ref()
    }

    /// The newest countersignature: number of its checkpoint, the city's time.
    #[must_use]
    pub fn last_receipt(&self) -> Option<(u64, Timestamp)> {
        self.last_receipt
            .as_ref()
            .map(|stored| (stored.sequence, stored.at))
    }

    /// Holds the files against themselves and against what was written. What is not durable yet is made so first.
    ///
    /// # Errors
    /// [`LogError::Disk`] when they cannot be read.
    pub fn check(&mut self) -> Result<Report, LogError> {
        self.sync()?;
        let options = Options {
            roots: self.settings.roots.clone(),
            city: None,
            written: Some(self.durable),
        };
        verify(&self.dir, &options).map_err(|source| self.disk_error("be read", source))
    }

    /// Puts this log aside and begins another: for a log that [`Log::check`] found bent while the box was running.
    ///
    /// # Errors
    /// [`LogError`]; then this log goes on.
    pub fn set_aside(&mut self, now: Timestamp) -> Result<(), LogError> {
        put_aside(&self.disk, &self.dir, now)
            .map_err(|source| self.disk_error("be put aside", source))?;
        let (disk, settings) = (self.disk.clone(), self.settings.clone());
        let dir = self.dir.clone();
        *self = Self::begin(disk, &dir, settings, Kind::SetAside, now)?;
        Ok(())
    }
}

/// Makes the file whose first entry is `line`; durable when it returns.
fn new_segment(disk: &Disk, dir: &Path, first: u64, line: &str) -> io::Result<(File, u64)> {
    let file = disk.open(&segment_path(dir, first), true)?;
    disk.write_at(&file, line.as_bytes(), 0)?;
    disk.sync(&file)?;
    disk.sync_dir(dir)?;
    Ok((file, u64::try_from(line.len()).unwrap_or(u64::MAX)))
}

/// One rename, so that there is never half a log in either place.
fn put_aside(disk: &Disk, dir: &Path, now: Timestamp) -> io::Result<()> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    let name = dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
        + "-set-aside-";
    let mut older: Vec<PathBuf> = fs::read_dir(parent)?
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|found| found.to_string_lossy().starts_with(&name))
        })
        .collect();
    older.sort();
    if older.len() >= MOST_SET_ASIDE
        && let Some(newest) = older.last()
    {
        fs::remove_dir_all(newest)?;
    }
    let mut number = now.0;
    while parent.join(format!("{name}{number}")).exists() {
        number += 1;
    }
    disk.rename(dir, &parent.join(format!("{name}{number}")))?;
    disk.sync_dir(parent)
}

/// Length of a file up to its last line feed.
fn whole_lines(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    Ok(u64::try_from(whole).unwrap_or(u64::MAX))
}
