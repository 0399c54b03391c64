//! Antivirus databases that the city signs and publishes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use test_harness::facility::Facility;
use test_harness::signatures::Signatures;

/// What the city's tool is given to publish. Built a little after the database that the facility begins with.
fn published(signatures: &Signatures) -> Value {
    let date = |time: i64| {
        let output = std::process::Command::new("date")
            .args(["-u", "-d", &format!("@{time}"), "+%FT%TZ"])
            .output()
            .expect("date is on every Debian");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let files: Vec<Value> = signatures
        .files
        .iter()
        .map(|(name, content)| json!({"name": name, "base64": STANDARD.encode(content)}))
        .collect();
    json!({
        "serial": signatures.serial,
        "built_at": date(signatures.built_at),
        "expires": date(signatures.built_at + signatures.valid),
        "canary": {"signature": signatures.canary.0, "content": signatures.canary.1},
        "files": files,
    })
}

/// Has the city sign and publish a database, and tell the box.
///
/// # Panics
/// When the city does not.
pub fn publish(facility: &Facility, signatures: &Signatures) {
    let city = &facility.city;
    city.control("tuf-antivirus", &published(signatures))
        .expect("the city signs what a test gives it");
    city.control("hint", &json!({"id": "antivirus"}))
        .expect("the city runs");
}
