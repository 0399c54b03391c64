//! Certificates signed by the TPM: the check that the bytes are one of the two certificates that a facility's device
//! authority issues, and the key as `rcgen` takes it. It builds no certificate and keeps none.
//!
//! The vault has no list of its keys' purposes, so the issuer's name carries the signing key's fingerprint: what is signed
//! here names its signer, and means nothing under the name of anybody else, the city's authorities above all.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use der::{
    Any, Decode, Encode, Tag, Tagged,
    asn1::{ObjectIdentifier, PrintableStringRef, Utf8StringRef},
};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use x509_cert::{
    TbsCertificate, Version,
    ext::{
        Extension,
        pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages},
    },
    name::Name,
    time::Validity,
};

use crate::{KeyBlob, KeyVault};

/// Common name of the authority: "the device authority of this facility".
pub const DEVICE_CA_NAME: &str = "この施設の端末認証局";

/// The longest life of a device's certificate, in days.
pub const MAX_DEVICE_DAYS: u64 = 731;

/// The longest life of the authority's own certificate, in days.
pub const MAX_AUTHORITY_DAYS: u64 = 20 * 366;

/// A certificate of ours has less than one kilobyte; an RSA-4096 key adds half of one.
const MAX_CERTIFICATE: usize = 4 * 1024;

const DAY: u64 = 86_400;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

