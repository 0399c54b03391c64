//! Reads a log's entries back, file by file, each held against the one before. Looks at no checkpoint: [`crate::verify`] does.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use gateway_policy::Timestamp;
use serde_json::Value;

use crate::chain::{segment_path, segments};
use crate::entry::{LONGEST_LINE, Line};
use crate::{Digest, Place};

/// An entry that was read back.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Where it stands.
    pub place: Place,
    /// The entry itself.
    pub entry: Value,
    /// Its hash.
    pub hash: Digest,
    /// The line as it stands in the file, without its line feed.
    pub line: String,
}

impl Kept {
    /// The member `kind`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.entry
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// The entries of one file.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// As far as each follows from the one before.
    pub entries: Vec<Kept>,
    /// There is more in the file, and it does not follow. A last line that is still being written is nothing of the kind.
    pub bent: bool,
}

/// The log's files by their first entries, oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn files(dir: &Path) -> io::Result<Vec<u64>> {
    segments(dir)
}

/// When the file that begins with entry `first` was begun; `None` when its first line cannot be read.
///
/// # Errors
/// When it cannot be read.
pub fn begun(dir: &Path, first: u64) -> io::Result<Option<Timestamp>> {
    let mut line = Vec::new();
    let longest = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
    BufReader::new(fs::File::open(segment_path(dir, first))?.take(longest))
        .read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").unwrap_or_default();
    Ok(Line::read(line).and_then(|line| line.at))
}

/// Reads the file that begins with entry `first`.
///
/// # Errors
/// When it cannot be read.
pub fn read_file(dir: &Path, first: u64) -> io::Result<Pages> {
    let bytes = fs::read(segment_path(dir, first))?;
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    lines.pop();
    let mut pages = Pages::default();
    let mut previous = None;
    for (number, text) in (first..).zip(lines) {
        let read = Line::read(text).filter(|line| line.number == number);
        let kept = read.and_then(|line| {
            // What is before a file's first entry, the entry itself says; the very first has nothing before it.
            let before = previous.or_else(|| match line.kind() {
                "opened" => Some(Digest::ZERO),
                _ => line.digest_of("previous"),
            })?;
            line.follows(before).then(|| Kept {
                place: Place {
                    number,
                    at: line.at.unwrap_or(Timestamp(0)),
                    previous: before,
                },
                hash: line.hash,
                entry: line.entry,
                line: String::from_utf8_lossy(text).into_owned(),
            })
        });
        let Some(kept) = kept else {
            pages.bent = true;
            break;
        };
        previous = Some(kept.hash);
        pages.entries.push(kept);
    }
    Ok(pages)
}
