//! The state on the disk: two files written in turn, of which the newest valid one counts.
//!
//! It never makes up a state. When a file is there and none is valid it refuses, because with the floor forgotten an old and vulnerable release
//! could be sold as new. It does not know what the states mean.

use std::io;

use serde::{Deserialize, Serialize};

use crate::folder::Folder;
use crate::hex;
use crate::index::sha256;
use crate::state::State;

const FILES: [&str; 2] = ["state-0.json", "state-1.json"];
/// Bytes of one record; one that is larger is not ours.
const LARGEST: u64 = 64 * 1024;

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Files are there, and none of them is a whole record.
    #[error("the record of updates is damaged")]
    Damaged,
    /// The disk.
    #[error("the record of updates cannot be read or written")]
    Disk(#[source] io::Error),
}

/// A record as it stands in the file. The digest is over the exact text of `content`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    format: u32,
    sha256: String,
    content: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// Grows by one with each record.
    number: u64,
    state: State,
}

/// See the module.
#[derive(Debug)]
pub struct Record<F> {
    folder: F,
    number: u64,
    state: State,
}

impl<F: Folder> Record<F> {
    /// Reads the newest record; the first state when there has never been one.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn open(folder: F) -> Result<Self, RecordError> {
        let mut newest: Option<Content> = None;
        let mut found = false;
        for file in FILES {
            let Some(bytes) = folder.read(file, LARGEST).map_err(RecordError::Disk)? else {
                continue;
            };
            found = true;
            if let Some(content) = parse(&bytes)
                && newest
                    .as_ref()
                    .is_none_or(|newest| content.number > newest.number)
            {
                newest = Some(content);
            }
        }
        match newest {
            Some(Content { number, state }) => Ok(Self {
                folder,
                number,
                state,
            }),
            None if found => Err(RecordError::Damaged),
            None => Ok(Self {
                folder,
                number: 0,
                state: State::default(),
            }),
        }
    }

    /// The state as it is on the disk.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Replaces the state. When this returns, no power cut undoes it; when it fails, the state before counts.
    ///
    /// # Errors
    /// [`RecordError::Disk`].
    pub fn put(&mut self, state: State) -> Result<(), RecordError> {
        if state == self.state && self.number > 0 {
            return Ok(());
        }
        let number = self.number + 1;
        let file = FILES[usize::from(number % 2 == 1)];
        let fresh = format!("{file}.tmp");
        let bytes = encode(number, &state).map_err(RecordError::Disk)?;
        // The other file holds the state before, whatever becomes of this one.
        let folder = &mut self.folder;
        folder
            .write(&fresh, &bytes)
            .and_then(|()| folder.sync(&fresh))
            .and_then(|()| folder.rename(&fresh, file))
            .and_then(|()| folder.sync(file))
            .and_then(|()| folder.sync_names())
            .map_err(RecordError::Disk)?;
        self.number = number;
        self.state = state;
        Ok(())
    }
}

fn encode(number: u64, state: &State) -> io::Result<Vec<u8>> {
    let content = serde_json::to_string(&Content {
        number,
        state: state.clone(),
    })?;
    let envelope = Envelope {
        format: 1,
        sha256: hex::of(&sha256(content.as_bytes())),
        content,
    };
    Ok(serde_json::to_vec(&envelope)?)
}

fn parse(bytes: &[u8]) -> Option<Content> {
    let envelope: Envelope = serde_json::from_slice(bytes).ok()?;
    let digest = hex::of(&sha256(envelope.content.as_bytes()));
    if envelope.format != 1 || envelope.sha256 != digest {
        return None;
    }
    serde_json::from_str(&envelope.content).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Directory;
    use crate::slot::Slot;
    use crate::state::System;
    use gateway_policy::Timestamp;

    fn blessed(version: &str) -> State {
        let mut state = State::default();
        let system = System {
            version: version.to_owned(),
            root_hash: String::new(),
            slot: Slot::A,
        };
        state.blessed(&system, Timestamp(0)).unwrap();
        state
    }

    fn open(folder: &tempfile::TempDir) -> Result<Record<Directory>, RecordError> {
        Record::open(Directory::open(folder.path()).unwrap())
    }

    #[test]
    fn the_newest_of_two_records_counts() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["1", "2", "3", "4"] {
            open(&folder).unwrap().put(blessed(version)).unwrap();
            assert_eq!(open(&folder).unwrap().state().floor(), Some(version));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn with_one_record_damaged_the_other_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["1", "2"] {
            open(&folder).unwrap().put(blessed(version)).unwrap();
        }
        std::fs::write(folder.path().join(FILES[0]), b"").unwrap();
        assert_eq!(open(&folder).unwrap().state().floor(), Some("1"));
    }

    #[test]
    fn with_no_record_valid_there_is_no_state() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(open(&folder).unwrap().state(), &State::default());
        open(&folder).unwrap().put(blessed("1")).unwrap();
        let path = folder.path().join(FILES[1]);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            let opened = open(&folder);
            assert!(matches!(opened, Err(RecordError::Damaged)), "byte {at}");
        }
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(matches!(open(&folder), Err(RecordError::Damaged)));
    }
}
