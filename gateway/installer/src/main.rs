//! gateway-install: puts the box on the disk of the machine it was started on, from the medium it was started from.
//!
//! It is the one program of the installer's initial file system. systemd-repart(8) lays out the disk and copies; here it is
//! decided which disk, asked whether what is on it may go, and read back what was written. It reaches no network and makes no key:
//! `/var` and what is in it are made by the box at its own first start.

#![allow(
    clippy::print_stderr,
    reason = "a program in front of a person, and a journal behind it"
)]

mod disks;
mod screen;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use disks::{Disk, NoDisk};
use screen::Screen;

/// Each partition of the medium, and the one it becomes.
const COPIES: [(&str, &str); 3] = [
    ("renraku-install-esp", "renraku-esp"),
    ("renraku-install-root", "renraku-root-a"),
    ("renraku-install-verity", "renraku-verity-a"),
];

/// How the disk is laid out.
const LAYOUT: &str = "/usr/share/renraku-install/repart";

/// How long the medium may take to show itself.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is typed where the disk is not empty.
const WORD: &str = "ERASE";

/// Bytes at the start of a disk that tell whether anybody has used it: partition table, file system, boot sector.
const START: usize = 1 << 20;

/// Bytes compared at a time.
const PIECE: usize = 1 << 20;

/// Why the box is not on the disk.
#[derive(Debug, thiserror::Error)]
enum NotInstalled {
    #[error("I-MEDIUM: the installer's medium cannot be found")]
    Medium,
    #[error(transparent)]
    NoDisk(#[from] NoDisk),
    #[error("I-NOT-ERASED: the disk {0} is as it was")]
    NotErased(String),
    #[error("I-LAYOUT: the disk could not be laid out: {0}")]
    Layout(String),
    #[error("I-READBACK: {0} does not read back as it was written; the disk is broken")]
    ReadBack(&'static str),
    #[error("I-DISK: {0}")]
    Disk(#[from] io::Error),
}

fn main() -> ExitCode {
    let screen = Screen::open();
    match install(&screen) {
        Ok(disk) => {
            screen.say(&format!(
                "done: the box is on {disk}. Take the medium out; this machine goes off now."
            ));
            eprintln!("installed on {disk}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            screen.say(&format!(
                "NOT INSTALLED. {error}. Switch this machine off and call support with the code."
            ));
            eprintln!("not installed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn install(screen: &Screen) -> Result<String, NotInstalled> {
    let medium = medium()?;
    let disk = disks::only(disks::built_in(Path::new("/sys"), &medium)?)?;
    let device = Path::new("/dev").join(&disk.name);
    if !is_blank(&device)? {
        may_be_erased(screen, &disk)?;
    }
    screen.say(&format!("writing to {}", disk.name));
    lay_out(&device)?;
    // What is compared comes from the disk, not from memory.
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    for (from, to) in COPIES {
        let (from, to) = (by_label(from), by_label(to));
        if !is_copied(&from, &to)? {
            return Err(NotInstalled::ReadBack("what was copied"));
        }
    }
    Ok(disk.name)
}

fn by_label(label: &str) -> PathBuf {
    Path::new("/dev/disk/by-partlabel").join(label)
}

/// The disk that the medium is, as the kernel names it.
fn medium() -> Result<String, NotInstalled> {
    let deadline = Instant::now() + PATIENCE;
    let links: Vec<PathBuf> = COPIES.iter().map(|(from, _)| by_label(from)).collect();
    while !links.iter().all(|link| link.exists()) {
        if Instant::now() > deadline {
            return Err(NotInstalled::Medium);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let partition = fs::canonicalize(&links[0])?;
    let name = partition.file_name().ok_or(NotInstalled::Medium)?;
    // /sys/class/block/<partition> leads to .../block/<disk>/<partition>.
    let real = fs::canonicalize(Path::new("/sys/class/block").join(name))?;
    real.parent()
        .and_then(Path::file_name)
        .map(|disk| disk.to_string_lossy().into_owned())
        .ok_or(NotInstalled::Medium)
}

/// Whether nobody has used the disk.
fn is_blank(device: &Path) -> io::Result<bool> {
    let mut start = vec![0; START];
    File::open(device)?.read_exact(&mut start)?;
    Ok(start.iter().all(|byte| *byte == 0))
}

fn may_be_erased(screen: &Screen, disk: &Disk) -> Result<(), NotInstalled> {
    screen.say(&format!(
        "THE DISK {} ({} GB) IS NOT EMPTY. Everything on it goes. Type {WORD} and press Enter to go on.",
        disk.name,
        disk.size / 1_000_000_000
    ));
    match screen.line() {
        Some(typed) if typed == WORD => Ok(()),
        _ => Err(NotInstalled::NotErased(disk.name.clone())),
    }
}

fn lay_out(device: &Path) -> Result<(), NotInstalled> {
    let output = Command::new("systemd-repart")
        // Otherwise it would work below /sysroot, and from there it copies no partitions.
        .env("SYSTEMD_IN_INITRD", "0")
        .args(["--empty=force", "--dry-run=no", "--no-pager"])
        .arg(format!("--definitions={LAYOUT}"))
        .arg(device)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("no word").to_owned();
        return Err(NotInstalled::Layout(last));
    }
    // The links to the new partitions.
    let _ = Command::new("udevadm").arg("settle").status()?;
    Ok(())
}

/// Whether `to` begins with all that `from` has.
fn is_copied(from: &Path, to: &Path) -> io::Result<bool> {
    let (mut from, mut to) = (File::open(from)?, File::open(to)?);
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let read = filled(&mut from, &mut left)?;
        if read == 0 {
            return Ok(true);
        }
        if filled(&mut to, &mut right[..read])? != read || left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

/// Reads until the buffer is full or the end is there.
fn filled(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn a_copy_is_one_when_every_byte_is_there() {
        let source: Vec<u8> = (0..=250).cycle().take(PIECE * 2 + 17).collect();
        let from = file(&source);
        let longer = file(&[&source[..], &[0; 4096]].concat());
        assert!(is_copied(from.path(), longer.path()).unwrap());
        assert!(!is_copied(from.path(), file(&source[..source.len() - 1]).path()).unwrap());
        for at in [0, PIECE, source.len() - 1] {
            let mut changed = source.clone();
            changed[at] ^= 1;
            assert!(
                !is_copied(from.path(), file(&changed).path()).unwrap(),
                "{at}"
            );
        }
    }

    #[test]
    fn a_disk_is_blank_when_its_start_is_zero() {
        assert!(is_blank(file(&vec![0; START]).path()).unwrap());
        let mut used = vec![0; START];
        used[512] = b'E';
        assert!(!is_blank(file(&used).path()).unwrap());
        // Smaller than what is looked at: that is no disk.
        assert!(is_blank(file(b"").path()).is_err());
    }
}
