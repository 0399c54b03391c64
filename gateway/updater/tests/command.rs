//! The program itself: exit codes, words for people, and that nothing happens without a sound configuration.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use gateway_updater::slot::Slot;
use support::kernel::{Signer, command_line, partitions};
use support::release::{Release, noise};

struct Box {
    folder: tempfile::TempDir,
}

impl Box {
    fn new() -> Self {
        use der::EncodePem as _;
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::new("db");
        let release = Release::new("1.1", noise(1, 65_536), &signer);
        let path = |below: &str| folder.path().join(below);
        for name in ["proc", "etc", "partitions", "kernels"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let line = command_line(&gateway_updater::hex::of(&release.root_hash), Slot::A);
        std::fs::write(path("proc/cmdline"), line).unwrap();
        let name = "IMAGE_ID=renraku-gateway\nIMAGE_VERSION=1.1\n";
        std::fs::write(path("etc/os-release"), name).unwrap();
        std::fs::write(path("etc/machine-id"), "0123\n").unwrap();
        std::fs::write(path("root.json"), "{}").unwrap();
        let pem = signer.certificate.to_pem(der::pem::LineEnding::LF).unwrap();
        std::fs::write(path("db.pem"), pem).unwrap();
        for uuid in Slot::ALL.map(partitions).as_flattened() {
            std::fs::write(path("partitions").join(uuid), vec![0; 2 * 65_536]).unwrap();
        }
        let kernel = &release.kernels[&Slot::A];
        std::fs::write(path("kernels/renraku-gateway_1.1_a.efi"), kernel).unwrap();
        std::fs::write(path("update.toml"), configuration(folder.path())).unwrap();
        Self { folder }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gateway-update"))
            .arg("--config")
            .arg(self.folder.path().join("update.toml"))
            .args(arguments)
            .output()
            .unwrap()
    }
}

fn configuration(folder: &Path) -> String {
    let at = folder.display();
    let slot = |slot| {
        let [root, verity] = partitions(slot);
        format!("root = \"{root}\"\nverity = \"{verity}\"\n")
    };
    format!(
        "hardware = \"box-1\"\nroot = \"{at}/root.json\"\nsigner = \"{at}/db.pem\"\nstate = \"{at}/state\"\n\
         kernels = \"{at}/kernels\"\nchannel = \"{at}/channel.sock\"\ncontrol = \"{at}/control.sock\"\n\
         box_id = \"{at}/etc/machine-id\"\nsystem = \"{at}\"\npartitions = \"{at}/partitions\"\nhealth_seconds = 0\n\
         restart = [\"/usr/bin/touch\", \"{at}/restarted\"]\n[a]\n{}[b]\n{}",
        slot(Slot::A),
        slot(Slot::B)
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_status_is_shown_to_people_and_to_programs() {
    let it = Box::new();
    let shown = it.run(&["status"]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).starts_with("動いている版: 1.1（スロットa、"));
    let json: serde_json::Value =
        serde_json::from_slice(&it.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json["running"]["version"], "1.1");
    assert_eq!(json["phase"], "idle");
    // Looking changes nothing.
    assert!(!it.folder.path().join("state").exists());
}

#[test]
fn a_refusal_has_exit_code_1_a_sentence_and_a_support_code() {
    let it = Box::new();
    // The shipped root is none.
    let refused = it.run(&["check"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("（サポートコード: TUF-FORM）"), "{said}");
    assert!(said.contains("event=\"update-refused\""), "{said}");
    assert!(!it.folder.path().join("restarted").exists());
}

#[test]
fn a_system_that_is_not_well_has_exit_code_4_and_is_not_restarted() {
    let it = Box::new();
    let judged = it.run(&["health"]);
    assert_eq!(judged.status.code(), Some(4), "{}", text(&judged.stderr));
    assert!(text(&judged.stdout).contains("UPD-HEALTH-GATEWAY"));
    // It was good before there was an update: there is nothing to go back to.
    assert!(!it.folder.path().join("restarted").exists());
}

#[test]
fn without_a_failed_version_retry_says_so() {
    let it = Box::new();
    let said = it.run(&["retry"]);
    assert_eq!(said.status.code(), Some(0));
    assert_eq!(text(&said.stdout).trim(), "失敗した版はありません。");
}

#[test]
fn a_faulty_configuration_and_a_foreign_system_are_named() {
    let it = Box::new();
    let os_release = it.folder.path().join("etc/os-release");
    std::fs::write(os_release, "ID=debian\n").unwrap();
    let refused = it.run(&["check"]);
    assert!(text(&refused.stderr).contains("UPD-RUNNING"));
    std::fs::write(it.folder.path().join("update.toml"), "hardware = 1").unwrap();
    let refused = it.run(&["status"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("UPD-CONFIG"));
    assert_eq!(it.run(&["nothing"]).status.code(), Some(2));
}
