//! A person's new key once a note of theirs is deleted: all that is left of the person is sealed anew under it.
//!
//! A copy of the disk made before has the deleted note under the old key, and the old key under an old root. When both are
//! gone, neither the copy nor what is stored now opens it. Not done for notes that grow too old or are written anew, which
//! nobody takes back (docs/decisions/0016). It does not renew the root.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, params};

use crate::attachments::Row;
use crate::database::Database;
use crate::key::{Cipher, Kind, Tag, identity};
use crate::search_segments::{search_cipher, segment_identity};
use crate::unread::mark_identity;
use crate::writing::{Writing, ended, note_identity};
use crate::{Change, Error, Event};

impl Writing<'_> {
    /// Deletes the notes that these events delete, and gives their persons new keys. Answers how many persons.
    pub(crate) fn delete_for_good(&mut self, events: &[Event]) -> Result<usize, Error> {
        let mut persons = BTreeSet::new();
        for event in events {
            if let Change::NoteDeleted { id } = &event.change {
                let note = self.keys.tag(Kind::Note, id);
                if let Some(person) = self.person_of(&note)? {
                    self.delete_note(&note)?;
                    persons.insert(person);
                }
            }
        }
        if persons.is_empty() {
            return Ok(0);
        }
        self.let_loose_attachments_go()?;
        self.write_segments()?;
        // Of whom all goes in this very batch, nothing is worth a new key.
        for id in events.iter().filter_map(|event| ended(&event.change)) {
            persons.remove(&self.keys.tag(Kind::Person, id));
        }
        for person in &persons {
            self.give_new_key(person)?;
        }
        Ok(persons.len())
    }

    fn person_of(&self, note: &Tag) -> Result<Option<Tag>, Error> {
        self.transaction
            .prepare_cached("SELECT person FROM notes WHERE tag = ?1")
            .and_then(|mut query| query.query_row([note], |row| row.get(0)).optional())
            .map_err(Error::database("find a note's person"))
    }

    /// Seals all that is stored of a person anew, each row in its place.
    fn give_new_key(&mut self, person: &Tag) -> Result<(), Error> {
        let Some(old) = self.cipher_of(person)? else {
            return Ok(());
        };
        let (new, wrapped) = self.keys.new_person(person)?;
        let body: Vec<u8> = self
            .transaction
            .prepare_cached("SELECT body FROM persons WHERE tag = ?1")
            .and_then(|mut query| query.query_row([person], |row| row.get(0)))
            .map_err(Error::database("find a person"))?;
        let body = moved(&old, &new, &identity(b"person", &[person]), &body)?;
        self.execute(
            "change a person's key",
            "UPDATE persons SET key = ?2, body = ?3 WHERE tag = ?1",
            params![person, wrapped, body],
        )?;
        self.move_notes(person, &old, &new)?;
        self.move_segments(person, &search_cipher(&old)?, &search_cipher(&new)?)?;
        self.move_marks(person, &old, &new)?;
        for mut row in Row::of_person(self.transaction, person)? {
            let body = row.open(&old)?;
            row.put(self.transaction, &new, &body)?;
        }
        self.forget_cipher(person);
        self.erased = true;
        Ok(())
    }

    /// One at a time: a person may have many.
    fn move_notes(&self, person: &Tag, old: &Cipher, new: &Cipher) -> Result<(), Error> {
        let mut find = self
            .transaction
            .prepare_cached("SELECT tag, time, body FROM notes WHERE number = ?1")
            .map_err(Error::database("find a note"))?;
        for number in self.numbers("SELECT number FROM notes WHERE person = ?1", person)? {
            let (tag, time, sealed): (Tag, i64, Vec<u8>) = find
                .query_row([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .map_err(Error::database("read a note"))?;
            let body = moved(old, new, &note_identity(&tag, person, time), &sealed)?;
            self.execute(
                "seal a note anew",
                "UPDATE notes SET body = ?2 WHERE number = ?1",
                params![number, body],
            )?;
        }
        Ok(())
    }

    fn move_segments(&self, person: &Tag, old: &Cipher, new: &Cipher) -> Result<(), Error> {
        for number in self.numbers("SELECT number FROM segments WHERE person = ?1", person)? {
            let opened = self.open_segment(old, person, number)?;
            let body = new.seal(&segment_identity(person), &opened)?;
            self.execute(
                "seal a segment anew",
                "UPDATE segments SET body = ?2 WHERE number = ?1",
                params![number, body],
            )?;
        }
        Ok(())
    }

    fn move_marks(&self, person: &Tag, old: &Cipher, new: &Cipher) -> Result<(), Error> {
        let marks: Vec<(Tag, Vec<u8>)> = self
            .transaction
            .prepare_cached("SELECT reader, body FROM marks WHERE person = ?1")
            .and_then(|mut query| {
                query
                    .query_map([person], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(Error::database("list a person's marks"))?;
        for (reader, sealed) in marks {
            let body = moved(old, new, &mark_identity(person, &reader), &sealed)?;
            self.execute(
                "seal a mark anew",
                "UPDATE marks SET body = ?3 WHERE person = ?1 AND reader = ?2",
                params![person, reader, body],
            )?;
        }
        Ok(())
    }

    fn numbers(&self, sql: &str, person: &Tag) -> Result<Vec<i64>, Error> {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut query| query.query_map([person], |row| row.get(0))?.collect())
            .map_err(Error::database("list what is a person's"))
    }
}

fn moved(old: &Cipher, new: &Cipher, bound_to: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
    new.seal(bound_to, &old.open(bound_to, sealed)?)
}

/// Whose keys were destroyed and not yet by the root: what a copy of the disk may still have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// The old key of somebody who is still there, and of whom a note was deleted.
    Note,
    /// The key of somebody who is gone.
    Person,
}

impl Due {
    /// As it stands in the database.
    pub(crate) const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Note => b"note",
            Self::Person => b"",
        }
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        // What is not known is taken for the graver one.
        if bytes == Self::Note.as_bytes() {
            Self::Note
        } else {
            Self::Person
        }
    }
}

