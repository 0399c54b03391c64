//! The power goes, the box is told to stop, it is started twice or with a faulty configuration.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway_e2e::visiting::Visitor;
use nix::sys::signal::Signal;
use test_harness::facility::{Facility, Options};
use test_harness::{binaries, setup, wait};

const SOON: Duration = Duration::from_secs(20);

fn signed_in(facility: &Facility) -> Visitor {
    let visitor = Visitor::new(facility, "sakura-01");
    let page = visitor.sign_in(facility, "sakura-01");
    assert!(page.says("支援対象者"), "{page:?}");
    visitor
}

/// Sends the form of the setup page; the ceremony then runs. False when the box has meanwhile gone on by itself, and so
/// takes numbers from a signed-in manager only.
fn type_in(facility: &Facility, manager: &Visitor, number: &str, code: &str) -> bool {
    let console = facility.gateway.console_url();
    let answer = manager.send(&[
        "--header",
        &format!("Origin: {}", console.trim_end_matches('/')),
        "--data-urlencode",
        &format!("number={number}"),
        "--data-urlencode",
        &format!("access_code={code}"),
        &format!("{console}setup"),
    ]);
    assert!([303, 403].contains(&answer.status), "{answer:?}");
    answer.status == 303
}

#[test]
fn power_cuts_during_provisioning_neither_lose_the_certificate_nor_burn_the_number() {
    let mut facility = Facility::start(Options {
        provision: false,
        ..Options::default()
    })
    .unwrap();
    let (number, code) = (
        facility.city.text("certificate_number").to_owned(),
        facility.city.text("access_code").to_owned(),
    );
    let manager = Visitor::new(&facility, "manager").accepting_any_certificate();
    let mut cuts = 0;
    for milliseconds in [0, 15, 35, 60, 90, 120, 150, 190, 240, 300] {
        let page = manager.open(&format!("{}setup", facility.gateway.console_url()));
        let asks = page.says("name=\"access_code\"");
        if !asks || !type_in(&facility, &manager, &number, &code) {
            break;
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        facility.gateway.restart().unwrap();
        cuts += 1;
    }
    assert!(cuts >= 2, "{cuts}");
    let page = manager.open(&format!("{}setup", facility.gateway.console_url()));
    if page.says("name=\"access_code\"") {
        setup::provision(&facility.gateway, &number, &code).unwrap();
    }
    wait::until("the box to work", SOON, || {
        let page = Visitor::new(&facility, "sakura-01").sign_in(&facility, "sakura-01");
        page.says("支援対象者").then_some(())
    })
    .unwrap();
    // One certificate, however often it was asked for.
    let list = manager.open(&format!("{}certificates", facility.gateway.console_url()));
    assert_eq!(list.body.matches("証明書番号").count(), 1, "{}", list.body);
}

/// The certificate numbers on the console, and the LAN certificate as shown.
fn identity(facility: &Facility, visitor: &Visitor) -> (String, String) {
    let page = visitor.open(&format!("{}certificates", facility.gateway.console_url()));
    let (_, after) = page.body.split_once("証明書番号</dt>").unwrap();
    let serial = after.split("</dd>").next().unwrap().to_owned();
    let shown = visitor.send(&[
        "--write-out",
        "%{certs}",
        "--output",
        "/dev/null",
        &facility.gateway.portal_url(),
    ]);
    let certificate = shown.body.split("-----END").next().unwrap().to_owned();
    assert!(certificate.contains("BEGIN CERTIFICATE"), "{certificate}");
    (serial, certificate)
}

#[test]
fn a_box_that_starts_again_serves_at_once_as_the_one_it_was() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility);
    wait::until("stored notes", SOON, || {
        visitor
            .stored(&facility.gateway)
            .says("架空 花子")
            .then_some(())
    })
    .unwrap();
    let before = identity(&facility, &visitor);
    for city in ["none", "down"] {
        facility.city.fail(city).unwrap();
        let started = Instant::now();
        facility.gateway.restart().unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        assert_eq!(identity_at_the_console(&facility, &visitor), before.0);
        let log = facility.gateway.log();
        let store = log
            .lines()
            .rev()
            .find(|line| line.contains("the store of notes"))
            .unwrap();
        assert!(store.contains("goes on where it stopped"), "{store}");
    }
    facility.city.recover().unwrap();
    wait::until("staff pages, by themselves", SOON, || {
        let page = visitor.open(&format!("{}staff/", facility.gateway.portal_url()));
        (page.status == 200).then_some(())
    })
    .unwrap();
    assert_eq!(identity(&facility, &visitor), before);
}

