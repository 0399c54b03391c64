//! What the tests of this crate share: a TPM of one's own, a vault on it, and messages to sign.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]

pub mod neighbour;
pub mod tap;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use gateway_tpm::{Config, KeyBlob, KeyVault, TpmVault};
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use test_harness::swtpm::Swtpm;

/// A TPM and the state directory of a box that uses it.
pub struct Bench {
    pub dir: TempDir,
    pub tpm: Swtpm,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let tpm = Swtpm::start(&dir.path().join("tpm")).expect("swtpm starts");
        Self { dir, tpm }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Deadlines short enough for tests, long enough for a loaded machine.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.tpm.tcti(), self.state_dir()).allow_software_tpm();
        config.sign_deadline = Duration::from_secs(5);
        config.deadline = Duration::from_secs(10);
        config
    }

    pub fn vault(&self) -> TpmVault {
        TpmVault::open(self.config()).expect("the vault opens")
    }
}

/// A well-formed TLS 1.3 client CertificateVerify content.
pub fn certificate_verify(filling: u8) -> Vec<u8> {
    [
        &[0x20; 64][..],
        b"TLS 1.3, client CertificateVerify\0",
        &[filling; 32],
    ]
    .concat()
}

/// Signs and checks the signature under the key's public half.
pub fn assert_signs(vault: &dyn KeyVault, key: &KeyBlob) {
    let message = certificate_verify(7);
    let signature = vault.sign_tls13(key, &message).expect("the key signs");
    verify(key, &message, &signature);
}

pub fn verify(key: &KeyBlob, message: &[u8], signature: &[u8]) {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_point())
        .verify(message, signature)
        .expect("the signature is valid under the key's public half");
}
