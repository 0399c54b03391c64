//! The browser of the end-to-end tests trusts the city's root certificate and no other.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_harness::browser::Browser;
use test_harness::{Child, Program, http, ports, wait};

#[test]
fn the_browser_trusts_the_given_root_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let trusted = Site::start(directory.path(), "trusted");
    let stranger = Site::start(directory.path(), "stranger");
    let browser = Browser::start(&trusted.ca_file).unwrap();
    let session = Session::open(&browser);

    session.visit(&trusted.url());
    assert!(
        session.source().contains("s_server"),
        "{}",
        session.source()
    );

    // Chromium shows its warning page instead; depending on its version WebDriver calls that an error or a page.
    let answer = session.call("POST", "/url", Some(json!({ "url": stranger.url() })));
    assert!(!session.source().contains("s_server"));
    let shown = format!("{answer} {}", session.source());
    assert!(shown.contains("ERR_CERT_AUTHORITY_INVALID"), "{shown}");
}

#[test]
fn a_dropped_browser_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(directory.path(), "site");
    let browser = Browser::start(&site.ca_file).unwrap();
    let arguments = browser.capabilities()["goog:chromeOptions"]["args"].to_string();
    let profile = arguments
        .split("renraku-browser-")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let session = Session::open(&browser);
    session.visit(&site.url());
    assert!(command_lines().contains(&profile));
    drop(browser);
    assert!(!command_lines().contains(&profile));
}

fn command_lines() -> String {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default())
        .collect()
}

/// A TLS server with a root of its own.
struct Site {
    ca_file: PathBuf,
    name: String,
    port: u16,
    _server: Child,
}

impl Site {
    fn start(directory: &Path, name: &str) -> Self {
        let file = |suffix: &str| directory.join(format!("{name}{suffix}"));
        let (ca, ca_key, leaf, leaf_key) =
            (file("-ca.pem"), file("-ca.key"), file(".pem"), file(".key"));
        let host = format!("{name}.localhost");
        let make = |arguments: &[&str], certificate: &Path, key: &Path| {
            let output = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                    "-days",
                    "30",
                ])
                .args(arguments)
                .arg("-out")
                .arg(certificate)
                .arg("-keyout")
                .arg(key)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        make(&["-subj", &format!("/CN={name} root")], &ca, &ca_key);
        let san = format!("subjectAltName=DNS:{host}");
        let (ca_path, ca_key_path) = (ca.display().to_string(), ca_key.display().to_string());
        let subject = format!("/CN={host}");
        make(
            &[
                "-subj",
                &subject,
                "-CA",
                &ca_path,
                "-CAkey",
                &ca_key_path,
                "-addext",
                &san,
                "-addext",
                "basicConstraints=CA:FALSE",
                "-addext",
                "extendedKeyUsage=serverAuth",
            ],
            &leaf,
            &leaf_key,
        );
        let port = ports::free().unwrap();
        let mut server = Program::new("openssl s_server", "openssl", file(".log"))
            .args(["s_server", "-www", "-accept", &port.to_string(), "-cert"])
            .arg(&leaf)
            .arg("-key")
            .arg(&leaf_key)
            .spawn()
            .unwrap();
        wait::for_port(&mut server, port, Duration::from_secs(10)).unwrap();
        Self {
            ca_file: ca,
            name: host,
            port,
            _server: server,
        }
    }

    fn url(&self) -> String {
        format!("https://{}:{}/", self.name, self.port)
    }
}

/// Just enough WebDriver for this file.
struct Session {
    server: std::net::SocketAddr,
    path: String,
}

impl Session {
    fn open(browser: &Browser) -> Self {
        let server = browser
            .webdriver()
            .trim_start_matches("http://")
            .parse()
            .unwrap();
        let asked = json!({ "capabilities": { "alwaysMatch": browser.capabilities() } });
        let answer = http::send(
            server,
            "POST",
            "/session",
            Some(&asked),
            Duration::from_secs(60),
        )
        .unwrap()
        .json()
        .unwrap();
        let id = answer["value"]["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no session: {answer}"));
        Self {
            server,
            path: format!("/session/{id}"),
        }
    }

    fn call(&self, method: &str, command: &str, body: Option<Value>) -> Value {
        let path = format!("{}{command}", self.path);
        http::send(
            self.server,
            method,
            &path,
            body.as_ref(),
            Duration::from_secs(60),
        )
        .unwrap()
        .json()
        .unwrap()
    }

    fn visit(&self, url: &str) {
        let answer = self.call("POST", "/url", Some(json!({ "url": url })));
        assert!(answer["value"].is_null(), "{answer}");
    }

    fn source(&self) -> String {
        self.call("GET", "/source", None)["value"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}
