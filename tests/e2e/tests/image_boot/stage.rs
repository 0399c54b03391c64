//! The city with the keys that the image trusts, and what people do at a box.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use test_harness::appliance::{self, Appliance};
use test_harness::city::{self, City};
use test_harness::{setup, wait};

use super::{READY, SOON, START};

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
        let begin = Instant::now();
        appliance.switch_on(self.city.port()).unwrap();
        appliance.wait_for(&[READY], START).unwrap();
        println!(
            "{name}: gatewayd {} s after the first power-on, /var and keys made",
            begin.elapsed().as_secs()
        );
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

    /// The manager puts the recovery key on paper, and the box forgets it; gives all of the key.
    pub(crate) fn recovery_key(&self, appliance: &Appliance) -> String {
        let portal = appliance.portal_url();
        assert_eq!(self.sign_in(&portal, "manager"), 200);
        // Over to the box's own pages, once it knows who that is.
        let over = format!("{portal}.well-known/renraku-gateway/notes");
        wait::until("the box's own pages", SOON, || {
            (self.visit(&["--location", &over]).0 == 200).then_some(())
        })
        .unwrap();
        let (status, shown) = self.press(appliance, "recovery-key/show", &[]);
        assert_eq!(status, 200, "{shown}");
        let shown = shown.split_once("small-code\">").unwrap().1;
        let key = shown.split_once('<').unwrap().0.replace('-', "");
        assert_eq!(key.len(), 32, "{key}");
        assert_eq!(
            self.press(appliance, "recovery-key/handed-over", &[]).0,
            303
        );
        assert_ne!(self.press(appliance, "recovery-key/show", &[]).0, 200);
        let page = format!("{}recovery-key", appliance.console_url());
        assert!(
            self.visit(&[&page])
                .1
                .contains("この装置からは消えています")
        );
        key + "\n"
    }

    /// Presses a button on one of the box's own pages.
    pub(crate) fn press(
        &self,
        appliance: &Appliance,
        path: &str,
        fields: &[&str],
    ) -> (u16, String) {
        let console = appliance.console_url();
        let (origin, target) = (
            format!("Origin: {}", console.trim_end_matches('/')),
            format!("{console}{path}"),
        );
        let mut arguments = vec!["--header", &origin];
        for field in fields {
            arguments.extend(["--data-urlencode", field]);
        }
        if fields.is_empty() {
            arguments.extend(["--data", ""]);
        }
        arguments.push(&target);
        self.visit(&arguments)
    }

    /// Signs somebody with this role in at the notebook, through the box; gives the status at the end.
    pub(crate) fn sign_in(&self, portal: &str, role: &str) -> u16 {
        let users = self.city.described()["users"].as_array().unwrap().clone();
        let ours = &self.city.described()["numbers"][0]["facility"];
        let user = users
            .iter()
            .find(|user| &user["facility"] == ours && user["role"] == role)
            .unwrap()
            .clone();
        let field = |name: &str| format!("{name}={}", user[name].as_str().unwrap());
        self.visit(&[
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
    }

    pub(crate) fn reaches(&self, url: &str) -> bool {
        self.visit(&[url]).0 == 200
    }

    /// The newest report that the city has.
    pub(crate) fn newest_report(&self) -> Option<Value> {
        let reports = self.city.statistics().ok()?["reports"].clone();
        let status = reports
            .as_array()?
            .iter()
            .find(|report| report["kind"] == "status")?;
        Some(status["last"].clone())
    }

    /// Waits until the city has heard that a check is in order.
    pub(crate) fn hears_that_all_is_well(&self, check: &str, appliance: &Appliance) {
        wait::until(
            &format!("the city to hear that {check} is ok"),
            START + SOON,
            || (self.reported(check)? == "ok").then_some(()),
        )
        .unwrap_or_else(|error| panic!("{error}\n{}", appliance.screen()));
    }

    /// The state of one check in the newest report that the city has.
    fn reported(&self, check: &str) -> Option<String> {
        self.newest_report()?["checks"]
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
