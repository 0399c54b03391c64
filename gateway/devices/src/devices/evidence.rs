//! What devices report, and what time brings: from arrival to observation.

use std::sync::Arc;

use gateway_policy::{Check, DeviceId, Grade, Missing, Observation, Observed, Source, Timestamp};
use zeroize::Zeroizing;

use super::{Devices, lock};
use crate::database::Database;
use crate::declaration::inapplicable;
use crate::register::MOST_DEVICES;
use crate::secret::{equal, sha256, token};
use crate::{Error, Kind, LeftOn, Report, Standards, judge, osquery, script};

/// How long a device has been online without a report when nothing is known of it any more, in seconds.
const REPORT_LIFE: i64 = 24 * 3_600;

/// How long a nonce can be answered, in seconds: the script needs seconds, a slow PC at its start minutes.
const NONCE_LIFE: i64 = 600;

/// What a tick finds unchanged is told again after so many seconds, so that it does not grow old.
const RETELL: i64 = 1_800;

impl Devices {
    /// Takes over the city's lists and the facility's media, and judges everything that is stored by them. What was in order
    /// by the former lists fails since `now`, not since it was reported: nobody could know before.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn set_standards(&self, standards: Standards, now: Timestamp) -> Result<(), Error> {
        let former = self.standards.load_full();
        if *former == standards {
            return Ok(());
        }
        self.standards.store(Arc::new(standards));
        let database = lock(&self.database);
        for device in database.devices()? {
            if let Some(stored) = database.stored(device.id)? {
                let judged = |standards: &Standards| {
                    judge_with_media(
                        &database,
                        device.id,
                        &stored.report,
                        stored.source,
                        standards,
                    )
                };
                let before = judged(&former)?;
                for observed in judged(&self.standards.load())? {
                    self.tell(device.id, dated_by_lists(observed, &before, now), now);
                }
            }
        }
        Ok(())
    }

    /// osquery enrols: the key that it names itself with from now on. `None`: it may not.
    pub(crate) fn enrol_node(
        &self,
        device: DeviceId,
        enrolment: &osquery::Enrolment,
    ) -> Result<Option<Zeroizing<String>>, Error> {
        if !self.in_good_standing(device)?.kind.reports() {
            return Ok(None);
        }
        let device = self.pin(device, enrolment.hardware.as_deref())?;
        let key = token::<32>()?;
        let database = lock(&self.database);
        let tag = database.hasher.tag("node", key.as_bytes());
        database.set_node_key(device, &tag)?;
        tracing::info!(event = "device-agent", device = %device, "osquery has enrolled");
        Ok(Some(key))
    }

    /// Whether osquery on this device named itself with the key it was given. The key belongs to the device and not to one
    /// certificate of it, so that a renewed certificate does not make it enrol again.
    pub(crate) fn is_node(&self, device: DeviceId, key: &str) -> Result<bool, Error> {
        let database = lock(&self.database);
        let tag = database.hasher.tag("node", key.as_bytes());
        Ok(database
            .node_key(device)?
            .is_some_and(|known| equal(&known, &tag)))
    }

    /// Pins hardware that showed itself; the device may turn out to be one that was here before.
    fn pin(&self, device: DeviceId, hardware: Option<&str>) -> Result<DeviceId, Error> {
        let Some(hardware) = hardware else {
            return Ok(device);
        };
        let mut database = lock(&self.database);
        let tag = database.hasher.tag("hardware", hardware.as_bytes());
        let beforehand = |id, what| self.beforehand(id, what);
        let now_known_as = database.pin(device, &tag, beforehand).inspect_err(|error| {
            tracing::warn!(event = "device-hardware", device = %device, %error, "a device's hardware was not pinned");
        })?;
        if now_known_as != device {
            self.republish(&database)?;
            // Its connection is that of a pseudonym which is no more.
            lock(&self.effects).cut.push(device);
            tracing::info!(event = "device-hardware", device = %now_known_as, "a device is known from before");
        }
        Ok(now_known_as)
    }

    /// A nonce for the script on a device, and the counter of its last report.
    pub(crate) fn nonce(
        &self,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<(Zeroizing<String>, u64), Error> {
        self.in_good_standing(device)?;
        let nonce = token::<32>()?;
        let tag = self.nonce_hasher.tag("nonce", nonce.as_bytes());
        let mut nonces = lock(&self.nonces);
        nonces.retain(|_, (_, given)| (0..NONCE_LIFE).contains(&given.age(now)));
        if nonces.len() < MOST_DEVICES {
            nonces.insert(device, (tag, now));
        }
        drop(nonces);
        Ok((nonce, lock(&self.database).counter(device)?))
    }

    /// Takes a report of the script. `Ok(false)`: it answers no open nonce, or its counter did not grow.
    pub(crate) fn script_report(
        &self,
        device: DeviceId,
        sent: script::Sent,
        now: Timestamp,
    ) -> Result<bool, Error> {
        self.in_good_standing(device)?;
        let tag = self.nonce_hasher.tag("nonce", sent.nonce.as_bytes());
        // Right or wrong, a nonce is tried once.
        let open = lock(&self.nonces).remove(&device);
        let answers = open.is_some_and(|(open, given)| {
            equal(&open, &tag) && (0..NONCE_LIFE).contains(&given.age(now))
        });
        if !answers || !lock(&self.database).advance_counter(device, sent.counter)? {
            return Ok(false);
        }
        let device = self.pin(device, sent.hardware.as_deref())?;
        self.take_report(device, sent.report, Source::Script, now)?;
        Ok(true)
    }

    /// Takes over what a device says and tells what that means.
    pub(crate) fn take_report(
        &self,
        device: DeviceId,
        report: Report,
        source: Source,
        now: Timestamp,
    ) -> Result<(), Error> {
        if report.is_empty() {
            return Ok(());
        }
        let mut database = lock(&self.database);
        let mut whole = match database.stored(device)? {
            Some(stored) => stored.report,
            None => Report::default(),
        };
        let taken = whole.merge(report);
        if taken.is_empty() {
            return Ok(());
        }
        if let Some(media) = &taken.media {
            database.media_seen(device, &media.value, now)?;
        }
        database.store(device, source, &whole, now)?;
        // Checks that rest on two facts are judged on both, also when only one is new.
        let affected = Report {
            usb: whole
                .usb
                .filter(|_| taken.usb.is_some() || taken.media.is_some()),
            media: whole
                .media
                .filter(|_| taken.usb.is_some() || taken.media.is_some()),
            encrypted: whole
                .encrypted
                .filter(|_| taken.encrypted.is_some() || taken.portable.is_some()),
            portable: whole
                .portable
                .filter(|_| taken.encrypted.is_some() || taken.portable.is_some()),
            ..taken
        };
        self.judge_report(&database, device, &affected, source, now)?;
        let arrived = Observed {
            check: Check::PcRpt,
            observation: Observation::Pass,
            at: now,
            source,
            digest: sha256(&serde_json::to_vec(&affected).unwrap_or_default()),
        };
        self.tell(device, arrived, now);
        Ok(())
    }

    fn judge_report(
        &self,
        database: &Database,
        device: DeviceId,
        report: &Report,
        source: Source,
        now: Timestamp,
    ) -> Result<(), Error> {
        let standards = self.standards.load();
        for observed in judge_with_media(database, device, report, source, &standards)? {
            self.tell(device, observed, now);
        }
        Ok(())
    }

    /// What time brings, to be called about once a minute: who was seen, who was left on, whose reports are missing, whose
    /// declarations have ended.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn tick(&self, now: Timestamp) -> Result<(), Error> {
        let collected = self.presence.collect();
        let mut database = lock(&self.database);
        let seen: Vec<_> = collected
            .seen
            .iter()
            .map(|(id, at, _)| (*id, *at))
            .collect();
        if !seen.is_empty() {
            database.seen(&seen)?;
        }
        for (device, _, online) in collected.seen.iter().filter(|(.., online)| *online > 0) {
            database.was_online(*device, *online)?;
        }
        if !collected.left_on.is_empty() {
            database.note_left_on(&collected.left_on, now)?;
        }
        lock(&self.effects)
            .seen
            .extend(seen.iter().map(|(id, _)| *id));
        let nights = database.left_on(self.presence.hours().last_night(now))?;
        let declarations = database.declarations()?;
        for device in database.devices()? {
            if device.revoked.is_some() {
                continue;
            }
            for check in inapplicable(device.kind) {
                self.tell_now_and_then(
                    device.id,
                    measured(*check, Observation::NotApplicable, now),
                    now,
                );
            }
            for declared in declarations.iter().filter(|made| made.device == device.id) {
                self.tell_now_and_then(device.id, declared.observed(now), now);
            }
            if device.kind.reports() {
                let left_on = nights.iter().find(|night| night.device == device.id);
                self.tell_now_and_then(device.id, after_hours(left_on, now), now);
                let is_there = seen.iter().any(|(id, _)| *id == device.id);
                self.look_for_reports(&database, device.id, is_there, now)?;
            }
        }
        Ok(())
    }

    /// A PC that was switched off owes no report for that time: what counts is how long it was online without one. While
    /// that is short, the box says so itself whenever the device is there.
    fn look_for_reports(
        &self,
        database: &Database,
        device: DeviceId,
        is_there: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Some(stored) = database.stored(device)? else {
            return Ok(());
        };
        let observation = if stored.online >= REPORT_LIFE {
            Observation::Unknown(Missing::Stale)
        } else if is_there && !stored.report.is_empty() {
            Observation::Pass
        } else {
            // It has said nothing yet, or is not there; how long that may last is the policy's.
            return Ok(());
        };
        self.tell_now_and_then(device, measured(Check::PcRpt, observation, now), now);
        Ok(())
    }

    /// The newest report of a device: when it arrived, from where, and what it says.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn report(&self, device: DeviceId) -> Result<Option<(Timestamp, Source, Report)>, Error> {
        let stored = lock(&self.database).stored(device)?;
        Ok(stored
            .filter(|stored| !stored.report.is_empty())
            .map(|stored| (stored.received, stored.source, stored.report)))
    }

    /// Serial numbers of media that were plugged into a device and are not in the facility's register, and since when.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn unregistered_media(&self, device: DeviceId) -> Result<Vec<(String, Timestamp)>, Error> {
        lock(&self.database).unregistered_media(device, &self.standards.load())
    }

    /// Devices left on in the nights from `from` on: the daily list.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn left_on(&self, from: Timestamp) -> Result<Vec<LeftOn>, Error> {
        lock(&self.database).left_on(from)
    }

    /// The checks that are made of a kind of device.
    #[must_use]
    pub fn concerns(kind: Kind, check: Check) -> bool {
        !inapplicable(kind).contains(&check)
    }

    pub(crate) fn tell(&self, device: DeviceId, observed: Observed, now: Timestamp) {
        lock(&self.told).insert((device, observed.check), (observed.observation, now));
        lock(&self.effects).observed.push((device, observed));
    }

    fn tell_now_and_then(&self, device: DeviceId, observed: Observed, now: Timestamp) {
        let told = lock(&self.told).get(&(device, observed.check)).copied();
        let fresh = told.is_some_and(|(observation, at)| {
            observation == observed.observation && (0..RETELL).contains(&at.age(now))
        });
        if !fresh {
            self.tell(device, observed, now);
        }
    }
}

