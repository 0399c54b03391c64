//! Reading: each time anew it is decided who may see what.
//!
//! A person that does not exist and one that may not be read give the same answer. It does not know sessions.

use std::fmt;
use std::str::FromStr;

use rusqlite::params;

use crate::database::Database;
use crate::file::{CAUGHT_UP, FACILITY, meta};
use crate::key::{Kind, TAG, Tag, identity};
use crate::pack::Unpack;
use crate::permission::PersonRow;
use crate::readers::Lane;
use crate::writing::note_identity;
use crate::{Attachment, Error, Looked, Personal, Role, Store};

/// Unread notes are counted up to this many: to a reader more are just many, and counting them all takes time.
pub const UNREAD_COUNTED: u64 = 100;

/// A person in the list of those a staff member may read.
#[derive(Debug, PartialEq, Eq)]
pub struct PersonSummary {
    /// The city's id.
    pub id: String,
    /// The name.
    pub display_name: Personal,
    /// How many notes the reader has not marked as read, counted up to [`UNREAD_COUNTED`].
    pub unread: u64,
    /// The time of the newest, in Unix seconds.
    pub newest: Option<i64>,
}

/// One note as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub struct StoredNote {
    /// The city's id.
    pub id: String,
    /// Its number in the order in which the box got its notes; a changed note gets a new one.
    pub number: i64,
    /// The author's user id.
    pub author: String,
    /// The author's name.
    pub author_name: Personal,
    /// The author's profession.
    pub role: String,
    /// When it was written, in Unix seconds.
    pub time: i64,
    /// The text.
    pub text: Personal,
    /// What is attached at the city.
    pub attachments: Vec<Attachment>,
    /// The electronic signature, if it is signed.
    pub signature: Option<String>,
    /// When the box fetched it, in Unix seconds.
    pub fetched: i64,
}

impl StoredNote {
    /// Whether a reader of one has read the other too: all the same but for when and in which order the box got it.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.id == other.id
            && self.author == other.author
            && self.author_name == other.author_name
            && self.role == other.role
            && self.time == other.time
            && self.text == other.text
            && self.attachments == other.attachments
            && self.signature == other.signature
    }
}

/// Some of a person's notes, newest first.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The person.
    pub display_name: Personal,
    /// The notes.
    pub notes: Vec<StoredNote>,
    /// Where the next page begins, if there is one.
    pub older: Option<Cursor>,
    /// The number up to which the reader has marked this person's notes as read.
    pub read_upto: i64,
    /// The highest number of this person's notes.
    pub newest_number: i64,
    /// How many of this person's notes, on whatever page, are not marked as read, counted up to [`UNREAD_COUNTED`].
    pub unread: u64,
}

/// One note with its person.
#[derive(Debug, PartialEq, Eq)]
pub struct OneNote {
    /// The person.
    pub display_name: Personal,
    /// The note.
    pub note: StoredNote,
}

/// A place in a person's notes; as text it fits into a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    time: i64,
    tag: Tag,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.time)?;
        self.tag.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (time, hex) = text.split_once('.').ok_or(())?;
        let time = time.parse().map_err(|_| ())?;
        let mut tag = [0; TAG];
        if hex.len() != 2 * tag.len() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(());
        }
        for (byte, at) in tag.iter_mut().zip((0..hex.len()).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| ())?;
        }
        Ok(Self { time, tag })
    }
}

/// A notice of the city.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice {
    /// The city's id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// For staff only.
    pub members_only: bool,
}

/// A staff member who may read.
#[derive(Debug, PartialEq, Eq)]
pub struct Staff {
    /// The name.
    pub display_name: Personal,
    /// The role.
    pub role: Role,
}

