//! Walks the files of a log in order and holds every line against the one before it. Knows no checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gateway_policy::Timestamp;

use crate::entry::Line;
use crate::{Digest, Id};

/// The file whose first entry is `first`.
pub(crate) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.jsonl"))
}

/// The log's files, by their first entries.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir)? {
        let name = file?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".jsonl")) else {
            continue;
        };
        if stem.len() == 20
            && let Ok(first) = stem.parse()
        {
            found.push(first);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What is wrong with a line, or with where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bend {
    /// It is not a line of this log at all.
    Unreadable,
    /// It is readable, but its hash is not the one that follows.
    NotFollowing,
    /// Another number was due: some are missing.
    Missing {
        /// The number found.
        found: u64,
    },
    /// A number that was there before.
    Repeated {
        /// The number found.
        found: u64,
    },
    /// The file's name or first entry does not fit where it stands.
    WrongFile,
    /// There is not a single entry.
    Empty,
}

/// What the entries themselves say of things kept in other files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mentions {
    /// Checkpoint number, digest, entry.
    pub(crate) checkpoints: Vec<(u64, Digest, u64)>,
    /// The same of countersignatures.
    pub(crate) receipts: Vec<(u64, Digest, u64)>,
    /// Last entry that was removed by retention, and the first checkpoint kept then.
    pub(crate) removed: Option<(u64, u64)>,
    /// How the log of accesses stood last.
    pub(crate) accesses: Option<(Id, u64, Digest)>,
    /// Keys, with the entry that names each.
    pub(crate) keys: BTreeMap<Digest, u64>,
}

/// A chain as far as it holds.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// The log's name, which every file begins with.
    pub(crate) log: Option<Id>,
    /// Whether the log began because the one before was put aside.
    pub(crate) after_fault: bool,
    /// The first entry that is still there.
    pub(crate) first: u64,
    /// The last entry that holds.
    pub(crate) count: u64,
    pub(crate) head: Digest,
    /// Time of the first entry.
    pub(crate) opened: Option<Timestamp>,
    /// Heads at the counts that were asked for.
    pub(crate) heads: BTreeMap<u64, Digest>,
    pub(crate) mentions: Mentions,
    /// The first entry that does not hold, in which file and line (from 1).
    pub(crate) broken: Option<(u64, Bend, PathBuf, usize)>,
    /// Bytes behind the last line feed of the last file.
    pub(crate) tail: Option<Tail>,
}

/// An unfinished last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) path: PathBuf,
    /// Where it begins.
    pub(crate) at: u64,
    pub(crate) bytes: u64,
}

/// Reads everything. Heads at `wanted` counts are noted on the way.
pub(crate) fn walk(dir: &Path, wanted: &BTreeSet<u64>) -> io::Result<Walk> {
    let segments = segments(dir)?;
    let first = segments.first().copied().unwrap_or(1);
    let mut walk = Walk {
        log: None,
        after_fault: false,
        first,
        count: first.saturating_sub(1),
        head: Digest::ZERO,
        opened: None,
        heads: BTreeMap::new(),
        mentions: Mentions::default(),
        broken: None,
        tail: None,
    };
    let newest = segments.last().copied();
    for segment in segments {
        let path = segment_path(dir, segment);
        let bytes = match fs::read(&path) {
            // Removed by retention between listing and reading, on a running box.
            Err(error) if error.kind() == io::ErrorKind::NotFound && walk.count + 1 == segment => {
                continue;
            }
            other => other?,
        };
        walk.file(segment, &path, &bytes, newest == Some(segment), wanted);
        if walk.broken.is_some() {
            return Ok(walk);
        }
    }
    if walk.count < walk.first && walk.tail.is_none() {
        walk.broken = Some((walk.first, Bend::Empty, dir.to_owned(), 0));
    }
    Ok(walk)
}

