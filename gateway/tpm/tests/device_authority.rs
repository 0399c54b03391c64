//! What the vault signs as a facility's device authority: its own certificate and those of devices, and nothing beside them.

mod support;

use std::sync::Arc;

use gateway_tpm::{
    DEVICE_CA_NAME, DeviceCaSigner, KeyBlob, KeyVault, MAX_AUTHORITY_DAYS, MAX_DEVICE_DAYS,
    VaultError, authority_serial,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use support::Bench;

const DAY: i64 = 86_400;
const BEGIN: i64 = 1_800_000_000;

struct Authority {
    vault: Arc<dyn KeyVault>,
    key: KeyBlob,
}

impl Authority {
    fn new(bench: &Bench) -> Self {
        let vault: Arc<dyn KeyVault> = Arc::new(bench.vault());
        let key = vault.generate().expect("generate");
        Self { vault, key }
    }

    fn signer(&self) -> DeviceCaSigner {
        DeviceCaSigner::new(Arc::clone(&self.vault), self.key.clone())
    }

    fn root(&self) -> CertificateParams {
        let mut root = empty(days(MAX_AUTHORITY_DAYS));
        root.distinguished_name = name(&self.key);
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        root
    }

    fn signs_root(&self, root: &CertificateParams) -> bool {
        root.self_signed(&self.signer()).is_ok()
    }

    fn issue(&self, params: &CertificateParams) -> Option<CertificateDer<'static>> {
        let issued = params.signed_by(
            &KeyPair::generate().expect("a device's key"),
            &Issuer::new(self.root(), self.signer()),
        );
        issued.ok().map(|certificate| certificate.der().clone())
    }
}

fn days(days: u64) -> i64 {
    i64::try_from(days).expect("few") * DAY
}

fn name(key: &KeyBlob) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, DEVICE_CA_NAME);
    name.push(
        DnType::CustomDnType(vec![2, 5, 4, 5]),
        authority_serial(key),
    );
    name
}

fn empty(seconds: i64) -> CertificateParams {
    let time = |seconds| {
        let seconds = u64::try_from(seconds).expect("after 1970");
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds)
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&[0x42; 16]));
    params.not_before = time(BEGIN);
    params.not_after = time(BEGIN + seconds);
    params
}

/// The certificate of a device as the register asks for it.
fn device() -> CertificateParams {
    let mut device = empty(days(MAX_DEVICE_DAYS));
    device
        .distinguished_name
        .push(DnType::CommonName, "0123456789abcdef0123456789abcdef");
    device.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    device.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    device.use_authority_key_identifier_extension = true;
    device
}

#[test]
fn a_devices_certificate_is_signed_and_its_chain_is_believed() {
    let bench = Bench::new();
    let authority = Authority::new(&bench);
    let root = authority
        .root()
        .self_signed(&authority.signer())
        .expect("its own certificate");
    let leaf = authority.issue(&device()).expect("a device's certificate");
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .expect("a verifier");
    let at = |seconds: i64| {
        let seconds = u64::try_from(BEGIN + seconds).expect("after 1970");
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    };
    verifier
        .verify_client_cert(&leaf, &[], at(DAY))
        .expect("believed");
    assert!(
        verifier
            .verify_client_cert(&leaf, &[], at(days(MAX_DEVICE_DAYS) + 1))
            .is_err()
    );
    assert!(verifier.verify_client_cert(&leaf, &[], at(-DAY)).is_err());
}

#[test]
fn a_certificate_that_says_more_than_client_of_this_box_is_not_signed() {
    type Change = (&'static str, fn(&mut CertificateParams));
    let changes: [Change; 11] = [
        ("an authority", |p| {
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
        ("a server", |p| {
            p.extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }),
        ("a signer of code", |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        }),
        ("no purpose", |p| p.extended_key_usages.clear()),
        ("no key usage", |p| p.key_usages.clear()),
        ("a signer of certificates", |p| {
            p.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }),
        ("a host name", |p| {
            p.subject_alt_names = CertificateParams::new(vec!["portal.example".to_owned()])
                .expect("a name")
                .subject_alt_names;
        }),
        ("a person's name", |p| {
            p.distinguished_name = DistinguishedName::new();
            p.distinguished_name.push(DnType::CommonName, "山田");
        }),
        ("a further part of the name", |p| {
            p.distinguished_name
                .push(DnType::OrganizationName, "another facility");
        }),
        ("an extension nobody knows", |p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(
                &[1, 3, 6, 1, 4, 1, 55555, 1],
                vec![5, 0],
            )];
        }),
        ("a day too long", |p| {
            p.not_after = p.not_before
                + std::time::Duration::from_secs((MAX_DEVICE_DAYS + 1) * DAY.unsigned_abs());
        }),
    ];
    let bench = Bench::new();
    let authority = Authority::new(&bench);
    for (what, change) in changes {
        let mut params = device();
        change(&mut params);
        assert!(authority.issue(&params).is_none(), "{what}");
    }
    let mut short = device();
    short.serial_number = Some(SerialNumber::from_slice(&[1; 4]));
    assert!(authority.issue(&short).is_none(), "a serial to be guessed");
}

#[test]
fn nothing_is_signed_in_the_name_of_another_authority() {
    let bench = Bench::new();
    let authority = Authority::new(&bench);
    let other = Authority::new(&bench);
    let mut city = DistinguishedName::new();
    city.push(DnType::CommonName, "高萩市 参照認証局");
    for foreign in [city, name(&other.key)] {
        let mut root = authority.root();
        root.distinguished_name = foreign.clone();
        assert!(!authority.signs_root(&root));
        let issuer = Issuer::new(root, authority.signer());
        let key = KeyPair::generate().expect("a key");
        assert!(device().signed_by(&key, &issuer).is_err());
    }
}

#[test]
fn the_authority_makes_no_further_authority() {
    let bench = Bench::new();
    let authority = Authority::new(&bench);
    assert!(authority.signs_root(&authority.root()));
    let mut endless = authority.root();
    endless.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut longer = authority.root();
    longer.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let mut more = authority.root();
    more.key_usages.push(KeyUsagePurpose::CrlSign);
    let mut plain = authority.root();
    plain.is_ca = IsCa::NoCa;
    for root in [endless, longer, more, plain] {
        assert!(!authority.signs_root(&root));
    }
    // Its own profile, for somebody else's key.
    let issuer = Issuer::new(authority.root(), authority.signer());
    let key = KeyPair::generate().expect("a key");
    assert!(authority.root().signed_by(&key, &issuer).is_err());
}

#[test]
fn other_bytes_and_cut_ones_are_not_signed() {
    let bench = Bench::new();
    let authority = Authority::new(&bench);
    let certificate = authority.issue(&device()).expect("a certificate");
    // SEQUENCE, long length of two octets; the TBSCertificate begins after it and is as long as it says.
    let inner = &certificate[4..];
    let length = 4 + usize::from(inner[2]) * 256 + usize::from(inner[3]);
    let tbs = &inner[..length];
    let sign = |bytes: &[u8]| {
        authority
            .vault
            .sign_device_certificate(&authority.key, bytes)
    };
    assert!(sign(tbs).is_ok());
    for wrong in [
        &tbs[..length - 1],
        &inner[..=length],
        &certificate[..],
        b"",
        &support::certificate_verify(1),
    ] {
        assert!(matches!(sign(wrong), Err(VaultError::RefusedToSign)));
    }
}