/// How the store stands; nothing personal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Stored persons.
    pub persons: u64,
    /// Stored notes.
    pub notes: u64,
    /// Bytes that they take, with what is searched and the rows of their attachments; without the files.
    pub bytes: u64,
    /// When the box was last level with the city, in Unix seconds.
    pub caught_up: Option<i64>,
    /// The facility's name as the city gives it.
    pub facility: Option<String>,
    /// The facility is suspended, as far as the city has said.
    pub suspended: bool,
}

/// What every page of notes begins with.
#[derive(Debug, PartialEq, Eq)]
pub struct Opening {
    /// Who reads.
    pub staff: Staff,
    /// When the box was last level with the city, in Unix seconds.
    pub level: Option<i64>,
}

impl Opening {
    /// The same for another page.
    pub(crate) fn again(&self) -> Self {
        let Staff { display_name, role } = &self.staff;
        Self {
            staff: Staff {
                display_name: Personal::new(display_name.reveal()),
                role: *role,
            },
            level: self.level,
        }
    }
}

impl Store {
    /// What a page begins with and, as [`Store::persons_for`], its persons; `None` when `user` may read nothing. All of one
    /// moment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn page_of_persons(
        &self,
        user: &str,
    ) -> Result<Option<(Opening, Vec<PersonSummary>)>, Error> {
        let user = user.to_owned();
        let granted = |_: &Vec<PersonSummary>| Some(None);
        self.read_opening(Looked::List, granted, move |database| {
            database.opening(&user, || database.persons_for(&user))
        })
        .await
    }

    /// What a page begins with and, as [`Store::notes_of`], its notes; `None` when `user` may read nothing. All of one moment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn page_of_notes(
        &self,
        user: &str,
        person: &str,
        limit: usize,
        before: Option<Cursor>,
    ) -> Result<Option<(Opening, Option<Page>)>, Error> {
        let (user, id) = (user.to_owned(), person.to_owned());
        let granted = |page: &Option<Page>| page.is_some().then(|| Some(person.to_owned()));
        self.read_opening(Looked::Notes, granted, move |database| {
            database.opening(&user, || database.notes_of(&user, &id, limit, before))
        })
        .await
    }

    /// As [`Store::staff`], with [`Store::caught_up`]: what every page of notes begins with.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn staff_and_level(&self, user: &str) -> Result<Option<(Staff, Option<i64>)>, Error> {
        let user = user.to_owned();
        self.look(Lane::Page, move |database| {
            let staff = database.staff(&user)?;
            let level = database.caught_up()?;
            Ok(staff.map(|staff| (staff, level)))
        })
        .await
    }

    /// When the box was last level with the city, in Unix seconds.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn caught_up(&self) -> Result<Option<i64>, Error> {
        self.look(Lane::Page, |database| database.caught_up()).await
    }

    /// At most `limit` of a person's notes, newest first, written at `since` or later, to be printed. `None` as with
    /// [`Store::notes_of`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn notes_to_print(
        &self,
        user: &str,
        person: &str,
        since: i64,
        limit: usize,
    ) -> Result<Option<Page>, Error> {
        let (user, id) = (user.to_owned(), person.to_owned());
        let granted = |page: &Option<Page>| page.is_some().then(|| Some(person.to_owned()));
        self.read_beside(Lane::Page, Looked::Print, granted, move |database| {
            database.notes_since(&user, &id, since, limit)
        })
        .await
    }
}