/// The X.520 serialNumber in the authority's name: 16 hexadecimal digits that identify `key`.
#[must_use]
pub fn authority_serial(key: &KeyBlob) -> String {
    use fmt::Write as _;
    let fingerprint = digest(&SHA256, &key.spki_der());
    fingerprint.as_ref()[..8]
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Are these bytes a TBSCertificate (RFC 5280 section 4.1) of one of the two profiles, issued in the name of `key`?
pub(crate) fn is_of_the_device_authority(key: &KeyBlob, tbs_certificate: &[u8]) -> bool {
    if tbs_certificate.len() > MAX_CERTIFICATE {
        return false;
    }
    let Ok(certificate) = TbsCertificate::from_der(tbs_certificate) else {
        return false;
    };
    // What is judged must be what a verifier reads: nothing that the parser skipped.
    if certificate.to_der().ok().as_deref() != Some(tbs_certificate) {
        return false;
    }
    has_our_form(&certificate)
        && is_authority(&certificate.issuer, key)
        && (is_root(&certificate, key) || is_device(&certificate, key))
}

fn has_our_form(certificate: &TbsCertificate) -> bool {
    let serial = certificate.serial_number.as_bytes();
    certificate.version == Version::V3
        && certificate.signature.oid == ECDSA_WITH_SHA256
        && certificate.signature.parameters.is_none()
        // CA/Browser Forum's 64 bits of randomness at least; RFC 5280 section 4.1.2.2: 20 octets at most, positive.
        && (8..=20).contains(&serial.len())
        && serial.first().is_some_and(|first| *first < 0x80)
        && certificate.issuer_unique_id.is_none()
        && certificate.subject_unique_id.is_none()
}

/// The authority's own certificate: signs certificates of devices and no further authority (pathLenConstraint 0).
fn is_root(certificate: &TbsCertificate, key: &KeyBlob) -> bool {
    let usages = KeyUsage(KeyUsages::KeyCertSign.into());
    is_authority(&certificate.subject, key)
        && is_key(certificate, key)
        && lasts_at_most(&certificate.validity, MAX_AUTHORITY_DAYS)
        && extensions_are(certificate, |extension| match extension.extn_id {
            SUBJECT_KEY_IDENTIFIER => !extension.critical,
            KEY_USAGE => extension.critical && reads_as(extension, &usages),
            BASIC_CONSTRAINTS => {
                let only_devices = BasicConstraints {
                    ca: true,
                    path_len_constraint: Some(0),
                };
                extension.critical && reads_as(extension, &only_devices)
            }
            _ => false,
        })
        && has(certificate, BASIC_CONSTRAINTS)
        && has(certificate, KEY_USAGE)
}

/// A device's certificate: TLS client authentication for a key that is not the authority's own, and nothing else.
fn is_device(certificate: &TbsCertificate, key: &KeyBlob) -> bool {
    let usages = KeyUsage(KeyUsages::DigitalSignature.into());
    let client = ExtendedKeyUsage(vec![CLIENT_AUTH]);
    is_device_name(&certificate.subject)
        && !is_key(certificate, key)
        && lasts_at_most(&certificate.validity, MAX_DEVICE_DAYS)
        && extensions_are(certificate, |extension| match extension.extn_id {
            AUTHORITY_KEY_IDENTIFIER => !extension.critical,
            KEY_USAGE => extension.critical && reads_as(extension, &usages),
            EXTENDED_KEY_USAGE => reads_as(extension, &client),
            _ => false,
        })
        && has(certificate, EXTENDED_KEY_USAGE)
        && has(certificate, KEY_USAGE)
}

/// Exactly the authority's common name, then the fingerprint of its key.
fn is_authority(name: &Name, key: &KeyBlob) -> bool {
    parts(name).is_some_and(|parts| {
        parts
            == [
                (COMMON_NAME, DEVICE_CA_NAME.to_owned()),
                (SERIAL_NUMBER, authority_serial(key)),
            ]
    })
}

/// Exactly one common name, of 32 hexadecimal digits: a device id.
fn is_device_name(name: &Name) -> bool {
    parts(name).is_some_and(|parts| match parts.as_slice() {
        [(COMMON_NAME, id)] => {
            id.len() == 32
                && id
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        }
        _ => false,
    })
}

/// The name as single-valued parts in order; `None` when it has another form.
fn parts(name: &Name) -> Option<Vec<(ObjectIdentifier, String)>> {
    name.0
        .iter()
        .map(|relative| match relative.0.as_slice() {
            [part] => Some((part.oid, text(&part.value)?)),
            _ => None,
        })
        .collect()
}

fn text(value: &Any) -> Option<String> {
    let encoded = value.to_der().ok()?;
    match value.tag() {
        Tag::Utf8String => Some(Utf8StringRef::from_der(&encoded).ok()?.to_string()),
        Tag::PrintableString => Some(PrintableStringRef::from_der(&encoded).ok()?.to_string()),
        _ => None,
    }
}

fn is_key(certificate: &TbsCertificate, key: &KeyBlob) -> bool {
    certificate
        .subject_public_key_info
        .to_der()
        .is_ok_and(|spki| spki == key.spki_der())
}

fn lasts_at_most(validity: &Validity, days: u64) -> bool {
    let begins = validity.not_before.to_unix_duration().as_secs();
    let ends = validity.not_after.to_unix_duration().as_secs();
    ends > begins && ends - begins <= days * DAY
}

fn extensions_are(certificate: &TbsCertificate, known: impl Fn(&Extension) -> bool) -> bool {
    let extensions = certificate.extensions.as_deref().unwrap_or_default();
    let twice = extensions.iter().enumerate().any(|(at, extension)| {
        extensions[..at]
            .iter()
            .any(|earlier| earlier.extn_id == extension.extn_id)
    });
    !twice && extensions.iter().all(known)
}

fn has(certificate: &TbsCertificate, id: ObjectIdentifier) -> bool {
    certificate
        .extensions
        .iter()
        .flatten()
        .any(|extension| extension.extn_id == id)
}

fn reads_as<T: Encode>(extension: &Extension, expected: &T) -> bool {
    expected
        .to_der()
        .is_ok_and(|der| der == extension.extn_value.as_bytes())
}

/// A key in the vault, for `rcgen::CertificateParams::signed_by`. It signs the certificates of one device authority and
/// nothing else.
#[derive(Clone)]
pub struct DeviceCaSigner {
    vault: Arc<dyn KeyVault>,
    key: KeyBlob,
}

impl DeviceCaSigner {
    /// The key as an issuer's signer. Signing blocks; see [`KeyVault`].
    #[must_use]
    pub fn new(vault: Arc<dyn KeyVault>, key: KeyBlob) -> Self {
        Self { vault, key }
    }
}

impl fmt::Debug for DeviceCaSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCaSigner")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl PublicKeyData for DeviceCaSigner {
    fn der_bytes(&self) -> &[u8] {
        self.key.public_point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for DeviceCaSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // rcgen has no room for a cause; the journal has.
        self.vault
            .sign_device_certificate(&self.key, message)
            .map_err(|error| {
                tracing::warn!(%error, "the device certificate was not signed");
                rcgen::Error::RemoteKeyError
            })
    }
}
