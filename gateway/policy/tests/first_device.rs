//! How the first device of a facility gets in when unknown ones are refused.

use gateway_policy::{
    Device, DeviceId, DeviceStanding, Effect, Evidence, Gate, Ledger, Rule, Timestamp,
    UnknownDevices,
};

const NOW: Timestamp = Timestamp(1_800_000_000);

fn stranger(standings: &[(u8, bool)]) -> (Effect, Option<Rule>) {
    let mut ledger = Ledger::new(NOW);
    let standings: Vec<DeviceStanding> = standings
        .iter()
        .map(|(id, revoked)| DeviceStanding {
            id: DeviceId([*id; 16]),
            revoked: revoked.then_some(NOW),
            manager: false,
        })
        .collect();
    ledger.set_devices(&standings, NOW);
    let unknown = Evidence::Unknown { since: NOW };
    let snapshot = ledger.snapshot(NOW, unknown, Evidence::Unknown { since: NOW });
    let gate = Gate::new().with_unknown_devices(UnknownDevices::RefuseOnceOneIsRegistered);
    let verdict = gate.device_verdict(Device::Unknown, &snapshot, NOW);
    (verdict.effect, verdict.rule)
}

#[test]
fn strangers_are_warned_until_the_first_device_is_registered_and_refused_from_then_on() {
    let device = Some(Rule::Device);
    assert_eq!(stranger(&[]), (Effect::Warn, device));
    assert_eq!(stranger(&[(1, false)]), (Effect::Block, device));
    assert_eq!(stranger(&[(1, true), (2, false)]), (Effect::Block, device));
    // Somebody has to be able to begin again.
    assert_eq!(stranger(&[(1, true)]), (Effect::Warn, device));
}
