//! The Authenticode signature of a PE file, as the firmware checks it: made by the one certificate that the box trusts.
//!
//! Stricter than the firmware on purpose: one signature, SHA-256 and RSA only, by the certificate of the box's `db` itself and not by
//! one below it, and every byte of the file but checksum and signature is covered, gaps between sections too. It does not look at
//! the certificate's dates, as the firmware does not (UEFI specification §32.4), and it knows no `dbx`.

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetString};
use der::{Any, Decode as _, Encode as _, Sequence};
use object::LittleEndian as LE;
use object::pe::{IMAGE_DIRECTORY_ENTRY_SECURITY, ImageNtHeaders64};
use object::read::pe::PeFile64;
use x509_cert::Certificate;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::index::Digest;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// Where a PE32+ header has its checksum and its entry for signatures, counted from the signature `PE\0\0`.
const CHECKSUM: usize = 4 + 20 + 64;
const SECURITY: usize = 4 + 20 + 112 + 8 * IMAGE_DIRECTORY_ENTRY_SECURITY;
/// Header of an entry in the table of signatures (PE format, "The Attribute Certificate Table").
const ENTRY: usize = 8;
const REVISION_2_PKCS: [u8; 4] = [0, 2, 2, 0];

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("it is not signed")]
    Unsigned,
    /// The signature, or what is around it, is not of the one form that is read.
    #[error("its signature has another form: {0}")]
    Form(&'static str),
    /// The file was changed after it was signed.
    #[error("it is not the file that was signed")]
    Digest,
    /// Somebody else's.
    #[error("it is signed by another certificate than the box's")]
    Signer,
    /// The signature does not verify.
    #[error("the signature is wrong")]
    Signature,
}

/// The content that is signed; what it says beside the digest means nothing (PE image flags).
#[derive(Sequence)]
struct IndirectData {
    _data: Any,
    digest: DigestInfo,
}

#[derive(Sequence)]
struct DigestInfo {
    algorithm: AlgorithmIdentifierOwned,
    digest: OctetString,
}

/// Checks that `bytes`, which are `file`, carry one signature and that `signer` made it.
///
/// # Errors
/// [`SignatureError`].
pub fn check(
    bytes: &[u8],
    file: &PeFile64<'_>,
    signer: &Certificate,
) -> Result<(), SignatureError> {
    use SignatureError::Form;
    let (digest, signature) = parts(bytes, file)?;
    let outer = ContentInfo::from_der(signature).map_err(|_| Form("no PKCS#7"))?;
    if outer.content_type != SIGNED_DATA {
        return Err(Form("no signed data"));
    }
    let data: SignedData = outer
        .content
        .decode_as()
        .map_err(|_| Form("no signed data"))?;
    let content = data
        .encap_content_info
        .econtent
        .as_ref()
        .filter(|_| data.encap_content_info.econtent_type == INDIRECT_DATA)
        .ok_or(Form("no Authenticode content"))?;
    let stated: IndirectData = content
        .decode_as()
        .map_err(|_| Form("no Authenticode content"))?;
    if stated.digest.algorithm.oid != SHA_256 {
        return Err(Form("another digest than SHA-256"));
    }
    if stated.digest.digest.as_bytes() != digest {
        return Err(SignatureError::Digest);
    }
    let [info] = data.signer_infos.0.as_slice() else {
        return Err(Form("not one signer"));
    };
    // PKCS#7 §9.3: the content's octets without tag and length.
    check_signer(info, &sha256(&[content.value()]), signer)
}

