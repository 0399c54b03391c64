//! A checkpoint: what the log was at one moment, as the bytes that the TPM signs. It signs nothing itself.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use gateway_policy::Timestamp;

use crate::{Digest, Id};

/// The TPM signs nothing that does not begin so; the same constant stands in the TPM crate, and the daemon's tests compare.
pub(crate) const PREFIX: &[u8] = b"renraku-gateway audit checkpoint v1\0";

const FIXED: usize = 8 + 8 + 32 + 16 + 16 + 8 + 32 + 1;
const LONGEST_FACILITY: usize = 64;

/// SubjectPublicKeyInfo of a P-256 key up to its point (RFC 5480 section 2): the only kind of key a checkpoint has.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const SPKI: usize = 26 + 65;

/// What the log was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// One more than that of the checkpoint before; the first is 1.
    pub sequence: u64,
    /// Entries the log has had since it was opened, removed ones included.
    pub count: u64,
    /// Hash of the last of them.
    pub head: Digest,
    /// Which log.
    pub log: Id,
    /// The kernel's boot id.
    pub boot: Id,
    /// The box's clock.
    pub at: Timestamp,
    /// SHA-256 of the signing key's SubjectPublicKeyInfo.
    pub key: Digest,
    /// The facility's id as in its certificate: letters, digits, `-._`, at most 64; empty before there is one.
    pub facility: String,
}

/// The bytes are no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint of an audit log")]
pub struct NotACheckpoint;

impl Checkpoint {
    /// The bytes to be signed: prefix, then fixed-size big-endian fields, then the facility's id behind its length.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let facility = &self.facility.as_bytes()[..self.facility.len().min(LONGEST_FACILITY)];
        let mut bytes = PREFIX.to_vec();
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.count.to_be_bytes());
        bytes.extend(self.head.0);
        bytes.extend(self.log.0);
        bytes.extend(self.boot.0);
        bytes.extend(self.at.0.to_be_bytes());
        bytes.extend(self.key.0);
        bytes.push(u8::try_from(facility.len()).expect("at most 64"));
        bytes.extend(facility);
        bytes
    }

    /// Reads what [`Checkpoint::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`NotACheckpoint`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotACheckpoint> {
        Self::parse(bytes).ok_or(NotACheckpoint)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (fixed, facility) = bytes.strip_prefix(PREFIX)?.split_at_checked(FIXED)?;
        let (sequence, rest) = fixed.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let (head, rest) = rest.split_first_chunk::<32>()?;
        let (log, rest) = rest.split_first_chunk::<16>()?;
        let (boot, rest) = rest.split_first_chunk::<16>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
        let fits = rest == [u8::try_from(facility.len()).ok()?]
            && facility.len() <= LONGEST_FACILITY
            && facility.iter().all(plain);
        fits.then(|| Self {
            sequence: u64::from_be_bytes(*sequence),
            count: u64::from_be_bytes(*count),
            head: Digest(*head),
            log: Id(*log),
            boot: Id(*boot),
            at: Timestamp(i64::from_be_bytes(*at)),
            key: Digest(*key),
            facility: String::from_utf8_lossy(facility).into_owned(),
        })
    }
}

/// A checkpoint with its signature, both as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What [`Checkpoint::to_bytes`] made.
    pub checkpoint: Vec<u8>,
    /// ECDSA-Sig-Value, DER.
    pub signature: Vec<u8>,
}

impl SignedCheckpoint {
    /// What was signed.
    ///
    /// # Errors
    /// [`NotACheckpoint`].
    pub fn parse(&self) -> Result<Checkpoint, NotACheckpoint> {
        Checkpoint::from_bytes(&self.checkpoint)
    }

    /// Whether the key whose SubjectPublicKeyInfo this is has signed it.
    #[must_use]
    pub fn is_signed_by(&self, spki: &[u8]) -> bool {
        spki.len() == SPKI
            && spki.starts_with(&P256_SPKI)
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki[P256_SPKI.len()..])
                .verify(&self.checkpoint, &self.signature)
                .is_ok()
    }

    /// The name under which the log mentions it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let length = u64::try_from(self.checkpoint.len()).unwrap_or(u64::MAX);
        Digest::of(&[&length.to_be_bytes(), &self.checkpoint, &self.signature])
    }
}

/// SHA-256 of a SubjectPublicKeyInfo: the name of a key in a checkpoint.
#[must_use]
pub fn spki_id(spki: &[u8]) -> Digest {
    Digest::of(&[spki])
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Checkpoint {
        Checkpoint {
            sequence: 3,
            count: 41,
            head: Digest([9; 32]),
            log: Id([1; 16]),
            boot: Id([2; 16]),
            at: Timestamp(1_795_000_000),
            key: Digest([4; 32]),
            facility: "tkh-1001".to_owned(),
        }
    }

    #[test]
    fn a_checkpoint_reads_back_and_no_part_of_it_does() {
        let bytes = sample().to_bytes();
        assert_eq!(Checkpoint::from_bytes(&bytes), Ok(sample()));
        for end in 0..bytes.len() {
            assert!(Checkpoint::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        assert!(Checkpoint::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn a_facility_id_has_no_room_for_a_name() {
        let mut named = sample();
        named.facility = "さくら".to_owned();
        assert!(Checkpoint::from_bytes(&named.to_bytes()).is_err());
    }
}