fn judge_with_media(
    database: &Database,
    device: DeviceId,
    report: &Report,
    source: Source,
    standards: &Standards,
) -> Result<Vec<Observed>, Error> {
    let unregistered = database.unregistered_media(device, standards)?;
    let since = unregistered.first().map(|(_, since)| *since);
    Ok(judge(report, standards, since, source))
}

/// What was reported has not changed, so that it is a failure since other lists hold. One that was a failure before is told
/// as it was.
fn dated_by_lists(mut observed: Observed, before: &[Observed], now: Timestamp) -> Observed {
    let was_so = before
        .iter()
        .any(|old| old.check == observed.check && old.observation == observed.observation);
    if let Observation::Fail {
        since: since @ None,
        ..
    } = &mut observed.observation
        && !was_so
    {
        *since = Some(now);
    }
    observed
}

fn after_hours(left_on: Option<&LeftOn>, now: Timestamp) -> Observed {
    let observation = match left_on {
        Some(night) => Observation::Fail {
            grade: Grade::Major,
            since: Some(night.first),
        },
        None => Observation::Pass,
    };
    measured(Check::PcOn, observation, now)
}

fn measured(check: Check, observation: Observation, now: Timestamp) -> Observed {
    Observed {
        check,
        observation,
        at: now,
        source: Source::Measured,
        digest: sha256(check.id().as_bytes()),
    }
}
