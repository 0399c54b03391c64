//! The register's file: opened, its tables made, its key kept. What stands in the tables is read and written in
//! [`crate::register`] and [`crate::reports`].

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};
use zeroize::Zeroizing;

use crate::Error;
use crate::secret::{Hasher, random};

const NAME: &str = "register.sqlite";

/// "RGDV", and the version of the tables.
const APPLICATION: i64 = 0x5247_4456;
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE authorities (number INTEGER PRIMARY KEY, certificate BLOB NOT NULL, key TEXT NOT NULL) STRICT;
CREATE TABLE devices (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    manager INTEGER NOT NULL,
    hardware BLOB UNIQUE CHECK (hardware IS NULL OR length(hardware) = 32),
    registered INTEGER NOT NULL,
    approved_by TEXT NOT NULL,
    revoked INTEGER,
    reason TEXT,
    last_seen INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE certificates (
    fingerprint BLOB PRIMARY KEY CHECK (length(fingerprint) = 32),
    device BLOB NOT NULL REFERENCES devices(id) ON DELETE CASCADE,
    of_city INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_of ON certificates(device);
CREATE TABLE nodes (
    device BLOB PRIMARY KEY REFERENCES devices(id) ON DELETE CASCADE,
    key BLOB NOT NULL CHECK (length(key) = 32)
) STRICT, WITHOUT ROWID;
CREATE TABLE counters (
    device BLOB PRIMARY KEY REFERENCES devices(id) ON DELETE CASCADE,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE reports (
    device BLOB PRIMARY KEY REFERENCES devices(id) ON DELETE CASCADE,
    received INTEGER NOT NULL,
    source TEXT NOT NULL,
    report TEXT NOT NULL,
    online INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE media (
    device BLOB NOT NULL REFERENCES devices(id) ON DELETE CASCADE,
    serial TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    before INTEGER NOT NULL,
    PRIMARY KEY (device, serial)
) STRICT, WITHOUT ROWID;
CREATE TABLE declarations (
    device BLOB NOT NULL REFERENCES devices(id) ON DELETE CASCADE,
    check_id TEXT NOT NULL,
    declared INTEGER NOT NULL,
    until INTEGER NOT NULL,
    by TEXT NOT NULL,
    PRIMARY KEY (device, check_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE nights (
    device BLOB NOT NULL REFERENCES devices(id) ON DELETE CASCADE,
    night INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (device, night)
) STRICT, WITHOUT ROWID;
";

/// The open register.
pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) hasher: Hasher,
}

impl Database {
    /// Opens the register in `directory`, making both when they are not there.
    ///
    /// A damaged register is an error and is not replaced: starting with an empty one would make every known device a
    /// stranger, and every revoked one too.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        make_private(directory)?;
        let file = directory.join(NAME);
        make_file(&file)?;
        let connection = Connection::open(&file).map_err(Error::database("open its file"))?;
        prepare(&connection).map_err(Error::database("prepare its file"))?;
        let hasher = Hasher::new(&*hash_key(&connection)?);
        Ok(Self { connection, hasher })
    }
}

/// A directory that only this program's user enters.
fn make_private(directory: &Path) -> Result<(), Error> {
    let failed = |action| {
        move |source| Error::File {
            action,
            path: directory.to_owned(),
            source,
        }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("make"))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed("close"))
}

/// SQLite would make the file readable for the group; made beforehand, its journals take the mode over.
fn make_file(file: &Path) -> Result<(), Error> {
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    match made {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => Err(Error::File {
            action: "make",
            path: file.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    // Few and small writes, each of which matters: a revocation that was confirmed is on the disk.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON; PRAGMA max_page_count = 65536;",
    )?;
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    match (
        number("PRAGMA application_id")?,
        number("PRAGMA user_version")?,
    ) {
        (APPLICATION, VERSION) => Ok(()),
        (0, 0) => connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION};
             PRAGMA user_version = {VERSION}; COMMIT;"
        )),
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB),
            Some("made by another program or a newer version".to_owned()),
        )),
    }
}

/// The key under which identifiers of hardware are hashed. It lies beside what it protects: what it is for is that a hash
/// that gets out (a log, a backup of a table) cannot be matched with serial numbers, which are easily guessed.
fn hash_key(connection: &Connection) -> Result<Zeroizing<[u8; 32]>, Error> {
    let stored: Option<Vec<u8>> = connection
        .query_row(
            "SELECT value FROM meta WHERE name = 'hash-key'",
            [],
            |row| row.get(0),
        )
        .optional()
        .map_err(Error::database("read its key"))?;
    match stored {
        Some(key) => {
            let key = Zeroizing::new(key);
            let key: [u8; 32] = key
                .as_slice()
                .try_into()
                .map_err(|_| Error::Damaged("its key has another length"))?;
            Ok(Zeroizing::new(key))
        }
        None => {
            let key = Zeroizing::new(random::<32>()?);
            connection
                .execute(
                    "INSERT INTO meta (name, value) VALUES ('hash-key', ?1)",
                    [key.as_slice()],
                )
                .map_err(Error::database("keep its key"))?;
            Ok(key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_its_users_alone_and_keeps_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("devices");
        let tag = Database::open(&place).unwrap().hasher.tag("x", b"y");
        for entry in fs::read_dir(&place).unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
        }
        assert_eq!(Database::open(&place).unwrap().hasher.tag("x", b"y"), tag);
    }

    #[test]
    fn a_damaged_register_is_refused_and_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        drop(Database::open(directory.path()).unwrap());
        let file = directory.path().join(NAME);
        fs::write(&file, vec![7; 8192]).unwrap();
        assert!(Database::open(directory.path()).is_err());
        assert_eq!(fs::read(&file).unwrap(), vec![7; 8192]);
    }
}
