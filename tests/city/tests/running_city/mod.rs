//! A reference city as a process of its own, and curl and openssl as its clients.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part of this"
)]

use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const RENRAKU: &str = "renraku.takahagi.localhost";
pub const EST: &str = "est.takahagi.localhost";
pub const GATEWAY: &str = "gw.takahagi.localhost";

pub struct RunningCity {
    process: Child,
    dir: tempfile::TempDir,
    ready: Value,
}

/// A key and a certificate on disk.
#[derive(Clone)]
pub struct Identity {
    pub key: PathBuf,
    pub certificate: PathBuf,
    pub serial: String,
}

/// What curl got.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text()))
    }

    /// The last part of the problem's type.
    pub fn problem(&self) -> String {
        let problem = self.json();
        assert!(
            self.headers.contains("application/problem+json"),
            "{}",
            self.headers
        );
        assert_eq!(problem["status"], self.status);
        problem["type"]
            .as_str()
            .unwrap()
            .strip_prefix("urn:renraku:problem:")
            .unwrap()
            .to_owned()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }
}

impl RunningCity {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ready_file = dir.path().join("ready.json");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_reference-city"))
            .arg("--dir")
            .arg(dir.path().join("city"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--control",
                "127.0.0.1:0",
                "--seed",
                "--ready-file",
            ])
            .arg(&ready_file)
            .args(more)
            .env("RUST_LOG", "debug")
            .stderr(log)
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(30);
        while !ready_file.exists() {
            assert!(Instant::now() < patience, "the city does not open");
            std::thread::sleep(Duration::from_millis(20));
        }
        let ready = serde_json::from_slice(&std::fs::read(&ready_file).unwrap()).unwrap();
        Self {
            process,
            dir,
            ready,
        }
    }

    pub fn port(&self) -> u16 {
        u16::try_from(self.ready["port"].as_u64().unwrap()).unwrap()
    }

    pub fn ready(&self) -> &Value {
        &self.ready
    }

    pub fn ca_file(&self) -> &str {
        self.ready["ca_file"].as_str().unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.port())
    }

    /// curl with the city's trust anchor.
    pub fn curl(&self, host: &str, path: &str, arguments: &[&str]) -> Answer {
        let out = Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "20",
                "-D",
                "-",
                "--cacert",
                self.ca_file(),
            ])
            .args(arguments)
            .arg(self.url(host, path))
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "curl: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        parse(&out.stdout)
    }

    /// curl with an identity.
    pub fn curl_as(&self, who: &Identity, host: &str, path: &str, arguments: &[&str]) -> Answer {
        let files = [who.certificate.to_str().unwrap(), who.key.to_str().unwrap()];
        let all = [&["--cert", files[0], "--key", files[1]], arguments].concat();
        self.curl(host, path, &all)
    }

    /// A call on the control port.
    pub fn control(&self, path: &str, body: &Value) -> Value {
        let port = self.ready["control_port"].as_u64().unwrap();
        let out = Command::new("curl")
            .args([
                "-sS",
                "-H",
                "content-type: application/json",
                "-d",
                &body.to_string(),
            ])
            .arg(format!("http://127.0.0.1:{port}/control/{path}"))
            .output()
            .unwrap();
        assert!(out.status.success());
        serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stdout)))
    }

    pub fn stats(&self) -> Value {
        let port = self.ready["control_port"].as_u64().unwrap();
        let out = Command::new("curl")
            .args(["-sS", &format!("http://127.0.0.1:{port}/control/stats")])
            .output();
        serde_json::from_slice(&out.unwrap().stdout).unwrap()
    }

    /// A fresh number and code.
    pub fn number(&self, facility: &str, manual: bool, expired: bool) -> (String, String) {
        let made = self.control(
            "number",
            &json!({ "facility": facility, "manual": manual, "expired": expired }),
        );
        (
            made["number"].as_str().unwrap().to_owned(),
            made["code"].as_str().unwrap().to_owned(),
        )
    }

    /// A key and a request for it made by openssl; returns the files of the key and the base64 request.
    pub fn request(&self, name: &str, more: &[&str]) -> (PathBuf, PathBuf) {
        let (key, csr) = (
            self.path(&format!("{name}.key")),
            self.path(&format!("{name}.csr")),
        );
        if !key.exists() {
            openssl(
                &[
                    "ecparam",
                    "-name",
                    "prime256v1",
                    "-genkey",
                    "-noout",
                    "-out",
                    key.to_str().unwrap(),
                ],
                b"",
            );
        }
        let mut arguments = vec![
            "req",
            "-new",
            "-key",
            key.to_str().unwrap(),
            "-outform",
            "DER",
        ];
        arguments.extend(more);
        if !more.contains(&"-subj") && !more.contains(&"-config") {
            arguments.extend(["-subj", "/"]);
        }
        let der = openssl(&arguments, b"");
        std::fs::write(&csr, openssl(&["base64", "-A"], &der)).unwrap();
        (key, csr)
    }

    /// Asks for a certificate with number and code.
    pub fn enroll(&self, csr: &Path, number: &str, code: &str) -> Answer {
        let data = format!("@{}", csr.display());
        self.curl(
            EST,
            "/.well-known/est/simpleenroll",
            &[
                "-u",
                &format!("{number}:{code}"),
                "-H",
                "content-type: application/pkcs10",
                "--data-binary",
                &data,
            ],
        )
    }

    /// A facility certificate for a fresh number.
    pub fn identity(&self, facility: &str, name: &str) -> Identity {
        let (number, code) = self.number(facility, false, false);
        let (key, csr) = self.request(name, &[]);
        let answer = self.enroll(&csr, &number, &code);
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.keep(&answer.body, key, name)
    }

    /// Takes the leaf out of certs-only PKCS#7.
    pub fn keep(&self, pkcs7: &[u8], key: PathBuf, name: &str) -> Identity {
        let certificate = self.path(&format!("{name}.pem"));
        let leaf = leaf_of(pkcs7);
        std::fs::write(&certificate, &leaf).unwrap();
        let serial =
            String::from_utf8(openssl(&["x509", "-noout", "-serial"], leaf.as_bytes())).unwrap();
        let serial = serial
            .trim()
            .strip_prefix("serial=")
            .unwrap()
            .to_lowercase();
        Identity {
            key,
            certificate,
            serial,
        }
    }

    /// Signs a user in through the JSON interface; returns the cookie.
    pub fn sign_in(&self, who: &Identity, user: &str) -> String {
        let answer = self.sign_in_answer(who, user, &self.password(user));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let cookie = answer.header("set-cookie").unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    pub fn sign_in_answer(&self, who: &Identity, user: &str, password: &str) -> Answer {
        let body = json!({ "user_id": user, "password": password }).to_string();
        self.curl_as(
            who,
            RENRAKU,
            "/staff/api/session",
            &["-H", "content-type: application/json", "-d", &body],
        )
    }

    pub fn password(&self, user: &str) -> String {
        let users = self.ready["users"].as_array().unwrap();
        let found = users.iter().find(|entry| entry["user_id"] == user).unwrap();
        found["password"].as_str().unwrap().to_owned()
    }
}

