//! One database: opened, moved on by events, its keys destroyed or moved to a new root.
//!
//! It runs on one thread and knows nothing of others, nor when its keys have to move ([`crate::cabinet`]). What one event
//! does is in [`crate::writing`], reading in [`crate::read`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, params};

use crate::file::{
    self, CAUGHT_UP, POSITION, RENEWAL_DUE, clear_meta, erase, make_directory, meta, set_meta,
};
use crate::key::{Keyring, Kind, Tag, Wrapping};
use crate::opened::Opened;
use crate::rekeying::{Due, forgets};
use crate::writing::{Writing, ended};
use crate::{AttachmentPolicy, Error, Event, Limits};

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
    /// Another one for each database that is opened or made anew in this process.
    pub(crate) identity: u64,
    /// How often keys were destroyed: whoever reads lets go of those that are open.
    pub(crate) destroyed: u64,
    /// Where there is any, what was opened is kept for the next reading.
    pub(crate) opened: Option<Opened>,
}

fn next_identity() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Database {
    /// Opens what is there; `None` where there is nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`] and the like when it is not usable, or under none of these roots.
    pub(crate) fn open(
        directory: &Path,
        roots: &[Arc<Wrapping>],
        limits: Limits,
    ) -> Result<Option<Self>, Error> {
        let Some((connection, keys)) = file::open(directory, roots)? else {
            return Ok(None);
        };
        let mut database = Self {
            totals: count(&connection)?,
            connection,
            keys,
            limits,
            attachments: AttachmentPolicy::default(),
            directory: directory.to_owned(),
            identity: next_identity(),
            destroyed: 0,
            opened: None,
        };
        database.sweep_attachments()?;
        database.stay_switched_off()?;
        Ok(Some(database))
    }

    /// Makes an empty one, in place of whatever was there.
    pub(crate) fn create(directory: &Path, keys: Keyring, limits: Limits) -> Result<Self, Error> {
        make_directory(directory)?;
        erase(directory)?;
        Ok(Self {
            connection: file::create(directory, &keys)?,
            keys,
            totals: Totals::default(),
            limits,
            attachments: AttachmentPolicy::default(),
            directory: directory.to_owned(),
            identity: next_identity(),
            destroyed: 0,
            opened: None,
        })
    }

    /// Another connection to a database, to read what concerns persons, staff and notices; it knows neither what is kept at
    /// most nor how much there is.
    pub(crate) fn to_read(directory: &Path, connection: Connection, keys: Keyring) -> Self {
        Self {
            connection,
            keys,
            totals: Totals::default(),
            limits: Limits::default(),
            attachments: AttachmentPolicy::default(),
            directory: directory.to_owned(),
            identity: next_identity(),
            destroyed: 0,
            opened: Some(Opened::default()),
        }
    }

    /// Erases everything and begins with an empty database under these keys.
    pub(crate) fn start_afresh(&mut self, keys: Keyring) -> Result<(), Error> {
        let nowhere =
            Connection::open_in_memory().map_err(Error::database("let go of its file"))?;
        drop(std::mem::replace(&mut self.connection, nowhere));
        erase(&self.directory)?;
        self.connection = file::create(&self.directory, &keys)?;
        self.keys = keys;
        self.totals = Totals::default();
        self.identity = next_identity();
        Ok(())
    }

    /// The id of the last event that is stored.
    pub(crate) fn position(&self) -> Result<Option<String>, Error> {
        let value = meta(&self.connection, POSITION)?;
        value
            .map(|bytes| String::from_utf8(bytes).map_err(|_| Error::Damaged))
            .transpose()
    }

    /// Applies events, all of them or none, and with them the new position. The keys of persons that end have been
    /// destroyed before.
    pub(crate) fn apply(&mut self, events: &[Event], now: i64) -> Result<(), Error> {
        let forgets = events.iter().any(|event| forgets(&event.change));
        let before = self.totals;
        match self.apply_in_one_transaction(events, now) {
            Ok(erased) if erased || forgets => {
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

    /// Applies of these events what takes a right away, and nothing else; the position stays.
    pub(crate) fn restrict(&mut self, events: &[Event], now: i64) -> Result<(), Error> {
        if !events
            .iter()
            .any(|event| Writing::takes_away(&event.change))
        {
            return Ok(());
        }
        let before = self.totals;
        let done = (|| {
            let transaction = self
                .connection
                .transaction()
                .map_err(Error::database("begin"))?;
            let mut writing =
                Writing::new(&transaction, &self.keys, &mut self.totals, self.limits, now);
            for event in events {
                writing.restrict(&event.change)?;
            }
            writing.settle_attachments()?;
            writing.write_segments()?;
            transaction.commit().map_err(Error::database("commit"))?;
            checkpoint(&self.connection)?;
            self.let_files_go()
        })();
        if done.is_err() {
            self.totals = before;
        }
        done
    }

    fn apply_in_one_transaction(&mut self, events: &[Event], now: i64) -> Result<bool, Error> {
        let transaction = self
            .connection
            .transaction()
            .map_err(Error::database("begin"))?;
        let mut writing =
            Writing::new(&transaction, &self.keys, &mut self.totals, self.limits, now);
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

    /// Whether keys were destroyed here that a copy of the disk may still hold, and whose.
    pub(crate) fn renewal_due(&self) -> Result<Option<Due>, Error> {
        Ok(meta(&self.connection, RENEWAL_DUE)?.map(|due| Due::of(&due)))
    }

    /// Notes, durably, that the root has to be renewed.
    pub(crate) fn set_renewal_due(&self) -> Result<(), Error> {
        set_due(&self.connection, Due::Person)?;
        checkpoint(&self.connection)
    }

    /// Everything the city had at one moment is here.
    pub(crate) fn is_caught_up(&self) -> Result<bool, Error> {
        meta(&self.connection, CAUGHT_UP).map(|at| at.is_some())
    }

    /// Wraps every key under a new root instead, durably and in one step: before it all open under the old one, after it
    /// under the new one, and a destroyed key is not among them.
    pub(crate) fn rewrap(&mut self, new: &Arc<Wrapping>) -> Result<(), Error> {
        let old = Arc::clone(self.keys.wrapping());
        let transaction = self
            .connection
            .transaction()
            .map_err(Error::database("begin"))?;
        let persons: Vec<(Tag, Vec<u8>)> = transaction
            .prepare_cached("SELECT tag, key FROM persons WHERE key != x''")
            .and_then(|mut query| {
                query
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(Error::database("list keys"))?;
        for (tag, wrapped) in persons {
            let moved = old.rewrap_person(new, &tag, &wrapped)?;
            transaction
                .prepare_cached("UPDATE persons SET key = ?2 WHERE tag = ?1")
                .and_then(|mut update| update.execute(params![tag, moved]))
                .map_err(Error::database("move a key"))?;
        }
        file::set_keys(&transaction, &self.keys, new)?;
        clear_meta(&transaction, RENEWAL_DUE)?;
        transaction.commit().map_err(Error::database("commit"))?;
        self.keys.now_under(Arc::clone(new));
        checkpoint(&self.connection)
    }

    /// Completes a purge that the power cut: rows whose key is gone go too.
    pub(crate) fn finish_purge(&mut self) -> Result<(), Error> {
        let rows = self
            .connection
            .execute("DELETE FROM persons WHERE key = x''", [])
            .map_err(Error::database("finish a purge"))?;
        if rows > 0 {
            self.totals = count(&self.connection)?;
            checkpoint(&self.connection)?;
            self.let_files_go()?;
        }
        Ok(())
    }
}

/// Notes that the root has to be renewed, unless that is noted for a graver reason already.
pub(crate) fn set_due(connection: &Connection, due: Due) -> Result<(), Error> {
    let known = meta(connection, RENEWAL_DUE)?.map(|known| Due::of(&known));
    let due = known.map_or(due, |known| known.max(due));
    set_meta(connection, RENEWAL_DUE, due.as_bytes())
}

/// Brings everything into the main file and empties the write-ahead log, which would otherwise keep old pages. Waits for
/// whoever is just reading.
pub(crate) fn checkpoint(connection: &Connection) -> Result<(), Error> {
    let kept_waiting: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(Error::database("empty its log"))?;
    if kept_waiting {
        // SQLite says so in its answer, not as an error.
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        let busy = rusqlite::Error::SqliteFailure(busy, None);
        return Err(Error::database("empty its log")(busy));
    }
    Ok(())
}

fn count(connection: &Connection) -> Result<Totals, Error> {
    connection
        .query_row(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM notes",
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
