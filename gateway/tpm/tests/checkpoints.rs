//! The audit key against a real (software) TPM: what it signs, and what it never signs.

mod support;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use gateway_tpm::{AuditKey, CHECKPOINT_PREFIX, CheckpointVault, KeyVault, VaultError};
use support::{Bench, certificate_verify};

fn checkpoint(key: &AuditKey) -> Vec<u8> {
    [
        CHECKPOINT_PREFIX,
        &[3; 88],
        &key.id(),
        &[8],
        b"tkh-1001".as_slice(),
    ]
    .concat()
}

#[test]
fn a_checkpoint_is_signed_by_a_key_that_comes_back_after_a_restart() {
    let bench = Bench::new();
    let stored = {
        let vault = bench.vault();
        vault.generate_audit_key().expect("generate").to_bytes()
    };
    let vault = bench.vault();
    let key = AuditKey::from_bytes(&stored).expect("stored");
    // Beside keys in use: the audit key takes a slot for the moment only.
    let others: Vec<_> = (0..3).map(|_| vault.generate().expect("key")).collect();
    for other in &others {
        support::assert_signs(&vault, other);
        let message = checkpoint(&key);
        let signature = vault.sign_checkpoint(&key, &message).expect("signs");
        let spki = key.spki_der();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki[spki.len() - 65..])
            .verify(&message, &signature)
            .expect("valid");
    }
}

#[test]
fn the_audit_key_signs_checkpoints_that_name_it_and_nothing_else() {
    let bench = Bench::new();
    let vault = bench.vault();
    let (key, other) = (
        vault.generate_audit_key().expect("generate"),
        vault.generate_audit_key().expect("generate"),
    );
    let good = checkpoint(&key);
    for message in [
        &certificate_verify(7)[..],
        &checkpoint(&other),
        &good[1..],
        &good[..good.len() - 1],
        &[&good[..], b"\n"].concat(),
        b"",
    ] {
        let refused = vault.sign_checkpoint(&key, message);
        assert!(
            matches!(refused, Err(VaultError::RefusedToSign)),
            "{refused:?}"
        );
    }
}

#[test]
fn after_the_tpm_was_cleared_the_audit_key_is_lost_and_not_merely_unavailable() {
    let bench = Bench::new();
    let key = bench.vault().generate_audit_key().expect("generate");
    bench.vault().clear().expect("clear");
    let vault = bench.vault();
    let lost = vault.sign_checkpoint(&key, &checkpoint(&key));
    assert!(matches!(lost, Err(VaultError::KeyLost)), "{lost:?}");
}
