//! The key that signs checkpoints of the audit log, and nothing else. It does not know what a checkpoint means; the audit
//! crate builds and reads them.
//!
//! Two walls keep this key and the facility's key apart. The key is a *restricted* signing key: the TPM signs only
//! digests it computed itself, and [`KeyBlob`](crate::KeyBlob) refuses its public area, so it can never be handed to the
//! TLS or CSR signer. And this module lets only bytes of the checkpoint's form through to the TPM's hash.

use crate::{
    TpmVault, VaultError, chip,
    chip::Chip,
    ecdsa,
    fault::Fault,
    key_file::{point_spki, sized},
    public_area, template,
};
use aws_lc_rs::digest::{SHA256, digest};
use std::{fmt, sync::Arc};
use tss_esapi::{
    interface_types::{
        algorithm::HashingAlgorithm, resource_handles::Hierarchy, session_handles::AuthSession,
    },
    structures::{MaxBuffer, SignatureScheme},
    traits::Marshall,
};

/// What every checkpoint begins with. No TLS, X.509 or TPM structure begins so.
pub const CHECKPOINT_PREFIX: &[u8] = b"renraku-gateway audit checkpoint v1\0";

/// After the prefix: sequence, count (u64), head (32), log id (16), boot id (16), time (i64), key id (32), length of the
/// facility's id (u8), then that id. Numbers are big-endian.
const KEY_ID_AT: usize = 8 + 8 + 32 + 16 + 16 + 8;
const FIXED: usize = KEY_ID_AT + 32 + 1;
const LONGEST_FACILITY: usize = 64;

/// Marks our own container, so that no other file is mistaken for one.
const MAGIC: &[u8; 8] = b"RGAUDIT1";
const LONGEST_PART: usize = 1024;

/// A wrapped audit key with its public half. Useless without the TPM that made it; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct AuditKey {
    tpmt_public: Arc<[u8]>,
    private: Arc<[u8]>,
    point: [u8; 65],
}

impl AuditKey {
    fn new(tpmt_public: &[u8], private: &[u8]) -> Result<Self, VaultError> {
        let malformed = |reason| VaultError::MalformedBlob { reason };
        if private.is_empty() || private.len() > LONGEST_PART {
            return Err(malformed("the private part has an impossible size"));
        }
        let point = public_area::parse_audit_key(tpmt_public).map_err(malformed)?;
        Ok(Self {
            tpmt_public: tpmt_public.into(),
            private: private.into(),
            point,
        })
    }

    /// For a file: a magic, then TPM2B_PUBLIC and TPM2B_PRIVATE.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            MAGIC.as_slice(),
            &sized(&self.tpmt_public),
            &sized(&self.private),
        ]
        .concat()
    }

    /// Reads what [`AuditKey::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`VaultError::MalformedBlob`]; whether the TPM opens it shows only when it signs.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VaultError> {
        let parts = || {
            let mut fields = public_area::Fields(bytes.strip_prefix(MAGIC)?);
            let parts = (fields.sized()?, fields.sized()?);
            fields.end()?;
            Some(parts)
        };
        let (public, private) = parts().ok_or(VaultError::MalformedBlob {
            reason: "not an audit key of this product",
        })?;
        Self::new(public, private)
    }

    /// SubjectPublicKeyInfo (RFC 5480), DER: what the city pins.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        point_spki(&self.point)
    }

    /// SHA-256 of [`AuditKey::spki_der`], the name of the key inside each checkpoint.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        digest(&SHA256, &self.spki_der())
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes")
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKey").finish_non_exhaustive()
    }
}

/// The part of a vault that the audit log uses. Blocks, as [`KeyVault`](crate::KeyVault) does.
pub trait CheckpointVault: Send + Sync + fmt::Debug {
    /// Makes a new audit key in the TPM. Nothing is stored.
    ///
    /// # Errors
    /// See [`VaultError`].
    fn generate_audit_key(&self) -> Result<AuditKey, VaultError>;

    /// Signs a checkpoint with ECDSA-SHA256; returns ECDSA-Sig-Value, DER.
    ///
    /// # Errors
    /// [`VaultError::RefusedToSign`] unless the bytes are exactly a checkpoint that names `key`;
    /// [`VaultError::KeyLost`] when the TPM was cleared or exchanged since the key was made.
    fn sign_checkpoint(&self, key: &AuditKey, checkpoint: &[u8]) -> Result<Vec<u8>, VaultError>;
}

impl CheckpointVault for TpmVault {
    fn generate_audit_key(&self) -> Result<AuditKey, VaultError> {
        self.command(generate)
    }

    fn sign_checkpoint(&self, key: &AuditKey, checkpoint: &[u8]) -> Result<Vec<u8>, VaultError> {
        if !is_checkpoint_of(key, checkpoint) {
            return Err(VaultError::RefusedToSign);
        }
        let (key, checkpoint) = (key.clone(), checkpoint.to_vec());
        self.command(move |chip| sign(chip, &key, &checkpoint))
    }
}

