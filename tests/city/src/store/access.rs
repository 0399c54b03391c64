//! Certificates, suspensions and sessions: what decides whether someone may come in.
//!
//! Answers questions about rows; the refusals are worded in `problem`.

use super::events;
use rusqlite::{Connection, OptionalExtension as _, params};

/// What the city knows of a certificate it once signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In force, its facility too.
    Good,
    /// Not in the register, or not a facility certificate.
    Unknown,
    /// Past its end. A resumed session can outlive the certificate it began with.
    Expired,
    /// Revoked.
    Revoked,
    /// The facility is suspended (Art. 35).
    FacilitySuspended,
}

/// Looks a facility certificate up.
///
/// # Errors
/// When the database fails.
pub fn standing(connection: &Connection, serial: &str, now: i64) -> rusqlite::Result<Standing> {
    let found: Option<(Option<i64>, i64, bool)> = connection
        .prepare_cached(
            "SELECT c.revoked, c.not_after, f.suspended FROM certificates c JOIN facilities f ON f.id = c.facility
             WHERE c.serial = ?1 AND c.purpose = 'facility'",
        )?
        .query_row([serial], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(match found {
        None => Standing::Unknown,
        Some((Some(_), _, _)) => Standing::Revoked,
        Some((None, end, _)) if end <= now => Standing::Expired,
        Some((None, _, true)) => Standing::FacilitySuspended,
        Some((None, _, false)) => Standing::Good,
    })
}

/// A certificate to be put into the register.
#[derive(Debug)]
pub struct Registered<'a> {
    /// The signed certificate.
    pub issued: &'a crate::ca::Issued,
    /// Holder.
    pub facility: &'a str,
    /// `facility` or `lan`.
    pub purpose: &'a str,
    /// SHA-256 of the public key.
    pub spki: &'a [u8],
    /// `number`, `renewal`, `lan` or `pkcs12`.
    pub origin: &'a str,
    /// Whether attestation evidence came with the request (recorded, not judged).
    pub evidence: bool,
}

/// Notes that `serial` is the next certificate of the box that `old` belongs to.
///
/// # Errors
/// When the database fails.
pub fn succeeds(connection: &Connection, serial: &str, old: &str) -> rusqlite::Result<()> {
    let first = box_of(connection, old)?;
    connection.execute(
        "INSERT OR REPLACE INTO boxes (serial, box) VALUES (?1, ?2)",
        params![serial, first],
    )?;
    Ok(())
}

/// The box that a certificate belongs to: the serial of the first one in the line of renewals.
///
/// # Errors
/// When the database fails.
pub fn box_of(connection: &Connection, serial: &str) -> rusqlite::Result<String> {
    let first = connection
        .prepare_cached("SELECT box FROM boxes WHERE serial = ?1")?
        .query_row([serial], |row| row.get(0))
        .optional()?;
    Ok(first.unwrap_or_else(|| serial.to_owned()))
}

/// Puts a certificate into the register.
///
/// # Errors
/// When the database fails.
pub fn register(
    connection: &Connection,
    certificate: &Registered<'_>,
    now: i64,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO certificates (serial, facility, purpose, spki, der, issued, not_after, origin, evidence)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            certificate.issued.serial,
            certificate.facility,
            certificate.purpose,
            certificate.spki,
            certificate.issued.der,
            now,
            certificate.issued.not_after,
            certificate.origin,
            certificate.evidence,
        ],
    )?;
    Ok(())
}

/// Whether any certificate was ever signed for this key (SHA-256 of the SPKI).
///
/// # Errors
/// When the database fails.
pub fn key_known(connection: &Connection, spki: &[u8]) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM certificates WHERE spki = ?1)",
        [spki],
        |row| row.get(0),
    )
}

/// Revokes one certificate; false if it is unknown or was revoked before.
///
/// # Errors
/// When the database fails.
pub fn revoke(connection: &Connection, serial: &str, now: i64) -> rusqlite::Result<bool> {
    let changed = connection.execute(
        "UPDATE certificates SET revoked = ?2 WHERE serial = ?1 AND revoked IS NULL",
        params![serial, now],
    )?;
    Ok(changed > 0)
}

/// Revokes every certificate of a facility; returns how many.
///
/// # Errors
/// When the database fails.
pub fn revoke_facility(
    connection: &Connection,
    facility: &str,
    now: i64,
) -> rusqlite::Result<usize> {
    connection.execute(
        "UPDATE certificates SET revoked = ?2 WHERE facility = ?1 AND revoked IS NULL",
        params![facility, now],
    )
}

/// Suspends a facility or lifts that; false if it is unknown.
///
/// # Errors
/// When the database fails.
pub fn suspend_facility(
    connection: &Connection,
    facility: &str,
    suspended: bool,
) -> rusqlite::Result<bool> {
    if connection.execute(
        "UPDATE facilities SET suspended = ?2 WHERE id = ?1",
        params![facility, suspended],
    )? == 0
    {
        return Ok(false);
    }
    events::facility(connection, facility)?;
    Ok(true)
}

/// Suspends a user or lifts that, ending all of the user's sessions; false if unknown.
///
/// # Errors
/// When the database fails.
pub fn suspend_user(
    connection: &Connection,
    user: &str,
    suspended: bool,
) -> rusqlite::Result<bool> {
    if connection.execute(
        "UPDATE users SET suspended = ?2 WHERE id = ?1",
        params![user, suspended],
    )? == 0
    {
        return Ok(false);
    }
    if suspended {
        connection.execute("DELETE FROM sessions WHERE user = ?1", [user])?;
    }
    events::staff(connection, user)?;
    Ok(true)
}

/// A session as stored.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// User id.
    pub user: String,
    /// The facility the session was opened at.
    pub facility: String,
    /// Token that forms must carry.
    pub csrf: String,
    /// Unix seconds of its end.
    pub until: i64,
}

/// Opens a session under the hash of its cookie and clears away those that have run out.
///
/// # Errors
/// When the database fails.
pub fn open_session(
    connection: &Connection,
    token: &[u8],
    session: &SessionRow,
    now: i64,
) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM sessions WHERE until <= ?1", [now])?;
    connection.execute(
        "INSERT INTO sessions (token, user, facility, csrf, until) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            token,
            session.user,
            session.facility,
            session.csrf,
            session.until
        ],
    )?;
    Ok(())
}

/// The session of a cookie, if it has not run out.
///
/// # Errors
/// When the database fails.
pub fn session(
    connection: &Connection,
    token: &[u8],
    now: i64,
) -> rusqlite::Result<Option<SessionRow>> {
    connection
        .prepare_cached(
            "SELECT user, facility, csrf, until FROM sessions WHERE token = ?1 AND until > ?2",
        )?
        .query_row(params![token, now], |row| {
            Ok(SessionRow {
                user: row.get(0)?,
                facility: row.get(1)?,
                csrf: row.get(2)?,
                until: row.get(3)?,
            })
        })
        .optional()
}

/// Ends a session.
///
/// # Errors
/// When the database fails.
pub fn close_session(connection: &Connection, token: &[u8]) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM sessions WHERE token = ?1", [token])?;
    Ok(())
}
