//! What holds for every history of evidence, restarts, pairings, policies and clocks.

use std::sync::Arc;

use gateway_policy::{
    Area, Asked, Certificate, Check, Device, Effect, Evidence, Gate, Grade, Ledger, Missing,
    Observation, Opener, Policy, PolicyContext, Reason, Recent, Snapshot, Standing, Subject,
    SubjectKind, Timestamp, VersionFloor, WaiverError,
};
use proptest::prelude::*;

use crate::stand::{
    DAY, HOUR, MINUTE, NOW, PC, blank, known, measured, registered, snapshot, subject, tell, well,
};

/// One thing that happens to a ledger.
#[derive(Clone, Debug)]
enum Event {
    Told(Check, Observation),
    Wait(i64),
    Restart,
    Forget,
    Pair,
    Reload(bool),
    SetBack(i64),
    Seen,
    Tick,
}

fn a_check() -> impl Strategy<Value = Check> {
    prop::sample::select(Check::ALL.to_vec())
}

fn a_moment() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (0..HOUR).prop_map(|s| NOW.plus(-s)),
        (0..60 * DAY).prop_map(|s| NOW.plus(-s)),
        (0..60 * DAY).prop_map(|s| NOW.plus(s)),
    ]
}

fn ignorance() -> impl Strategy<Value = Observation> {
    let missing = prop_oneof![
        Just(Missing::Never),
        Just(Missing::Stale),
        Just(Missing::Error)
    ];
    missing.prop_map(Observation::Unknown)
}

fn bad() -> impl Strategy<Value = Observation> {
    let grade = prop_oneof![Just(Grade::Minor), Just(Grade::Major)];
    prop_oneof![
        (grade, prop::option::of(a_moment()))
            .prop_map(|(grade, since)| Observation::Fail { grade, since }),
        ignorance(),
    ]
}

fn any_observation() -> impl Strategy<Value = Observation> {
    prop_oneof![
        3 => Just(Observation::Pass),
        1 => Just(Observation::NotApplicable),
        2 => a_moment().prop_map(|since| Observation::Dated { since }),
        3 => bad(),
    ]
}

fn a_wait() -> impl Strategy<Value = i64> {
    prop_oneof![0..MINUTE, 0..HOUR, 0..2 * DAY, 0..20 * DAY]
}

fn upheaval() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Restart),
        Just(Event::Forget),
        Just(Event::Pair),
        any::<bool>().prop_map(Event::Reload),
        a_wait().prop_map(Event::SetBack),
        Just(Event::Tick),
    ]
}

fn history(
    observation: impl Strategy<Value = Observation> + 'static,
) -> impl Strategy<Value = Vec<Event>> {
    let told = (a_check(), observation).prop_map(|(check, seen)| Event::Told(check, seen));
    let event = prop_oneof![
        6 => told,
        3 => a_wait().prop_map(Event::Wait),
        2 => upheaval(),
        1 => Just(Event::Seen),
    ];
    prop::collection::vec(event, 0..25)
}

/// The loosest policy that a city can sign.
fn loosest() -> Policy {
    let mut settings = Vec::new();
    for check in Check::ALL {
        for part in gateway_policy::Part::ALL {
            for effect in [Effect::Warn, Effect::Restrict, Effect::Block] {
                if let Some((_, most)) = gateway_policy::bounds(check, part, effect) {
                    let parameter = format!("{}.{}", part.id(), effect.id());
                    settings.push(serde_json::json!({
                        "check": check.id(), "parameter": parameter, "value": most,
                    }));
                }
            }
        }
    }
    let document = serde_json::json!({
        "version": 1, "not_before": NOW.0, "expires": NOW.0 + 400 * DAY, "facilities": ["*"],
        "set": settings,
    });
    let context = PolicyContext {
        now: NOW,
        floor: VersionFloor::default(),
        facility: "F-1",
    };
    Policy::parse(document.to_string().as_bytes(), &context).unwrap()
}

struct Run {
    ledger: Ledger,
    now: Timestamp,
}

