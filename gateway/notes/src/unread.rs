//! What each staff member has marked as read: one mark for each person, under that person's key.
//!
//! A mark says up to which note, in the order in which the box got them, its reader has read. So a note that comes late or is
//! changed is unread though its time is old. The city does not learn of marks. A database that is
//! filled beside takes them over; one that starts afresh has none.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::database::Database;
use crate::key::{Cipher, Kind, Tag, identity};
use crate::permission::PersonRow;
use crate::read::{StoredNote, UNREAD_COUNTED, unpack_note};
use crate::writing::{Writing, note_identity, person_cipher};
use crate::{Error, Store};

pub(crate) fn mark_identity(person: &Tag, reader: &Tag) -> Vec<u8> {
    identity(b"mark", &[person, reader])
}

/// How a person's notes stand for one reader.
#[derive(Clone, Copy)]
pub(crate) struct State {
    /// Up to which number they are marked as read; 0 when none is.
    pub(crate) read_upto: i64,
    /// How many are not, counted up to [`UNREAD_COUNTED`].
    pub(crate) unread: u64,
    /// The time of the newest.
    pub(crate) newest: Option<i64>,
    /// The highest number; 0 where there are none.
    pub(crate) newest_number: i64,
}

impl Database {
    /// How this person's notes stand for a reader who may read them.
    pub(crate) fn state(
        &self,
        reader: &Tag,
        person: &PersonRow,
        tag: &Tag,
    ) -> Result<State, Error> {
        let known = self.opened.as_ref();
        if let Some(known) = known.and_then(|opened| opened.rows().state(tag, reader)) {
            return Ok(known);
        }
        let read_upto = mark(&self.connection, &person.cipher, tag, reader)?;
        let newest = self
            .connection
            .prepare_cached("SELECT max(time) FROM notes WHERE person = ?1")
            .and_then(|mut query| query.query_row([tag], |row| row.get(0)))
            .map_err(Error::database("find the newest note"))?;
        let state = State {
            read_upto,
            unread: self.unread(tag, read_upto)?,
            newest,
            newest_number: self.newest_number(tag)?,
        };
        if let Some(opened) = &self.opened {
            opened.rows().keep_state(tag, reader, state);
        }
        Ok(state)
    }

    /// How many of this person's notes came after the one numbered `upto`.
    fn unread(&self, person: &Tag, upto: i64) -> Result<u64, Error> {
        let most = i64::try_from(UNREAD_COUNTED).unwrap_or(i64::MAX);
        let count: i64 = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM notes WHERE person = ?1 AND number > ?2 LIMIT ?3)",
            )
            .and_then(|mut query| query.query_row(params![person, upto, most], |row| row.get(0)))
            .map_err(Error::database("count unread notes"))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// The highest number of this person's notes; 0 where there are none.
    fn newest_number(&self, person: &Tag) -> Result<i64, Error> {
        let newest: Option<i64> = self
            .connection
            .prepare_cached("SELECT max(number) FROM notes WHERE person = ?1")
            .and_then(|mut query| query.query_row([person], |row| row.get(0)))
            .map_err(Error::database("find the newest note"))?;
        Ok(newest.unwrap_or_default())
    }

    /// Marks this person's notes up to the one numbered `upto` as read by `user`. `false` when there is no such person for
    /// this user.
    pub(crate) fn mark_read(&self, user: &str, person: &str, upto: i64) -> Result<bool, Error> {
        let tag = self.keys.tag(Kind::Person, person);
        let Some(row) = self.may_read(user, &tag)? else {
            return Ok(false);
        };
        let reader = self.keys.tag(Kind::Staff, user);
        // Never beyond what there is: what comes later is unread, whatever a browser sends.
        let upto = upto.min(self.newest_number(&tag)?);
        if upto <= mark(&self.connection, &row.cipher, &tag, &reader)? {
            return Ok(true);
        }
        set_mark(&self.connection, &row.cipher, &tag, &reader, upto)?;
        Ok(true)
    }
}

