//! What devices have reported, and the manager has declared, in the register's file. Only the newest of everything is kept.

use gateway_policy::{Check, DeviceId, Source, Timestamp};
use rusqlite::{OptionalExtension as _, Row, params};

use crate::database::Database;
use crate::secret::Tag;
use crate::{Declared, Error, LeftOn, Report, Standards};

/// Nights of which is kept who was left on, in days.
const NIGHTS_KEPT: i64 = 92;

/// Media remembered per device.
const MOST_MEDIA: usize = 400;

/// A device's newest report as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// When the newest part of it arrived.
    pub(crate) received: Timestamp,
    pub(crate) source: Source,
    pub(crate) report: Report,
    /// Seconds the device has been online since.
    pub(crate) online: i64,
}

impl Database {
    pub(crate) fn stored(&self, id: DeviceId) -> Result<Option<Stored>, Error> {
        let row: Option<(i64, String, String, i64)> = self
            .connection
            .prepare_cached(
                "SELECT received, source, report, online FROM reports WHERE device = ?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([id.0.as_slice()], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                    })
                    .optional()
            })
            .map_err(Error::database("read a report"))?;
        let Some((received, source, report, online)) = row else {
            return Ok(None);
        };
        Ok(Some(Stored {
            received: Timestamp(received),
            source: if source == "agent" {
                Source::Agent
            } else {
                Source::Script
            },
            // One that cannot be read any more is none: the next one is a quarter of an hour away.
            report: serde_json::from_str(&report).unwrap_or_default(),
            online,
        }))
    }

    pub(crate) fn store(
        &self,
        id: DeviceId,
        source: Source,
        report: &Report,
        received: Timestamp,
    ) -> Result<(), Error> {
        let source = match source {
            Source::Agent => "agent",
            _ => "script",
        };
        let text = serde_json::to_string(report).map_err(|_| Error::Damaged("a report"))?;
        self.connection
            .execute(
                "INSERT INTO reports (device, received, source, report) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (device) DO UPDATE SET received = ?2, source = ?3, report = ?4, online = 0",
                params![id.0.as_slice(), received.0, source, text],
            )
            .map(drop)
            .map_err(Error::database("keep a report"))
    }

    /// Adds to the time a device has been online since its newest report, or since it was registered.
    pub(crate) fn was_online(&self, id: DeviceId, seconds: i64) -> Result<(), Error> {
        self.connection
            .execute(
                "INSERT INTO reports (device, received, source, report, online)
                 SELECT id, registered, 'script', '{}', ?2 FROM devices WHERE id = ?1
                 ON CONFLICT (device) DO UPDATE SET online = online + ?2",
                params![id.0.as_slice(), seconds],
            )
            .map(drop)
            .map_err(Error::database("count the time online"))
    }

    /// Takes over which media a device knows. What its first report lists was there before and is no finding; what comes
    /// later is.
    pub(crate) fn media_seen(
        &mut self,
        id: DeviceId,
        serials: &[String],
        now: Timestamp,
    ) -> Result<(), Error> {
        let failed = || Error::database("note media");
        let transaction = self.connection.transaction().map_err(failed())?;
        let marker: Option<i64> = transaction
            .query_row(
                "SELECT 1 FROM media WHERE device = ?1 LIMIT 1",
                [id.0.as_slice()],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed())?;
        let first_report = marker.is_none();
        // An empty serial marks that there was a first report, also when it listed nothing.
        for serial in std::iter::once("").chain(serials.iter().map(String::as_str)) {
            let known: usize = transaction
                .query_row(
                    "SELECT count(*) FROM media WHERE device = ?1",
                    [id.0.as_slice()],
                    |row| row.get(0),
                )
                .map_err(failed())?;
            if known >= MOST_MEDIA {
                break;
            }
            transaction
                .execute(
                    "INSERT OR IGNORE INTO media (device, serial, first_seen, before) VALUES (?1, ?2, ?3, ?4)",
                    params![
                        id.0.as_slice(),
                        serial,
                        now.0,
                        first_report || serial.is_empty()
                    ],
                )
                .map_err(failed())?;
        }
        transaction.commit().map_err(failed())
    }

    /// Media plugged in since the first report that are not in the facility's register, the oldest first.
    pub(crate) fn unregistered_media(
        &self,
        id: DeviceId,
        standards: &Standards,
    ) -> Result<Vec<(String, Timestamp)>, Error> {
        let failed = || Error::database("list media");
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT serial, first_seen FROM media WHERE device = ?1 AND before = 0 ORDER BY first_seen, serial",
            )
            .map_err(failed())?;
        let rows = statement
            .query_map([id.0.as_slice()], |row| {
                Ok((row.get::<_, String>(0)?, Timestamp(row.get(1)?)))
            })
            .map_err(failed())?;
        let mut found = Vec::new();
        for row in rows {
            let (serial, since) = row.map_err(failed())?;
            if !standards.media.contains(&serial) {
                found.push((serial, since));
            }
        }
        Ok(found)
    }

    pub(crate) fn set_node_key(&self, id: DeviceId, key: &Tag) -> Result<(), Error> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO nodes (device, key) VALUES (?1, ?2)",
                params![id.0.as_slice(), key.as_slice()],
            )
            .map(drop)
            .map_err(Error::database("keep a node key"))
    }

    pub(crate) fn node_key(&self, id: DeviceId) -> Result<Option<Tag>, Error> {
        self.connection
            .prepare_cached("SELECT key FROM nodes WHERE device = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([id.0.as_slice()], |row| row.get(0))
                    .optional()
            })
            .map_err(Error::database("read a node key"))
    }

    pub(crate) fn forget_node_key(&self, id: DeviceId) -> Result<(), Error> {
        self.connection
            .execute("DELETE FROM nodes WHERE device = ?1", [id.0.as_slice()])
            .map(drop)
            .map_err(Error::database("forget a node key"))
    }

    pub(crate) fn counter(&self, id: DeviceId) -> Result<u64, Error> {
        let last: Option<i64> = self
            .connection
            .prepare_cached("SELECT last FROM counters WHERE device = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([id.0.as_slice()], |row| row.get(0))
                    .optional()
            })
            .map_err(Error::database("read a counter"))?;
        Ok(u64::try_from(last.unwrap_or(0)).unwrap_or(0))
    }

    /// Moves the counter on; `false`: it would not have grown, and nothing was changed.
    pub(crate) fn advance_counter(&self, id: DeviceId, to: u64) -> Result<bool, Error> {
        let Ok(to) = i64::try_from(to) else {
            return Ok(false);
        };
        self.connection
            .execute(
                "INSERT INTO counters (device, last) VALUES (?1, ?2)
                 ON CONFLICT (device) DO UPDATE SET last = ?2 WHERE last < ?2",
                params![id.0.as_slice(), to],
            )
            .map(|rows| rows == 1)
            .map_err(Error::database("move a counter on"))
    }

    pub(crate) fn declare(&self, declared: &Declared, by: &str) -> Result<(), Error> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO declarations (device, check_id, declared, until, by) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    declared.device.0.as_slice(),
                    declared.check.id(),
                    declared.at.0,
                    declared.until.0,
                    by
                ],
            )
            .map(drop)
            .map_err(Error::database("keep a declaration"))
    }

    pub(crate) fn declarations(&self) -> Result<Vec<Declared>, Error> {
        let failed = || Error::database("list declarations");
        let mut statement = self
            .connection
            .prepare_cached("SELECT device, check_id, declared, until FROM declarations")
            .map_err(failed())?;
        let rows = statement.query_map([], declared).map_err(failed())?;
        rows.filter_map(|row| row.map_err(failed()).transpose())
            .collect()
    }

    pub(crate) fn note_left_on(&mut self, left_on: &[LeftOn], now: Timestamp) -> Result<(), Error> {
        let failed = || Error::database("note what was left on");
        let transaction = self.connection.transaction().map_err(failed())?;
        for night in left_on {
            transaction
                .execute(
                    "INSERT INTO nights (device, night, first, last) SELECT ?1, ?2, ?3, ?4
                     WHERE EXISTS (SELECT 1 FROM devices WHERE id = ?1)
                     ON CONFLICT (device, night) DO UPDATE SET last = max(last, ?4)",
                    params![
                        night.device.0.as_slice(),
                        night.night.0,
                        night.first.0,
                        night.last.0
                    ],
                )
                .map_err(failed())?;
        }
        transaction
            .execute(
                "DELETE FROM nights WHERE night < ?1",
                [now.plus(-NIGHTS_KEPT * 86_400).0],
            )
            .map_err(failed())?;
        transaction.commit().map_err(failed())
    }

    /// Devices left on in the nights from `from` on, the newest night first.
    pub(crate) fn left_on(&self, from: Timestamp) -> Result<Vec<LeftOn>, Error> {
        let failed = || Error::database("list what was left on");
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT device, night, first, last FROM nights WHERE night >= ?1 ORDER BY night DESC, device",
            )
            .map_err(failed())?;
        let rows = statement
            .query_map([from.0], |row| {
                Ok(LeftOn {
                    device: DeviceId(row.get(0)?),
                    night: Timestamp(row.get(1)?),
                    first: Timestamp(row.get(2)?),
                    last: Timestamp(row.get(3)?),
                })
            })
            .map_err(failed())?;
        rows.collect::<Result<_, _>>().map_err(failed())
    }
}

