//! What only our image can show, on our image and on any other machine.

use gateway_policy::{
    Certificate, Check, Effect, Evidence, Grade, Ledger, Machine, Missing, Observation, Observed,
    Source, Standing, State, Subject, Timestamp,
};

const NOW: Timestamp = Timestamp(1_800_000_000);
const YEAR: i64 = 365 * 86_400;
const OF_THE_IMAGE: [Check; 4] = [Check::Boot, Check::Upd, Check::Sbom, Check::UsbBox];

fn ledger(machine: Machine, observation: Observation) -> Ledger {
    let mut ledger = Ledger::new(NOW);
    ledger.runs_on(machine);
    for check in OF_THE_IMAGE {
        let observed = Observed {
            check,
            observation,
            at: NOW,
            source: Source::Measured,
            digest: [7; 32],
        };
        ledger.observe(Subject::Box, observed, NOW);
    }
    ledger
}

fn effect(ledger: &Ledger, check: Check, at: Timestamp) -> Effect {
    ledger
        .entry(Subject::Box, check)
        .expect("a check of the box")
        .effect(at)
}

#[test]
fn on_our_image_ignorance_about_the_boot_blocks_after_a_day() {
    let ledger = ledger(Machine::Appliance, Observation::Unknown(Missing::Error));
    assert_eq!(effect(&ledger, Check::Boot, NOW), Effect::Warn);
    assert_eq!(
        effect(&ledger, Check::Boot, NOW.plus(86_400)),
        Effect::Block
    );
}

#[test]
fn on_another_machine_it_is_unknown_and_warns_and_never_comes_to_more() {
    let ledger = ledger(Machine::Other, Observation::Unknown(Missing::Never));
    for check in OF_THE_IMAGE {
        let later = NOW.plus(10 * YEAR);
        assert_eq!(effect(&ledger, check, later), Effect::Warn, "{check:?}");
        let entry = ledger
            .entry(Subject::Box, check)
            .expect("a check of the box");
        assert_eq!(entry.state(NOW), State::Unknown(Missing::Never));
        assert_eq!(entry.deadline(NOW), None);
    }
}

#[test]
fn evidence_that_it_is_bad_counts_in_full_on_any_machine() {
    let bad = Observation::Fail {
        grade: Grade::Major,
        since: None,
    };
    assert_eq!(
        effect(&ledger(Machine::Other, bad), Check::Boot, NOW),
        Effect::Block
    );
    assert_eq!(
        effect(&ledger(Machine::Other, bad), Check::UsbBox, NOW),
        Effect::Block
    );
}

#[test]
fn what_a_machine_is_must_be_said_again_after_a_restart() {
    let before = ledger(Machine::Other, Observation::Unknown(Missing::Never));
    let written = before.to_json().expect("it can be written");
    let after = Ledger::from_json(&written, NOW.plus(10)).expect("it can be read");
    assert_eq!(effect(&after, Check::Boot, NOW.plus(YEAR)), Effect::Block);
    let snapshot = after.snapshot(
        NOW.plus(10),
        Evidence::Known {
            value: Certificate::Absent,
            at: NOW,
        },
        Evidence::Known {
            value: Standing::Active,
            at: NOW,
        },
    );
    assert_eq!(snapshot.taken, NOW.plus(10));
}
