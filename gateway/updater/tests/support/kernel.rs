//! Small unified kernel images, signed as `sbsign` signs them. (That the box's check takes what `sbsign` itself makes is a test of its own.)

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, Decode as _, Encode as _, Tag};
use gateway_updater::index::sha256;
use gateway_updater::slot::Slot;
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::spki::AlgorithmIdentifierOwned;

const HEADERS: usize = 0x200;
const PE: usize = 0x40;
const CHECKSUM: usize = PE + 24 + 64;
const SECURITY: usize = PE + 24 + 112 + 32;

const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const INDIRECT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
const PE_IMAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.15");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");

/// The UUIDs of a slot's partitions, data and hash tree.
pub(crate) fn partitions(slot: Slot) -> [String; 2] {
    ["1", "2"].map(|which| format!("8e0f7a52-93c4-4a0d-8f35-61c2b7e4a0{}{which}", slot.letter()))
}

/// The command line that starts a slot.
pub(crate) fn command_line(root_hash: &str, slot: Slot) -> String {
    let [data, hash] = partitions(slot);
    format!(
        "root=/dev/mapper/root ro roothash={root_hash} systemd.verity_root_data=PARTUUID={data} \
         systemd.verity_root_hash=PARTUUID={hash} panic=10"
    )
}

/// An unsigned image with the given sections.
pub(crate) fn image(sections: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = vec![0; HEADERS];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &u32::try_from(PE).unwrap().to_le_bytes());
    put(PE, b"PE\0\0");
    put(PE + 4, &0x8664_u16.to_le_bytes());
    put(
        PE + 6,
        &u16::try_from(sections.len()).unwrap().to_le_bytes(),
    );
    put(PE + 20, &240_u16.to_le_bytes());
    put(PE + 22, &0x0022_u16.to_le_bytes());
    let optional = PE + 24;
    put(optional, &0x020b_u16.to_le_bytes());
    put(optional + 32, &0x1000_u32.to_le_bytes());
    put(optional + 36, &0x200_u32.to_le_bytes());
    let size = 0x1000 * (1 + u32::try_from(sections.len()).unwrap());
    put(optional + 56, &size.to_le_bytes());
    put(
        optional + 60,
        &u32::try_from(HEADERS).unwrap().to_le_bytes(),
    );
    // A firmware application.
    put(optional + 68, &10_u16.to_le_bytes());
    put(optional + 108, &16_u32.to_le_bytes());
    let mut body = Vec::new();
    for (number, (name, content)) in sections.iter().enumerate() {
        let at = optional + 240 + 40 * number;
        let length = u32::try_from(content.len()).unwrap();
        let address = 0x1000 * (1 + u32::try_from(number).unwrap());
        put(at, name);
        put(at + 8, &length.to_le_bytes());
        put(at + 12, &address.to_le_bytes());
        put(at + 16, &length.next_multiple_of(0x200).to_le_bytes());
        let offset = u32::try_from(HEADERS + body.len()).unwrap();
        put(at + 20, &offset.to_le_bytes());
        put(at + 36, &0x4000_0040_u32.to_le_bytes());
        body.extend_from_slice(content);
        body.resize(body.len().next_multiple_of(0x200), 0);
    }
    out.extend(body);
    out
}

/// Whoever signs kernels.
pub(crate) struct Signer {
    key: RsaKeyPair,
    pub(crate) certificate: Certificate,
}

impl Signer {
    pub(crate) fn new(name: &str) -> Self {
        use aws_lc_rs::encoding::AsDer as _;
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
        let pair = rcgen::KeyPair::try_from(pkcs8.as_ref()).unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let certificate = parameters.self_signed(&pair).unwrap();
        Self {
            key,
            certificate: Certificate::from_der(certificate.der()).unwrap(),
        }
    }

    /// The same image, signed.
    pub(crate) fn sign(&self, image: &[u8]) -> Vec<u8> {
        let mut out = image.to_vec();
        out.resize(out.len().next_multiple_of(8), 0);
        let digest = sha256(
            &[
                &out[..CHECKSUM],
                &out[CHECKSUM + 4..SECURITY],
                &out[SECURITY + 8..],
            ]
            .concat(),
        );
        let signature = self.pkcs7(&digest);
        let table = out.len();
        let length = 8 + signature.len();
        let padded = length.next_multiple_of(8);
        out[SECURITY..SECURITY + 4].copy_from_slice(&u32::try_from(table).unwrap().to_le_bytes());
        out[SECURITY + 4..SECURITY + 8]
            .copy_from_slice(&u32::try_from(padded).unwrap().to_le_bytes());
        out.extend(u32::try_from(length).unwrap().to_le_bytes());
        out.extend([0, 2, 2, 0]);
        out.extend(signature);
        out.resize(table + padded, 0);
        out
    }

    fn pkcs7(&self, digest: &[u8]) -> Vec<u8> {
        let sha256_null = AlgorithmIdentifierOwned {
            oid: SHA_256,
            parameters: Some(Any::null()),
        };
        // SpcIndirectDataContent: what kind of file (flags and an empty link), and its digest.
        let flags = [
            &[0x30, 0x0d][..],
            &[0x03, 0x01, 0x00],
            &[0xa0, 0x08, 0xa2, 0x06, 0x80, 0x04],
            &[0; 4],
        ]
        .concat();
        let data = sequence(&[PE_IMAGE.to_der().unwrap(), sequence_of(&flags)]);
        let digest = sequence(&[
            sha256_null.to_der().unwrap(),
            OctetString::new(digest).unwrap().to_der().unwrap(),
        ]);
        let content = [data, digest].concat();
        let attributes = SetOfVec::try_from(vec![
            attribute(CONTENT_TYPE, Any::encode_from(&INDIRECT).unwrap()),
            attribute(
                MESSAGE_DIGEST,
                Any::encode_from(&OctetString::new(sha256(&content)).unwrap()).unwrap(),
            ),
        ])
        .unwrap();
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                &attributes.to_der().unwrap(),
                &mut signature,
            )
            .unwrap();
        let tbs = &self.certificate.tbs_certificate;
        let info = SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: tbs.issuer.clone(),
                serial_number: tbs.serial_number.clone(),
            }),
            digest_alg: sha256_null.clone(),
            signed_attrs: Some(attributes),
            signature_algorithm: AlgorithmIdentifierOwned {
                oid: RSA,
                parameters: Some(Any::null()),
            },
            signature: OctetString::new(signature).unwrap(),
            unsigned_attrs: None,
        };
        let certificate = CertificateChoices::Certificate(self.certificate.clone());
        let signed = SignedData {
            version: CmsVersion::V1,
            digest_algorithms: SetOfVec::try_from(vec![sha256_null]).unwrap(),
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: INDIRECT,
                econtent: Some(Any::new(Tag::Sequence, content).unwrap()),
            },
            certificates: Some(CertificateSet(
                SetOfVec::try_from(vec![certificate]).unwrap(),
            )),
            crls: None,
            signer_infos: SignerInfos(SetOfVec::try_from(vec![info]).unwrap()),
        };
        ContentInfo {
            content_type: SIGNED_DATA,
            content: Any::encode_from(&signed).unwrap(),
        }
        .to_der()
        .unwrap()
    }
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Attribute {
    Attribute {
        oid,
        values: SetOfVec::try_from(vec![value]).unwrap(),
    }
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    Any::new(Tag::Sequence, parts.concat())
        .unwrap()
        .to_der()
        .unwrap()
}

/// A structure that is encoded already.
fn sequence_of(encoded: &[u8]) -> Vec<u8> {
    encoded.to_vec()
}
