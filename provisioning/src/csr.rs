//! Certificate requests (PKCS#10, RFC 2986), built so that subject and names come out byte for byte as wanted.
//!
//! It does not sign: the TPM (or, for the LAN key, the software key) signs the bytes of [`request_info`].

use der::asn1::{Any, BitString, Ia5String, OctetString, PrintableString, SetOfVec};
use der::oid::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::attr::Attribute;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq, Version};

const CHALLENGE_PASSWORD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// What a request asks for besides the key.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Empty for a first enrolment, where the city alone knows the name; that of the old certificate for a renewal.
    pub(crate) subject: Name,
    /// The old certificate's subjectAltName, DER, for a renewal (RFC 7030 §4.2.2: identical).
    pub(crate) subject_alt_name: Option<Vec<u8>>,
}

/// subjectAltName with DNS names, DER.
pub(crate) fn dns_names(names: &[String]) -> der::Result<Vec<u8>> {
    let names = names
        .iter()
        .map(|name| Ok(GeneralName::DnsName(Ia5String::new(name)?)))
        .collect::<der::Result<_>>()?;
    SubjectAltName(names).to_der()
}

/// The CertificationRequestInfo to sign, DER. `channel_binding` ties the request to one TLS connection: RFC 7030 §3.5
/// puts it, base64, into challengePassword; the binding itself is RFC 9266's, since TLS 1.3 has no tls-unique.
pub(crate) fn request_info(
    spki_der: &[u8],
    wanted: &Wanted,
    channel_binding: &[u8; 32],
) -> der::Result<Vec<u8>> {
    use base64::Engine as _;
    let binding = base64::engine::general_purpose::STANDARD.encode(channel_binding);
    let mut attributes = SetOfVec::new();
    attributes.insert(Attribute {
        oid: CHALLENGE_PASSWORD,
        values: SetOfVec::try_from(vec![Any::encode_from(&PrintableString::new(&binding)?)?])?,
    })?;
    if let Some(names) = &wanted.subject_alt_name {
        let extension = Extension {
            extn_id: SUBJECT_ALT_NAME,
            critical: false,
            extn_value: OctetString::new(names.clone())?,
        };
        attributes.insert(Attribute::try_from(ExtensionReq(vec![extension]))?)?;
    }
    CertReqInfo {
        version: Version::V1,
        subject: wanted.subject.clone(),
        public_key: SubjectPublicKeyInfoOwned::from_der(spki_der)?,
        attributes,
    }
    .to_der()
}

/// The finished request, DER, from the signed bytes and their ECDSA-SHA256 signature (DER).
pub(crate) fn assemble(request_info: &[u8], signature: &[u8]) -> der::Result<Vec<u8>> {
    CertReq {
        info: CertReqInfo::from_der(request_info)?,
        algorithm: AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA256,
            parameters: None,
        },
        signature: BitString::from_bytes(signature)?,
    }
    .to_der()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_independent_parser_verifies_the_request_and_finds_the_names() {
        use aws_lc_rs::rand::SystemRandom;
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
        use rcgen::PublicKeyData as _;
        let key = rcgen::KeyPair::generate().unwrap();
        let signer =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der())
                .unwrap();
        let wanted = Wanted {
            subject_alt_name: Some(
                dns_names(&["renraku.example".into(), "box.example".into()]).unwrap(),
            ),
            ..Wanted::default()
        };
        let info = request_info(&key.subject_public_key_info(), &wanted, &[7; 32]).unwrap();
        let signature = signer.sign(&SystemRandom::new(), &info).unwrap();
        let der = assemble(&info, signature.as_ref()).unwrap();
        let parsed = rcgen::CertificateSigningRequestParams::from_der(&der.into())
            .expect("signature and form hold");
        assert_eq!(parsed.params.subject_alt_names.len(), 2);
        assert_eq!(parsed.public_key.der_bytes(), key.der_bytes());
    }
}
