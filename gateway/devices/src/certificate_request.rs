//! Certificate requests and certificates as devices send them: parsed, and their signature checked.
//!
//! Of a request only the public key is taken; what it would like to be called and be good for is the authority's to say.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use rcgen::SubjectPublicKeyInfo;
use spki::SubjectPublicKeyInfoOwned;
use x509_cert::request::CertReq;

/// A request with an RSA key and Microsoft's extensions has about two kilobytes.
const MAX_REQUEST: usize = 8 * 1024;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

/// Why a request cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not PKCS#10.
    #[error("not a PKCS#10 request")]
    Malformed,
    /// Neither P-256 with SHA-256 nor RSA of 2048 bits or more with SHA-256.
    #[error("a key or signature of a kind that is not accepted")]
    Algorithm,
    /// Whoever sent it does not hold the key.
    #[error("the signature is wrong")]
    Signature,
}

/// A request whose sender holds the private key.
pub struct CertificateRequest {
    key: SubjectPublicKeyInfo,
}

impl std::fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateRequest(..)")
    }
}

impl CertificateRequest {
    /// Reads PEM (`CERTIFICATE REQUEST`, or `NEW CERTIFICATE REQUEST` as certreq.exe writes) or bare base64.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn from_text(text: &str) -> Result<Self, Unusable> {
        Self::from_der(&armoured(text).ok_or(Unusable::Malformed)?)
    }

    /// Reads DER and checks the signature that the request makes over itself (RFC 2986 section 4.2).
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn from_der(bytes: &[u8]) -> Result<Self, Unusable> {
        if bytes.len() > MAX_REQUEST {
            return Err(Unusable::Malformed);
        }
        let request = CertReq::from_der(bytes).map_err(|_| Unusable::Malformed)?;
        let spki = &request.info.public_key;
        let algorithm = algorithm(spki, &request.algorithm.oid).ok_or(Unusable::Algorithm)?;
        let signed = request.info.to_der().map_err(|_| Unusable::Malformed)?;
        let (Some(key), Some(signature)) = (
            spki.subject_public_key.as_bytes(),
            request.signature.as_bytes(),
        ) else {
            return Err(Unusable::Malformed);
        };
        UnparsedPublicKey::new(algorithm, key)
            .verify(&signed, signature)
            .map_err(|_| Unusable::Signature)?;
        let spki = spki.to_der().map_err(|_| Unusable::Malformed)?;
        let key = SubjectPublicKeyInfo::from_der(&spki).map_err(|_| Unusable::Algorithm)?;
        Ok(Self { key })
    }

    /// The key that a certificate is asked for.
    #[must_use]
    pub const fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}

fn algorithm(
    spki: &SubjectPublicKeyInfoOwned,
    signature: &ObjectIdentifier,
) -> Option<&'static dyn VerificationAlgorithm> {
    let curve = || {
        let parameters = spki.algorithm.parameters.as_ref()?;
        parameters.decode_as::<ObjectIdentifier>().ok()
    };
    match (spki.algorithm.oid, *signature) {
        (EC_PUBLIC_KEY, ECDSA_SHA256) if curve() == Some(P256) => Some(&ECDSA_P256_SHA256_ASN1),
        (RSA, RSA_SHA256) => Some(&RSA_PKCS1_2048_8192_SHA256),
        _ => None,
    }
}

/// What stands between the lines of a PEM block, or base64 without any; white space is skipped.
pub(crate) fn armoured(text: &str) -> Option<Vec<u8>> {
    let inner = match text.split_once("-----BEGIN ") {
        Some((_, rest)) => rest
            .split_once("-----")
            .and_then(|(_, rest)| rest.split_once("-----END "))
            .map(|(inner, _)| inner)?,
        None => text,
    };
    let letters: String = inner
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .collect();
    if letters.is_empty() || letters.len() > MAX_REQUEST * 2 {
        return None;
    }
    STANDARD.decode(letters).ok()
}

/// PEM (RFC 7468) of a chain.
pub(crate) fn pem<'a>(label: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for part in parts {
        let _ = writeln!(text, "-----BEGIN {label}-----");
        let encoded = STANDARD.encode(part);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(64));
            let _ = writeln!(text, "{line}");
            rest = more;
        }
        let _ = writeln!(text, "-----END {label}-----");
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn request() -> (Vec<u8>, String) {
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        (request.der().to_vec(), request.pem().unwrap())
    }

    #[test]
    fn a_request_is_read_in_every_armour_that_tools_write() {
        let (der, pem) = request();
        CertificateRequest::from_der(&der).unwrap();
        CertificateRequest::from_text(&pem).unwrap();
        CertificateRequest::from_text(&pem.replace('\n', "\r\n")).unwrap();
        CertificateRequest::from_text(
            &pem.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
        )
        .unwrap();
        CertificateRequest::from_text(&STANDARD.encode(&der)).unwrap();
    }

    #[test]
    fn a_request_for_somebody_elses_key_is_refused() {
        let (der, _) = request();
        let mut forged = der.clone();
        // The last octet belongs to the signature.
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(
            CertificateRequest::from_der(&forged).unwrap_err(),
            Unusable::Signature
        );
        let (other, _) = request();
        let key_at = |bytes: &[u8]| bytes.windows(2).position(|pair| pair == [0, 4]).unwrap() + 2;
        let mut swapped = der.clone();
        let (to, from) = (key_at(&der), key_at(&other));
        swapped[to..to + 64].copy_from_slice(&other[from..from + 64]);
        assert_eq!(
            CertificateRequest::from_der(&swapped).unwrap_err(),
            Unusable::Signature
        );
    }

    #[test]
    fn other_keys_and_other_bytes_are_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        assert_eq!(
            CertificateRequest::from_der(request.der()).unwrap_err(),
            Unusable::Algorithm
        );
        for text in ["", "-----BEGIN X-----", "hello", "AAAA"] {
            assert_eq!(
                CertificateRequest::from_text(text).unwrap_err(),
                Unusable::Malformed,
                "{text}"
            );
        }
    }
}
