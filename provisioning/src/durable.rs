//! Writing, reading and erasing small files so that a power cut leaves either the old or the new content.
//!
//! It knows nothing of what the files mean.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The longest file that is read, in bytes. Everything kept here is far smaller.
const MAX_FILE: u64 = 1024 * 1024;

/// Creates a directory and its parents, for the owner only.
///
/// # Errors
/// When the disk refuses.
///
/// # Errors
/// The system call that failed.
pub fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Replaces the content of `path`. When this returns, the new content survives a power cut; when the power is cut
/// before, the old content is still there.
///
/// # Errors
/// When the disk refuses or is full; the old content is then still there.
///
/// # Errors
/// The first system call that failed.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = parent(path)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(content)?;
    // Without this the rename could reach the disk before the content does.
    file.sync_all()?;
    fs::rename(temporary, path)?;
    sync_directory(directory)
}

/// The content of `path`, or `None` when there is no such file.
///
/// # Errors
/// When it cannot be read or is longer than 1 MiB.
///
/// # Errors
/// The system call that failed; a file that is too long is refused.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(Some(content))
}

/// Overwrites and removes `path`; true when there was something to remove.
///
/// Overwriting is best effort only (flash keeps old blocks); what really makes a wrapped key useless is the TPM.
///
/// # Errors
/// When the disk refuses.
pub fn erase(path: &Path) -> io::Result<bool> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.metadata()?.len().min(MAX_FILE)).unwrap_or(0);
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    sync_directory(parent(path)?)?;
    Ok(true)
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inner/file");
        create_directory(path.parent().unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(erase(&path).unwrap());
        assert!(!erase(&path).unwrap());
    }

    #[test]
    fn what_a_cut_left_half_written_is_neither_read_nor_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, b"old").unwrap();
        fs::write(directory.path().join("file.new"), b"hal").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"old"[..]));
        write(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"new"[..]));
    }
}
