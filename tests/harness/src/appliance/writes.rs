//! What a box wrote to its disk, in order: QEMU's `blklogwrites` keeps it in the format of the kernel's dm-log-writes
//! (Documentation/admin-guide/device-mapper/log-writes.rst), and a power cut anywhere in it can be made afterwards.
//!
//! Flushes are the drive's: what was written before one is on the medium, what came after it may or may not be, in any order. It
//! does not know what is on the disk.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::{Error, Result};

const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One write: where on the disk, and where in the log its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// First byte on the disk.
    pub at: u64,
    /// How many bytes.
    pub length: u64,
    in_log: u64,
}

/// The writes between two flushes.
pub type Stretch = Vec<Write>;

/// A log that has been read.
#[derive(Debug)]
pub struct Writes {
    log: File,
    stretches: Vec<Stretch>,
}

impl Writes {
    /// Reads what QEMU has written to `log`.
    ///
    /// # Errors
    /// When it cannot be read or is no such log.
    pub fn read(log: &Path) -> Result<Self> {
        let unusable =
            |error: std::io::Error| Error::new(format!("{}", log.display())).because(error);
        let mut file = File::open(log).map_err(unusable)?;
        let end = file.metadata().map_err(unusable)?.len();
        let mut header = [0; 32];
        file.read_exact(&mut header).map_err(unusable)?;
        if number(&header, 0) != MAGIC {
            return Err(Error::new(format!("{} is no log of writes", log.display())));
        }
        let entries = number(&header, 2);
        let mut stretches = vec![Stretch::new()];
        let mut position = SECTOR;
        for _ in 0..entries {
            if position + SECTOR > end {
                return Err(Error::new(format!("{} ends in an entry", log.display())));
            }
            let mut entry = [0; 32];
            file.seek(SeekFrom::Start(position)).map_err(unusable)?;
            file.read_exact(&mut entry).map_err(unusable)?;
            let (sector, sectors, flags) =
                (number(&entry, 0), number(&entry, 1), number(&entry, 2));
            let write = Write {
                at: sector * SECTOR,
                length: sectors * SECTOR,
                in_log: position + SECTOR,
            };
            let has_data = flags & DISCARD == 0 && sectors > 0;
            position += SECTOR + if has_data { write.length } else { 0 };
            if has_data && let Some(stretch) = stretches.last_mut() {
                stretch.push(write);
            }
            // A write that was forced out says nothing of those before it; the box's drive has no such writes.
            if flags & FUA != 0 {
                return Err(Error::new(
                    "the box forces single writes out; this is not modelled",
                ));
            }
            if flags & FLUSH != 0 {
                stretches.push(Stretch::new());
            }
        }
        stretches.retain(|stretch| !stretch.is_empty());
        Ok(Self {
            log: file,
            stretches,
        })
    }

    /// The writes, flush by flush.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// The bytes of a write.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn bytes(&self, write: &Write) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(write.length).unwrap_or(0)];
        self.log
            .read_exact_at(&mut bytes, write.in_log)
            .map_err(|error| Error::new("the log of writes cannot be read").because(error))?;
        Ok(bytes)
    }
}

/// The `index`th little-endian number of eight bytes.
fn number(bytes: &[u8], index: usize) -> u64 {
    let one = bytes[index * 8..index * 8 + 8].iter().rev();
    one.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn entry(sector: u64, sectors: u64, flags: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = [sector, sectors, flags, 0]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        bytes.resize(512, 0);
        bytes
    }

    fn log(entries: &[Vec<u8>], count: u64) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut header: Vec<u8> = [MAGIC, 1, count]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        header.extend(512_u32.to_le_bytes());
        header.resize(512, 0);
        file.write_all(&header).unwrap();
        for bytes in entries {
            file.write_all(bytes).unwrap();
        }
        file
    }

    #[test]
    fn writes_are_parted_by_flushes_and_keep_their_bytes() {
        let data = |byte: u8| vec![byte; 512];
        let file = log(
            &[
                entry(8, 1, 0),
                data(1),
                entry(9, 1, 0),
                data(2),
                entry(0, 0, FLUSH),
                entry(8, 1, 0),
                data(3),
            ],
            4,
        );
        let writes = Writes::read(file.path()).unwrap();
        let places: Vec<Vec<u64>> = writes
            .stretches()
            .iter()
            .map(|stretch| stretch.iter().map(|write| write.at / 512).collect())
            .collect();
        assert_eq!(places, [vec![8, 9], vec![8]]);
        assert_eq!(writes.bytes(&writes.stretches()[1][0]).unwrap(), data(3));
    }

    #[test]
    fn what_is_no_log_or_ends_early_is_refused() {
        let mut other = tempfile::NamedTempFile::new().unwrap();
        other.write_all(&[7; 512]).unwrap();
        assert!(Writes::read(other.path()).is_err());
        assert!(Writes::read(log(&[entry(8, 1, 0)], 2).path()).is_err());
        assert!(Writes::read(log(&[entry(8, 1, FUA), vec![0; 512]], 1).path()).is_err());
    }
}
