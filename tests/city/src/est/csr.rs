//! Certificate requests (PKCS#10, RFC 2986): reading them, verifying them, and refusing whatever does not belong there.
//!
//! Does not decide what the certificate will say; that is the city's, not the applicant's.

use crate::secrets::sha256;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use x509_cert::attr::Attribute;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, ExtensionReq};

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const CHALLENGE_PASSWORD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
/// id-aa-evidence of draft-ietf-lamps-csr-attestation.
const EVIDENCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.59");
const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// What begins the URI in a facility certificate's alternative name.
const FACILITY_URI: &str = "urn:renraku:facility:";

/// What the certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A facility certificate.
    Client,
    /// A server certificate for a facility's network.
    Server,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// The body is not base64.
    #[error("the body is not base64")]
    NotBase64,
    /// The body is not a PKCS#10 request in DER.
    #[error("the body is not a PKCS#10 request")]
    NotPkcs10,
    /// The key is not on P-256, or the signature algorithm is not ECDSA with SHA-256.
    #[error("the key is not ECDSA P-256")]
    KeyKind,
    /// The request is not signed by its own key.
    #[error("the request's signature is wrong")]
    Signature,
    /// An attribute that does not belong there.
    #[error("an attribute does not belong into the request")]
    ForeignAttribute,
    /// An extension, key usage or purpose that does not belong there.
    #[error("an extension does not belong into the request")]
    ForeignExtension,
    /// A name that the certificate may not carry.
    #[error("a name does not belong into the request")]
    ForeignName,
}

/// A verified request.
#[derive(Debug)]
pub struct Csr {
    /// Subject as asked for.
    pub subject: Name,
    /// Public key, DER.
    pub spki_der: Vec<u8>,
    /// SHA-256 of the public key.
    pub spki: Vec<u8>,
    /// URIs asked for as alternative names.
    pub uris: Vec<String>,
    /// DNS names asked for as alternative names.
    pub dns_names: Vec<String>,
    /// The challengePassword.
    pub challenge: Option<String>,
    /// Whether attestation evidence came along.
    pub evidence: bool,
}

impl Csr {
    /// Reads base64 (RFC 8951 section 3.1: white space is of no meaning) and verifies what it holds.
    ///
    /// # Errors
    /// See [`CsrError`].
    pub fn read(body: &[u8], purpose: Purpose) -> Result<Self, CsrError> {
        let packed: Vec<u8> = body
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        let der = STANDARD.decode(packed).map_err(|_| CsrError::NotBase64)?;
        let request = CertReq::from_der(&der).map_err(|_| CsrError::NotPkcs10)?;
        let spki_der = verified_key(&request)?;
        let mut csr = Self {
            spki: sha256(&spki_der),
            spki_der,
            subject: request.info.subject.clone(),
            uris: Vec::new(),
            dns_names: Vec::new(),
            challenge: None,
            evidence: false,
        };
        for attribute in request.info.attributes.iter() {
            csr.take_attribute(attribute, purpose)?;
        }
        Ok(csr)
    }

    fn take_attribute(&mut self, attribute: &Attribute, purpose: Purpose) -> Result<(), CsrError> {
        let mut values = attribute.values.iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(CsrError::ForeignAttribute);
        };
        match attribute.oid {
            CHALLENGE_PASSWORD => {
                let text =
                    std::str::from_utf8(value.value()).map_err(|_| CsrError::ForeignAttribute)?;
                self.challenge = Some(text.to_owned());
            }
            EXTENSION_REQUEST => {
                let der = value.to_der().map_err(|_| CsrError::NotPkcs10)?;
                let wanted = ExtensionReq::from_der(&der).map_err(|_| CsrError::NotPkcs10)?;
                for extension in &wanted.0 {
                    self.take_extension(extension, purpose)?;
                }
            }
            EVIDENCE => self.evidence = true,
            _ => return Err(CsrError::ForeignAttribute),
        }
        Ok(())
    }

    fn take_extension(&mut self, extension: &Extension, purpose: Purpose) -> Result<(), CsrError> {
        let content = extension.extn_value.as_bytes();
        let malformed = |_| CsrError::NotPkcs10;
        let fitting = match extension.extn_id {
            SUBJECT_ALT_NAME => {
                for name in SubjectAltName::from_der(content).map_err(malformed)?.0 {
                    match name {
                        GeneralName::UniformResourceIdentifier(uri) => {
                            self.uris.push(uri.as_str().to_owned())
                        }
                        GeneralName::DnsName(name) => {
                            self.dns_names.push(name.as_str().to_ascii_lowercase())
                        }
                        _ => return Err(CsrError::ForeignName),
                    }
                }
                true
            }
            KEY_USAGE => {
                KeyUsage::from_der(content).map_err(malformed)?.0 == KeyUsages::DigitalSignature
            }
            EXTENDED_KEY_USAGE => {
                let usage = ExtendedKeyUsage::from_der(content).map_err(malformed)?.0;
                let wanted = if purpose == Purpose::Client {
                    CLIENT_AUTH
                } else {
                    SERVER_AUTH
                };
                usage == [wanted]
            }
            BASIC_CONSTRAINTS => !BasicConstraints::from_der(content).map_err(malformed)?.ca,
            SUBJECT_KEY_ID => true,
            _ => false,
        };
        if fitting {
            Ok(())
        } else {
            Err(CsrError::ForeignExtension)
        }
    }
}

