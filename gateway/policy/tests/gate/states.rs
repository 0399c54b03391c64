//! The state machine of a check: deadlines, clearing, relapse, silence, exceptions, restarts and clocks.

use gateway_policy::{
    Authority, Check, Effect, Grade, Ledger, Missing, Observation, Observed, Policy, Source, State,
    Subject, Timestamp, Waiver, WaiverError,
};
use proptest::prelude::*;

use crate::stand::{
    DAY, HOUR, MINUTE, NOW, PC, ago, blank, fail, measured, registered, snapshot, subject, tell,
    well, well_but,
};

/// Where a check stands at a moment by the box's clock, and what it does.
pub(crate) fn at(ledger: &Ledger, check: Check, now: Timestamp) -> (State, Effect) {
    let snapshot = snapshot(ledger, now);
    let entry = *snapshot.entry(subject(check), check).unwrap();
    let time = snapshot.time(now);
    (entry.state(time), entry.effect(time))
}

const PASS: Observation = Observation::Pass;
const MAJOR: Observation = Observation::Fail {
    grade: Grade::Major,
    since: None,
};

#[test]
fn a_pc_without_antivirus_is_warned_then_restricted_then_blocked() {
    let mut ledger = well(NOW);
    let told = tell(&mut ledger, Check::PcAv, MAJOR, NOW).unwrap();
    assert_eq!((told.from, told.to), (State::Compliant, State::Grace));
    assert_eq!(told.deadline, Some(NOW.plus(30 * MINUTE)));
    let after = |seconds| at(&ledger, Check::PcAv, NOW.plus(seconds));
    assert_eq!(after(0), (State::Grace, Effect::Warn));
    assert_eq!(after(30 * MINUTE), (State::Grace, Effect::Restrict));
    assert_eq!(after(DAY), (State::Failing, Effect::Block));
}

#[test]
fn a_check_fails_at_its_own_hardest_effect_and_still_says_when_silence_would_do_more() {
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::PcLock, MAJOR, NOW);
    let restricted = NOW.plus(30 * DAY);
    for day in 1..30 {
        tell(&mut ledger, Check::PcLock, MAJOR, NOW.plus(day * DAY));
    }
    assert_eq!(
        at(&ledger, Check::PcLock, restricted.plus(-1)).0,
        State::Grace
    );
    tell(&mut ledger, Check::PcLock, MAJOR, restricted);
    assert_eq!(
        at(&ledger, Check::PcLock, restricted),
        (State::Failing, Effect::Restrict)
    );
    let entry = ledger.entry(Subject::Device(PC), Check::PcLock).unwrap();
    let silence = (Effect::Block, restricted.plus(15 * DAY));
    assert_eq!(entry.next(restricted), Some(silence));
    // It warns, and that is all that an unknown program does.
    tell(&mut ledger, Check::PcSw, fail(Grade::Minor), restricted);
    assert_eq!(
        at(&ledger, Check::PcSw, restricted),
        (State::Failing, Effect::Warn)
    );
}

#[test]
fn a_program_banned_after_it_was_reported_is_tolerated_from_the_ban_on_and_never_longer() {
    let banned_at = |since| Observation::Fail {
        grade: Grade::Major,
        since: Some(since),
    };
    let mut ledger = well(NOW);
    // Reported a week ago, banned now: nobody could have known.
    let ban = NOW.plus(7 * DAY);
    let reported = measured(Check::PcSw, banned_at(ban), NOW);
    ledger.observe(Subject::Device(PC), reported, ban);
    let after = |ledger: &Ledger, seconds| at(ledger, Check::PcSw, ban.plus(seconds)).1;
    assert_eq!(after(&ledger, 0), Effect::Warn);
    assert_eq!(after(&ledger, DAY - 1), Effect::Warn);
    assert_eq!(after(&ledger, DAY), Effect::Restrict);
    // Another list, twelve hours later, that bans it too; and a report that still shows it.
    let again = ban.plus(12 * HOUR);
    ledger.observe(
        Subject::Device(PC),
        measured(Check::PcSw, banned_at(again), NOW),
        again,
    );
    tell(&mut ledger, Check::PcSw, MAJOR, again.plus(HOUR));
    assert_eq!(after(&ledger, DAY), Effect::Restrict);
    // What claims to have begun later than now began when it was seen.
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::PcSw, banned_at(NOW.plus(DAY)), NOW);
    assert_eq!(at(&ledger, Check::PcSw, NOW.plus(DAY)).1, Effect::Restrict);
}

