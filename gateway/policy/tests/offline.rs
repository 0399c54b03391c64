//! The decision whether stored notes may be read without the city, over every way in which somebody can hold clocks and
//! files back.

#![allow(clippy::unwrap_used, reason = "what a test cannot do is its failure")]

use gateway_policy::offline::{
    Clocks, Contact, HIDDEN_BY_RESET, Locked, OFFLINE_HOURS, OfflineRules, Reading, TpmClock,
    reading,
};
use gateway_policy::{Policy, Timestamp};
use proptest::prelude::*;

const THEN: Timestamp = Timestamp(1_800_000_000);
const HOUR: i64 = 3600;

const RULES: OfflineRules = OfflineRules {
    store: true,
    hours: 24,
    sessions: true,
    pin: true,
};

fn contact() -> Contact {
    Contact {
        at: THEN,
        tpm: TpmClock {
            milliseconds: 5_000_000_000,
            resets: u32::MAX,
        },
        granted: RULES,
    }
}

/// The clocks of an honest box `passed` seconds after the contact.
fn after(passed: i64) -> Clocks {
    Clocks {
        wall: THEN.plus(passed),
        floor: THEN,
        tpm: Some(TpmClock {
            milliseconds: contact().tpm.milliseconds + passed.unsigned_abs() * 1000,
            resets: contact().tpm.resets,
        }),
    }
}

fn read(now: &Clocks) -> Result<Reading, Locked> {
    reading(false, Some(&contact()), now, &RULES)
}

#[test]
fn notes_are_read_until_the_hours_are_over_and_not_a_second_longer() {
    let until = THEN.plus(24 * HOUR);
    let last = after(24 * HOUR - 1);
    assert_eq!(read(&last), Ok(Reading::Offline { since: THEN, until }));
    let locked = Locked::TooLong {
        since: THEN,
        hours: 24,
    };
    assert_eq!(read(&after(24 * HOUR)), Err(locked));
    assert_eq!(
        reading(true, Some(&contact()), &after(900 * HOUR), &RULES),
        Ok(Reading::Linked)
    );
}

#[test]
fn a_clock_set_back_gains_nothing_and_one_set_forward_locks() {
    let mut now = after(24 * HOUR);
    now.wall = THEN.plus(-365 * 86_400);
    assert!(read(&now).is_err());
    let mut now = after(60);
    now.wall = THEN.plus(25 * HOUR);
    assert!(read(&now).is_err());
    // A moment that the city has signed is one that has passed.
    let mut now = after(60);
    now.floor = THEN.plus(24 * HOUR);
    assert!(read(&now).is_err());
}

#[test]
fn each_reset_of_the_tpm_counts_as_all_that_it_can_have_hidden() {
    // Power cut after 69 minutes, again and again: the TPM's clock stands, and the wall clock is set back.
    let mut now = after(0);
    for resets in 1..=20_u32 {
        now.tpm = Some(TpmClock {
            resets: contact().tpm.resets.wrapping_add(resets),
            ..contact().tpm
        });
        assert_eq!(read(&now).is_ok(), resets <= 20);
    }
    now.tpm = Some(TpmClock {
        resets: contact().tpm.resets.wrapping_add(21),
        ..contact().tpm
    });
    assert!(read(&now).is_err());
}

#[test]
fn without_a_contact_or_without_the_tpm_nothing_is_read() {
    let mut now = after(60);
    assert_eq!(reading(false, None, &now, &RULES), Err(Locked::NeverHeard));
    now.tpm = None;
    assert_eq!(read(&now), Err(Locked::NoTrustedTime));
    // Back without a reset, or reset a hundred thousand times: another TPM, or a lie.
    for (milliseconds, resets) in [(4_999_999_999, 0), (5_000_000_001, 100_000), (1, u32::MAX)] {
        now.tpm = Some(TpmClock {
            milliseconds,
            resets: contact().tpm.resets.wrapping_add(resets),
        });
        assert_eq!(read(&now), Err(Locked::NoTrustedTime), "{milliseconds}");
    }
}

