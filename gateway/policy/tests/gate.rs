//! What the gate promises, for chosen cases and for any snapshot.

use gateway_policy::{
    Antivirus, Area, Asked, Certificate, Clock, Effect, Evidence, Gate, Rule, Snapshot, Standing,
    Timestamp,
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000);
const MINUTE: i64 = 60;
const DAY: i64 = 86_400;

fn ago(seconds: i64) -> Timestamp {
    NOW.plus(-seconds)
}

fn known<T>(value: T, at: Timestamp) -> Evidence<T> {
    Evidence::Known { value, at }
}

/// Everything measured just now and in order.
fn good() -> Snapshot {
    Snapshot {
        taken: NOW,
        antivirus: known(Antivirus::Alive, NOW),
        clock: known(Clock::Sane, NOW),
        certificate: known(
            Certificate::Held {
                not_before: ago(30 * DAY),
                not_after: NOW.plus(335 * DAY),
            },
            NOW,
        ),
        standing: known(Standing::Active, NOW),
    }
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
    let verdict = gate.verdict(snapshot, NOW);
    let passes = |asked: &Asked| gate.check(asked, snapshot, NOW).is_ok();
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
    let permit = Gate::new().check(&UPLOAD, &good(), NOW).unwrap();
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
        judged(&Snapshot {
            antivirus: known(Antivirus::Alive, ago(age)),
            ..good()
        })
    };
    assert_eq!(seen(6 * MINUTE - 1), (Effect::Allow, "OK"));
    assert_eq!(seen(6 * MINUTE), (Effect::Restrict, "AV-ALIVE"));
    assert_eq!(seen(15 * MINUTE - 1), (Effect::Restrict, "AV-ALIVE"));
    assert_eq!(seen(15 * MINUTE), (Effect::Block, "AV-ALIVE"));
}

#[test]
fn a_failing_scanner_restricts_at_once_and_blocks_fifteen_minutes_after_its_last_catch() {
    let failing = |age| {
        let value = Antivirus::Failing { since: ago(age) };
        judged(&Snapshot {
            antivirus: known(value, NOW),
            ..good()
        })
    };
    assert_eq!(failing(0), (Effect::Restrict, "AV-ALIVE"));
    assert_eq!(failing(15 * MINUTE - 1), (Effect::Restrict, "AV-ALIVE"));
    assert_eq!(failing(15 * MINUTE), (Effect::Block, "AV-ALIVE"));
}

#[test]
fn an_unknown_scanner_blocks() {
    let snapshot = Snapshot {
        antivirus: Evidence::Unknown { since: ago(5) },
        ..good()
    };
    assert_eq!(judged(&snapshot), (Effect::Block, "AV-ALIVE"));
    let refusal = Gate::new().check(&READ, &snapshot, NOW).unwrap_err();
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
        judged(&Snapshot {
            certificate: known(value, NOW),
            ..good()
        })
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
        let snapshot = Snapshot {
            certificate: known(value, NOW),
            ..good()
        };
        assert_eq!(judged(&snapshot), (Effect::Block, "CERT"), "{value:?}");
    }
}

#[test]
fn a_suspended_facility_forwards_nothing_and_is_told_so_first() {
    let snapshot = Snapshot {
        standing: known(Standing::Suspended { since: ago(9) }, ago(9)),
        ..Snapshot::nothing_known(NOW)
    };
    assert_eq!(judged(&snapshot), (Effect::Block, "SUSPENDED"));
}

#[test]
fn a_city_not_heard_for_a_day_is_a_warning_and_never_heard_a_restriction() {
    let heard = |standing| judged(&Snapshot { standing, ..good() });
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
    let clock = |clock| judged(&Snapshot { clock, ..good() });
    assert_eq!(
        clock(known(Clock::Sane, ago(DAY - 1))),
        (Effect::Allow, "OK")
    );
    assert_eq!(
        clock(known(Clock::Sane, ago(DAY))),
        (Effect::Restrict, "CLOCK")
    );
    assert_eq!(
        clock(known(Clock::Wrong { since: NOW }, NOW)),
        (Effect::Restrict, "CLOCK")
    );
    assert_eq!(
        clock(Evidence::Unknown { since: NOW }),
        (Effect::Restrict, "CLOCK")
    );
}

