//! Key files and sealed blobs: what is written to disk, encrypted by the TPM. It does not touch the disk.
//!
//! A key is a "TSS2 PRIVATE KEY" PEM (TPM 2.0 key files specification, draft-bottomley-tpm2-keys, `TPMKey`), the format
//! that tpm2-openssl and the OpenSSL tools read, so that an operator can use a key without this program. The reader
//! accepts only what the writer writes: a loadable key under our SRK with an empty authorisation value.

use crate::{VaultError, public_area};
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use der::{
    Decode, Encode, Sequence,
    asn1::{BitString, ObjectIdentifier, OctetString},
};
use spki::{AlgorithmIdentifier, SubjectPublicKeyInfo};
use std::{fmt, sync::Arc};

/// The SRK's persistent handle (TCG TPM v2.0 Provisioning Guidance section 7.8).
pub(crate) const SRK_HANDLE: u32 = 0x8100_0001;

/// id-loadablekey
const LOADABLE_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.3");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// No blob this product makes comes near this; longer input is refused before any decoding.
const MAX_PEM: usize = 4096;
/// The largest TPM2B_PRIVATE of a P-256 key or a sealed secret, with room to spare.
const MAX_PRIVATE: usize = 1024;

/// Where a private key was born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// Made inside this TPM (fixedTPM, fixedParent, sensitiveDataOrigin); it has never existed outside.
    Generated,
    /// Brought in from a PKCS#12 file; copies may exist elsewhere.
    Imported,
}

/// `TPMKey` of draft-bottomley-tpm2-keys section 3.1, reduced to the fields used here; any other field is refused.
#[derive(Sequence)]
struct TpmKey {
    key_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    empty_auth: Option<bool>,
    parent: u32,
    public: OctetString,
    private: OctetString,
}

const PEM_BEGIN: &str = "-----BEGIN TSS2 PRIVATE KEY-----\n";
const PEM_END: &str = "-----END TSS2 PRIVATE KEY-----\n";
/// RFC 7468 section 2: every line but the last has exactly 64 characters.
const PEM_LINE: usize = 64;

/// RFC 7468, strict form. The `pem` feature of `der` is not used: its reader (0.7.10) never
/// returns on some truncated bodies, which the property test below found.
fn pem_encode(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = PEM_BEGIN.to_owned();
    for line in base64.as_bytes().chunks(PEM_LINE) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str(PEM_END);
    pem
}

/// The DER inside; the last line break may be missing, and lines may end in CR LF after a trip through other systems.
fn pem_decode(pem: &str) -> Option<Vec<u8>> {
    let text = pem.replace("\r\n", "\n");
    let text = text.trim_end_matches('\n');
    let body = text
        .strip_prefix(PEM_BEGIN)?
        .strip_suffix(PEM_END.trim_end())?
        .strip_suffix('\n')?;
    if body.split('\n').any(|line| line.len() > PEM_LINE) {
        return None;
    }
    STANDARD.decode(body.replace('\n', "")).ok()
}

/// A private key wrapped by the TPM, with its public half. Useless without the TPM that wrapped it; cheap to clone.
#[derive(Clone)]
pub struct KeyBlob(Arc<Key>);

struct Key {
    tpmt_public: Vec<u8>,
    private: Vec<u8>,
    area: public_area::SigningKeyArea,
    id: BlobId,
}

/// Tells blobs apart in the cache of loaded keys: SHA-256 over both halves.
pub(crate) type BlobId = [u8; 32];

impl KeyBlob {
    /// From the TPM's own structures: TPMT_PUBLIC, and the contents of TPM2B_PRIVATE.
    pub(crate) fn new(tpmt_public: Vec<u8>, private: Vec<u8>) -> Result<Self, VaultError> {
        let malformed = |reason| VaultError::MalformedBlob { reason };
        let area = public_area::parse_signing_key(&tpmt_public).map_err(malformed)?;
        if private.is_empty() || private.len() > MAX_PRIVATE {
            return Err(malformed("the private part has an impossible size"));
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&tpmt_public);
        hash.update(&private);
        let id = hash
            .finish()
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes");
        Ok(Self(Arc::new(Key {
            tpmt_public,
            private,
            area,
            id,
        })))
    }

