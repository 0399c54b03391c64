//! Facilities, users, persons, notes, attachments and notices as rows.
//!
//! Does not check who asks; a caller passes the user whose permission the query is to apply.

use super::events;
use crate::secrets::SaltedHash;
use crate::times;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use serde_json::json;

/// A facility.
#[derive(Debug, Clone)]
pub struct Facility {
    /// Facility id.
    pub id: String,
    /// Facility name.
    pub name: String,
    /// What it is: 訪問看護ステーション and the like.
    pub kind: String,
    /// Postal address, as the portal shows it.
    pub address: String,
    /// Telephone, as the portal shows it.
    pub phone: String,
    /// Suspended by the city (Art. 35).
    pub suspended: bool,
}

/// A user without the password.
#[derive(Debug, Clone)]
pub struct User {
    /// User id.
    pub id: String,
    /// Facility id.
    pub facility: String,
    /// Display name.
    pub name: String,
    /// `manager` or `staff`.
    pub role: String,
    /// Profession, shown beside the name.
    pub job: String,
    /// Suspended by the city or the manager (Art. 31).
    pub suspended: bool,
}

/// A person as a list shows it.
#[derive(Debug, Clone)]
pub struct Person {
    /// Person id.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Reading in kana.
    pub reading: String,
    /// One line about the person.
    pub about: String,
    /// Time of the newest note, Unix seconds.
    pub newest: Option<i64>,
    /// Number of notes.
    pub notes: i64,
}

/// An attachment without its bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Attachment {
    /// Attachment id.
    pub id: String,
    /// File name as uploaded.
    pub name: String,
    /// Media type.
    pub media_type: String,
    /// Size in bytes.
    pub size: i64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A note with its attachments.
#[derive(Debug, Clone)]
pub struct Note {
    /// Note id.
    pub id: String,
    /// Person id.
    pub person: String,
    /// Author's user id.
    pub author: String,
    /// Author's name at the time of writing.
    pub author_name: String,
    /// Author's profession at the time of writing.
    pub job: String,
    /// Unix seconds.
    pub time: i64,
    /// The text.
    pub text: String,
    /// Attachments in the order of upload.
    pub attachments: Vec<Attachment>,
}

impl Note {
    /// The JSON of the feed and of the staff API.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "id": self.id, "person": self.person, "author": self.author, "author_name": self.author_name,
            "role": self.job, "time": times::rfc3339(self.time), "text": self.text, "attachments": self.attachments,
        })
    }
}

/// A notice of the city.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Notice id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Text.
    pub text: String,
    /// For signed-in staff only (Art. 19).
    pub members_only: bool,
    /// Unix seconds of publication.
    pub time: i64,
    /// Unix seconds after which it is not shown.
    pub until: Option<i64>,
}

impl Notice {
    /// The JSON of the feed.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut body = json!({
            "id": self.id, "title": self.title, "text": self.text, "members_only": self.members_only,
        });
        if let Some(until) = self.until {
            body["until"] = json!(times::rfc3339(until));
        }
        body
    }
}

/// One facility.
///
/// # Errors
/// When the database fails.
pub fn facility(connection: &Connection, id: &str) -> rusqlite::Result<Option<Facility>> {
    connection
        .prepare_cached(
            "SELECT id, name, kind, address, phone, suspended FROM facilities WHERE id = ?1",
        )?
        .query_row([id], facility_row)
        .optional()
}

/// The facilities that agreed to be shown on the portal (Art. 18).
///
/// # Errors
/// When the database fails.
pub fn public_facilities(connection: &Connection) -> rusqlite::Result<Vec<Facility>> {
    connection
        .prepare_cached(
            "SELECT id, name, kind, address, phone, suspended FROM facilities WHERE public = 1 ORDER BY id",
        )?
        .query_map([], facility_row)?
        .collect()
}

fn facility_row(row: &Row<'_>) -> rusqlite::Result<Facility> {
    Ok(Facility {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: row.get(2)?,
        address: row.get(3)?,
        phone: row.get(4)?,
        suspended: row.get(5)?,
    })
}

