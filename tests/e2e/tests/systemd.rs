//! The files in `systemd/` are sound, tight, and explain themselves.
//!
//! They are checked in a root directory of their own, so that nothing has to be installed. They are not started: that
//! needs a booted system.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use test_harness::binaries::workspace;

/// Bounds for `systemd-analyze security --threshold`, in tenths: 0 is the least exposed, 100 the most.
const GATEWAYD_EXPOSURE: &str = "15";
const CLAMD_EXPOSURE: &str = "10";
const UPDATER_EXPOSURE: &str = "15";

#[test]
fn systemd_has_nothing_to_object_to_in_the_units() {
    let root = Root::with_units();
    let output = root.analyze(&["verify", "--man=no", "--recursive-errors=yes"], &UNITS);
    assert!(output.success && output.text.is_empty(), "{}", output.text);
}

#[test]
fn systemd_objects_to_a_misspelt_directive() {
    let root = Root::with_units();
    let unit = root.unit("gatewayd.service");
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text.replace("NoNewPrivileges", "NoNewPrivilege")).unwrap();
    let output = root.analyze(&["verify", "--man=no", "--recursive-errors=yes"], &UNITS);
    assert!(
        output.text.contains("NoNewPrivilege"),
        "the check above would see nothing: {}",
        output.text
    );
}

#[test]
fn the_units_stay_within_their_exposure() {
    let root = Root::with_units();
    for (unit, bound) in [
        ("gatewayd.service", GATEWAYD_EXPOSURE),
        ("clamav-daemon.service", CLAMD_EXPOSURE),
        ("gateway-update.service", UPDATER_EXPOSURE),
        ("gateway-factory-reset.service", UPDATER_EXPOSURE),
        ("gateway-health.service", UPDATER_EXPOSURE),
    ] {
        let threshold = format!("--threshold={bound}");
        let output = root.analyze(
            &["security", "--offline=yes", "--no-pager", &threshold],
            &[unit],
        );
        assert!(
            output.success,
            "{unit} is above {bound} tenths:\n{}",
            output.text
        );
        assert!(
            output.text.contains("Overall exposure level"),
            "{}",
            output.text
        );
    }
}

#[test]
fn every_directive_of_the_services_has_a_reason_beside_it() {
    for file in [
        "gatewayd.service",
        "gateway-update.service",
        "gateway-factory-reset.service",
        "gateway-health.service",
        "clamav-daemon.service.d/renraku-gateway.conf",
    ] {
        let text = fs::read_to_string(systemd().join(file)).unwrap();
        let mut has_reason = false;
        let mut is_service = false;
        for line in text.lines() {
            match line.chars().next() {
                None => has_reason = false,
                Some('[') => (is_service, has_reason) = (line == "[Service]", false),
                // A ruler between groups is not a reason.
                Some('#') => has_reason = !line.starts_with("# --"),
                // What is started is what the file is about.
                Some(_) if line.starts_with("ExecStart=") => {}
                Some(_) => assert!(has_reason || !is_service, "{file}: {line} has no reason"),
            }
        }
    }
}

#[test]
fn the_gateway_can_become_nobody_else_and_dump_nothing() {
    let text = fs::read_to_string(systemd().join("gatewayd.service")).unwrap();
    for directive in [
        "User=renraku-gateway",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "MemoryDenyWriteExecute=yes",
        "DevicePolicy=closed",
        "DeviceAllow=/dev/tpmrm0 rw",
        "LimitCORE=0",
        "MemorySwapMax=0",
    ] {
        assert!(
            text.lines().any(|line| line == directive),
            "{directive} is missing"
        );
    }
    let devices = text.lines().filter(|line| line.starts_with("DeviceAllow="));
    assert_eq!(devices.count(), 1, "one device only");
}

#[test]
fn clamd_is_open_to_the_gateway_only() {
    let socket =
        fs::read_to_string(systemd().join("clamav-daemon.socket.d/renraku-gateway.conf")).unwrap();
    assert!(socket.contains("SocketMode=0660") && socket.contains("SocketGroup=renraku-scan"));
    let users = fs::read_to_string(systemd().join("sysusers.d/renraku-gateway.conf")).unwrap();
    let members: Vec<&str> = users
        .lines()
        .filter(|line| line.starts_with("m ") && line.ends_with("renraku-scan"))
        .collect();
    assert_eq!(members, ["m renraku-gateway renraku-scan"]);
}

#[test]
fn clamd_runs_with_the_committed_configuration_and_loads_what_the_gateway_proved() {
    let unit =
        fs::read_to_string(systemd().join("clamav-daemon.service.d/renraku-gateway.conf")).unwrap();
    let gateway = fs::read_to_string(workspace().join("gateway/daemon/gateway.toml")).unwrap();
    let file = "/usr/share/renraku-gateway/clamd.conf";
    assert!(unit.contains(&format!("--config-file={file}")));
    assert!(gateway.contains(&format!("configuration = \"{file}\"")));
    let clamd = fs::read_to_string(workspace().join("gateway/antivirus/clamd.conf")).unwrap();
    let place = "/var/lib/renraku-antivirus";
    assert!(gateway.contains(&format!("databases = \"{place}\"")));
    assert!(clamd.contains(&format!("\nDatabaseDirectory {place}/current/db\n")));
    assert!(clamd.contains("\nLocalSocket /run/clamav/clamd.ctl\n"));
    let writer = fs::read_to_string(systemd().join("gatewayd.service")).unwrap();
    assert!(writer.contains(&format!("ReadWritePaths={place}")));
    assert!(!unit.contains(place), "clamd itself writes no database");
}

