//! The audit log through the real box and the reference city: what happens is written down, signed, countersigned; what is
//! changed afterwards is found, by the box itself, by `gatewayctl`, or by the city.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use gateway_e2e::visiting::Visitor;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use test_harness::facility::{Facility, Options};
use test_harness::{binaries, wait};

const SOON: Duration = Duration::from_secs(60);
const FACILITY: &str = "tkh-1001";

fn facility() -> Facility {
    Facility::start(Options {
        more_configuration: "[audit]\nverify_seconds = 2\n".to_owned(),
        ..Options::default()
    })
    .unwrap()
}

fn log_of(facility: &Facility) -> PathBuf {
    facility.gateway.state_directory().join("audit")
}

/// All entries that are there now.
fn entries(dir: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.file_stem().is_some_and(|stem| stem.len() == 20))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let lines: Vec<Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .collect();
            lines
        })
        .map(|line| line["entry"].clone())
        .collect()
}

fn gatewayctl(arguments: &[&str]) -> Output {
    Command::new(binaries::ours("gatewayctl").unwrap())
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs `audit verify --json`: exit code, and the faults by name with the entry.
fn verify(facility: &Facility, dir: &Path, more: &[&str]) -> (i32, Vec<(String, Option<u64>)>) {
    let anchor = facility.city.ca_file();
    let mut arguments = vec!["audit", "verify", "--json", "--dir", dir.to_str().unwrap()];
    arguments.extend(["--anchor", anchor.to_str().unwrap()]);
    arguments.extend(more);
    let output = gatewayctl(&arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"));
    let faults = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let fault = finding["fault"].as_str().unwrap().to_owned();
            (fault, finding["entry"].as_u64())
        })
        .collect();
    (output.status.code().unwrap(), faults)
}

fn city_keeps(facility: &Facility) -> Value {
    facility
        .city
        .control("audit", &json!({ "facility": FACILITY }))
        .unwrap()
}

/// The row of LOG in the report that gatewayd gives.
fn log_row(facility: &Facility) -> Value {
    let socket = facility.gateway.state_directory().join("control.sock");
    let output = gatewayctl(&["report", "--json", "--socket", socket.to_str().unwrap()]);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let rows = report["rows"].as_array().unwrap();
    rows.iter()
        .find(|row| row["rule"] == "LOG")
        .unwrap()
        .clone()
}

fn until_acknowledged(facility: &Facility, at_least: u64) -> u64 {
    wait::until("the city's countersignature in the log", SOON, || {
        entries(&log_of(facility))
            .iter()
            .filter(|entry| entry["kind"] == "acknowledged")
            .filter_map(|entry| entry["sequence"].as_u64())
            .find(|sequence| *sequence >= at_least)
    })
    .unwrap()
}

fn stopped(facility: &mut Facility) -> PathBuf {
    facility.gateway.process().signal(Signal::SIGTERM).unwrap();
    facility.gateway.process().wait(SOON).unwrap();
    log_of(facility)
}

fn copied(facility: &Facility, from: &Path, name: &str) -> PathBuf {
    let to = facility.directory().join(name);
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    to
}

/// Changes the log's newest file as text.
fn edit(dir: &Path, change: impl Fn(&str) -> String) {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.file_stem().is_some_and(|stem| stem.len() == 20))
        .collect();
    files.sort();
    let path = files.last().unwrap();
    let text = fs::read_to_string(path).unwrap();
    let changed = change(&text);
    assert_ne!(text, changed);
    fs::write(path, changed).unwrap();
}