    /// The key as a `TSS2 PRIVATE KEY` PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let octets = |bytes: &[u8]| {
            OctetString::new(sized(bytes)).expect("a TPM2B of at most 64 KiB fits an OCTET STRING")
        };
        let file = TpmKey {
            key_type: LOADABLE_KEY,
            empty_auth: Some(true),
            parent: SRK_HANDLE,
            public: octets(&self.0.tpmt_public),
            private: octets(&self.0.private),
        };
        pem_encode(&file.to_der().expect("a bounded structure encodes"))
    }

    /// Reads a `TSS2 PRIVATE KEY` PEM.
    ///
    /// # Errors
    ///
    /// [`VaultError::MalformedBlob`] for anything but a loadable P-256 signing key of ours under the SRK.
    pub fn from_pem(pem: &str) -> Result<Self, VaultError> {
        let malformed = |reason| VaultError::MalformedBlob { reason };
        if pem.len() > MAX_PEM {
            return Err(malformed("the file is too long"));
        }
        let der = pem_decode(pem).ok_or(malformed("not a TSS2 PRIVATE KEY in PEM"))?;
        let file =
            TpmKey::from_der(&der).map_err(|_| malformed("not a TPMKey of known fields in DER"))?;
        if file.key_type != LOADABLE_KEY {
            return Err(malformed("not a loadable key"));
        }
        if file.empty_auth != Some(true) {
            return Err(malformed("the key has an authorisation value"));
        }
        if file.parent != SRK_HANDLE {
            return Err(malformed("the key's parent is not the SRK at 0x81000001"));
        }
        let wrong_size = "a TPM structure does not have the size it states";
        let public = unsized_exactly(file.public.as_bytes()).ok_or(malformed(wrong_size))?;
        let private = unsized_exactly(file.private.as_bytes()).ok_or(malformed(wrong_size))?;
        Self::new(public.to_vec(), private.to_vec())
    }

    /// SubjectPublicKeyInfo of the key (RFC 5480), DER.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        point_spki(&self.0.area.point)
    }

    /// The public key as an uncompressed SEC 1 point.
    #[must_use]
    pub fn public_point(&self) -> &[u8; 65] {
        &self.0.area.point
    }

    /// Whether the TPM made this key or it was imported, as the TPM's own attributes say.
    #[must_use]
    pub fn provenance(&self) -> Provenance {
        self.0.area.provenance
    }

    /// TPMT_PUBLIC as the TPM marshals it; its SHA-256 after `000b` is the key's TPM Name.
    #[must_use]
    pub fn tpmt_public(&self) -> &[u8] {
        &self.0.tpmt_public
    }

    pub(crate) fn private(&self) -> &[u8] {
        &self.0.private
    }

    pub(crate) fn id(&self) -> &BlobId {
        &self.0.id
    }
}

impl PartialEq for KeyBlob {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for KeyBlob {}

impl fmt::Debug for KeyBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyBlob")
            .field("provenance", &self.provenance())
            .finish_non_exhaustive()
    }
}

/// A small secret encrypted by the TPM under its SRK; only this TPM opens it again. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedBlob {
    pub(crate) tpmt_public: Arc<[u8]>,
    pub(crate) private: Arc<[u8]>,
}

/// Marks our own container, so that no other file is mistaken for one.
const SEALED_MAGIC: &[u8; 8] = b"RGSEAL1\n";

impl SealedBlob {
    pub(crate) fn new(tpmt_public: &[u8], private: &[u8]) -> Self {
        Self {
            tpmt_public: tpmt_public.into(),
            private: private.into(),
        }
    }

