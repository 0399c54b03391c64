//! The database as a whole: opened, moved on by events, purged.
//!
//! It runs on one thread and knows nothing of others. What one event does is in [`crate::writing`], reading in
//! [`crate::read`].

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::file::{self, POSITION, connect, erase, make_directory, meta, set_meta};
use crate::key::{Keyring, Kind, Tag};
use crate::search_segments::Pending;
use crate::writing::{Writing, ended};
use crate::{AttachmentPolicy, Error, Event, Limits, Opened, StoreKey};

/// How much is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) notes: i64,
    pub(crate) bytes: i64,
}

pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) keys: Keyring,
    pub(crate) totals: Totals,
    pub(crate) limits: Limits,
    pub(crate) attachments: AttachmentPolicy,
    pub(crate) directory: PathBuf,
}

impl Database {
    /// Opens what is there, or starts afresh where there is nothing, or nothing usable.
    pub(crate) fn open(
        directory: &Path,
        key: &StoreKey,
        limits: Limits,
    ) -> Result<(Self, Opened), Error> {
        make_directory(directory)?;
        let keys = Keyring::new(key)?;
        let existed = directory.join(file::NAME).exists();
        let ((connection, totals), opened) = match whole(directory, &keys) {
            Ok(whole) if existed => (whole, Opened::Resumed),
            Ok(whole) => (whole, Opened::New),
            Err(error) if error.is_damage() => {
                erase(directory)?;
                (whole(directory, &keys)?, Opened::StartedAfresh)
            }
            Err(error) => return Err(error),
        };
        let mut database = Self {
            connection,
            keys,
            totals,
            limits,
            attachments: AttachmentPolicy::default(),
            directory: directory.to_owned(),
        };
        database.sweep_attachments()?;
        database.stay_switched_off()?;
        Ok((database, opened))
    }

    /// Erases everything and begins with an empty database. The city still has it all.
    pub(crate) fn start_afresh(&mut self) -> Result<(), Error> {
        let nowhere =
            Connection::open_in_memory().map_err(Error::database("let go of its file"))?;
        drop(std::mem::replace(&mut self.connection, nowhere));
        erase(&self.directory)?;
        self.connection = connect(&self.directory, &self.keys)?;
        self.totals = Totals::default();
        Ok(())
    }

    /// The id of the last event that is stored.
    pub(crate) fn position(&self) -> Result<Option<String>, Error> {
        let value = meta(&self.connection, POSITION)?;
        value
            .map(|bytes| String::from_utf8(bytes).map_err(|_| Error::Damaged))
            .transpose()
    }

    /// Applies events that follow the one with the id `after`, all of them or none, and with them the new position.
    pub(crate) fn apply(
        &mut self,
        after: Option<&str>,
        events: &[Event],
        now: i64,
    ) -> Result<(), Error> {
        if self.position()?.as_deref() != after {
            return Err(Error::OutOfStep);
        }
        // Keys first and for good: whatever happens to the rest, what they sealed cannot be read again.
        // Destroying is repeated harmlessly, should the power fail before the position is stored.
        let ended = self.destroy_keys_of_ended(events)?;
        let before = self.totals;
        match self.apply_in_one_transaction(events, now) {
            Ok(erased) if erased || ended => {
                checkpoint(&self.connection)?;
                self.let_files_go()
            }
            Ok(_) => Ok(()),
            Err(error) => {
                self.totals = before;
                Err(error)
            }
        }
    }

