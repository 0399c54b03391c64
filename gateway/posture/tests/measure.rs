//! The measurements, on a machine made of files: the same files that the kernel shows, below another directory.

#![allow(clippy::unwrap_used, reason = "what a test cannot do is its failure")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use gateway_policy::{Check, Grade, Missing, Observation, Observed, Source, Timestamp};
use gateway_posture::{Release, System, UsbEvent, bill_of_materials, boot, update, usb};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp(1_800_000_000);
const ROOT_HASH: &str = "1f2e3d4c5b6a79880123456789abcdef1f2e3d4c5b6a79880123456789abcdef";
const EFI: &str = "sys/firmware/efi/efivars";
const VENDOR: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// A box as our image boots it.
struct Machine(TempDir);

impl Machine {
    fn ours() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.write(
            "etc/os-release",
            "ID=debian\nIMAGE_ID=renraku-gateway\nIMAGE_VERSION=\"1.4.0\"\n",
        );
        machine.efi("SecureBoot", 1);
        machine.efi("SetupMode", 0);
        machine.write(
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality\n",
        );
        machine.write(
            "proc/cmdline",
            format!("console=ttyS0 roothash={ROOT_HASH} quiet\n"),
        );
        machine.write(
            "proc/self/mountinfo",
            "22 1 254:0 / / ro,relatime - erofs /dev/mapper/root ro\n23 22 0:5 / /dev rw - devtmpfs udev rw\n",
        );
        machine.write(
            "sys/dev/block/254:0/dm/uuid",
            "CRYPT-VERITY-1f2e3d4c-root\n",
        );
        machine.write("sys/module/dm_verity/refcnt", "1\n");
        machine.write("sys/bus/usb/devices/1-0:1.0/bInterfaceClass", "09\n");
        machine.disk(
            "nvme0n1",
            "../devices/pci0000:00/0000:00:1d.0/nvme/nvme0/nvme0n1",
        );
        machine.write(
            "usr/share/renraku-gateway/sbom.cdx.json",
            "{\"bomFormat\":\"CycloneDX\"}",
        );
        machine
    }

    fn system(&self) -> System {
        System::new(self.0.path())
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.0.path().join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    fn efi(&self, name: &str, value: u8) {
        self.write(&format!("{EFI}/{name}-{VENDOR}"), [6, 0, 0, 0, value]);
    }

    fn disk(&self, name: &str, place: &str) {
        let blocks = self.0.path().join("sys/block");
        fs::create_dir_all(&blocks).unwrap();
        symlink(Path::new(place), blocks.join(name)).unwrap();
    }

    fn boots(&self) -> Observation {
        let observed = boot(&self.system(), NOW);
        assert_eq!(
            (observed.check, observed.at, observed.source),
            (Check::Boot, NOW, Source::Measured)
        );
        observed.observation
    }

    fn usb(&self, event: Option<UsbEvent>) -> Observation {
        usb(&self.system(), event, NOW).observation
    }
}

const BAD: Observation = Observation::Fail {
    grade: Grade::Major,
    since: None,
};
const EVENT: Observation = Observation::Fail {
    grade: Grade::Minor,
    since: None,
};
const UNREADABLE: Observation = Observation::Unknown(Missing::Error);

fn release(version: &str) -> Release {
    Release {
        version: version.to_owned(),
        published: Timestamp(1_799_000_000),
        root_hash: Some(ROOT_HASH.to_owned()),
        // printf '{"bomFormat":"CycloneDX"}' | sha256sum
        bill_of_materials: Some(
            "2e01b8740d2b1c7ff47487ab94ff0f7f4d2853f3d985cd6d7e381c4aa5ef9afa".to_owned(),
        ),
    }
}

#[test]
fn a_box_that_booted_as_released_passes() {
    assert_eq!(Machine::ours().boots(), Observation::Pass);
}

#[test]
fn secure_boot_off_or_in_setup_mode_is_tampering() {
    let machine = Machine::ours();
    machine.efi("SecureBoot", 0);
    assert_eq!(machine.boots(), BAD);
    machine.efi("SecureBoot", 1);
    machine.efi("SetupMode", 1);
    assert_eq!(machine.boots(), BAD);
}

#[test]
fn a_kernel_that_is_not_locked_down_is_tampering() {
    let machine = Machine::ours();
    machine.write(
        "sys/kernel/security/lockdown",
        "[none] integrity confidentiality\n",
    );
    assert_eq!(machine.boots(), BAD);
}

#[test]
fn a_root_beside_verity_is_tampering() {
    let machine = Machine::ours();
    machine.write("sys/dev/block/254:0/dm/uuid", "CRYPT-LUKS2-1f2e3d4c-root\n");
    assert_eq!(machine.boots(), BAD);
    machine.remove("sys/dev/block/254:0");
    assert_eq!(machine.boots(), BAD, "a plain partition");
}

#[test]
fn a_later_mount_over_the_root_is_the_one_that_counts() {
    let machine = Machine::ours();
    machine.write(
        "proc/self/mountinfo",
        "22 1 254:0 / / ro - erofs /dev/mapper/root ro\n99 22 8:1 / / rw - ext4 /dev/sda1 rw\n",
    );
    assert_eq!(machine.boots(), BAD);
}

#[test]
fn verity_without_a_hash_on_the_signed_command_line_is_tampering() {
    let machine = Machine::ours();
    for line in ["quiet\n", "roothash=1234\n", "xroothash=00\n"] {
        machine.write("proc/cmdline", line);
        assert_eq!(machine.boots(), BAD, "{line}");
    }
}

