//! Who may read whom: decided at each reading, from rows that are sealed.
//!
//! A person that does not exist and one that may not be read take the same work. It reads no notes.

use std::sync::Arc;

use rusqlite::OptionalExtension;

use crate::database::Database;
use crate::key::{Cipher, Kind, Tag, identity};
use crate::pack::Unpack;
use crate::{Error, Personal, Role, Staff};

/// A person's row, opened.
pub(crate) struct PersonRow {
    pub(crate) cipher: Cipher,
    pub(crate) id: String,
    pub(crate) display_name: Personal,
    readers: Vec<String>,
}

impl PersonRow {
    fn may_be_read_by(&self, user: &str) -> bool {
        self.readers.iter().any(|reader| reader == user)
    }
}

/// A staff member's row, opened.
pub(crate) struct StaffRow {
    display_name: Personal,
    role: Role,
    suspended: bool,
}

impl Database {
    /// The staff member, if the city knows and has not suspended them, nor the facility.
    pub(crate) fn staff(&self, user: &str) -> Result<Option<Staff>, Error> {
        if self.facility_is_suspended()? {
            return Ok(None);
        }
        let tag = self.keys.tag(Kind::Staff, user);
        let Some(row) = self.staff_row(&tag)? else {
            return Ok(None);
        };
        Ok((!row.suspended).then(|| Staff {
            display_name: Personal::new(row.display_name.reveal()),
            role: row.role,
        }))
    }

    fn facility_is_suspended(&self) -> Result<bool, Error> {
        let known = self.opened.as_ref();
        if let Some(known) = known.and_then(|opened| opened.rows().facility_suspended) {
            return Ok(known);
        }
        let suspended = self.facility()?.is_some_and(|(_, suspended)| suspended);
        if let Some(opened) = &self.opened {
            opened.rows().facility_suspended = Some(suspended);
        }
        Ok(suspended)
    }

    fn staff_row(&self, tag: &Tag) -> Result<Option<Arc<StaffRow>>, Error> {
        let known = self.opened.as_ref();
        if let Some(known) = known.and_then(|opened| opened.rows().staff(tag)) {
            return Ok(Some(known));
        }
        let sealed: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT body FROM staff WHERE tag = ?1")
            .and_then(|mut query| query.query_row([tag], |row| row.get(0)).optional())
            .map_err(Error::database("find a staff member"))?;
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let body = self
            .keys
            .general()
            .open(&identity(b"staff", &[tag]), &sealed)?;
        let mut fields = Unpack::new(&body);
        let row = Arc::new(StaffRow {
            display_name: Personal::new(fields.text()?),
            role: if fields.flag()? {
                Role::Manager
            } else {
                Role::Staff
            },
            suspended: fields.flag()?,
        });
        if let Some(opened) = &self.opened {
            opened.rows().keep_staff(tag, &row);
        }
        Ok(Some(row))
    }

    /// Everybody `user` may read, in no order.
    pub(crate) fn all_readable(&self, user: &str) -> Result<Vec<(Tag, Arc<PersonRow>)>, Error> {
        if self.staff(user)?.is_none() {
            return Ok(Vec::new());
        }
        let mut persons = Vec::new();
        for tag in self.tags()?.iter() {
            // How long a list takes tells of nobody in particular, so who is out of reach need not be opened anew.
            let known = self.opened.as_ref();
            let person = match known.and_then(|opened| opened.rows().person(tag)) {
                Some(known) => Some(known).filter(|person| person.may_be_read_by(user)),
                None => self.readable(user, tag)?,
            };
            if let Some(person) = person {
                persons.push((*tag, person));
            }
        }
        Ok(persons)
    }

    fn tags(&self) -> Result<Arc<[Tag]>, Error> {
        let known = self.opened.as_ref();
        if let Some(known) = known.and_then(|opened| opened.rows().tags.clone()) {
            return Ok(known);
        }
        let tags: Vec<Tag> = self
            .connection
            .prepare_cached("SELECT tag FROM persons")
            .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
            .map_err(Error::database("list persons"))?;
        let tags: Arc<[Tag]> = tags.into();
        if let Some(opened) = &self.opened {
            opened.rows().tags = Some(Arc::clone(&tags));
        }
        Ok(tags)
    }

    /// The person, if `user` may read anybody and this one.
    pub(crate) fn may_read(
        &self,
        user: &str,
        person: &Tag,
    ) -> Result<Option<Arc<PersonRow>>, Error> {
        match self.staff(user)? {
            Some(_) => self.readable(user, person),
            None => Ok(None),
        }
    }

    /// The person's row if `user` is among its readers. The list of readers is sealed: whoever has the disk cannot
    /// add to it.
    ///
    /// For a person that does not exist the next one's row is opened and put away, so that it takes the same work as one that
    /// may not be read. A row whose key was destroyed counts as gone. Only for whoever may read it a row that is already open
    /// stands for the one in the file.
    pub(crate) fn readable(&self, user: &str, tag: &Tag) -> Result<Option<Arc<PersonRow>>, Error> {
        let known = self.opened.as_ref();
        let known = known.and_then(|opened| opened.rows().person(tag));
        if let Some(known) = known.filter(|person| person.may_be_read_by(user)) {
            return Ok(Some(known));
        }
        let nearest = |from: &[u8]| {
            self.connection
                .prepare_cached(
                    "SELECT tag, key, body FROM persons WHERE tag >= ?1 AND key <> x'' ORDER BY tag LIMIT 1",
                )
                .and_then(|mut query| {
                    query
                        .query_row([from], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                        .optional()
                })
                .map_err(Error::database("find a person"))
        };
        let row: Option<(Tag, Vec<u8>, Vec<u8>)> = match nearest(tag)? {
            Some(row) => Some(row),
            // Behind the last one.
            None => nearest(&[])?,
        };
        let Some((found, wrapped, sealed)) = row else {
            return Ok(None);
        };
        let cipher = self.keys.person(&found, &wrapped)?;
        let body = cipher.open(&identity(b"person", &[&found]), &sealed)?;
        let mut fields = Unpack::new(&body);
        let mut person = PersonRow {
            cipher,
            id: fields.text()?.to_owned(),
            display_name: Personal::new(fields.text()?),
            readers: Vec::new(),
        };
        while !fields.is_empty() {
            person.readers.push(fields.text()?.to_owned());
        }
        let person = Arc::new(person);
        let is_reader = person.may_be_read_by(user);
        let may_read = found == *tag && is_reader;
        if let Some(opened) = &self.opened {
            opened.rows().keep_person(&found, &person);
        }
        Ok(may_read.then_some(person))
    }
}