    fn apply_in_one_transaction(&mut self, events: &[Event], now: i64) -> Result<bool, Error> {
        let transaction = self
            .connection
            .transaction()
            .map_err(Error::database("begin"))?;
        let mut writing = Writing {
            transaction: &transaction,
            keys: &self.keys,
            totals: &mut self.totals,
            limits: self.limits,
            now,
            erased: false,
            search: Pending::default(),
        };
        // Rows whose key has just been destroyed go first: earlier events of the same batch may still speak of them.
        for person in events.iter().filter_map(|event| ended(&event.change)) {
            writing.end_person(&writing.keys.tag(Kind::Person, person))?;
        }
        for event in events {
            writing.change(&event.change)?;
        }
        writing.evict()?;
        writing.settle_attachments()?;
        writing.write_segments()?;
        let erased = writing.erased;
        if let Some(last) = events.last() {
            set_meta(&transaction, POSITION, last.id.as_bytes())?;
        }
        transaction.commit().map_err(Error::database("commit"))?;
        Ok(erased)
    }

    /// Drops what has grown too old.
    pub(crate) fn tidy(&mut self, now: i64) -> Result<(), Error> {
        let before = self.totals;
        match self.apply_in_one_transaction(&[], now) {
            Ok(true) => {
                checkpoint(&self.connection)?;
                self.let_files_go()?;
                self.tidy_attachments(now)
            }
            Ok(false) => self.tidy_attachments(now),
            Err(error) => {
                self.totals = before;
                Err(error)
            }
        }
    }

    fn destroy_keys_of_ended(&mut self, events: &[Event]) -> Result<bool, Error> {
        let mut destroyed = false;
        for event in events {
            if let Some(id) = ended(&event.change) {
                let tag = self.keys.tag(Kind::Person, id);
                destroyed |= self.destroy_key(&tag)?;
            }
        }
        if destroyed {
            checkpoint(&self.connection)?;
        }
        Ok(destroyed)
    }

    fn destroy_key(&self, person: &Tag) -> Result<bool, Error> {
        self.connection
            .execute("UPDATE persons SET key = x'' WHERE tag = ?1", [person])
            .map(|rows| rows > 0)
            .map_err(Error::database("destroy a key"))
    }
}

/// An opened file with nothing left to complete, and its totals.
fn whole(directory: &Path, keys: &Keyring) -> Result<(Connection, Totals), Error> {
    let connection = connect(directory, keys)?;
    finish_purge(&connection)?;
    let totals = count(&connection)?;
    Ok((connection, totals))
}

/// Completes a purge that the power cut: rows whose key is gone go too.
fn finish_purge(connection: &Connection) -> Result<(), Error> {
    let rows = connection
        .execute("DELETE FROM persons WHERE key = x''", [])
        .map_err(Error::database("finish a purge"))?;
    if rows > 0 {
        checkpoint(connection)
    } else {
        Ok(())
    }
}

/// Brings everything into the main file and empties the write-ahead log, which would otherwise keep old pages.
pub(crate) fn checkpoint(connection: &Connection) -> Result<(), Error> {
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .map_err(Error::database("empty its log"))
}

