//! The box itself, as the image makes it: a machine with firmware, a disk and a TPM, from the factory to a working day, through a
//! power cut, and in the hands of somebody who changes its disk.
//!
//! `cargo xtask image --trial` makes the image beforehand. The machine is emulated, instruction by instruction; the tests of one
//! box share it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use test_harness::appliance::{self, Appliance};
use test_harness::city::{self, City};
use test_harness::clamd::eicar;
use test_harness::{binaries, setup, wait};

/// A start with everything emulated; a box takes a tenth.
const START: Duration = Duration::from_secs(420);
const SOON: Duration = Duration::from_secs(240);

/// What is on the screen when its pages answer.
const READY: &str = "Started gatewayd.service";

/// The version of the release after the one in the factory.
const NEXT: &str = "0.2.0";

/// A city with the keys that the image trusts, and a box as it leaves the factory.
struct Stage {
    city: City,
    folder: tempfile::TempDir,
    release: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let trial = appliance::trial();
        let folder = tempfile::tempdir().unwrap();
        copy(&trial.join("city"), &folder.path().join("city"));
        let city = City::start(&folder.path().join("city"), city::Options::default()).unwrap();
        Self {
            city,
            folder,
            release: trial.join("out"),
        }
    }

    fn box_from_the_factory(&self, name: &str) -> Appliance {
        let mut appliance = Appliance::new(name, &self.release).unwrap();
        appliance.switch_on(self.city.port()).unwrap();
        appliance.wait_for(&[READY], START).unwrap();
        appliance
    }

    /// The manager's work, on the setup page.
    fn provision(&self, appliance: &Appliance) {
        let (number, code) = (
            self.city.text("certificate_number"),
            self.city.text("access_code"),
        );
        setup::provision_at(&appliance.console_url(), self.folder.path(), number, code).unwrap();
    }

    /// curl, as somebody who trusts the city and keeps cookies; gives the status and the body.
    fn visit(&self, arguments: &[&str]) -> (u16, String) {
        let jar = self.folder.path().join("cookies");
        let output = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--max-time", "60", "--cacert"])
            .arg(self.city.ca_file())
            .arg("--cookie")
            .arg(&jar)
            .arg("--cookie-jar")
            .arg(&jar)
            .args(["--write-out", "\n%{http_code}"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), body.to_owned())
    }

    fn reaches(&self, url: &str) -> bool {
        self.visit(&[url]).0 == 200
    }

    /// The state of one check in the newest report that the city has.
    fn reported(&self, check: &str) -> Option<String> {
        let reports = self.city.statistics().ok()?["reports"].clone();
        let report = reports
            .as_array()?
            .iter()
            .find(|report| report["kind"] == "status")?["last"]
            .clone();
        report["checks"]
            .as_array()?
            .iter()
            .find(|entry| entry["id"] == check)
            .map(|entry| entry["state"].as_str().unwrap_or_default().to_owned())
    }
}

/// What is in the root file system, seen without starting it.
#[test]
fn the_root_has_the_programs_that_are_named_and_nothing_that_changes_its_user() {
    let tree = appliance::root_tree();
    let list = binaries::workspace().join("image/system/programs.txt");
    let named: BTreeSet<String> = fs::read_to_string(list)
        .unwrap()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let (mut programs, mut files) = (BTreeSet::new(), Vec::new());
    walk(&tree, &mut files);
    assert!(files.len() > 500, "{} is no root", tree.display());
    for file in files {
        let data = fs::symlink_metadata(&file).unwrap();
        let name = file
            .strip_prefix(&tree)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        assert!(
            data.is_symlink() || data.mode() & 0o6000 == 0,
            "{name} changes its user"
        );
        assert!(
            !name.contains("usb-storage") && !name.contains("/uas.ko"),
            "{name}"
        );
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        if [
            "usr/bin",
            "usr/sbin",
            "usr/local/bin",
            "usr/local/sbin",
            "usr/libexec",
        ]
        .contains(&folder)
        {
            programs.insert(name);
        }
    }
    assert_eq!(programs, named);
    for shell in [
        "sh", "bash", "dash", "busybox", "perl", "python3", "apt", "dpkg", "su", "login",
    ] {
        assert!(
            !named
                .iter()
                .any(|name| name.ends_with(&format!("/{shell}")))
        );
    }
    let units: BTreeSet<String> =
        fs::read_dir(tree.join("etc/systemd/system/multi-user.target.wants"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
    assert_eq!(
        units.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "clamav-daemon.service",
            "gateway-health.service",
            "gateway-update.path",
            "gatewayd.service",
            "systemd-networkd.service"
        ]
    );
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), into);
        } else {
            into.push(entry.path());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("--recursive")
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success(), "{}", from.display());
}

