//! Which database the scanner has, and which files it has not seen: those that can be read are looked into again.
//!
//! Databases are counted, not dated: the count needs no clock and survives a restart. It scans nothing.

use rusqlite::Connection;

use super::fetching::Unjudged;
use super::rows::Row;
use crate::Error;
use crate::database::Database;
use crate::file::{meta, set_meta};

/// In the database's own state: the number of the scanner's database, and after it what the scanner calls it.
const SCANNED_WITH: &str = "scanned-with";

fn known(connection: &Connection) -> Result<Option<(i64, Vec<u8>)>, Error> {
    let Some(bytes) = meta(connection, SCANNED_WITH)? else {
        return Ok(None);
    };
    let (epoch, name) = bytes.split_first_chunk().ok_or(Error::Damaged)?;
    Ok(Some((i64::from_be_bytes(*epoch), name.to_vec())))
}

impl Database {
    /// The number of the database that the scanner has, as far as is known; 0 before any was named.
    pub(super) fn scanner_epoch(&self) -> Result<i64, Error> {
        Ok(known(&self.connection)?.map_or(0, |(epoch, _)| epoch))
    }

    /// The scanner has this database now. Another name than the last one counts as a newer one, also when it is older: what
    /// was seen by the one between has not been seen by this one.
    pub(crate) fn scanner_has(&mut self, name: &str) -> Result<(), Error> {
        let epoch = match known(&self.connection)? {
            Some((_, known)) if known == name.as_bytes() => return Ok(()),
            Some((epoch, _)) => epoch.checked_add(1).ok_or(Error::Damaged)?,
            None => 1,
        };
        let value = [&epoch.to_be_bytes(), name.as_bytes()].concat();
        set_meta(&self.connection, SCANNED_WITH, &value)
    }

    /// Readable files that the scanner's database has not seen, those looked into longest ago first.
    pub(crate) fn attachments_to_look_at_again(
        &mut self,
        most: usize,
    ) -> Result<Vec<Unjudged>, Error> {
        let rows = Row::judged_before(&self.connection, self.scanner_epoch()?, most)?;
        self.unjudged_of(rows)
    }

    pub(super) fn unseen_attachments(&self) -> Result<u64, Error> {
        let epoch = self.scanner_epoch()?;
        let count: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM attachments WHERE state = 3 AND judged < ?1")
            .and_then(|mut query| query.query_row([epoch], |row| row.get(0)))
            .map_err(Error::database("count attachments"))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Takes over the count with the rows of a database that this one replaces.
    pub(super) fn adopt_count(&self, old: &Self) -> Result<(), Error> {
        match meta(&old.connection, SCANNED_WITH)? {
            Some(value) => set_meta(&self.connection, SCANNED_WITH, &value),
            None => Ok(()),
        }
    }
}
