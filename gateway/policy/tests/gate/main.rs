//! What the gate promises, for chosen cases and for any snapshot.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stand that does not work is a test that fails"
)]

mod break_glass;
mod content;
mod devices;
mod document;
mod properties;
mod report;
mod stand;
mod states;
mod table;

use gateway_policy::{
    Area, Asked, Certificate, Check, Device, Effect, Evidence, Gate, Grade, Observation, Rule,
    Snapshot, Standing,
};
use stand::{DAY, MINUTE, NOW, PC, ago, fail, good, known, snapshot, tell, well, well_but};

const DEVICE: Device = Device::Registered(PC);

fn but(mut snapshot: Snapshot, change: impl FnOnce(&mut Snapshot)) -> Snapshot {
    change(&mut snapshot);
    snapshot
}

const READ: Asked = Asked {
    area: Area::Staff,
    writes: false,
    transfers_file: false,
};
const WRITE: Asked = Asked {
    area: Area::Staff,
    writes: true,
    transfers_file: false,
};
const UPLOAD: Asked = Asked {
    area: Area::Staff,
    writes: true,
    transfers_file: true,
};
const DOWNLOAD: Asked = Asked {
    area: Area::Staff,
    writes: false,
    transfers_file: true,
};

/// The effect and rule, after checking that the gate acts on it as the effect's definition says.
fn judged(snapshot: &Snapshot) -> (Effect, &'static str) {
    let gate = Gate::new();
    let verdict = gate.verdict(DEVICE, snapshot, NOW);
    let passes = |asked: &Asked| gate.check(asked, DEVICE, snapshot, NOW).is_ok();
    let (text, file) = match verdict.effect {
        Effect::Allow | Effect::Warn => (true, true),
        Effect::Restrict => (true, false),
        Effect::Block => (false, false),
    };
    assert_eq!((passes(&READ), passes(&WRITE)), (text, text));
    assert_eq!((passes(&UPLOAD), passes(&DOWNLOAD)), (file, file));
    (verdict.effect, verdict.rule.map_or("OK", Rule::id))
}

#[test]
fn a_box_in_order_forwards_everything() {
    assert_eq!(judged(&good()), (Effect::Allow, "OK"));
    let permit = Gate::new().check(&UPLOAD, DEVICE, &good(), NOW).unwrap();
    assert_eq!(permit.area(), Area::Staff);
    assert_eq!(permit.rule_id(), "OK");
    assert_eq!(permit.verdict().since, NOW);
}

#[test]
fn a_box_that_knows_nothing_forwards_nothing() {
    assert_eq!(
        judged(&Snapshot::nothing_known(NOW)),
        (Effect::Block, "CERT")
    );
}

#[test]
fn a_silent_scanner_restricts_after_six_minutes_and_blocks_after_fifteen() {
    let seen = |age| {
        let mut ledger = well_but(NOW, &[Check::AvAlive]);
        let pass = stand::measured(Check::AvAlive, Observation::Pass, ago(age));
        ledger.observe(gateway_policy::Subject::Box, pass, NOW);
        judged(&snapshot(&ledger, NOW))
    };
    assert_eq!(seen(6 * MINUTE - 1), (Effect::Allow, "OK"));
    assert_eq!(seen(6 * MINUTE), (Effect::Restrict, "AV-ALIVE"));
    assert_eq!(seen(15 * MINUTE - 1), (Effect::Restrict, "AV-ALIVE"));
    assert_eq!(seen(15 * MINUTE), (Effect::Block, "AV-ALIVE"));
}

#[test]
fn a_failing_scanner_restricts_at_once_and_blocks_fifteen_minutes_after_its_last_catch() {
    let failing = |age| {
        let mut ledger = well_but(NOW, &[Check::AvAlive]);
        let pass = stand::measured(Check::AvAlive, Observation::Pass, ago(age));
        ledger.observe(gateway_policy::Subject::Box, pass, NOW);
        tell(&mut ledger, Check::AvAlive, fail(Grade::Major), NOW);
        judged(&snapshot(&ledger, NOW))
    };
    assert_eq!(failing(0), (Effect::Restrict, "AV-ALIVE"));
    assert_eq!(failing(15 * MINUTE - 1), (Effect::Restrict, "AV-ALIVE"));
    assert_eq!(failing(15 * MINUTE), (Effect::Block, "AV-ALIVE"));
}

#[test]
fn a_scanner_that_is_back_is_believed_at_once() {
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::AvAlive, fail(Grade::Major), NOW);
    tell(&mut ledger, Check::AvAlive, Observation::Pass, NOW);
    assert_eq!(judged(&snapshot(&ledger, NOW)), (Effect::Allow, "OK"));
}

