//! The city with the keys that the image trusts, and what people do at a box.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use test_harness::appliance::{self, Appliance};
use test_harness::city::{self, City};
use test_harness::setup;

use super::{READY, START};

/// A city with the keys that the image trusts, and a box as it leaves the factory.
pub(crate) struct Stage {
    pub(crate) city: City,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) release: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn box_from_the_factory(&self, name: &str) -> Appliance {
        let mut appliance = Appliance::new(name, &self.release).unwrap();
        appliance.switch_on(self.city.port()).unwrap();
        appliance.wait_for(&[READY], START).unwrap();
        appliance
    }

    /// The city signs a release and says that it is out.
    pub(crate) fn publish(&self, version: &str, folder: &Path) {
        let root_hash = fs::read_to_string(folder.join("root-hash")).unwrap();
        let release = json!({
            "version": version, "hardware": "x86-64-uefi", "root_hash": root_hash.trim(),
            "folder": folder.join("release"),
        });
        self.city.control("tuf-image", &release).unwrap();
        let hint = json!({ "id": "releases" });
        self.city.control("hint", &hint).unwrap();
    }

    /// The manager's work, on the setup page.
    pub(crate) fn provision(&self, appliance: &Appliance) {
        let (number, code) = (
            self.city.text("certificate_number"),
            self.city.text("access_code"),
        );
        setup::provision_at(&appliance.console_url(), self.folder.path(), number, code).unwrap();
    }

    /// curl, as somebody who trusts the city and keeps cookies; gives the status and the body.
    pub(crate) fn visit(&self, arguments: &[&str]) -> (u16, String) {
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

    pub(crate) fn reaches(&self, url: &str) -> bool {
        self.visit(&[url]).0 == 200
    }

    /// The state of one check in the newest report that the city has.
    pub(crate) fn reported(&self, check: &str) -> Option<String> {
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

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("--recursive")
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success(), "{}", from.display());
}
