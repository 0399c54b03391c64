//! The registers' file: made, opened, proved whole, added to. It knows events as text and nothing of what they mean.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use gateway_policy::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::Error;

/// The file's name in its directory.
pub(crate) const NAME: &str = "registers.db";
const SCHEMA_VERSION: i64 = 1;

/// One entry as it stands in the file.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) at: Timestamp,
    pub(crate) by: String,
    pub(crate) body: String,
}

/// Opens the file, or makes it where there is none.
pub(crate) fn open(directory: &Path) -> Result<Connection, Error> {
    let unprepared = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Directory { path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(unprepared(directory))?;
    let path = directory.join(NAME);
    File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(unprepared(&path))?;
    let mut connection = Connection::open(&path).map_err(Error::database("open their file"))?;
    configure(&connection).map_err(Error::database("be configured"))?;
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(Error::database("tell their version"))?;
    let empty: bool = connection
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
            row.get(0)
        })
        .map_err(Error::database("list their tables"))?;
    match version {
        0 if empty => create(&mut connection)?,
        SCHEMA_VERSION => check(&connection)?,
        _ => return Err(Error::Damaged("another version wrote them")),
    }
    sync_directory(directory).map_err(unprepared(directory))?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // FULL: a commit has reached the disk before it is answered. Nobody else has these entries.
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;",
    )
}

fn create(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction().map_err(Error::database("begin"))?;
    transaction
        .execute_batch(include_str!("schema.sql"))
        .map_err(Error::database("make their tables"))?;
    transaction.commit().map_err(Error::database("commit"))
}

fn check(connection: &Connection) -> Result<(), Error> {
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(Error::database("check themselves"))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(Error::Damaged("the database does not hold together"))
    }
}

/// A new file's name is on the disk only when its directory is.
fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// All entries, oldest first.
pub(crate) fn read(connection: &Connection) -> Result<Vec<Row>, Error> {
    let failed = || Error::database("read their entries");
    let mut query = connection
        .prepare_cached("SELECT at, by, body FROM events ORDER BY seq")
        .map_err(failed())?;
    let rows = query
        .query_map([], |row| {
            Ok(Row {
                at: Timestamp(row.get(0)?),
                by: row.get(1)?,
                body: row.get(2)?,
            })
        })
        .map_err(failed())?;
    rows.collect::<Result<_, _>>().map_err(failed())
}

/// Adds one entry. When this returns it is on the disk.
pub(crate) fn append(
    connection: &Connection,
    row: &Row,
    medium: Option<u64>,
    ends: bool,
) -> Result<(), Error> {
    let medium = medium.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
    connection
        .execute(
            "INSERT INTO events (at, by, medium, ends, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![row.at.0, row.by, medium, ends, row.body],
        )
        .map(|_| ())
        .map_err(Error::database("record an entry"))
}

/// Drops what was over before this moment; how many entries that were.
pub(crate) fn drop_before(connection: &mut Connection, before: Timestamp) -> Result<usize, Error> {
    let failed = || Error::database("drop entries after their time");
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed())?;
    transaction
        .execute(
            "UPDATE retention SET before = ?1,
                last_medium = max(last_medium, (SELECT coalesce(max(medium), 0) FROM events))",
            [before.0],
        )
        .map_err(failed())?;
    let mut dropped = 0;
    // The entry that ends a medium's life goes last: the file lets the others go only while it is there.
    // The newest training, review and declaration stay, however old: since when they date is evidence.
    for statement in [
        "DELETE FROM events WHERE ends = 0 AND medium IN
            (SELECT medium FROM events WHERE ends = 1 AND at < (SELECT before FROM retention))",
        "DELETE FROM events WHERE ends = 1 AND at < (SELECT before FROM retention)",
        "DELETE FROM events WHERE medium IS NULL AND at < (SELECT before FROM retention)
            AND seq NOT IN (SELECT max(seq) FROM events WHERE medium IS NULL
                GROUP BY json_extract(body, '$.event'), json_extract(body, '$.topic'))",
    ] {
        dropped += transaction.execute(statement, []).map_err(failed())?;
    }
    transaction
        .execute("UPDATE retention SET before = 0", [])
        .map_err(failed())?;
    transaction.commit().map_err(failed())?;
    Ok(dropped)
}

/// The highest number a medium had of which entries were dropped.
pub(crate) fn last_medium(connection: &Connection) -> Result<u64, Error> {
    let number: i64 = connection
        .query_row("SELECT last_medium FROM retention", [], |row| row.get(0))
        .map_err(Error::database("read their last number"))?;
    u64::try_from(number).map_err(|_| Error::Damaged("a number is negative"))
}