#[test]
fn a_box_from_the_factory_is_provisioned_relays_scans_and_survives_a_power_cut() {
    let stage = Stage::new();
    let mut appliance = stage.box_from_the_factory("factory");
    let screen = appliance.screen();
    assert!(screen.contains("Enrolling secure boot keys"), "{screen}");

    stage.provision(&appliance);

    // The staff's: the portal, a sign-in, and an upload that never reaches the city.
    let portal = appliance.portal_url();
    wait::until("the portal through the box", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();
    let sign_in = |portal: &str| {
        let users = stage.city.described()["users"].as_array().unwrap().clone();
        let ours = &stage.city.described()["numbers"][0]["facility"];
        let user = users
            .iter()
            .find(|user| &user["facility"] == ours && user["role"] == "staff")
            .unwrap()
            .clone();
        let field = |name: &str| format!("{name}={}", user[name].as_str().unwrap());
        stage
            .visit(&[
                "--location",
                "--header",
                &format!("Origin: {}", portal.trim_end_matches('/')),
                "--data-urlencode",
                &field("user_id"),
                "--data-urlencode",
                &field("password"),
                &format!("{portal}staff/login"),
            ])
            .0
    };
    wait::until("a sign-in through the box", SOON, || {
        (sign_in(&portal) == 200).then_some(())
    })
    .unwrap();
    let infected = stage.folder.path().join("infected.txt");
    fs::write(&infected, eicar()).unwrap();
    let (status, page) = stage.visit(&[
        "--data-binary",
        &format!("@{}", infected.display()),
        &format!("{portal}staff/login"),
    ]);
    assert_eq!(status, 403, "{page}");

    // What the box says of its own start.
    for check in ["BOOT", "USB-BOX", "AV-ALIVE", "AV-DB", "AV-CONF"] {
        wait::until(
            &format!("the city to hear that {check} is ok"),
            SOON,
            || (stage.reported(check)? == "ok").then_some(()),
        )
        .unwrap();
    }

    // The plug is pulled; everything is still there, and nobody types anything.
    appliance.cut_power();
    appliance.switch_on(stage.city.port()).unwrap();
    appliance.wait_for(&[READY], START).unwrap();
    wait::until("the portal after the power cut", SOON, || {
        stage.reaches(&portal).then_some(())
    })
    .unwrap();

    a_disk_in_another_machine_opens_nothing(&stage, &mut appliance);
    a_changed_root_is_noticed(&stage, &mut appliance);
    a_kernel_that_we_did_not_sign_does_not_start(&stage, &mut appliance);
}

/// The city signs a release; the box fetches it, writes the other slot, restarts into it, finds it good, and says so.
#[test]
fn the_next_release_is_installed_and_found_good() {
    let stage = Stage::new();
    let mut appliance = stage.box_from_the_factory("updated");
    stage.provision(&appliance);
    let next = appliance::trial().join("next");
    let root_hash = fs::read_to_string(next.join("root-hash")).unwrap();
    stage
        .city
        .control(
            "tuf-image",
            &json!({
                "version": NEXT, "hardware": "x86-64-uefi", "root_hash": root_hash.trim(),
                "folder": next.join("release"),
            }),
        )
        .unwrap();
    stage
        .city
        .control("hint", &json!({ "id": "releases" }))
        .unwrap();
    appliance
        .wait_for(&["reboot: Restarting system"], Duration::from_secs(900))
        .unwrap();
    // What runs is the newest, with the root hash and the bill of materials that were signed.
    for check in ["UPD", "SBOM", "BOOT"] {
        wait::until(
            &format!("the city to hear that {check} is ok"),
            START + SOON,
            || (stage.reported(check)? == "ok").then_some(()),
        )
        .unwrap_or_else(|error| panic!("{error}\n{}", appliance.screen()));
    }
    // The firmware's partition has the new kernel without a counter: it was found good.
    appliance
        .wait_for(&["Finished gateway-health.service"], SOON)
        .unwrap();
}

/// The disk is stolen, or the TPM was cleared: `/var` stays closed and the box does not start.
fn a_disk_in_another_machine_opens_nothing(stage: &Stage, appliance: &mut Appliance) {
    appliance.cut_power();
    let mut thief = appliance.stolen_disk("thief").unwrap();
    thief.switch_on(stage.city.port()).unwrap();
    let seen = thief
        .wait_for(&["Failed to start systemd-cryptsetup@var", READY], START)
        .unwrap();
    assert_eq!(seen, 0, "{}", thief.screen());
    thief
        .wait_for(&["reboot: Restarting system"], SOON)
        .unwrap();
    thief.cut_power();
}

/// One bit of the root file system is another: dm-verity stops the machine.
fn a_changed_root_is_noticed(stage: &Stage, appliance: &mut Appliance) {
    let before = flip(&appliance.disk(), root_a(&appliance.disk()) + 1024 + 16);
    appliance.switch_on(stage.city.port()).unwrap();
    let seen = appliance.wait_for(&["is corrupted", READY], START).unwrap();
    assert_eq!(seen, 0, "{}", appliance.screen());
    appliance.cut_power();
    assert_ne!(
        before,
        flip(&appliance.disk(), root_a(&appliance.disk()) + 1024 + 16)
    );
}

/// The command line in the kernel's file is another: its signature no longer holds, and the firmware does not start it.
fn a_kernel_that_we_did_not_sign_does_not_start(stage: &Stage, appliance: &mut Appliance) {
    let disk = fs::read(appliance.disk()).unwrap();
    let needle = b"systemd.import_credentials=no";
    let at = disk
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap();
    drop(disk);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(appliance.disk())
        .unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(b"systemd.import_credentials=on").unwrap();
    file.sync_all().unwrap();
    appliance.switch_on(stage.city.port()).unwrap();
    let seen = appliance
        .wait_for(&["Access denied", "Security Violation", READY], START)
        .unwrap();
    assert_ne!(seen, 2, "{}", appliance.screen());
    appliance.cut_power();
}

/// Where slot A's root begins, from the partition table (UEFI 2.10 §5.3.3).
fn root_a(disk: &Path) -> u64 {
    let mut file = fs::File::open(disk).unwrap();
    let mut table = vec![0; 128 * 16];
    file.seek(SeekFrom::Start(1024)).unwrap();
    file.read_exact(&mut table).unwrap();
    let name: Vec<u8> = "renraku-root-a"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let entry = table
        .chunks_exact(128)
        .find(|entry| entry[56..].starts_with(&name))
        .unwrap();
    u64::from_le_bytes(entry[32..40].try_into().unwrap()) * 512
}

/// Turns one bit over; gives the byte as it was.
fn flip(disk: &Path, at: u64) -> u8 {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    file.sync_all().unwrap();
    byte[0]
}