#[test]
fn the_policy_narrows_at_once_and_one_that_ends_in_the_outage_widens_nothing() {
    let short = OfflineRules { hours: 1, ..RULES };
    assert!(reading(false, Some(&contact()), &after(2 * HOUR), &short).is_err());
    let granted_less = Contact {
        granted: short,
        ..contact()
    };
    assert!(reading(false, Some(&granted_less), &after(2 * HOUR), &RULES).is_err());
    let none = OfflineRules { hours: 0, ..RULES };
    assert!(reading(false, Some(&contact()), &after(0), &none).is_err());
    let off = OfflineRules {
        store: false,
        ..RULES
    };
    for linked in [true, false] {
        assert_eq!(
            reading(linked, Some(&contact()), &after(0), &off),
            Err(Locked::SwitchedOff)
        );
    }
    assert_eq!(
        RULES.and(&OfflineRules {
            pin: false,
            ..short
        }),
        OfflineRules {
            pin: false,
            ..short
        }
    );
}

#[test]
fn without_a_word_of_the_city_sessions_go_on_and_pins_open_nothing() {
    let rules = Policy::built_in().offline();
    assert_eq!(
        rules,
        OfflineRules {
            store: true,
            hours: OFFLINE_HOURS,
            sessions: true,
            pin: false
        }
    );
    let mut policy = Policy::built_in();
    policy.store.days = Some(0);
    policy.store.offline_pin = Some(true);
    policy.store.offline_sessions = Some(false);
    policy.store.offline_hours = Some(5);
    assert_eq!(
        policy.offline(),
        OfflineRules {
            store: false,
            hours: 5,
            sessions: false,
            pin: true
        }
    );
}

/// One thing that happens to a box without its city.
#[derive(Clone, Debug)]
enum Happens {
    /// It runs on for so many seconds.
    Runs(u32),
    /// Its power is cut; the TPM falls back by so many milliseconds, and it lies dead for so many seconds.
    PowerCut { back: u64, dead: u32 },
    /// Somebody sets its clock.
    ClockSet(i64),
    /// Somebody puts back an older copy of what it keeps.
    OldCopy(prop::sample::Index),
    /// The city answers, and the box keeps the moment.
    Contact,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..20_000_u32).prop_map(Happens::Runs),
        2 => (0..=HIDDEN_BY_RESET, 0..100_000_u32)
            .prop_map(|(back, dead)| Happens::PowerCut { back, dead }),
        2 => (-100_000_000..100_000_000_i64).prop_map(Happens::ClockSet),
        2 => any::<prop::sample::Index>().prop_map(Happens::OldCopy),
        1 => Just(Happens::Contact),
    ]
}

proptest! {
    /// Whatever is done to clock, power and files: nobody reads when the box has had power for longer than the hours since
    /// the city last answered.
    #[test]
    fn nothing_stretches_the_hours(
        day in prop::collection::vec(happens(), 1..60),
        resets in any::<u32>(),
    ) {
        let mut wall = THEN;
        let mut true_time = THEN;
        let mut tpm = TpmClock { milliseconds: 10_000_000_000, resets };
        let mut since_saved = 0;
        let mut powered = 0_i64;
        let mut held = Contact { at: THEN, tpm, granted: RULES };
        let mut copies = vec![held];
        for event in day {
            match event {
                Happens::Runs(seconds) => {
                    powered += i64::from(seconds);
                    true_time = true_time.plus(i64::from(seconds));
                    wall = wall.plus(i64::from(seconds));
                    tpm.milliseconds += u64::from(seconds) * 1000;
                    since_saved = (since_saved + u64::from(seconds) * 1000).min(HIDDEN_BY_RESET);
                }
                Happens::PowerCut { back, dead } => {
                    // It cannot fall behind what it saved.
                    let back = back.min(since_saved);
                    tpm.milliseconds -= back;
                    tpm.resets = tpm.resets.wrapping_add(1);
                    since_saved = 0;
                    true_time = true_time.plus(i64::from(dead));
                }
                Happens::ClockSet(by) => wall = wall.plus(by),
                Happens::OldCopy(which) => held = copies[which.index(copies.len())],
                Happens::Contact => {
                    held = Contact { at: true_time, tpm, granted: RULES };
                    copies.push(held);
                    powered = 0;
                }
            }
            let now = Clocks { wall, floor: held.at, tpm: Some(tpm) };
            let may = reading(false, Some(&held), &now, &RULES);
            if powered >= i64::from(RULES.hours) * HOUR {
                prop_assert!(may.is_err(), "{powered} s with power: {may:?}");
            }
            if let Ok(Reading::Offline { until, .. }) = may {
                prop_assert!(until > wall);
            }
            prop_assert!(held.earliest_now(&now) <= true_time);
        }
    }
}
