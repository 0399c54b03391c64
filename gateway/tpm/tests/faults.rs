//! The vault that misbehaves on demand, for the tests of the crates above.

mod support;

use gateway_tpm::{FaultVault, InjectedFault, KeyVault, VaultError};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use support::{Bench, assert_signs, certificate_verify};

#[test]
fn an_injected_fault_happens_until_it_is_taken_back() {
    let bench = Bench::new();
    let vault = FaultVault::new(Arc::new(bench.vault()));
    let key = vault.generate().expect("generate");
    assert_signs(&vault, &key);

    vault.inject(Some(InjectedFault::Fail(VaultError::Locked)));
    assert!(matches!(
        vault.sign_tls13(&key, &certificate_verify(1)),
        Err(VaultError::Locked)
    ));

    vault.inject(Some(InjectedFault::Delay(Duration::from_millis(100))));
    let start = Instant::now();
    assert_signs(&vault, &key);
    assert!(start.elapsed() >= Duration::from_millis(100));

    let other = bench.vault().generate().expect("generate");
    vault.inject(Some(InjectedFault::WrongKey(other.clone())));
    let message = certificate_verify(1);
    support::verify(
        &other,
        &message,
        &vault.sign_tls13(&key, &message).expect("signs"),
    );

    vault.inject(None);
    assert_signs(&vault, &key);
}
