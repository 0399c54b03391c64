//! `cargo xtask demo` as a newcomer runs it: everything answers, and nothing is left behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use test_harness::{Child, Program, binaries, ports, wait};

/// The demo builds first, which may take long on a machine that has just run something else.
const START: Duration = Duration::from_secs(300);
const END: Duration = Duration::from_secs(30);

#[test]
fn the_demo_answers_and_ends_with_ctrl_c_without_leaving_anything() {
    let mut demo = Demo::start(&[]);
    for key in [
        "portal_url",
        "console_url",
        "city_url",
        "ca_file",
        "certificate_number",
        "access_code",
        "spare_certificate_number",
        "spare_access_code",
        "tpm",
    ] {
        assert!(
            !demo.text(key).is_empty(),
            "{key} is missing in {}",
            demo.json
        );
    }
    assert_eq!(demo.json["provisioned"], true);
    let users = demo.json["users"].as_array().unwrap();
    assert!(
        users.len() >= 5,
        "four staff of two facilities and a manager"
    );
    assert!(users.iter().all(|user| {
        user["password"]
            .as_str()
            .is_some_and(|password| !password.is_empty())
    }));
    assert!(users.iter().any(|user| user["role"] == "manager"));
    let written =
        std::fs::read_to_string(binaries::workspace().join("target/demo/demo.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), demo.json);

    let portal = demo.fetch("portal_url");
    assert!(portal.contains("ポータルサイト"), "{portal}");
    // What the box relays is what the city says, byte for byte.
    assert_eq!(
        portal.replace(&demo.authority("portal_url"), "HERE"),
        demo.fetch("city_url")
            .replace(&demo.authority("city_url"), "HERE")
    );

    let pids = demo.pids();
    assert_eq!(pids.len(), 5, "{}", demo.json);
    demo.process.signal(Signal::SIGINT).unwrap();
    let status = demo.process.wait(END).unwrap();
    assert!(status.success(), "{status}\n{}", demo.process.output_text());
    assert_gone(&pids);
}

#[test]
fn a_demo_killed_outright_takes_everything_with_it() {
    let mut demo = Demo::start(&["--manual"]);
    let pids = demo.pids();
    demo.process.signal(Signal::SIGKILL).unwrap();
    demo.process.wait(END).unwrap();
    assert_gone(&pids);
}

#[test]
fn a_manual_demo_waits_at_the_setup_page() {
    let demo = Demo::start(&["--manual"]);
    assert_eq!(demo.json["provisioned"], false);
    let page = demo.fetch("console_url");
    assert!(page.contains("初期設定を始める"), "{page}");
}

#[test]
fn a_second_demo_says_that_the_first_is_running() {
    let demo = Demo::start(&["--manual"]);
    let second = Command::new(binaries::ours("xtask").unwrap())
        .args(["demo", "--manual"])
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("already running"));
    drop(demo);
}

struct Demo {
    process: Child,
    json: Value,
    _files: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// There is one target/demo.
static ALONE: Mutex<()> = Mutex::new(());

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let files = tempfile::tempdir().unwrap();
        let ready = files.path().join("ready.json");
        let mut process = Program::new(
            "xtask demo",
            binaries::ours("xtask").unwrap(),
            files.path().join("demo.log"),
        )
        .arg("demo")
        .args(["--port", &ports::free().unwrap().to_string()])
        .arg("--ready-file")
        .arg(&ready)
        .args(arguments)
        .spawn()
        .unwrap();
        wait::for_ready_file(&mut process, &ready, START).unwrap();
        let json = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        Self {
            process,
            json,
            _files: files,
            _alone: alone,
        }
    }

    fn text(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap_or_default()
    }

    fn pids(&self) -> Vec<u64> {
        self.json["pids"]
            .as_object()
            .unwrap()
            .values()
            .map(|pid| pid.as_u64().unwrap())
            .collect()
    }

    fn authority(&self, key: &str) -> String {
        self.text(key).split('/').nth(2).unwrap().to_owned()
    }

    /// With the city's root where the box is provisioned; before, its certificate is of its own making.
    fn fetch(&self, key: &str) -> String {
        let trust = if self.json["provisioned"] == true {
            vec![
                PathBuf::from("--cacert"),
                PathBuf::from(self.text("ca_file")),
            ]
        } else {
            vec![PathBuf::from("--insecure")]
        };
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--location",
                "--fail",
                "--noproxy",
                "*",
            ])
            .args(trust)
            .arg(self.text(key))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{key}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

fn assert_gone(pids: &[u64]) {
    for pid in pids {
        let directory = format!("/proc/{pid}");
        wait::until(&format!("the end of process {pid}"), END, || {
            (!Path::new(&directory).exists()).then_some(())
        })
        .unwrap();
    }
}