#[test]
fn evidence_from_the_future_is_not_believed() {
    let ahead = NOW.plus(61);
    let antivirus = known(Antivirus::Alive, ahead);
    assert_eq!(
        judged(&Snapshot {
            antivirus,
            ..good()
        }),
        (Effect::Block, "AV-ALIVE")
    );
    assert_eq!(
        judged(&Snapshot {
            taken: ahead,
            ..good()
        }),
        (Effect::Block, "SNAPSHOT-STALE")
    );
    // A clock corrected by a few seconds is no such case.
    let antivirus = known(Antivirus::Alive, NOW.plus(3));
    assert_eq!(
        judged(&Snapshot {
            antivirus,
            ..good()
        }),
        (Effect::Allow, "OK")
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

// Any snapshot, as seen at `NOW`.

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        Just(NOW),
        (0..30 * MINUTE).prop_map(ago),
        (0..40 * DAY).prop_map(ago),
        (1..2 * DAY).prop_map(|s| NOW.plus(s)),
        any::<i64>().prop_map(Timestamp),
    ]
}

fn evidence<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Evidence<T>> {
    prop_oneof![
        4 => (value, time()).prop_map(|(value, at)| known(value, at)),
        1 => time().prop_map(|since| Evidence::Unknown { since }),
    ]
}

fn antivirus() -> impl Strategy<Value = Antivirus> {
    prop_oneof![
        Just(Antivirus::Alive),
        time().prop_map(|since| Antivirus::Failing { since })
    ]
}

fn clock() -> impl Strategy<Value = Clock> {
    prop_oneof![
        Just(Clock::Sane),
        time().prop_map(|since| Clock::Wrong { since })
    ]
}

fn certificate() -> impl Strategy<Value = Certificate> {
    prop_oneof![
        Just(Certificate::Absent),
        (time(), time()).prop_map(|(not_before, not_after)| Certificate::Held {
            not_before,
            not_after
        }),
        time().prop_map(|since| Certificate::Revoked { since }),
        time().prop_map(|since| Certificate::KeyLost { since }),
    ]
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Active),
        time().prop_map(|since| Standing::Suspended { since })
    ]
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (
        time(),
        evidence(antivirus()),
        evidence(clock()),
        evidence(certificate()),
        evidence(standing()),
    )
        .prop_map(
            |(taken, antivirus, clock, certificate, standing)| Snapshot {
                taken,
                antivirus,
                clock,
                certificate,
                standing,
            },
        )
}

/// One of `0..WAYS` changes for the worse.
fn worsened(s: Snapshot, way: usize) -> Snapshot {
    fn older<T>(evidence: Evidence<T>) -> Evidence<T> {
        match evidence {
            Evidence::Known { value, at } => known(value, at.plus(-7 * MINUTE)),
            Evidence::Unknown { since } => Evidence::Unknown { since },
        }
    }
    let since = NOW;
    match way {
        0 => Snapshot {
            taken: s.taken.plus(-5 * MINUTE),
            ..s
        },
        1 => Snapshot {
            antivirus: Evidence::Unknown { since },
            ..s
        },
        2 => Snapshot {
            clock: Evidence::Unknown { since },
            ..s
        },
        3 => Snapshot {
            certificate: Evidence::Unknown { since },
            ..s
        },
        4 => Snapshot {
            antivirus: older(s.antivirus),
            ..s
        },
        5 => Snapshot {
            clock: older(s.clock),
            ..s
        },
        6 => Snapshot {
            standing: older(s.standing),
            ..s
        },
        7 => Snapshot {
            certificate: known(Certificate::Absent, NOW),
            ..s
        },
        8 => Snapshot {
            certificate: known(Certificate::Revoked { since }, NOW),
            ..s
        },
        9 => Snapshot {
            standing: known(Standing::Suspended { since }, NOW),
            ..s
        },
        10 => Snapshot {
            clock: known(Clock::Wrong { since }, NOW),
            ..s
        },
        _ => match s.antivirus {
            Evidence::Known {
                value: Antivirus::Alive,
                at,
            } => Snapshot {
                antivirus: known(Antivirus::Failing { since: at }, at),
                ..s
            },
            _ => s,
        },
    }
}

