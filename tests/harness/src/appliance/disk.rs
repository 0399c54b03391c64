//! A box's disk, seen from outside while the box is off: partitions, single bits, and the firmware's partition.
//!
//! It understands the partition table (UEFI 2.10 §5.3) as far as the image uses it; vfat is mtools' business.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{Appliance, tool};
use crate::{Error, Result};

const SECTOR: u64 = 512;

/// Bytes in front of the data of a LUKS2 partition, with every key slot.
const HEADER: usize = 16 << 20;

/// Where the kernels are on the firmware's partition.
const KERNELS: &str = "::EFI/Linux";

/// The bytes of the partition with this name.
///
/// # Errors
/// When the disk cannot be read or has no such partition.
pub fn partition(disk: &Path, name: &str) -> Result<Range<u64>> {
    let unusable = |error: std::io::Error| Error::new(format!("{}", disk.display())).because(error);
    let mut file = fs::File::open(disk).map_err(unusable)?;
    let mut table = vec![0; 128 * 16];
    file.seek(SeekFrom::Start(2 * SECTOR)).map_err(unusable)?;
    file.read_exact(&mut table).map_err(unusable)?;
    let wanted: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let entry = table
        .chunks_exact(128)
        .find(|entry| entry[56..].starts_with(&wanted))
        .ok_or_else(|| Error::new(format!("{} has no partition {name}", disk.display())))?;
    let number = |at: usize| {
        let bytes = entry[at..at + 8].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    Ok(number(32) * SECTOR..(number(40) + 1) * SECTOR)
}

/// Turns one bit of the byte at `at` over; gives the byte as it was.
///
/// # Errors
/// When the disk cannot be read or written.
pub fn flip(disk: &Path, at: u64) -> Result<u8> {
    let unusable = |error: std::io::Error| Error::new(format!("{}", disk.display())).because(error);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk)
        .map_err(unusable)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).map_err(unusable)?;
    file.read_exact(&mut byte).map_err(unusable)?;
    file.seek(SeekFrom::Start(at)).map_err(unusable)?;
    file.write_all(&[byte[0] ^ 1]).map_err(unusable)?;
    file.sync_all().map_err(unusable)?;
    Ok(byte[0])
}

impl Appliance {
    /// The names of the kernels on the firmware's partition, in the order of the alphabet. The box must be off.
    ///
    /// # Errors
    /// When the partition cannot be read.
    pub fn kernels(&self) -> Result<Vec<String>> {
        let listed = self.mtools("mdir", &["-b"], &[KERNELS])?;
        let mut names: Vec<String> = listed
            .lines()
            .filter_map(|line| line.rsplit_once('/'))
            .map(|(_, name)| name.to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The content of a kernel on the firmware's partition.
    ///
    /// # Errors
    /// When it is not there.
    pub fn kernel(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.exchange();
        let _ = fs::remove_file(&file);
        let kernel = format!("{KERNELS}/{name}");
        self.mtools("mcopy", &[], &[&kernel, &self.inside("exchange")])?;
        fs::read(&file).map_err(|error| Error::new(name.to_owned()).because(error))
    }

    /// Writes a kernel over the one that is there.
    ///
    /// # Errors
    /// When the partition cannot be written.
    pub fn replace_kernel(&self, name: &str, content: &[u8]) -> Result<()> {
        fs::write(self.exchange(), content)
            .map_err(|error| Error::new(name.to_owned()).because(error))?;
        let kernel = format!("{KERNELS}/{name}");
        self.mtools("mcopy", &["-o"], &[&self.inside("exchange"), &kernel])
            .map(drop)
    }

    /// The same kernel with another signature in place of its own.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn signed_by_somebody_else(&self, kernel: &[u8]) -> Result<Vec<u8>> {
        fs::write(self.exchange(), kernel)
            .map_err(|error| Error::new("the kernel cannot be laid out").because(error))?;
        let [file, key, certificate] =
            ["exchange", "other.key", "other.crt"].map(|name| self.inside(name));
        let request = "req -new -x509 -newkey rsa:2048 -nodes -sha256 -days 30";
        let mut arguments: Vec<&str> = request.split(' ').collect();
        arguments.extend([
            "-subj",
            "/CN=somebody else/",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
        tool("openssl", &arguments)?;
        tool("sbattach", &["--remove", &file])?;
        let sign = [
            "--key",
            &key,
            "--cert",
            &certificate,
            "--output",
            &file,
            &file,
        ];
        tool("sbsign", &sign)?;
        fs::read(self.exchange())
            .map_err(|error| Error::new("the signed kernel cannot be read").because(error))
    }

    /// Whether this key, all of its bytes, opens `/var`: what a support worker does with the disk of a broken box. The box must be off.
    ///
    /// # Errors
    /// When the partition cannot be read.
    pub fn key_opens_var(&self, key: &[u8]) -> Result<bool> {
        let unusable = |error: std::io::Error| {
            Error::new("/var cannot be looked at".to_owned()).because(error)
        };
        let start = partition(&self.disk(), "renraku-var")?.start;
        let mut header = vec![0; HEADER];
        let mut disk = fs::File::open(self.disk()).map_err(unusable)?;
        disk.seek(SeekFrom::Start(start)).map_err(unusable)?;
        disk.read_exact(&mut header).map_err(unusable)?;
        fs::write(self.exchange(), header).map_err(unusable)?;
        fs::write(self.directory().join("key"), key).map_err(unusable)?;
        let (header, key) = (self.inside("exchange"), self.inside("key"));
        let open = ["open", "--test-passphrase", "--key-file", &key, &header];
        // With a header that does not say LUKS nothing would open; that is no answer about the key.
        tool("cryptsetup", &["isLuks", &header])?;
        Ok(tool("cryptsetup", &open).is_ok())
    }

    fn exchange(&self) -> PathBuf {
        self.directory().join("exchange")
    }

    fn mtools(&self, program: &str, options: &[&str], files: &[&str]) -> Result<String> {
        let start = partition(&self.disk(), "renraku-esp")?.start;
        let image = format!("{}@@{start}", self.inside("disk.img"));
        let arguments = [&["-i", &image], options, files].concat();
        tool(program, &arguments)
    }
}