#[test]
fn a_failure_is_cleared_by_two_passes_ten_minutes_apart() {
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::PcAv, MAJOR, NOW);
    let first = NOW.plus(40 * MINUTE);
    tell(&mut ledger, Check::PcAv, PASS, first);
    tell(&mut ledger, Check::PcAv, PASS, first.plus(10 * MINUTE - 1));
    let (state, effect) = at(&ledger, Check::PcAv, first.plus(10 * MINUTE - 1));
    assert_eq!((state, effect), (State::Grace, Effect::Restrict));
    let told = tell(&mut ledger, Check::PcAv, PASS, first.plus(10 * MINUTE)).unwrap();
    assert_eq!((told.to, told.effect), (State::Compliant, Effect::Allow));
}

#[test]
fn a_failure_between_two_passes_begins_the_ten_minutes_anew() {
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::PcAv, MAJOR, NOW);
    for minute in [1, 5, 11] {
        tell(&mut ledger, Check::PcAv, PASS, NOW.plus(minute * MINUTE));
        if minute == 5 {
            tell(&mut ledger, Check::PcAv, MAJOR, NOW.plus(6 * MINUTE));
        }
    }
    assert_eq!(
        at(&ledger, Check::PcAv, NOW.plus(12 * MINUTE)).0,
        State::Grace
    );
}

#[test]
fn a_relapse_within_seven_days_resumes_the_old_deadline() {
    let relapse_after = |pause| {
        let mut ledger = well(NOW);
        tell(&mut ledger, Check::PcAv, MAJOR, NOW);
        tell(&mut ledger, Check::PcAv, PASS, NOW.plus(HOUR));
        let cleared = NOW.plus(2 * HOUR);
        tell(&mut ledger, Check::PcAv, PASS, cleared);
        // It is used every day.
        for sixth in 0..pause / (6 * HOUR) {
            ledger.seen(PC, cleared.plus(sixth * 6 * HOUR));
        }
        tell(&mut ledger, Check::PcAv, MAJOR, cleared.plus(pause));
        at(&ledger, Check::PcAv, cleared.plus(pause)).1
    };
    assert_eq!(relapse_after(MINUTE), Effect::Restrict);
    assert_eq!(relapse_after(7 * DAY), Effect::Block);
    assert_eq!(relapse_after(7 * DAY + 1), Effect::Warn);
}

#[test]
fn the_next_release_is_no_relapse_of_the_last_one() {
    let published = |since| Observation::Fail {
        grade: Grade::Major,
        since: Some(since),
    };
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::Upd, published(ago(15 * DAY)), NOW);
    assert_eq!(at(&ledger, Check::Upd, NOW).1, Effect::Restrict);
    tell(&mut ledger, Check::Upd, PASS, NOW.plus(HOUR));
    assert_eq!(at(&ledger, Check::Upd, NOW.plus(HOUR)).1, Effect::Allow);
    let next = NOW.plus(DAY);
    tell(&mut ledger, Check::Upd, published(next), next);
    assert_eq!(at(&ledger, Check::Upd, next), (State::Grace, Effect::Allow));
    assert_eq!(at(&ledger, Check::Upd, next.plus(3 * DAY)).1, Effect::Warn);
}

#[test]
fn old_definitions_are_judged_by_their_date_and_new_ones_clear_at_once() {
    let dated = |since| Observation::Dated { since };
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::AvDb, dated(ago(3 * DAY)), NOW);
    assert_eq!(
        at(&ledger, Check::AvDb, NOW),
        (State::Grace, Effect::Restrict)
    );
    tell(&mut ledger, Check::AvDb, dated(ago(HOUR)), NOW);
    assert_eq!(
        at(&ledger, Check::AvDb, NOW),
        (State::Compliant, Effect::Allow)
    );
    tell(&mut ledger, Check::AvDb, dated(ago(7 * DAY)), NOW);
    assert_eq!(
        at(&ledger, Check::AvDb, NOW),
        (State::Failing, Effect::Block)
    );
    tell(&mut ledger, Check::AvDb, dated(NOW.plus(DAY)), NOW);
    assert_eq!(
        at(&ledger, Check::AvDb, NOW).0,
        State::Failing,
        "a date in the future is an error, and the last date stands"
    );
}

