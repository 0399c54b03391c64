//! The database's file: made, opened, proved whole, erased.
//!
//! It knows the tables' names and nothing of what is in them.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::Error;
use crate::key::Keyring;

pub(crate) const NAME: &str = "notes.db";
const SCHEMA_VERSION: i64 = 1;

pub(crate) const POSITION: &str = "position";
pub(crate) const CAUGHT_UP: &str = "caught-up";
pub(crate) const FACILITY: &str = "facility";
const KEY_CHECK: &str = "key-check";

pub(crate) fn meta(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, Error> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")
        .and_then(|mut query| query.query_row([name], |row| row.get(0)).optional())
        .map_err(Error::database("read its own state"))
}

pub(crate) fn set_meta(connection: &Connection, name: &str, value: &[u8]) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO meta (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .and_then(|mut statement| statement.execute(params![name, value]))
        .map(|_| ())
        .map_err(Error::database("write its own state"))
}

/// Opens the file and proves that it is whole and under this key.
pub(crate) fn connect(directory: &Path, keys: &Keyring) -> Result<Connection, Error> {
    let path = directory.join(NAME);
    File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| Error::Directory {
            path: path.clone(),
            source,
        })?;
    let mut connection = Connection::open(&path).map_err(Error::database("open its file"))?;
    configure(&connection).map_err(Error::database("be configured"))?;
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(Error::database("tell its version"))?;
    let empty: bool = connection
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
            row.get(0)
        })
        .map_err(Error::database("list its tables"))?;
    match version {
        0 if empty => create(&mut connection, keys)?,
        SCHEMA_VERSION => check(&connection, keys).map_err(damage)?,
        _ => return Err(Error::Damaged),
    }
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    // The position is stored with the data, so what a power cut takes back is fetched again;
    // a purge does not rely on this, it empties the log, which syncs.
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;",
    )
}

fn create(connection: &mut Connection, keys: &Keyring) -> Result<(), Error> {
    let transaction = connection.transaction().map_err(Error::database("begin"))?;
    transaction
        .execute_batch(include_str!("schema.sql"))
        .map_err(Error::database("make its tables"))?;
    let check = keys
        .general()
        .seal(KEY_CHECK.as_bytes(), KEY_CHECK.as_bytes())?;
    set_meta(&transaction, KEY_CHECK, &check)?;
    transaction.commit().map_err(Error::database("commit"))
}

fn check(connection: &Connection, keys: &Keyring) -> Result<(), Error> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(Error::database("check itself"))?;
    if verdict != "ok" {
        return Err(Error::Damaged);
    }
    let sealed = meta(connection, KEY_CHECK)?.ok_or(Error::Damaged)?;
    keys.general()
        .open(KEY_CHECK.as_bytes(), &sealed)
        .map(|_| ())
}

/// Our statements are known to be right, so a file on which they fail for any reason of its own is not ours.
fn damage(error: Error) -> Error {
    match &error {
        Error::Database { source, .. }
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) =>
        {
            Error::Damaged
        }
        _ => error,
    }
}

pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::Directory {
            path: path.to_owned(),
            source,
        })
}

/// Removes the files. What is in them is sealed, and the city has it.
pub(crate) fn erase(directory: &Path) -> Result<(), Error> {
    for suffix in ["", "-wal", "-shm"] {
        let path = directory.join(format!("{NAME}{suffix}"));
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Erase { path, source });
            }
            _ => {}
        }
    }
    crate::attachments::erase_all(directory)
}