impl Database {
    /// What a page begins with, and `page` for whoever may read at all.
    pub(crate) fn opening<T>(
        &self,
        user: &str,
        page: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Option<(Opening, T)>, Error> {
        let Some(staff) = self.staff(user)? else {
            return Ok(None);
        };
        let level = self.caught_up()?;
        Ok(Some((Opening { staff, level }, page()?)))
    }

    /// The persons `user` may read, the one with the newest note first.
    pub(crate) fn persons_for(&self, user: &str) -> Result<Vec<PersonSummary>, Error> {
        let reader = self.keys.tag(Kind::Staff, user);
        let mut persons = self
            .all_readable(user)?
            .iter()
            .map(|(tag, person)| self.summary(&reader, person, tag))
            .collect::<Result<Vec<_>, _>>()?;
        persons.sort_by(|one, other| other.newest.cmp(&one.newest).then(one.id.cmp(&other.id)));
        Ok(persons)
    }

    pub(crate) fn summary(
        &self,
        reader: &Tag,
        person: &PersonRow,
        tag: &Tag,
    ) -> Result<PersonSummary, Error> {
        let state = self.state(reader, person, tag)?;
        Ok(PersonSummary {
            id: person.id.clone(),
            display_name: Personal::new(person.display_name.reveal()),
            unread: state.unread,
            newest: state.newest,
        })
    }

    /// One note of the person; `None` when there is no such note for this user.
    pub(crate) fn note_of(
        &self,
        user: &str,
        person: &str,
        note: &str,
    ) -> Result<Option<OneNote>, Error> {
        let person_tag = self.keys.tag(Kind::Person, person);
        let Some(row) = self.may_read(user, &person_tag)? else {
            return Ok(None);
        };
        let note = self.one_note(&row, &person_tag, &self.keys.tag(Kind::Note, note), None)?;
        Ok(note.map(|note| OneNote {
            display_name: Personal::new(row.display_name.reveal()),
            note,
        }))
    }

    fn notes_since(
        &self,
        user: &str,
        person: &str,
        since: i64,
        limit: usize,
    ) -> Result<Option<Page>, Error> {
        let Some(mut page) = self.notes_of(user, person, limit, None)? else {
            return Ok(None);
        };
        let before = page.notes.len();
        page.notes.retain(|note| note.time >= since);
        if page.notes.len() < before {
            page.older = None;
        }
        Ok(Some(page))
    }

    /// A page of the person's notes, newest first; `None` when there is no such person for this user.
    pub(crate) fn notes_of(
        &self,
        user: &str,
        person: &str,
        limit: usize,
        before: Option<Cursor>,
    ) -> Result<Option<Page>, Error> {
        let person_tag = self.keys.tag(Kind::Person, person);
        let Some(row) = self.may_read(user, &person_tag)? else {
            return Ok(None);
        };
        let reader = self.keys.tag(Kind::Staff, user);
        let state = self.state(&reader, &row, &person_tag)?;
        let before = before.unwrap_or(Cursor {
            time: i64::MAX,
            tag: [0xff; TAG],
        });
        // One more than asked for tells whether there is a next page.
        let wanted = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let rows: Vec<(Tag, i64, i64, Vec<u8>)> = self
            .connection
            .prepare_cached(
                "SELECT tag, number, time, body FROM notes
                 WHERE person = ?1 AND (time, tag) < (?2, ?3)
                 ORDER BY time DESC, tag DESC LIMIT ?4",
            )
            .and_then(|mut query| {
                query
                    .query_map(
                        params![person_tag, before.time, before.tag, wanted],
                        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
                    )?
                    .collect()
            })
            .map_err(Error::database("list a person's notes"))?;
        let older = rows
            .get(limit)
            .and_then(|_| rows.get(limit.checked_sub(1)?))
            .map(|(tag, _, time, _)| Cursor {
                time: *time,
                tag: *tag,
            });
        let notes = rows
            .iter()
            .take(limit)
            .map(|(tag, number, time, sealed)| {
                let bound_to = note_identity(tag, &person_tag, *time);
                unpack_note(*number, *time, &row.cipher.open(&bound_to, sealed)?)
            })
            .collect::<Result<_, _>>()?;
        Ok(Some(Page {
            display_name: Personal::new(row.display_name.reveal()),
            notes,
            older,
            read_upto: state.read_upto,
            newest_number: state.newest_number,
            unread: state.unread,
        }))
    }

    /// The notices that are in force at `now`, newest first: all of them for staff who may read, the public ones for
    /// everybody else.
    pub(crate) fn notices(&self, user: Option<&str>, now: i64) -> Result<Vec<Notice>, Error> {
        let member = match user {
            Some(user) => self.staff(user)?.is_some(),
            None => false,
        };
        let rows: Vec<(Tag, Vec<u8>)> = self
            .connection
            .prepare_cached("SELECT tag, body FROM notices ORDER BY number DESC")
            .and_then(|mut query| {
                query
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(Error::database("list notices"))?;
        let mut notices = Vec::new();
        for (tag, sealed) in rows {
            let body = self
                .keys
                .general()
                .open(&identity(b"notice", &[&tag]), &sealed)?;
            let mut fields = Unpack::new(&body);
            let notice = Notice {
                id: fields.text()?.to_owned(),
                title: fields.text()?.to_owned(),
                text: fields.text()?.to_owned(),
                members_only: fields.flag()?,
            };
            if fields.number()? > now && (member || !notice.members_only) {
                notices.push(notice);
            }
        }
        Ok(notices)
    }

    pub(crate) fn status(&self) -> Result<Status, Error> {
        let persons: i64 = self
            .connection
            .query_row("SELECT count(*) FROM persons", [], |row| row.get(0))
            .map_err(Error::database("count persons"))?;
        let caught_up = self.caught_up()?;
        let (facility, suspended) = self.facility()?.unzip();
        Ok(Status {
            persons: u64::try_from(persons).unwrap_or_default(),
            notes: u64::try_from(self.totals.notes).unwrap_or_default(),
            bytes: u64::try_from(self.totals.bytes).unwrap_or_default(),
            caught_up,
            facility,
            suspended: suspended.unwrap_or_default(),
        })
    }

    fn caught_up(&self) -> Result<Option<i64>, Error> {
        meta(&self.connection, CAUGHT_UP)?
            .map(|bytes| bytes.try_into().map(i64::from_be_bytes))
            .transpose()
            .map_err(|_| Error::Damaged)
    }

    /// The facility's name and whether it is suspended, if the city has said.
    pub(crate) fn facility(&self) -> Result<Option<(String, bool)>, Error> {
        let Some(sealed) = meta(&self.connection, FACILITY)? else {
            return Ok(None);
        };
        let body = self.keys.general().open(FACILITY.as_bytes(), &sealed)?;
        let mut fields = Unpack::new(&body);
        let _id = fields.text()?;
        Ok(Some((fields.text()?.to_owned(), fields.flag()?)))
    }
}

pub(crate) fn unpack_note(number: i64, time: i64, body: &[u8]) -> Result<StoredNote, Error> {
    let mut fields = Unpack::new(body);
    let mut note = StoredNote {
        id: fields.text()?.to_owned(),
        number,
        author: fields.text()?.to_owned(),
        author_name: Personal::new(fields.text()?),
        role: fields.text()?.to_owned(),
        time,
        text: Personal::new(fields.text()?),
        attachments: Vec::new(),
        fetched: fields.number()?,
        signature: Some(fields.text()?.to_owned()).filter(|signature| !signature.is_empty()),
    };
    while !fields.is_empty() {
        note.attachments.push(Attachment {
            id: fields.text()?.to_owned(),
            name: Personal::new(fields.text()?),
            media_type: fields.text()?.to_owned(),
            size: u64::try_from(fields.number()?).map_err(|_| Error::Damaged)?,
            sha256: fields.text()?.to_owned(),
        });
    }
    Ok(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_way_through_a_query() {
        let cursor = Cursor {
            time: -5,
            tag: [0xa0; TAG],
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn a_cursor_made_up_by_a_browser_is_refused() {
        let long = format!("1.{}", "a".repeat(65));
        let not_hex = format!("1.{}", "é".repeat(32));
        for text in [
            "",
            ".",
            "1",
            "x.00",
            "1.0g",
            "9999999999999999999999.00",
            &long,
            &not_hex,
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }
}