#[test]
fn the_image_is_what_the_kernel_was_started_with() {
    let machine = Machine::ours();
    let started = |line: String| {
        machine.write("proc/cmdline", line);
        let image = machine.system().image().unwrap();
        (image.version, image.root_hash, image.slot)
    };
    let version = || "1.4.0".to_owned();
    assert_eq!(
        started(format!("ro roothash={ROOT_HASH} renraku.slot=b quiet")),
        (version(), Some(ROOT_HASH.to_owned()), Some("b".to_owned()))
    );
    for line in ["", "renraku.slot=c roothash=1234", "xrenraku.slot=a"] {
        assert_eq!(started(line.to_owned()), (version(), None, None), "{line}");
    }
}

#[test]
fn a_source_that_cannot_be_read_is_unknown_and_never_good() {
    for source in [
        format!("{EFI}/SecureBoot-{VENDOR}"),
        format!("{EFI}/SetupMode-{VENDOR}"),
        "sys/kernel/security/lockdown".to_owned(),
        "proc/self/mountinfo".to_owned(),
        "proc/cmdline".to_owned(),
    ] {
        let machine = Machine::ours();
        machine.remove(&source);
        assert_eq!(machine.boots(), UNREADABLE, "{source}");
    }
}

#[test]
fn nothing_is_said_about_a_system_that_is_not_our_image() {
    let machine = Machine::ours();
    machine.write("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n");
    let never = Observation::Unknown(Missing::Never);
    assert_eq!(machine.boots(), never);
    assert_eq!(machine.usb(None), never);
    let system = machine.system();
    assert_eq!(
        update(&system, Some(&release("1.4.0")), NOW).observation,
        never
    );
    assert_eq!(
        bill_of_materials(&system, Some(&release("1.4.0")), NOW).observation,
        never
    );
}

#[test]
fn the_same_evidence_has_the_same_digest_and_other_evidence_another() {
    let machine = Machine::ours();
    let digest = |at| {
        let Observed { digest, .. } = boot(&machine.system(), at);
        digest
    };
    let first = digest(NOW);
    assert_eq!(first, digest(NOW.plus(60)));
    machine.efi("SecureBoot", 0);
    assert_ne!(first, digest(NOW));
}

#[test]
fn an_older_version_is_behind_since_the_newer_was_published() {
    let system = Machine::ours().system();
    let machine = Machine::ours();
    assert_eq!(
        update(&machine.system(), Some(&release("1.4.0")), NOW).observation,
        Observation::Pass
    );
    assert_eq!(
        update(&machine.system(), Some(&release("1.10.0")), NOW).observation,
        Observation::Fail {
            grade: Grade::Major,
            since: Some(Timestamp(1_799_000_000))
        }
    );
    assert_eq!(
        update(&machine.system(), Some(&release("1.3.9")), NOW).observation,
        UNREADABLE
    );
    assert_eq!(update(&machine.system(), None, NOW).observation, UNREADABLE);
    // The directory of the first machine is gone: nothing can be read, nothing is claimed.
    assert_eq!(
        update(&system, None, NOW).observation,
        Observation::Unknown(Missing::Never)
    );
}

#[test]
fn the_bill_of_materials_is_that_of_the_running_release() {
    let machine = Machine::ours();
    let says = |of: &Release| bill_of_materials(&machine.system(), Some(of), NOW).observation;
    assert_eq!(says(&release("1.4.0")), Observation::Pass);
    assert_eq!(
        says(&release("1.5.0")),
        UNREADABLE,
        "nothing is known about what runs"
    );
    let other_image = Release {
        root_hash: Some(ROOT_HASH.replace('1', "2")),
        ..release("1.4.0")
    };
    assert_eq!(says(&other_image), BAD);
    machine.write(
        "usr/share/renraku-gateway/sbom.cdx.json",
        "{\"bomFormat\":\"altered\"}",
    );
    assert_eq!(says(&release("1.4.0")), BAD);
    machine.remove("usr/share/renraku-gateway/sbom.cdx.json");
    assert_eq!(says(&release("1.4.0")), BAD);
}

#[test]
fn a_usb_stick_is_an_event_and_a_driver_or_a_disk_is_worse() {
    let machine = Machine::ours();
    assert_eq!(machine.usb(None), Observation::Pass);
    machine.write("sys/bus/usb/devices/1-2:1.0/bInterfaceClass", "08\n");
    assert_eq!(machine.usb(None), EVENT);
    machine.remove("sys/bus/usb/devices/1-2:1.0");
    assert_eq!(machine.usb(None), Observation::Pass);
    assert_eq!(
        machine.usb(Some(UsbEvent::Storage)),
        EVENT,
        "already pulled out again"
    );
    assert_eq!(machine.usb(Some(UsbEvent::Disk)), BAD);

    machine.disk(
        "sda",
        "../devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sda",
    );
    assert_eq!(machine.usb(None), BAD);
}

#[test]
fn a_storage_driver_is_found_loaded_or_built_in() {
    let machine = Machine::ours();
    machine.write("sys/module/uas/refcnt", "0\n");
    assert_eq!(machine.usb(None), BAD);
    let machine = Machine::ours();
    machine.write("sys/bus/usb/drivers/usb-storage/module", "");
    assert_eq!(machine.usb(None), BAD);
}

#[test]
fn unreadable_usb_evidence_is_unknown_but_a_machine_without_usb_has_none() {
    let machine = Machine::ours();
    machine.remove("sys/module");
    assert_eq!(machine.usb(None), UNREADABLE);
    let machine = Machine::ours();
    machine.remove("sys/bus/usb");
    assert_eq!(machine.usb(None), Observation::Pass);
    machine.remove("sys/bus");
    assert_eq!(machine.usb(None), UNREADABLE);
}