    /// For a file: a magic, then TPM2B_PUBLIC and TPM2B_PRIVATE.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            SEALED_MAGIC.as_slice(),
            &sized(&self.tpmt_public),
            &sized(&self.private),
        ]
        .concat()
    }

    /// Reads what [`SealedBlob::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`VaultError::MalformedBlob`]; whether the TPM opens it shows only at `unseal`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VaultError> {
        let parse = || {
            let mut fields = public_area::Fields(bytes.strip_prefix(SEALED_MAGIC)?);
            let (public, private) = (fields.sized()?, fields.sized()?);
            fields.end()?;
            let plausible = |part: &[u8]| !part.is_empty() && part.len() <= MAX_PRIVATE;
            // A sealed data object: TPM_ALG_KEYEDHASH named by SHA-256.
            (plausible(public)
                && plausible(private)
                && public.starts_with(&[0x00, 0x08, 0x00, 0x0b]))
            .then(|| Self::new(public, private))
        };
        parse().ok_or(VaultError::MalformedBlob {
            reason: "not a sealed secret of this product",
        })
    }
}

impl fmt::Debug for SealedBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedBlob").finish_non_exhaustive()
    }
}

/// SubjectPublicKeyInfo of a P-256 point (RFC 5480), DER.
pub(crate) fn point_spki(point: &[u8; 65]) -> Vec<u8> {
    let spki = SubjectPublicKeyInfo {
        algorithm: AlgorithmIdentifier {
            oid: EC_PUBLIC_KEY,
            parameters: Some(PRIME256V1),
        },
        subject_public_key: BitString::from_bytes(point).expect("65 bytes fit a BIT STRING"),
    };
    spki.to_der().expect("a bounded structure encodes")
}

/// A TPM2B: two octets of size before the contents.
pub(crate) fn sized(contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).expect("TPM structures are far below 64 KiB");
    [&length.to_be_bytes(), contents].concat()
}

