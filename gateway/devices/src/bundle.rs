//! The certificate file for a device that cannot make a key of its own: PKCS#12 (RFC 7292), for iPads inside a
//! configuration profile.
//!
//! The private key is made here and leaves in the file; it is wiped and never stored. What the PKCS#12 library copies on
//! its way is freed, not wiped.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_policy::DeviceId;
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKeyChain,
};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::secret::{hex, random, sha256};
use crate::{Error, Kind};

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleKind {
    /// `application/x-pkcs12`
    Pkcs12,
    /// `application/x-apple-aspen-config`
    Profile,
}

impl BundleKind {
    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Pkcs12 => "application/x-pkcs12",
            Self::Profile => "application/x-apple-aspen-config",
        }
    }

    /// The file's name.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Pkcs12 => "renraku-device.p12",
            Self::Profile => "renraku-device.mobileconfig",
        }
    }
}

/// A certificate with its key, encrypted under a password that is not in it.
#[derive(Clone)]
pub struct Bundle {
    /// What kind of file.
    pub kind: BundleKind,
    /// The file.
    pub content: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// A key pair on its way into a file.
pub(crate) struct FreshKey(EcdsaKeyPair);

impl FreshKey {
    pub(crate) fn make() -> Result<Self, Error> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map(Self)
            .map_err(|_| Error::NoRandomness)
    }
}

impl PublicKeyData for FreshKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Puts the key and its chain into the file that suits the device. `anchors`: what the device has to trust to reach the box.
pub(crate) fn make(
    kind: Kind,
    device: DeviceId,
    key: &FreshKey,
    chain: &[CertificateDer<'static>],
    anchors: &[CertificateDer<'static>],
    password: &str,
) -> Result<Bundle, Error> {
    let key = key.0.to_pkcs8v1().map_err(|_| Error::Bundle)?;
    let certificates = chain
        .iter()
        .map(|certificate| Certificate::from_der(certificate).map_err(|_| Error::Bundle))
        .collect::<Result<Vec<_>, _>>()?;
    let local_key = sha256(chain.first().ok_or(Error::Bundle)?);
    let entry = PrivateKeyChain::new(key.as_ref(), &local_key[..20], certificates);
    let mut store = KeyStore::new();
    store.add_entry(FRIENDLY_NAME, KeyStoreEntry::PrivateKeyChain(entry));
    let (encryption, mac) = algorithms(kind);
    let file = store
        .writer(password)
        .encryption_algorithm(encryption)
        .mac_algorithm(mac)
        .write()
        .map_err(|_| Error::Bundle)?;
    let file = Zeroizing::new(file);
    Ok(match kind {
        Kind::Ipad => Bundle {
            kind: BundleKind::Profile,
            content: Zeroizing::new(profile(device, &file, anchors)?.into_bytes()),
        },
        _ => Bundle {
            kind: BundleKind::Pkcs12,
            content: file,
        },
    })
}

/// What the device's list of certificates shows. Fixed words: the file may lie around.
const FRIENDLY_NAME: &str = "renraku-gateway";

/// Apple's importers did not read PBES2 with a SHA-256 MAC before 2024, so an iPad gets the older format that all of them
/// read. Both rest on the password, which has 99 random bits.
const fn algorithms(kind: Kind) -> (EncryptionAlgorithm, MacAlgorithm) {
    match kind {
        Kind::Ipad | Kind::Mac => (
            EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
            MacAlgorithm::HmacSha1,
        ),
        _ => (
            EncryptionAlgorithm::PbeWithHmacSha256AndAes256,
            MacAlgorithm::HmacSha256,
        ),
    }
}

/// A configuration profile with the city's authorities and the certificate file. It is not signed; the device says so, and
/// asks for the password, which is not in it.
fn profile(
    device: DeviceId,
    file: &[u8],
    anchors: &[CertificateDer<'static>],
) -> Result<String, Error> {
    use std::fmt::Write as _;
    let mut payloads = String::new();
    for anchor in anchors {
        let _ = write!(
            payloads,
            "<dict><key>PayloadType</key><string>com.apple.security.root</string>\
             <key>PayloadVersion</key><integer>1</integer>\
             <key>PayloadIdentifier</key><string>renraku-gateway.anchor.{}</string>\
             <key>PayloadUUID</key><string>{}</string>\
             <key>PayloadDisplayName</key><string>市の認証局</string>\
             <key>PayloadContent</key><data>{}</data></dict>",
            hex(&sha256(anchor)[..8]),
            uuid()?,
            STANDARD.encode(anchor),
        );
    }
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\"><dict><key>PayloadType</key><string>Configuration</string>\
         <key>PayloadVersion</key><integer>1</integer>\
         <key>PayloadIdentifier</key><string>renraku-gateway.{device}</string>\
         <key>PayloadUUID</key><string>{outer}</string>\
         <key>PayloadDisplayName</key><string>連絡帳ゲートウェイ 端末証明書</string>\
         <key>PayloadContent</key><array>{payloads}\
         <dict><key>PayloadType</key><string>com.apple.security.pkcs12</string>\
         <key>PayloadVersion</key><integer>1</integer>\
         <key>PayloadIdentifier</key><string>renraku-gateway.{device}.certificate</string>\
         <key>PayloadUUID</key><string>{inner}</string>\
         <key>PayloadDisplayName</key><string>端末証明書</string>\
         <key>PayloadCertificateFileName</key><string>renraku-device.p12</string>\
         <key>PayloadContent</key><data>{content}</data></dict></array></dict></plist>\n",
        outer = uuid()?,
        inner = uuid()?,
        content = STANDARD.encode(file),
    ))
}

/// A random UUID (RFC 9562 section 5.4).
fn uuid() -> Result<String, Error> {
    let mut bytes = random::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex(&bytes).to_uppercase();
    Ok([
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ]
    .join("-"))
}
