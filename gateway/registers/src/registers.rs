//! The registers as a whole: opened, added to, read. One writer at a time; every call may wait for the disk.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use gateway_policy::{Check, Missing, Observation, Observed, Source, Timestamp};
use rusqlite::Connection;

use crate::database::{self, Row};
use crate::event::{Event, Loosening};
use crate::text::{line, optional};
use crate::{Change, Error, Field, Medium, NewMedium, Recorded, State, Topic, Training, csv};

/// How long entries are kept after what they are about is over, in seconds: five years, as long as the medical record they
/// may have held (医師法第24条第2項).
pub const RETENTION: i64 = 5 * 366 * 86_400;

/// Which register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Register {
    Media,
    Trainings,
    Declarations,
}

/// A medium with everything that was recorded of it, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// As it stands.
    pub medium: Medium,
    /// What was recorded.
    pub events: Vec<Recorded>,
}

/// Asked before an entry that loosens something is made; true: it is written down for good. It may block.
pub type Beforehand = Box<dyn Fn(Loosening) -> bool + Send + Sync>;

/// All registers of one facility. Every call may block on the disk.
#[derive(Debug)]
pub struct Registers {
    inner: Mutex<Inner>,
}

struct Inner {
    connection: Connection,
    state: State,
    beforehand: Option<Beforehand>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Registers {
    /// Opens the registers in `directory`, or begins them where there are none.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or holds an entry that cannot follow those before it. Nothing is
    /// changed then.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let connection = database::open(directory)?;
        let state = derive(&connection)?;
        Ok(Self {
            inner: Mutex::new(Inner {
                connection,
                state,
                beforehand: None,
            }),
        })
    }

    /// Has what loosens written down before it is entered. Without this nobody keeps account.
    #[must_use]
    pub fn written_down_by(self, beforehand: Beforehand) -> Self {
        self.lock().beforehand = Some(beforehand);
        self
    }

    /// How everything stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Enters a medium; the answer is its number.
    ///
    /// # Errors
    /// [`Error::Refused`] for what cannot be entered; otherwise the disk's.
    pub fn enter(&self, what: NewMedium, by: &str, now: Timestamp) -> Result<u64, Error> {
        let what = what.checked()?;
        let mut inner = self.lock();
        let medium = inner.state.last_medium + 1;
        inner.record(&Event::Enter { medium, what }, by, now)?;
        Ok(medium)
    }

    /// Records what happened to a medium.
    ///
    /// # Errors
    /// [`Error::Refused`] for what cannot happen to it as it stands; otherwise the disk's.
    pub fn change(
        &self,
        medium: u64,
        change: Change,
        by: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let change = change.checked(now)?;
        self.lock()
            .record(&Event::Change { medium, change }, by, now)
    }

    /// Records that all media in use were looked for. A missing one that was seen is back at its place.
    ///
    /// # Errors
    /// [`crate::Refused::ReviewIncomplete`] unless `seen` and `missing` together are exactly the media in use; otherwise the disk's.
    pub fn review(
        &self,
        seen: Vec<u64>,
        missing: Vec<u64>,
        by: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.lock()
            .record(&Event::Review { seen, missing }, by, now)
    }

    /// Records a training.
    ///
    /// # Errors
    /// [`Error::Refused`] for what cannot be; otherwise the disk's.
    pub fn train(&self, training: Training, by: &str, now: Timestamp) -> Result<(), Error> {
        let training = training.checked(now)?;
        self.lock().record(&Event::Train { training }, by, now)
    }

    /// Records a declaration.
    ///
    /// # Errors
    /// [`Error::Refused`] for a remark that is no text; otherwise the disk's.
    pub fn declare(
        &self,
        topic: Topic,
        remark: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let remark = optional(Field::Remark, remark)?;
        self.lock()
            .record(&Event::Declare { topic, remark }, by, now)
    }

