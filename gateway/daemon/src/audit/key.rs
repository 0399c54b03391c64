//! The audit key's file, `<state>/tpm/audit.key`. It knows neither log nor checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use gateway_provisioning::durable;
use gateway_tpm::{AuditKey, CheckpointVault};

use super::CheckpointError;

/// The key as it was read or made, and where it is kept.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    key: Option<AuditKey>,
}

impl KeyFile {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("tpm").join("audit.key"),
            key: None,
        }
    }

    /// The key; made and kept when there is none. A damaged file is replaced: whoever can damage it can delete it.
    pub(super) fn get(&mut self, vault: &dyn CheckpointVault) -> Result<AuditKey, CheckpointError> {
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        let failed = |error| CheckpointError::File(self.path.clone(), error);
        let stored = match durable::read(&self.path) {
            Ok(bytes) => bytes.and_then(|bytes| AuditKey::from_bytes(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => None,
            Err(error) => return Err(failed(error)),
        };
        let key = match stored {
            Some(key) => key,
            None => {
                let made = vault.generate_audit_key()?;
                if let Some(directory) = self.path.parent() {
                    durable::create_directory(directory).map_err(failed)?;
                }
                durable::write(&self.path, &made.to_bytes()).map_err(failed)?;
                tracing::info!(
                    event = "audit-key",
                    "a key for the audit log was made in the TPM"
                );
                made
            }
        };
        self.key = Some(key.clone());
        Ok(key)
    }

    /// The TPM no longer opens it.
    pub(super) fn forget(&mut self) {
        self.key = None;
        let _ = std::fs::remove_file(&self.path);
    }
}