/// Adds a facility.
///
/// # Errors
/// When the database fails.
pub fn add_facility(connection: &Connection, facility: &Facility) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO facilities (id, name, kind, address, phone, public) VALUES (?1, ?2, ?3, ?4, ?5, 1)",
        params![facility.id, facility.name, facility.kind, facility.address, facility.phone],
    )?;
    events::facility(connection, &facility.id)
}

/// One user.
///
/// # Errors
/// When the database fails.
pub fn user(connection: &Connection, id: &str) -> rusqlite::Result<Option<User>> {
    connection
        .prepare_cached("SELECT id, facility, name, role, job, suspended FROM users WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(User {
                id: row.get(0)?,
                facility: row.get(1)?,
                name: row.get(2)?,
                role: row.get(3)?,
                job: row.get(4)?,
                suspended: row.get(5)?,
            })
        })
        .optional()
}

/// Adds a user with a password.
///
/// # Errors
/// When the database fails.
pub fn add_user(
    connection: &Connection,
    user: &User,
    password: &SaltedHash,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO users (id, facility, name, role, job, salt, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![user.id, user.facility, user.name, user.role, user.job, password.salt, password.hash],
    )?;
    events::staff(connection, &user.id)
}

/// The stored hash of a user's password.
///
/// # Errors
/// When the database fails.
pub fn password(connection: &Connection, user: &str) -> rusqlite::Result<Option<SaltedHash>> {
    connection
        .query_row(
            "SELECT salt, hash FROM users WHERE id = ?1",
            [user],
            |row| {
                Ok(SaltedHash {
                    salt: row.get(0)?,
                    hash: row.get(1)?,
                })
            },
        )
        .optional()
}

/// Replaces a user's password and ends all of the user's sessions.
///
/// # Errors
/// When the database fails.
pub fn set_password(
    connection: &Connection,
    user: &str,
    password: &SaltedHash,
) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE users SET salt = ?2, hash = ?3 WHERE id = ?1",
        params![user, password.salt, password.hash],
    )?;
    connection.execute("DELETE FROM sessions WHERE user = ?1", [user])?;
    Ok(())
}

/// Adds a person with its readers and announces it.
///
/// # Errors
/// When the database fails.
pub fn add_person(
    connection: &Connection,
    person: &Person,
    readers: &[&str],
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO persons (id, name, reading, about) VALUES (?1, ?2, ?3, ?4)",
        params![person.id, person.name, person.reading, person.about],
    )?;
    for reader in readers {
        connection.execute(
            "INSERT INTO readers (person, user) VALUES (?1, ?2)",
            params![person.id, reader],
        )?;
    }
    events::person(connection, &person.id)
}

const PERSON: &str = "SELECT p.id, p.name, p.reading, p.about,
        (SELECT max(time) FROM notes n WHERE n.person = p.id), (SELECT count(*) FROM notes n WHERE n.person = p.id)
     FROM persons p JOIN readers r ON r.person = p.id WHERE r.user = ?1 AND p.ended = 0";

fn person_row(row: &Row<'_>) -> rusqlite::Result<Person> {
    Ok(Person {
        id: row.get(0)?,
        name: row.get(1)?,
        reading: row.get(2)?,
        about: row.get(3)?,
        newest: row.get(4)?,
        notes: row.get(5)?,
    })
}

/// The persons a user may read, those with the newest notes first.
///
/// # Errors
/// When the database fails.
pub fn persons(connection: &Connection, user: &str) -> rusqlite::Result<Vec<Person>> {
    connection
        .prepare_cached(&format!("{PERSON} ORDER BY 5 DESC, p.id"))?
        .query_map([user], person_row)?
        .collect()
}