#[test]
fn a_starting_box_shows_nobody_another_certificate_and_refuses_nobody() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility);
    let url = format!("{}staff/", facility.gateway.portal_url());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let visits = scope.spawn(|| {
            let mut all = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let page = visitor.open(&url);
                all.push((page.ended, page.status));
            }
            all
        });
        for _ in 0..4 {
            facility.gateway.restart().unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        done.store(true, Ordering::Relaxed);
        let all = visits.join().unwrap();
        assert!(
            all.iter().filter(|visit| **visit == (0, 200)).count() > 4,
            "{all:?}"
        );
        // 60: a certificate that is not the city's. A status that is not 200: a refusal.
        let wrong = |visit: &&(i32, u16)| visit.0 == 60 || ![0, 200].contains(&visit.1);
        assert_eq!(all.iter().find(wrong), None, "{all:?}");
    });
}

fn identity_at_the_console(facility: &Facility, visitor: &Visitor) -> String {
    let page = visitor.open(&format!("{}certificates", facility.gateway.console_url()));
    let (_, after) = page.body.split_once("証明書番号</dt>").unwrap();
    after.split("</dd>").next().unwrap().to_owned()
}

#[test]
fn a_box_told_to_stop_finishes_the_download_and_ends_well() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility);
    let url = format!(
        "{}line-check/stream?count=6&interval_ms=400&bytes=20000",
        facility.gateway.portal_url()
    );
    std::thread::scope(|scope| {
        let download = scope.spawn(|| visitor.open(&url));
        std::thread::sleep(Duration::from_millis(900));
        facility.gateway.process().signal(Signal::SIGTERM).unwrap();
        let answer = download.join().unwrap();
        assert_eq!((answer.ended, answer.status), (0, 200));
        assert!(answer.says("event: end"));
    });
    let status = facility.gateway.process().wait(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "{}", facility.gateway.log());
    assert!(
        facility
            .gateway
            .log()
            .contains("stopping; open requests may finish")
    );
}

fn run(configuration: &Path) -> Output {
    let gatewayd = binaries::ours("gatewayd").unwrap();
    Command::new(gatewayd)
        .arg("--config")
        .arg(configuration)
        .output()
        .unwrap()
}

#[test]
fn a_second_gatewayd_on_the_same_state_says_so_and_leaves_the_first_alone() {
    let facility = Facility::start(Options::default()).unwrap();
    let second = run(&facility.gateway.configuration_file());
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains("another gatewayd or gateway-provision"),
        "{said}"
    );
    assert!(!said.contains("panicked"));
    signed_in(&facility);
}

#[test]
fn every_fault_of_a_configuration_is_reported_with_its_line_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.toml");
    let example = include_str!("../../../gateway/daemon/gateway.toml");
    let faulty = example
        .replace("https = [\"[::]:443\"]", "https = []")
        .replace("allow_software = false", "allow_sofware = false")
        .replace("canary_seconds = 300", "canary_seconds = 3000")
        .replace("protocol = \"auto\"", "protocol = \"gopher\"")
        .replace("connections = 4096", "connections = \"many\"")
        + "\n[colour]\nred = 1\n";
    std::fs::write(&file, &faulty).unwrap();
    let ended = run(&file);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(78), "{said}");
    let line_of = |words: &str| {
        1 + faulty
            .lines()
            .position(|line| line.contains(words))
            .unwrap()
    };
    for (key, words) in [
        ("listen.https", "https = []"),
        ("tpm.allow_sofware", "allow_sofware"),
        ("antivirus.canary_seconds", "canary_seconds = 3000"),
        ("site[0].protocol", "gopher"),
        ("limits.connections", "\"many\""),
        ("colour", "[colour]"),
    ] {
        let place = format!("line {}: {key}", line_of(words));
        assert!(said.contains(&place), "{place} is missing in:\n{said}");
    }
    assert_eq!(said.lines().count(), 6, "{said}");

    for (content, words) in [(Some("\u{0}"), "line 1"), (None, "cannot be read")] {
        let _ = std::fs::remove_file(&file);
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let ended = run(&file);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(78), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
