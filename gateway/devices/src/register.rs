//! Devices and their certificates in the register's file. It decides what may stand there, not who may ask for it.

use std::collections::HashMap;

use gateway_policy::{DeviceId, Timestamp};
use gateway_tpm::KeyBlob;
use rusqlite::{OptionalExtension as _, Row, params};
use rustls::pki_types::CertificateDer;

use crate::database::Database;
use crate::identities::Known;
use crate::secret::{Tag, random};
use crate::{Device, Error, Kind, Loosening, Name, Origin, RevokedFor};

/// More PCs and tablets than any facility of this notebook has.
pub(crate) const MOST_DEVICES: usize = 500;

/// Certificates that a device may hold at one time: the one in use, the next, and one lost on the way.
const MOST_CERTIFICATES: usize = 4;

/// What a manager has approved.
pub(crate) struct Approved<'a> {
    pub(crate) name: &'a Name,
    pub(crate) kind: Kind,
    pub(crate) manager: bool,
    pub(crate) hardware: Option<Tag>,
    pub(crate) by: &'a str,
    pub(crate) at: Timestamp,
    /// The device knows itself to be this one: it asked with the certificate of it.
    pub(crate) same_as: Option<DeviceId>,
}

/// A certificate to be registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registered {
    pub(crate) fingerprint: Tag,
    pub(crate) origin: Origin,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

const COLUMNS: &str =
    "SELECT d.id, d.name, d.kind, d.manager, d.registered, d.approved_by, d.revoked, d.reason,
    d.last_seen, d.hardware IS NOT NULL,
    (SELECT max(c.not_after) FROM certificates c WHERE c.device = d.id),
    (SELECT c.of_city FROM certificates c WHERE c.device = d.id ORDER BY c.not_after DESC LIMIT 1)
    FROM devices d";

impl Database {
    /// All devices, those cut off included, in the order of their ids; forgotten ones are left out.
    pub(crate) fn devices(&self) -> Result<Vec<Device>, Error> {
        self.select(&format!(
            "{COLUMNS} WHERE d.reason IS NOT 'forgotten' ORDER BY d.id"
        ))
    }

    /// All devices with forgotten ones, for the gate: a certificate of a forgotten device must not make it a stranger only.
    pub(crate) fn devices_ever(&self) -> Result<Vec<Device>, Error> {
        self.select(&format!("{COLUMNS} ORDER BY d.id"))
    }

    fn select(&self, query: &str) -> Result<Vec<Device>, Error> {
        let failed = || Error::database("list its devices");
        let mut statement = self.connection.prepare_cached(query).map_err(failed())?;
        let rows = statement.query_map([], device).map_err(failed())?;
        rows.map(|row| row.map_err(failed())?.ok_or(Error::Damaged("a device")))
            .collect()
    }

    pub(crate) fn device(&self, id: DeviceId) -> Result<Option<Device>, Error> {
        self.connection
            .prepare_cached(&format!("{COLUMNS} WHERE d.id = ?1"))
            .and_then(|mut statement| statement.query_row([id.0.as_slice()], device).optional())
            .map_err(Error::database("find a device"))?
            .map(|found| found.ok_or(Error::Damaged("a device")))
            .transpose()
    }

    /// Registers an approved device. The same hardware gets its old pseudonym back, and with it every deadline that runs:
    /// forgetting and pairing anew gains nothing.
    pub(crate) fn register(
        &mut self,
        approved: &Approved<'_>,
        beforehand: impl FnOnce(DeviceId, Loosening) -> Result<(), Error>,
    ) -> Result<DeviceId, Error> {
        let before = match (approved.same_as, &approved.hardware) {
            (Some(id), _) => self.device(id)?,
            (None, Some(hardware)) => match self.device_with(hardware)? {
                Some(id) => self.device(id)?,
                None => None,
            },
            (None, None) => None,
        };
        let Some(before) = before else {
            return self.insert(approved, beforehand);
        };
        // Cut off by the manager: only the manager's own word takes that back, not a code that was read out.
        if matches!(before.revoked, Some((_, RevokedFor::Manager))) {
            return Err(Error::Unfit(
                "it was cut off and has to be let in again first",
            ));
        }
        beforehand(before.id, Loosening::Restored)?;
        self.connection
            .execute(
                "UPDATE devices SET name = ?2, kind = ?3, manager = ?4, approved_by = ?5, registered = ?6,
                 hardware = coalesce(hardware, ?7), revoked = NULL, reason = NULL WHERE id = ?1",
                params![
                    before.id.0.as_slice(),
                    approved.name.as_str(),
                    approved.kind.word(),
                    approved.manager,
                    approved.by,
                    approved.at.0,
                    approved.hardware.as_ref().map(Tag::as_slice),
                ],
            )
            .map_err(Error::database("register a device again"))?;
        Ok(before.id)
    }

