//! What has been accepted, on disk: written so that a power cut at any moment leaves the old file or the new one.
//!
//! It checks no signature; whoever reads does. It never says "there is nothing" when something is there and cannot be read:
//! with the floor of versions forgotten, an old and forged state of the world could be sold as new.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Refused;
use crate::names::check_metadata_name;

/// The largest file that is read back, in bytes; larger than any that is accepted.
const LARGEST: u64 = 16 * 1024 * 1024;

/// One directory, operation by operation. A power cut may come before or after any of them, so each is a method of its own.
pub trait Disk: Send + Sync + Debug {
    /// The content of a file; `None` only when there is no file of that name.
    ///
    /// # Errors
    /// When there is one and it cannot be read.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes a file or empties it, and fills it.
    ///
    /// # Errors
    /// As the system says.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Waits until the file's content is on the disk.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of whatever had it.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; not an error when there is none.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Waits until the names are on the disk.
    ///
    /// # Errors
    /// As the system says.
    fn sync_names(&self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes the directory, readable by its owner only, when it is not there.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        if !path.is_dir() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)?;
            if let Some(parent) = path.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Disk for Directory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.join(name))?
            .write_all(bytes)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.path.join(name))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// The accepted metadata, by file name.
#[derive(Clone, Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
}

impl Store {
    /// The store in a directory, which is made when it is not there.
    ///
    /// # Errors
    /// [`Refused::Disk`] when the directory cannot be made.
    pub fn open(path: &Path) -> Result<Self, Refused> {
        let directory = Directory::open(path).map_err(|source| Refused::Disk {
            file: "the store".to_owned(),
            source,
        })?;
        Ok(Self::on(Arc::new(directory)))
    }

    /// The store on any disk; for tests that cut the power.
    #[must_use]
    pub fn on(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// A stored file; `None` only when nothing was ever stored under that name.
    ///
    /// # Errors
    /// [`Refused::TornStore`] when it is there and cannot be read.
    pub fn read(&self, file: &str) -> Result<Option<Vec<u8>>, Refused> {
        let torn = |source| Refused::TornStore {
            file: file.to_owned(),
            source,
        };
        check_metadata_name(file).map_err(|_| torn(None))?;
        match self.disk.read(file) {
            Ok(bytes) => Ok(bytes),
            Err(source) => Err(torn(Some(source))),
        }
    }

    /// Stores a file. When this returns, a power cut no longer undoes it; before, the old file is there, whole.
    pub(crate) fn put(&self, file: &str, bytes: &[u8]) -> Result<(), Refused> {
        let failed = |source| Refused::Disk {
            file: file.to_owned(),
            source,
        };
        check_metadata_name(file).map_err(|_| failed(io::ErrorKind::InvalidFilename.into()))?;
        let fresh = format!("{file}.tmp");
        self.disk
            .write(&fresh, bytes)
            .and_then(|()| self.disk.sync(&fresh))
            .and_then(|()| self.disk.rename(&fresh, file))
            .and_then(|()| self.disk.sync_names())
            .map_err(failed)
    }

    /// Forgets a file.
    pub(crate) fn remove(&self, file: &str) -> Result<(), Refused> {
        self.disk
            .remove(file)
            .and_then(|()| self.disk.sync_names())
            .map_err(|source| Refused::Disk {
                file: file.to_owned(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_not_a_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("tuf")).unwrap();
        assert!(store.read("timestamp.json").unwrap().is_none());
        // A directory in its place is the one read error that also root meets.
        std::fs::create_dir(folder.path().join("tuf/timestamp.json")).unwrap();
        let refused = store.read("timestamp.json").unwrap_err();
        assert_eq!(refused.id(), "TUF-STORE");
    }

    #[test]
    fn the_newest_content_is_there_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.put("root.json", b"one").unwrap();
        store.put("root.json", b"two").unwrap();
        assert_eq!(store.read("root.json").unwrap().unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        store.remove("root.json").unwrap();
        assert!(store.read("root.json").unwrap().is_none());
    }

    #[test]
    fn a_store_cannot_be_left_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(store.put("../root.json", b"x").is_err());
        assert!(store.read("../root.json").is_err());
    }
}
