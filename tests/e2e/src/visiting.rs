//! A person at a browser without a screen: curl with a cookie jar, so that a test sees status, header and body as they came.
//!
//! It does not run scripts or show pages; [`crate::browsing`] does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use test_harness::facility::Facility;
use test_harness::gatewayd::Gatewayd;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// curl's exit status: 0 when the answer came completely, 18 or 92 when it was cut, 28 when it took too long.
    pub ended: i32,
    /// The status code; 0 when there was no answer.
    pub status: u16,
    /// The header of the last answer, names in lower case.
    pub header: Vec<(String, String)>,
    /// The body, as far as it came.
    pub body: String,
}

impl Answer {
    /// The first value of a field; empty when it is not there.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.header
            .iter()
            .find_map(|(found, value)| (found == name).then_some(value.as_str()))
            .unwrap_or_default()
    }

    /// The support code on a page or in a problem document.
    #[must_use]
    pub fn support_code(&self) -> Option<String> {
        if let Ok(problem) = serde_json::from_str::<serde_json::Value>(&self.body) {
            return problem["support_code"].as_str().map(str::to_owned);
        }
        let (_, after) = self.body.split_once("サポートコード <b>")?;
        Some(after.split('<').next()?.to_owned())
    }

    /// Whether the page says `words`.
    #[must_use]
    pub fn says(&self, words: &str) -> bool {
        self.body.contains(words)
    }
}

/// curl with a cookie jar of its own.
#[derive(Debug)]
pub struct Visitor {
    jar: PathBuf,
    anchor: PathBuf,
    any_certificate: bool,
    count: AtomicU32,
}

impl Visitor {
    /// Somebody who trusts the facility's city and has visited nothing yet.
    #[must_use]
    pub fn new(facility: &Facility, name: &str) -> Self {
        Self {
            jar: facility.directory().join(format!("{name}.cookies")),
            anchor: facility.city.ca_file(),
            any_certificate: false,
            count: AtomicU32::new(0),
        }
    }

    /// Clicks the browser's warning away, as one must before the box has a certificate of the city.
    #[must_use]
    pub fn accepting_any_certificate(self) -> Self {
        Self {
            any_certificate: true,
            ..self
        }
    }

    /// Opens a page, following redirects, as a browser does.
    #[must_use]
    pub fn open(&self, url: &str) -> Answer {
        self.send(&["--location", "--header", "Accept: text/html", url])
    }

    /// Asks as a program does.
    #[must_use]
    pub fn ask(&self, url: &str) -> Answer {
        self.send(&["--header", "Accept: application/json", url])
    }

    /// Signs in at the notebook through the facility's box.
    #[must_use]
    pub fn sign_in(&self, facility: &Facility, user: &str) -> Answer {
        self.sign_in_at(facility, &facility.gateway, user)
    }

    /// Signs in at the notebook through any box.
    #[must_use]
    pub fn sign_in_at(&self, facility: &Facility, gateway: &Gatewayd, user: &str) -> Answer {
        let password = password(facility, user);
        let origin = gateway.portal_url();
        self.send(&[
            "--location",
            "--header",
            "Accept: text/html",
            "--header",
            &format!("Origin: {}", origin.trim_end_matches('/')),
            "--data-urlencode",
            &format!("user_id={user}"),
            "--data-urlencode",
            &format!("password={password}"),
            &format!("{origin}staff/login"),
        ])
    }

    /// Opens the stored notes by way of the notebook, as the link on an error page does.
    #[must_use]
    pub fn stored(&self, gateway: &Gatewayd) -> Answer {
        self.open(&format!(
            "{}.well-known/renraku-gateway/notes",
            gateway.portal_url()
        ))
    }

    /// Any request, in curl's words.
    ///
    /// # Panics
    /// When curl cannot be started.
    #[must_use]
    #[allow(
        clippy::expect_used,
        reason = "without curl there is no test; the harness names the package"
    )]
    pub fn send(&self, arguments: &[&str]) -> Answer {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let head = self.jar.with_extension(format!("{number}.head"));
        let output = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--max-time", "40", "--cacert"])
            .arg(&self.anchor)
            .args(self.any_certificate.then_some("--insecure"))
            .arg("--dump-header")
            .arg(&head)
            .arg("--cookie")
            .arg(&self.jar)
            .arg("--cookie-jar")
            .arg(&self.jar)
            .args(arguments)
            .output()
            .expect("curl starts");
        let (status, header) = last_head(&head);
        let _ = std::fs::remove_file(&head);
        Answer {
            ended: output.status.code().unwrap_or(-1),
            status,
            header,
            body: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }
}

/// The password of a seeded user.
#[must_use]
pub fn password(facility: &Facility, user: &str) -> String {
    let users = facility.city.described()["users"].as_array();
    users
        .into_iter()
        .flatten()
        .find(|found| found["user_id"] == user)
        .and_then(|found| found["password"].as_str())
        .unwrap_or_default()
        .to_owned()
}

/// curl writes one head after the other: of redirects, and of informational answers.
fn last_head(file: &Path) -> (u16, Vec<(String, String)>) {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut last = (0, Vec::new());
    for line in text.lines() {
        if line.starts_with("HTTP/") {
            let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
            last = (status.unwrap_or(0), Vec::new());
        } else if let Some((name, value)) = line.split_once(':') {
            last.1
                .push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    last
}
