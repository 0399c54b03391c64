//! Emergencies: how often, how long, and what they never lower.

use gateway_policy::{
    BreakGlass, BreakGlassError, Certificate, Check, Device, Effect, Gate, Grade, Ledger, Opener,
    Reason, Rule, Snapshot, Standing,
};

use crate::stand::{DAY, HOUR, NOW, PC, ago, fail, known, snapshot, tell, well};

fn open(record: &mut BreakGlass, now: gateway_policy::Timestamp) -> Result<(), BreakGlassError> {
    record
        .open(Opener::Manager, Reason::Emergency, now)
        .map(|_| ())
}

fn declared(ledger: &mut Ledger) -> Snapshot {
    let (record, now) = ledger.break_glass_mut(NOW);
    open(record, now).unwrap();
    snapshot(ledger, NOW)
}

#[test]
fn an_emergency_lasts_four_hours_and_can_be_drawn_out_to_twelve() {
    let mut record = BreakGlass::default();
    open(&mut record, NOW).unwrap();
    assert_eq!(
        record.open_until(NOW.plus(4 * HOUR - 1)),
        Some(NOW.plus(4 * HOUR))
    );
    assert_eq!(record.open_until(NOW.plus(4 * HOUR)), None);
    assert_eq!(open(&mut record, NOW), Err(BreakGlassError::AlreadyOpen));
    assert_eq!(record.renew(NOW.plus(3 * HOUR)), Ok(NOW.plus(7 * HOUR)));
    assert_eq!(record.renew(NOW.plus(6 * HOUR)), Ok(NOW.plus(10 * HOUR)));
    assert_eq!(record.renew(NOW.plus(9 * HOUR)), Ok(NOW.plus(12 * HOUR)));
    assert_eq!(
        record.renew(NOW.plus(11 * HOUR)),
        Err(BreakGlassError::TooLong)
    );
    assert_eq!(
        record.renew(NOW.plus(12 * HOUR)),
        Err(BreakGlassError::NotOpen)
    );
}

#[test]
fn the_fourth_in_thirty_days_needs_the_citys_countersignature() {
    let mut record = BreakGlass::default();
    for day in 0..3 {
        let now = NOW.plus(day * DAY);
        open(&mut record, now).unwrap();
        record.close(now.plus(HOUR)).unwrap();
        assert!(record.review(u64::try_from(day).unwrap() + 1, now.plus(2 * HOUR)));
    }
    let fourth = NOW.plus(4 * DAY);
    let again = NOW.plus(30 * DAY);
    assert_eq!(record.uses_left(fourth), 0);
    assert_eq!(
        open(&mut record, fourth),
        Err(BreakGlassError::UsedUp { again })
    );
    let mut waited = record.clone();
    assert_eq!(open(&mut waited, again), Ok(()));
    assert!(record.countersign(2));
    assert_eq!(open(&mut record, fourth), Ok(()));
}

#[test]
fn what_was_not_reviewed_in_a_week_stands_in_the_way_of_the_next() {
    let mut record = BreakGlass::default();
    open(&mut record, NOW).unwrap();
    let due = record.emergencies()[0].review_due();
    assert_eq!(due, NOW.plus(4 * HOUR + 7 * DAY));
    let late = due.plus(1);
    assert_eq!(open(&mut record, late), Err(BreakGlassError::ReviewOverdue));
    assert_eq!(record.unreviewed(late).count(), 1);
    assert!(record.review(1, late));
    assert_eq!(open(&mut record, late), Ok(()));
}

#[test]
fn a_sealed_code_serves_once() {
    let mut record = BreakGlass::default();
    record.seal_code([5; 32]);
    let with = |record: &mut BreakGlass, code, now| {
        record.open(Opener::SealedCode(code), Reason::Disaster, now)
    };
    assert_eq!(with(&mut record, [6; 32], NOW), Err(BreakGlassError::Code));
    assert!(with(&mut record, [5; 32], NOW).is_ok());
    assert!(record.emergencies()[0].by_code);
    record.close(NOW.plus(1)).unwrap();
    assert_eq!(
        with(&mut record, [5; 32], NOW.plus(2)),
        Err(BreakGlassError::Code)
    );
}

#[test]
fn an_emergency_turns_a_block_into_reading_and_text() {
    let mut ledger = well(ago(8 * DAY));
    let verdict = |snapshot: &Snapshot| Gate::new().box_verdict(snapshot, NOW);
    assert_eq!(verdict(&snapshot(&ledger, NOW)).effect, Effect::Block);
    for check in [Check::Boot, Check::Clock] {
        tell(&mut ledger, check, gateway_policy::Observation::Pass, NOW);
    }
    let lowered = verdict(&declared(&mut ledger));
    assert_eq!(lowered.effect, Effect::Restrict);
    assert_eq!(lowered.break_glass, Some(NOW.plus(4 * HOUR)));
    let over = NOW.plus(4 * HOUR);
    let mut after = snapshot(&ledger, over);
    after.taken = over;
    assert_eq!(Gate::new().box_verdict(&after, over).effect, Effect::Block);
}

#[test]
fn an_emergency_never_lowers_boot_integrity() {
    let mut ledger = well(NOW);
    tell(&mut ledger, Check::Boot, fail(Grade::Major), NOW);
    let verdict = Gate::new().box_verdict(&declared(&mut ledger), NOW);
    assert_eq!(
        (verdict.effect, verdict.rule),
        (Effect::Block, Some(Rule::Check(Check::Boot)))
    );
}

#[test]
fn an_emergency_never_lowers_certificate_suspension_or_a_strangers_device() {
    let mut ledger = well(NOW);
    let declared = declared(&mut ledger);
    let effect = |snapshot: &Snapshot, device| Gate::new().verdict(device, snapshot, NOW).effect;
    let pc = Device::Registered(PC);
    let mut absent = declared.clone();
    absent.certificate = known(Certificate::Absent, NOW);
    assert_eq!(effect(&absent, pc), Effect::Block);
    let mut suspended = declared.clone();
    suspended.standing = known(Standing::Suspended { since: NOW }, NOW);
    assert_eq!(effect(&suspended, pc), Effect::Block);
    let mut stale = declared.clone();
    stale.taken = ago(HOUR);
    assert_eq!(effect(&stale, pc), Effect::Block);
    assert_eq!(effect(&declared, Device::Unknown), Effect::Block);
    assert_eq!(effect(&declared, pc), Effect::Allow);
}

#[test]
fn an_emergency_outlives_a_restart_and_a_clock_that_is_set_back() {
    let mut ledger = well(NOW);
    declared(&mut ledger);
    let written = ledger.to_json().unwrap();
    let later = NOW.plus(3 * HOUR);
    let mut again = Ledger::from_json(&written, later).unwrap();
    assert_eq!(
        snapshot(&again, later).break_glass(later),
        Some(NOW.plus(4 * HOUR))
    );
    let back = NOW.plus(-DAY);
    again.tick(back);
    let until = snapshot(&again, back).break_glass(back);
    assert_eq!(until, Some(back.plus(HOUR)));
}
