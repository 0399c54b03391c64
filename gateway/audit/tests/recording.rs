//! The thread and its handles: what is durable when, what is lost and said, what happens on a disk that refuses.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_audit::{
    Content, Digest, Direction, Event, NotDurable, Options, PolicyChange, RegisterChange, Settings,
    start, verify,
};
use gateway_policy::Timestamp;

/// Longer than any disk of a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn clock() -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
    Arc::new(|| Timestamp(1_795_000_000))
}

fn critical() -> Event {
    Event::Policy {
        what: PolicyChange::Applied,
        version: 3,
        digest: Some(Digest([1; 32])),
    }
}

fn common() -> Event {
    Event::Register {
        what: RegisterChange::MediumLent,
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_durable_entry_is_on_the_disk_when_the_answer_comes_and_others_follow_within_a_second() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    let (sink, status) = start(dir.clone(), Settings::default(), clock()).unwrap();
    let number = sink.durably_blocking(critical(), PATIENCE).unwrap();
    let text = fs::read_to_string(dir.join("00000000000000000001.jsonl")).unwrap();
    assert_eq!(text.lines().count(), usize::try_from(number).unwrap());
    sink.record(common());
    wait_for("the batch", || {
        status.borrow().as_ref().unwrap().written.0 == number + 1
    });
    assert_eq!(status.borrow().as_ref().unwrap().critical, 1);
}

#[test]
fn a_flood_never_blocks_and_what_is_lost_is_counted_in_the_log() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    let (sink, status) = start(dir.clone(), Settings::default(), clock()).unwrap();
    let begun = Instant::now();
    for _ in 0..60_000 {
        sink.record(Event::Content {
            what: Content::TooLarge,
            direction: Direction::Download,
            device: None,
            digest: None,
            signature: None,
        });
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    wait_for("the end of the flood", || {
        sink.durably_blocking(critical(), PATIENCE).is_ok()
    });
    runtime.block_on(sink.stop());
    let lost = status.borrow().as_ref().unwrap().lost;
    let report = verify(&dir, &Options::default()).unwrap();
    assert_eq!(report.findings, []);
    let mut said = 0;
    let mut there = 0;
    for file in fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(path).unwrap();
        there += text.matches("\"what\":\"too-large\"").count();
        for line in text.lines().filter(|line| line.contains("entries-lost")) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            said += line["entry"]["count"].as_u64().unwrap();
        }
    }
    assert_eq!(lost, said);
    assert!(
        there + usize::try_from(lost).unwrap() >= 60_000,
        "{there} {lost}"
    );
}

#[test]
fn a_disk_that_refuses_at_the_start_is_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("audit");
    // A file where the directory should be.
    fs::write(&dir, "").unwrap();
    let (sink, status) = start(dir.clone(), Settings::default(), clock()).unwrap();
    sink.record(critical());
    // Who must know that it is written down is told that it is not, and does not wait for ever.
    let begun = Instant::now();
    let told = sink.durably_blocking(critical(), Duration::from_millis(200));
    assert_eq!(told, Err(NotDurable));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(status.borrow().is_none());
    fs::remove_file(&dir).unwrap();
    wait_for("the log", || {
        status
            .borrow()
            .as_ref()
            .is_some_and(|status| status.written.0 == 3)
    });
    assert_eq!(sink.durably_blocking(critical(), PATIENCE), Ok(4));
}