/// One person, if the user may read it and support has not ended.
///
/// # Errors
/// When the database fails.
pub fn person(connection: &Connection, user: &str, id: &str) -> rusqlite::Result<Option<Person>> {
    connection
        .prepare_cached(&format!("{PERSON} AND p.id = ?2"))?
        .query_row([user, id], person_row)
        .optional()
}

/// A person's notes, newest first.
///
/// # Errors
/// When the database fails.
pub fn notes(connection: &Connection, person: &str, limit: u32) -> rusqlite::Result<Vec<Note>> {
    let mut notes: Vec<Note> = connection
        .prepare_cached(
            "SELECT id, person, author, author_name, job, time, text FROM notes WHERE person = ?1
             ORDER BY time DESC, rowid DESC LIMIT ?2",
        )?
        .query_map(params![person, limit], |row| {
            Ok(Note {
                id: row.get(0)?,
                person: row.get(1)?,
                author: row.get(2)?,
                author_name: row.get(3)?,
                job: row.get(4)?,
                time: row.get(5)?,
                text: row.get(6)?,
                attachments: Vec::new(),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    for note in &mut notes {
        note.attachments = connection
            .prepare_cached("SELECT id, name, media_type, size, sha256 FROM attachments WHERE note = ?1 ORDER BY rowid")?
            .query_map([&note.id], attachment_row)?
            .collect::<rusqlite::Result<_>>()?;
    }
    Ok(notes)
}

fn attachment_row(row: &Row<'_>) -> rusqlite::Result<Attachment> {
    Ok(Attachment {
        id: row.get(0)?,
        name: row.get(1)?,
        media_type: row.get(2)?,
        size: row.get(3)?,
        sha256: row.get(4)?,
    })
}

/// Stores a note with its attachments and announces it.
///
/// # Errors
/// When the database fails.
pub fn add_note(connection: &Connection, note: &Note) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO notes (id, person, author, author_name, job, time, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![note.id, note.person, note.author, note.author_name, note.job, note.time, note.text])?;
    for file in &note.attachments {
        connection.execute(
            "INSERT INTO attachments (id, note, name, media_type, size, sha256) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![file.id, note.id, file.name, file.media_type, file.size, file.sha256],
        )?;
    }
    events::note(connection, note)
}

/// Removes a note; returns the ids of its attachments, or nothing if there is no such note.
///
/// # Errors
/// When the database fails.
pub fn delete_note(connection: &Connection, note: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let files: Vec<String> = connection
        .prepare_cached("SELECT id FROM attachments WHERE note = ?1")?
        .query_map([note], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if connection.execute("DELETE FROM notes WHERE id = ?1", [note])? == 0 {
        return Ok(None);
    }
    events::note_deleted(connection, note)?;
    Ok(Some(files))
}

/// An attachment, if the user may read its person.
///
/// # Errors
/// When the database fails.
pub fn attachment_for_user(
    connection: &Connection,
    user: &str,
    id: &str,
) -> rusqlite::Result<Option<Attachment>> {
    connection
        .prepare_cached(
            "SELECT a.id, a.name, a.media_type, a.size, a.sha256 FROM attachments a
             JOIN notes n ON n.id = a.note JOIN persons p ON p.id = n.person JOIN readers r ON r.person = p.id
             WHERE a.id = ?2 AND r.user = ?1 AND p.ended = 0",
        )?
        .query_row([user, id], attachment_row)
        .optional()
}

/// An attachment, if anyone at the facility may read its person.
///
/// # Errors
/// When the database fails.
pub fn attachment_for_facility(
    connection: &Connection,
    facility: &str,
    id: &str,
) -> rusqlite::Result<Option<Attachment>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT a.id, a.name, a.media_type, a.size, a.sha256 FROM attachments a
             JOIN notes n ON n.id = a.note JOIN persons p ON p.id = n.person
             JOIN readers r ON r.person = p.id JOIN users u ON u.id = r.user
             WHERE a.id = ?2 AND u.facility = ?1 AND p.ended = 0",
        )?
        .query_row([facility, id], attachment_row)
        .optional()
}

/// Ends the support of a person (Art. 14): notes, attachments and the name go at once; returns the attachments' ids,
/// or nothing if there is no such person or support had ended before.
///
/// # Errors
/// When the database fails.
pub fn end_support(connection: &Connection, person: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let files: Vec<String> = connection
        .prepare_cached(
            "SELECT a.id FROM attachments a JOIN notes n ON n.id = a.note WHERE n.person = ?1",
        )?
        .query_map([person], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let facilities = events::facilities_of(connection, person)?;
    let changed = connection.execute(
        "UPDATE persons SET ended = 1, name = '支援中止', reading = '', about = '' WHERE id = ?1 AND ended = 0",
        [person],
    )?;
    if changed == 0 {
        return Ok(None);
    }
    connection.execute("DELETE FROM notes WHERE person = ?1", [person])?;
    for facility in facilities {
        events::person_ended_at(connection, person, &facility)?;
    }
    Ok(Some(files))
}

/// Permits or forbids a user to read a person; tells the facility what that changes. False if either is unknown.
///
/// # Errors
/// When the database fails.
pub fn permit(
    connection: &Connection,
    person: &str,
    user_id: &str,
    may: bool,
) -> rusqlite::Result<bool> {
    let known: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM persons WHERE id = ?1 AND ended = 0)",
        [person],
        |row| row.get(0),
    )?;
    let Some(user) = user(connection, user_id)?.filter(|_| known) else {
        return Ok(false);
    };
    let held_before = events::facilities_of(connection, person)?.contains(&user.facility);
    let statement = if may {
        "INSERT OR IGNORE INTO readers (person, user) VALUES (?1, ?2)"
    } else {
        "DELETE FROM readers WHERE person = ?1 AND user = ?2"
    };
    connection.execute(statement, [person, user_id])?;
    let holds_now = events::facilities_of(connection, person)?.contains(&user.facility);
    if holds_now {
        events::person_to(connection, person, &user.facility)?;
    } else if held_before {
        events::person_ended_at(connection, person, &user.facility)?;
    }
    if holds_now && !held_before {
        for note in notes(connection, person, u32::MAX)?.iter().rev() {
            events::note_to(connection, note, &user.facility)?;
        }
    }
    Ok(true)
}

/// The notices in force, newest first; member-only ones only if asked for.
///
/// # Errors
/// When the database fails.
pub fn notices(connection: &Connection, now: i64, members: bool) -> rusqlite::Result<Vec<Notice>> {
    connection
        .prepare_cached(
            "SELECT id, title, text, members_only, time, until FROM notices
             WHERE (until IS NULL OR until > ?1) AND (members_only = 0 OR ?2) ORDER BY time DESC, id",
        )?
        .query_map(params![now, members], notice_row)?
        .collect()
}

fn notice_row(row: &Row<'_>) -> rusqlite::Result<Notice> {
    Ok(Notice {
        id: row.get(0)?,
        title: row.get(1)?,
        text: row.get(2)?,
        members_only: row.get(3)?,
        time: row.get(4)?,
        until: row.get(5)?,
    })
}

/// Publishes a notice.
///
/// # Errors
/// When the database fails.
pub fn add_notice(connection: &Connection, notice: &Notice) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO notices (id, title, text, members_only, time, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![notice.id, notice.title, notice.text, notice.members_only, notice.time, notice.until],
    )?;
    events::notice(connection, notice)
}

/// Takes a notice down at once: the feed repeats it with an end that has passed. False if there is none.
///
/// # Errors
/// When the database fails.
pub fn withdraw_notice(connection: &Connection, id: &str, now: i64) -> rusqlite::Result<bool> {
    let found = connection
        .prepare_cached(
            "SELECT id, title, text, members_only, time, until FROM notices WHERE id = ?1",
        )?
        .query_row([id], notice_row)
        .optional()?;
    let Some(mut notice) = found else {
        return Ok(false);
    };
    notice.until = Some(now);
    add_notice(connection, &notice)?;
    Ok(true)
}
