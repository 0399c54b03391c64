//! The database's file: made, opened, proved whole, erased.
//!
//! It knows the tables' names and nothing of what is in them.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::Error;
use crate::key::{Keyring, WrappedKeys, Wrapping};

pub(crate) const NAME: &str = "notes.db";
const SCHEMA_VERSION: i64 = 5;

pub(crate) const POSITION: &str = "position";
pub(crate) const CAUGHT_UP: &str = "caught-up";
pub(crate) const FACILITY: &str = "facility";
/// The generation of the root under which the keys are wrapped.
const ROOT: &str = "root";
const GENERAL_KEY: &str = "general-key";
const INDEX_KEY: &str = "index-key";
/// Present while a key was destroyed and the root is yet to be renewed.
pub(crate) const RENEWAL_DUE: &str = "renewal-due";

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

pub(crate) fn clear_meta(connection: &Connection, name: &str) -> Result<(), Error> {
    connection
        .prepare_cached("DELETE FROM meta WHERE name = ?1")
        .and_then(|mut statement| statement.execute([name]))
        .map(|_| ())
        .map_err(Error::database("write its own state"))
}

/// Makes an empty database with these keys.
pub(crate) fn create(directory: &Path, keys: &Keyring) -> Result<Connection, Error> {
    let mut connection = connect(directory)?;
    let transaction = connection.transaction().map_err(Error::database("begin"))?;
    transaction
        .execute_batch(include_str!("schema.sql"))
        .map_err(Error::database("make its tables"))?;
    set_keys(&transaction, keys, keys.wrapping())?;
    transaction.commit().map_err(Error::database("commit"))?;
    Ok(connection)
}

/// Opens a database, proves that it is whole, and finds its keys under one of the roots. `None`: there is none.
pub(crate) fn open(
    directory: &Path,
    roots: &[Arc<Wrapping>],
) -> Result<Option<(Connection, Keyring)>, Error> {
    if !directory.join(NAME).exists() {
        return Ok(None);
    }
    let connection = connect(directory)?;
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(Error::database("tell its version"))?;
    let empty: bool = connection
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
            row.get(0)
        })
        .map_err(Error::database("list its tables"))?;
    match version {
        // The power failed before its tables were made.
        0 if empty => Ok(None),
        SCHEMA_VERSION => {
            let keys = check(&connection, roots).map_err(damage)?;
            Ok(Some((connection, keys)))
        }
        _ => Err(Error::Damaged),
    }
}

/// Opens a database that is open elsewhere in this process, to read only, with its keys under this root.
pub(crate) fn open_to_read(
    directory: &Path,
    root: &Arc<Wrapping>,
) -> Result<(Connection, Keyring), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(directory.join(NAME), flags)
        .map_err(Error::database("open its file"))?;
    connection
        .execute_batch(
            "PRAGMA temp_store = MEMORY;
             PRAGMA trusted_schema = OFF;
             PRAGMA cell_size_check = ON;",
        )
        .map_err(Error::database("be configured"))?;
    let keys = keys(&connection, std::slice::from_ref(root))?;
    Ok((connection, keys))
}

/// Stores the keys as they are under this root, and its generation.
pub(crate) fn set_keys(
    connection: &Connection,
    keys: &Keyring,
    wrapping: &Wrapping,
) -> Result<(), Error> {
    let wrapped = keys.wrapped(wrapping)?;
    set_meta(connection, ROOT, &wrapping.generation().to_be_bytes())?;
    set_meta(connection, GENERAL_KEY, &wrapped.general)?;
    set_meta(connection, INDEX_KEY, &wrapped.index)
}

fn connect(directory: &Path) -> Result<Connection, Error> {
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
    let connection = Connection::open(&path).map_err(Error::database("open its file"))?;
    configure(&connection).map_err(Error::database("be configured"))?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    // The position is stored with the data, so what a power cut takes back is fetched again;
    // a purge does not rely on this, it empties the log, which syncs. Rows come in no order of their tags, so a sync touches
    // many pages: 16 MiB of them are kept, and the log takes 32 MiB before it is brought into the file.
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL;
         PRAGMA foreign_keys = ON;
         PRAGMA cache_size = -16384;
         PRAGMA wal_autocheckpoint = 8192;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;",
    )
}

/// Whether the file itself is in order.
pub(crate) fn is_whole(connection: &Connection) -> bool {
    connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        .is_ok_and(|verdict| verdict == "ok")
}

fn check(connection: &Connection, roots: &[Arc<Wrapping>]) -> Result<Keyring, Error> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(Error::database("check itself"))?;
    if verdict != "ok" {
        return Err(Error::Damaged);
    }
    keys(connection, roots)
}

/// The keys of this database, which are under one of these roots.
fn keys(connection: &Connection, roots: &[Arc<Wrapping>]) -> Result<Keyring, Error> {
    let stored = |name| meta(connection, name)?.ok_or(Error::Damaged);
    let generation = stored(ROOT)?
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| Error::Damaged)?;
    let wrapping = roots
        .iter()
        .find(|root| root.generation() == generation)
        .ok_or(Error::Damaged)?;
    let keys = WrappedKeys {
        general: stored(GENERAL_KEY)?,
        index: stored(INDEX_KEY)?,
    };
    Keyring::open(Arc::clone(wrapping), &keys)
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