#[test]
fn what_is_silent_becomes_unknown_and_then_fails() {
    let ledger = well(NOW);
    let after = |check, seconds| at(&ledger, check, NOW.plus(seconds));
    let stale = State::Unknown(Missing::Stale);
    assert_eq!(after(Check::PcRpt, DAY - 1).0, State::Compliant);
    assert_eq!(after(Check::PcRpt, DAY), (stale, Effect::Warn));
    assert_eq!(after(Check::PcRpt, 25 * HOUR), (stale, Effect::Restrict));
    assert_eq!(after(Check::PcRpt, 14 * DAY), (stale, Effect::Block));
    assert_eq!(after(Check::AvSelf, 27 * HOUR), (stale, Effect::Restrict));
}

#[test]
fn being_unable_to_find_out_is_no_better_than_silence() {
    let mut ledger = well(NOW);
    let error = Observation::Unknown(Missing::Error);
    tell(&mut ledger, Check::AvConf, error, NOW.plus(HOUR));
    let later = |seconds| at(&ledger, Check::AvConf, NOW.plus(HOUR + seconds));
    let unknown = State::Unknown(Missing::Error);
    assert_eq!(later(0), (unknown, Effect::Warn));
    assert_eq!(later(15 * MINUTE), (unknown, Effect::Restrict));
    assert_eq!(later(HOUR), (unknown, Effect::Block));
    let mut again = ledger.clone();
    tell(
        &mut again,
        Check::AvConf,
        error,
        NOW.plus(HOUR + 14 * MINUTE),
    );
    assert_eq!(
        at(&again, Check::AvConf, NOW.plus(HOUR + 15 * MINUTE)).1,
        Effect::Restrict
    );
}

#[test]
fn what_does_not_concern_a_device_is_no_trouble() {
    let mut ledger = well_but(NOW, &[Check::PcEnc]);
    tell(&mut ledger, Check::PcEnc, Observation::NotApplicable, NOW);
    assert_eq!(
        at(&ledger, Check::PcEnc, NOW),
        (State::NotApplicable, Effect::Allow)
    );
}

#[test]
fn registers_and_declarations_never_do_more_than_warn() {
    let ledger = blank(ago(1000 * DAY));
    for check in [Check::Media, Check::Decl, Check::Training] {
        assert_eq!(at(&ledger, check, NOW).1, Effect::Warn, "{check:?}");
    }
}

#[test]
fn an_unregistered_medium_restricts_after_three_working_days() {
    // Friday 20 November 2026, 15:00 in Japan; Monday is a holiday.
    let friday = Timestamp(1_795_154_400);
    let mut ledger = well(friday);
    tell(&mut ledger, Check::PcUsb, MAJOR, friday);
    let midnight_after_thursday = Timestamp(1_795_705_200);
    let before = midnight_after_thursday.plus(-1);
    assert_eq!(at(&ledger, Check::PcUsb, before).1, Effect::Warn);
    let (_, effect) = at(&ledger, Check::PcUsb, midnight_after_thursday);
    assert_eq!(effect, Effect::Restrict);
}

#[test]
fn an_exception_warns_while_it_runs_and_its_deadlines_run_on() {
    let mut ledger = well(ago(40 * DAY));
    tell(&mut ledger, Check::PcLock, MAJOR, ago(40 * DAY));
    tell(&mut ledger, Check::PcLock, MAJOR, NOW);
    let waiver = |by, days| Waiver {
        by,
        until: NOW.plus(days * DAY),
        reason: "交換の手配中".into(),
    };
    let pc = Subject::Device(PC);
    let manager = waiver(Authority::Manager, 10);
    let told = ledger.waive(pc, Check::PcLock, manager, NOW).unwrap();
    assert_eq!(told.unwrap().to, State::Waived);
    assert_eq!(
        at(&ledger, Check::PcLock, NOW),
        (State::Waived, Effect::Warn)
    );
    let (_, after) = at(&ledger, Check::PcLock, NOW.plus(10 * DAY));
    assert_eq!(after, Effect::Restrict);
    let too_long = ledger.waive(pc, Check::PcLock, waiver(Authority::Manager, 31), NOW);
    assert!(matches!(too_long, Err(WaiverError::TooLong { .. })));
    for by in [Authority::Manager, Authority::City] {
        let refused = ledger.waive(Subject::Box, Check::Boot, waiver(by, 1), NOW);
        assert_eq!(refused, Err(WaiverError::NotWaivable(Check::Boot)));
    }
}

