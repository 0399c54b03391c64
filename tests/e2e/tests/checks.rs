//! The ledger of checks through the running box: one journal line for each change, deadlines that outlive a restart, a
//! file that cannot be read, and a clock that is set back while the box is off.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::PathBuf;
use std::time::Duration;

use gateway_e2e::visiting::Visitor;
use test_harness::facility::{Facility, Options};
use test_harness::{WallClock, wait};

const SOON: Duration = Duration::from_secs(30);

fn ledger(facility: &Facility) -> PathBuf {
    facility.gateway.state_directory().join("checks.json")
}

/// What the file says of one check of the box.
fn kept(facility: &Facility, check: &str) -> serde_json::Value {
    let bytes = std::fs::read(ledger(facility)).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    document["own"][check].clone()
}

/// The decision lines of one check.
fn decisions(facility: &Facility, check: &str) -> Vec<String> {
    let rule = format!("rule=\"{check}\"");
    let log = facility.gateway.log();
    log.lines()
        .filter(|line| line.contains("decision=\"check\"") && line.contains(&rule))
        .map(str::to_owned)
        .collect()
}

fn told(facility: &Facility, check: &str, words: &str) -> String {
    wait::until(words, SOON, || {
        decisions(facility, check)
            .into_iter()
            .find(|line| line.contains(words))
    })
    .unwrap()
}

fn canary_each_second(facility: &mut Facility) {
    let file = facility.gateway.configuration_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let often = text.replace("[antivirus]\n", "[antivirus]\ncanary_seconds = 1\n");
    std::fs::write(&file, often).unwrap();
    facility.gateway.restart().unwrap();
}

#[test]
fn every_change_of_a_check_is_one_line_with_state_effect_since_and_deadline() {
    let mut facility = Facility::start(Options::default()).unwrap();
    canary_each_second(&mut facility);
    told(&facility, "AV-ALIVE", "state=\"compliant\"");
    facility.clamd.kill();
    let line = told(&facility, "AV-ALIVE", "state=\"grace\"");
    for words in [
        "article=27",
        "subject=\"box\"",
        "effect=\"restrict\"",
        "since=",
        "deadline=",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    // It fails every few seconds now; that is no news.
    std::thread::sleep(Duration::from_secs(6));
    let lines = decisions(&facility, "AV-ALIVE");
    let grace = lines.iter().filter(|line| line.contains("state=\"grace\""));
    assert_eq!(grace.count(), 1, "{lines:#?}");
    facility.clamd.restart().unwrap();
    let line = told(&facility, "AV-ALIVE", "from=\"grace\"");
    assert!(line.contains("state=\"compliant\"") && line.contains("effect=\"allow\""));
}

#[test]
fn what_began_before_a_restart_goes_on_after_it() {
    let mut facility = Facility::start(Options::default()).unwrap();
    facility.gateway.restart().unwrap();
    let before = kept(&facility, "LOG");
    assert!(before.is_object(), "{before}");
    // Nobody reviewed the register of media: unknown since the box was first started, and not since this restart.
    let bytes = std::fs::read(ledger(&facility)).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let since = document["facility"]["TRAINING"]["record"]["unknown_since"].clone();
    assert!(since.is_i64(), "{document}");
    std::thread::sleep(Duration::from_secs(2));
    facility.gateway.restart().unwrap();
    let bytes = std::fs::read(ledger(&facility)).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let again = document["facility"]["TRAINING"]["record"]["unknown_since"].clone();
    assert_eq!(again, since);
}

#[test]
fn a_ledger_that_cannot_be_read_is_kept_aside_said_and_nothing_is_believed() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let file = ledger(&facility);
    wait::until("the ledger on disk", SOON, || file.exists().then_some(())).unwrap();
    facility.gateway.process().kill();
    std::fs::write(&file, b"{\"time\":{\"latest\":1").unwrap();
    facility.gateway.start_again().unwrap();
    let log = facility.gateway.log();
    assert!(log.contains("the ledger of checks is unreadable"), "{log}");
    let aside = file.with_file_name("checks.json.unreadable");
    assert_eq!(std::fs::read(aside).unwrap(), b"{\"time\":{\"latest\":1");
    // It comes back by itself: what is measured at the start is known again.
    told(&facility, "AV-ALIVE", "state=\"compliant\"");
    let visitor = Visitor::new(&facility, "sakura-01");
    let page = visitor.sign_in(&facility, "sakura-01");
    assert!(page.says("支援対象者"), "{page:?}");
}

#[test]
fn a_clock_that_is_set_back_while_the_box_is_off_restricts() {
    let directory = tempfile::tempdir().unwrap();
    let clock = WallClock::new(directory.path()).unwrap();
    let mut facility = Facility::start(Options {
        clock: Some(clock.clone()),
        ..Options::default()
    })
    .unwrap();
    told(&facility, "CLOCK", "state=\"compliant\"");
    clock.shift(-5 * 86_400).unwrap();
    facility.gateway.restart().unwrap();
    let line = told(&facility, "CLOCK", "state=\"failing\"");
    assert!(line.contains("effect=\"restrict\""), "{line}");
}
