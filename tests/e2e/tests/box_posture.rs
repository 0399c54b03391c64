//! The box measures itself: how it booted, what it runs, USB storage. The evidence is changed, as it would change on a box, and
//! the journal's decision line, the gate and the console follow.
//!
//! The kernel's files are those of a machine made below another directory; the image is booted for real by part 4's tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_e2e::visiting::Visitor;
use serde_json::json;
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, city, wait};

const SOON: Duration = Duration::from_secs(30);
const DAY: i64 = 86_400;
const EFI: &str = "sys/firmware/efi/efivars";
const VENDOR: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// The kernel's files of a box that booted as released.
struct Machine(PathBuf);

impl Machine {
    fn make(root: &Path) -> Self {
        let machine = Self(root.to_owned());
        machine.write(
            "etc/os-release",
            "ID=debian\nIMAGE_ID=renraku-gateway\nIMAGE_VERSION=1.4.0\n",
        );
        machine.efi("SecureBoot", 1);
        machine.efi("SetupMode", 0);
        machine.write(
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality\n",
        );
        machine.write(
            "proc/cmdline",
            format!("roothash={} quiet\n", "5a".repeat(32)),
        );
        machine.write(
            "proc/self/mountinfo",
            "22 1 254:0 / / ro - erofs /dev/mapper/root ro\n",
        );
        machine.write("sys/dev/block/254:0/dm/uuid", "CRYPT-VERITY-5a5a-root\n");
        machine.write("sys/module/dm_verity/refcnt", "1\n");
        machine.write("sys/bus/usb/devices/1-0:1.0/bInterfaceClass", "09\n");
        fs::create_dir_all(root.join("sys/block")).unwrap();
        machine
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn efi(&self, name: &str, value: u8) {
        self.write(&format!("{EFI}/{name}-{VENDOR}"), [6, 0, 0, 0, value]);
    }
}

/// A facility whose box believes to be our image, on that machine.
struct Stage {
    facility: Facility,
    machine: Machine,
    clocks: [WallClock; 2],
    visitor: Visitor,
    _directory: tempfile::TempDir,
}

impl Stage {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine::make(&directory.path().join("machine"));
        let clocks =
            ["box", "city"].map(|name| WallClock::new(&directory.path().join(name)).unwrap());
        let mut facility = Facility::start(Options {
            clock: Some(clocks[0].clone()),
            city: city::Options {
                clock: Some(clocks[1].clone()),
                ..city::Options::default()
            },
            ..Options::default()
        })
        .unwrap();
        let file = facility.gateway.configuration_file();
        let text = fs::read_to_string(&file).unwrap();
        let ours = format!("[posture]\nappliance = true\nroot = {:?}", machine.0);
        let changed = text.replace("[posture]\nappliance = false", &ours);
        assert_ne!(changed, text);
        fs::write(&file, changed).unwrap();
        facility.gateway.restart().unwrap();
        let visitor = Visitor::new(&facility, "sakura-01");
        Self {
            facility,
            machine,
            clocks,
            visitor,
            _directory: directory,
        }
    }

    /// Lets a minute pass for all, which makes the box measure anew.
    fn a_while_passes(&self) {
        self.some_time_passes(60);
    }

    fn some_time_passes(&self, seconds: i64) {
        let steps = || {
            let log = self.facility.gateway.log();
            log.matches("everything is measured anew").count()
        };
        let before = steps();
        for clock in self.clocks.iter().rev() {
            clock.shift(seconds).unwrap();
        }
        wait::until("the box to notice", SOON, || {
            (steps() > before).then_some(())
        })
        .unwrap();
    }

    /// Waits for the newest decision line about a check, one that says all of `words`.
    fn decides(&self, check: &str, words: &[&str]) -> String {
        let newest = || {
            let log = self.facility.gateway.log();
            log.lines()
                .rfind(|line| line.contains("a check has changed") && line.contains(check))
                .filter(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned)
        };
        wait::until(&format!("{check} {words:?}"), SOON, newest)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.facility.gateway.log()))
    }

    fn staff_pages_answer(&self, status: u16) {
        let page = format!("{}staff/login", self.facility.gateway.portal_url());
        wait::until("the gate to follow", SOON, || {
            (self.visitor.open(&page).status == status).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.facility.gateway.log()));
    }

    fn portal_is_open(&self) {
        let portal = self.visitor.open(&self.facility.gateway.portal_url());
        assert_eq!(portal.status, 200, "{portal:?}");
    }
}

