//! Asks the initial file system to make `/var` anew at the next start: an EFI variable that systemd-repart(8) of systemd 257 looks at.
//!
//! Nothing is erased here, and nothing can be: `/var` is in use. Who may ask is decided by whoever starts this program.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// systemd's vendor GUID and the variable's name (systemd-repart(8), `--factory-reset=`).
const VARIABLE: &str = "sys/firmware/efi/efivars/FactoryReset-8cf2644b-4b0b-428f-9387-6d876050dc67";

/// Kept over a restart, for the firmware and the system (UEFI 2.10 §8.2, `EFI_VARIABLE_*`).
const ATTRIBUTES: u32 = 0x7;

/// Where the variable is.
#[must_use]
pub fn variable(system: &Path) -> PathBuf {
    system.join(VARIABLE)
}

/// Asks for it. Asked twice, it is asked once.
///
/// # Errors
/// When the firmware's variables cannot be written: there is no such firmware, or it has no room.
pub fn request(system: &Path) -> io::Result<()> {
    let path = variable(system);
    let mut content = ATTRIBUTES.to_le_bytes().to_vec();
    content.extend("yes".encode_utf16().flat_map(u16::to_le_bytes));
    if fs::read(&path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    // One write: the kernel hands each to the firmware as it is (efivarfs).
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?
        .write_all(&content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_says_yes_in_the_firmwares_words() {
        let system = tempfile::tempdir().unwrap();
        assert!(request(system.path()).is_err());
        let path = variable(system.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        request(system.path()).unwrap();
        request(system.path()).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"\x07\0\0\0y\0e\0s\0");
    }
}