    /// A medium with its history; `None` when there is none of this number.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn history(&self, number: u64) -> Result<Option<History>, Error> {
        let inner = self.lock();
        let Some(medium) = inner.state.medium(number).cloned() else {
            return Ok(None);
        };
        let mut events = Vec::new();
        for (row, event) in inner.events()? {
            let what = match &event {
                Event::Review { seen, .. } if seen.contains(&number) => "点検：あることを確認",
                Event::Review { missing, .. } if missing.contains(&number) => "点検：見つからない",
                Event::Enter { medium, .. } | Event::Change { medium, .. } if *medium == number => {
                    events.push(recorded(row, event.sentence_ja()));
                    continue;
                }
                _ => continue,
            };
            events.push(recorded(row, what.to_owned()));
        }
        Ok(Some(History { medium, events }))
    }

    /// A register as CSV (RFC 4180) with a byte order mark, without which Excel takes UTF-8 for something else. No cell
    /// begins a formula.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn csv(&self, register: Register) -> Result<String, Error> {
        let events = self.lock().events()?;
        Ok(csv::write(register, &events))
    }

    /// What the registers prove, for the checks MEDIA, DECL and TRAINING: since when the last review, the oldest declaration
    /// in force and the last training date. How old they may be is the policy's business.
    #[must_use]
    pub fn observed(&self, now: Timestamp) -> [Observed; 3] {
        let inner = self.lock();
        let State { digests, .. } = inner.state;
        let found = |check, since: Option<Timestamp>, digest| Observed {
            check,
            observation: since.map_or(Observation::Unknown(Missing::Never), |since| {
                Observation::Dated { since }
            }),
            at: now,
            source: Source::Declared,
            digest,
        };
        [
            found(Check::Media, inner.state.reviewed(), digests[0]),
            found(Check::Training, inner.state.last_training(), digests[1]),
            found(Check::Decl, inner.state.oldest_declaration(), digests[2]),
        ]
    }

    /// Drops entries about what has been over for longer than [`RETENTION`]; how many. The last review, training and
    /// declaration of each topic stay.
    ///
    /// # Errors
    /// When the disk refuses. Then nothing is dropped.
    pub fn drop_expired(&self, now: Timestamp) -> Result<usize, Error> {
        let mut inner = self.lock();
        let dropped = database::drop_before(&mut inner.connection, now.plus(-RETENTION))?;
        if dropped > 0 {
            inner.state = derive(&inner.connection)?;
        }
        Ok(dropped)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // The state moves on by assignment after the commit, so a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn record(&mut self, event: &Event, by: &str, now: Timestamp) -> Result<(), Error> {
        let by = line(Field::By, by)?;
        self.state.admits(event, now)?;
        let body = serde_json::to_string(event)
            .map_err(|_| Error::Damaged("an entry cannot be written as JSON"))?;
        let row = Row { at: now, by, body };
        // Derived first: what could not be read again must not be written.
        let mut next = self.state.clone();
        next.apply(event, now, &row.by, &row.body)
            .ok_or(Error::Damaged("an entry could not be read again"))?;
        if let (Some(what), Some(written)) = (event.loosens(), &self.beforehand)
            && !written(what)
        {
            return Err(Error::NotWrittenDown);
        }
        database::append(&self.connection, &row, event.medium(), event.is_end())?;
        self.state = next;
        Ok(())
    }

    fn events(&self) -> Result<Vec<(Row, Event)>, Error> {
        read(&self.connection)
    }
}

fn recorded(row: Row, what: String) -> Recorded {
    Recorded {
        at: row.at,
        by: row.by,
        what,
    }
}

fn read(connection: &Connection) -> Result<Vec<(Row, Event)>, Error> {
    database::read(connection)?
        .into_iter()
        .map(|row| {
            let event = serde_json::from_str(&row.body)
                .map_err(|_| Error::Damaged("an entry is not what was written"))?;
            Ok((row, event))
        })
        .collect()
}

fn derive(connection: &Connection) -> Result<State, Error> {
    let mut state = State::default();
    for (row, event) in read(connection)? {
        state
            .apply(&event, row.at, &row.by, &row.body)
            .ok_or(Error::Damaged("an entry cannot follow those before it"))?;
    }
    state.last_medium = state.last_medium.max(database::last_medium(connection)?);
    Ok(state)
}
