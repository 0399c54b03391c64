//! What the city keeps of each box's audit log: the log and key it saw first, every checkpoint it accepted, and what it
//! refused. A box is known by its facility certificate and those that renewed it, so that two boxes of one facility have a log
//! each.
//!
//! Judges the order of checkpoints; signatures are checked by the caller.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::access;

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
    serial: &str,
    checkpoint: &Checkpoint,
    now: i64,
) -> rusqlite::Result<Result<(), Refusal>> {
    let its_box = access::box_of(connection, serial)?;
    let pinned: Option<(Vec<u8>, Vec<u8>)> = connection
        .prepare_cached("SELECT log, key FROM audit_pins WHERE facility = ?1 AND box = ?2")?
        .query_row([facility, &its_box], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let judged = match pinned {
        // A certificate for a new number is the city's word that a box may begin anew; so is a pin taken away.
        None => Ok(true),
        Some((log, key)) if log == checkpoint.log && key == checkpoint.key => {
            order(connection, facility, checkpoint)?.map(|()| false)
        }
        Some((log, _)) if log != checkpoint.log => Err(Refusal::OtherLog),
        Some(_) => Err(Refusal::OtherKey),
    };
    match judged {
        Ok(anew) => {
            if anew {
                connection.execute(
                    "INSERT OR REPLACE INTO audit_pins (facility, box, log, key, pinned) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![facility, its_box, checkpoint.log, checkpoint.key, now],
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

/// A person at the city has looked into it: the next log and key of each box are taken as its own. False if none was pinned.
///
/// # Errors
/// When the database fails.
pub fn forget_pin(connection: &Connection, facility: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM audit_pins WHERE facility = ?1", [facility])? > 0)
}

/// The boxes of a facility that have a log: the serial of their first certificate, and the log.
///
/// # Errors
/// When the database fails.
pub fn boxes(connection: &Connection, facility: &str) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    connection
        .prepare_cached("SELECT box, log FROM audit_pins WHERE facility = ?1 ORDER BY box")?
        .query_map([facility], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// One facility's checkpoints, or of one log of it, oldest first: key, message, signature.
///
/// # Errors
/// When the database fails.
#[expect(clippy::type_complexity, reason = "three columns of bytes")]
pub fn kept(
    connection: &Connection,
    facility: &str,
    log: Option<&[u8]>,
) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>> {
    connection
        .prepare_cached(
            "SELECT key, message, signature FROM audit_checkpoints
             WHERE facility = ?1 AND (?2 IS NULL OR log = ?2) ORDER BY rowid",
        )?
        .query_map(params![facility, log], |row| {
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
