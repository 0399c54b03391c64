//! Writing: what each event does to the rows, within one transaction.
//!
//! It neither begins nor commits, and destroys no key; see [`crate::database`].

use std::collections::HashMap;
use std::rc::Rc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::attachments::bytes_of_rows;
use crate::database::Totals;
use crate::file::{CAUGHT_UP, FACILITY, set_meta};
use crate::key::{Cipher, Keyring, Kind, Tag, identity};
use crate::pack::{Unpack, pack};
use crate::search_segments::{Pending, bytes_in_segment, searched};
use crate::{Change, Error, Limits, Role};

const DAY: i64 = 86_400;
/// What the database takes for a note beside what is sealed: tags, numbers, four indices, and its part of pages that are not
/// full. Measured; a test holds it against the size of the file.
const ROW: usize = 250;

/// The person whose support a change ends.
pub(crate) fn ended(change: &Change) -> Option<&str> {
    match change {
        Change::PersonEnded { id }
        | Change::Person {
            id,
            support_ended: true,
            ..
        } => Some(id),
        _ => None,
    }
}

/// One transaction's worth of changes.
pub(crate) struct Writing<'a> {
    pub(crate) transaction: &'a Transaction<'a>,
    pub(crate) keys: &'a Keyring,
    pub(crate) totals: &'a mut Totals,
    pub(crate) limits: Limits,
    pub(crate) now: i64,
    /// Something sealed was deleted or replaced, so the log has to be emptied afterwards.
    pub(crate) erased: bool,
    /// What has to change in what is searched.
    pub(crate) search: Pending,
    /// Of the persons met so far, or each note would have its person's key found and unwrapped.
    ciphers: HashMap<Tag, Rc<Cipher>>,
    /// Whether anybody has marked anything as read; asked for once.
    pub(crate) marks: Option<bool>,
}

impl<'a> Writing<'a> {
    pub(crate) fn new(
        transaction: &'a Transaction<'a>,
        keys: &'a Keyring,
        totals: &'a mut Totals,
        limits: Limits,
        now: i64,
    ) -> Self {
        Self {
            transaction,
            keys,
            totals,
            limits,
            now,
            erased: false,
            search: Pending::default(),
            ciphers: HashMap::new(),
            marks: None,
        }
    }
}

