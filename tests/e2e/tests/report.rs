//! What the box tells about itself: to people and programs through `gatewayctl`, to the city by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use test_harness::facility::{Facility, Options};
use test_harness::{binaries, wait};

const SOON: Duration = Duration::from_secs(60);

fn gatewayctl(facility: &Facility, arguments: &[&str]) -> Output {
    Command::new(binaries::ours("gatewayctl").unwrap())
        .args(arguments)
        .arg("--socket")
        .arg(facility.gateway.state_directory().join("control.sock"))
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The newest status report that the city has.
fn reported(facility: &Facility) -> Option<Value> {
    let reports = facility.city.statistics().ok()?["reports"].clone();
    let status = reports
        .as_array()?
        .iter()
        .find(|report| report["kind"] == "status")?;
    Some(status["last"].clone())
}

fn state_of(report: &Value, id: &str) -> Option<String> {
    let checks = report["checks"].as_array()?;
    let check = checks.iter().find(|check| check["id"] == id)?;
    check["state"].as_str().map(str::to_owned)
}

#[test]
fn gatewayctl_shows_each_check_with_its_evidence_to_people_and_to_programs() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let output = gatewayctl(&facility, &["report", "--json"]);
    let report = json(&output);
    assert_eq!(report["facility"], "tkh-1001");
    let rows = report["rows"].as_array().unwrap();
    let alive = rows.iter().find(|row| row["rule"] == "AV-ALIVE").unwrap();
    assert_eq!(alive["mark"], "PASS", "{alive}");
    assert_eq!(alive["source"], "measured");
    assert!(alive["since"].as_i64().unwrap() > 1_700_000_000);
    assert_eq!(alive["digest"].as_str().unwrap().len(), 64);
    // Nobody has measured how a machine in a test has booted, and nobody says so.
    let boot = rows.iter().find(|row| row["rule"] == "BOOT").unwrap();
    assert_eq!(boot["mark"], "UNKNOWN", "{boot}");
    assert!([1, 3].contains(&output.status.code().unwrap()), "{report}");

    let one = gatewayctl(&facility, &["report", "--json", "--article", "27"]);
    let rows = json(&one)["rows"].as_array().unwrap().clone();
    assert!(rows.len() >= 4);
    for row in &rows {
        assert!(
            row["articles"].as_array().unwrap().contains(&27.into()),
            "{row}"
        );
    }
    assert_eq!(json(&one)["articles"].as_array().unwrap().len(), 1);

    let page = text(&gatewayctl(&facility, &["report", "--article", "27"]).stdout);
    for words in ["第27条", "AV-ALIVE", "PASS 適合", "いつから", "測定"] {
        assert!(page.contains(words), "{words} is missing in\n{page}");
    }
    let status = gatewayctl(&facility, &["status", "--json"]);
    assert_eq!(status.status.code(), Some(0));
    assert_eq!(json(&status)["facility"], "tkh-1001");
    assert!(json(&status)["audit"]["entries"].as_u64().unwrap() > 3);
    assert!(text(&gatewayctl(&facility, &["status"]).stdout).contains("監査記録"));

    // Only for root and the service's group, and nothing that is asked changes anything.
    let socket = facility.gateway.state_directory().join("control.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    facility.gateway.process().signal(Signal::SIGTERM).unwrap();
    facility.gateway.process().wait(SOON).unwrap();
    let stopped = gatewayctl(&facility, &["status"]);
    assert_eq!(stopped.status.code(), Some(2));
    assert!(
        text(&stopped.stderr).contains("gatewaydは動いていません"),
        "{stopped:?}"
    );
}

#[test]
fn the_control_socket_answers_what_is_no_request_and_goes_on() {
    use std::io::{Read as _, Write as _};
    let facility = Facility::start(Options::default()).unwrap();
    let socket = facility.gateway.state_directory().join("control.sock");
    let say = |bytes: &[u8]| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    for nonsense in [
        &b"hello\n"[..],
        b"",
        b"{\"version\":1,\"ask\":\"erase\"}\n",
        b"{\"version\":1,\"ask\":\"status\",\"more\":1}\n",
        &[b'x'; 100_000],
    ] {
        let answer = say(nonsense);
        assert!(
            answer.is_empty() || answer.contains("not a request"),
            "{answer}"
        );
    }
    assert!(say(b"{\"version\":2,\"ask\":\"status\"}\n").contains("another version"));
    // Somebody who connects and says nothing does not keep others out for long.
    let silent: Vec<_> = (0..4)
        .map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap())
        .collect();
    assert_eq!(gatewayctl(&facility, &["status"]).status.code(), Some(0));
    drop(silent);
}

#[test]
fn the_city_hears_of_every_check_and_of_changes_soon_and_of_nothing_personal() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let file = facility.gateway.configuration_file();
    let configuration = std::fs::read_to_string(&file).unwrap();
    let often = configuration.replace("[antivirus]\n", "[antivirus]\ncanary_seconds = 1\n");
    std::fs::write(&file, often).unwrap();
    facility.gateway.restart().unwrap();
    let first = wait::until("a report", SOON, || reported(&facility)).unwrap();
    assert!(first["version"].is_string(), "{first}");
    facility.clamd.kill();
    wait::until("the city to hear that the scanner is down", SOON, || {
        let state = state_of(&reported(&facility)?, "AV-ALIVE")?;
        (state == "restrict").then_some(())
    })
    .unwrap();
    let report = reported(&facility).unwrap();
    assert!(report["checkpoint"]["signature"].is_string());
    let mut members: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|check| check.as_object().unwrap().keys().map(String::as_str))
        .collect();
    members.sort_unstable();
    members.dedup();
    assert_eq!(members, ["evidence", "id", "since", "state"]);
    assert!(report.to_string().is_ascii());
}

#[test]
fn a_city_that_is_away_gets_the_report_when_it_is_back() {
    let facility = Facility::start(Options::default()).unwrap();
    wait::until("a report", SOON, || reported(&facility)).unwrap();
    let count =
        |facility: &Facility| facility.city.statistics().unwrap()["reports"][0]["count"].as_u64();
    facility.city.fail("5xx").unwrap();
    // Something critical, so that a report is due.
    std::thread::sleep(Duration::from_secs(1));
    let before = count(&facility);
    let mut facility = facility;
    facility.gateway.restart().unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(count(&facility), before, "the city is away");
    facility.city.recover().unwrap();
    wait::until("the report", SOON, || {
        (count(&facility) > before).then_some(())
    })
    .unwrap();
}
