//! What boxes report, and the answers they got, so that the same report sent twice is one report.
//!
//! Does not judge a report.

use rusqlite::{Connection, OptionalExtension as _, params};

/// What became of a report that was handed in under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filed {
    /// New: this is the answer that was stored.
    Now,
    /// The same report was filed before; this was the answer.
    Before(String),
    /// Another report was filed under this key.
    KeyReused,
}

/// Files a report.
///
/// # Errors
/// When the database fails.
pub fn file(
    connection: &Connection,
    facility: &str,
    kind: &str,
    key: &str,
    (body, answer): (&str, &str),
    now: i64,
) -> rusqlite::Result<Filed> {
    let digest = crate::secrets::sha256(body.as_bytes());
    let before: Option<(Vec<u8>, String)> = connection
        .query_row(
            "SELECT digest, answer FROM reports WHERE facility = ?1 AND kind = ?2 AND key = ?3",
            [facility, kind, key],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    match before {
        Some((same, answer)) if same == digest => Ok(Filed::Before(answer)),
        Some(_) => Ok(Filed::KeyReused),
        None => {
            connection.execute(
                "INSERT INTO reports (facility, kind, key, digest, body, answer, time)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![facility, kind, key, digest, body, answer, now],
            )?;
            Ok(Filed::Now)
        }
    }
}

/// Whether something was filed under this key.
///
/// # Errors
/// When the database fails.
pub fn is_filed(
    connection: &Connection,
    facility: &str,
    kind: &str,
    key: &str,
) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM reports WHERE facility = ?1 AND kind = ?2 AND key = ?3)",
        [facility, kind, key],
        |row| row.get(0),
    )
}

/// How many reports of each kind there are, and the newest body of each, for the tests' control port.
///
/// # Errors
/// When the database fails.
pub fn counts(connection: &Connection) -> rusqlite::Result<Vec<(String, i64, String)>> {
    connection
        .prepare_cached(
            "SELECT kind, count(*), body, max(rowid) FROM reports GROUP BY kind ORDER BY kind",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}