/// The contents of a TPM2B that fills `bytes` exactly.
fn unsized_exactly(bytes: &[u8]) -> Option<&[u8]> {
    let mut fields = public_area::Fields(bytes);
    let contents = fields.sized()?;
    fields.end()?;
    Some(contents)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const GENERATED: u32 = 0x0004_0472;
    const IMPORTED: u32 = 0x0004_0440;

    fn public(attributes: u32, x: &[u8], y: &[u8]) -> Vec<u8> {
        let mut out = vec![0x00, 0x23, 0x00, 0x0b];
        out.extend(attributes.to_be_bytes());
        out.extend([
            0, 0, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10,
        ]);
        out.extend(sized(x));
        out.extend(sized(y));
        out
    }

    /// A well-formed blob that no TPM made; `filling` tells one from another.
    pub(crate) fn key_with(filling: u8) -> KeyBlob {
        KeyBlob::new(public(GENERATED, &[7; 32], &[9; 32]), vec![filling; 126]).expect("valid")
    }

    fn key() -> KeyBlob {
        key_with(5)
    }

    fn der_of_key() -> Vec<u8> {
        pem_decode(&key().to_pem()).expect("own output")
    }

    fn pem_of(change: impl FnOnce(&mut TpmKey)) -> String {
        let mut file = TpmKey::from_der(&der_of_key()).expect("own output");
        change(&mut file);
        pem_encode(&file.to_der().expect("encodes"))
    }

    #[test]
    fn a_key_file_reads_back_as_it_was_written() {
        let pem = key().to_pem();
        assert!(pem.starts_with("-----BEGIN TSS2 PRIVATE KEY-----\n"));
        let back = KeyBlob::from_pem(&pem).expect("own output");
        assert_eq!(back, key());
        assert_eq!(back.provenance(), Provenance::Generated);
        assert_eq!(back.spki_der().len(), 91);
    }

    #[test]
    fn a_short_coordinate_is_padded() {
        let key = KeyBlob::new(public(IMPORTED, &[7; 31], &[9; 32]), vec![5; 126]).expect("valid");
        assert_eq!(key.public_point()[..3], [4, 0, 7]);
        assert_eq!(key.provenance(), Provenance::Imported);
    }

    #[test]
    fn a_key_without_no_da_or_with_other_powers_is_refused() {
        for attributes in [
            GENERATED & !(1 << 10),
            GENERATED | 1 << 16,
            GENERATED | 1 << 17,
            GENERATED & !(1 << 1),
        ] {
            KeyBlob::new(public(attributes, &[7; 32], &[9; 32]), vec![5; 126])
                .expect_err("attributes");
        }
    }

    #[test]
    fn foreign_parents_types_and_authorisations_are_refused() {
        KeyBlob::from_pem(&pem_of(|f| f.parent = 0x4000_0001)).expect_err("parent");
        KeyBlob::from_pem(&pem_of(|f| f.empty_auth = None)).expect_err("auth");
        KeyBlob::from_pem(&pem_of(|f| f.empty_auth = Some(false))).expect_err("auth");
        KeyBlob::from_pem(&pem_of(|f| {
            f.key_type = ObjectIdentifier::new_unwrap("2.23.133.10.1.4")
        }))
        .expect_err("type");
    }

    #[test]
    fn sizes_that_lie_and_trailing_bytes_are_refused() {
        let longer = |octets: &OctetString| {
            OctetString::new([octets.as_bytes(), &[0]].concat()).expect("fits")
        };
        KeyBlob::from_pem(&pem_of(|f| f.public = longer(&f.public))).expect_err("trailing");
        KeyBlob::from_pem(&pem_of(|f| f.private = longer(&f.private))).expect_err("trailing");
        KeyBlob::from_pem(&pem_of(|f| {
            f.private = OctetString::new([0, 9, 1]).expect("fits")
        }))
        .expect_err("size");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_the_reader(text in ".{0,400}") {
            let _ = KeyBlob::from_pem(&text);
        }

        #[test]
        fn arbitrary_bytes_in_pem_never_panic_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let pem = pem_encode(&bytes);
            let _ = KeyBlob::from_pem(&pem);
            let _ = SealedBlob::from_bytes(&bytes);
        }

        #[test]
        fn one_changed_byte_is_refused_or_read_as_what_it_says(at in 0usize..250, bit in 0u8..8) {
            let mut der = der_of_key();
            let at = at % der.len();
            der[at] ^= 1 << bit;
            let pem = pem_encode(&der);
            if let Ok(read) = KeyBlob::from_pem(&pem) {
                prop_assert_ne!(read, key());
            }
        }

        #[test]
        fn a_sealed_blob_reads_back_and_never_with_bytes_missing(
            private in proptest::collection::vec(any::<u8>(), 1..200), cut in 1usize..300,
        ) {
            let blob = SealedBlob::new(&[0x00, 0x08, 0x00, 0x0b, 1, 2, 3], &private);
            let bytes = blob.to_bytes();
            prop_assert_eq!(SealedBlob::from_bytes(&bytes).expect("own output"), blob);
            let cut = cut.min(bytes.len());
            prop_assert!(SealedBlob::from_bytes(&bytes[..bytes.len() - cut]).is_err());
        }
    }

    #[test]
    fn pem_in_other_shapes_is_refused_and_crlf_is_read() {
        let pem = key().to_pem();
        assert_eq!(
            KeyBlob::from_pem(&pem.replace('\n', "\r\n")).expect("CR LF"),
            key()
        );
        assert_eq!(
            KeyBlob::from_pem(pem.trim_end()).expect("no last line break"),
            key()
        );
        let one_line = pem
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect::<String>();
        for shape in [
            format!("{PEM_BEGIN}{PEM_END}"),
            format!("{PEM_BEGIN}{one_line}\n{PEM_END}"),
            format!(" {pem}"),
            format!("{pem}{pem}"),
            pem.replace("TSS2", "EC"),
        ] {
            KeyBlob::from_pem(&shape).expect_err(&shape);
        }
    }

    #[test]
    fn debug_output_shows_no_key_material() {
        assert_eq!(
            format!("{:?}", key()),
            "KeyBlob { provenance: Generated, .. }"
        );
    }
}
