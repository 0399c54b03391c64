//! Keeps the ledger of checks and publishes it as one snapshot that the gate judges on every request.
//!
//! Evidence is put in by those who measure; nothing is measured here and nothing is let through here. A snapshot is
//! published at every change and every few seconds, so that its age proves that this is still running. Every change of
//! a check is one line in the journal and one message to whoever follows [`Posture::transitions`].

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use gateway_audit::{AuditSink, Event};
use gateway_policy::{
    BreakGlass, BreakGlassError, Certificate, Check, DeviceId, DeviceStanding, Effect, Evidence,
    Gate, Grade, Ledger, Observation, Observed, Policy, Rule, Snapshot, Source, Standing, State,
    Subject, Timestamp, Transition, Waiver, WaiverError,
};
use gateway_posture::Image;
use tokio::sync::{broadcast, watch};

use crate::config::PostureTable;
use crate::ledger_file::LedgerFile;

/// How often the snapshot is renewed without a change; well below the age at which the gate calls it stale (2 minutes).
pub(crate) const RENEWAL: Duration = Duration::from_secs(10);

/// Transitions that a follower may fall behind before it misses some.
const BACKLOG: usize = 4096;

/// The box's clock, the one place where the daemon reads it for decisions.
#[must_use]
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
}

/// The evidence board.
#[derive(Debug)]
pub(crate) struct Posture {
    board: Mutex<Board>,
    published: Arc<ArcSwap<Snapshot>>,
    transitions: broadcast::Sender<Transition>,
    policies: watch::Sender<Arc<Policy>>,
    /// Where those who act on the board write down what they did.
    audit: OnceLock<AuditSink>,
    /// The image that runs.
    image: OnceLock<Image>,
    /// When this process opened it, in the ledger's time.
    opened: Timestamp,
}

#[derive(Debug)]
struct Board {
    ledger: Ledger,
    certificate: Evidence<Certificate>,
    standing: Evidence<Standing>,
    /// The box's verdict that the journal was told last.
    told: Option<(Effect, Option<Rule>)>,
    /// Where the ledger is kept; `None` in tests of what does not outlive a run.
    file: Option<LedgerFile>,
    /// When it was handed over to be kept.
    kept: Timestamp,
}

/// What does not change where a check stands (that it has passed once more) is written so often, to spare the disk.
const KEEPING: i64 = 300;

impl Board {
    /// Has the ledger written: at once where something changed, otherwise now and then.
    fn keep(&mut self, now: Timestamp, changed: bool) {
        if changed || self.kept.age(now).abs() >= KEEPING {
            self.kept = now;
            if let Some(file) = &self.file {
                file.keep(&self.ledger);
            }
        }
    }

    /// One line when the gate judges the box otherwise than before.
    fn tell_verdict(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let verdict = Gate::new().box_verdict(snapshot, now);
        if self.told.replace((verdict.effect, verdict.rule)) == Some((verdict.effect, verdict.rule))
        {
            return;
        }
        let rule = verdict.rule.map_or("OK", Rule::id);
        let article = verdict.rule.and_then(Rule::article);
        if verdict.effect == Effect::Allow {
            tracing::info!(event = "posture", effect = ?verdict.effect, rule, "the verdict is now");
        } else {
            tracing::warn!(event = "posture", effect = ?verdict.effect, rule, article, since = verdict.since.0, "the verdict is now");
        }
    }
}

/// One decision line: which check of whom stands how, what it does, since when, and when it does more.
fn tell(transition: &Transition) {
    let (subject, device) = match transition.subject {
        Subject::Box => ("box", None),
        Subject::Facility => ("facility", None),
        Subject::Device(id) => ("device", Some(tracing::field::display(id))),
    };
    let rule = transition.check.id();
    let article = transition.check.article();
    let deadline = transition.deadline.map(|at| at.0);
    let (from, state) = (transition.from.id(), transition.to.id());
    let effect = transition.effect.id();
    if transition.effect > Effect::Warn {
        tracing::warn!(
            target: "renraku::decision", decision = "check", rule, article, subject, device,
            from, state, effect, since = transition.since.0, deadline, "a check has changed",
        );
    } else {
        tracing::info!(
            target: "renraku::decision", decision = "check", rule, article, subject, device,
            from, state, effect, since = transition.since.0, deadline, "a check has changed",
        );
    }
}