#[test]
fn a_scanner_that_is_killed_is_an_entry_a_checkpoint_and_a_countersignature() {
    let mut facility = facility();
    let file = facility.gateway.configuration_file();
    let text = fs::read_to_string(&file).unwrap();
    let often = text.replace("[antivirus]\n", "[antivirus]\ncanary_seconds = 1\n");
    fs::write(&file, often).unwrap();
    facility.gateway.restart().unwrap();
    let first = until_acknowledged(&facility, 1);
    facility.clamd.kill();
    let entry = wait::until("the entry", SOON, || {
        entries(&log_of(&facility)).into_iter().find(|entry| {
            entry["kind"] == "verdict"
                && entry["check"] == "AV-ALIVE"
                && entry["effect"] == "restrict"
        })
    })
    .unwrap();
    let number = entry["n"].as_u64().unwrap();
    until_acknowledged(&facility, first + 1);
    let kept = wait::until("the city's copy", SOON, || {
        let kept = city_keeps(&facility);
        (kept["count"].as_u64() >= Some(number)).then_some(kept)
    })
    .unwrap();
    assert_eq!(kept["faults"], json!([]), "{kept}");
    let dir = stopped(&mut facility);
    let kinds: Vec<String> = entries(&dir)
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds[0], "opened");
    for kind in [
        "started",
        "verdict",
        "key",
        "checkpointed",
        "acknowledged",
        "gate",
        "stopped",
    ] {
        assert!(kinds.iter().any(|found| found == kind), "{kind}: {kinds:?}");
    }
    let copy = facility.directory().join("city.jsonl");
    fs::write(&copy, kept["export"].as_str().unwrap()).unwrap();
    let good = verify(
        &facility,
        &dir,
        &["--city-checkpoints", copy.to_str().unwrap()],
    );
    assert_eq!(good, (0, vec![]));
    // Nothing personal got in: all text is from closed lists.
    let text = fs::read_to_string(dir.join("00000000000000000001.jsonl")).unwrap();
    assert!(text.is_ascii());

    // And it goes on where it was after the next start.
    facility.gateway.start_again().unwrap();
    until_acknowledged(&facility, first + 2);
    assert_eq!(city_keeps(&facility)["faults"], json!([]));
    assert!(!log_row(&facility)["mark"].is_null());
}

