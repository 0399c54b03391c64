//! Files, directories and links that survive a power cut whole or not at all.
//!
//! It knows nothing of what they mean.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

/// A file that clamd, another user, reads, whatever this process's umask.
const READABLE: u32 = 0o644;

/// Creates or replaces a file and waits until it is on the disk. The name is not yet durable: see [`sync`].
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Replaces a file at once: after a power cut it has the old or the new content.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    write(&beside, content)?;
    fs::rename(beside, path)?;
    sync(parent(path)?)
}

/// Points a symbolic link elsewhere at once.
pub(super) fn point(link: &Path, target: &Path) -> io::Result<()> {
    let beside = beside(link);
    remove(&beside)?;
    symlink(target, &beside)?;
    fs::rename(beside, link)?;
    sync(parent(link)?)
}

/// Copies a file and says what was copied: its length and SHA-256 in hexadecimal digits.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<(u64, String)> {
    let mut source = File::open(from)?;
    let mut copy = create(to)?;
    let read = read_through(&mut source, |bytes| copy.write_all(bytes))?;
    copy.sync_all()?;
    Ok(read)
}

/// The length and SHA-256 of a file.
pub(super) fn measure(path: &Path) -> io::Result<(u64, String)> {
    read_through(&mut File::open(path)?, |_| Ok(()))
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

/// Removes a directory with all it holds, if it is there.
pub(super) fn remove_directory(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_dir_all(path))
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The SHA-256 of some bytes in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Lower-case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(READABLE))?;
    Ok(file)
}

fn read_through(
    source: &mut File,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<(u64, String)> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut length = 0;
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Ok((length, hexadecimal(hash.finish().as_ref())));
        }
        hash.update(&buffer[..read]);
        sink(&buffer[..read])?;
        length += read as u64;
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
