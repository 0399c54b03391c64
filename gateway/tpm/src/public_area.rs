//! Reads the public area of a P-256 signing key (TPMT_PUBLIC, TPM 2.0 Part 2 section 12.2.4) in pure Rust, strictly: only
//! the one shape this product creates or imports is accepted. It never calls the C library, because its input may be a
//! file someone else wrote.

use crate::{ecdsa, key_file::Provenance};

const ALG_HMAC: u16 = 0x0005;
const ALG_KEYEDHASH: u16 = 0x0008;
const ALG_ECC: u16 = 0x0023;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDSA: u16 = 0x0018;
const ECC_NIST_P256: u16 = 0x0003;

// TPMA_OBJECT, Part 2 section 8.3.
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const SIGN: u32 = 1 << 18;

/// Born in this TPM and bound to it.
const GENERATED: u32 =
    FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | SIGN;
/// The same, and signs only what the TPM itself has hashed.
const AUDIT: u32 = GENERATED | RESTRICTED;
/// Brought in from outside: the TPM never claims to have made it.
const IMPORTED: u32 = USER_WITH_AUTH | NO_DA | SIGN;

/// What the public area of one of our keys says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SigningKeyArea {
    /// SEC 1 uncompressed point.
    pub(crate) point: [u8; 65],
    /// Whether the TPM made the key.
    pub(crate) provenance: Provenance,
}

/// Reads big-endian fields off the front of a slice.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A TPM2B: two octets of size, then that many octets.
    pub(crate) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Accepts exactly an unrestricted, noDA, empty-policy ECDSA-SHA256 P-256 signing key, generated or imported.
pub(crate) fn parse_signing_key(tpmt_public: &[u8]) -> Result<SigningKeyArea, &'static str> {
    let (attributes, point) = parse_ecdsa(tpmt_public)?;
    let provenance = match attributes {
        GENERATED => Provenance::Generated,
        IMPORTED => Provenance::Imported,
        _ => return Err("the key's attributes are not those of a gateway key"),
    };
    Ok(SigningKeyArea { point, provenance })
}

/// Accepts exactly a restricted ECDSA-SHA256 P-256 signing key made in the TPM; returns its point.
pub(crate) fn parse_audit_key(tpmt_public: &[u8]) -> Result<[u8; 65], &'static str> {
    let (attributes, point) = parse_ecdsa(tpmt_public)?;
    if attributes != AUDIT {
        return Err("the key's attributes are not those of an audit key");
    }
    Ok(point)
}

/// Accepts exactly an unrestricted HMAC-SHA256 key made in the TPM.
pub(crate) fn check_hmac_key(tpmt_public: &[u8]) -> Result<(), &'static str> {
    let mut fields = Fields(tpmt_public);
    let short = "the public area is cut short";
    if fields.u16().ok_or(short)? != ALG_KEYEDHASH || fields.u16().ok_or(short)? != ALG_SHA256 {
        return Err("the key is not a keyed hash named by SHA-256");
    }
    if fields.u32().ok_or(short)? != GENERATED {
        return Err("the key's attributes are not those of an HMAC key of this TPM");
    }
    if !fields.sized().ok_or(short)?.is_empty() {
        return Err("the key has an authorisation policy");
    }
    if fields.u16().ok_or(short)? != ALG_HMAC || fields.u16().ok_or(short)? != ALG_SHA256 {
        return Err("the key is not for HMAC-SHA256");
    }
    // The unique field: a digest of the key and its obfuscation value.
    if fields.sized().ok_or(short)?.len() != 32 {
        return Err("the key's name has an impossible size");
    }
    fields.end().ok_or("bytes follow the public area")
}

/// An empty-policy ECDSA-SHA256 P-256 key: its attributes and its point.
fn parse_ecdsa(tpmt_public: &[u8]) -> Result<(u32, [u8; 65]), &'static str> {
    let mut fields = Fields(tpmt_public);
    let short = "the public area is cut short";
    if fields.u16().ok_or(short)? != ALG_ECC || fields.u16().ok_or(short)? != ALG_SHA256 {
        return Err("the key is not an ECC key named by SHA-256");
    }
    let attributes = fields.u32().ok_or(short)?;
    if !fields.sized().ok_or(short)?.is_empty() {
        return Err("the key has an authorisation policy");
    }
    let parameters = [ALG_NULL, ALG_ECDSA, ALG_SHA256, ECC_NIST_P256, ALG_NULL];
    for expected in parameters {
        if fields.u16().ok_or(short)? != expected {
            return Err("the key is not an ECDSA P-256 SHA-256 signing key");
        }
    }
    let (x, y) = (fields.sized().ok_or(short)?, fields.sized().ok_or(short)?);
    fields.end().ok_or("bytes follow the public area")?;
    let point =
        ecdsa::uncompressed_point(x, y).ok_or("a coordinate is longer than P-256 allows")?;
    Ok((attributes, point))
}
