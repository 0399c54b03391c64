//! The log the feed is read from: one row per facility and event, sequence numbers only ever rising.
//!
//! A row that a later one makes void (an older state of a person, every note of a person whose support ended) is
//! removed, so that a replay from the beginning yields today's state and never what was deleted.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::json;

/// One event as the feed sends it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Position in the log.
    pub seq: i64,
    /// Event name, such as `note`.
    pub kind: String,
    /// JSON body.
    pub body: String,
}

/// The highest sequence number ever given out, also if its row is gone.
///
/// # Errors
/// When the database fails.
pub fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?
        .query_row([], |row| row.get(0))
        .optional()
        .map(|found| found.unwrap_or(0))
}

/// The log's random name; ids of another log (a city set up anew) are not understood.
///
/// # Errors
/// When the database fails.
pub fn epoch(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT value FROM meta WHERE name = 'epoch'", [], |row| {
        row.get(0)
    })
}

/// The oldest position a feed may be resumed from.
///
/// # Errors
/// When the database fails.
pub fn horizon(connection: &Connection) -> rusqlite::Result<i64> {
    let found: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE name = 'horizon'", [], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(found.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Forgets the way here: a feed older than now has to start again from nothing.
///
/// # Errors
/// When the database fails.
pub fn forget(connection: &Connection) -> rusqlite::Result<()> {
    let newest = newest(connection)?;
    connection.execute(
        "DELETE FROM events WHERE kind IN ('note-deleted', 'person-ended', 'hint')",
        [],
    )?;
    connection.execute(
        "INSERT OR REPLACE INTO meta (name, value) VALUES ('horizon', ?1)",
        [newest.to_string()],
    )?;
    Ok(())
}

/// Up to `limit` events of a facility after `after`.
///
/// # Errors
/// When the database fails.
pub fn after(
    connection: &Connection,
    facility: &str,
    after: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Event>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, kind, body FROM events WHERE facility = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let rows = statement.query_map(params![facility, after, limit], |row| {
        Ok(Event {
            seq: row.get(0)?,
            kind: row.get(1)?,
            body: row.get(2)?,
        })
    })?;
    rows.collect()
}

fn append(
    connection: &Connection,
    facility: &str,
    kind: &str,
    subject: &str,
    body: &serde_json::Value,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO events (facility, kind, subject, body) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![facility, kind, subject, body.to_string()])?;
    Ok(())
}

fn supersede(
    connection: &Connection,
    facility: &str,
    kind: &str,
    subject: &str,
    body: &serde_json::Value,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM events WHERE subject = ?3 AND kind = ?2 AND facility = ?1")?
        .execute(params![facility, kind, subject])?;
    append(connection, facility, kind, subject, body)
}

/// The facilities at which at least one user may read `person`.
///
/// # Errors
/// When the database fails.
pub fn facilities_of(connection: &Connection, person: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT u.facility FROM readers r JOIN users u ON u.id = r.user WHERE r.person = ?1 ORDER BY 1",
        )?
        .query_map([person], |row| row.get(0))?
        .collect()
}

/// Announces a person's present state to every facility that may hold it; each sees only its own readers.
///
/// # Errors
/// When the database fails.
pub fn person(connection: &Connection, person: &str) -> rusqlite::Result<()> {
    for facility in facilities_of(connection, person)? {
        person_to(connection, person, &facility)?;
    }
    Ok(())
}

