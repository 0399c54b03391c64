//! What a listener on the TPM's bus sees, and what a forger on it achieves.

mod support;

use aws_lc_rs::{
    encoding::{AsBigEndian, EcPrivateKeyBin},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use gateway_tpm::{Config, ImportKey, KeyVault, Secret, TpmVault, VaultError};
use support::{Bench, assert_signs, tap::Tap};
use zeroize::Zeroizing;

const SECRET: &[u8] = b"SECRET-DEK-0123456789abcdef-!@#$";
const CC_READ_PUBLIC: [u8; 4] = [0, 0, 0x01, 0x73];

fn tapped(bench: &Bench) -> (Tap, Config) {
    let tap = Tap::before(bench.tpm.port());
    let config = Config {
        tcti: tap.tcti(),
        ..bench.config()
    };
    (tap, config)
}

#[test]
fn a_sealed_secret_is_never_on_the_bus_in_either_direction() {
    let bench = Bench::new();
    let (tap, config) = tapped(&bench);
    let vault = TpmVault::open(config).expect("open");
    let blob = vault.seal(&Secret::new(SECRET.to_vec())).expect("seal");
    assert_eq!(vault.unseal(&blob).expect("unseal").as_bytes(), SECRET);
    assert!(
        tap.saw(&blob.to_bytes()[24..56]),
        "the tap works: the sealed object's public part was seen"
    );
    for part in [SECRET, &SECRET[..16], &SECRET[16..]] {
        assert!(!tap.saw(part));
    }
}

#[test]
fn an_imported_private_key_is_never_on_the_bus() {
    let bench = Bench::new();
    let (tap, config) = tapped(&bench);
    let vault = TpmVault::open(config).expect("open");
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("generate");
    let point: [u8; 65] = pair.public_key().as_ref().try_into().expect("65 bytes");
    let binary: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().expect("scalar");
    let scalar: [u8; 32] = binary.as_ref().try_into().expect("32 bytes");
    let key = vault
        .import(ImportKey::new(Zeroizing::new(scalar), point).expect("a pair"))
        .expect("import");
    assert_signs(&vault, &key);
    assert!(
        tap.saw(&point[1..33]),
        "the tap works: the public point was seen"
    );
    assert!(!tap.saw(&scalar[..16]) && !tap.saw(&scalar[16..]));
}

/// The salt of a session is encrypted to the SRK. A forger who puts a key of his own into the answer to ReadPublic, beside
/// the genuine Name, would learn the salt if the Name were not checked against the key.
#[test]
fn a_forged_public_key_under_the_genuine_name_is_refused() {
    let bench = Bench::new();
    drop(bench.vault());
    let forger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("generate");
    let point = forger.public_key().as_ref().to_vec();
    let (tap, config) = tapped(&bench);
    tap.state().rewrite = Some(Box::new(move |command, response| {
        if command[6..10] == CC_READ_PUBLIC && response.len() > 100 {
            // header, TPM2B size, then TPMT_PUBLIC, which ends in the two coordinates with their sizes.
            let size = usize::from(u16::from_be_bytes([response[10], response[11]]));
            let end = 12 + size;
            response[end - 66..end - 34].copy_from_slice(&point[1..33]);
            response[end - 32..end].copy_from_slice(&point[33..]);
        }
    }));
    let refusal = TpmVault::open(config).expect_err("a forged SRK");
    assert!(matches!(refusal, VaultError::SrkChanged), "{refusal:?}");
}
