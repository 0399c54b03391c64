//! What the city asked boxes for of their logs of accesses, and what they handed over. Judges the order; hashes are checked by
//! the caller.

use rusqlite::{Connection, OptionalExtension as _, params};

/// A range that was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its name.
    pub id: String,
    /// From this moment, Unix seconds.
    pub from: i64,
    /// Up to and without this one.
    pub to: i64,
    /// The entry that is due next, and the hash of the one before; `None` before the first piece.
    pub next: Option<(i64, Vec<u8>)>,
}

/// One entry as it was handed over, its hash checked.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number.
    pub number: i64,
    /// Its hash.
    pub hash: Vec<u8>,
    /// The line.
    pub line: String,
    /// What was sealed, opened.
    pub record: Option<String>,
}

/// Asks a facility's box. False when there is no such facility.
///
/// # Errors
/// When the database fails.
pub fn ask(
    connection: &Connection,
    facility: &str,
    id: &str,
    (from, to): (i64, i64),
) -> rusqlite::Result<bool> {
    let asked = connection.execute(
        "INSERT INTO access_requests (id, facility, since, until)
         SELECT ?1, id, ?3, ?4 FROM facilities WHERE id = ?2",
        params![id, facility, from, to],
    )?;
    Ok(asked > 0)
}

/// What a facility's box is asked for and has not handed over completely, oldest first.
///
/// # Errors
/// When the database fails.
pub fn open(connection: &Connection, facility: &str) -> rusqlite::Result<Vec<Request>> {
    connection
        .prepare_cached(
            "SELECT id, since, until, next, head FROM access_requests
             WHERE facility = ?1 AND complete = 0 ORDER BY rowid LIMIT 16",
        )?
        .query_map([facility], |row| {
            let next: Option<i64> = row.get(3)?;
            let head: Option<Vec<u8>> = row.get(4)?;
            Ok(Request {
                id: row.get(0)?,
                from: row.get(1)?,
                to: row.get(2)?,
                next: next.zip(head),
            })
        })?
        .collect()
}

/// Whether the city knows another entry of this log under this number.
///
/// # Errors
/// When the database fails.
pub fn differs(
    connection: &Connection,
    facility: &str,
    log: &str,
    entry: &Entry,
) -> rusqlite::Result<bool> {
    let known: Option<Vec<u8>> = connection
        .prepare_cached(
            "SELECT hash FROM access_entries WHERE facility = ?1 AND log = ?2 AND number = ?3",
        )?
        .query_row(params![facility, log, entry.number], |row| row.get(0))
        .optional()?;
    Ok(known.is_some_and(|known| known != entry.hash))
}

/// Keeps a piece, and what is due next.
///
/// # Errors
/// When the database fails.
pub fn keep(
    connection: &Connection,
    facility: &str,
    (request, log): (&str, &str),
    entries: &[Entry],
    last: bool,
) -> rusqlite::Result<()> {
    for entry in entries {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO access_entries (facility, log, number, hash, line, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                facility,
                log,
                entry.number,
                entry.hash,
                entry.line,
                entry.record
            ])?;
    }
    if let Some(end) = entries.last() {
        connection.execute(
            "UPDATE access_requests SET next = ?3, head = ?4 WHERE facility = ?1 AND id = ?2",
            params![facility, request, end.number + 1, end.hash],
        )?;
    }
    connection.execute(
        "UPDATE access_requests SET complete = ?3 WHERE facility = ?1 AND id = ?2",
        params![facility, request, last],
    )?;
    Ok(())
}

/// What came of a request, for the tests' control port: whether it is complete, and the records within its range.
///
/// # Errors
/// When the database fails.
pub fn kept(
    connection: &Connection,
    request: &str,
) -> rusqlite::Result<Option<(bool, Vec<String>)>> {
    let found: Option<(String, bool)> = connection
        .query_row(
            "SELECT facility, complete FROM access_requests WHERE id = ?1",
            [request],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((facility, complete)) = found else {
        return Ok(None);
    };
    let records = connection
        .prepare_cached(
            "SELECT record FROM access_entries WHERE facility = ?1 AND record IS NOT NULL ORDER BY log, number",
        )?
        .query_map([facility], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some((complete, records)))
}
