//! Keys and secrets against a real (software) TPM: made, stored, used, imported, sealed, refused.

mod support;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
        UnparsedPublicKey,
    },
};
use der::{Decode, Encode, Reader};
use gateway_tpm::{
    Config, CsrSigner, ImportKey, KeyBlob, KeySlots, KeyVault, Provenance, SealedBlob, Secret,
    TpmVault, VaultError,
};
use rcgen::{CertificateParams, DnType, PublicKeyData, SigningKey};
use std::{process::Command, sync::Arc};
use support::{Bench, assert_signs, certificate_verify, verify};

#[test]
fn a_generated_key_signs_after_a_trip_through_its_file_and_a_new_process() {
    let bench = Bench::new();
    let slots = KeySlots::open(bench.dir.path().join("keys")).expect("slots");
    {
        let vault = bench.vault();
        let key = vault.generate().expect("generate");
        assert_eq!(key.provenance(), Provenance::Generated);
        slots.write_pending(&key).expect("write");
        slots.activate_pending().expect("activate");
    }
    let vault = bench.vault();
    let key = slots.active().expect("read").expect("active");
    assert_signs(&vault, &key);
    vault.prove_loadable(&key).expect("loads");
}

#[test]
fn a_software_tpm_is_refused_unless_the_configuration_names_it() {
    let bench = Bench::new();
    let config = Config {
        allow_software_tpm: false,
        ..bench.config()
    };
    let refusal = TpmVault::open(config).expect_err("a software TPM");
    assert!(
        matches!(&refusal, VaultError::SoftwareTpm { manufacturer } if manufacturer.contains("IBM")),
        "{refusal}"
    );
    assert!(refusal.is_permanent());
    let health = bench.vault().health().expect("health");
    assert!(
        health.software && health.vendor.contains("SW"),
        "{health:?}"
    );
}

#[test]
fn a_tcti_string_that_would_mean_something_else_is_refused_before_anything_is_opened() {
    let bench = Bench::new();
    for tcti in ["swtpm:path=/run/swtpm.sock", "device", "tabrmd"] {
        let config = Config {
            tcti: tcti.to_owned(),
            ..bench.config()
        };
        assert!(
            matches!(TpmVault::open(config), Err(VaultError::Tcti { .. })),
            "{tcti}"
        );
    }
}

#[test]
fn only_a_client_certificate_verify_is_signed() {
    let bench = Bench::new();
    let vault = bench.vault();
    let key = vault.generate().expect("generate");
    let tls12_transcript = vec![0x16; 300];
    let server = [
        &[0x20; 64][..],
        b"TLS 1.3, server CertificateVerify\0",
        &[7; 32],
    ]
    .concat();
    for message in [
        &tls12_transcript[..],
        &server,
        b"",
        &certificate_verify(7)[..120],
        b"any text",
    ] {
        let refusal = vault
            .sign_tls13(&key, message)
            .expect_err("not a client CertificateVerify");
        assert!(matches!(refusal, VaultError::RefusedToSign));
    }
    assert_eq!(vault.health().expect("health").signatures, 0);
    assert_signs(&vault, &key);
}

#[test]
fn a_request_for_the_key_itself_is_signed_with_all_its_attributes_and_verifies() {
    let bench = Bench::new();
    let vault: Arc<dyn KeyVault> = Arc::new(bench.vault());
    let key = vault.generate().expect("generate");
    let mut params = CertificateParams::new(vec![]).expect("params");
    params
        .distinguished_name
        .push(DnType::CommonName, "facility-0001");
    params.subject_alt_names = vec![rcgen::SanType::URI(
        "urn:renraku:facility:0001".try_into().expect("ASCII"),
    )];
    // challengePassword, as the channel binding of EST travels (RFC 7030 section 3.5).
    let binding = b"q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=";
    let length = u8::try_from(binding.len()).expect("short");
    let values = [&[0x31, length + 2, 0x13, length][..], binding].concat();
    let attribute = rcgen::Attribute {
        oid: &[1, 2, 840, 113_549, 1, 9, 7],
        values,
    };
    let signer = CsrSigner::new(Arc::clone(&vault), key.clone());
    let request = params
        .serialize_request_with_attributes(&signer, vec![attribute])
        .expect("signed");

    let parsed = x509_cert::request::CertReq::from_der(request.der()).expect("parses");
    assert_eq!(
        parsed.info.public_key.to_der().expect("encodes"),
        key.spki_der()
    );
    let signed = request_info(request.der());
    verify(&key, &signed, parsed.signature.raw_bytes());
}

