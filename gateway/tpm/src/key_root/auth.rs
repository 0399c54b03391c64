//! The value that opens the indices of key roots, in a file of the state directory. It talks to no TPM.

use super::KEY;
use crate::{VaultError, fault::Fault, pin};
use aws_lc_rs::rand;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tss_esapi::structures::Auth;
use zeroize::Zeroizing;

/// What opens our indices: random, in a file of the state directory. It keeps out whoever has the TPM but not that file;
/// against somebody with both it protects nothing.
pub(super) struct IndexAuth(Zeroizing<[u8; KEY]>);

impl IndexAuth {
    pub(super) fn value(&self) -> Result<Auth, Fault> {
        Auth::try_from(self.0.as_slice()).map_err(Fault::tss("set an authorisation value"))
    }
}

fn auth_path(state_dir: &Path) -> PathBuf {
    state_dir.join("tpm").join("root.auth")
}

pub(super) fn read_auth(state_dir: &Path) -> Result<Option<IndexAuth>, VaultError> {
    let path = auth_path(state_dir);
    match std::fs::read(&path).map(Zeroizing::new) {
        Ok(bytes) => {
            let mut auth = IndexAuth(Zeroizing::new([0; KEY]));
            // A file of another length was damaged; then the roots are lost, and new ones are made.
            Ok((bytes.len() == KEY).then(|| {
                auth.0.copy_from_slice(&bytes);
                auth
            }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", path, error)),
    }
}

pub(super) fn new_auth(state_dir: &Path) -> Result<IndexAuth, VaultError> {
    let mut auth = IndexAuth(Zeroizing::new([0; KEY]));
    rand::fill(auth.0.as_mut_slice()).map_err(|_| VaultError::Unavailable)?;
    let path = auth_path(state_dir);
    // Durable before an index is defined with it.
    pin::replace_durably(&path, auth.0.as_slice())
        .map_err(|error| file_error("write", path, error))?;
    Ok(auth)
}

/// The roots are gone; so is what opened them.
pub(crate) fn forget_auth(state_dir: &Path) -> Result<(), VaultError> {
    let path = auth_path(state_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_error("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn file_error(action: &'static str, path: PathBuf, error: io::Error) -> VaultError {
    VaultError::StateFile {
        action,
        path,
        source: Arc::new(error),
    }
}