#[test]
fn users_and_directories_can_be_created_from_the_files() {
    let root = Root::with_units();
    let file = |name: &str| systemd().join(name);
    let users = run(Command::new("systemd-sysusers")
        .arg(root.option())
        .arg(file("sysusers.d/renraku-gateway.conf")));
    assert!(users.success, "{}", users.text);
    assert!(
        fs::read_to_string(root.path().join("etc/passwd"))
            .unwrap()
            .contains("renraku-gateway:")
    );
    assert!(
        fs::read_to_string(root.path().join("etc/group"))
            .unwrap()
            .contains("tss:")
    );

    let mut create = Command::new("systemd-tmpfiles");
    let directories = run(create
        .arg("--create")
        .arg(root.option())
        .arg(file("tmpfiles.d/renraku-gateway.conf")));
    // Giving a directory to another user takes root; a developer's run gets as far as trying.
    let is_root = nix::unistd::geteuid().is_root();
    assert!(directories.success || !is_root, "{}", directories.text);
    assert!(
        root.path().join("var/lib/renraku-gateway").is_dir(),
        "{}",
        directories.text
    );
}

#[test]
fn the_catalog_explains_every_event_in_both_languages() {
    let catalog = fs::read_to_string(systemd().join("catalog/renraku-gateway.catalog")).unwrap();
    let headers: BTreeSet<&str> = catalog
        .lines()
        .filter_map(|line| line.strip_prefix("-- "))
        .collect();
    let ids = message_ids();
    assert!(ids.len() > 10, "the ids were not found in gateway/journal");
    let expected: BTreeSet<String> = ids
        .iter()
        .flat_map(|id| [id.clone(), format!("{id} ja")])
        .collect();
    assert_eq!(headers, expected.iter().map(String::as_str).collect());

    let root = Root::with_units();
    let update = run(Command::new("journalctl")
        .arg("--update-catalog")
        .arg(root.option()));
    assert!(update.success, "{}", update.text);
    let list = run(Command::new("journalctl")
        .arg("--list-catalog")
        .arg(root.option()));
    assert_eq!(list.text.lines().count(), ids.len(), "{}", list.text);
}

/// The 32 hexadecimal digits in quotes that gateway-journal gives to its event kinds.
fn message_ids() -> BTreeSet<String> {
    let source = fs::read_to_string(workspace().join("gateway/journal/src/lib.rs")).unwrap();
    let is_id = |text: &&str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    source.split('"').filter(is_id).map(str::to_owned).collect()
}

const UNITS: [&str; 10] = [
    "gatewayd.service",
    "gatewayd.socket",
    "gateway-factory-reset.path",
    "gateway-factory-reset.service",
    "gateway-health.service",
    "gateway-update.path",
    "gateway-update.service",
    "gateway-update.timer",
    "clamav-daemon.service",
    "clamav-daemon.socket",
];

fn systemd() -> PathBuf {
    workspace().join("systemd")
}

/// A root directory with our units, those of the system that they refer to, and programs by the right names.
struct Root(TempDir);

impl Root {
    fn with_units() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for directory in [
            "usr/lib/systemd/system",
            "usr/lib/systemd/catalog",
            "usr/bin",
            "usr/sbin",
            "etc",
            "var/lib/systemd/catalog",
        ] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin")] {
            std::os::unix::fs::symlink(target, root.path().join(link)).unwrap();
        }
        for program in [
            "usr/bin/gatewayd",
            "usr/bin/gateway-update",
            "usr/bin/kill",
            "usr/sbin/clamd",
        ] {
            fs::copy("/bin/true", root.path().join(program)).unwrap();
        }
        for name in UNITS.iter().filter(|name| name.starts_with("gateway")) {
            fs::copy(systemd().join(name), root.unit(name)).unwrap();
        }
        for name in ["clamav-daemon.service", "clamav-daemon.socket"] {
            fs::copy(Path::new("/lib/systemd/system").join(name), root.unit(name)).unwrap();
            let drop_in = format!("{name}.d/renraku-gateway.conf");
            fs::create_dir_all(root.unit(&format!("{name}.d"))).unwrap();
            fs::copy(systemd().join(&drop_in), root.unit(&drop_in)).unwrap();
        }
        for entry in fs::read_dir("/lib/systemd/system").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".target") && entry.path().is_file() {
                fs::copy(entry.path(), root.unit(&name)).unwrap();
            }
        }
        let catalog = "catalog/renraku-gateway.catalog";
        fs::copy(
            systemd().join(catalog),
            root.path().join("usr/lib/systemd").join(catalog),
        )
        .unwrap();
        root
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.path().join("usr/lib/systemd/system").join(name)
    }

    fn option(&self) -> String {
        format!("--root={}", self.path().display())
    }

    fn analyze(&self, arguments: &[&str], units: &[&str]) -> Output {
        run(Command::new("systemd-analyze")
            .args(arguments)
            .arg(self.option())
            .args(units))
    }
}

struct Output {
    success: bool,
    text: String,
}

fn run(command: &mut Command) -> Output {
    let output = command.env("SYSTEMD_COLORS", "0").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Output {
        success: output.status.success(),
        text: String::from_utf8_lossy(&text).trim().to_owned(),
    }
}