/// The signer's attributes name `content`, and the signature over them is `signer`'s.
fn check_signer(
    info: &SignerInfo,
    content: &Digest,
    signer: &Certificate,
) -> Result<(), SignatureError> {
    use SignatureError::Form;
    let SignerIdentifier::IssuerAndSerialNumber(id) = &info.sid else {
        return Err(Form("a signer without issuer and number"));
    };
    let certificate = &signer.tbs_certificate;
    if id.issuer != certificate.issuer || id.serial_number != certificate.serial_number {
        return Err(SignatureError::Signer);
    }
    if info.digest_alg.oid != SHA_256 {
        return Err(Form("another digest than SHA-256"));
    }
    let attributes = info.signed_attrs.as_ref().ok_or(Form("no attributes"))?;
    let one = |oid: ObjectIdentifier| {
        let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
        let values = found.next()?.values.as_slice();
        let [value] = values else { return None };
        found.next().is_none().then_some(value)
    };
    let kind = one(CONTENT_TYPE).and_then(|value| value.decode_as::<ObjectIdentifier>().ok());
    if kind != Some(INDIRECT_DATA) {
        return Err(Form("attributes of something else"));
    }
    let named = one(MESSAGE_DIGEST).and_then(|value| value.decode_as::<OctetString>().ok());
    if named.as_ref().map(OctetString::as_bytes) != Some(&content[..]) {
        return Err(SignatureError::Signature);
    }
    // RFC 5652 §5.4: the attributes as a SET OF, with its own tag in place of the implicit one.
    let signed = attributes.to_der().map_err(|_| Form("attributes"))?;
    let key = certificate
        .subject_public_key_info
        .subject_public_key
        .raw_bytes();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(&signed, info.signature.as_bytes())
        .map_err(|_| SignatureError::Signature)
}

/// The digest of everything that must be covered, and the PKCS#7 signature.
fn parts<'a>(bytes: &'a [u8], file: &PeFile64<'_>) -> Result<(Digest, &'a [u8]), SignatureError> {
    use SignatureError::Form;
    let entry = file
        .data_directory(IMAGE_DIRECTORY_ENTRY_SECURITY)
        .ok_or(SignatureError::Unsigned)?;
    // The one entry whose address is an offset in the file.
    let table = usize::try_from(entry.virtual_address.get(LE)).map_err(|_| Form("table"))?;
    let size = usize::try_from(entry.size.get(LE)).map_err(|_| Form("table"))?;
    if size == 0 {
        return Err(SignatureError::Unsigned);
    }
    let headers = usize::try_from(file.dos_header().nt_headers_offset());
    let headers = headers.map_err(|_| Form("header"))?;
    let end_of_headers = headers + size_of::<ImageNtHeaders64>();
    if table.checked_add(size) != Some(bytes.len()) || table < end_of_headers {
        return Err(Form("the table of signatures does not end the file"));
    }
    let (covered, signatures) = bytes.split_at(table);
    let signature = only_entry(signatures).ok_or(Form("not one signature"))?;
    let (checksum, security) = (headers + CHECKSUM, headers + SECURITY);
    let digest = sha256(&[
        &covered[..checksum],
        &covered[checksum + 4..security],
        &covered[security + 8..],
    ]);
    Ok((digest, signature))
}

/// The PKCS#7 structure of a table with one entry.
fn only_entry(table: &[u8]) -> Option<&[u8]> {
    let header = table.get(..ENTRY)?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let length = usize::try_from(length).ok()?;
    if header[4..] != REVISION_2_PKCS || length.checked_next_multiple_of(8)? != table.len() {
        return None;
    }
    let padded = table.get(ENTRY..length)?;
    // Some signers count the padding into the length; the structure says itself how long it is.
    let length = usize::try_from(
        der::Header::decode(&mut der::SliceReader::new(padded).ok()?)
            .ok()?
            .length,
    )
    .ok()?;
    let head = padded.len().checked_sub(length)?;
    let own = header_length(length);
    (head >= own && head - own < 8 && padded[own + length..].iter().all(|byte| *byte == 0))
        .then(|| &padded[..own + length])
}

/// Bytes of tag and length of a DER structure of `length` bytes (X.690 §8.1.3).
fn header_length(length: usize) -> usize {
    match length {
        0..0x80 => 2,
        0x80..0x100 => 3,
        0x100..0x1_0000 => 4,
        0x1_0000..0x100_0000 => 5,
        _ => 6,
    }
}

fn sha256(pieces: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(piece);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