/// The signed part of a request, byte for byte.
fn request_info(request: &[u8]) -> Vec<u8> {
    let mut reader = der::SliceReader::new(request).expect("short");
    der::Header::decode(&mut reader).expect("outer header");
    reader.tlv_bytes().expect("info").to_vec()
}

/// Signs with another key what it is given, so that a request can be made to sign for.
struct Foreign(EcdsaKeyPair);

impl PublicKeyData for Foreign {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Foreign {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        Ok(self
            .0
            .sign(&random, message)
            .expect("signs")
            .as_ref()
            .to_vec())
    }
}

#[test]
fn a_request_for_another_key_and_a_certificate_for_this_one_are_not_signed() {
    let bench = Bench::new();
    let vault = Arc::new(bench.vault());
    let key = vault.generate().expect("generate");
    let foreign =
        Foreign(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("generate"));
    let params = CertificateParams::new(vec![]).expect("params");
    let request = params
        .serialize_request(&foreign)
        .expect("signed elsewhere");
    let info = request_info(request.der());
    assert!(matches!(
        vault.sign_csr(&key, &info),
        Err(VaultError::RefusedToSign)
    ));
    assert!(matches!(
        vault.sign_csr(&key, request.der()),
        Err(VaultError::RefusedToSign)
    ));
    assert!(matches!(
        vault.sign_csr(&key, b"arbitrary"),
        Err(VaultError::RefusedToSign)
    ));
    assert!(matches!(
        vault.sign_csr(&key, &certificate_verify(7)),
        Err(VaultError::RefusedToSign)
    ));

    let signer = CsrSigner::new(Arc::clone(&vault) as Arc<dyn KeyVault>, key.clone());
    params
        .self_signed(&signer)
        .expect_err("a self-signed certificate");
    let own = params.serialize_request(&signer).expect("its own request");
    let with_rest = [request_info(own.der()), vec![0]].concat();
    assert!(matches!(
        vault.sign_csr(&key, &with_rest),
        Err(VaultError::RefusedToSign)
    ));
    assert_eq!(vault.health().expect("health").signatures, 1);
}

#[test]
fn a_sealed_secret_opens_in_this_tpm_and_after_a_power_cut() {
    let mut bench = Bench::new();
    let vault = bench.vault();
    let blob = vault
        .seal(&Secret::new(b"thirty-two bytes of data key....".to_vec()))
        .expect("seal");
    bench.tpm.restart().expect("restart");
    let read = SealedBlob::from_bytes(&blob.to_bytes()).expect("reads back");
    assert_eq!(
        vault.unseal(&read).expect("unseal").as_bytes(),
        b"thirty-two bytes of data key...."
    );
    for length in [0, 129] {
        let refusal = vault
            .seal(&Secret::new(vec![1; length]))
            .expect_err("length");
        assert!(matches!(refusal, VaultError::SecretLength { .. }));
    }
    let longest = vault.seal(&Secret::new(vec![9; 128])).expect("128 bytes");
    assert_eq!(vault.unseal(&longest).expect("unseal").as_bytes(), [9; 128]);
}