/// Whether something is to be forgotten for good after this.
pub(crate) fn forgets(change: &Change) -> bool {
    matches!(change, Change::NoteDeleted { .. }) || ended(change).is_some()
}

impl Database {
    /// Destroys the keys of persons that end, and the old keys of those of whom a note is deleted, for good on this disk, and
    /// notes that a copy of the disk may still hold them. True when there was any.
    pub(crate) fn forget(&mut self, events: &[Event], now: i64) -> Result<bool, Error> {
        if !events.iter().any(|event| forgets(&event.change)) {
            return Ok(false);
        }
        let before = self.totals;
        let done = self.forget_in_one_transaction(events, now);
        // Without anything to commit, what was tried is rolled back.
        if !matches!(done, Ok(true)) {
            self.totals = before;
        }
        done
    }

    fn forget_in_one_transaction(&mut self, events: &[Event], now: i64) -> Result<bool, Error> {
        let transaction = self
            .connection
            .transaction()
            .map_err(Error::database("begin"))?;
        let mut writing =
            Writing::new(&transaction, &self.keys, &mut self.totals, self.limits, now);
        let mut due = (writing.delete_for_good(events)? > 0).then_some(Due::Note);
        for id in events.iter().filter_map(|event| ended(&event.change)) {
            let destroyed = transaction
                .execute(
                    "UPDATE persons SET key = x'' WHERE tag = ?1 AND key != x''",
                    [self.keys.tag(Kind::Person, id)],
                )
                .map_err(Error::database("destroy a key"))?;
            if destroyed > 0 {
                due = Some(Due::Person);
            }
        }
        // Before it is done: to let go once too often does no harm.
        self.destroyed += 1;
        let Some(due) = due else {
            return Ok(false);
        };
        crate::database::set_due(&transaction, due)?;
        transaction.commit().map_err(Error::database("commit"))?;
        crate::database::checkpoint(&self.connection)?;
        self.let_files_go()?;
        Ok(true)
    }
}
