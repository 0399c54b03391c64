//! The audit key's file, `<state>/tpm/audit.key`. It knows neither log nor checkpoint.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

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
        let stored = match fs::read(&self.path) {
            Ok(bytes) => AuditKey::from_bytes(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let key = match stored {
            Some(key) => key,
            None => {
                let made = vault.generate_audit_key()?;
                write(&self.path, &made.to_bytes()).map_err(failed)?;
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
        let _ = fs::remove_file(&self.path);
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}
