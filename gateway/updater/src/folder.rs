//! One directory, operation by operation: the kernels in the firmware's partition, and the updater's own record.
//!
//! A power cut may come before or after any operation, so each is a method of its own that tests can record. It knows neither which
//! file system is below nor in which order the operations must come; whoever calls does.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};

/// A directory without directories in it.
pub trait Folder: Debug {
    /// The names of its plain files, sorted.
    ///
    /// # Errors
    /// As the system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// The content of a file of at most `limit` bytes, from the medium where that can be had; `None` only when there is none of that name.
    ///
    /// # Errors
    /// When there is one and it cannot be read; `FileTooLarge`.
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>>;

    /// Makes a file or empties it, and fills it.
    ///
    /// # Errors
    /// As the system says.
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Waits until a file's content, and its length in its directory entry, are on the medium.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of whatever had it.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; not an error when there is none.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Waits until the names are on the medium.
    ///
    /// # Errors
    /// As the system says.
    fn sync_names(&mut self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`, which must be there.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !std::fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    fn at(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        Ok(self.path.join(name))
    }
}

impl Folder for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(self.at(name)?);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // What is not on the medium yet stays in memory; the rest is read from the medium again.
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(self.at(name)?)?
            .write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        File::open(self.at(name)?)?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.at(from)?, self.at(to)?)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.at(name)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_directory() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Directory::open(place.path()).unwrap();
        for name in ["", "../x", ".x", "a/b", "a\0b"] {
            assert!(folder.write(name, b"x").is_err(), "{name:?}");
        }
        std::os::unix::fs::symlink("/etc/passwd", place.path().join("link")).unwrap();
        assert!(folder.read("link", 1 << 20).is_err());
    }

    #[test]
    fn a_file_that_is_too_large_is_not_a_missing_file() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Directory::open(place.path()).unwrap();
        assert_eq!(folder.read("a", 3).unwrap(), None);
        folder.write("a", b"1234").unwrap();
        folder.sync("a").unwrap();
        folder.sync_names().unwrap();
        assert!(folder.read("a", 3).is_err());
        assert_eq!(folder.read("a", 4).unwrap().unwrap(), b"1234");
        folder.rename("a", "b").unwrap();
        assert_eq!(folder.names().unwrap(), ["b"]);
        folder.remove("b").unwrap();
        folder.remove("b").unwrap();
    }
}