#[test]
fn a_sealed_blob_with_one_bit_changed_is_lost() {
    let bench = Bench::new();
    let vault = bench.vault();
    let mut bytes = vault
        .seal(&Secret::new(b"secret".to_vec()))
        .expect("seal")
        .to_bytes();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let damaged = SealedBlob::from_bytes(&bytes).expect("the shape is still right");
    assert!(matches!(vault.unseal(&damaged), Err(VaultError::KeyLost)));
}

#[test]
fn an_imported_key_signs_and_says_that_it_was_imported() {
    let bench = Bench::new();
    let vault = bench.vault();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("generate");
    let der = pair.to_pkcs8v1().expect("encode");
    let key = vault
        .import(ImportKey::from_private_key_der(der.as_ref()).expect("P-256"))
        .expect("import");
    assert_eq!(key.public_point().as_slice(), pair.public_key().as_ref());
    assert_eq!(key.provenance(), Provenance::Imported);
    assert_signs(
        &vault,
        &KeyBlob::from_pem(&key.to_pem()).expect("reads back"),
    );
}

#[test]
fn more_keys_than_the_tpm_has_room_for_are_used_in_turn() {
    let bench = Bench::new();
    let vault = bench.vault();
    let keys: Vec<_> = (0..4)
        .map(|_| vault.generate().expect("generate"))
        .collect();
    for key in keys.iter().chain(keys.iter().rev()) {
        assert_signs(&vault, key);
    }
    let before = vault.health().expect("health").key_loads;
    for _ in 0..20 {
        assert_signs(&vault, &keys[0]);
        assert_signs(&vault, &keys[1]);
    }
    let loads = vault.health().expect("health").key_loads - before;
    assert!(
        loads <= 1,
        "two keys stay loaded, yet {loads} loads were made"
    );
    let health = vault.health().expect("health");
    assert_eq!(health.rebuilds, 0);
}

#[test]
fn evidence_is_signed_by_the_same_attestation_key_after_a_restart_and_names_the_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let tpm =
        test_harness::swtpm::Swtpm::start_with_endorsement_certificate(&dir.path().join("tpm"))
            .expect("swtpm with endorsement certificate");
    let config = Config::new(tpm.tcti(), dir.path().join("state")).allow_software_tpm();
    let vault = TpmVault::open(config.clone()).expect("open");
    let key = vault.generate().expect("generate");
    let evidence = vault.attest(&key, &[0xab; 32]).expect("evidence");
    drop(vault);

    let y_at = evidence.ak_public.len() - 32;
    let x_at = y_at - 34;
    let point = [
        &[4],
        &evidence.ak_public[x_at..x_at + 32],
        &evidence.ak_public[y_at..],
    ]
    .concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(&evidence.attest, &evidence.signature)
        .expect("signed by the attestation key");
    let contains = |part: &[u8]| {
        evidence
            .attest
            .windows(part.len())
            .any(|window| window == part)
    };
    assert!(
        evidence.attest.starts_with(b"\xffTCG\x80\x17"),
        "made by a TPM, type certify"
    );
    assert!(contains(&[0xab; 32]), "bound to the qualifying data");
    assert!(
        contains(digest(&SHA256, key.tpmt_public()).as_ref()),
        "names the key"
    );
    let certificate = evidence.ek_certificate.expect("swtpm_setup made one");
    x509_cert::Certificate::from_der(&certificate).expect("an X.509 certificate");

    let again = TpmVault::open(config)
        .expect("open again")
        .attest(&key, &[1; 32])
        .expect("evidence");
    assert_eq!(again.ak_public, evidence.ak_public);
}

#[test]
fn openssl_reads_the_structure_of_a_key_file() {
    let bench = Bench::new();
    let key = bench.vault().generate().expect("generate");
    let file = bench.dir.path().join("key.pem");
    std::fs::write(&file, key.to_pem()).expect("write");
    let output = Command::new("openssl")
        .args(["asn1parse", "-in"])
        .arg(&file)
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("2.23.133.10.1.3"), "{text}");
    assert!(text.contains("INTEGER           :81000001"), "{text}");
}
