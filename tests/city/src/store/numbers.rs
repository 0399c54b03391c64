//! Certificate numbers: one-time use per (number, key), attempts, approval by hand.
//!
//! Never sees a number or a code in the clear, only the keyed hash of the one; the other is compared by the caller.

use super::access::{self, Registered};
use crate::ca::Issued;
use crate::secrets::SaltedHash;
use rusqlite::{Connection, OptionalExtension as _, params};

/// Wrong codes after which a number is locked.
pub const WRONG_CODES: i64 = 5;

/// For how long the same key may fetch the same certificate again, in seconds.
pub const SAME_KEY_SECONDS: i64 = 24 * 60 * 60;

/// Names that do not exist are counted too; this many at most, so that guessing cannot fill the disk.
const ATTEMPT_ROWS: i64 = 10_000;

/// A number as the city issues it.
#[derive(Debug, Clone)]
pub struct NewNumber {
    /// Keyed hash of the number.
    pub key: Vec<u8>,
    /// Salted hash of the access code.
    pub code: SaltedHash,
    /// Facility it was issued to.
    pub facility: String,
    /// Unix seconds after which it is refused.
    pub expires: i64,
    /// Whether someone at the city must approve the request.
    pub manual: bool,
}

/// What stands in the register under a number.
#[derive(Debug, Clone)]
pub struct NumberRow {
    /// Salted hash of the access code.
    pub code: SaltedHash,
    /// Facility it was issued to.
    pub facility: String,
    /// Unix seconds after which it is refused.
    pub expires: i64,
    /// Whether someone at the city must approve.
    pub manual: bool,
    /// Whether someone has.
    pub approved: bool,
    /// SHA-256 of the public key that used it or waits for approval.
    pub spki: Option<Vec<u8>>,
    /// Unix seconds of the issue.
    pub used: Option<i64>,
    /// The certificate it was used for.
    pub certificate: Option<Vec<u8>>,
}

/// Puts a number into the register.
///
/// # Errors
/// When the database fails.
pub fn add(connection: &Connection, number: &NewNumber) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO numbers (key, salt, hash, facility, expires, manual, approved)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
        params![
            number.key,
            number.code.salt,
            number.code.hash,
            number.facility,
            number.expires,
            number.manual
        ],
    )?;
    Ok(())
}

/// Finds a number.
///
/// # Errors
/// When the database fails.
pub fn find(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<NumberRow>> {
    connection
        .query_row(
            "SELECT n.salt, n.hash, n.facility, n.expires, n.manual, n.approved, n.spki, n.used, c.der
             FROM numbers n LEFT JOIN certificates c ON c.serial = n.serial WHERE n.key = ?1",
            [key],
            |row| {
                Ok(NumberRow {
                    code: SaltedHash { salt: row.get(0)?, hash: row.get(1)? },
                    facility: row.get(2)?,
                    expires: row.get(3)?,
                    manual: row.get(4)?,
                    approved: row.get(5)?,
                    spki: row.get(6)?,
                    used: row.get(7)?,
                    certificate: row.get(8)?,
                })
            },
        )
        .optional()
}

/// Wrong codes so far.
///
/// # Errors
/// When the database fails.
pub fn failures(connection: &Connection, key: &[u8]) -> rusqlite::Result<i64> {
    connection
        .query_row(
            "SELECT failures FROM attempts WHERE key = ?1",
            [key],
            |row| row.get(0),
        )
        .optional()
        .map(|found| found.unwrap_or(0))
}

/// Counts a wrong code.
///
/// # Errors
/// When the database fails.
pub fn count_failure(connection: &Connection, key: &[u8], now: i64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO attempts (key, failures, last) VALUES (?1, 1, ?2)
         ON CONFLICT (key) DO UPDATE SET failures = failures + 1, last = ?2",
        params![key, now],
    )?;
    connection.execute(
        "DELETE FROM attempts WHERE key NOT IN (SELECT key FROM numbers)
         AND key NOT IN (SELECT key FROM attempts ORDER BY last DESC LIMIT ?1)",
        [ATTEMPT_ROWS],
    )?;
    Ok(())
}

/// Forgets the wrong codes before a right one, so that typing errors of months do not add up to a lock.
///
/// # Errors
/// When the database fails.
pub fn clear_failures(connection: &Connection, key: &[u8]) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM attempts WHERE key = ?1", [key])?;
    Ok(())
}

/// Binds a number that waits for approval to the key that asked first.
///
/// # Errors
/// When the database fails.
pub fn bind(connection: &Connection, key: &[u8], spki: &[u8]) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE numbers SET spki = ?2 WHERE key = ?1 AND spki IS NULL",
        params![key, spki],
    )?;
    Ok(())
}

/// Approves a number; false if it is unknown.
///
/// # Errors
/// When the database fails.
pub fn approve(connection: &Connection, key: &[u8]) -> rusqlite::Result<bool> {
    Ok(connection.execute("UPDATE numbers SET approved = 1 WHERE key = ?1", [key])? > 0)
}

/// Spends a number: registers the certificate and ties both together in one transaction.
///
/// # Errors
/// When the database fails.
pub fn spend(
    connection: &Connection,
    key: &[u8],
    certificate: &Registered<'_>,
    now: i64,
) -> rusqlite::Result<Option<Issued>> {
    let changed = connection.execute(
        "UPDATE numbers SET spki = ?2, used = ?3, serial = ?4 WHERE key = ?1 AND used IS NULL",
        params![key, certificate.spki, now, certificate.issued.serial],
    )?;
    // Someone else spent it between the look-up and now; the caller looks again.
    if changed == 0 {
        return Ok(None);
    }
    access::register(connection, certificate, now)?;
    Ok(Some(certificate.issued.clone()))
}