#[test]
fn a_restart_forgets_no_deadline_and_believes_no_old_proof() {
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::PcAv, MAJOR, NOW);
    let written = ledger.to_json().unwrap();
    let again = Ledger::from_json(&written, NOW.plus(MINUTE)).unwrap();
    let now = NOW.plus(30 * MINUTE);
    assert_eq!(at(&again, Check::PcAv, now).1, Effect::Restrict);
    for (check, effect) in [
        (Check::AvAlive, Effect::Block),
        (Check::Clock, Effect::Restrict),
        (Check::Boot, Effect::Warn),
    ] {
        let (state, found) = at(&again, check, NOW.plus(MINUTE));
        assert!(matches!(state, State::Unknown(_)), "{check:?}");
        assert_eq!(found, effect, "{check:?}");
    }
}

#[test]
fn what_is_not_a_ledger_is_refused() {
    let written = well(NOW).to_json().unwrap();
    for cut in [0, 1, written.len() / 2, written.len() - 1] {
        assert!(Ledger::from_json(&written[..cut], NOW).is_err());
    }
    let text = String::from_utf8(written).unwrap();
    let more = text.replacen('{', "{\"more\":1,", 1);
    assert!(Ledger::from_json(more.as_bytes(), NOW).is_err());
}

#[test]
fn a_check_that_a_release_brings_only_warns_for_thirty_days() {
    let mut document: serde_json::Value =
        serde_json::from_slice(&well(NOW).to_json().unwrap()).unwrap();
    let devices = document["devices"].as_object_mut().unwrap();
    for device in devices.values_mut() {
        device["records"].as_object_mut().unwrap().remove("PC-RPT");
    }
    let older = serde_json::to_vec(&document).unwrap();
    let ledger = Ledger::from_json(&older, NOW).unwrap();
    let after = |days| at(&ledger, Check::PcRpt, NOW.plus(days * DAY)).1;
    assert_eq!((after(1), after(29)), (Effect::Warn, Effect::Warn));
    assert_eq!(after(30), Effect::Block);
}

#[test]
fn a_clock_that_is_set_back_gives_no_credit_and_restricts() {
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::PcAv, MAJOR, NOW);
    ledger.tick(NOW.plus(29 * MINUTE));
    let back = ago(5 * DAY);
    let told = ledger.tick(back);
    assert!(told.iter().any(|told| told.check == Check::Clock));
    assert_eq!(at(&ledger, Check::Clock, back).1, Effect::Restrict);
    let (_, effect) = at(&ledger, Check::PcAv, back.plus(MINUTE));
    assert_eq!(effect, Effect::Restrict, "the half hour is over");
}

#[test]
fn a_clock_that_had_run_ahead_is_set_right_without_making_anything_longer() {
    let mut ledger = well(NOW);
    let ahead = NOW.plus(400 * DAY);
    tell(&mut ledger, Check::Upd, MAJOR, ahead);
    ledger.tick(NOW);
    let compared = Observation::Dated { since: NOW };
    tell(&mut ledger, Check::Clock, compared, NOW);
    assert_eq!(at(&ledger, Check::Clock, NOW).1, Effect::Allow);
    let after = |days| at(&ledger, Check::Upd, NOW.plus(days * DAY)).1;
    assert_eq!((after(2), after(3)), (Effect::Allow, Effect::Warn));
    assert_eq!((after(14), after(45)), (Effect::Restrict, Effect::Block));
}

