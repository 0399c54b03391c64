//! A body in anonymous memory, sealed before it is scanned, so that what was scanned is what is passed on.
//!
//! It does not touch the disk. It does not stop the kernel from swapping; the box has no swap.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Why a body could not be held.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Memory for it cannot be had.
    #[error("memory for a body cannot be had")]
    Create(#[source] io::Error),
    /// It cannot be written.
    #[error("a body cannot be written to memory")]
    Append(#[source] io::Error),
    /// It cannot be sealed.
    #[error("a body cannot be sealed")]
    Seal(#[source] io::Error),
}

/// A body that is still growing.
#[derive(Debug)]
pub struct Body {
    file: File,
    length: u64,
    limit: u64,
}

impl Body {
    /// An empty body that may grow to `limit` bytes.
    ///
    /// # Errors
    /// [`BodyError::Create`] when the process has too many descriptors or no memory.
    pub fn new(limit: u64) -> Result<Self, BodyError> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let descriptor =
            memfd_create(c"body", flags).map_err(|errno| BodyError::Create(errno.into()))?;
        Ok(Self {
            file: File::from(descriptor),
            length: 0,
            limit,
        })
    }

    /// Adds bytes. After an error the body is to be dropped.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] before anything beyond the limit is written; [`BodyError::Append`] when memory ends.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let length = self.length.saturating_add(bytes.len() as u64);
        if length > self.limit {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        self.file.write_all(bytes).map_err(BodyError::Append)?;
        self.length = length;
        Ok(())
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Makes it unchangeable, for this process too.
    ///
    /// # Errors
    /// [`BodyError::Seal`] when the kernel refuses, which it does only to a file that is mapped for writing.
    pub fn seal(self) -> Result<SealedBody, BodyError> {
        let seals = SealFlag::F_SEAL_WRITE
            | SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_SEAL;
        fcntl(&self.file, FcntlArg::F_ADD_SEALS(seals))
            .map_err(|errno| BodyError::Seal(errno.into()))?;
        Ok(SealedBody {
            file: self.file,
            length: self.length,
        })
    }
}

/// A body that nobody can change any more, the scanner included.
#[derive(Debug)]
pub struct SealedBody {
    file: File,
    length: u64,
}

impl SealedBody {
    /// Holds a whole body at once.
    ///
    /// # Errors
    /// As [`Body`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BodyError> {
        let mut body = Body::new(bytes.len() as u64)?;
        body.append(bytes)?;
        body.seal()
    }

    /// So many zero bytes, which take no memory: for showing that a limit holds.
    pub(crate) fn zeros(length: u64) -> Result<Self, BodyError> {
        let body = Body {
            length,
            ..Body::new(length)?
        };
        body.file.set_len(length).map_err(BodyError::Append)?;
        body.seal()
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads from `offset`; 0 at the end. By position, because the scanner shares the descriptor's own offset.
    ///
    /// # Errors
    /// As `pread(2)`; never for lack of a device, since the bytes are in memory.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl AsFd for SealedBody {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_body_cannot_be_changed_by_anyone_who_holds_its_descriptor() {
        let sealed = SealedBody::from_bytes(b"as scanned").unwrap();
        let mut other = File::from(sealed.as_fd().try_clone_to_owned().unwrap());
        assert!(other.write_all(b"changed").is_err());
        assert!(other.set_len(0).is_err());
        assert!(other.set_len(100).is_err());
        let mut read = [0; 32];
        assert_eq!(sealed.read_at(&mut read, 3).unwrap(), 7);
        assert_eq!(&read[..7], b"scanned");
        assert_eq!(sealed.read_at(&mut read, 10).unwrap(), 0);
    }

    #[test]
    fn a_body_over_its_limit_is_refused_before_it_is_held() {
        let mut body = Body::new(10).unwrap();
        body.append(b"12345").unwrap();
        assert!(matches!(
            body.append(b"678901"),
            Err(BodyError::TooLarge { limit: 10 })
        ));
        assert_eq!(body.len(), 5);
        body.append(b"67890").unwrap();
        assert_eq!(body.seal().unwrap().len(), 10);
    }
}