    fn insert(
        &mut self,
        approved: &Approved<'_>,
        beforehand: impl FnOnce(DeviceId, Loosening) -> Result<(), Error>,
    ) -> Result<DeviceId, Error> {
        self.make_room()?;
        let id = DeviceId(random()?);
        beforehand(id, Loosening::Registered)?;
        self.connection
            .execute(
                "INSERT INTO devices (id, name, kind, manager, hardware, registered, approved_by)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    id.0.as_slice(),
                    approved.name.as_str(),
                    approved.kind.word(),
                    approved.manager,
                    approved.hardware.as_ref().map(Tag::as_slice),
                    approved.at.0,
                    approved.by,
                ],
            )
            .map_err(Error::database("register a device"))?;
        Ok(id)
    }

    /// When full, the device forgotten longest ago goes for good. One that is in use or cut off never does.
    fn make_room(&self) -> Result<(), Error> {
        let failed = || Error::database("make room");
        let count: usize = self
            .connection
            .query_row("SELECT count(*) FROM devices", [], |row| row.get(0))
            .map_err(failed())?;
        if count < MOST_DEVICES {
            return Ok(());
        }
        let gone = self
            .connection
            .execute(
                "DELETE FROM devices WHERE id =
                 (SELECT id FROM devices WHERE reason = 'forgotten' ORDER BY revoked LIMIT 1)",
                [],
            )
            .map_err(failed())?;
        if gone == 1 { Ok(()) } else { Err(Error::Full) }
    }

    pub(crate) fn device_with(&self, hardware: &Tag) -> Result<Option<DeviceId>, Error> {
        self.connection
            .prepare_cached("SELECT id FROM devices WHERE hardware = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([hardware.as_slice()], |row| row.get::<_, [u8; 16]>(0))
                    .optional()
            })
            .map(|id| id.map(DeviceId))
            .map_err(Error::database("find a device by its hardware"))
    }

    /// Pins what a device says of its hardware when it reports for the first time; later it must say the same.
    ///
    /// Known from a device that was forgotten, the old pseudonym takes over the new certificates. Answers with the id the
    /// device has from now on.
    pub(crate) fn pin(
        &mut self,
        id: DeviceId,
        hardware: &Tag,
        beforehand: impl FnOnce(DeviceId, Loosening) -> Result<(), Error>,
    ) -> Result<DeviceId, Error> {
        let failed = || Error::database("pin a device's hardware");
        let pinned: Option<[u8; 32]> = self
            .connection
            .query_row(
                "SELECT hardware FROM devices WHERE id = ?1",
                [id.0.as_slice()],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed())?
            .ok_or(Error::NoSuchDevice)?;
        match (pinned, self.device_with(hardware)?) {
            (Some(pinned), _) if pinned == *hardware => Ok(id),
            (Some(_), _) => Err(Error::Unfit("its hardware is another than before")),
            (None, None) => {
                self.connection
                    .execute(
                        "UPDATE devices SET hardware = ?2 WHERE id = ?1",
                        params![id.0.as_slice(), hardware.as_slice()],
                    )
                    .map_err(failed())?;
                Ok(id)
            }
            (None, Some(before)) => self.take_back(before, id, beforehand),
        }
    }

    /// The device registered as `newer` turns out to be `before`.
    fn take_back(
        &mut self,
        before: DeviceId,
        newer: DeviceId,
        beforehand: impl FnOnce(DeviceId, Loosening) -> Result<(), Error>,
    ) -> Result<DeviceId, Error> {
        let old = self.device(before)?.ok_or(Error::NoSuchDevice)?;
        if !matches!(old.revoked, Some((_, RevokedFor::Forgotten))) {
            return Err(Error::Taken("hardware"));
        }
        beforehand(before, Loosening::Restored)?;
        let failed = || Error::database("give a device its old pseudonym");
        let transaction = self.connection.transaction().map_err(failed())?;
        for statement in [
            "UPDATE certificates SET device = ?1 WHERE device = ?2",
            "UPDATE devices SET (name, kind, manager, registered, approved_by, revoked, reason) =
             (SELECT name, kind, manager, registered, approved_by, NULL, NULL FROM devices WHERE id = ?2) WHERE id = ?1",
        ] {
            transaction
                .execute(statement, params![before.0.as_slice(), newer.0.as_slice()])
                .map_err(failed())?;
        }
        transaction
            .execute("DELETE FROM devices WHERE id = ?1", [newer.0.as_slice()])
            .map_err(failed())?;
        transaction.commit().map_err(failed())?;
        Ok(before)
    }

    /// Adds a certificate to a device; its oldest ones beyond a few are no longer recognised.
    pub(crate) fn add_certificate(
        &mut self,
        id: DeviceId,
        certificate: &Registered,
    ) -> Result<(), Error> {
        let failed = || Error::database("register a certificate");
        let transaction = self.connection.transaction().map_err(failed())?;
        let owner: Option<[u8; 16]> = transaction
            .query_row(
                "SELECT device FROM certificates WHERE fingerprint = ?1",
                [certificate.fingerprint.as_slice()],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed())?;
        if owner.is_some_and(|owner| owner != id.0) {
            return Err(Error::Taken("certificate"));
        }
        transaction
            .execute(
                "INSERT OR REPLACE INTO certificates (fingerprint, device, of_city, not_before, not_after)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    certificate.fingerprint.as_slice(),
                    id.0.as_slice(),
                    certificate.origin == Origin::City,
                    certificate.not_before.0,
                    certificate.not_after.0,
                ],
            )
            .map_err(failed())?;
        transaction
            .execute(
                "DELETE FROM certificates WHERE device = ?1 AND fingerprint NOT IN
                 (SELECT fingerprint FROM certificates WHERE device = ?1 ORDER BY not_after DESC LIMIT ?2)",
                params![id.0.as_slice(), MOST_CERTIFICATES],
            )
            .map_err(failed())?;
        transaction.commit().map_err(failed())
    }

    pub(crate) fn owner_of(&self, fingerprint: &Tag) -> Result<Option<DeviceId>, Error> {
        self.connection
            .query_row(
                "SELECT device FROM certificates WHERE fingerprint = ?1",
                [fingerprint.as_slice()],
                |row| row.get::<_, [u8; 16]>(0),
            )
            .optional()
            .map(|id| id.map(DeviceId))
            .map_err(Error::database("find a certificate"))
    }

    pub(crate) fn identities(&self) -> Result<HashMap<Tag, Known>, Error> {
        let failed = || Error::database("list its certificates");
        let mut statement = self
            .connection
            .prepare_cached("SELECT fingerprint, device, not_before, not_after FROM certificates")
            .map_err(failed())?;
        let rows = statement
            .query_map([], |row| {
                let known = Known {
                    device: DeviceId(row.get(1)?),
                    not_before: Timestamp(row.get(2)?),
                    not_after: Timestamp(row.get(3)?),
                };
                Ok((row.get::<_, Tag>(0)?, known))
            })
            .map_err(failed())?;
        rows.collect::<Result<_, _>>().map_err(failed())
    }

    pub(crate) fn revoke(
        &self,
        id: DeviceId,
        reason: RevokedFor,
        at: Timestamp,
    ) -> Result<(), Error> {
        self.change(
            "cut a device off",
            "UPDATE devices SET revoked = coalesce(revoked, ?2), reason = ?3 WHERE id = ?1",
            params![id.0.as_slice(), at.0, reason.word()],
        )
    }

    pub(crate) fn reactivate(&self, id: DeviceId) -> Result<(), Error> {
        self.change(
            "let a device in again",
            "UPDATE devices SET revoked = NULL, reason = NULL WHERE id = ?1 AND reason = 'manager'",
            params![id.0.as_slice()],
        )
    }

    pub(crate) fn set_manager(&self, id: DeviceId, manager: bool) -> Result<(), Error> {
        self.change(
            "change a device",
            "UPDATE devices SET manager = ?2 WHERE id = ?1",
            params![id.0.as_slice(), manager],
        )
    }

    pub(crate) fn rename(&self, id: DeviceId, name: &Name) -> Result<(), Error> {
        self.change(
            "change a device",
            "UPDATE devices SET name = ?2 WHERE id = ?1",
            params![id.0.as_slice(), name.as_str()],
        )
    }

    fn change(
        &self,
        action: &'static str,
        statement: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<(), Error> {
        let rows = self
            .connection
            .execute(statement, parameters)
            .map_err(Error::database(action))?;
        if rows == 1 {
            Ok(())
        } else {
            Err(Error::NoSuchDevice)
        }
    }

    pub(crate) fn seen(&mut self, seen: &[(DeviceId, Timestamp)]) -> Result<(), Error> {
        let failed = || Error::database("note when devices were seen");
        let transaction = self.connection.transaction().map_err(failed())?;
        for (id, at) in seen {
            transaction
                .execute(
                    "UPDATE devices SET last_seen = ?2 WHERE id = ?1",
                    params![id.0.as_slice(), at.0],
                )
                .map_err(failed())?;
        }
        transaction.commit().map_err(failed())
    }

    /// Authorities, the one that issues last. Earlier ones signed certificates that are still in use; their keys are gone.
    pub(crate) fn authorities(
        &self,
    ) -> Result<Vec<(CertificateDer<'static>, Option<KeyBlob>)>, Error> {
        let failed = || Error::database("list its authorities");
        let mut statement = self
            .connection
            .prepare_cached("SELECT certificate, key FROM authorities ORDER BY number")
            .map_err(failed())?;
        let rows = statement
            .query_map([], |row| {
                let certificate = CertificateDer::from(row.get::<_, Vec<u8>>(0)?);
                let key: String = row.get(1)?;
                Ok((certificate, KeyBlob::from_pem(&key).ok()))
            })
            .map_err(failed())?;
        rows.collect::<Result<_, _>>().map_err(failed())
    }

    pub(crate) fn add_authority(
        &self,
        certificate: &CertificateDer<'_>,
        key: &KeyBlob,
    ) -> Result<(), Error> {
        self.connection
            .execute(
                "INSERT INTO authorities (certificate, key) VALUES (?1, ?2)",
                params![certificate.as_ref(), key.to_pem()],
            )
            .map(drop)
            .map_err(Error::database("keep its authority"))
    }
}

