//! The signed channel through the running gateway: a hint, an attack, a restart, a medium, and a gate that blocks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_e2e::visiting::Visitor;
use serde_json::{Value, json};
use test_harness::facility::{Facility, Options};
use test_harness::wait;

const SOON: Duration = Duration::from_secs(30);

fn policy(version: u64) -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    json!({
        "version": version,
        "not_before": now - 3600,
        "expires": now + 30 * 86_400,
        "facilities": ["*"],
    })
}

fn database(serial: u64, content: &[u8]) -> Value {
    json!({
        "serial": serial,
        "built_at": "2026-11-22T00:00:00Z",
        "expires": "2027-11-22T00:00:00Z",
        "canary": { "signature": format!("Renraku.Canary.{serial}"), "content": format!("a canary of release {serial}") },
        "files": [{ "name": "renraku.ndb", "base64": STANDARD.encode(content) }],
    })
}

/// Lines of the box's log with all of `words`.
fn lines(facility: &Facility, words: &[&str]) -> Vec<String> {
    let log = facility.gateway.log();
    log.lines()
        .filter(|line| words.iter().all(|word| line.contains(word)))
        .map(str::to_owned)
        .collect()
}

fn says(facility: &Facility, words: &[&str]) {
    says_again(facility, words, 0);
}

/// Waits for one more line than `before`.
fn says_again(facility: &Facility, words: &[&str], before: usize) {
    wait::until(&words.join(" "), SOON, || {
        (lines(facility, words).len() > before).then_some(())
    })
    .unwrap_or_else(|error| {
        panic!(
            "{error}\n{}",
            lines(facility, &["signed-channel"]).join("\n")
        )
    });
}

fn hint(facility: &Facility, what: &str) {
    facility
        .city
        .control("hint", &json!({ "id": what }))
        .unwrap();
}

fn level(facility: &Facility) {
    says(facility, &["signed-channel", "TUF-NEWS"]);
}

fn traffic_goes_on(facility: &Facility) {
    let visitor = Visitor::new(facility, "anybody");
    let page = visitor.open(&format!("{}staff/login", facility.gateway.portal_url()));
    assert_eq!(page.status, 200, "{page:?}");
}

fn staged(facility: &Facility, serial: u64) -> PathBuf {
    facility
        .gateway
        .state_directory()
        .join(format!("signed-channel/antivirus/{serial}"))
}

#[test]
fn a_hint_brings_policy_database_and_release_within_seconds() {
    let facility = Facility::start(Options::default()).unwrap();
    level(&facility);
    facility.city.control("tuf-policy", &policy(3)).unwrap();
    let content = vec![b'x'; 400_000];
    facility
        .city
        .control("tuf-antivirus", &database(7, &content))
        .unwrap();
    let release = json!({
        "version": "9.9.9", "hardware": "any",
        "files": [{ "name": "image.raw", "base64": STANDARD.encode(b"an image") }],
    });
    facility.city.control("tuf-release", &release).unwrap();
    let begun = std::time::Instant::now();
    hint(&facility, "policy");
    says(&facility, &["TUF-POLICY", "cause=\"hint\"", "version=3"]);
    says(&facility, &["TUF-DATABASE", "serial=7"]);
    says(&facility, &["TUF-RELEASE", "9.9.9"]);
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    let folder = staged(&facility, 7);
    assert_eq!(std::fs::read(folder.join("renraku.ndb")).unwrap(), content);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["canary"]["signature"], "Renraku.Canary.7");
    // Nothing of an image is fetched here: that is the updater's part.
    assert!(!folder.with_file_name("image.raw").exists());
}

#[test]
fn each_attack_is_refused_by_name_and_traffic_goes_on() {
    let facility = Facility::start(Options::default()).unwrap();
    level(&facility);
    facility.city.control("tuf-policy", &policy(1)).unwrap();
    hint(&facility, "policy");
    says(&facility, &["TUF-POLICY", "version=1"]);
    for (mode, reason) in [
        ("rollback", "TUF-ROLLBACK"),
        ("wrong-signer", "TUF-SIGNER"),
        ("endless", "TUF-ENDLESS"),
        ("freeze", "TUF-FREEZE"),
    ] {
        facility
            .city
            .control("tuf", &json!({ "mode": mode }))
            .unwrap();
        hint(&facility, "policy");
        says(&facility, &["signed-channel-refused", reason]);
        traffic_goes_on(&facility);
    }
    // A target that is not what was signed.
    facility
        .city
        .control("tuf", &json!({ "mode": "none" }))
        .unwrap();
    facility
        .city
        .control("tuf-antivirus", &database(8, &vec![b'y'; 300_000]))
        .unwrap();
    facility
        .city
        .control("tuf", &json!({ "mode": "wrong-target" }))
        .unwrap();
    hint(&facility, "antivirus");
    says(&facility, &["signed-channel-refused", "TUF-HASH"]);
    assert!(!staged(&facility, 8).join("manifest.json").exists());
    facility
        .city
        .control("tuf", &json!({ "mode": "none" }))
        .unwrap();
    let before = lines(&facility, &["TUF-LEVEL"]).len();
    hint(&facility, "antivirus");
    says(&facility, &["TUF-DATABASE", "serial=8"]);
    says_again(&facility, &["signed-channel", "snapshot="], before);
    traffic_goes_on(&facility);
}