#[test]
fn every_change_to_a_stopped_boxs_log_is_found_and_named() {
    let mut facility = facility();
    until_acknowledged(&facility, 1);
    let kept = city_keeps(&facility);
    let city = facility.directory().join("city.jsonl");
    fs::write(&city, kept["export"].as_str().unwrap()).unwrap();
    let signed = kept["count"].as_u64().unwrap();
    let dir = stopped(&mut facility);
    let lines = |text: &str| {
        text.split_inclusive('\n')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    type Change<'a> = (&'a str, &'a dyn Fn(&str) -> String, &'a str);
    let changes: [Change<'_>; 5] = [
        (
            "changed",
            &|text| text.replacen("\"effect\":\"allow\"", "\"effect\":\"block\"", 1),
            "entry-changed",
        ),
        (
            "removed",
            &|text| {
                let mut all = lines(text);
                all.remove(2);
                all.concat()
            },
            "entries-missing",
        ),
        (
            "reordered",
            &|text| {
                let mut all = lines(text);
                all.swap(2, 3);
                all.concat()
            },
            "entries-missing",
        ),
        (
            "inserted",
            &|text| {
                let mut all = lines(text);
                all.insert(3, all[1].clone());
                all.concat()
            },
            "entry-repeated",
        ),
        (
            "truncated",
            &|text| lines(text).into_iter().take(3).collect(),
            "log-truncated",
        ),
    ];
    for (name, change, fault) in changes {
        let copy = copied(&facility, &dir, name);
        edit(&copy, change);
        let (code, faults) = verify(&facility, &copy, &[]);
        assert_eq!(code, 1, "{name}: {faults:?}");
        assert_eq!(faults[0].0, fault, "{name}: {faults:?}");
        assert!(
            faults[0].1.is_some_and(|entry| entry <= signed),
            "{name}: {faults:?}"
        );
    }
    // Checkpoints and log cut back together: only the city knows better.
    let copy = copied(&facility, &dir, "rewound");
    edit(&copy, |text| lines(text).into_iter().take(3).collect());
    for file in [
        "checkpoints.jsonl",
        "receipts.jsonl",
        "keys.jsonl",
        "certificates.jsonl",
    ] {
        fs::write(copy.join(file), "").unwrap();
    }
    assert_eq!(verify(&facility, &copy, &[]).0, 0);
    let (code, faults) = verify(
        &facility,
        &copy,
        &["--city-checkpoints", city.to_str().unwrap()],
    );
    assert_eq!(
        (code, faults[0].0.as_str()),
        (1, "city-has-more"),
        "{faults:?}"
    );
    assert_eq!(faults[0].1, Some(4));
    // What cannot be verified is neither good nor bad.
    let nowhere = facility.directory().join("nowhere");
    assert_eq!(
        gatewayctl(&["audit", "verify", "--dir", nowhere.to_str().unwrap()])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_running_box_finds_the_change_tells_the_city_and_is_restricted_until_somebody_there_agrees() {
    let facility = facility();
    until_acknowledged(&facility, 1);
    edit(&log_of(&facility), |text| {
        text.replacen("verdict", "verdikt", 1)
    });
    let row = wait::until("LOG to fail", SOON, || {
        let row = log_row(&facility);
        (row["effect"] == "restrict").then_some(row)
    })
    .unwrap();
    assert_eq!(
        (&row["mark"], &row["state"]),
        (&json!("FAIL"), &json!("failing"))
    );
    assert!(facility.gateway.log().contains("the audit log was changed"));
    let aside = fs::read_dir(facility.gateway.state_directory())
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.to_string_lossy().contains("audit-set-aside-"))
        .unwrap();
    assert_eq!(verify(&facility, &aside, &[]).0, 1);
    assert_eq!(entries(&log_of(&facility))[0]["because"], "set-aside");
    // The city hears of it, does not take another log, and says so.
    wait::until("the city's fault", SOON, || {
        let faults = city_keeps(&facility)["faults"].clone();
        faults
            .as_array()?
            .iter()
            .any(|fault| fault["reason"] == "other-log")
            .then_some(())
    })
    .unwrap();
    wait::until("the incident", SOON, || {
        let reports = facility.city.statistics().ok()?["reports"].clone();
        let mut all = reports.as_array()?.iter();
        all.any(|report| report["kind"] == "incident" && report["last"]["kind"] == "tampering")
            .then_some(())
    })
    .unwrap();
    assert_eq!(log_row(&facility)["effect"], "restrict");
    // Somebody there agrees to the new log.
    facility
        .city
        .control("audit-accept", &json!({ "facility": FACILITY }))
        .unwrap();
    // Something critical has the next checkpoint sent.
    facility
        .city
        .control("suspend-facility", &json!({ "id": FACILITY }))
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    facility
        .city
        .control(
            "suspend-facility",
            &json!({ "id": FACILITY, "suspended": false }),
        )
        .unwrap();
    until_acknowledged(&facility, 1);
}

#[test]
fn a_log_put_back_to_an_older_copy_with_its_checkpoints_is_refused_by_the_city() {
    let mut facility = facility();
    until_acknowledged(&facility, 1);
    let dir = stopped(&mut facility);
    let older = copied(&facility, &dir, "older");
    // Two starts, because the one with the older copy writes as many entries as one of them before it is heard.
    for _ in 0..2 {
        // Before the start: its own entry makes a checkpoint, and the next may be an hour away.
        let newest = city_keeps(&facility)["sequence"].as_u64().unwrap();
        facility.gateway.restart().unwrap();
        wait::until("a newer checkpoint at the city", SOON, || {
            (city_keeps(&facility)["sequence"].as_u64() > Some(newest)).then_some(())
        })
        .unwrap();
    }
    let dir = stopped(&mut facility);
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&older, &dir).unwrap();
    // Nothing here shows it ...
    assert_eq!(verify(&facility, &dir, &[]), (0, vec![]));
    facility.gateway.start_again().unwrap();
    // ... but the city has seen more.
    let fault = wait::until("the city's fault", SOON, || {
        city_keeps(&facility)["faults"].as_array()?.first().cloned()
    })
    .unwrap();
    assert!(
        ["smaller-count", "different-head"].contains(&fault["reason"].as_str().unwrap()),
        "{fault}"
    );
    wait::until("LOG to fail", SOON, || {
        (log_row(&facility)["effect"] == "restrict").then_some(())
    })
    .unwrap();
    assert!(
        facility
            .gateway
            .log()
            .contains("the city does not accept the audit log")
    );
}

/// The test virus in a file whose name nobody may find anywhere, and its SHA-256.
fn infected(facility: &Facility) -> (PathBuf, String) {
    let file = facility.directory().join("山田太郎.txt");
    fs::write(&file, test_harness::clamd::eicar()).unwrap();
    let sum = Command::new("sha256sum").arg(&file).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let digest = sum.trim_start_matches('\\').split(' ').next().unwrap();
    (file, digest.to_owned())
}

