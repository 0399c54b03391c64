//! Registered, unknown, revoked and returning devices.

use gateway_policy::{
    Area, Asked, Check, Device, DeviceId, DeviceStanding, Effect, Gate, Ledger, Rule, Timestamp,
    UnknownDevices,
};

use crate::stand::{
    DAY, HOUR, MINUTE, NOW, PC, ago, fail, registered, snapshot, tell, well, well_but,
};

const OTHER: DeviceId = DeviceId([9; 16]);

fn of(device: DeviceId, ledger: &Ledger, now: Timestamp) -> (Effect, &'static str) {
    let verdict =
        Gate::new().device_verdict(Device::Registered(device), &snapshot(ledger, now), now);
    (verdict.effect, verdict.rule.map_or("OK", Rule::id))
}

#[test]
fn an_unknown_device_reaches_the_portal_and_the_boxs_pages_only() {
    let snapshot = snapshot(&well(NOW), NOW);
    let ask = |area, gate: Gate, device| {
        let asked = Asked {
            area,
            writes: false,
            transfers_file: false,
        };
        let answer = gate.check(&asked, device, &snapshot, NOW);
        answer
            .map(|_| ())
            .map_err(|refusal| (refusal.rule, refusal.article))
    };
    let gate = Gate::new();
    for device in [Device::Unknown, Device::Registered(OTHER)] {
        assert_eq!(
            ask(Area::Staff, gate, device),
            Err((Rule::Device, Some(29)))
        );
        assert_eq!(ask(Area::Public, gate, device), Ok(()));
        assert_eq!(ask(Area::Box, gate, device), Ok(()));
        let lenient = gate.with_unknown_devices(UnknownDevices::Warn);
        assert_eq!(ask(Area::Staff, lenient, device), Ok(()));
        let verdict = lenient.verdict(device, &snapshot, NOW);
        assert_eq!(
            (verdict.effect, verdict.rule),
            (Effect::Warn, Some(Rule::Device))
        );
    }
}

#[test]
fn a_revoked_device_is_blocked_whatever_else_is_right() {
    let mut ledger = well(NOW);
    let revoked = DeviceStanding {
        id: PC,
        revoked: Some(ago(5)),
        manager: true,
    };
    ledger.set_devices(&[revoked], NOW);
    assert_eq!(of(PC, &ledger, NOW), (Effect::Block, "DEVICE-REVOKED"));
}

#[test]
fn one_devices_trouble_is_not_anothers() {
    let mut ledger = well(NOW);
    ledger.set_devices(&registered(&[PC, OTHER]), NOW);
    tell(
        &mut ledger,
        Check::PcAv,
        fail(gateway_policy::Grade::Major),
        NOW,
    );
    let later = NOW.plus(DAY);
    ledger.seen(PC, later.plus(-HOUR));
    assert_eq!(of(PC, &ledger, later), (Effect::Block, "PC-AV"));
    assert_ne!(of(OTHER, &ledger, NOW).1, "PC-AV");
}

#[test]
fn pairing_a_device_again_gives_no_credit_back() {
    let mut ledger = well(NOW);
    tell(
        &mut ledger,
        Check::PcAv,
        fail(gateway_policy::Grade::Major),
        NOW,
    );
    ledger.set_devices(&[], NOW.plus(HOUR));
    assert_eq!(of(PC, &ledger, NOW.plus(HOUR)), (Effect::Block, "DEVICE"));
    ledger.set_devices(&registered(&[PC]), NOW.plus(2 * HOUR));
    assert_eq!(
        of(PC, &ledger, NOW.plus(2 * HOUR)),
        (Effect::Restrict, "PC-AV")
    );
}

#[test]
fn a_pc_that_was_off_over_new_year_gets_an_hour_to_catch_up() {
    // The last report and the newest definitions are of 28 December; the PC comes back on 12 January.
    let left = NOW;
    let mut ledger = well(left);
    let dated = gateway_policy::Observation::Dated { since: left };
    tell(&mut ledger, Check::PcSig, dated, left);
    let back = left.plus(15 * DAY);
    assert_eq!(
        of(PC, &ledger, back),
        (Effect::Restrict, "PC-SIG"),
        "even before the ledger has heard of it"
    );
    ledger.seen(PC, back);
    assert_eq!(of(PC, &ledger, back.plus(59 * MINUTE)).0, Effect::Restrict);
    assert_eq!(of(PC, &ledger, back.plus(60 * MINUTE)).0, Effect::Block);

    let caught_up = back.plus(20 * MINUTE);
    for check in gateway_policy::DEVICE_CHECKS {
        tell(
            &mut ledger,
            check,
            gateway_policy::Observation::Pass,
            caught_up,
        );
    }
    assert_eq!(of(PC, &ledger, back.plus(2 * HOUR)), (Effect::Allow, "OK"));
}

#[test]
fn a_pc_that_is_merely_back_is_warned_and_not_restricted_at_once() {
    let mut ledger = well(NOW);
    let back = NOW.plus(3 * DAY);
    ledger.seen(PC, back);
    assert_eq!(of(PC, &ledger, back), (Effect::Warn, "PC-RPT"));
    assert_eq!(
        of(PC, &ledger, back.plus(HOUR)),
        (Effect::Restrict, "PC-RPT")
    );
}

#[test]
fn a_pc_that_was_blocked_before_it_was_switched_off_gets_no_hour() {
    let mut ledger = well(NOW);
    tell(
        &mut ledger,
        Check::PcAv,
        fail(gateway_policy::Grade::Major),
        NOW,
    );
    ledger.seen(PC, NOW.plus(25 * HOUR));
    let back = NOW.plus(5 * DAY);
    ledger.seen(PC, back);
    assert_eq!(of(PC, &ledger, back), (Effect::Block, "PC-AV"));
}

#[test]
fn switching_off_every_night_wins_no_hour_twice() {
    let mut ledger = well(NOW);
    tell(
        &mut ledger,
        Check::PcAv,
        fail(gateway_policy::Grade::Major),
        NOW,
    );
    let mut blocked = 0;
    for day in 1..6 {
        let morning = NOW.plus(day * DAY);
        ledger.seen(PC, morning);
        blocked += u32::from(of(PC, &ledger, morning).0 == Effect::Block);
        ledger.seen(PC, morning.plus(8 * HOUR));
        blocked += u32::from(of(PC, &ledger, morning.plus(8 * HOUR)).0 == Effect::Block);
    }
    assert_eq!(blocked, 9, "all but the first morning");
}

#[test]
fn a_warning_names_what_the_person_at_the_device_can_mend() {
    let mut ledger = well_but(NOW, &[Check::Sbom]);
    tell(
        &mut ledger,
        Check::PcSw,
        fail(gateway_policy::Grade::Minor),
        NOW,
    );
    let snapshot = snapshot(&ledger, NOW);
    let verdict = Gate::new().verdict(Device::Registered(PC), &snapshot, NOW);
    assert_eq!(verdict.rule, Some(Rule::Check(Check::PcSw)));
    assert_eq!(
        Gate::new().box_verdict(&snapshot, NOW).rule,
        Some(Rule::Check(Check::Sbom))
    );
}