impl Run {
    fn happens(&mut self, event: &Event) {
        let now = self.now;
        match event {
            Event::Told(check, seen) => {
                let observed = measured(*check, *seen, now);
                self.ledger.observe(subject(*check), observed, now);
            }
            Event::Wait(seconds) => self.now = now.plus(*seconds),
            Event::Restart => {
                let written = self.ledger.to_json().unwrap();
                let policy = Arc::clone(self.ledger.policy());
                self.ledger = Ledger::from_json(&written, now).unwrap();
                self.ledger.set_policy((*policy).clone(), now);
            }
            Event::Forget => drop(self.ledger.set_devices(&[], now)),
            Event::Pair => drop(self.ledger.set_devices(&registered(&[PC]), now)),
            Event::Reload(loose) => {
                let policy = if *loose {
                    loosest()
                } else {
                    Policy::built_in()
                };
                self.ledger.set_policy(policy, now);
            }
            Event::SetBack(seconds) => {
                self.now = now.plus(-seconds);
                self.ledger.tick(self.now);
            }
            Event::Seen => self.ledger.seen(PC, now),
            Event::Tick => drop(self.ledger.tick(now)),
        }
    }

    fn of(start: Ledger, events: &[Event]) -> Self {
        let mut run = Self {
            ledger: start,
            now: NOW,
        };
        for event in events {
            run.happens(event);
        }
        // So that every check can be looked at.
        run.happens(&Event::Pair);
        run
    }

    /// What a check does `later` seconds from now if nothing more happens.
    fn effect(&self, check: Check, later: i64) -> Effect {
        self.effect_in(&snapshot(&self.ledger, self.now), check, later)
    }

    fn effect_in(&self, snapshot: &Snapshot, check: Check, later: i64) -> Effect {
        let entry = snapshot.entry(subject(check), check).unwrap();
        entry.effect(snapshot.time(self.now.plus(later)))
    }
}

/// Moments at which two runs are compared.
const LATER: [i64; 9] = [
    0,
    5 * MINUTE,
    16 * MINUTE,
    HOUR,
    5 * HOUR,
    2 * DAY,
    8 * DAY,
    16 * DAY,
    70 * DAY,
];

/// No check of `harder` does less than in `milder`, now or later.
fn at_least(harder: &Run, milder: &Run) -> Result<(), TestCaseError> {
    at_least_within(0, harder, milder)
}

/// The same, give or take the seconds by which a clock may be corrected without being called wrong.
fn at_least_within(slack: i64, harder: &Run, milder: &Run) -> Result<(), TestCaseError> {
    let theirs = snapshot(&harder.ledger, harder.now);
    let ours = snapshot(&milder.ledger, milder.now);
    for check in Check::ALL {
        for later in LATER {
            let hard = harder.effect_in(&theirs, check, later + slack);
            let mild = milder.effect_in(&ours, check, later);
            prop_assert!(
                hard >= mild,
                "{check:?} after {later} s: {hard:?} instead of {mild:?}"
            );
        }
    }
    Ok(())
}

const fn ask(writes: bool, transfers_file: bool) -> Asked {
    Asked {
        area: Area::Staff,
        writes,
        transfers_file,
    }
}

/// Read, write, upload, download.
const ASKS: [Asked; 4] = [
    ask(false, false),
    ask(true, false),
    ask(true, true),
    ask(false, true),
];

