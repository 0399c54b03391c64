//! Kernels that the box takes and those it refuses, made by our own signer and by Debian's `sbsign` and `ukify`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

mod support;

use der::DecodePem as _;
use gateway_updater::authenticode::SignatureError;
use gateway_updater::slot::Slot;
use gateway_updater::uki::{Starts, UkiError, check, starts};
use support::kernel::{Signer, command_line, image, partitions};
use x509_cert::Certificate;

fn expected(root_hash: &str, slot: Slot) -> Starts {
    let [data, hash] = partitions(slot);
    Starts {
        root_hash: root_hash.to_owned(),
        data,
        hash,
    }
}

fn root_hash() -> String {
    "ab".repeat(32)
}

fn unsigned(line: &str) -> Vec<u8> {
    image(&[(b".osrel", b"ID=renraku\n"), (b".cmdline", line.as_bytes())])
}

#[test]
fn a_kernel_signed_by_the_boxs_certificate_that_starts_the_slot_is_taken() {
    let signer = Signer::new("db");
    let kernel = signer.sign(&unsigned(&command_line(&root_hash(), Slot::B)));
    let expected = expected(&root_hash(), Slot::B);
    assert_eq!(check(&kernel, &expected, &signer.certificate), Ok(()));
    assert_eq!(starts(&kernel), Ok(expected));
}

#[test]
fn a_kernel_for_the_other_slot_or_another_root_is_refused() {
    let signer = Signer::new("db");
    let kernel = signer.sign(&unsigned(&command_line(&root_hash(), Slot::A)));
    let refused = check(
        &kernel,
        &expected(&root_hash(), Slot::B),
        &signer.certificate,
    );
    assert_eq!(refused, Err(UkiError::Slot));
    let refused = check(
        &kernel,
        &expected(&"cd".repeat(32), Slot::A),
        &signer.certificate,
    );
    assert_eq!(refused, Err(UkiError::RootHash));
}

#[test]
fn a_kernel_that_is_not_signed_or_by_somebody_else_is_refused() {
    let (signer, other) = (Signer::new("db"), Signer::new("db"));
    let plain = unsigned(&command_line(&root_hash(), Slot::A));
    let expected = expected(&root_hash(), Slot::A);
    let refused = |kernel: &[u8]| match check(kernel, &expected, &signer.certificate) {
        Err(UkiError::Signature(why)) => why,
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(refused(&plain), SignatureError::Unsigned);
    assert_eq!(refused(&other.sign(&plain)), SignatureError::Signer);
    // The same issuer and number, and another key.
    let mut forged = signer.certificate.clone();
    forged.tbs_certificate.issuer = other.certificate.tbs_certificate.issuer.clone();
    forged.tbs_certificate.serial_number = other.certificate.tbs_certificate.serial_number.clone();
    let outcome = check(&other.sign(&plain), &expected, &forged);
    assert_eq!(outcome, Err(UkiError::Signature(SignatureError::Signature)));
}

#[test]
fn one_bit_anywhere_but_in_the_checksum_is_seen() {
    let signer = Signer::new("db");
    let kernel = signer.sign(&unsigned(&command_line(&root_hash(), Slot::A)));
    let expected = expected(&root_hash(), Slot::A);
    let mut unseen = Vec::new();
    for at in 0..kernel.len() {
        let mut bad = kernel.clone();
        bad[at] ^= 1;
        if check(&bad, &expected, &signer.certificate).is_ok() {
            unseen.push(at);
        }
    }
    // The checksum of the header; and in the PKCS#7 structure what no signature covers and no firmware reads: the copy of the
    // certificate, which is not the one that is trusted.
    let table = unsigned(&command_line(&root_hash(), Slot::A)).len();
    let in_image: Vec<usize> = unseen.iter().copied().filter(|at| *at < table).collect();
    let checksum: Vec<usize> = (0x40 + 24 + 64..0x40 + 24 + 68).collect();
    assert_eq!(in_image, checksum);
}

#[test]
fn a_cut_or_longer_file_is_refused() {
    let signer = Signer::new("db");
    let kernel = signer.sign(&unsigned(&command_line(&root_hash(), Slot::A)));
    let expected = expected(&root_hash(), Slot::A);
    for length in 0..kernel.len() {
        let outcome = check(&kernel[..length], &expected, &signer.certificate);
        assert!(outcome.is_err(), "{length}");
    }
    for more in [1, 8, 4096] {
        let longer = [&kernel[..], &vec![0; more]].concat();
        assert!(check(&longer, &expected, &signer.certificate).is_err());
    }
}

#[test]
fn a_second_command_line_is_refused() {
    let signer = Signer::new("db");
    let line = command_line(&root_hash(), Slot::A);
    let twice = image(&[
        (b".cmdline", line.as_bytes()),
        (b".cmdline", b"init=/bin/sh"),
    ]);
    let outcome = check(
        &signer.sign(&twice),
        &expected(&root_hash(), Slot::A),
        &signer.certificate,
    );
    assert_eq!(outcome, Err(UkiError::Form("two command lines")));
}

#[test]
fn what_sbsign_signs_is_taken_and_what_it_did_not_sign_is_not() {
    let certificate = Certificate::from_pem(include_bytes!("kernels/db.pem")).unwrap();
    let kernel = include_bytes!("kernels/signed-by-sbsign.efi");
    let expected = expected(&root_hash(), Slot::B);
    assert_eq!(check(kernel, &expected, &certificate), Ok(()));
    let mut bad = kernel.to_vec();
    bad[0x250] ^= 1;
    let refused = check(&bad, &expected, &certificate);
    assert_eq!(refused, Err(UkiError::Signature(SignatureError::Digest)));
    let other = Signer::new("db").certificate;
    assert!(check(kernel, &expected, &other).is_err());
}