#[test]
fn an_unknown_scanner_blocks() {
    let mut ledger = stand::blank(ago(5));
    for check in Check::ALL
        .into_iter()
        .filter(|check| *check != Check::AvAlive)
    {
        tell(&mut ledger, check, Observation::Pass, NOW);
    }
    let snapshot = snapshot(&ledger, NOW);
    assert_eq!(judged(&snapshot), (Effect::Block, "AV-ALIVE"));
    let refusal = Gate::new()
        .check(&READ, DEVICE, &snapshot, NOW)
        .unwrap_err();
    assert_eq!((refusal.article, refusal.since), (Some(27), ago(5)));
    assert_eq!(refusal.to_string(), "refused by AV-ALIVE");
}

#[test]
fn a_certificate_warns_when_renewal_is_overdue_and_blocks_when_it_ends() {
    let with = |not_before, not_after| {
        let value = Certificate::Held {
            not_before,
            not_after,
        };
        judged(&but(good(), |s| s.certificate = known(value, NOW)))
    };
    assert_eq!(
        with(ago(300 * DAY), NOW.plus(65 * DAY)),
        (Effect::Allow, "OK")
    );
    assert_eq!(
        with(ago(310 * DAY), NOW.plus(55 * DAY)),
        (Effect::Warn, "CERT")
    );
    assert_eq!(with(ago(365 * DAY), NOW), (Effect::Warn, "CERT"));
    assert_eq!(with(ago(365 * DAY), ago(1)), (Effect::Block, "CERT"));
    assert_eq!(
        with(NOW.plus(61), NOW.plus(365 * DAY)),
        (Effect::Block, "CERT")
    );
}

#[test]
fn no_certificate_a_revoked_one_and_one_without_its_key_block() {
    for value in [
        Certificate::Absent,
        Certificate::Revoked { since: ago(9) },
        Certificate::KeyLost { since: ago(9) },
    ] {
        let snapshot = but(good(), |s| s.certificate = known(value, NOW));
        assert_eq!(judged(&snapshot), (Effect::Block, "CERT"), "{value:?}");
    }
}

#[test]
fn a_suspended_facility_forwards_nothing_and_is_told_so_first() {
    let suspended = known(Standing::Suspended { since: ago(9) }, ago(9));
    let snapshot = but(Snapshot::nothing_known(NOW), |s| s.standing = suspended);
    assert_eq!(judged(&snapshot), (Effect::Block, "SUSPENDED"));
}

#[test]
fn a_city_not_heard_for_a_day_is_a_warning_and_never_heard_a_restriction() {
    let heard = |standing| judged(&but(good(), |s| s.standing = standing));
    assert_eq!(
        heard(known(Standing::Active, ago(DAY - 1))),
        (Effect::Allow, "OK")
    );
    assert_eq!(
        heard(known(Standing::Active, ago(DAY))),
        (Effect::Warn, "SUSPENDED")
    );
    assert_eq!(
        heard(Evidence::Unknown { since: NOW }),
        (Effect::Restrict, "SUSPENDED")
    );
}

#[test]
fn a_clock_that_is_wrong_or_unchecked_for_a_day_restricts() {
    let clock = |observation: Option<Observation>| {
        let mut ledger = well_but(NOW, &[Check::Clock]);
        if let Some(observation) = observation {
            tell(&mut ledger, Check::Clock, observation, NOW);
        }
        judged(&snapshot(&ledger, NOW))
    };
    let compared = |since| clock(Some(Observation::Dated { since }));
    assert_eq!(compared(ago(DAY - 1)), (Effect::Allow, "OK"));
    assert_eq!(compared(ago(DAY)), (Effect::Restrict, "CLOCK"));
    assert_eq!(clock(Some(fail(Grade::Major))), (Effect::Restrict, "CLOCK"));
    assert_eq!(clock(None), (Effect::Restrict, "CLOCK"));
}

#[test]
fn evidence_from_the_future_is_not_believed() {
    let ahead = |seconds: i64| {
        let mut ledger = well_but(NOW, &[Check::AvAlive]);
        let pass = stand::measured(Check::AvAlive, Observation::Pass, NOW.plus(seconds));
        ledger.observe(gateway_policy::Subject::Box, pass, NOW);
        judged(&snapshot(&ledger, NOW))
    };
    assert_eq!(ahead(61), (Effect::Block, "AV-ALIVE"));
    // A clock corrected by a few seconds is no such case.
    assert_eq!(ahead(3), (Effect::Allow, "OK"));
    let taken = NOW.plus(61);
    assert_eq!(
        judged(&but(good(), |s| s.taken = taken)),
        (Effect::Block, "SNAPSHOT-STALE")
    );
}

#[test]
fn every_rule_has_its_own_id() {
    for (n, rule) in Rule::ALL.iter().enumerate() {
        assert!(
            Rule::ALL[..n]
                .iter()
                .all(|earlier| earlier.id() != rule.id())
        );
    }
}
