//! The partitions of a slot, operation by operation.
//!
//! A power cut may come before, in or after any of them, so each is a method of its own that tests can record. It decides nothing about
//! what is written where, and finds no partition by itself.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};

/// A multiple of every sector size there is, as direct reads need it.
const ALIGNED: usize = 4096;

/// A partition, or what stands for one.
pub trait Device: Debug {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the system says.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// As the system says; `UnexpectedEof` beyond the end.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at `offset`. They may be lost, in part or whole, until [`Self::flush`] returns.
    ///
    /// # Errors
    /// As the system says.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Waits until everything written is on the medium.
    ///
    /// # Errors
    /// As the system says.
    fn flush(&mut self) -> io::Result<()>;

    /// Fills `buffer` from the medium itself, past the system's memory wherever the device allows that.
    ///
    /// # Errors
    /// As the system says.
    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A block device, or a plain file in its place.
#[derive(Debug)]
pub struct Partition {
    file: File,
    /// The same, read past the page cache; `None` where the file system cannot.
    direct: Option<File>,
}

impl Partition {
    /// Opens a partition for reading, and for writing when `writable`.
    ///
    /// # Errors
    /// As the system says; `InvalidInput` when the path is neither a block device nor a plain file.
    pub fn open(path: &Path, writable: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(writable);
        // O_EXCL without O_CREAT: a block device that is mounted or under a mapping is refused (open(2)).
        let exclusive = if writable {
            OFlag::O_EXCL
        } else {
            OFlag::empty()
        };
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if kind.is_block_device() {
            options.custom_flags(exclusive.bits());
        }
        let file = options.open(path)?;
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_DIRECT.bits())
            .open(path)
            .ok();
        Ok(Self { file, direct })
    }
}

impl Device for Partition {
    fn length(&self) -> io::Result<u64> {
        use std::io::{Seek as _, SeekFrom};
        // The length that metadata gives is 0 for a block device.
        (&self.file).seek(SeekFrom::End(0))
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(direct) = &self.direct
            && read_directly(direct, offset, buffer).is_ok()
        {
            return Ok(());
        }
        posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        self.read(offset, buffer)
    }
}

/// One direct read: offset, length and memory at multiples of [`ALIGNED`].
fn read_directly(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let length = buffer.len().next_multiple_of(ALIGNED);
    let mut room = vec![0; length + ALIGNED];
    let skip = room.as_ptr().align_offset(ALIGNED);
    let aligned = room
        .get_mut(skip..skip + length)
        .ok_or(io::ErrorKind::Unsupported)?;
    let mut have = 0;
    while have < buffer.len() {
        let count = file.read_at(&mut aligned[have..], offset + have as u64)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        have += count;
    }
    buffer.copy_from_slice(&aligned[..buffer.len()]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_past_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partition");
        std::fs::write(&path, vec![0; 200_000]).unwrap();
        let mut partition = Partition::open(&path, true).unwrap();
        assert_eq!(partition.length().unwrap(), 200_000);
        partition.write(65_536, &[7; 70_000]).unwrap();
        partition.flush().unwrap();
        let mut back = vec![0; 65_536];
        partition.read_back(65_536, &mut back).unwrap();
        assert_eq!(back, [7; 65_536]);
        // The end of a file is no multiple of a sector.
        let mut end = vec![1; 200_000 - 196_608];
        partition.read_back(196_608, &mut end).unwrap();
        assert_eq!(end, [0; 200_000 - 196_608]);
        assert!(partition.read_back(262_144, &mut back).is_err());
    }

    #[test]
    fn a_pipe_is_no_partition() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Partition::open(&path, false).is_err());
        assert!(Partition::open(&folder.path().join("none"), true).is_err());
    }
}