#[test]
fn a_box_whose_boot_was_tampered_with_forwards_nothing_until_it_booted_as_released() {
    let stage = Stage::start();
    stage.decides("BOOT", &["state=\"compliant\""]);
    stage.staff_pages_answer(200);
    stage.machine.efi("SecureBoot", 0);
    stage.a_while_passes();
    let line = stage.decides("BOOT", &["effect=\"block\""]);
    assert!(line.contains("since="), "{line}");
    stage.staff_pages_answer(403);
    stage.portal_is_open();
    // One good look is not enough: two, ten minutes apart, clear it.
    stage.machine.efi("SecureBoot", 1);
    stage.a_while_passes();
    stage.staff_pages_answer(403);
    stage.some_time_passes(11 * 60);
    stage.decides("BOOT", &["state=\"compliant\""]);
    stage.staff_pages_answer(200);
}

#[test]
fn a_source_that_cannot_be_read_is_unknown_and_counts_against_the_box() {
    let stage = Stage::start();
    stage.decides("BOOT", &["state=\"compliant\""]);
    fs::remove_file(stage.machine.0.join("sys/kernel/security/lockdown")).unwrap();
    stage.a_while_passes();
    stage.decides("BOOT", &["state=\"unknown-error\"", "effect=\"warn\""]);
    stage.staff_pages_answer(200);
}

#[test]
fn a_usb_stick_is_an_event_and_a_storage_driver_or_disk_blocks() {
    let stage = Stage::start();
    stage.decides("USB-BOX", &["state=\"compliant\""]);
    stage
        .machine
        .write("sys/bus/usb/devices/1-2:1.0/bInterfaceClass", "08\n");
    stage.a_while_passes();
    let line = stage.decides("USB-BOX", &["effect=\"warn\""]);
    assert!(line.contains("article=28"), "{line}");
    stage.staff_pages_answer(200);
    let disk = "../devices/pci0000:00/usb2/2-1/2-1:1.0/host6/block/sda";
    symlink(disk, stage.machine.0.join("sys/block/sda")).unwrap();
    stage.a_while_passes();
    stage.decides("USB-BOX", &["effect=\"block\""]);
    stage.staff_pages_answer(403);
    stage.portal_is_open();
}

#[test]
fn the_software_and_its_bill_of_materials_are_compared_with_the_signed_channel() {
    let stage = Stage::start();
    let bill = br#"{"bomFormat":"CycloneDX"}"#;
    let publish = |version: &str| {
        let release = json!({
            "version": version, "hardware": "any",
            "files": [{ "name": "sbom.cdx.json", "base64": STANDARD.encode(bill) }],
        });
        stage
            .facility
            .city
            .control("tuf-release", &release)
            .unwrap();
        stage
            .facility
            .city
            .control("hint", &json!({ "id": "releases" }))
            .unwrap();
    };
    stage.decides("UPD", &["state=\"unknown-error\"", "effect=\"warn\""]);
    stage
        .machine
        .write("usr/share/renraku-gateway/sbom.cdx.json", bill);
    publish("1.4.0");
    stage.decides("UPD", &["state=\"compliant\""]);
    stage.decides("SBOM", &["state=\"compliant\""]);
    // The city hears which image runs, not which program.
    wait::until("the city to hear of 1.4.0", SOON, || {
        let told = stage.facility.city.statistics().ok()?;
        let mut reports = told["reports"].as_array()?.iter();
        reports
            .any(|report| report["kind"] == "status" && report["last"]["version"] == "1.4.0")
            .then_some(())
    })
    .unwrap();

    stage
        .machine
        .write("usr/share/renraku-gateway/sbom.cdx.json", "{}");
    stage.a_while_passes();
    let line = stage.decides("SBOM", &["effect=\"warn\""]);
    assert!(line.contains("article=26"), "{line}");

    publish("1.5.0");
    let grace = stage.decides("UPD", &["state=\"grace\"", "effect=\"allow\""]);
    assert!(grace.contains("deadline="), "{grace}");
    stage.staff_pages_answer(200);
    stage.some_time_passes(4 * DAY);
    stage.decides("UPD", &["effect=\"warn\""]);
}
