//! A box on a test stand: a ledger that is told what to believe, and the snapshots it makes.

use gateway_policy::{
    BOX_CHECKS, Certificate, Check, DEVICE_CHECKS, DeviceId, DeviceStanding, Evidence,
    FACILITY_CHECKS, Grade, Ledger, Observation, Observed, Snapshot, Source, Standing, Subject,
    Timestamp, Transition,
};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const MINUTE: i64 = 60;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 86_400;
pub(crate) const PC: DeviceId = DeviceId([7; 16]);

pub(crate) fn ago(seconds: i64) -> Timestamp {
    NOW.plus(-seconds)
}

pub(crate) fn known<T>(value: T, at: Timestamp) -> Evidence<T> {
    Evidence::Known { value, at }
}

pub(crate) fn fail(grade: Grade) -> Observation {
    Observation::Fail { grade, since: None }
}

pub(crate) fn measured(check: Check, observation: Observation, at: Timestamp) -> Observed {
    let source = match check.subject() {
        gateway_policy::SubjectKind::Device => Source::Agent,
        gateway_policy::SubjectKind::Box => Source::Measured,
        gateway_policy::SubjectKind::Facility => Source::Declared,
    };
    Observed {
        check,
        observation,
        at,
        source,
        digest: [1; 32],
    }
}

/// The subject of a check on this stand.
pub(crate) fn subject(check: Check) -> Subject {
    match check.subject() {
        gateway_policy::SubjectKind::Device => Subject::Device(PC),
        gateway_policy::SubjectKind::Box => Subject::Box,
        gateway_policy::SubjectKind::Facility => Subject::Facility,
    }
}

pub(crate) fn registered(ids: &[DeviceId]) -> Vec<DeviceStanding> {
    let standing = |id: &DeviceId| DeviceStanding {
        id: *id,
        revoked: None,
        manager: false,
    };
    ids.iter().map(standing).collect()
}

/// A ledger with one PC on which nothing was measured yet.
pub(crate) fn blank(at: Timestamp) -> Ledger {
    let mut ledger = Ledger::new(at);
    ledger.set_devices(&registered(&[PC]), at);
    ledger
}

/// The same with everything measured at `at` and in order.
pub(crate) fn well(at: Timestamp) -> Ledger {
    well_but(at, &[])
}

/// The same, some checks left out.
pub(crate) fn well_but(at: Timestamp, left_out: &[Check]) -> Ledger {
    let mut ledger = blank(at);
    let all = BOX_CHECKS
        .into_iter()
        .chain(DEVICE_CHECKS)
        .chain(FACILITY_CHECKS);
    for check in all.filter(|check| !left_out.contains(check)) {
        tell(&mut ledger, check, Observation::Pass, at);
    }
    ledger
}

pub(crate) fn tell(
    ledger: &mut Ledger,
    check: Check,
    observation: Observation,
    at: Timestamp,
) -> Option<Transition> {
    ledger.observe(subject(check), measured(check, observation, at), at)
}

/// The facts beside the ledger, all in order.
pub(crate) fn snapshot(ledger: &Ledger, at: Timestamp) -> Snapshot {
    let certificate = Certificate::Held {
        not_before: at.plus(-30 * DAY),
        not_after: at.plus(335 * DAY),
    };
    ledger.snapshot(at, known(certificate, at), known(Standing::Active, at))
}

/// Everything measured just now and in order.
pub(crate) fn good() -> Snapshot {
    snapshot(&well(NOW), NOW)
}