#[allow(
    dead_code,
    reason = "devices, the signed channel and the audit log call the rest as they are wired in"
)]
impl Posture {
    /// A board on which nothing is known and that leaves nothing behind.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::with(Ledger::new(now()), None)
    }

    /// The board of the box whose state is in `state_dir`, with the deadlines that ran when it was left.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let (ledger, file) = LedgerFile::open(state_dir, now());
        Self::with(ledger, Some(file))
    }

    fn with(ledger: Ledger, file: Option<LedgerFile>) -> Self {
        let now = now();
        let certificate = Evidence::Unknown { since: now };
        let standing = Evidence::Unknown { since: now };
        let snapshot = ledger.snapshot(now, certificate, standing);
        let policy = Arc::clone(snapshot.policy());
        Self {
            opened: snapshot.time(now),
            board: Mutex::new(Board {
                ledger,
                certificate,
                standing,
                told: None,
                file,
                kept: Timestamp(0),
            }),
            published: Arc::new(ArcSwap::from_pointee(snapshot)),
            transitions: broadcast::channel(BACKLOG).0,
            policies: watch::channel(policy).0,
            audit: OnceLock::new(),
            image: OnceLock::new(),
        }
    }

    /// True when there was good evidence for a check of the box since this process began, and nothing worse after it.
    pub(crate) fn is_proved_since_the_start(&self, check: Check) -> bool {
        let snapshot = self.snapshot();
        snapshot.own(check).is_some_and(|entry| {
            entry.state(snapshot.time(now())) == State::Compliant
                && entry.proof().is_some_and(|at| at >= self.opened)
        })
    }

    /// Says what the box runs on.
    pub(crate) fn runs_on(&self, table: &PostureTable) {
        if let Some(image) = gateway_posture::System::new(&table.root).image() {
            let _ = self.image.set(image);
        }
        self.change(|board, _| {
            board.ledger.runs_on(table.machine());
            Vec::new()
        });
    }

    /// The version of what runs: the image's, and on any other system this program's own.
    pub(crate) fn version(&self) -> &str {
        self.image()
            .map_or(env!("CARGO_PKG_VERSION"), |image| image.version.as_str())
    }

    /// The image that runs; `None` on any other system.
    pub(crate) fn image(&self) -> Option<&Image> {
        self.image.get()
    }

    /// Has what is done with the board written down from now on. Once.
    pub(crate) fn set_audit(&self, sink: AuditSink) {
        let _ = self.audit.set(sink);
    }

    /// Writes something down. Never waits.
    pub(crate) fn record(&self, event: Event) {
        if let Some(sink) = self.audit.get() {
            sink.record(event);
        }
    }

    /// Where things are written down, once there is a log.
    pub(crate) fn audit(&self) -> Option<&AuditSink> {
        self.audit.get()
    }

    /// What the data path reads on every request.
    #[must_use]
    pub(crate) fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.published)
    }

    /// The newest snapshot.
    #[must_use]
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    /// Every change of a check from now on, for the audit log.
    #[must_use]
    pub(crate) fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.transitions.subscribe()
    }

    /// The policy in force: the city's, and from its end on the built-in one.
    #[must_use]
    pub(crate) fn policies(&self) -> watch::Receiver<Arc<Policy>> {
        self.policies.subscribe()
    }

    /// Publishes the facts as they are, stamped with this moment; evidence that has grown old is noticed here.
    pub(crate) fn renew(&self) {
        self.change(|board, now| board.ledger.tick(now));
    }

    /// Takes in one piece of evidence.
    pub(crate) fn observe(&self, subject: Subject, observed: Observed) {
        self.change(|board, now| {
            let transition = board.ledger.observe(subject, observed, now);
            transition.into_iter().collect()
        });
    }

    /// Takes over the register of devices.
    pub(crate) fn set_devices(&self, standings: &[DeviceStanding]) {
        self.change(|board, now| {
            board.kept = Timestamp(0);
            board.ledger.set_devices(standings, now)
        });
    }

    /// A device has connected or reported.
    pub(crate) fn device_seen(&self, id: DeviceId) {
        self.change(|board, now| {
            board.ledger.seen(id, now);
            Vec::new()
        });
    }

    /// Puts the city's signed policy in force, already verified and parsed.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.change(|board, now| {
            board.ledger.set_policy(policy, now);
            board.kept = Timestamp(0);
            board.ledger.tick(now)
        });
    }

    /// Makes an exception from one check.
    pub(crate) fn waive(
        &self,
        subject: Subject,
        check: Check,
        waiver: Waiver,
    ) -> Result<(), WaiverError> {
        let mut done = Ok(());
        self.change(
            |board, now| match board.ledger.waive(subject, check, waiver, now) {
                Ok(transition) => {
                    board.kept = Timestamp(0);
                    transition.into_iter().collect()
                }
                Err(error) => {
                    done = Err(error);
                    Vec::new()
                }
            },
        );
        done
    }

    /// Ends an exception of the manager's before its time.
    pub(crate) fn withdraw_waiver(&self, subject: Subject, check: Check) {
        self.change(|board, now| {
            board.kept = Timestamp(0);
            let transition = board.ledger.withdraw_waiver(subject, check, now);
            transition.into_iter().collect()
        });
    }

    /// All exceptions, those whose time is over included; their ends are in the ledger's time.
    #[must_use]
    pub(crate) fn waivers(&self) -> Vec<(Subject, Check, Waiver)> {
        self.lock().ledger.waivers()
    }

    /// Opens, renews, reviews … an emergency: whatever `act` does with the record at the moment it is given.
    ///
    /// # Errors
    /// What `act` answers; then nothing was changed.
    pub(crate) fn break_glass<T>(
        &self,
        act: impl FnOnce(&mut BreakGlass, Timestamp) -> Result<T, BreakGlassError>,
    ) -> Result<T, BreakGlassError> {
        let mut done = None;
        self.change(|board, now| {
            let (record, now) = board.ledger.break_glass_mut(now);
            let mut changed = record.clone();
            let answer = act(&mut changed, now);
            if answer.is_ok() {
                *record = changed;
                board.kept = Timestamp(0);
            }
            done = Some(answer);
            Vec::new()
        });
        done.expect("the change was made")
    }

    /// The record of emergencies as it is.
    #[must_use]
    pub(crate) fn emergencies(&self) -> BreakGlass {
        self.lock().ledger.break_glass().clone()
    }

    /// Waits until everything is on disk. To be called before the process ends.
    pub(crate) fn flush(&self) {
        let board = self.lock();
        if let Some(file) = &board.file {
            file.keep(&board.ledger);
            file.flush();
        }
    }

    /// The scanner caught its canary and let a clean body pass, or did not.
    pub(crate) fn antivirus(&self, alive: bool) {
        self.measured(Check::AvAlive, alive);
    }

    /// The clock agreed with the city's, or did not.
    pub(crate) fn clock(&self, sane: bool) {
        self.measured(Check::Clock, sane);
    }

    fn measured(&self, check: Check, good: bool) {
        let observation = if good {
            Observation::Pass
        } else {
            Observation::Fail {
                grade: Grade::Major,
                since: None,
            }
        };
        let observed = Observed {
            check,
            observation,
            at: now(),
            source: Source::Measured,
            digest: [0; 32],
        };
        self.observe(Subject::Box, observed);
    }

    /// What is known of the facility certificate.
    pub(crate) fn certificate(&self, value: Certificate) {
        self.change(|board, now| {
            board.certificate = Evidence::Known { value, at: now };
            Vec::new()
        });
    }

    /// Nothing can be said of the facility certificate now: the TPM does not answer for its key.
    pub(crate) fn certificate_unknown(&self) {
        self.change(|board, now| {
            board.certificate = Evidence::Unknown { since: now };
            Vec::new()
        });
    }

    /// What the city says of the facility.
    pub(crate) fn standing(&self, suspended: bool) {
        self.change(|board, now| {
            let value = match (suspended, board.standing) {
                (false, _) => Standing::Active,
                (
                    true,
                    Evidence::Known {
                        value: already @ Standing::Suspended { .. },
                        ..
                    },
                ) => already,
                (true, _) => Standing::Suspended { since: now },
            };
            board.standing = Evidence::Known { value, at: now };
            Vec::new()
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, edit: impl FnOnce(&mut Board, Timestamp) -> Vec<Transition>) {
        let mut board = self.lock();
        let now = now();
        let changed = edit(&mut board, now);
        let snapshot = board
            .ledger
            .snapshot(now, board.certificate, board.standing);
        board.tell_verdict(&snapshot, now);
        self.policies.send_if_modified(|known| {
            let other = !Arc::ptr_eq(known, snapshot.policy());
            *known = Arc::clone(snapshot.policy());
            other
        });
        self.published.store(Arc::new(snapshot));
        board.keep(now, !changed.is_empty());
        for transition in changed {
            tell(&transition);
            let _ = self.transitions.send(transition);
        }
    }
}

impl Drop for Posture {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use gateway_policy::Device;

    use super::*;

    fn scanner(posture: &Posture) -> (Effect, Option<Timestamp>) {
        let snapshot = posture.snapshot();
        let entry = snapshot.own(Check::AvAlive).expect("it is of the box");
        (entry.effect(now()), entry.proof())
    }

    #[test]
    fn looking_again_at_a_failing_scanner_does_not_buy_time() {
        let posture = Posture::new();
        posture.antivirus(true);
        let (effect, proof) = scanner(&posture);
        assert_eq!(effect, Effect::Allow);
        posture.antivirus(false);
        let snapshot = posture.snapshot();
        let deadline = snapshot.own(Check::AvAlive).unwrap().deadline(now());
        posture.antivirus(false);
        assert_eq!(scanner(&posture), (Effect::Restrict, proof));
        let snapshot = posture.snapshot();
        let again = snapshot.own(Check::AvAlive).unwrap().deadline(now());
        assert_eq!(again, deadline);
        assert_eq!(deadline, proof.map(|proof| proof.plus(15 * 60)));
    }

    #[test]
    fn a_scanner_that_never_worked_lets_nothing_be_forwarded() {
        let posture = Posture::new();
        posture.antivirus(false);
        assert_eq!(scanner(&posture), (Effect::Block, None));
    }

    #[test]
    fn a_scanner_that_is_back_is_believed_at_once() {
        let posture = Posture::new();
        posture.antivirus(true);
        posture.antivirus(false);
        posture.antivirus(true);
        assert_eq!(scanner(&posture).0, Effect::Allow);
    }

    #[test]
    fn a_suspension_keeps_its_first_time() {
        let posture = Posture::new();
        posture.standing(true);
        let first = posture.snapshot().standing;
        posture.standing(true);
        let Evidence::Known { value: a, .. } = first else {
            panic!("it is known")
        };
        let Evidence::Known { value: b, .. } = posture.snapshot().standing else {
            panic!("it is known")
        };
        assert_eq!(a, b);
    }

    #[test]
    fn an_emergency_that_is_refused_changes_nothing() {
        let posture = Posture::new();
        let before = posture.emergencies();
        let refused = posture.break_glass(BreakGlass::renew);
        assert_eq!(refused, Err(BreakGlassError::NotOpen));
        assert_eq!(posture.emergencies(), before);
    }

    #[test]
    fn whoever_follows_the_policy_hears_of_each_and_of_its_end() {
        let posture = Posture::new();
        let mut policies = posture.policies();
        posture.renew();
        assert!(!policies.has_changed().unwrap(), "nothing is new");
        let mut policy = Policy::built_in();
        policy.version = 7;
        posture.set_policy(policy.clone());
        assert_eq!(policies.borrow_and_update().version, 7);
        policy.version = 8;
        policy.expires = Some(now());
        posture.set_policy(policy);
        posture.renew();
        assert!(policies.has_changed().unwrap());
        assert_eq!(policies.borrow_and_update().version, 0);
    }

    #[test]
    fn an_unknown_device_is_told_apart_from_the_box() {
        let posture = Posture::new();
        let snapshot = posture.snapshot();
        let verdict = Gate::new().device_verdict(Device::Unknown, &snapshot, now());
        assert_eq!(verdict.rule, Some(Rule::Device));
    }
}
