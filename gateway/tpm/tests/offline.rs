//! What the box needs of a real (software) TPM while the city is away: a clock that only goes forward, a key for HMAC that
//! nobody else has, and a counter that only goes up.

mod support;

use gateway_tpm::{
    CounterVault, KeyVault, PepperKey, PepperVault, Secret, TimeVault, TpmTime, VaultError,
    forget_srk,
};
use std::time::Duration;
use support::{Bench, tap::Tap};
use test_harness::wait;

/// The longest time for which a TPM may set its clock back when it loses power (Part 1: at least every 2²² ms is saved).
const HIDDEN: u64 = 1 << 22;

fn message(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

#[test]
fn the_clock_goes_on_while_the_tpm_has_power_and_over_connections() {
    let bench = Bench::new();
    let first = bench.vault().time().expect("the time");
    let vault = bench.vault();
    let later = wait::until("the clock to go on", Duration::from_secs(60), || {
        let now = vault.time().expect("the time");
        (now.milliseconds >= first.milliseconds + 200).then_some(now)
    });
    assert_eq!(later.expect("goes on").resets, first.resets);
    // Keys in use do not mind.
    let key = vault.generate().expect("a key");
    for _ in 0..3 {
        support::assert_signs(&vault, &key);
        let now = vault.time().expect("the time");
        assert!(now.milliseconds > first.milliseconds);
    }
}

#[test]
fn each_loss_of_power_is_counted_and_hides_no_more_than_the_specification_says() {
    let mut bench = Bench::new();
    let mut before = bench.vault().time().expect("the time");
    for _ in 0..3 {
        // Long enough to be seen when it is lost.
        std::thread::sleep(Duration::from_millis(300));
        let cut_at = bench.vault().time().expect("the time");
        bench.tpm.kill();
        bench.tpm.restart().expect("power again");
        let vault = bench.vault();
        let after: TpmTime = vault.time().expect("the time");
        assert_eq!(after.resets, before.resets.wrapping_add(1), "{after:?}");
        assert!(
            after.milliseconds + HIDDEN >= cut_at.milliseconds,
            "{cut_at:?} {after:?}"
        );
        before = after;
    }
}

#[test]
fn after_the_tpm_was_cleared_its_clock_fits_nothing_that_was_kept() {
    let bench = Bench::new();
    let before = bench.vault().time().expect("the time");
    bench.vault().clear().expect("clear");
    forget_srk(&bench.state_dir()).expect("a new box");
    let after = bench.vault().time().expect("the time");
    // The clock starts again and the number of resets is another one: told apart by either.
    assert!(
        after.resets.wrapping_sub(before.resets) > u32::from(u16::MAX),
        "{before:?} {after:?}"
    );
}

#[test]
fn only_this_tpm_peppers_and_it_does_so_the_same_after_a_restart() {
    let mut bench = Bench::new();
    let (stored, first) = {
        let vault = bench.vault();
        let key = vault.generate_pepper_key().expect("a key");
        let first = vault.pepper(&key, &message("803917")).expect("peppered");
        (key.to_bytes(), first)
    };
    assert_eq!(first.as_bytes().len(), 32);
    bench.tpm.restart().expect("power again");
    let vault = bench.vault();
    let key = PepperKey::from_bytes(&stored).expect("stored");
    let again = vault.pepper(&key, &message("803917")).expect("peppered");
    assert_eq!(again.as_bytes(), first.as_bytes());
    let other = vault.pepper(&key, &message("803918")).expect("peppered");
    assert_ne!(other.as_bytes(), first.as_bytes());
    let other_key = vault.generate_pepper_key().expect("another");
    let other = vault.pepper(&other_key, &message("803917")).expect("works");
    assert_ne!(other.as_bytes(), first.as_bytes());
    let too_long = Secret::new(vec![0; 257]);
    let refused = vault.pepper(&key, &too_long).expect_err("too long");
    assert!(matches!(refused, VaultError::RefusedToSign), "{refused:?}");

    let elsewhere = Bench::new();
    let foreign = elsewhere.vault().pepper(&key, &message("803917"));
    assert!(matches!(foreign, Err(VaultError::KeyLost)), "{foreign:?}");
}

#[test]
fn a_pepper_key_is_nothing_else_and_nothing_else_is_one() {
    let bench = Bench::new();
    let vault = bench.vault();
    let stored = vault.generate_pepper_key().expect("a key").to_bytes();
    assert_eq!(
        PepperKey::from_bytes(&stored)
            .expect("own output")
            .to_bytes(),
        stored
    );
    for at in 0..stored.len() {
        assert!(PepperKey::from_bytes(&stored[..at]).is_err(), "cut at {at}");
    }
    // A sealed secret has the same type of object and no such attributes.
    let sealed = vault.seal(&message("secret")).expect("sealed").to_bytes();
    let renamed = [b"RGPEPPR1", &sealed[8..]].concat();
    assert!(PepperKey::from_bytes(&renamed).is_err());
}

#[test]
fn neither_what_is_peppered_nor_what_comes_out_is_to_be_seen_on_the_bus() {
    let bench = Bench::new();
    let tap = Tap::before(bench.tpm.port());
    let mut config = bench.config();
    config.tcti = tap.tcti();
    let vault = gateway_tpm::TpmVault::open(config).expect("opens");
    let key = vault.generate_pepper_key().expect("a key");
    let hidden = message("peppered-in-secret");
    let out = vault.pepper(&key, &hidden).expect("peppered");
    assert!(tap.commands() > 3);
    assert!(!tap.saw(hidden.as_bytes()) && !tap.saw(out.as_bytes()));
}

#[test]
fn a_counter_goes_up_by_one_and_never_comes_back() {
    let mut bench = Bench::new();
    let vault = bench.vault();
    let start = vault.count().expect("a counter");
    assert_eq!(vault.count().expect("again"), start);
    vault.count_to(start + 1).expect("one up");
    // Said twice, done once.
    vault.count_to(start + 1).expect("there already");
    assert_eq!(vault.count().expect("counted"), start + 1);
    for far in [start, start + 3, 0, u64::MAX] {
        let refused = vault.count_to(far);
        assert!(matches!(refused, Err(VaultError::RefusedToSign)), "{far}");
    }
    drop(vault);
    bench.tpm.kill();
    bench.tpm.restart().expect("power again");
    assert_eq!(bench.vault().count().expect("kept"), start + 1);
}

#[test]
fn a_counter_that_somebody_removed_begins_above_what_it_was() {
    let bench = Bench::new();
    let vault = bench.vault();
    let start = vault.count().expect("a counter");
    for step in 1..=5 {
        vault.count_to(start + step).expect("up");
    }
    drop(vault);
    bench.tpm.command(&UNDEFINE).expect("sent");
    let again = bench.vault().count().expect("made again");
    assert!(again > start + 5, "{start} {again}");
}

/// TPM2_NV_UndefineSpace of the counter by the owner, as any program with access to the TPM may send it.
const UNDEFINE: [u8; 31] = [
    0x80, 0x02, 0, 0, 0, 31, 0, 0, 0x01, 0x22, 0x40, 0, 0, 0x01, 0x01, 0x81, 0x5a, 0x78, 0, 0, 0,
    9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0,
];