impl Drop for RunningCity {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let _ = std::io::stderr().write_all(self.log().as_bytes());
        }
    }
}

pub fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut process = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(input).unwrap();
    let out = process.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

/// All certificates of a base64 certs-only PKCS#7, as PEM.
pub fn certificates_of(pkcs7: &[u8]) -> Vec<String> {
    let der = openssl(&["base64", "-d", "-A"], pkcs7);
    let pem =
        String::from_utf8(openssl(&["pkcs7", "-inform", "DER", "-print_certs"], &der)).unwrap();
    pem.split_inclusive("-----END CERTIFICATE-----")
        .filter_map(|part| {
            part.find("-----BEGIN")
                .map(|at| format!("{}\n", &part[at..]))
        })
        .collect()
}

/// The certificate that is no authority.
pub fn leaf_of(pkcs7: &[u8]) -> String {
    certificates_of(pkcs7)
        .into_iter()
        .find(|pem| {
            let text = openssl(
                &["x509", "-noout", "-ext", "basicConstraints"],
                pem.as_bytes(),
            );
            String::from_utf8_lossy(&text).contains("CA:FALSE")
        })
        .expect("there is a leaf")
}

fn parse(out: &[u8]) -> Answer {
    let mut rest = out;
    loop {
        let end = rest
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("an answer has a head");
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let status: u16 = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        if status >= 200 {
            return Answer {
                status,
                headers: head,
                body: rest.to_vec(),
            };
        }
    }
}
