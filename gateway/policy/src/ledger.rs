//! The ledger: every check of every subject, with its running deadlines. A pure state machine; whoever owns it
//! keeps it on disk ([`Ledger::to_json`]) and tells it the time. Does not decide about requests.

mod device;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ledger_time::{LedgerTime, Passed};
use crate::record::Record;
use crate::snapshot::{BOX_CHECKS, DEVICE_CHECKS, FACILITY_CHECKS};
use crate::{
    BreakGlass, Certificate, Check, DeviceId, Effect, Entry, Evidence, Grade, Observation,
    Observed, Policy, Snapshot, Source, Standing, State, Subject, SubjectKind, Timestamp, Waiver,
    WaiverError,
};

use device::DeviceRecord;
pub use device::DeviceStanding;
pub(crate) use device::just_back;

/// A check that a release brings to a box that ran without it only warns for so long (Kolide's ladder).
const NEW_CHECK_WARNS: i64 = 30 * 86_400;
/// Checks that never wait: what they guard must hold from the first moment.
const NEVER_NEW: [Check; 5] = [
    Check::AvAlive,
    Check::AvDb,
    Check::AvSelf,
    Check::AvConf,
    Check::Boot,
];
/// What only our own image can show. On another machine nothing is known of them, for as long as it is one.
const OF_THE_IMAGE: [Check; 4] = [Check::Boot, Check::Upd, Check::Sbom, Check::UsbBox];
/// The most devices a ledger remembers, those that were removed included.
const DEVICES: usize = 1024;

/// What is told of one check when it changes; one line in the journal and one entry in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Of whom.
    pub subject: Subject,
    /// Which check.
    pub check: Check,
    /// Where it stood.
    pub from: State,
    /// Where it stands.
    pub to: State,
    /// What it does to traffic now.
    pub effect: Effect,
    /// Since when it stands so.
    pub since: Timestamp,
    /// When a harder effect sets in, if ever.
    pub deadline: Option<Timestamp>,
    /// Who gave the newest evidence.
    pub source: Option<Source>,
    /// SHA-256 of the newest evidence.
    pub digest: Option<[u8; 32]>,
    /// When it was noticed.
    pub at: Timestamp,
}

type Records = BTreeMap<Check, Cell>;

/// A record and what was told of it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cell {
    record: Record,
    told: (State, Effect),
}

/// Every check of every subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    time: LedgerTime,
    own: Records,
    facility: Records,
    devices: BTreeMap<DeviceId, DeviceRecord>,
    /// When checks that are younger than this box came to it.
    introduced: BTreeMap<Check, Timestamp>,
    break_glass: BreakGlass,
    #[serde(skip)]
    policy: Arc<Policy>,
    #[serde(skip)]
    machine: Machine,
}

/// What the box runs on, as whoever set it up says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// Our image: what cannot be found out about it counts against it.
    #[default]
    Appliance,
    /// A demonstration, a test, a developer's PC. What only the image can show stays unknown and warns; evidence that it
    /// is bad still counts in full.
    Other,
}

/// Why a written ledger was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Not what [`Ledger::to_json`] writes.
    #[error("cannot read the ledger of checks")]
    Malformed(#[source] serde_json::Error),
    /// It is larger than any ledger can be.
    #[error("the ledger of checks is too large")]
    TooLarge,
}

/// The largest ledger that is read, in bytes.
const LEDGER_BYTES: usize = 32 << 20;

