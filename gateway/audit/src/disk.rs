//! The few things done to files, each one a place where the power can go; the crash tests cut it at every one. It decides
//! nothing.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Access to the disk. In the product a unit value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    #[cfg(test)]
    pub(crate) fault: std::sync::Arc<std::sync::Mutex<tests::Fault>>,
}

impl Disk {
    /// Makes a directory that only its owner may enter.
    pub(crate) fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    }

    /// Opens a file for reading and writing; `new`: it must not be there.
    pub(crate) fn open(&self, path: &Path, new: bool) -> io::Result<File> {
        self.step()?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .create_new(new)
            .truncate(false)
            .mode(0o600)
            .open(path)
    }

    pub(crate) fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        {
            let dead = self.is_dead();
            if let Err(error) = self.step() {
                // What a power cut or a full disk leaves of a write is any part of it.
                if !dead {
                    let _ = file.write_all_at(&bytes[..bytes.len() / 2], at);
                }
                return Err(error);
            }
        }
        file.write_all_at(bytes, at)
    }

    pub(crate) fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        self.step()?;
        file.set_len(length)
    }

    pub(crate) fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        file.sync_data()
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        File::open(path)?.sync_all()
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        fs::rename(from, to)
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the tests' disk counts its steps here and fails"
    )]
    const fn step(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What goes wrong, and when.
    #[derive(Debug, Default)]
    pub(crate) enum Fault {
        #[default]
        None,
        /// The power goes after so many steps; nothing works afterwards.
        PowerCut(u32),
        /// No space left: writing fails, everything else works.
        Full,
        /// The power is gone.
        Dead,
    }

    impl Disk {
        pub(crate) fn break_with(&self, fault: Fault) {
            *self.fault.lock().unwrap() = fault;
        }

        pub(super) fn is_dead(&self) -> bool {
            matches!(*self.fault.lock().unwrap(), Fault::Dead)
        }

        pub(super) fn step(&self) -> io::Result<()> {
            match &mut *self.fault.lock().unwrap() {
                Fault::None => Ok(()),
                Fault::Dead => Err(io::Error::other("the power is gone")),
                fault @ Fault::PowerCut(0) => {
                    *fault = Fault::Dead;
                    Err(io::Error::other("the power is gone"))
                }
                Fault::PowerCut(left) => {
                    *left -= 1;
                    Ok(())
                }
                Fault::Full => Err(io::ErrorKind::StorageFull.into()),
            }
        }
    }
}