#[test]
fn an_older_report_that_comes_late_gives_no_credit() {
    let mut ledger = well(ago(HOUR));
    tell(&mut ledger, Check::PcAv, MAJOR, NOW);
    let late = measured(Check::PcAv, PASS, ago(MINUTE));
    for _ in 0..3 {
        ledger.observe(Subject::Device(PC), late, NOW.plus(HOUR));
    }
    assert_eq!(at(&ledger, Check::PcAv, NOW.plus(HOUR)).1, Effect::Restrict);
}

#[test]
fn every_change_is_told_once() {
    let mut ledger = well(NOW);
    assert!(tell(&mut ledger, Check::PcAv, MAJOR, NOW).is_some());
    assert!(tell(&mut ledger, Check::PcAv, MAJOR, NOW.plus(1)).is_none());
    let told = ledger.tick(NOW.plus(30 * MINUTE));
    let of_pc_av: Vec<_> = told.iter().filter(|t| t.check == Check::PcAv).collect();
    assert_eq!(of_pc_av.len(), 1);
    assert_eq!(of_pc_av[0].effect, Effect::Restrict);
    assert_eq!(ledger.tick(NOW.plus(30 * MINUTE)), []);
}

#[test]
fn evidence_about_strangers_is_nothing() {
    let mut ledger = Ledger::new(NOW);
    let observed = measured(Check::PcAv, PASS, NOW);
    assert_eq!(ledger.observe(Subject::Device(PC), observed, NOW), None);
    let mistaken = measured(Check::PcAv, PASS, NOW);
    assert_eq!(ledger.observe(Subject::Box, mistaken, NOW), None);
    ledger.set_devices(&registered(&[PC]), NOW);
    let declared = Observed {
        source: Source::Declared,
        ..measured(Check::PcAv, fail(Grade::Minor), NOW)
    };
    assert!(ledger.observe(Subject::Device(PC), declared, NOW).is_some());
}

#[test]
fn a_policy_that_has_expired_gives_way_to_the_built_in_one() {
    let mut ledger = well(NOW);
    let mut policy = Policy::built_in();
    policy.version = 4;
    policy.expires = Some(NOW.plus(DAY));
    ledger.set_policy(policy, NOW);
    ledger.tick(NOW.plus(DAY - 1));
    assert_eq!(ledger.policy().version, 4);
    ledger.tick(NOW.plus(DAY));
    assert_eq!(**ledger.policy(), Policy::built_in());
}

/// The rules of clearing and relapse once more, written down as plainly as can be.
#[derive(Clone, Copy, Debug)]
enum Model {
    Fine,
    Fails { began: i64, passed: Option<i64> },
    Cleared { began: i64, at: i64 },
}

impl Model {
    fn sees(self, pass: bool, now: i64) -> Self {
        match (self, pass) {
            (Self::Fine | Self::Cleared { .. }, true) => self,
            (Self::Fine, false) => Self::Fails {
                began: now,
                passed: None,
            },
            (Self::Cleared { began, at }, false) => Self::Fails {
                began: if now - at <= 7 * DAY { began } else { now },
                passed: None,
            },
            (Self::Fails { began, .. }, false) => Self::Fails {
                began,
                passed: None,
            },
            (
                Self::Fails {
                    began,
                    passed: Some(first),
                },
                true,
            ) if now - first >= 10 * MINUTE => Self::Cleared { began, at: now },
            (Self::Fails { began, passed }, true) => Self::Fails {
                began,
                passed: passed.or(Some(now)),
            },
        }
    }

    fn effect(self, now: i64) -> Effect {
        match self {
            Self::Fails { began, .. } if now - began >= 30 * DAY => Effect::Restrict,
            Self::Fails { .. } => Effect::Warn,
            Self::Fine | Self::Cleared { .. } => Effect::Allow,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clearing_and_relapse_follow_the_model(
        seen in prop::collection::vec(
            (any::<bool>(), prop_oneof![0..20 * MINUTE, 0..2 * DAY]), 1..60),
    ) {
        let mut ledger = well(NOW);
        let mut model = Model::Fine;
        let mut now = NOW;
        for (pass, pause) in seen {
            now = now.plus(pause);
            let observation = if pass { PASS } else { MAJOR };
            tell(&mut ledger, Check::PcLock, observation, now);
            model = model.sees(pass, now.0);
            prop_assert_eq!(at(&ledger, Check::PcLock, now).1, model.effect(now.0));
        }
    }
}