/// Are these bytes a checkpoint, complete and without anything after it, that names `key` as its signer?
fn is_checkpoint_of(key: &AuditKey, message: &[u8]) -> bool {
    let Some(body) = message.strip_prefix(CHECKPOINT_PREFIX) else {
        return false;
    };
    let Some((fixed, facility)) = body.split_at_checked(FIXED) else {
        return false;
    };
    let named = &fixed[KEY_ID_AT..KEY_ID_AT + 32];
    named == key.id()
        && facility.len() <= LONGEST_FACILITY
        && facility.len() == usize::from(fixed[FIXED - 1])
        && facility
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte))
}

fn generate(chip: &mut Chip) -> Result<AuditKey, Fault> {
    // Restricted like the attestation key; the two differ in what signs with them.
    let template = template::attestation_key().map_err(Fault::tss("describe a key"))?;
    let srk = chip.srk;
    let created = chip.in_salted_session("create a key", |c| {
        c.create(srk, template, None, None, None, None)
    })?;
    let public = created
        .out_public
        .marshall()
        .map_err(Fault::tss("create a key"))?;
    Ok(AuditKey::new(&public, created.out_private.value())?)
}

fn sign(chip: &mut Chip, key: &AuditKey, checkpoint: &[u8]) -> Result<Vec<u8>, Fault> {
    let data = MaxBuffer::try_from(checkpoint.to_vec()).map_err(Fault::tss("hash"))?;
    // The ticket proves that the TPM hashed the bytes itself and that they do not begin like one of its own statements
    // (Part 3 section 15.4); without it a restricted key does not sign.
    let (hashed, ticket) = chip
        .context
        .execute_without_session(|c| c.hash(data, HashingAlgorithm::Sha256, Hierarchy::Owner))
        .map_err(Fault::tss("hash"))?;
    let handle = chip.load_wrapped(&key.tpmt_public, &key.private)?;
    let signed = chip
        .context
        .execute_with_session(Some(AuthSession::Password), |c| {
            c.sign(handle, hashed, SignatureScheme::Null, ticket)
        })
        .map_err(Fault::tss("sign"));
    let flushed = chip.flush(handle);
    let signature = signed?;
    flushed?;
    chip::ecdsa_der(&signature)
}

// The uncompressed point has a fixed length; held here because the field's type repeats it.
const _: () = assert!(1 + 2 * ecdsa::COORDINATE == 65);

#[cfg(test)]
mod tests {
    use super::*;

    /// A well-formed key that no TPM made.
    fn key() -> AuditKey {
        let attributes: u32 = 0x0005_0472;
        let mut public = vec![0x00, 0x23, 0x00, 0x0b];
        public.extend(attributes.to_be_bytes());
        public.extend([
            0, 0, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10,
        ]);
        public.extend(sized(&[7; 32]));
        public.extend(sized(&[9; 32]));
        AuditKey::new(&public, &[5; 126]).expect("valid")
    }

    fn checkpoint(key: &AuditKey, facility: &str) -> Vec<u8> {
        let length = u8::try_from(facility.len()).expect("short");
        [
            CHECKPOINT_PREFIX,
            &[1; KEY_ID_AT],
            &key.id(),
            &[length],
            facility.as_bytes(),
        ]
        .concat()
    }

    #[test]
    fn only_a_complete_checkpoint_that_names_the_key_is_one() {
        let key = key();
        let good = checkpoint(&key, "tkh-1001");
        assert!(is_checkpoint_of(&key, &good));
        assert!(is_checkpoint_of(&key, &checkpoint(&key, "")));
        for end in 0..good.len() {
            assert!(!is_checkpoint_of(&key, &good[..end]), "cut at {end}");
        }
        assert!(!is_checkpoint_of(&key, &[&good[..], b"x"].concat()));
        assert!(!is_checkpoint_of(&key, &checkpoint(&key, "a b")));
        assert!(!is_checkpoint_of(&key, &checkpoint(&key, &"a".repeat(65))));
        let mut other = good;
        other[CHECKPOINT_PREFIX.len() + KEY_ID_AT] ^= 1;
        assert!(!is_checkpoint_of(&key, &other));
    }

    #[test]
    fn an_audit_key_reads_back_and_is_no_facility_key() {
        let key = key();
        assert_eq!(
            AuditKey::from_bytes(&key.to_bytes()).expect("own output"),
            key
        );
        assert!(AuditKey::from_bytes(&key.to_bytes()[1..]).is_err());
        assert!(crate::KeyBlob::new(key.tpmt_public.to_vec(), key.private.to_vec()).is_err());
        let facility = crate::key_file::tests::key_with(1);
        assert!(AuditKey::new(facility.tpmt_public(), facility.private()).is_err());
    }
}
