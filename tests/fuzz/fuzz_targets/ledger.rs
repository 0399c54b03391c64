//! The ledger of checks as it lies on the box's disk: no panic; what is taken over is written back the same, time goes on
//! in it, and a scanner that has not been proven in this run blocks.
#![no_main]

use gateway_policy::{Check, Effect, Evidence, Ledger, Timestamp};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp(1_800_000_000);

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut ledger) = Ledger::from_json(bytes, NOW) else {
        return;
    };
    ledger.tick(NOW.plus(60));
    let written = ledger.to_json().expect("its keys are strings");
    assert!(Ledger::from_json(&written, NOW.plus(60)).is_ok());
    let unknown = Evidence::Unknown { since: NOW };
    let snapshot = ledger.snapshot(NOW.plus(60), unknown, Evidence::Unknown { since: NOW });
    let scanner = snapshot.own(Check::AvAlive).expect("it is of the box");
    assert_eq!(scanner.effect(snapshot.time(NOW.plus(60))), Effect::Block);
});
