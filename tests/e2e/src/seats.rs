//! Somebody at a device of a facility: curl and openssl as a program on a device uses them, and a manager at the console.
//!
//! What is not in order panics with what came back; the tests in `tests/` say what should.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "what a test cannot do is its failure"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use test_harness::facility::Facility;

use crate::visiting::{Answer, Visitor, password};

/// Somebody at a device, with or without a certificate.
#[derive(Debug)]
pub struct Seat<'a> {
    facility: &'a Facility,
    visitor: Visitor,
    /// Certificate and key files.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl<'a> Seat<'a> {
    /// A device that holds nothing yet.
    #[must_use]
    pub fn new(facility: &'a Facility, name: &str) -> Self {
        Self {
            facility,
            visitor: Visitor::new(facility, name),
            certificate: None,
        }
    }

    /// Any request with the device's certificate, in curl's words.
    #[must_use]
    pub fn send(&self, arguments: &[&str]) -> Answer {
        let mut all: Vec<String> = Vec::new();
        if let Some((certificate, key)) = &self.certificate {
            let text = |path: &Path| path.to_str().unwrap().to_owned();
            all.extend([
                "--cert".into(),
                text(certificate),
                "--key".into(),
                text(key),
            ]);
        }
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.visitor.send(&all)
    }

    /// Opens a page, following redirects, as a browser does.
    #[must_use]
    pub fn open(&self, url: &str) -> Answer {
        self.send(&["--location", "--header", "Accept: text/html", url])
    }

    /// An address of the box's own pages.
    #[must_use]
    pub fn console(&self, path: &str) -> String {
        format!("{}{path}", self.facility.gateway.console_url())
    }

    /// An address of the notebook.
    #[must_use]
    pub fn notebook(&self, path: &str) -> String {
        format!("{}{path}", self.facility.gateway.portal_url())
    }

    /// Signs in at the notebook and goes on to the box's own pages.
    pub fn signs_in_as_manager(&self) {
        let user = manager(self.facility);
        let secret = password(self.facility, &user);
        let origin = format!("Origin: {}", self.notebook("").trim_end_matches('/'));
        let signed_in = self.send(&[
            "--location",
            "--header",
            &origin,
            "--data-urlencode",
            &format!("user_id={user}"),
            "--data-urlencode",
            &format!("password={secret}"),
            &self.notebook("staff/login"),
        ]);
        assert_eq!(signed_in.status, 200, "{}", signed_in.body);
        let _ = self.open(&self.notebook(".well-known/renraku-gateway/notes"));
    }

    /// Sends a form of the console.
    pub fn submits(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = format!("Origin: {}", self.console("").trim_end_matches('/'));
        let mut arguments = vec!["--location".to_owned(), "--header".to_owned(), origin];
        for (name, value) in fields {
            arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        arguments.push(self.console(path));
        self.send(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Types a code that was read off a device's screen, and lets it in.
    pub fn approves(&self, code: &str) {
        let page = self.submits("devices/pairing", &[("code", code)]);
        let pairing = page
            .body
            .split_once("name=\"pairing\" value=\"")
            .and_then(|(_, rest)| rest.split('"').next())
            .unwrap_or_else(|| panic!("no pairing on the page: {}", page.body));
        // Whoever registers the first device from another one is shut out by it; what was asked is done all the same.
        let done = self.submits(
            "devices/decision",
            &[
                ("pairing", pairing),
                ("decision", "approve"),
                ("manager", "yes"),
            ],
        );
        assert!(matches!(done.status, 200 | 403), "{}", done.body);
    }

    /// Posts JSON to the box; status and JSON of the answer.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value, more: &[&str]) -> (u16, Value) {
        let (url, body) = (self.console(path), body.to_string());
        let mut arguments = vec![
            "--header",
            "Content-Type: application/json",
            "--data-binary",
            &body,
        ];
        arguments.extend(more);
        arguments.push(&url);
        let answer = self.send(&arguments);
        (
            answer.status,
            serde_json::from_str(&answer.body).unwrap_or(Value::Null),
        )
    }
}

fn manager(facility: &Facility) -> String {
    let ours = &facility.city.described()["numbers"][0]["facility"];
    let users = facility.city.described()["users"].as_array().unwrap();
    let found = users
        .iter()
        .find(|user| &user["facility"] == ours && user["role"] == "manager");
    found.unwrap()["user_id"].as_str().unwrap().to_owned()
}

/// Runs openssl.
///
/// # Panics
/// When it fails.
pub fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A PC with a key of its own asks, the manager lets it in, it fetches its certificate.
///
/// # Panics
/// When it is not let in.
#[must_use]
pub fn pair<'a>(facility: &'a Facility, by: &Seat<'_>, name: &str, kind: &str) -> Seat<'a> {
    let mut seat = Seat::new(facility, name);
    let file = |ending: &str| facility.directory().join(format!("{name}.{ending}"));
    let (key, csr, certificate) = (file("key"), file("csr"), file("crt"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    openssl(&[
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=any",
        "-keyout",
        &text(&key),
        "-out",
        &text(&csr),
    ]);
    let request = std::fs::read_to_string(&csr).unwrap();
    let wish = json!({"name": name, "kind": kind, "csr": request});
    let (status, ticket) = seat.post("device/v1/pair", &wish, &[]);
    assert_eq!(status, 201, "{ticket}");
    by.approves(ticket["code"].as_str().unwrap());
    let bearer = format!(
        "Authorization: Bearer {}",
        ticket["token"].as_str().unwrap()
    );
    let (status, answer) = seat.post("device/v1/pair/collect", &json!({}), &["--header", &bearer]);
    assert_eq!(status, 200, "{answer}");
    std::fs::write(&certificate, answer["certificate"].as_str().unwrap()).unwrap();
    seat.certificate = Some((certificate, key));
    seat
}
