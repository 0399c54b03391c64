//! Remembers the SRK's Name across starts (`<state_dir>/tpm/srk.name`), so that a substituted storage key is noticed; it
//! does not talk to the TPM.

use crate::VaultError;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A TPM Name of a SHA-256 object: two octets of algorithm, then the digest.
pub(crate) type SrkName = [u8; 34];

fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("tpm")
}

/// The pin file.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    directory(state_dir).join("srk.name")
}

/// The pinned Name, or `None` on a box that has never opened its TPM.
pub(crate) fn read(state_dir: &Path) -> Result<Option<SrkName>, VaultError> {
    let path = path(state_dir);
    let failed = |source: io::Error| VaultError::StateFile {
        action: "read",
        path: path.clone(),
        source: Arc::new(source),
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // A damaged pin must not become "no pin": that would trust whatever SRK is there now.
    from_hex(text.trim_end())
        .map(Some)
        .ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}

/// Pins `name` durably: written, synchronised, renamed into place, directory synchronised.
pub(crate) fn write(state_dir: &Path, name: &SrkName) -> Result<(), VaultError> {
    let text: String = name
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .chain(["\n".to_owned()])
        .collect();
    replace_durably(&path(state_dir), text.as_bytes()).map_err(|source| VaultError::StateFile {
        action: "write",
        path: path(state_dir),
        source: Arc::new(source),
    })
}

/// Forgets the pinned SRK, so that the next [`crate::TpmVault::open`] trusts the TPM it finds.
///
/// Call it only when the person in charge sets the box up anew after [`VaultError::KeyLost`] or
/// [`VaultError::SrkChanged`]; keys and sealed secrets made before do not come back. Succeeds when nothing was pinned.
///
/// # Errors
///
/// [`VaultError::StateFile`] when the file cannot be removed.
pub fn forget_srk(state_dir: &Path) -> Result<(), VaultError> {
    let path = path(state_dir);
    let removed = match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other,
    };
    removed
        .and_then(|()| File::open(directory(state_dir))?.sync_all())
        .map_err(|source| VaultError::StateFile {
            action: "remove",
            path,
            source: Arc::new(source),
        })
}

/// Replaces a small file so that after a power cut either the old or the new contents are there. Mode 0600, in a
/// directory of mode 0700 that is made when missing.
pub(crate) fn replace_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
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
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}

fn from_hex(text: &str) -> Option<SrkName> {
    let mut name = [0; 34];
    if text.len() != 2 * name.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in name.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pinned_name_reads_back_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(read(dir.path()).expect("nothing yet"), None);
        write(dir.path(), &[0xab; 34]).expect("pin");
        assert_eq!(read(dir.path()).expect("pinned"), Some([0xab; 34]));
        let mode = fs::metadata(path(dir.path()))
            .expect("file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        forget_srk(dir.path()).expect("forget");
        forget_srk(dir.path()).expect("forget twice");
        assert_eq!(read(dir.path()).expect("nothing again"), None);
    }

    #[test]
    fn a_damaged_pin_is_an_error_and_not_an_absent_pin() {
        let dir = tempfile::tempdir().expect("dir");
        write(dir.path(), &[0xab; 34]).expect("pin");
        for damage in ["", "zz", &"ü".repeat(34), &"+f".repeat(34)] {
            fs::write(path(dir.path()), damage).expect("damage");
            let outcome = read(dir.path());
            assert!(
                matches!(outcome, Err(VaultError::StateFile { .. })),
                "{damage:?} gave {outcome:?}"
            );
        }
    }
}