impl Database {
    /// Gives a database that takes the place of this one the marks it has. There a mark stands before the first note that is
    /// new or other than here, so that nothing unread is taken for read.
    pub(crate) fn carry_marks_over(&self, to: &mut Self) -> Result<(), Error> {
        let marks: Vec<(Tag, Tag)> = self
            .connection
            .prepare("SELECT person, reader FROM marks ORDER BY person")
            .and_then(|mut query| {
                query
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(Error::database("list marks"))?;
        let transaction = to
            .connection
            .transaction()
            .map_err(Error::database("begin"))?;
        for of_one in marks.chunk_by(|(one, _), (other, _)| one == other) {
            let person = &of_one[0].0;
            let here = person_cipher(&self.connection, &self.keys, person)?;
            let there = person_cipher(&transaction, &to.keys, person)?;
            let (Some(here), Some(there)) = (here, there) else {
                continue;
            };
            let known: HashMap<Tag, StoredNote> = all_notes(&self.connection, &here, person)?
                .into_iter()
                .collect();
            let now = all_notes(&transaction, &there, person)?;
            for (_, reader) in of_one {
                let upto = mark(&self.connection, &here, person, reader)?;
                let was_read = |(tag, note): &&(Tag, StoredNote)| {
                    known
                        .get(tag)
                        .is_some_and(|known| known.number <= upto && known.says_the_same(note))
                };
                if let Some((_, last)) = now.iter().take_while(was_read).last() {
                    set_mark(&transaction, &there, person, reader, last.number)?;
                }
            }
        }
        transaction.commit().map_err(Error::database("commit"))
    }
}

/// All of a person's notes in the order in which the box got them.
fn all_notes(
    connection: &Connection,
    cipher: &Cipher,
    person: &Tag,
) -> Result<Vec<(Tag, StoredNote)>, Error> {
    let rows: Vec<(Tag, i64, i64, Vec<u8>)> = connection
        .prepare_cached(
            "SELECT tag, number, time, body FROM notes WHERE person = ?1 ORDER BY number",
        )
        .and_then(|mut query| {
            query
                .query_map([person], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?
                .collect()
        })
        .map_err(Error::database("list a person's notes"))?;
    rows.into_iter()
        .map(|(tag, number, time, sealed)| {
            let body = cipher.open(&note_identity(&tag, person, time), &sealed)?;
            Ok((tag, unpack_note(number, time, &body)?))
        })
        .collect()
}

impl Store {
    /// Marks a person's notes as read by this user, up to the one numbered `upto` ([`crate::Page::newest_number`]). `false`
    /// when there is no such person for this user.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn mark_read(&self, user: &str, person: &str, upto: i64) -> Result<bool, Error> {
        let (user, person) = (user.to_owned(), person.to_owned());
        self.run(move |database| database.mark_read(&user, &person, upto))
            .await
    }
}

impl Writing<'_> {
    /// Whoever has read everything of a person and then writes has read their own note too.
    pub(crate) fn mark_own_note(
        &mut self,
        cipher: &Cipher,
        person: &Tag,
        author: &str,
        own: i64,
    ) -> Result<(), Error> {
        if !self.are_there_marks()? {
            return Ok(());
        }
        let reader = self.keys.tag(Kind::Staff, author);
        let upto = mark(self.transaction, cipher, person, &reader)?;
        if upto == 0 {
            return Ok(());
        }
        let others: bool = self
            .transaction
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM notes WHERE person = ?1 AND number > ?2 AND number != ?3)",
            )
            .and_then(|mut query| query.query_row(params![person, upto, own], |row| row.get(0)))
            .map_err(Error::database("look for unread notes"))?;
        if others {
            return Ok(());
        }
        set_mark(self.transaction, cipher, person, &reader, own)
    }

    /// A transaction that writes notes makes no first mark, so one look is enough.
    fn are_there_marks(&mut self) -> Result<bool, Error> {
        if let Some(known) = self.marks {
            return Ok(known);
        }
        let found = self
            .transaction
            .query_row("SELECT EXISTS (SELECT 1 FROM marks)", [], |row| row.get(0))
            .map_err(Error::database("look for marks"))?;
        self.marks = Some(found);
        Ok(found)
    }
}

fn mark(
    connection: &Connection,
    cipher: &Cipher,
    person: &Tag,
    reader: &Tag,
) -> Result<i64, Error> {
    let sealed: Option<Vec<u8>> = connection
        .prepare_cached("SELECT body FROM marks WHERE person = ?1 AND reader = ?2")
        .and_then(|mut query| {
            query
                .query_row(params![person, reader], |row| row.get(0))
                .optional()
        })
        .map_err(Error::database("find a mark"))?;
    let Some(sealed) = sealed else {
        return Ok(0);
    };
    let body = cipher.open(&mark_identity(person, reader), &sealed)?;
    let bytes = body.as_slice().try_into().map_err(|_| Error::Damaged)?;
    Ok(i64::from_be_bytes(bytes))
}

fn set_mark(
    connection: &Connection,
    cipher: &Cipher,
    person: &Tag,
    reader: &Tag,
    upto: i64,
) -> Result<(), Error> {
    let body = cipher.seal(&mark_identity(person, reader), &upto.to_be_bytes())?;
    connection
        .prepare_cached(
            "INSERT INTO marks (person, reader, body) VALUES (?1, ?2, ?3)
             ON CONFLICT (person, reader) DO UPDATE SET body = excluded.body",
        )
        .and_then(|mut statement| statement.execute(params![person, reader, body]))
        .map(|_| ())
        .map_err(Error::database("store a mark"))
}