/// Somebody who has a person's page open; answers with the token of its form.
fn with_a_page_open(facility: &Facility) -> (Visitor, String) {
    let visitor = Visitor::new(facility, "sakura-01");
    let page = visitor.sign_in(facility, "sakura-01");
    assert!(page.says("支援対象者"), "{page:?}");
    let page = visitor.open(&person(facility));
    let (_, after) = page.body.split_once("name=\"csrf\" value=\"").unwrap();
    (visitor, after.split('"').next().unwrap().to_owned())
}

fn person(facility: &Facility) -> String {
    format!("{}staff/persons/p-1001", facility.gateway.portal_url())
}

fn attaches(facility: &Facility, (visitor, csrf): &(Visitor, String), file: &Path) -> u16 {
    let portal = facility.gateway.portal_url();
    visitor
        .send(&[
            "--header",
            "Accept: text/html",
            "--header",
            &format!("Origin: {}", portal.trim_end_matches('/')),
            "--form-string",
            &format!("csrf={csrf}"),
            "--form-string",
            "text=添付します。",
            "--form",
            &format!("attachment=@{};type=text/plain", file.display()),
            &format!("{}/notes", person(facility)),
        ])
        .status
}

/// Incidents of this kind that the city has: how many reports, and the newest.
fn incidents(facility: &Facility) -> Option<(u64, Value)> {
    let reports = facility.city.statistics().ok()?["reports"].clone();
    let mut all = reports.as_array()?.iter();
    let found = all.find(|report| report["kind"] == "incident")?;
    Some((found["count"].as_u64()?, found["last"].clone()))
}

#[test]
fn an_infected_upload_is_an_entry_without_a_name_and_an_incident_at_the_city() {
    let facility = facility();
    until_acknowledged(&facility, 1);
    let visit = with_a_page_open(&facility);
    let (file, digest) = infected(&facility);
    assert_eq!(attaches(&facility, &visit, &file), 403);
    let entry = wait::until("the entry", SOON, || {
        entries(&log_of(&facility))
            .into_iter()
            .find(|entry| entry["kind"] == "content")
    })
    .unwrap();
    assert_eq!(entry["what"], "infected");
    assert_eq!(entry["direction"], "upload");
    // Of the file, not of the form around it.
    assert_eq!(entry["digest"], json!(digest));
    let signature = entry["signature"].as_str().unwrap().to_owned();
    assert!(signature.to_lowercase().contains("eicar"), "{entry}");
    let mut members: Vec<&String> = entry.as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(
        members,
        [
            "at",
            "digest",
            "direction",
            "kind",
            "n",
            "signature",
            "what"
        ]
    );
    let (count, last) = wait::until("the incident", SOON, || incidents(&facility)).unwrap();
    assert_eq!((count, &last["kind"]), (1, &json!("malware")), "{last}");
    assert_eq!(last["evidence"], json!(digest));
    assert_eq!(last["signature"], json!(signature));
    assert_eq!(last["direction"], "upload");
    assert!(!last.to_string().contains("山田"));
}

#[test]
fn an_incident_found_while_the_city_is_away_outlives_a_power_cut_and_arrives_once() {
    let mut facility = facility();
    until_acknowledged(&facility, 1);
    let visit = with_a_page_open(&facility);
    let (file, digest) = infected(&facility);
    facility.city.process().kill();
    // Whatever the person is told without the city: the body was looked into, and stopped.
    let status = attaches(&facility, &visit, &file);
    assert_eq!(status, 403);
    let waiting = facility.gateway.state_directory().join("incidents.json");
    wait::until("the incident on the disk", SOON, || {
        let text = fs::read_to_string(&waiting).ok()?;
        text.contains(&digest).then_some(())
    })
    .unwrap();
    facility.gateway.process().kill();
    facility.gateway.start_again().unwrap();
    facility.city.restart().unwrap();
    let (count, last) = wait::until("the incident", SOON, || incidents(&facility)).unwrap();
    assert_eq!((count, &last["evidence"]), (1, &json!(digest)), "{last}");
    wait::until("nothing to wait any more", SOON, || {
        (fs::read_to_string(&waiting).ok()? == "[]").then_some(())
    })
    .unwrap();
    assert_eq!(incidents(&facility).unwrap().0, 1);
}