impl Ledger {
    /// The ledger of a box on which nothing was ever measured.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let policy = Arc::new(Policy::built_in());
        let of = |checks: &[Check]| {
            checks
                .iter()
                .map(|check| (*check, Cell::unknown(&policy, *check, now)))
                .collect()
        };
        Self {
            time: LedgerTime::new(now),
            own: of(&BOX_CHECKS),
            facility: of(&FACILITY_CHECKS),
            devices: BTreeMap::new(),
            introduced: BTreeMap::new(),
            break_glass: BreakGlass::default(),
            policy,
            machine: Machine::default(),
        }
    }

    /// Takes over what an earlier run has written. Running deadlines go on; what only held for that run is unknown.
    ///
    /// # Errors
    /// [`LedgerError`]; the caller then begins with [`Ledger::new`], where everything is unknown.
    pub fn from_json(bytes: &[u8], now: Timestamp) -> Result<Self, LedgerError> {
        if bytes.len() > LEDGER_BYTES {
            return Err(LedgerError::TooLarge);
        }
        let mut ledger: Self = serde_json::from_slice(bytes).map_err(LedgerError::Malformed)?;
        ledger.time.pass(now);
        let now = ledger.time.now(now);
        ledger.introduce_new_checks(now);
        for check in [Check::AvAlive, Check::Boot, Check::Clock] {
            let thresholds = *ledger.policy.thresholds(check);
            if let Some(cell) = ledger.own.get_mut(&check) {
                cell.record.forget_proof(&thresholds, now);
            }
        }
        Ok(ledger)
    }

    /// The ledger as it is to be written.
    ///
    /// # Errors
    /// None in practice: every key is a string.
    pub fn to_json(&self) -> Result<Vec<u8>, LedgerError> {
        serde_json::to_vec(self).map_err(LedgerError::Malformed)
    }

    fn introduce_new_checks(&mut self, now: Timestamp) {
        let policy = Arc::clone(&self.policy);
        let mut complete = |records: &mut Records, checks: &[Check]| {
            for check in checks {
                if !records.contains_key(check) {
                    records.insert(*check, Cell::unknown(&policy, *check, now));
                    if !NEVER_NEW.contains(check) {
                        self.introduced.entry(*check).or_insert(now);
                    }
                }
            }
        };
        complete(&mut self.own, &BOX_CHECKS);
        complete(&mut self.facility, &FACILITY_CHECKS);
        for device in self.devices.values_mut() {
            complete(&mut device.records, &DEVICE_CHECKS);
        }
    }

    /// Says what the box runs on; not kept, so that each run says it anew.
    pub const fn runs_on(&mut self, machine: Machine) {
        self.machine = machine;
    }

    /// Takes in one piece of evidence. `None`: nothing changed that anybody is told.
    ///
    /// Evidence on a subject that is not registered, or of a check that is not the subject's, is nothing.
    pub fn observe(
        &mut self,
        subject: Subject,
        observed: Observed,
        now: Timestamp,
    ) -> Option<Transition> {
        let check = observed.check;
        let authenticated = check == Check::Clock
            && matches!(
                observed.observation,
                Observation::Pass | Observation::Dated { .. }
            );
        if authenticated {
            self.clock_is_right(now);
        } else {
            self.look_at_the_clock(now);
        }
        let (clock, now) = (now, self.time.now(now));
        let policy = Arc::clone(&self.policy);
        let thresholds = policy.thresholds(check);
        let observed = self.in_ledger_time(observed, clock);
        if let Subject::Device(id) = subject
            && matches!(observed.source, Source::Agent | Source::Script)
        {
            self.device_was_seen(id, observed.at);
        }
        let cell = self.cell_mut(subject, check)?;
        cell.record.observe(thresholds, &observed, now);
        self.tell(subject, check, now)
    }

    /// The evidence with its moment in the ledger's time; from the future it is none.
    fn in_ledger_time(&self, mut observed: Observed, clock: Timestamp) -> Observed {
        if observed.at.age(clock) < -crate::record::CLOCK_STEP {
            observed.observation = Observation::Unknown(crate::Missing::Error);
        }
        observed.at = if observed.at >= clock {
            self.time.now(clock)
        } else {
            self.time.of(observed.at)
        };
        // Since when something is wrong with a device was read from this clock; the date of a release was not.
        if let (
            SubjectKind::Device,
            Observation::Fail {
                since: Some(since), ..
            },
        ) = (observed.check.subject(), &mut observed.observation)
        {
            *since = self.time.of(*since);
        }
        observed
    }

    /// Lets time pass. Tells what changed by it: evidence grown stale, deadlines reached, the policy's end.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Transition> {
        self.look_at_the_clock(now);
        let now = self.time.now(now);
        if self.policy.is_expired(now) {
            self.set_policy(Policy::built_in(), now);
        }
        self.tell_all(now)
    }

    fn tell_all(&mut self, now: Timestamp) -> Vec<Transition> {
        let mut places: Vec<(Subject, Check)> = Vec::new();
        places.extend(BOX_CHECKS.map(|check| (Subject::Box, check)));
        places.extend(FACILITY_CHECKS.map(|check| (Subject::Facility, check)));
        for id in self.devices.keys() {
            places.extend(DEVICE_CHECKS.map(|check| (Subject::Device(*id), check)));
        }
        places
            .into_iter()
            .filter_map(|(subject, check)| self.tell(subject, check, now))
            .collect()
    }

    fn look_at_the_clock(&mut self, clock: Timestamp) {
        if self.time.pass(clock) == Passed::Backwards {
            let now = self.time.now(clock);
            let rolled_back = Observed {
                check: Check::Clock,
                observation: Observation::Fail {
                    grade: Grade::Major,
                    since: None,
                },
                at: now,
                source: Source::Measured,
                digest: [0; 32],
            };
            let thresholds = *self.policy.thresholds(Check::Clock);
            if let Some(cell) = self.own.get_mut(&Check::Clock) {
                cell.record.observe(&thresholds, &rolled_back, now);
            }
        }
    }

    fn clock_is_right(&mut self, clock: Timestamp) {
        if !self.time.authenticated(clock) {
            return;
        }
        let policy = Arc::clone(&self.policy);
        let clamp = |records: &mut Records| {
            for (check, cell) in records {
                cell.record.clamp(policy.thresholds(*check), clock);
            }
        };
        clamp(&mut self.own);
        clamp(&mut self.facility);
        for device in self.devices.values_mut() {
            clamp(&mut device.records);
            device.clamp(clock);
        }
        self.break_glass.clamp(clock);
    }

    /// Puts another policy in force: what it shortens is shortened at once, what runs already is never made longer.
    /// Exceptions that the former policy made end with it.
    pub fn set_policy(&mut self, policy: Policy, now: Timestamp) {
        self.time.pass(now);
        let now = self.time.now(now);
        let policy = Arc::new(policy);
        self.policy = Arc::clone(&policy);
        let adopt = |records: &mut Records| {
            for (check, cell) in records {
                cell.record.tighten(policy.thresholds(*check));
                let by_city = |waiver: &Waiver| waiver.by == crate::Authority::City;
                if cell.record.waiver().is_some_and(by_city) {
                    cell.record.waive(None);
                }
                let waiver = policy.waivers.iter().find(|(waived, _)| waived == check);
                if let Some((check, waiver)) = waiver
                    && waiver.permitted(*check, now).is_ok()
                {
                    cell.record.waive(Some(waiver.clone()));
                }
            }
        };
        adopt(&mut self.own);
        adopt(&mut self.facility);
        for device in self.devices.values_mut() {
            adopt(&mut device.records);
        }
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Makes an exception. While it runs the check warns at the most; its deadlines run on.
    ///
    /// # Errors
    /// [`WaiverError`] says why it was not made.
    pub fn waive(
        &mut self,
        subject: Subject,
        check: Check,
        waiver: Waiver,
        now: Timestamp,
    ) -> Result<Option<Transition>, WaiverError> {
        self.look_at_the_clock(now);
        let now = self.time.now(now);
        waiver.permitted(check, now)?;
        let cell = self
            .cell_mut(subject, check)
            .ok_or(WaiverError::NoSubject)?;
        cell.record.waive(Some(waiver));
        Ok(self.tell(subject, check, now))
    }

    /// Ends an exception of the manager's before its time; `None` also when there is none. The city's ends with its policy.
    pub fn withdraw_waiver(
        &mut self,
        subject: Subject,
        check: Check,
        now: Timestamp,
    ) -> Option<Transition> {
        self.look_at_the_clock(now);
        let now = self.time.now(now);
        let cell = self.cell_mut(subject, check)?;
        let by_manager = |waiver: &Waiver| waiver.by == crate::Authority::Manager;
        if !cell.record.waiver().is_some_and(by_manager) {
            return None;
        }
        cell.record.waive(None);
        self.tell(subject, check, now)
    }

    /// Every exception that was made and not withdrawn, also those whose time is over, each until the next one takes its place.
    #[must_use]
    pub fn waivers(&self) -> Vec<(Subject, Check, Waiver)> {
        let of = |subject: Subject, records: &Records| -> Vec<(Subject, Check, Waiver)> {
            records
                .iter()
                .filter_map(|(check, cell)| Some((subject, *check, cell.record.waiver()?.clone())))
                .collect()
        };
        let mut all = of(Subject::Box, &self.own);
        all.extend(of(Subject::Facility, &self.facility));
        for (id, device) in &self.devices {
            all.extend(of(Subject::Device(*id), &device.records));
        }
        all
    }

    /// The exception that runs, if any.
    #[must_use]
    pub fn waiver(&self, subject: Subject, check: Check) -> Option<&Waiver> {
        self.cell(subject, check)?.record.waiver()
    }

    /// The record of emergencies.
    #[must_use]
    pub const fn break_glass(&self) -> &BreakGlass {
        &self.break_glass
    }

    /// The record of emergencies, to open or review one, with the moment in the ledger's time.
    pub fn break_glass_mut(&mut self, now: Timestamp) -> (&mut BreakGlass, Timestamp) {
        self.look_at_the_clock(now);
        (&mut self.break_glass, self.time.now(now))
    }

    /// One check as it stands.
    #[must_use]
    pub fn entry(&self, subject: Subject, check: Check) -> Option<Entry> {
        let cell = self.cell(subject, check)?;
        let introduced = self.introduced.get(&check);
        let mut entry = cell
            .record
            .entry(introduced.map(|since| since.plus(NEW_CHECK_WARNS)));
        let excused = self.machine == Machine::Other && OF_THE_IMAGE.contains(&check);
        if excused && entry.failing_since.is_none() && entry.unknown_since.is_some() {
            entry.warn_only_until = Some(Timestamp::NEVER);
        }
        match subject {
            Subject::Device(id) => self.devices.get(&id).map(|device| device.caught_up(entry)),
            Subject::Box | Subject::Facility => Some(entry),
        }
    }

    /// Everything the gate judges by. `certificate` and `standing` are measured elsewhere.
    #[must_use]
    pub fn snapshot(
        &self,
        now: Timestamp,
        certificate: Evidence<Certificate>,
        standing: Evidence<Standing>,
    ) -> Snapshot {
        let entry = |subject, check| {
            self.entry(subject, check)
                .unwrap_or_else(|| Entry::nothing_known(self.policy.thresholds(check), now))
        };
        Snapshot {
            taken: now,
            behind: self.time.behind(),
            latest: self.time.latest(),
            certificate,
            standing,
            own: BOX_CHECKS.map(|check| entry(Subject::Box, check)),
            facility: FACILITY_CHECKS.map(|check| entry(Subject::Facility, check)),
            devices: self.device_entries(entry),
            break_glass: self.break_glass.open_until(self.time.now(now)),
            policy: Arc::clone(&self.policy),
        }
    }

    fn cell(&self, subject: Subject, check: Check) -> Option<&Cell> {
        match subject {
            Subject::Box => self.own.get(&check),
            Subject::Facility => self.facility.get(&check),
            Subject::Device(id) => self.devices.get(&id)?.records.get(&check),
        }
    }

    fn cell_mut(&mut self, subject: Subject, check: Check) -> Option<&mut Cell> {
        match subject {
            Subject::Box => self.own.get_mut(&check),
            Subject::Facility => self.facility.get_mut(&check),
            Subject::Device(id) => self.devices.get_mut(&id)?.records.get_mut(&check),
        }
    }

    /// What is to be told of one check, if it changed since it was told last. `now` is in the ledger's time.
    fn tell(&mut self, subject: Subject, check: Check, now: Timestamp) -> Option<Transition> {
        let entry = self.entry(subject, check)?;
        let (to, effect) = (entry.state(now), entry.effect(now));
        let effect = match check.subject() {
            SubjectKind::Facility => effect.min(Effect::Warn),
            SubjectKind::Box | SubjectKind::Device => effect,
        };
        let cell = self.cell_mut(subject, check)?;
        let (from, told) = cell.told;
        if (from, told) == (to, effect) {
            return None;
        }
        cell.told = (to, effect);
        let evidence = entry.evidence();
        Some(Transition {
            subject,
            check,
            from,
            to,
            effect,
            since: entry.since(now),
            deadline: entry.deadline(now),
            source: evidence.map(|(_, source, _)| source),
            digest: evidence.map(|(_, _, digest)| digest),
            at: now,
        })
    }
}

impl Cell {
    fn unknown(policy: &Policy, check: Check, now: Timestamp) -> Self {
        let record = Record::unknown(policy.thresholds(check), now);
        // As though it had been told: that nothing is known at the very beginning is no news.
        let entry = record.entry(None);
        Self {
            told: (entry.state(now), entry.effect(now)),
            record,
        }
    }
}
