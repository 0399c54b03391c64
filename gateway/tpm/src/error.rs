//! What can go wrong in the vault, told apart by what the caller must do next; it does not hold texts for people.

use std::{io, path::PathBuf, sync::Arc};

/// Why a vault command did not succeed.
///
/// [`VaultError::is_permanent`] tells "never try again with this key" from "try later".
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The TPM no longer opens this key: it was cleared, exchanged, or the key file is damaged. Enrol again.
    #[error("the key no longer loads in this TPM; enrol again")]
    KeyLost,
    /// The TPM could not be reached within the deadline.
    #[error("the TPM cannot be reached")]
    Unavailable,
    /// The command's deadline passed, in the queue or while the TPM was working.
    #[error("the TPM did not answer within the deadline")]
    Deadline,
    /// The queue to the TPM is full.
    #[error("too many TPM commands are waiting")]
    Busy,
    /// The TPM is in dictionary-attack lockout for the object used. Our own keys are exempt (`noDA`), so this is seen
    /// only with hierarchies; it ends by itself after the TPM's recovery time and is never retried here.
    #[error("the TPM is in dictionary-attack lockout")]
    Locked,
    /// The bytes are neither a TLS 1.3 client CertificateVerify nor a certification request for this key.
    #[error("these bytes are not something this key signs")]
    RefusedToSign,
    /// The TPM is a software one and the configuration does not allow that.
    #[error("the TPM ({manufacturer}) is a software TPM and allow_software_tpm is not set")]
    SoftwareTpm {
        /// What the TPM says of itself.
        manufacturer: String,
    },
    /// The object at the SRK's handle is not the one this installation pinned.
    #[error("the storage root key is not the one that was pinned")]
    SrkChanged,
    /// Owner or lockout authorisation was set by someone else; an operator must give it up or clear the TPM.
    #[error("the TPM's owner or lockout authorisation is set by someone else")]
    OwnerAuth,
    /// `TPM2_Clear` is disabled ([`crate::TpmVault::set_clear_disabled`]).
    #[error("TPM2_Clear is disabled in this TPM")]
    ClearDisabled,
    /// The configured TCTI string is not one of the two accepted forms.
    #[error("the TCTI string {given:?} is not accepted: {reason}")]
    Tcti {
        /// The string as configured.
        given: String,
        /// Why it is refused and what to write.
        reason: &'static str,
    },
    /// A key file or sealed blob is malformed, or describes an object this product does not use.
    #[error("the key blob is malformed: {reason}")]
    MalformedBlob {
        /// The first thing found wrong.
        reason: &'static str,
    },
    /// A key offered for import is not a valid P-256 key pair.
    #[error("the key to import is not a valid P-256 key pair")]
    MalformedImport,
    /// A secret is empty or longer than [`crate::MAX_SECRET`].
    #[error("a secret of {length} bytes cannot be sealed (1 to {max} can)", max = crate::MAX_SECRET)]
    SecretLength {
        /// Its length in bytes.
        length: usize,
    },
    /// The file that pins the SRK's Name (or the attestation key) could not be read or written.
    #[error("cannot {action} {}", path.display())]
    StateFile {
        /// "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: Arc<io::Error>,
    },
    /// The thread that owns the TPM could not be started, or has ended.
    #[error("the TPM thread is not running")]
    ThreadGone,
    /// The TPM's NV memory has no room for the root of the store's keys.
    #[error("the TPM has no room for the root of keys")]
    NoNvSpace,
    /// Any other answer of the TPM or its software stack.
    #[error("the TPM refused to {action} (code {code:#x})")]
    Tpm {
        /// The command, as a verb.
        action: &'static str,
        /// TSS response code, 0 when the wrapper library itself refused.
        code: u32,
        /// The stack's own words.
        #[source]
        source: tss_esapi::Error,
    },
}

impl VaultError {
    /// True when no repetition can help with this key or this TPM: the person in charge has to act.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::KeyLost
            | Self::SrkChanged
            | Self::SoftwareTpm { .. }
            | Self::OwnerAuth
            | Self::ClearDisabled
            | Self::NoNvSpace
            | Self::RefusedToSign
            | Self::Tcti { .. }
            | Self::MalformedBlob { .. }
            | Self::MalformedImport
            | Self::SecretLength { .. } => true,
            Self::Unavailable
            | Self::Deadline
            | Self::Busy
            | Self::Locked
            | Self::StateFile { .. }
            | Self::ThreadGone
            | Self::Tpm { .. } => false,
        }
    }
}
