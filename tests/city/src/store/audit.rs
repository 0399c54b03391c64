//! What the city keeps of each facility's audit log: the log and key it saw first, every checkpoint it accepted, and what it
//! refused.
//!
//! Judges the order of checkpoints; signatures are checked by the caller.

use rusqlite::{Connection, OptionalExtension as _, params};

/// A checkpoint as it was handed in, its form and signature checked.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its number.
    pub sequence: i64,
    /// Entries in the log.
    pub count: i64,
    /// Hash of the last.
    pub head: Vec<u8>,
    /// Which log.
    pub log: Vec<u8>,
    /// The signing key, SubjectPublicKeyInfo.
    pub key: Vec<u8>,
    /// The signed bytes.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Why a checkpoint is not accepted, as the interface says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a checkpoint, or not signed by the key with it.
    Signature,
    /// It names another facility.
    OtherFacility,
    /// Another log than the one pinned.
    OtherLog,
    /// Another key than the one pinned.
    OtherKey,
    /// Fewer entries, or an older number, than the city has seen: cut off or put back.
    SmallerCount,
    /// The same number of entries with another hash: made anew.
    DifferentHead,
}

impl Refusal {
    /// The word in the interface.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::OtherFacility => "other-facility",
            Self::OtherLog => "other-log",
            Self::OtherKey => "other-key",
            Self::SmallerCount => "smaller-count",
            Self::DifferentHead => "different-head",
        }
    }
}

/// Judges a checkpoint against what is kept, and keeps it if it fits. What does not fit is kept as a fault.
///
/// # Errors
/// When the database fails.
pub fn accept(
    connection: &Connection,
    facility: &str,
    checkpoint: &Checkpoint,
    now: i64,
) -> rusqlite::Result<Result<(), Refusal>> {
    let pinned: Option<(Vec<u8>, Vec<u8>, i64)> = connection
        .prepare_cached("SELECT log, key, pinned FROM audit_logs WHERE facility = ?1")?
        .query_row([facility], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let judged = match pinned {
        None => Ok(true),
        Some((log, key, _)) if log == checkpoint.log && key == checkpoint.key => {
            order(connection, facility, checkpoint)?.map(|()| false)
        }
        // A number handed out since then is the city's word that this box may begin anew.
        Some((_, _, pinned)) if enrolled_since(connection, facility, pinned)? => Ok(true),
        Some((log, _, _)) if log != checkpoint.log => Err(Refusal::OtherLog),
        Some(_) => Err(Refusal::OtherKey),
    };
    match judged {
        Ok(anew) => {
            if anew {
                connection.execute(
                    "INSERT OR REPLACE INTO audit_logs (facility, log, key, pinned) VALUES (?1, ?2, ?3, ?4)",
                    params![facility, checkpoint.log, checkpoint.key, now],
                )?;
            }
            connection.execute(
                "INSERT OR IGNORE INTO audit_checkpoints
                     (facility, log, sequence, count, head, key, message, signature, received)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    facility,
                    checkpoint.log,
                    checkpoint.sequence,
                    checkpoint.count,
                    checkpoint.head,
                    checkpoint.key,
                    checkpoint.message,
                    checkpoint.signature,
                    now
                ],
            )?;
            Ok(Ok(()))
        }
        Err(refusal) => {
            raise(connection, facility, refusal, &checkpoint.message, now)?;
            Ok(Err(refusal))
        }
    }
}

/// Holds a checkpoint of the pinned log against the newest one kept.
fn order(
    connection: &Connection,
    facility: &str,
    checkpoint: &Checkpoint,
) -> rusqlite::Result<Result<(), Refusal>> {
    let newest: Option<(i64, i64, Vec<u8>, Vec<u8>)> = connection
        .prepare_cached(
            "SELECT sequence, count, head, message FROM audit_checkpoints
             WHERE facility = ?1 AND log = ?2 ORDER BY sequence DESC LIMIT 1",
        )?
        .query_row(params![facility, checkpoint.log], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    Ok(match newest {
        // The answer to the first time was lost on the way.
        Some((_, _, _, message)) if message == checkpoint.message => Ok(()),
        Some((_, count, head, _)) if checkpoint.count == count && checkpoint.head != head => {
            Err(Refusal::DifferentHead)
        }
        Some((sequence, count, _, _))
            if checkpoint.count < count || checkpoint.sequence <= sequence =>
        {
            Err(Refusal::SmallerCount)
        }
        _ => Ok(()),
    })
}

fn enrolled_since(connection: &Connection, facility: &str, pinned: i64) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM certificates WHERE facility = ?1 AND purpose = 'facility'
             AND origin IN ('number', 'pkcs12') AND issued > ?2)",
        params![facility, pinned],
        |row| row.get(0),
    )
}

/// Keeps a fault for the people at the city.
///
/// # Errors
/// When the database fails.
pub fn raise(
    connection: &Connection,
    facility: &str,
    refusal: Refusal,
    message: &[u8],
    now: i64,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO audit_faults (facility, reason, message, time) VALUES (?1, ?2, ?3, ?4)",
        params![facility, refusal.word(), message, now],
    )?;
    Ok(())
}

/// A person at the city has looked into it: the next log and key are taken as the facility's. False if none was pinned.
///
/// # Errors
/// When the database fails.
pub fn forget_pin(connection: &Connection, facility: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM audit_logs WHERE facility = ?1", [facility])? > 0)
}

/// One facility's checkpoints, oldest first: key, message, signature.
///
/// # Errors
/// When the database fails.
#[expect(clippy::type_complexity, reason = "three columns of bytes")]
pub fn kept(
    connection: &Connection,
    facility: &str,
) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>> {
    connection
        .prepare_cached(
            "SELECT key, message, signature FROM audit_checkpoints WHERE facility = ?1 ORDER BY rowid",
        )?
        .query_map([facility], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect()
}

/// One facility's faults, oldest first: reason, time.
///
/// # Errors
/// When the database fails.
pub fn faults(connection: &Connection, facility: &str) -> rusqlite::Result<Vec<(String, i64)>> {
    connection
        .prepare_cached("SELECT reason, time FROM audit_faults WHERE facility = ?1 ORDER BY rowid")?
        .query_map([facility], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// The newest checkpoint: number and entries.
///
/// # Errors
/// When the database fails.
pub fn newest(connection: &Connection, facility: &str) -> rusqlite::Result<Option<(i64, i64)>> {
    connection
        .prepare_cached(
            "SELECT sequence, count FROM audit_checkpoints WHERE facility = ?1 ORDER BY rowid DESC LIMIT 1",
        )?
        .query_row([facility], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}