/// Only P-256, only ECDSA with SHA-256, and signed by the very key it asks a certificate for (RFC 2986 section 4.2).
fn verified_key(request: &CertReq) -> Result<Vec<u8>, CsrError> {
    let key = &request.info.public_key;
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    if key.algorithm.oid != EC_PUBLIC_KEY
        || curve != Some(PRIME256V1)
        || request.algorithm.oid != ECDSA_WITH_SHA256
    {
        return Err(CsrError::KeyKind);
    }
    let point = key.subject_public_key.as_bytes().ok_or(CsrError::KeyKind)?;
    let signed = request.info.to_der().map_err(|_| CsrError::NotPkcs10)?;
    let signature = request.signature.as_bytes().ok_or(CsrError::Signature)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(&signed, signature)
        .map_err(|_| CsrError::Signature)?;
    key.to_der().map_err(|_| CsrError::NotPkcs10)
}

/// The facility id in a certificate's alternative name.
#[must_use]
pub fn facility_uri(extensions: &[Extension]) -> Option<String> {
    let extension = extensions
        .iter()
        .find(|extension| extension.extn_id == SUBJECT_ALT_NAME)?;
    let names = SubjectAltName::from_der(extension.extn_value.as_bytes()).ok()?;
    names.0.iter().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => {
            uri.as_str().strip_prefix(FACILITY_URI).map(str::to_owned)
        }
        _ => None,
    })
}

/// Whether two names are the same to a reader: same attributes in the same order with the same text, in whichever of
/// ASN.1's string types it is written (RFC 5280 section 7.1).
#[must_use]
pub fn same_name(one: &Name, other: &Name) -> bool {
    let texts = |name: &Name| -> Vec<(ObjectIdentifier, Vec<u8>)> {
        name.0
            .iter()
            .flat_map(|set| set.0.iter())
            .map(|part| (part.oid, part.value.value().to_vec()))
            .collect()
    };
    texts(one) == texts(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair,
        SanType,
    };

    fn request(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    fn read(der: &[u8]) -> Result<Csr, CsrError> {
        Csr::read(STANDARD.encode(der).as_bytes(), Purpose::Client)
    }

    #[test]
    fn a_plain_request_is_read_also_when_its_base64_is_wrapped() {
        let der = request(|_| {});
        assert!(read(&der).is_ok());
        let wrapped = STANDARD.encode(&der).replace('A', "\r\nA");
        assert!(Csr::read(wrapped.as_bytes(), Purpose::Client).is_ok());
    }

    #[test]
    fn a_request_whose_bytes_were_changed_is_refused() {
        let der = request(|params| {
            params.subject_alt_names = vec![SanType::URI(
                "urn:renraku:facility:tkh-1001".try_into().unwrap(),
            )];
        });
        let at = der.windows(4).position(|four| four == b"1001").unwrap();
        let mut changed = der;
        changed[at + 3] = b'2';
        assert_eq!(read(&changed).unwrap_err(), CsrError::Signature);
    }

    #[test]
    fn a_request_to_become_an_authority_is_refused() {
        let authority =
            CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff]);
        let der = request(|params| params.custom_extensions = vec![authority]);
        assert_eq!(read(&der).unwrap_err(), CsrError::ForeignExtension);
    }

    #[test]
    fn a_request_for_another_purpose_is_refused() {
        let der = request(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
        });
        assert_eq!(read(&der).unwrap_err(), CsrError::ForeignExtension);
    }

    #[test]
    fn a_request_with_a_mail_address_is_refused() {
        let der = request(|params| {
            params.subject_alt_names = vec![SanType::Rfc822Name(
                "someone@example.jp".try_into().unwrap(),
            )];
        });
        assert_eq!(read(&der).unwrap_err(), CsrError::ForeignName);
    }

    #[test]
    fn a_key_on_another_curve_is_refused() {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let der = params.serialize_request(&key).unwrap().der().to_vec();
        assert_eq!(read(&der).unwrap_err(), CsrError::KeyKind);
    }

    #[test]
    fn text_that_is_no_request_is_refused() {
        assert_eq!(
            Csr::read("いろは".as_bytes(), Purpose::Client).unwrap_err(),
            CsrError::NotBase64
        );
        assert_eq!(
            Csr::read(b"AAAA", Purpose::Client).unwrap_err(),
            CsrError::NotPkcs10
        );
    }
}
