//! Reads the log back: for the manager, for the city, and as counts for whoever has no key. Changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use gateway_audit::{Digest, Id, Kept, begun, files, read_file};
use gateway_policy::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{Access, End, Ending, Key};

/// An access may end in another file than it began: so much later at the most.
const LONGEST_VIEW: i64 = 86_400;

/// Japan's time; the days of care are its.
const JAPAN: i64 = 9 * 3600;

/// The log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the log of accesses cannot be read")]
pub struct ReadError(#[from] io::Error);

/// One access, with its end where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the log.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who, what, from where.
    pub access: Access,
    /// For how many seconds, and how it ended; `None` while it stands open, or when the box was cut off.
    pub lasted: Option<(u64, End)>,
}

/// What was read back.
#[derive(Clone, Debug, Default)]
pub struct ReadBack {
    /// Accesses, newest first.
    pub entries: Vec<Entry>,
    /// Records that do not open: written under a key that is lost, or changed.
    pub unreadable: u64,
    /// There are more than were asked for; the oldest are left out.
    pub more: bool,
}

/// Files whose entries may lie between two moments.
fn between(dir: &Path, from: Timestamp, to: Timestamp) -> io::Result<Vec<u64>> {
    let all = files(dir)?;
    let mut chosen = Vec::new();
    for (place, first) in all.iter().enumerate() {
        let begins = begun(dir, *first)?;
        let ends = match all.get(place + 1) {
            Some(next) => begun(dir, *next)?,
            None => None,
        };
        if begins.is_none_or(|begins| begins < to) && ends.is_none_or(|ends| ends >= from) {
            chosen.push(*first);
        }
    }
    Ok(chosen)
}

/// The newest `most` accesses that satisfy `wanted`, from `from` up to and without `to`.
///
/// # Errors
/// [`ReadError`].
pub fn read_back(
    dir: &Path,
    key: &Key,
    (from, to): (Timestamp, Timestamp),
    most: usize,
    wanted: impl Fn(&Access) -> bool,
) -> Result<ReadBack, ReadError> {
    let mut back = ReadBack::default();
    let mut lasted: HashMap<u64, (u64, End)> = HashMap::new();
    for first in between(dir, from, to.plus(LONGEST_VIEW))?.into_iter().rev() {
        for kept in read_file(dir, first)?.entries.into_iter().rev() {
            let record = matches!(kept.kind(), "access" | "over")
                .then(|| key.open(&kept.place, &kept.entry));
            match (kept.kind(), record) {
                (_, None) => {}
                ("over", Some(Some(plain))) => {
                    if let Some(Ending { of, seconds, end }) = member(&plain) {
                        lasted.insert(of, (seconds, end));
                    }
                }
                (_, Some(Some(plain))) if (from..to).contains(&kept.place.at) => {
                    let Some(access) = member::<Access>(&plain).filter(&wanted) else {
                        continue;
                    };
                    if back.entries.len() >= most {
                        back.more = true;
                        return Ok(back);
                    }
                    back.entries.push(Entry {
                        number: kept.place.number,
                        at: kept.place.at,
                        access,
                        lasted: lasted.remove(&kept.place.number),
                    });
                }
                (_, Some(Some(_))) => {}
                (_, Some(None)) => back.unreadable += 1,
            }
        }
    }
    Ok(back)
}

/// A sealed record's own members, without the random one.
fn member<T: serde::de::DeserializeOwned>(plain: &[u8]) -> Option<T> {
    let mut value: Value = serde_json::from_slice(plain).ok()?;
    value.as_object_mut()?.remove("salt");
    serde_json::from_value(value).ok()
}

/// Accesses by day (days since 1970 in Japan's time), without the key: nobody can be told from them.
///
/// # Errors
/// [`ReadError`].
pub fn count_by_day(
    dir: &Path,
    from: Timestamp,
    to: Timestamp,
) -> Result<BTreeMap<i64, u64>, ReadError> {
    let mut days = BTreeMap::new();
    for first in between(dir, from, to)? {
        for kept in read_file(dir, first)?.entries {
            if kept.kind() == "access" && (from..to).contains(&kept.place.at) {
                *days
                    .entry((kept.place.at.0 + JAPAN).div_euclid(86_400))
                    .or_default() += 1;
            }
        }
    }
    Ok(days)
}

/// One line on its way to the city: as it stands in the chain, and what its sealed part says. The line holds the digest of
/// that text.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The line, canonical JSON.
    pub line: String,
    /// The sealed text, opened; `None` for what is not sealed or does not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

/// A piece of the log for the city.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Which log.
    pub log: Option<Id>,
    /// Hash of the entry before the first.
    pub previous: Digest,
    /// Lines that follow one another.
    pub lines: Vec<Line>,
    /// Number of the first entry that is left; `None` when nothing is left of what was asked for.
    pub next: Option<u64>,
}

/// The next piece, of at most `most` bytes: whole files' entries from the first that may lie in the range, or from entry
/// `resume`. Only whole lines that follow one another are handed over.
///
/// # Errors
/// [`ReadError`].
pub fn hand_over(
    dir: &Path,
    key: &Key,
    (from, to): (Timestamp, Timestamp),
    resume: Option<u64>,
    most: usize,
) -> Result<Handed, ReadError> {
    let mut handed = Handed {
        log: None,
        previous: Digest::ZERO,
        lines: Vec::new(),
        next: None,
    };
    let mut length = 0;
    for first in between(dir, from, to)? {
        for kept in read_file(dir, first)?.entries {
            handed.log = log_of(&kept).or(handed.log);
            let number = kept.place.number;
            let is_due = resume.map_or(kept.place.at >= from || !handed.lines.is_empty(), |at| {
                number >= at
            });
            if !is_due {
                continue;
            }
            if kept.place.at >= to {
                return Ok(handed);
            }
            if handed.lines.is_empty() {
                handed.previous = kept.place.previous;
            }
            let record = key
                .open(&kept.place, &kept.entry)
                .and_then(|plain| String::from_utf8(plain.to_vec()).ok());
            length += kept.line.len() + record.as_ref().map_or(0, String::len);
            if length > most && !handed.lines.is_empty() {
                handed.next = Some(number);
                return Ok(handed);
            }
            handed.lines.push(Line {
                line: kept.line,
                record,
            });
        }
    }
    Ok(handed)
}

fn log_of(kept: &Kept) -> Option<Id> {
    Id::parse(kept.entry.get("log")?.as_str()?)
}