fn declared(row: &Row<'_>) -> rusqlite::Result<Option<Declared>> {
    let check: String = row.get(1)?;
    let Some(check) = Check::parse(&check) else {
        return Ok(None);
    };
    Ok(Some(Declared {
        device: DeviceId(row.get(0)?),
        check,
        at: Timestamp(row.get(2)?),
        until: Timestamp(row.get(3)?),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Approved;
    use crate::{Kind, Name};

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn with_device() -> (tempfile::TempDir, Database, DeviceId) {
        let directory = tempfile::tempdir().unwrap();
        let mut database = Database::open(directory.path()).unwrap();
        let approved = Approved {
            name: &Name::parse("PC").unwrap(),
            kind: Kind::Windows,
            manager: false,
            hardware: None,
            by: "m",
            at: NOW,
            same_as: None,
        };
        let id = database.register(&approved, |_, _| Ok(())).unwrap();
        (directory, database, id)
    }

    #[test]
    fn media_of_the_first_report_are_no_finding_and_later_ones_are_until_they_are_registered() {
        let (_directory, mut database, id) = with_device();
        let mut standards = Standards::default();
        let found = |database: &Database, standards: &Standards| {
            database.unregistered_media(id, standards).unwrap()
        };
        let seen = |serials: &[&str]| -> Vec<String> {
            serials.iter().map(|&serial| serial.to_owned()).collect()
        };
        database.media_seen(id, &seen(&["OLD"]), NOW).unwrap();
        assert!(found(&database, &standards).is_empty());
        let later = NOW.plus(60);
        database
            .media_seen(id, &seen(&["OLD", "NEW"]), later)
            .unwrap();
        // Seen again, also after it was unplugged: since when does not move.
        database
            .media_seen(id, &seen(&["NEW"]), NOW.plus(120))
            .unwrap();
        assert_eq!(found(&database, &standards), [("NEW".to_owned(), later)]);
        standards.media.insert("NEW".into());
        assert!(found(&database, &standards).is_empty());
    }

    #[test]
    fn the_first_medium_of_a_pc_that_never_had_one_is_a_finding() {
        let (_directory, mut database, id) = with_device();
        database.media_seen(id, &[], NOW).unwrap();
        database.media_seen(id, &["X".to_owned()], NOW).unwrap();
        let found = database.unregistered_media(id, &Standards::default());
        assert_eq!(found.unwrap().len(), 1);
    }

    #[test]
    fn a_counter_only_grows() {
        let (_directory, database, id) = with_device();
        assert_eq!(database.counter(id).unwrap(), 0);
        assert!(database.advance_counter(id, 5).unwrap());
        for no in [5, 4, 0, u64::MAX] {
            assert!(!database.advance_counter(id, no).unwrap(), "{no}");
        }
        assert!(database.advance_counter(id, 6).unwrap());
        assert_eq!(database.counter(id).unwrap(), 6);
    }

    #[test]
    fn time_online_counts_from_the_newest_report() {
        let (_directory, database, id) = with_device();
        database.was_online(id, 100).unwrap();
        assert_eq!(database.stored(id).unwrap().unwrap().online, 100);
        let report = Report::default();
        database.store(id, Source::Agent, &report, NOW).unwrap();
        assert_eq!(database.stored(id).unwrap().unwrap().online, 0);
        database.was_online(id, 50).unwrap();
        database.was_online(id, 50).unwrap();
        let stored = database.stored(id).unwrap().unwrap();
        assert_eq!((stored.online, stored.source), (100, Source::Agent));
        // A device that is gone is no reason to fail.
        database.was_online(DeviceId([9; 16]), 5).unwrap();
    }

    #[test]
    fn nights_are_listed_until_they_are_old() {
        let (_directory, mut database, id) = with_device();
        let night = LeftOn {
            device: id,
            night: NOW,
            first: NOW.plus(10),
            last: NOW.plus(20),
        };
        let stranger = LeftOn {
            device: DeviceId([9; 16]),
            ..night
        };
        database.note_left_on(&[night, stranger], NOW).unwrap();
        let longer = LeftOn {
            first: NOW.plus(15),
            last: NOW.plus(30),
            ..night
        };
        database.note_left_on(&[longer], NOW).unwrap();
        assert_eq!(
            database.left_on(NOW).unwrap(),
            [LeftOn {
                last: NOW.plus(30),
                ..night
            }]
        );
        let old = NOW.plus((NIGHTS_KEPT + 1) * 86_400);
        database.note_left_on(&[], old).unwrap();
        assert!(database.left_on(NOW).unwrap().is_empty());
    }
}
