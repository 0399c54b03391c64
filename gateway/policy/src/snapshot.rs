//! Everything the gate judges by, at one moment. Made by the ledger, read by the data path; changes nothing.

use std::sync::Arc;

use crate::{
    Certificate, Check, DeviceId, Entry, Evidence, Ledger, Policy, Standing, Subject, SubjectKind,
    Thresholds, Timestamp,
};

/// The checks of the box, in the order of [`Check::ALL`].
pub const BOX_CHECKS: [Check; 10] = [
    Check::AvAlive,
    Check::AvDb,
    Check::AvSelf,
    Check::AvConf,
    Check::Boot,
    Check::Upd,
    Check::Sbom,
    Check::UsbBox,
    Check::Clock,
    Check::Log,
];
/// The checks of a device, in the order of [`Check::ALL`].
pub const DEVICE_CHECKS: [Check; 9] = [
    Check::PcAv,
    Check::PcSig,
    Check::PcOs,
    Check::PcSw,
    Check::PcLock,
    Check::PcOn,
    Check::PcUsb,
    Check::PcEnc,
    Check::PcRpt,
];
/// The checks of the facility, in the order of [`Check::ALL`].
pub const FACILITY_CHECKS: [Check; 3] = [Check::Media, Check::Decl, Check::Training];

/// All evidence at one moment. Judging by it allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When it was put together, by the box's clock; an old one proves nothing.
    pub taken: Timestamp,
    /// By how many seconds the box's clock was set back and not yet set right; see [`Snapshot::time`].
    pub(crate) behind: i64,
    /// The latest moment the ledger has seen; its time never runs back.
    pub(crate) latest: Timestamp,
    /// The facility certificate (第6条).
    pub certificate: Evidence<Certificate>,
    /// The facility's standing with the city (第35条).
    pub standing: Evidence<Standing>,
    pub(crate) own: [Entry; 10],
    pub(crate) facility: [Entry; 3],
    pub(crate) devices: Arc<[DeviceEntry]>,
    /// Until when an emergency is declared, in the ledger's time.
    pub(crate) break_glass: Option<Timestamp>,
    pub(crate) policy: Arc<Policy>,
}

/// One registered device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEntry {
    /// Its pseudonym.
    pub id: DeviceId,
    /// Since when it is revoked, if it is.
    pub revoked: Option<Timestamp>,
    /// It is the manager's.
    pub manager: bool,
    /// When it was online last, as far as the ledger knows.
    pub seen: Timestamp,
    pub(crate) checks: [Entry; 9],
}

impl DeviceEntry {
    /// One check of this device; `None` for one that is not of a device.
    #[must_use]
    pub fn check(&self, check: Check) -> Option<&Entry> {
        let place = (check as usize).checked_sub(Check::PcAv as usize)?;
        self.checks.get(place)
    }
}

impl Snapshot {
    /// The snapshot of a box that has measured nothing yet.
    #[must_use]
    pub fn nothing_known(taken: Timestamp) -> Self {
        Ledger::new(taken).snapshot(
            taken,
            Evidence::Unknown { since: taken },
            Evidence::Unknown { since: taken },
        )
    }

    /// The moment by which checks and their deadlines are judged: the box's clock, but not running back with it.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> Timestamp {
        now.plus(self.behind).max(self.latest)
    }

    /// One check of one subject; `None` where there is no such device or the check is not the subject's.
    #[must_use]
    pub fn entry(&self, subject: Subject, check: Check) -> Option<&Entry> {
        let place = check as usize;
        match (subject, check.subject()) {
            (Subject::Box, SubjectKind::Box) => self.own.get(place),
            (Subject::Facility, SubjectKind::Facility) => {
                self.facility.get(place - Check::Media as usize)
            }
            (Subject::Device(id), SubjectKind::Device) => self.device(id)?.check(check),
            _ => None,
        }
    }

    /// One check of the box or the facility, whichever it is about.
    ///
    /// `None` for checks of devices, of which there are as many as devices.
    #[must_use]
    pub fn own(&self, check: Check) -> Option<&Entry> {
        match check.subject() {
            SubjectKind::Box => self.entry(Subject::Box, check),
            SubjectKind::Facility => self.entry(Subject::Facility, check),
            SubjectKind::Device => None,
        }
    }

    /// One registered device.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<&DeviceEntry> {
        let place = self.devices.binary_search_by(|entry| entry.id.cmp(&id));
        self.devices.get(place.ok()?)
    }

    /// All registered devices, by their id.
    #[must_use]
    pub fn devices(&self) -> &[DeviceEntry] {
        &self.devices
    }

    /// Until when an emergency is declared, by the box's clock; `None` when none is.
    #[must_use]
    pub fn break_glass(&self, now: Timestamp) -> Option<Timestamp> {
        self.break_glass
            .filter(|until| self.time(now) < *until)
            .map(|until| until.plus(-self.behind))
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
}

impl Entry {
    pub(crate) fn nothing_known(thresholds: &Thresholds, now: Timestamp) -> Self {
        crate::record::Record::unknown(thresholds, now).entry(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_its_place() {
        let all = BOX_CHECKS
            .into_iter()
            .chain(DEVICE_CHECKS)
            .chain(FACILITY_CHECKS);
        assert!(all.eq(Check::ALL));
        let snapshot = Snapshot::nothing_known(Timestamp(0));
        for check in Check::ALL {
            let own = snapshot.own(check).is_some();
            assert_eq!(own, check.subject() != SubjectKind::Device, "{check:?}");
        }
    }
}
