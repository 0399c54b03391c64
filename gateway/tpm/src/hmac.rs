//! A key for HMAC-SHA256 that only the TPM has: what goes into it comes out as something that nobody can compute elsewhere.
//! It knows nothing of PINs, and keeps nothing.

use crate::{
    TpmVault, VaultError,
    chip::Chip,
    fault::Fault,
    key_file::sized,
    public_area::{self, Fields},
    template,
    vault::Secret,
};
use std::{fmt, sync::Arc};
use tss_esapi::{
    interface_types::algorithm::HashingAlgorithm, structures::MaxBuffer, traits::Marshall,
};

/// Marks our own container, so that no other file is mistaken for one.
const MAGIC: &[u8; 8] = b"RGPEPPR1";
const LONGEST_PART: usize = 1024;

/// What every message begins with, so that no other use of such a key gives the same result.
const PREFIX: &[u8] = b"renraku-gateway pepper v1\0";

/// The most bytes that can be peppered.
pub const MAX_PEPPERED: usize = 256;

/// A wrapped HMAC key. Useless without the TPM that made it; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct PepperKey {
    tpmt_public: Arc<[u8]>,
    private: Arc<[u8]>,
}

impl PepperKey {
    fn new(tpmt_public: &[u8], private: &[u8]) -> Result<Self, VaultError> {
        let malformed = |reason| VaultError::MalformedBlob { reason };
        if private.is_empty() || private.len() > LONGEST_PART {
            return Err(malformed("the private part has an impossible size"));
        }
        public_area::check_hmac_key(tpmt_public).map_err(malformed)?;
        Ok(Self {
            tpmt_public: tpmt_public.into(),
            private: private.into(),
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

    /// Reads what [`PepperKey::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`VaultError::MalformedBlob`]; whether the TPM opens it shows only when it is used.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VaultError> {
        let parts = || {
            let mut fields = Fields(bytes.strip_prefix(MAGIC)?);
            let parts = (fields.sized()?, fields.sized()?);
            fields.end()?;
            Some(parts)
        };
        let (public, private) = parts().ok_or(VaultError::MalformedBlob {
            reason: "not a pepper key of this product",
        })?;
        Self::new(public, private)
    }
}

impl fmt::Debug for PepperKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PepperKey").finish_non_exhaustive()
    }
}

/// The part of a vault that peppers. Blocks, as [`KeyVault`](crate::KeyVault) does.
pub trait PepperVault: Send + Sync + fmt::Debug {
    /// Makes a new key in the TPM, which it never leaves. Nothing is stored.
    ///
    /// # Errors
    /// See [`VaultError`].
    fn generate_pepper_key(&self) -> Result<PepperKey, VaultError>;

    /// HMAC-SHA256 under `key` over a fixed prefix and `message`: 32 bytes.
    ///
    /// # Errors
    /// [`VaultError::RefusedToSign`] for more than [`MAX_PEPPERED`] bytes; [`VaultError::KeyLost`] when the TPM was cleared
    /// or exchanged since the key was made.
    fn pepper(&self, key: &PepperKey, message: &Secret) -> Result<Secret, VaultError>;
}

impl PepperVault for TpmVault {
    fn generate_pepper_key(&self) -> Result<PepperKey, VaultError> {
        self.command(generate)
    }

    fn pepper(&self, key: &PepperKey, message: &Secret) -> Result<Secret, VaultError> {
        if message.as_bytes().len() > MAX_PEPPERED {
            return Err(VaultError::RefusedToSign);
        }
        // Copied into the thread, and wiped there.
        let message = Secret::new([PREFIX, message.as_bytes()].concat());
        let key = key.clone();
        self.command(move |chip| pepper(chip, &key, &message))
    }
}

fn generate(chip: &mut Chip) -> Result<PepperKey, Fault> {
    let template = template::hmac_key().map_err(Fault::tss("describe a key"))?;
    let srk = chip.srk;
    let created = chip.in_salted_session("create a key", |c| {
        c.create(srk, template, None, None, None, None)
    })?;
    let public = created
        .out_public
        .marshall()
        .map_err(Fault::tss("create a key"))?;
    Ok(PepperKey::new(&public, created.out_private.value())?)
}

fn pepper(chip: &mut Chip, key: &PepperKey, message: &Secret) -> Result<Secret, Fault> {
    let buffer = MaxBuffer::try_from(message.as_bytes().to_vec()).map_err(Fault::tss("pepper"))?;
    let handle = chip.load_wrapped(&key.tpmt_public, &key.private)?;
    // Both ways hidden on the bus: what goes in can be tried out against all PINs, what comes out is what is compared.
    let outcome = chip.in_salted_session("pepper", |c| {
        c.hmac(handle.into(), buffer, HashingAlgorithm::Sha256)
    });
    let flushed = chip.flush(handle);
    let digest = outcome?;
    flushed?;
    Ok(Secret::new(digest.value().to_vec()))
}
