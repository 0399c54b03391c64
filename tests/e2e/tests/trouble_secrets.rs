//! Number and access code are typed once and then are nowhere: not in the log at its loudest, not on the disk, not in a core.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use gateway_e2e::visiting::{Visitor, password};
use nix::sys::signal::Signal;
use test_harness::facility::{Facility, Options};

/// What a Japanese input method produces.
fn full_width(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '0'..='9' => {
                char::from_u32(u32::from(character) - u32::from('0') + u32::from('０')).unwrap()
            }
            '-' => 'ー',
            other => other,
        })
        .collect()
}

/// Every form in which they pass through the box.
fn forms(number: &str, code: &str) -> Vec<Vec<u8>> {
    let bare = |text: &str| text.replace('-', "");
    let mut all = Vec::new();
    for (number, code) in [
        (number.to_owned(), code.to_owned()),
        (bare(number), bare(code)),
    ] {
        let pair = format!("{number}:{code}");
        for text in [number, code] {
            // As the browser's form carries it, too.
            let encoded: String = full_width(&text)
                .bytes()
                .map(|byte| format!("%{byte:02X}"))
                .collect();
            all.extend([
                full_width(&text),
                STANDARD_NO_PAD.encode(&text),
                encoded,
                text,
            ]);
        }
        all.extend([STANDARD.encode(&pair), URL_SAFE_NO_PAD.encode(&pair), pair]);
    }
    all.into_iter().map(String::into_bytes).collect()
}

fn search(directory: &Path, secrets: &[Vec<u8>], files: &mut usize) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.path().is_dir() {
            search(&entry.path(), secrets, files);
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            *files += 1;
            for secret in secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret);
                let secret = String::from_utf8_lossy(secret);
                assert!(!found, "{} holds {secret}", entry.path().display());
            }
        }
    }
}

#[test]
fn what_was_typed_is_in_no_log_in_no_file_and_in_no_core() {
    let mut facility = Facility::start(Options {
        through: ["env", "RENRAKU_LOG=trace"].map(str::to_owned).to_vec(),
        ..Options::default()
    })
    .unwrap();
    let visitor = Visitor::new(&facility, "sakura-01");
    assert!(visitor.sign_in(&facility, "sakura-01").says("支援対象者"));
    assert!(
        visitor
            .open(&format!(
                "{}staff/persons/p-1001",
                facility.gateway.portal_url()
            ))
            .says("架空 花子")
    );

    let mut secrets = forms(
        facility.city.text("certificate_number"),
        facility.city.text("access_code"),
    );
    // Nor what a person typed or read later: password, session, names, notes.
    let jar = std::fs::read_to_string(facility.directory().join("sakura-01.cookies")).unwrap();
    let cookie = jar
        .lines()
        .find(|line| line.contains("__Host-renraku"))
        .unwrap();
    secrets.push(cookie.split('\t').next_back().unwrap().as_bytes().to_vec());
    secrets.push(password(&facility, "sakura-01").into_bytes());
    secrets
        .extend(["架空 花子", "血圧", "sakura-01", "p-1001"].map(|text| text.as_bytes().to_vec()));
    let log = facility.gateway.log();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log is at its loudest"
    );
    let mut files = 0;
    search(&facility.gateway.state_directory(), &secrets, &mut files);
    assert!(files > 5, "{files}");
    for secret in &secrets {
        let secret = String::from_utf8_lossy(secret);
        let line = log.lines().find(|line| line.contains(&*secret));
        assert!(line.is_none(), "{secret}: {line:?}");
    }

    let pid = facility.gateway.process().pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().filter(|word| *word == "0").count(),
        2,
        "{core}"
    );
    facility.gateway.process().signal(Signal::SIGQUIT).unwrap();
    // A thread inside fsync ends only when the disk has answered, and a busy disk takes its time.
    let status = facility
        .gateway
        .process()
        .wait(Duration::from_secs(60))
        .unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGQUIT as i32));
    assert!(!status.core_dumped());
}
