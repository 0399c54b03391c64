//! Files attached to notes: fetched, looked into, read without the city, refused, forgotten; and a disk that is full.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_e2e::small_disk::SmallDisk;
use gateway_e2e::visiting::{Answer, Visitor};
use serde_json::{Value, json};
use test_harness::facility::{Facility, Options};
use test_harness::{binaries, wait};

/// A loaded machine, a back-off and a canary may come together.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `gatewayctl notes --json` says.
fn notes(facility: &Facility) -> Value {
    let output = Command::new(binaries::ours("gatewayctl").unwrap())
        .args(["notes", "--json", "--socket"])
        .arg(facility.gateway.state_directory().join("control.sock"))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn until_notes(facility: &Facility, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    wait::until(what, PATIENCE, || {
        last = notes(facility);
        is(&last).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{last:#}\n{}", facility.gateway.log()));
    last
}

fn is_done(notes: &Value) -> bool {
    let files = &notes["attachments"];
    notes["caught_up"] == true
        && files["total"].as_u64() > Some(0)
        && files["done"] == files["total"]
}

/// A note of sakura-02 about p-1001 with one file; the attachment's id.
fn attach(facility: &Facility, name: &str, media_type: &str, bytes: &[u8]) -> String {
    let file = json!({ "name": name, "media_type": media_type, "base64": STANDARD.encode(bytes) });
    let note = json!({
        "person": "p-1001", "author": "sakura-02", "text": format!("{name}を添付します。"), "attachments": [file],
    });
    let made = facility.city.control("note", &note).unwrap();
    made["attachments"][0]["id"].as_str().unwrap().to_owned()
}

/// Everything else of the city works; attachments have to wait.
fn hold_attachments_back(facility: &Facility) {
    let failure = json!({ "mode": "5xx", "path": "/gateway/v1/attachments/" });
    facility.city.control("fail", &failure).unwrap();
}

fn deliver(facility: &Facility, how: &Value) {
    facility.city.control("deliver", how).unwrap();
}

/// Lines that differ, so that nothing in another place passes for them.
fn text(bytes: usize) -> String {
    let mut text: String = (0..)
        .map(|n| format!("line {n:08}\n"))
        .take(bytes / 14 + 1)
        .collect();
    text.truncate(bytes);
    text
}

fn signed_in(facility: &Facility, user: &str) -> Visitor {
    let visitor = Visitor::new(facility, user);
    assert!(visitor.sign_in(facility, user).says("支援対象者"));
    wait::until("stored notes", PATIENCE, || {
        visitor
            .stored(&facility.gateway)
            .says("参照情報")
            .then_some(())
    })
    .unwrap();
    visitor
}

fn read(facility: &Facility, visitor: &Visitor, id: &str) -> Answer {
    let url = format!("{}notes/attachment/{id}", facility.gateway.console_url());
    visitor.send(&[&url])
}

fn sealed_files(facility: &Facility) -> Vec<PathBuf> {
    fn below(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                below(&path, found);
            } else if path
                .parent()
                .is_some_and(|parent| parent.ends_with("attachments"))
            {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(
        &facility.gateway.state_directory().join("notes"),
        &mut found,
    );
    found
}

fn largest_file(facility: &Facility) -> u64 {
    let size = |path: &PathBuf| path.metadata().map_or(0, |about| about.len());
    sealed_files(facility).iter().map(size).max().unwrap_or(0)
}

/// How many answers of the city were a part of a file.
fn parts(facility: &Facility) -> u64 {
    let statistics = facility.city.statistics().unwrap();
    let found = statistics["statuses"]["206"].as_u64();
    found.unwrap_or_default()
}

fn eicar() -> Vec<u8> {
    // In halves, so that no scanner looks at this file.
    [
        r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-",
        "ANTIVIRUS-TEST-FILE!$H+H*",
    ]
    .concat()
    .into_bytes()
}

fn policy(version: u64, store: &Value) -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    json!({
        "version": version, "not_before": now - 3600, "expires": now + 30 * 86_400, "facilities": ["*"], "store": store,
    })
}

fn put_in_force(facility: &Facility, version: u64, store: &Value) {
    facility
        .city
        .control("tuf-policy", &policy(version, store))
        .unwrap();
    facility
        .city
        .control("hint", &json!({ "id": "policy" }))
        .unwrap();
}

#[test]
fn attachments_are_read_without_the_city_by_the_persons_readers_only() {
    let facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility, "sakura-01");
    let content = text(200_000);
    let id = attach(
        &facility,
        "観察記録 1.txt",
        "text/plain",
        content.as_bytes(),
    );
    until_notes(&facility, "every attachment", |notes| {
        is_done(notes) && notes["attachments"]["total"].as_u64() > Some(1)
    });
    facility.city.fail("down").unwrap();

    let file = read(&facility, &visitor, &id);
    assert_eq!(file.status, 200, "{:?}", file.header);
    assert!(file.body == content, "{} bytes", file.body.len());
    assert_eq!(file.field("content-type"), "text/plain");
    assert_eq!(file.field("cache-control"), "no-store");
    assert_eq!(file.field("x-content-type-options"), "nosniff");
    assert_eq!(
        file.field("content-security-policy"),
        "default-src 'none'; sandbox"
    );
    assert_eq!(
        file.field("content-disposition"),
        "attachment; filename*=UTF-8''%E8%A6%B3%E5%AF%9F%E8%A8%98%E9%8C%B2%201.txt"
    );
    let url = format!("{}notes/attachment/{id}", facility.gateway.console_url());
    let part = visitor.send(&["--range", "65530-65549", &url]);
    assert_eq!(
        (part.status, part.body.as_str()),
        (206, &content[65_530..65_550])
    );
    assert_eq!(part.field("content-range"), "bytes 65530-65549/200000");
    assert_eq!(visitor.send(&["--range", "200000-", &url]).status, 416);
    let head = visitor.send(&["--head", &url]);
    assert_eq!((head.status, head.field("content-length")), (200, "200000"));

    // One that is not there, and somebody who may not read this person: one answer.
    assert_eq!(read(&facility, &visitor, "a-none").status, 404);
    let stranger = Visitor::new(&facility, "stranger");
    assert_ne!(read(&facility, &stranger, &id).status, 200);
    assert!(!read(&facility, &stranger, &id).says("line 00000001"));
    // Nothing of it is readable on the disk.
    assert!(!sealed_files(&facility).is_empty());
    for path in sealed_files(&facility) {
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(13).any(|window| window == b"line 00000001"));
    }
}

#[test]
fn an_attachment_is_fetched_on_after_a_cut_and_after_a_crash() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let seeded = until_notes(&facility, "the seeded attachments", is_done);
    let seeded = seeded["attachments"]["total"].as_u64().unwrap();
    let are = |more: u64| {
        move |notes: &Value| is_done(notes) && notes["attachments"]["total"] == seeded + more
    };
    let visitor = signed_in(&facility, "sakura-01");
    hold_attachments_back(&facility);
    let content = text(2_000_000);
    let id = attach(&facility, "長い記録.txt", "text/plain", content.as_bytes());
    deliver(
        &facility,
        &json!({ "id": id, "cut_after": 700_000, "times": 1 }),
    );
    facility.city.recover().unwrap();
    until_notes(&facility, "the rest after the cut", are(1));
    assert_eq!(parts(&facility), 1);
    assert!(read(&facility, &visitor, &id).body == content);

    hold_attachments_back(&facility);
    let content = text(1_900_000);
    let id = attach(&facility, "次の記録.txt", "text/plain", content.as_bytes());
    deliver(&facility, &json!({ "id": id, "pause_ms": 400 }));
    facility.city.recover().unwrap();
    let before = largest_file(&facility);
    assert!(before > 1_900_000);
    wait::until("a part of it", PATIENCE, || {
        let partial = sealed_files(&facility)
            .iter()
            .map(|path| path.metadata().map_or(0, |about| about.len()))
            .any(|length| (300_000..1_800_000).contains(&length));
        partial.then_some(())
    })
    .unwrap();
    assert_eq!(
        read(&facility, &visitor, &id).status,
        404,
        "not a byte of it is readable"
    );
    facility.gateway.restart().unwrap();
    deliver(&facility, &json!({ "id": id }));
    until_notes(&facility, "the rest after the crash", are(2));
    assert_eq!(parts(&facility), 2);
    let visitor = signed_in(&facility, "sakura-01");
    assert!(read(&facility, &visitor, &id).body == content);
}

#[test]
fn what_is_infected_wrong_or_gone_is_refused_erased_and_never_readable() {
    let facility = Facility::start(Options::default()).unwrap();
    let seeded = until_notes(&facility, "the seeded attachments", is_done);
    let (total, files) = (
        seeded["attachments"]["total"].as_u64().unwrap(),
        sealed_files(&facility).len(),
    );
    assert_eq!(seeded["attachments"]["refused"], 0, "{seeded:#}");
    let visitor = signed_in(&facility, "sakura-01");
    hold_attachments_back(&facility);
    let infected = attach(&facility, "紹介状.txt", "text/plain", &eicar());
    let wrong = attach(&facility, "別物.txt", "text/plain", b"what was announced");
    let gone = attach(&facility, "ない.txt", "text/plain", b"gone");
    let program = attach(
        &facility,
        "setup.exe",
        "application/pdf",
        b"MZ, or so its name says",
    );
    deliver(&facility, &json!({ "id": wrong, "wrong": true }));
    deliver(&facility, &json!({ "id": gone, "status": 410 }));
    facility.city.recover().unwrap();
    let after = until_notes(&facility, "four refusals", |notes| {
        notes["attachments"]["refused"] == 4 && is_done(notes)
    });
    assert_eq!(after["attachments"]["total"], total + 4);
    for id in [infected, wrong, gone, program] {
        assert_eq!(read(&facility, &visitor, &id).status, 404);
    }
    assert_eq!(sealed_files(&facility).len(), files);
    let log = facility.gateway.log();
    assert!(log.contains("FOUND") && log.contains("KIND"), "{log}");
    // The city is told of what was infected, and of nothing else (第24条).
    let incident = wait::until("the incident", PATIENCE, || {
        let told = facility.city.statistics().ok()?["reports"].clone();
        let mut reports = told.as_array()?.iter();
        reports.find(|report| report["kind"] == "incident").cloned()
    })
    .unwrap();
    assert_eq!(incident["count"], 1, "{incident}");
    assert_eq!(incident["last"]["kind"], "malware", "{incident}");
}

#[test]
fn without_a_scanner_nothing_is_fetched_and_nothing_unscanned_is_readable() {
    let mut facility = Facility::start(Options::default()).unwrap();
    until_notes(&facility, "the seeded attachments", is_done);
    let visitor = signed_in(&facility, "sakura-01");
    facility.clamd.kill();
    let id = attach(
        &facility,
        "記録.txt",
        "text/plain",
        b"short text, which may pass to a browser",
    );
    until_notes(&facility, "the scanner to be missed", |notes| {
        notes["attachments"]["waits_for"] == "scanner" && !is_done(notes)
    });
    assert_eq!(read(&facility, &visitor, &id).status, 404);
    facility.clamd.restart().unwrap();
    until_notes(&facility, "the attachment", is_done);
    assert_eq!(read(&facility, &visitor, &id).status, 200);
}

#[test]
fn the_policy_takes_attachments_and_the_whole_store_away_at_once_and_gives_them_back() {
    let facility = Facility::start(Options::default()).unwrap();
    let seeded = until_notes(&facility, "the seeded attachments", is_done);
    assert!(!sealed_files(&facility).is_empty());
    put_in_force(&facility, 2, &json!({ "attachments": false }));
    until_notes(&facility, "no attachments", |notes| {
        notes["attachments"]["total"] == 0
    });
    assert!(sealed_files(&facility).is_empty());
    let without = notes(&facility);
    assert_eq!(without["notes"], seeded["notes"]);
    put_in_force(&facility, 3, &json!({ "attachment_types": ["image/*"] }));
    let pictures = until_notes(&facility, "pictures", is_done);
    assert!(
        pictures["attachments"]["not_kept"].as_u64() > Some(0),
        "{pictures:#}"
    );

    put_in_force(&facility, 4, &json!({ "days": 0 }));
    until_notes(&facility, "nothing", |notes| {
        notes["open"] == true && notes["notes"] == 0 && notes["persons"] == 0
    });
    assert!(sealed_files(&facility).is_empty());
    put_in_force(&facility, 5, &json!({ "notes": 20 }));
    let few = until_notes(&facility, "twenty notes", |notes| {
        notes["notes"] == 20 && notes["caught_up"] == true
    });
    assert!(few["persons"].as_u64() > Some(0), "{few:#}");
    put_in_force(&facility, 6, &json!({}));
    assert_eq!(
        notes(&facility)["notes"],
        20,
        "a wider bound fetches nothing again by itself"
    );
}

#[test]
fn on_a_full_disk_the_box_relays_says_so_and_goes_on_by_itself_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&directory.path().join("gateway/state"), "24m");
    let facility = Facility::start_in(directory.path(), Options::default()).unwrap();
    let stored = until_notes(&facility, "the seeded notes", |notes| {
        notes["caught_up"] == true
    });
    // Attachments leave room for everything else, of which there is little here.
    assert_eq!(stored["attachments"]["done"], 0, "{stored:#}");
    until_notes(&facility, "the room to be missed", |notes| {
        notes["attachments"]["waits_for"] == "disk"
    });
    let visitor = Visitor::new(&facility, "sakura-01");
    assert!(visitor.sign_in(&facility, "sakura-01").says("支援対象者"));

    let ballast = disk.fill();
    let long = "長い連絡です。".repeat(2_000);
    for _ in 0..12 {
        let note = json!({ "person": "p-1001", "author": "sakura-02", "text": long });
        facility.city.control("note", &note).unwrap();
    }
    until_notes(&facility, "the full disk to be noticed", |notes| {
        !notes["disk_full_since"].is_null()
    });
    let page = visitor.open(&format!("{}staff/", facility.gateway.portal_url()));
    assert!(page.status == 200 && page.says("支援対象者"), "{page:?}");
    let home = visitor.open(&facility.gateway.console_url());
    assert!(home.says("空き容量"), "{}", home.body);
    assert!(facility.gateway.log().contains("the disk is full"));

    std::fs::remove_file(ballast).unwrap();
    let expected = stored["notes"].as_u64().unwrap() + 12;
    until_notes(&facility, "all notes", |notes| {
        notes["notes"] == expected && notes["disk_full_since"].is_null()
    });
    let home = visitor.open(&facility.gateway.console_url());
    assert!(!home.says("空き容量"), "{}", home.body);
}