impl Walk {
    fn file(
        &mut self,
        segment: u64,
        path: &Path,
        bytes: &[u8],
        last: bool,
        wanted: &BTreeSet<u64>,
    ) {
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let unfinished = lines.pop().unwrap_or_default();
        let place = lines.len() + 1;
        if segment != self.count + 1 {
            let bend = if segment > self.count + 1 {
                Bend::Missing { found: segment }
            } else {
                Bend::WrongFile
            };
            self.broken = Some((self.count + 1, bend, path.to_owned(), 1));
            return;
        }
        for (place, line) in lines.into_iter().enumerate() {
            if let Err(bend) = self.line(line, place == 0) {
                self.broken = Some((self.count + 1, bend, path.to_owned(), place + 1));
                return;
            }
            if wanted.contains(&self.count) {
                self.heads.insert(self.count, self.head);
            }
        }
        if unfinished.is_empty() {
            // Every file begins with an entry; only a power cut leaves the newest one empty.
            if place == 1 && !last {
                self.broken = Some((self.count + 1, Bend::WrongFile, path.to_owned(), 1));
            }
        } else if last {
            let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.tail = Some(Tail {
                path: path.to_owned(),
                at: length(bytes) - length(unfinished),
                bytes: length(unfinished),
            });
        } else {
            self.broken = Some((self.count + 1, Bend::Unreadable, path.to_owned(), place));
        }
    }

    fn line(&mut self, line: &[u8], starts_file: bool) -> Result<(), Bend> {
        let line = Line::read(line).ok_or(Bend::Unreadable)?;
        let due = self.count + 1;
        if line.number > due {
            return Err(Bend::Missing { found: line.number });
        }
        if line.number < due {
            return Err(Bend::Repeated { found: line.number });
        }
        let mut previous = self.head;
        if starts_file {
            let fits = match line.kind() {
                "opened" => due == 1,
                "continued" => due > 1,
                _ => false,
            };
            if !fits {
                return Err(Bend::WrongFile);
            }
            if line.kind() == "continued" {
                let said = line.digest_of("previous").ok_or(Bend::Unreadable)?;
                if due == self.first {
                    // What was before has been removed; that this is its hash shows when a later checkpoint fits.
                    previous = said;
                    self.heads.insert(due - 1, said);
                } else if said != previous {
                    return Err(Bend::NotFollowing);
                }
            }
        }
        if !line.follows(previous) {
            return Err(Bend::NotFollowing);
        }
        if starts_file {
            let named = line
                .entry
                .get("log")
                .and_then(|log| Id::parse(log.as_str()?));
            if named.is_none() || self.log.is_some_and(|log| Some(log) != named) {
                return Err(Bend::WrongFile);
            }
            self.log = named;
        }
        self.count = due;
        self.head = line.hash;
        self.note(&line);
        Ok(())
    }

    fn note(&mut self, line: &Line) {
        if self.count == self.first {
            self.opened = line.at;
        }
        let named = |line: &Line| {
            Some((
                line.number_of("sequence")?,
                line.digest_of("digest")?,
                line.number,
            ))
        };
        match line.kind() {
            "opened" => {
                self.after_fault = line
                    .entry
                    .get("because")
                    .and_then(|because| because.as_str())
                    == Some("set-aside");
            }
            "checkpointed" => self.mentions.checkpoints.extend(named(line)),
            "acknowledged" => self.mentions.receipts.extend(named(line)),
            "key" => {
                if let Some(key) = line.digest_of("key") {
                    self.mentions.keys.insert(key, line.number);
                }
            }
            "accesses" => {
                let named = || {
                    let log = Id::parse(line.entry.get("log")?.as_str()?)?;
                    Some((log, line.number_of("count")?, line.digest_of("head")?))
                };
                self.mentions.accesses = named().or(self.mentions.accesses);
            }
            "log" => {
                if let (Some(first), Some(up_to)) =
                    (line.number_of("first_checkpoint"), line.number_of("count"))
                {
                    self.mentions.removed = Some((up_to, first));
                }
            }
            _ => {}
        }
    }
}
