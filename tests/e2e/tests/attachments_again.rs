//! A stored attachment that passed, and the antivirus database that knows better a week later: it is withdrawn by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_e2e::releases::publish;
use gateway_e2e::visiting::{Answer, Visitor};
use serde_json::{Value, json};
use test_harness::facility::{Facility, Options};
use test_harness::signatures::{Signatures, finds, now};
use test_harness::{binaries, wait};

/// A loaded machine, a back-off and the proof of a database may come together.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nothing that any database knew when it was stored.
const THREAT: &[u8] = b"a threat that is known from next week on\n";

fn ctl(facility: &Facility, arguments: &[&str]) -> Value {
    let output = Command::new(binaries::ours("gatewayctl").unwrap())
        .args(arguments)
        .args(["--json", "--socket"])
        .arg(facility.gateway.state_directory().join("control.sock"))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn until_attachments(facility: &Facility, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    wait::until(what, PATIENCE, || {
        last = ctl(facility, &["notes"])["attachments"].clone();
        is(&last).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{last:#}\n{}", facility.gateway.log()));
    last
}

/// A note about p-1001 with one file; the attachment's id.
fn attach(facility: &Facility, name: &str, bytes: &[u8]) -> String {
    let file =
        json!({ "name": name, "media_type": "text/plain", "base64": STANDARD.encode(bytes) });
    let note = json!({
        "person": "p-1001", "author": "sakura-02", "text": "添付します。", "attachments": [file],
    });
    let made = facility.city.control("note", &note).unwrap();
    made["attachments"][0]["id"].as_str().unwrap().to_owned()
}

fn signed_in(facility: &Facility) -> Visitor {
    let visitor = Visitor::new(facility, "sakura-01");
    let page = visitor.sign_in(facility, "sakura-01");
    assert!(page.says("支援対象者"), "{page:?}");
    wait::until("stored notes", PATIENCE, || {
        let stored = visitor.stored(&facility.gateway);
        stored.says("参照情報").then_some(())
    })
    .unwrap();
    visitor
}

fn read(facility: &Facility, visitor: &Visitor, id: &str) -> Answer {
    let url = format!("{}notes/attachment/{id}", facility.gateway.console_url());
    visitor.send(&[&url])
}

fn says(facility: &Facility, words: &[&str]) {
    wait::until(&words.join(" "), PATIENCE, || {
        let log = facility.gateway.log();
        let said = |line: &str| words.iter().all(|word| line.contains(word));
        log.lines().any(said).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", facility.gateway.log()));
}

/// The log's entries about a withdrawn file.
fn withdrawn(facility: &Facility) -> Vec<Value> {
    let directory = facility.gateway.state_directory().join("audit");
    let files = std::fs::read_dir(directory).unwrap();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok());
    let lines: Vec<Value> = texts
        .flat_map(|text| {
            let lines = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            lines.collect::<Vec<Value>>()
        })
        .map(|line| line["entry"].clone())
        .collect();
    let found = lines
        .into_iter()
        .filter(|entry| entry["kind"] == "content" && entry["what"] == "withdrawn");
    found.collect()
}

#[test]
fn a_file_that_a_newer_database_knows_is_withdrawn_across_a_crash_and_the_rest_stays() {
    let mut facility = Facility::start(Options::default()).unwrap();
    says(&facility, &["signed-channel", "TUF-NEWS"]);
    let harmless = attach(&facility, "経過.txt", b"nothing to be found here\n");
    let threat = attach(&facility, "紹介状.txt", THREAT);
    let done = |files: &Value| files["total"].as_u64() > Some(1) && files["done"] == files["total"];
    let before = until_attachments(&facility, "the attachments", done);
    assert_eq!(before["refused"], 0, "{before:#}");
    let visitor = signed_in(&facility);
    for id in [&harmless, &threat] {
        assert_eq!(read(&facility, &visitor, id).status, 200);
    }

    let newer = Signatures::built(now() + 120).serial(7);
    publish(
        &facility,
        &newer.with("new.ndb", finds("Next.Week", THREAT)),
    );
    says(&facility, &["the scanner has loaded", "7 of city"]);
    // Wherever it is by now, it goes on from there.
    facility.gateway.process().kill();
    facility.gateway.start_again().unwrap();

    let after = until_attachments(&facility, "the withdrawal", |files| {
        files["refused"] == 1 && files["unseen"] == 0 && done(files)
    });
    assert_eq!(after["total"], before["total"], "{after:#}");
    let visitor = signed_in(&facility);
    assert_eq!(read(&facility, &visitor, &threat).status, 404);
    assert_eq!(read(&facility, &visitor, &harmless).status, 200);
    let page = visitor.open(&format!("{}notes/p-1001", facility.gateway.console_url()));
    assert!(page.says("取り下げました"), "{}", page.body);

    // Written down without a name, and told to the city.
    let entries = withdrawn(&facility);
    let entry = entries.first().unwrap();
    let signature = entry["signature"].as_str().unwrap();
    assert!(signature.starts_with("Next.Week"), "{entry}");
    assert!(!entry.to_string().contains("紹介状"), "{entry}");
    let incident = wait::until("the incident", PATIENCE, || {
        let reports = facility.city.statistics().ok()?["reports"].clone();
        let mut all = reports.as_array()?.iter();
        let found = all.find(|report| report["kind"] == "incident")?;
        Some(found["last"].clone())
    })
    .unwrap();
    assert_eq!(incident["kind"], "malware", "{incident}");
    assert_eq!(incident["evidence"], entry["digest"], "{incident}");

    // Once is enough: neither fetched nor looked at again after a restart.
    let times = entries.len();
    facility.gateway.restart().unwrap();
    says(&facility, &["the scanner has loaded", "7 of city"]);
    until_attachments(&facility, "all to be level", |files| {
        files["refused"] == 1 && files["unseen"] == 0 && done(files)
    });
    assert_eq!(withdrawn(&facility).len(), times);
}
