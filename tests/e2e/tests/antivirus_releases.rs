//! Antivirus databases that the city signs (第27条): in use within seconds of a hint, refused by name when they find too
//! little, and never in the way of a page.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_e2e::releases::publish;
use gateway_e2e::visiting::Visitor;
use serde_json::json;
use test_harness::facility::{Facility, Options};
use test_harness::signatures::{Signatures, finds, now};
use test_harness::wait;

const SOON: Duration = Duration::from_secs(40);

fn release(serial: u64) -> Signatures {
    Signatures::built(now() + 120).serial(serial)
}

fn says(facility: &Facility, words: &[&str]) {
    wait::until(&words.join(" "), SOON, || {
        let log = facility.gateway.log();
        let said = |line: &str| words.iter().all(|word| line.contains(word));
        log.lines().any(said).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", facility.gateway.log()));
}

fn is_level(facility: &Facility) {
    says(facility, &["signed-channel", "TUF-NEWS"]);
}

#[test]
fn a_signed_database_is_in_use_within_seconds_and_a_weaker_one_is_refused() {
    let facility = Facility::start(Options::default()).unwrap();
    is_level(&facility);
    let threat = finds("New.Threat", b"a threat of this week");
    publish(&facility, &release(7).with("new.ndb", threat));
    says(
        &facility,
        &[
            "an antivirus database was proven and is in use",
            "serial=7",
            "origin=\"city\"",
        ],
    );
    says(&facility, &["the scanner has loaded", "7 of city"]);
    publish(&facility, &release(8).without_eicar());
    says(
        &facility,
        &[
            "an antivirus database was not taken",
            "reason=\"misses\"",
            "serial=8",
        ],
    );
    publish(&facility, &release(9).with("new.ndb", "Half:0:*:zz\n"));
    says(
        &facility,
        &[
            "an antivirus database was not taken",
            "reason=\"does-not-load\"",
        ],
    );
    let log = facility.gateway.log();
    assert_eq!(log.matches("was proven and is in use").count(), 1, "{log}");
    publish(&facility, &release(10));
    says(
        &facility,
        &[
            "an antivirus database was proven and is in use",
            "serial=10",
        ],
    );
}

#[test]
fn kinds_that_the_signed_policy_permits_are_left_out_of_a_database_proven_like_any_other() {
    let facility = Facility::start(Options::default()).unwrap();
    is_level(&facility);
    let policy = |version: u64, macros: bool| {
        json!({
            "version": version,
            "not_before": now() - 3600,
            "expires": now() + 30 * 86_400,
            "facilities": ["*"],
            "downloads": {"macros": macros},
        })
    };
    let in_force = |version, macros| {
        let city = &facility.city;
        city.control("tuf-policy", &policy(version, macros))
            .unwrap();
        city.control("hint", &json!({"id": "policy"})).unwrap();
    };
    in_force(3, true);
    says(
        &facility,
        &[
            "an antivirus database was proven and is in use",
            "permitted=\"macro\"",
        ],
    );
    in_force(4, false);
    says(
        &facility,
        &[
            "an antivirus database was proven and is in use",
            "permitted=\"\"",
        ],
    );
}

#[test]
fn pages_are_answered_while_databases_are_loaded() {
    let facility = Facility::start(Options::default()).unwrap();
    is_level(&facility);
    let stop = Arc::new(AtomicBool::new(false));
    let visits = {
        let visitor = Visitor::new(&facility, "sakura-01");
        let page = format!("{}staff/login", facility.gateway.portal_url());
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut visits = 0;
            while !stop.load(Ordering::SeqCst) {
                let answer = visitor.open(&page);
                assert_eq!(answer.status, 200, "{answer:?}");
                visits += 1;
            }
            visits
        })
    };
    for serial in 20..23 {
        publish(&facility, &release(serial));
        let number = format!("serial={serial}");
        says(
            &facility,
            &["an antivirus database was proven and is in use", &number],
        );
    }
    stop.store(true, Ordering::SeqCst);
    assert!(visits.join().unwrap() > 5);
}

#[test]
fn a_restarted_box_does_not_take_the_same_database_twice() {
    let mut facility = Facility::start(Options::default()).unwrap();
    is_level(&facility);
    publish(&facility, &release(7));
    says(
        &facility,
        &["an antivirus database was proven and is in use", "serial=7"],
    );
    let before = facility.gateway.log().len();
    facility.gateway.restart().unwrap();
    says(&facility, &["the scanner has loaded", "7 of city"]);
    std::thread::sleep(Duration::from_secs(3));
    let log = facility.gateway.log();
    let since = log.get(before..).unwrap_or(&log);
    assert!(!since.contains("was not taken"), "{since}");
}