fn facts(now: Timestamp) -> impl Strategy<Value = (Evidence<Certificate>, Evidence<Standing>)> {
    let certificate = prop_oneof![
        Just(Evidence::Unknown { since: now }),
        Just(known(Certificate::Absent, now)),
        Just(known(Certificate::Revoked { since: now }, now)),
        (a_moment(), a_moment()).prop_map(move |(not_before, not_after)| known(
            Certificate::Held {
                not_before,
                not_after
            },
            now
        )),
    ];
    let standing = prop_oneof![
        Just(Evidence::Unknown { since: now }),
        Just(known(Standing::Active, now)),
        Just(known(Standing::Suspended { since: now }, now)),
    ];
    (certificate, standing)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_evidence_never_means_allow(events in history(ignorance())) {
        let run = Run::of(blank(NOW), &events);
        for check in Check::ALL {
            for later in LATER {
                prop_assert!(run.effect(check, later) >= Effect::Warn, "{check:?}");
            }
        }
    }

    #[test]
    fn a_scanner_without_a_proof_blocks_whatever_else_is_seen(events in history(bad())) {
        let run = Run::of(blank(NOW), &events);
        let snapshot = snapshot(&run.ledger, run.now);
        let verdict = Gate::new().box_verdict(&snapshot, run.now);
        prop_assert_eq!(verdict.effect, Effect::Block);
    }

    #[test]
    fn an_upheaval_never_extends_a_deadline(
        events in history(any_observation()), upheavals in prop::collection::vec(upheaval(), 1..4),
    ) {
        let before = Run::of(well(NOW), &events);
        let mut after = Run { ledger: before.ledger.clone(), now: before.now };
        for upheaval in &upheavals {
            after.happens(upheaval);
        }
        after.happens(&Event::Pair);
        at_least_within(60, &after, &before)?;
    }

    #[test]
    fn bad_evidence_is_never_better_than_good(
        events in history(any_observation()), check in a_check(), seen in bad(),
    ) {
        let mut start = Run::of(well(NOW), &events);
        // An authenticated time sets the ledger's own time right, so it is not one check's evidence alone.
        prop_assume!(check != Check::Clock);
        // A report shows that the device is there; that is not what is compared.
        start.happens(&Event::Seen);
        let after = |seen| {
            let mut run = Run { ledger: start.ledger.clone(), now: start.now };
            run.happens(&Event::Told(check, seen));
            run
        };
        at_least(&after(seen), &after(Observation::Pass))?;
        at_least(&after(Observation::Unknown(Missing::Error)), &start)?;
        let minor = Observation::Fail { grade: Grade::Minor, since: None };
        let major = Observation::Fail { grade: Grade::Major, since: None };
        at_least(&after(major), &after(minor))?;
    }

    #[test]
    fn bad_evidence_about_one_check_changes_no_other(
        events in history(any_observation()), check in a_check(), seen in bad(),
    ) {
        let start = Run::of(well(NOW), &events);
        let mut run = Run { ledger: start.ledger.clone(), now: start.now };
        run.happens(&Event::Told(check, seen));
        let others = Check::ALL.into_iter().filter(|other| *other != check);
        for other in others.filter(|other| other.subject() != SubjectKind::Device) {
            prop_assert_eq!(run.effect(other, 0), start.effect(other, 0));
        }
    }

    #[test]
    fn waiting_without_new_evidence_never_yields_a_milder_effect(events in history(any_observation())) {
        let run = Run::of(well(NOW), &events);
        for check in Check::ALL {
            let effects = LATER.map(|later| run.effect(check, later));
            prop_assert!(effects.is_sorted(), "{check:?}: {effects:?}");
        }
    }

    #[test]
    fn the_public_portal_and_the_boxs_own_pages_are_always_reachable(
        events in history(any_observation()), (certificate, standing) in facts(NOW),
        known_device: bool, writes: bool, transfers_file: bool,
    ) {
        let run = Run::of(blank(NOW), &events);
        let snapshot = run.ledger.snapshot(run.now, certificate, standing);
        let device = if known_device { Device::Registered(PC) } else { Device::Unknown };
        for area in [Area::Public, Area::Box] {
            let asked = Asked { area, writes, transfers_file };
            prop_assert!(Gate::new().check(&asked, device, &snapshot, run.now).is_ok());
        }
    }

    #[test]
    fn a_stale_snapshot_forwards_nothing(events in history(any_observation()), age in 121..10 * DAY) {
        let run = Run::of(well(NOW), &events);
        let snapshot = snapshot(&run.ledger, run.now);
        for asked in ASKS {
            let later = run.now.plus(age);
            prop_assert!(Gate::new().check(&asked, Device::Registered(PC), &snapshot, later).is_err());
        }
    }

    #[test]
    fn what_is_remembered_of_the_request_before_changes_no_answer(
        events in history(any_observation()),
        turns in prop::collection::vec((0..2_usize, 0..3_i64, any::<bool>(), 0..ASKS.len()), 1..20),
    ) {
        let run = Run::of(well(NOW), &events);
        // A newer snapshot stands at another place even if it says the same; times come as they come.
        let snapshots = [well(NOW), run.ledger].map(|ledger| Arc::new(snapshot(&ledger, run.now)));
        let mut recent = Recent::default();
        for (which, later, known_device, ask) in turns {
            let device = if known_device { Device::Registered(PC) } else { Device::Unknown };
            let (snapshot, now) = (&snapshots[which], run.now.plus(later * MINUTE));
            prop_assert_eq!(
                Gate::new().check_recent(&mut recent, &ASKS[ask], device, snapshot, now),
                Gate::new().check(&ASKS[ask], device, snapshot, now)
            );
        }
    }

    #[test]
    fn whoever_may_transfer_a_file_may_also_read_and_write(events in history(any_observation())) {
        let run = Run::of(well(NOW), &events);
        let snapshot = snapshot(&run.ledger, run.now);
        let may = ASKS.map(|asked| {
            Gate::new().check(&asked, Device::Registered(PC), &snapshot, run.now).is_ok()
        });
        prop_assert!(!may[2] || (may[0] && may[1]));
        prop_assert_eq!(may[2], may[3]);
    }

    #[test]
    fn an_emergency_lowers_a_block_to_a_restriction_and_nothing_else(
        events in history(any_observation()), (certificate, standing) in facts(NOW),
    ) {
        let mut run = Run::of(well(NOW), &events);
        let judged = |run: &Run| {
            let snapshot = run.ledger.snapshot(run.now, certificate, standing);
            let verdict = Gate::new().verdict(Device::Registered(PC), &snapshot, run.now);
            (snapshot, verdict)
        };
        let (snapshot, before) = judged(&run);
        let (record, now) = run.ledger.break_glass_mut(run.now);
        record.open(Opener::Manager, Reason::Emergency, now).unwrap();
        let (_, after) = judged(&run);
        prop_assert!(after.effect >= before.effect.min(Effect::Restrict));
        prop_assert!(after.effect <= before.effect);
        let boot = snapshot.own(Check::Boot).unwrap().effect(snapshot.time(run.now));
        if boot == Effect::Block || fact_blocks(&snapshot, run.now) {
            prop_assert_eq!(after.effect, Effect::Block);
        }
    }

    #[test]
    fn the_report_never_passes_what_the_gate_does_not(events in history(any_observation())) {
        use gateway_policy::report::{Mark, report};
        let run = Run::of(well(NOW), &events);
        let snapshot = snapshot(&run.ledger, run.now);
        for row in report(&snapshot, run.now).rows {
            let good = matches!(row.mark, Mark::Pass | Mark::NotApplicable);
            prop_assert_eq!(good, row.effect == Effect::Allow && row.mark != Mark::Warn, "{:?}", row);
        }
    }

    #[test]
    fn nobody_excepts_what_proves_scanning_and_booting(events in history(any_observation())) {
        let mut run = Run::of(well(NOW), &events);
        for check in [Check::AvAlive, Check::AvDb, Check::AvSelf, Check::AvConf, Check::Boot] {
            for by in [gateway_policy::Authority::City, gateway_policy::Authority::Manager] {
                let waiver = gateway_policy::Waiver { by, until: run.now.plus(60), reason: "x".into() };
                let refused = run.ledger.waive(Subject::Box, check, waiver, run.now);
                prop_assert_eq!(refused, Err(WaiverError::NotWaivable(check)));
            }
        }
    }
}

fn fact_blocks(snapshot: &Snapshot, now: Timestamp) -> bool {
    use gateway_policy::Rule;
    [Rule::Suspended, Rule::Cert, Rule::SnapshotStale]
        .into_iter()
        .any(|rule| rule.judge(snapshot, now).effect == Effect::Block)
}

#[test]
fn a_policy_may_shorten_what_runs_and_never_lengthens_it() {
    let mut run = Run::of(well(NOW), &[]);
    let fails = Observation::Fail {
        grade: Grade::Major,
        since: None,
    };
    tell(&mut run.ledger, Check::Upd, fails, NOW);
    run.happens(&Event::Reload(true));
    assert_eq!(run.effect(Check::Upd, 14 * DAY), Effect::Restrict);
}