impl Writing<'_> {
    pub(crate) fn change(&mut self, change: &Change) -> Result<(), Error> {
        // Switched off by the policy: only what is no person's goes in.
        if self.limits.days == 0 && !matches!(change, Change::Facility { .. } | Change::CaughtUp) {
            return Ok(());
        }
        if let Some(id) = ended(change) {
            return self.end_person(&self.keys.tag(Kind::Person, id));
        }
        match change {
            Change::Person { .. } => self.person(change),
            Change::Note { .. } => self.note(change),
            Change::NoteDeleted { id } => self.delete_note(&self.keys.tag(Kind::Note, id)),
            Change::Staff { .. } => self.staff(change),
            Change::Notice { .. } => self.notice(change),
            Change::Facility {
                id,
                name,
                suspended,
            } => {
                let body = pack(&[id.as_bytes(), name.as_bytes(), &[u8::from(*suspended)]])?;
                let sealed = self.keys.general().seal(FACILITY.as_bytes(), &body)?;
                set_meta(self.transaction, FACILITY, &sealed)
            }
            Change::CaughtUp => set_meta(self.transaction, CAUGHT_UP, &self.now.to_be_bytes()),
            Change::PersonEnded { .. } => Ok(()),
        }
    }

    /// Whether a change takes a right away, or may.
    pub(crate) fn takes_away(change: &Change) -> bool {
        match change {
            Change::Person { .. }
            | Change::PersonEnded { .. }
            | Change::NoteDeleted { .. }
            | Change::Staff {
                suspended: true, ..
            }
            | Change::Facility {
                suspended: true, ..
            } => true,
            Change::Note { .. }
            | Change::Staff { .. }
            | Change::Notice { .. }
            | Change::Facility { .. }
            | Change::CaughtUp => false,
        }
    }

    /// Of a change, what takes a right away: nobody may read afterwards what they might not before.
    pub(crate) fn restrict(&mut self, change: &Change) -> Result<(), Error> {
        match change {
            Change::Person {
                id,
                readers,
                support_ended: false,
                ..
            } => self.narrow(id, readers),
            change if Self::takes_away(change) => self.change(change),
            _ => Ok(()),
        }
    }

    /// Takes from a person's readers those who are not among `allowed`.
    fn narrow(&mut self, id: &str, allowed: &[String]) -> Result<(), Error> {
        let tag = self.keys.tag(Kind::Person, id);
        let Some(cipher) = self.cipher_of(&tag)? else {
            return Ok(());
        };
        let bound_to = identity(b"person", &[&tag]);
        let sealed: Vec<u8> = self
            .transaction
            .prepare_cached("SELECT body FROM persons WHERE tag = ?1")
            .and_then(|mut query| query.query_row([tag], |row| row.get(0)))
            .map_err(Error::database("find a person"))?;
        let body = cipher.open(&bound_to, &sealed)?;
        let mut unpack = Unpack::new(&body);
        let mut fields = vec![unpack.bytes()?, unpack.bytes()?];
        let mut narrower = false;
        while !unpack.is_empty() {
            let reader = unpack.bytes()?;
            if allowed.iter().any(|allowed| allowed.as_bytes() == reader) {
                fields.push(reader);
            } else {
                narrower = true;
            }
        }
        if !narrower {
            return Ok(());
        }
        let body = cipher.seal(&bound_to, pack(&fields)?.as_slice())?;
        self.erased = true;
        self.execute(
            "change a person",
            "UPDATE persons SET body = ?2 WHERE tag = ?1",
            params![tag, body],
        )
    }

    fn person(&mut self, change: &Change) -> Result<(), Error> {
        let Change::Person {
            id,
            display_name,
            readers,
            ..
        } = change
        else {
            return Ok(());
        };
        let tag = self.keys.tag(Kind::Person, id);
        let (cipher, new_key) = match self.cipher_of(&tag)? {
            Some(cipher) => (cipher, None),
            None => {
                let (cipher, wrapped) = self.keys.new_person(&tag)?;
                let cipher = Rc::new(cipher);
                self.ciphers.insert(tag, Rc::clone(&cipher));
                (cipher, Some(wrapped))
            }
        };
        let mut fields = vec![id.as_bytes(), display_name.reveal().as_bytes()];
        fields.extend(readers.iter().map(String::as_bytes));
        let body = cipher.seal(&identity(b"person", &[&tag]), pack(&fields)?.as_slice())?;
        match new_key {
            Some(key) => self.execute(
                "store a person",
                "INSERT INTO persons (tag, key, body) VALUES (?1, ?2, ?3)",
                params![tag, key, body],
            ),
            None => {
                self.erased = true;
                self.execute(
                    "change a person",
                    "UPDATE persons SET body = ?2 WHERE tag = ?1",
                    params![tag, body],
                )
            }
        }
    }

    /// The person's cipher; `None` when there is no such person.
    pub(crate) fn cipher_of(&mut self, person: &Tag) -> Result<Option<Rc<Cipher>>, Error> {
        if let Some(known) = self.ciphers.get(person) {
            return Ok(Some(Rc::clone(known)));
        }
        let found = person_cipher(self.transaction, self.keys, person)?.map(Rc::new);
        if let Some(cipher) = &found {
            self.ciphers.insert(*person, Rc::clone(cipher));
        }
        Ok(found)
    }

    /// The person's key is another one now.
    pub(crate) fn forget_cipher(&mut self, person: &Tag) {
        self.ciphers.remove(person);
    }

    pub(crate) fn end_person(&mut self, person: &Tag) -> Result<(), Error> {
        let (notes, bytes): (i64, i64) = self
            .transaction
            .query_row(
                "SELECT count(*), coalesce(sum(bytes), 0) FROM notes WHERE person = ?1",
                [person],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map_err(Error::database("count a person's notes"))?;
        self.totals.notes -= notes;
        self.totals.bytes -= bytes;
        self.erased = true;
        self.search.forget(person);
        self.ciphers.remove(person);
        // The notes go with the person: the schema's cascade.
        self.execute(
            "delete a person",
            "DELETE FROM persons WHERE tag = ?1",
            params![person],
        )
    }

    fn note(&mut self, change: &Change) -> Result<(), Error> {
        let Change::Note {
            id,
            person,
            author,
            author_name,
            role,
            time,
            text,
            attachments,
            signature,
        } = change
        else {
            return Ok(());
        };
        let tag = self.keys.tag(Kind::Note, id);
        self.delete_note(&tag)?;
        let person = self.keys.tag(Kind::Person, person);
        // Without its person nobody may read a note; one that ended must not come back through a late note.
        let Some(cipher) = self.cipher_of(&person)? else {
            return Ok(());
        };
        if *time < self.oldest_kept() {
            return Ok(());
        }
        let fetched = self.now.to_be_bytes();
        let sizes: Vec<[u8; 8]> = attachments
            .iter()
            .map(|attachment| attachment.size.to_be_bytes())
            .collect();
        let mut fields: Vec<&[u8]> = vec![
            id.as_bytes(),
            author.as_bytes(),
            author_name.reveal().as_bytes(),
            role.as_bytes(),
            text.reveal().as_bytes(),
            &fetched,
            signature.as_deref().unwrap_or_default().as_bytes(),
        ];
        for (attachment, size) in attachments.iter().zip(&sizes) {
            fields.extend([
                attachment.id.as_bytes(),
                attachment.name.reveal().as_bytes(),
                attachment.media_type.as_bytes(),
                size,
                attachment.sha256.as_bytes(),
            ]);
        }
        let bound_to = note_identity(&tag, &person, *time);
        let body = cipher.seal(&bound_to, pack(&fields)?.as_slice())?;
        let found_by = searched(text.reveal(), author_name.reveal(), role, attachments);
        let bytes = ROW + body.len() + bytes_in_segment(&found_by) + bytes_of_rows(attachments);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.totals.notes += 1;
        self.totals.bytes = self.totals.bytes.saturating_add(bytes);
        self.search.add(person, tag, *time, found_by);
        self.execute(
            "store a note",
            "INSERT INTO notes (tag, person, time, bytes, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![tag, person, time, bytes, body],
        )?;
        // Before the attachments' rows take its place.
        let number = self.transaction.last_insert_rowid();
        self.attach((&tag, &person), *time, &cipher, attachments)?;
        self.mark_own_note(&cipher, &person, author, number)
    }

    pub(crate) fn delete_note(&mut self, tag: &Tag) -> Result<(), Error> {
        self.delete_returning(
            "DELETE FROM notes WHERE tag = ?1 RETURNING bytes, person, tag",
            params![tag],
        )
        .map(|_| ())
    }

    fn staff(&mut self, change: &Change) -> Result<(), Error> {
        let Change::Staff {
            id,
            display_name,
            role,
            suspended,
        } = change
        else {
            return Ok(());
        };
        let tag = self.keys.tag(Kind::Staff, id);
        let body = pack(&[
            display_name.reveal().as_bytes(),
            &[u8::from(*role == Role::Manager)],
            &[u8::from(*suspended)],
        ])?;
        let sealed = self
            .keys
            .general()
            .seal(&identity(b"staff", &[&tag]), &body)?;
        self.execute(
            "store a staff member",
            "INSERT INTO staff (tag, body) VALUES (?1, ?2)
             ON CONFLICT (tag) DO UPDATE SET body = excluded.body",
            params![tag, sealed],
        )
    }

    fn notice(&mut self, change: &Change) -> Result<(), Error> {
        let Change::Notice {
            id,
            title,
            text,
            members_only,
            until,
        } = change
        else {
            return Ok(());
        };
        let tag = self.keys.tag(Kind::Notice, id);
        let body = pack(&[
            id.as_bytes(),
            title.as_bytes(),
            text.as_bytes(),
            &[u8::from(*members_only)],
            &until.unwrap_or(i64::MAX).to_be_bytes(),
        ])?;
        let sealed = self
            .keys
            .general()
            .seal(&identity(b"notice", &[&tag]), &body)?;
        self.execute(
            "store a notice",
            "INSERT INTO notices (tag, body) VALUES (?1, ?2)
             ON CONFLICT (tag) DO UPDATE SET body = excluded.body",
            params![tag, sealed],
        )
    }

    /// Oldest first, until everything is within its bounds.
    pub(crate) fn evict(&mut self) -> Result<(), Error> {
        let oldest = self.oldest_kept();
        self.delete_returning(
            "DELETE FROM notes WHERE time < ?1 RETURNING bytes, person, tag",
            params![oldest],
        )?;
        let limit = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
        while self.totals.notes > limit(self.limits.notes)
            || self.totals.bytes > limit(self.limits.bytes)
        {
            let deleted = self.delete_returning(
                "DELETE FROM notes WHERE tag = (SELECT tag FROM notes ORDER BY time, number LIMIT 1)
                 RETURNING bytes, person, tag",
                params![],
            )?;
            if deleted == 0 {
                return Err(Error::Damaged);
            }
        }
        Ok(())
    }

    fn oldest_kept(&self) -> i64 {
        self.now
            .saturating_sub(i64::from(self.limits.days).saturating_mul(DAY))
    }

    /// Deletes notes, keeps count, and says how many.
    fn delete_returning(
        &mut self,
        sql: &str,
        params: &[&dyn rusqlite::ToSql],
    ) -> Result<usize, Error> {
        let deleted: Vec<(i64, Tag, Tag)> = self
            .transaction
            .prepare_cached(sql)
            .and_then(|mut delete| {
                delete
                    .query_map(params, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .and_then(Iterator::collect)
            })
            .map_err(Error::database("delete notes"))?;
        for (bytes, person, note) in &deleted {
            self.totals.notes -= 1;
            self.totals.bytes -= bytes;
            self.erased = true;
            self.search.remove(*person, *note);
        }
        Ok(deleted.len())
    }

    pub(crate) fn execute(
        &self,
        action: &'static str,
        sql: &str,
        params: &[&dyn rusqlite::ToSql],
    ) -> Result<(), Error> {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map(|_| ())
            .map_err(Error::database(action))
    }
}

/// The person's cipher, inside a transaction or for a read; `None` when there is no such person, or none any more.
pub(crate) fn person_cipher(
    connection: &Connection,
    keys: &Keyring,
    person: &Tag,
) -> Result<Option<Cipher>, Error> {
    let wrapped: Option<Vec<u8>> = connection
        .prepare_cached("SELECT key FROM persons WHERE tag = ?1 AND key != x''")
        .and_then(|mut query| query.query_row([person], |row| row.get(0)).optional())
        .map_err(Error::database("find a person's key"))?;
    wrapped
        .map(|wrapped| keys.person(person, &wrapped))
        .transpose()
}

/// What a note's body is bound to: also its person and time, which stand beside it unsealed.
pub(crate) fn note_identity(note: &Tag, person: &Tag, time: i64) -> Vec<u8> {
    identity(b"note", &[note, person, &time.to_be_bytes()])
}
