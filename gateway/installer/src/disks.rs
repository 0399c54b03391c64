//! Which disk the box is put on: the only one that is built in. Looks at sysfs and decides; writes nothing.

use std::fs;
use std::io;
use std::path::Path;

/// The slots, the firmware's partition and the smallest `/var` (`image/disk/repart`, `repart.d/50-var.conf`), rounded up.
pub(crate) const SMALLEST: u64 = 2_500 << 20;

/// sysfs counts in these, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// A disk that is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// As the kernel names it: `nvme0n1`.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
}

/// Why there is no disk to put the box on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoDisk {
    /// Nothing is built in.
    #[error("I-NO-DISK: this machine has no disk of its own")]
    None,
    /// More than one: which, nobody here can know.
    #[error("I-SEVERAL: this machine has several disks ({0}); take out all but one")]
    Several(String),
    /// Too small.
    #[error("I-SMALL: the disk {name} has {size} bytes; {SMALLEST} are needed")]
    Small {
        /// The disk.
        name: String,
        /// Its bytes.
        size: u64,
    },
}

/// The disks that are built in: neither removable nor on USB, not read-only, not made of others, not `medium`.
///
/// # Errors
/// When sysfs cannot be read.
pub(crate) fn built_in(sys: &Path, medium: &str) -> io::Result<Vec<Disk>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sys.join("block"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let number = |file: &str| -> Option<u64> {
            fs::read_to_string(path.join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        // What is made of other things (loop, dm, zram) has no device of its own.
        let is_made_up = !path.join("device").exists();
        let real = fs::canonicalize(&path)?;
        let is_on_usb = real
            .components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with("usb"));
        // What does not say is taken for what is not touched.
        let stays = number("removable") == Some(0) && number("ro") == Some(0);
        if is_made_up || is_on_usb || !stays || name == medium {
            continue;
        }
        if let Some(sectors) = number("size").filter(|sectors| *sectors > 0) {
            found.push(Disk {
                name,
                size: sectors * SECTOR,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The only one.
///
/// # Errors
/// [`NoDisk`].
pub(crate) fn only(disks: Vec<Disk>) -> Result<Disk, NoDisk> {
    match <[Disk; 1]>::try_from(disks) {
        Ok([disk]) if disk.size < SMALLEST => Err(NoDisk::Small {
            name: disk.name,
            size: disk.size,
        }),
        Ok([disk]) => Ok(disk),
        Err(disks) if disks.is_empty() => Err(NoDisk::None),
        Err(disks) => {
            let names: Vec<String> = disks.into_iter().map(|disk| disk.name).collect();
            Err(NoDisk::Several(names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(machine.0.path().join("block")).unwrap();
            machine
        }

        fn disk(&self, name: &str, bus: &str, size: u64, removable: u8, ro: u8) {
            let real = self.0.path().join("devices").join(bus).join(name);
            fs::create_dir_all(real.join("device")).unwrap();
            for (file, number) in [
                ("size", size / SECTOR),
                ("removable", removable.into()),
                ("ro", ro.into()),
            ] {
                fs::write(real.join(file), format!("{number}\n")).unwrap();
            }
            symlink(real, self.0.path().join("block").join(name)).unwrap();
        }

        fn only(&self) -> Result<String, NoDisk> {
            only(built_in(self.0.path(), "sdb").unwrap()).map(|disk| disk.name)
        }
    }

    const LARGE: u64 = 32 << 30;

    #[test]
    fn the_one_disk_that_is_built_in_is_taken() {
        let machine = Machine::new();
        assert_eq!(machine.only(), Err(NoDisk::None));
        machine.disk("sdb", "pci0/ata2", LARGE, 0, 0);
        machine.disk("sdc", "pci0/usb2/2-1", LARGE, 0, 0);
        machine.disk("mmcblk1", "pci0/mmc", LARGE, 1, 0);
        machine.disk("sr0", "pci0/ata3", LARGE, 0, 1);
        machine.disk("sdd", "pci0/ata4", 0, 0, 0);
        let loops = machine.0.path().join("block/loop0");
        fs::create_dir_all(&loops).unwrap();
        assert_eq!(machine.only(), Err(NoDisk::None));
        machine.disk("nvme0n1", "pci0/nvme0", LARGE, 0, 0);
        assert_eq!(machine.only(), Ok("nvme0n1".to_owned()));
    }

    #[test]
    fn several_and_too_small_ones_are_refused_by_name() {
        let machine = Machine::new();
        machine.disk("sda", "pci0/ata1", SMALLEST - SECTOR, 0, 0);
        let small = NoDisk::Small {
            name: "sda".into(),
            size: SMALLEST - SECTOR,
        };
        assert_eq!(machine.only(), Err(small));
        machine.disk("nvme0n1", "pci0/nvme0", LARGE, 0, 0);
        assert_eq!(
            machine.only(),
            Err(NoDisk::Several("nvme0n1, sda".to_owned()))
        );
    }

    #[test]
    fn a_disk_that_does_not_say_what_it_is_is_left_alone() {
        let machine = Machine::new();
        machine.disk("sda", "pci0/ata1", LARGE, 0, 0);
        fs::remove_file(machine.0.path().join("devices/pci0/ata1/sda/removable")).unwrap();
        assert_eq!(machine.only(), Err(NoDisk::None));
    }
}
