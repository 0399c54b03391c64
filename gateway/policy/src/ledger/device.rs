//! The devices in the ledger: who is registered, and the catch-up of one that was switched off.
//! Does not know how a device proves who it is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cell, DEVICES, Ledger, Records};
use crate::snapshot::{DEVICE_CHECKS, DeviceEntry};
use crate::{Check, DeviceId, Effect, Entry, Subject, Timestamp, Transition};

/// A device that was silent for so long was switched off.
const ABSENCE: i64 = 12 * 3600;
/// So long a device may be online at *restrict* before a deadline that fell into its absence blocks it.
const CATCH_UP: i64 = 3600;
/// A removed device is remembered for so long, so that removing it gives no credit back.
const REMEMBERED: i64 = 400 * 86_400;

/// One device as the register knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceStanding {
    /// Its pseudonym; the register gives the same one to the same hardware when it is paired again.
    pub id: DeviceId,
    /// Since when it is revoked, if it is.
    pub revoked: Option<Timestamp>,
    /// It is the manager's: break-glass and approvals may be asked for from it.
    pub manager: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceRecord {
    pub(super) records: Records,
    revoked: Option<Timestamp>,
    manager: bool,
    /// Since when it is no longer registered.
    removed: Option<Timestamp>,
    /// When it was online last.
    seen: Timestamp,
    /// Its newest absence: from and to.
    absence: Option<(Timestamp, Timestamp)>,
}

impl DeviceRecord {
    /// The entry with the deadlines that fell into the device's absence put off until it had time to catch up.
    pub(super) fn caught_up(&self, entry: Entry) -> Entry {
        entry.caught_up(self.absence)
    }

    /// The clock had run ahead: nothing was seen later than now.
    pub(super) fn clamp(&mut self, now: Timestamp) {
        self.seen = self.seen.min(now);
        let absence = self.absence.filter(|(gone, _)| *gone < now);
        self.absence = absence.map(|(gone, back)| (gone, back.min(now)));
    }
}

impl Entry {
    pub(crate) fn caught_up(mut self, absence: Option<(Timestamp, Timestamp)>) -> Self {
        let Some((gone, back)) = absence else {
            return self;
        };
        let fell_into = |at: Timestamp| gone < at && at <= back;
        let later = back.plus(CATCH_UP);
        if fell_into(self.deadlines.at(Effect::Block)) {
            self.deadlines = self.deadlines.postponed(Effect::Block, later);
        }
        // Merely having been silent is no fault of a device that was off.
        let only_silent = self.failing_since.is_none() && self.overdue_from > back;
        if only_silent && fell_into(self.deadlines.at(Effect::Restrict)) {
            self.deadlines = self.deadlines.postponed(Effect::Restrict, later);
        }
        self
    }
}

impl Ledger {
    /// Takes over the register: who is registered, revoked, a manager's. Devices that are missing are no longer
    /// registered, but their deadlines are kept, so that pairing one again gives no credit.
    pub fn set_devices(&mut self, standings: &[DeviceStanding], now: Timestamp) -> Vec<Transition> {
        self.look_at_the_clock(now);
        let now = self.time.now(now);
        for record in self.devices.values_mut() {
            record.removed.get_or_insert(now);
        }
        for standing in standings {
            if !self.devices.contains_key(&standing.id) && self.devices.len() >= DEVICES {
                self.forget_oldest();
            }
            let policy = Arc::clone(&self.policy);
            let record = self.devices.entry(standing.id).or_insert_with(|| {
                let unknown = |check: &Check| (*check, Cell::unknown(&policy, *check, now));
                DeviceRecord {
                    records: DEVICE_CHECKS.iter().map(unknown).collect(),
                    revoked: None,
                    manager: false,
                    removed: None,
                    seen: now,
                    absence: None,
                }
            });
            record.revoked = standing.revoked;
            record.manager = standing.manager;
            record.removed = None;
        }
        self.devices.retain(|_, record| {
            let removed = record.removed;
            removed.is_none_or(|removed| removed.age(now) < REMEMBERED)
        });
        self.tell_all(now)
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .devices
            .iter()
            .filter_map(|(id, record)| record.removed.map(|removed| (removed, *id)))
            .min();
        if let Some((_, id)) = oldest {
            self.devices.remove(&id);
        }
    }

    /// A device is online: it has connected with its certificate, or reported.
    ///
    /// To be called now and then while it is; what matters is the silence before.
    pub fn seen(&mut self, id: DeviceId, now: Timestamp) {
        self.look_at_the_clock(now);
        let now = self.time.now(now);
        self.device_was_seen(id, now);
    }

    pub(super) fn device_was_seen(&mut self, id: DeviceId, now: Timestamp) {
        if let Some(record) = self.devices.get_mut(&id) {
            if record.seen.age(now) > ABSENCE {
                record.absence = Some((record.seen, now));
            }
            record.seen = record.seen.max(now);
        }
    }

    pub(super) fn device_entries(
        &self,
        entry: impl Fn(Subject, Check) -> Entry,
    ) -> Arc<[DeviceEntry]> {
        // In the order of the map, which is the order of the ids: the gate searches it by halves.
        self.devices
            .iter()
            .filter(|(_, record)| record.removed.is_none())
            .map(|(id, record)| DeviceEntry {
                id: *id,
                revoked: record.revoked,
                manager: record.manager,
                seen: record.seen,
                checks: DEVICE_CHECKS.map(|check| entry(Subject::Device(*id), check)),
            })
            .collect()
    }

    /// The registered devices.
    pub fn devices(&self) -> impl Iterator<Item = DeviceId> {
        let registered =
            |(id, record): (&DeviceId, &DeviceRecord)| record.removed.is_none().then_some(*id);
        self.devices.iter().filter_map(registered)
    }
}

/// In the gate: a device that asks now after a long silence is just back, even before the ledger has heard of it.
pub(crate) fn just_back(seen: Timestamp, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    (seen.age(now) > ABSENCE).then_some((seen, now))
}
