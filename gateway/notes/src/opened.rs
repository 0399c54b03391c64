//! What a connection for reading has opened, kept as long as the database is as it was.
//!
//! It decides nothing: who may read is decided at each reading from what stands here, and as soon as anything was written to
//! the database nothing stands here any more. What is out of reach is never answered from here, so that it takes the work of
//! what does not exist. Text and keys are wiped when they go.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use crate::Error;
use crate::key::Tag;
use crate::permission::{PersonRow, StaffRow};
use crate::unread::State;

/// Persons whose rows are kept; a facility has some hundred.
const PERSONS: usize = 1024;
/// Staff members whose rows are kept.
const STAFF: usize = 512;
/// How persons stand for staff members; 80 readers of 300 persons.
const STATES: usize = 32_768;

/// See the module.
#[derive(Default)]
pub(crate) struct Opened {
    /// SQLite's number for what the other connections have committed.
    version: Cell<Option<i64>>,
    rows: RefCell<Rows>,
}

#[derive(Default)]
pub(crate) struct Rows {
    /// Of everybody, in no order.
    pub(crate) tags: Option<Arc<[Tag]>>,
    pub(crate) facility_suspended: Option<bool>,
    persons: HashMap<Tag, Arc<PersonRow>>,
    staff: HashMap<Tag, Arc<StaffRow>>,
    states: HashMap<(Tag, Tag), State>,
}

impl Opened {
    /// Forgets everything if the database is not as it was. To be called within each transaction before anything is read.
    pub(crate) fn at_this_moment(&self, connection: &Connection) -> Result<(), Error> {
        let now: i64 = connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut query| query.query_row([], |row| row.get(0)))
            .map_err(Error::database("tell whether it has changed"))?;
        if self.version.replace(Some(now)) != Some(now) {
            self.rows.replace(Rows::default());
        }
        Ok(())
    }

    pub(crate) fn rows(&self) -> RefMut<'_, Rows> {
        self.rows.borrow_mut()
    }
}

impl Rows {
    pub(crate) fn person(&self, tag: &Tag) -> Option<Arc<PersonRow>> {
        self.persons.get(tag).map(Arc::clone)
    }

    pub(crate) fn keep_person(&mut self, tag: &Tag, row: &Arc<PersonRow>) {
        keep(&mut self.persons, PERSONS, *tag, Arc::clone(row));
    }

    pub(crate) fn staff(&self, tag: &Tag) -> Option<Arc<StaffRow>> {
        self.staff.get(tag).map(Arc::clone)
    }

    pub(crate) fn keep_staff(&mut self, tag: &Tag, row: &Arc<StaffRow>) {
        keep(&mut self.staff, STAFF, *tag, Arc::clone(row));
    }

    pub(crate) fn state(&self, person: &Tag, reader: &Tag) -> Option<State> {
        self.states.get(&(*person, *reader)).copied()
    }

    pub(crate) fn keep_state(&mut self, person: &Tag, reader: &Tag, state: State) {
        keep(&mut self.states, STATES, (*person, *reader), state);
    }
}

/// What finds no room is opened each time.
fn keep<K: Eq + std::hash::Hash, V>(kept: &mut HashMap<K, V>, most: usize, key: K, value: V) {
    if kept.len() < most {
        kept.insert(key, value);
    }
}