/// `Ok(None)`: a row that this program did not write.
fn device(row: &Row<'_>) -> rusqlite::Result<Option<Device>> {
    let kind: String = row.get(2)?;
    let name: String = row.get(1)?;
    let reason: Option<String> = row.get(7)?;
    let revoked: Option<i64> = row.get(6)?;
    let (Some(kind), Some(name)) = (Kind::parse(&kind), Name::parse(&name)) else {
        return Ok(None);
    };
    let reason = match reason.as_deref() {
        Some("forgotten") => RevokedFor::Forgotten,
        // Whatever stands there beside a time, it is a device that was cut off.
        _ => RevokedFor::Manager,
    };
    Ok(Some(Device {
        id: DeviceId(row.get(0)?),
        name,
        kind,
        origin: match row.get::<_, Option<bool>>(11)? {
            Some(true) => Origin::City,
            _ => Origin::Box,
        },
        manager: row.get(3)?,
        registered: Timestamp(row.get(4)?),
        approved_by: row.get(5)?,
        revoked: revoked.map(|at| (Timestamp(at), reason)),
        last_seen: row.get::<_, Option<i64>>(8)?.map(Timestamp),
        not_after: row.get::<_, Option<i64>>(10)?.map(Timestamp),
        pinned: row.get(9)?,
    }))
}

#[cfg(test)]
mod tests;