fn count(connection: &Connection) -> Result<Totals, Error> {
    connection
        .query_row(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM notes",
            [],
            |row| {
                Ok(Totals {
                    notes: row.get(0)?,
                    bytes: row.get(1)?,
                })
            },
        )
        .map_err(Error::database("count its notes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Personal, Role};

    fn event(id: &str, change: Change) -> Event {
        Event {
            id: id.to_owned(),
            change,
        }
    }

    fn with_one_note(directory: &Path, key: &StoreKey) -> Database {
        let limits = Limits::default();
        let mut database = Database::open(directory, key, limits).unwrap().0;
        let events = [
            event(
                "1",
                Change::Person {
                    id: "p".into(),
                    display_name: Personal::new("name"),
                    readers: vec!["u".into()],
                    support_ended: false,
                },
            ),
            event(
                "2",
                Change::Note {
                    id: "n".into(),
                    person: "p".into(),
                    author: "u".into(),
                    author_name: Personal::new("author"),
                    role: "nurse".into(),
                    time: 1_000_000,
                    text: Personal::new("text"),
                    attachments: vec![],
                    signature: None,
                },
            ),
        ];
        database.apply(None, &events, 1_000_000).unwrap();
        database
    }

    fn raw_bytes(directory: &Path) -> Vec<u8> {
        std::fs::read_dir(directory)
            .unwrap()
            .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect()
    }

    fn contains(haystack: &[u8], needle: &[u8]) -> bool {
        haystack
            .windows(needle.len())
            .any(|window| window == needle)
    }

    fn sealed_bytes(database: &Database) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let one = |sql| {
            database
                .connection
                .query_row(sql, [], |row| row.get::<_, Vec<u8>>(0))
                .unwrap()
        };
        (
            one("SELECT key FROM persons"),
            one("SELECT body FROM persons"),
            one("SELECT body FROM notes"),
        )
    }

    #[test]
    fn a_purge_leaves_neither_key_nor_rows_in_any_file() {
        let directory = tempfile::tempdir().unwrap();
        let key = StoreKey::generate().unwrap();
        let mut database = with_one_note(directory.path(), &key);
        let (person_key, person, note) = sealed_bytes(&database);
        for planted in [&person_key, &person, &note] {
            assert!(contains(&raw_bytes(directory.path()), planted));
        }
        let end = [event("3", Change::PersonEnded { id: "p".into() })];
        database.apply(Some("2"), &end, 1_000_000).unwrap();
        for purged in [&person_key, &person, &note] {
            assert!(!contains(&raw_bytes(directory.path()), purged));
        }
        assert_eq!(database.totals, Totals::default());
    }

    #[test]
    fn a_purge_cut_after_the_key_is_completed_when_the_store_opens() {
        let directory = tempfile::tempdir().unwrap();
        let key = StoreKey::generate().unwrap();
        let mut database = with_one_note(directory.path(), &key);
        let (person_key, _, note) = sealed_bytes(&database);
        let end = [event("3", Change::PersonEnded { id: "p".into() })];
        assert!(database.destroy_keys_of_ended(&end).unwrap());
        // The key is gone from every file before a single row is touched.
        assert!(!contains(&raw_bytes(directory.path()), &person_key));
        assert!(contains(&raw_bytes(directory.path()), &note));
        drop(database);

        let (mut database, opened) =
            Database::open(directory.path(), &key, Limits::default()).unwrap();
        assert_eq!(opened, Opened::Resumed);
        assert_eq!(database.totals, Totals::default());
        assert!(!contains(&raw_bytes(directory.path()), &note));
        // The event was not stored, so the feed repeats it, harmlessly.
        assert_eq!(database.position().unwrap().as_deref(), Some("2"));
        database.apply(Some("2"), &end, 1_000_000).unwrap();
    }

    #[test]
    fn a_deleted_note_leaves_nothing_in_any_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = with_one_note(directory.path(), &StoreKey::generate().unwrap());
        let (_, _, note) = sealed_bytes(&database);
        let delete = [event("3", Change::NoteDeleted { id: "n".into() })];
        database.apply(Some("2"), &delete, 1_000_000).unwrap();
        assert!(!contains(&raw_bytes(directory.path()), &note));
    }

    #[test]
    fn rows_copied_from_one_person_to_another_are_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = with_one_note(directory.path(), &StoreKey::generate().unwrap());
        let other = [event(
            "3",
            Change::Person {
                id: "q".into(),
                display_name: Personal::new("other"),
                readers: vec!["v".into()],
                support_ended: false,
            },
        )];
        database.apply(Some("2"), &other, 1_000_000).unwrap();
        let staff = |id: &str, change| event(id, change);
        let v = Change::Staff {
            id: "v".into(),
            display_name: Personal::new("v"),
            role: Role::Staff,
            suspended: false,
        };
        database
            .apply(Some("3"), &[staff("4", v)], 1_000_000)
            .unwrap();
        // Someone with the disk gives p's note to q, whom v may read.
        let q = database.keys.tag(Kind::Person, "q");
        database
            .connection
            .execute("UPDATE notes SET person = ?1", [q])
            .unwrap();
        assert!(matches!(
            database.notes_of("v", "q", 10, None),
            Err(Error::Damaged)
        ));
    }
}