const WAYS: usize = 12;

/// Snapshots near the thresholds, without evidence from the future: that becomes credible by growing older,
/// so it has no place in a statement about growing worse.
fn plausible() -> impl Strategy<Value = Snapshot> {
    fn recent(limit: i64) -> impl Strategy<Value = Timestamp> + Clone {
        prop_oneof![
            Just(NOW),
            (0..limit).prop_map(ago),
            (0..limit * 4).prop_map(ago)
        ]
    }
    let antivirus = (
        recent(8 * MINUTE),
        prop_oneof![3 => Just(true), 1 => Just(false)],
    )
        .prop_map(|(at, alive)| {
            if alive {
                known(Antivirus::Alive, at)
            } else {
                known(Antivirus::Failing { since: at }, NOW)
            }
        });
    let held = (recent(300 * DAY), -DAY..90 * DAY).prop_map(|(not_before, left)| {
        known(
            Certificate::Held {
                not_before,
                not_after: NOW.plus(left),
            },
            NOW,
        )
    });
    (
        recent(MINUTE),
        antivirus,
        recent(20 * 60 * MINUTE).prop_map(|at| known(Clock::Sane, at)),
        held,
        recent(20 * 60 * MINUTE).prop_map(|at| known(Standing::Active, at)),
    )
        .prop_map(
            |(taken, antivirus, clock, certificate, standing)| Snapshot {
                taken,
                antivirus,
                clock,
                certificate,
                standing,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_public_portal_and_the_boxs_own_pages_are_always_reachable(
        snapshot in snapshot(), writes: bool, transfers_file: bool, now in any::<i64>(),
    ) {
        for area in [Area::Public, Area::Box] {
            let asked = Asked { area, writes, transfers_file };
            prop_assert!(Gate::new().check(&asked, &snapshot, Timestamp(now)).is_ok());
        }
    }

    #[test]
    fn missing_evidence_never_means_allow(snapshot in snapshot(), which in 0..4) {
        let since = NOW;
        let blank = match which {
            0 => Snapshot { antivirus: Evidence::Unknown { since }, ..snapshot },
            1 => Snapshot { clock: Evidence::Unknown { since }, ..snapshot },
            2 => Snapshot { certificate: Evidence::Unknown { since }, ..snapshot },
            _ => Snapshot { standing: Evidence::Unknown { since }, ..snapshot },
        };
        prop_assert!(Gate::new().verdict(&blank, NOW).effect >= Effect::Restrict);
        prop_assert!(Gate::new().check(&UPLOAD, &blank, NOW).is_err());
    }

    #[test]
    fn a_stale_snapshot_forwards_nothing(snapshot in snapshot(), age in 2 * MINUTE..i64::MAX / 2) {
        let stale = Snapshot { taken: ago(age), ..snapshot };
        for asked in [READ, WRITE, UPLOAD, DOWNLOAD] {
            prop_assert!(Gate::new().check(&asked, &stale, NOW).is_err());
        }
    }

    #[test]
    fn worse_evidence_never_yields_a_milder_effect(snapshot in plausible(), way in 0..WAYS) {
        let before = Gate::new().verdict(&snapshot, NOW).effect;
        let after = Gate::new().verdict(&worsened(snapshot, way), NOW).effect;
        prop_assert!(after >= before, "{before:?} became {after:?}");
    }

    #[test]
    fn waiting_without_new_evidence_never_yields_a_milder_effect(
        snapshot in plausible(), wait in prop_oneof![0..20 * MINUTE, 0..40 * DAY],
    ) {
        let before = Gate::new().verdict(&snapshot, NOW).effect;
        let after = Gate::new().verdict(&snapshot, NOW.plus(wait)).effect;
        prop_assert!(after >= before, "{before:?} became {after:?}");
    }

    #[test]
    fn whoever_may_transfer_a_file_may_also_read_and_write(snapshot in snapshot()) {
        let gate = Gate::new();
        if gate.check(&UPLOAD, &snapshot, NOW).is_ok() {
            prop_assert!(gate.check(&READ, &snapshot, NOW).is_ok());
            prop_assert!(gate.check(&WRITE, &snapshot, NOW).is_ok());
        }
    }
}