#[test]
fn a_database_whose_transfer_breaks_again_and_again_is_continued_where_it_broke() {
    let facility = Facility::start(Options::default()).unwrap();
    level(&facility);
    let content: Vec<u8> = (0..400_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    facility
        .city
        .control("tuf-antivirus", &database(6, &content))
        .unwrap();
    facility
        .city
        .control("tuf", &json!({ "mode": "broken" }))
        .unwrap();
    hint(&facility, "antivirus");
    // Seven answers, each broken, and the database is whole.
    says(&facility, &["TUF-DATABASE", "serial=6"]);
    let came = std::fs::read(staged(&facility, 6).join("renraku.ndb")).unwrap();
    assert_eq!(came, content);
    assert!(!staged(&facility, 6).join("renraku.ndb.part").exists());
}

#[test]
fn a_restart_forgets_neither_the_policy_nor_what_was_accepted() {
    let mut facility = Facility::start(Options::default()).unwrap();
    level(&facility);
    facility.city.control("tuf-policy", &policy(5)).unwrap();
    hint(&facility, "policy");
    says(&facility, &["TUF-POLICY", "version=5"]);
    facility
        .city
        .control("tuf", &json!({ "mode": "rollback" }))
        .unwrap();
    facility.gateway.restart().unwrap();
    says(&facility, &["signed-channel-refused", "TUF-ROLLBACK"]);
    facility
        .city
        .control("tuf", &json!({ "mode": "none" }))
        .unwrap();
    facility.city.control("tuf-root", &json!({})).unwrap();
    // In force from the start, so it is not news again; the root is.
    hint(&facility, "policy");
    says(&facility, &["TUF-NEWS", "root=2"]);
    let log = facility.gateway.log();
    let since_restart = log
        .rsplit("the gateway is ready")
        .next()
        .unwrap_or_default();
    assert!(!since_restart.contains("TUF-POLICY"), "{since_restart}");
}

#[test]
fn a_signed_policy_that_is_not_for_this_facility_or_not_yet_is_not_in_force() {
    let facility = Facility::start(Options::default()).unwrap();
    level(&facility);
    let mut foreign = policy(1);
    foreign["facilities"] = json!(["another-facility"]);
    let mut early = policy(2);
    early["not_before"] = json!(early["not_before"].as_u64().unwrap() + 2 * 86_400);
    for (document, fault) in [(foreign, "not for this facility"), (early, "in force from")] {
        facility.city.control("tuf-policy", &document).unwrap();
        hint(&facility, "policy");
        says(
            &facility,
            &["signed-channel-refused", "TUF-POLICY-FAULT", fault],
        );
    }
    assert!(lines(&facility, &["TUF-POLICY\""]).is_empty());
    // Its own id counts, and what was refused has not raised the floor.
    let mut own = policy(3);
    own["facilities"] = json!(["tkh-1001"]);
    facility.city.control("tuf-policy", &own).unwrap();
    hint(&facility, "policy");
    says(&facility, &["TUF-POLICY\"", "version=3"]);
}

#[test]
fn a_medium_is_taken_while_the_city_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let stick = folder.path().join("stick");
    let city = folder.path().join("facility/city");
    let more = format!(
        "[signed_channel]\nroot = {:?}\nmedium = {stick:?}\n",
        city.join("tuf/metadata/1.root.json")
    );
    let options = Options {
        more_configuration: more,
        ..Options::default()
    };
    let facility = Facility::start_in(&folder.path().join("facility"), options).unwrap();
    level(&facility);
    facility.city.control("tuf-policy", &policy(4)).unwrap();
    facility.city.fail("down").unwrap();
    copy(&city.join("tuf"), &stick);
    says(&facility, &["TUF-POLICY", "cause=\"medium\"", "version=4"]);
    // A stick whose repository somebody has changed.
    let timestamp = stick.join("metadata/timestamp.json");
    let text = std::fs::read_to_string(&timestamp).unwrap();
    std::fs::write(&timestamp, text.replace("\"version\": ", "\"version\": 1")).unwrap();
    says(
        &facility,
        &["signed-channel-refused", "cause=\"medium\"", "TUF-SIGNER"],
    );
}

#[test]
fn it_works_while_the_gate_blocks() {
    let mut facility = Facility::start(Options::default()).unwrap();
    level(&facility);
    facility.clamd.process().kill();
    facility.gateway.restart().unwrap();
    let visitor = Visitor::new(&facility, "anybody");
    let page = visitor.open(&format!("{}staff/login", facility.gateway.portal_url()));
    assert_ne!(
        page.status, 200,
        "without a scanner the gate blocks: {page:?}"
    );
    facility.city.control("tuf-policy", &policy(2)).unwrap();
    hint(&facility, "policy");
    says(&facility, &["TUF-POLICY", "version=2"]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
