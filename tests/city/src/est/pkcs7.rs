//! The encodings of EST: certs-only PKCS#7 (RFC 5272 section 4.1) and the attributes a request should have (RFC 9908).
//!
//! Does not choose the certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cms::cert::CertificateChoices;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{CertificateSet, EncapsulatedContentInfo, SignedData, SignerInfos};
use der::asn1::{ObjectIdentifier, SetOfVec};
use der::{Any, Decode as _, Encode as _};
use x509_cert::Certificate;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");

/// Certificates as certs-only PKCS#7 in base64, on one line: strongSwan's `pki` cannot read wrapped base64.
///
/// # Errors
/// When a certificate is not DER, which cannot happen with those the city signed.
pub fn certs_only(certificates: &[&[u8]]) -> Result<String, der::Error> {
    let choices = certificates
        .iter()
        .map(|der| Ok(CertificateChoices::Certificate(Certificate::from_der(der)?)))
        .collect::<Result<Vec<_>, der::Error>>()?;
    let signed = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::new(),
        encap_content_info: EncapsulatedContentInfo {
            econtent_type: DATA,
            econtent: None,
        },
        certificates: Some(CertificateSet::try_from(choices)?),
        crls: None,
        signer_infos: SignerInfos::try_from(Vec::new())?,
    };
    let content = ContentInfo {
        content_type: SIGNED_DATA,
        content: Any::encode_from(&signed)?,
    };
    Ok(STANDARD.encode(content.to_der()?))
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length =
        u8::try_from(content.len()).expect("everything written here is shorter than 128 bytes");
    debug_assert!(length < 128, "the short form of a length holds up to 127");
    [&[tag, length], content].concat()
}

fn oid(text: &str) -> Vec<u8> {
    tlv(0x06, ObjectIdentifier::new_unwrap(text).as_bytes())
}

/// The CsrAttrs of RFC 7030 section 4.5.2 as RFC 9908 explains them, base64: send a challengePassword, a key on P-256, and
/// sign with ECDSA and SHA-256. Names are the city's to give and so are not asked for.
#[must_use]
pub fn request_attributes() -> String {
    let challenge_password = oid("1.2.840.113549.1.9.7");
    let key = tlv(
        0x30,
        &[
            oid("1.2.840.10045.2.1"),
            tlv(0x31, &oid("1.2.840.10045.3.1.7")),
        ]
        .concat(),
    );
    let signature = oid("1.2.840.10045.4.3.2");
    STANDARD.encode(tlv(0x30, &[challenge_password, key, signature].concat()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_request_attributes_are_one_der_sequence() {
        use base64::Engine as _;
        let der = base64::engine::general_purpose::STANDARD
            .decode(super::request_attributes())
            .unwrap();
        assert_eq!(der[0], 0x30);
        assert_eq!(usize::from(der[1]), der.len() - 2);
    }
}