/// Announces a person's present state to one facility.
///
/// # Errors
/// When the database fails.
pub fn person_to(connection: &Connection, person: &str, facility: &str) -> rusqlite::Result<()> {
    let (name, ended): (String, bool) = connection.query_row(
        "SELECT name, ended FROM persons WHERE id = ?1",
        [person],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let readers: Vec<String> = connection
        .prepare_cached(
            "SELECT r.user FROM readers r JOIN users u ON u.id = r.user
             WHERE r.person = ?1 AND u.facility = ?2 ORDER BY r.user",
        )?
        .query_map([person, facility], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let body =
        json!({ "id": person, "display_name": name, "readers": readers, "support_ended": ended });
    supersede(connection, facility, "person", person, &body)
}

/// Announces a note to the facilities of its person.
///
/// # Errors
/// When the database fails.
pub fn note(connection: &Connection, note: &super::people::Note) -> rusqlite::Result<()> {
    for facility in facilities_of(connection, &note.person)? {
        note_to(connection, note, &facility)?;
    }
    Ok(())
}

/// Announces a note to one facility.
///
/// # Errors
/// When the database fails.
pub fn note_to(
    connection: &Connection,
    note: &super::people::Note,
    facility: &str,
) -> rusqlite::Result<()> {
    supersede(connection, facility, "note", &note.id, &note.to_json())
}

/// Announces that a note is gone, and forgets that it was.
///
/// # Errors
/// When the database fails.
pub fn note_deleted(connection: &Connection, note: &str) -> rusqlite::Result<()> {
    let told: Vec<String> = connection
        .prepare_cached(
            "SELECT DISTINCT facility FROM events WHERE subject = ?1 AND kind = 'note'",
        )?
        .query_map([note], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    connection.execute(
        "DELETE FROM events WHERE subject = ?1 AND kind = 'note'",
        [note],
    )?;
    for facility in told {
        append(
            connection,
            &facility,
            "note-deleted",
            note,
            &json!({ "id": note }),
        )?;
    }
    Ok(())
}

/// Announces to one facility that it must not hold a person any longer, and forgets what it was told.
///
/// # Errors
/// When the database fails.
pub fn person_ended_at(
    connection: &Connection,
    person: &str,
    facility: &str,
) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM events WHERE facility = ?2 AND (
             (kind = 'person' AND subject = ?1)
             OR (kind IN ('note', 'note-deleted') AND json_extract(body, '$.person') = ?1))",
        [person, facility],
    )?;
    append(
        connection,
        facility,
        "person-ended",
        person,
        &json!({ "id": person }),
    )
}

/// Announces a user's present state to the user's facility.
///
/// # Errors
/// When the database fails.
pub fn staff(connection: &Connection, user: &str) -> rusqlite::Result<()> {
    let (facility, name, role, suspended): (String, String, String, bool) = connection.query_row(
        "SELECT facility, name, role, suspended FROM users WHERE id = ?1",
        [user],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let body = json!({ "id": user, "display_name": name, "role": role, "suspended": suspended });
    supersede(connection, &facility, "staff", user, &body)
}

/// Announces a facility's present state to itself.
///
/// # Errors
/// When the database fails.
pub fn facility(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    let (name, suspended): (String, bool) = connection.query_row(
        "SELECT name, suspended FROM facilities WHERE id = ?1",
        [id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    supersede(
        connection,
        id,
        "facility",
        id,
        &json!({ "id": id, "name": name, "suspended": suspended }),
    )
}

/// Announces a notice to every facility.
///
/// # Errors
/// When the database fails.
pub fn notice(connection: &Connection, notice: &super::people::Notice) -> rusqlite::Result<()> {
    for facility in every_facility(connection)? {
        supersede(
            connection,
            &facility,
            "notice",
            &notice.id,
            &notice.to_json(),
        )?;
    }
    Ok(())
}

/// Tells every facility to look at the signed repository now.
///
/// # Errors
/// When the database fails.
pub fn hint(connection: &Connection, what: &str) -> rusqlite::Result<()> {
    every_facility(connection)?
        .iter()
        .try_for_each(|facility| hint_to(connection, facility, what))
}

/// The same to one facility.
///
/// # Errors
/// When the database fails.
pub fn hint_to(connection: &Connection, facility: &str, what: &str) -> rusqlite::Result<()> {
    let body = json!({ "what": what });
    supersede(connection, facility, "hint", what, &body)
}

fn every_facility(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT id FROM facilities ORDER BY id")?
        .query_map([], |row| row.get(0))?
        .collect()
}
