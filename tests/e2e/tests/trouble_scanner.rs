//! The virus scanner dies (第27条): what is still permitted, and that all comes back by itself.
//!
//! That a scanner which died fifteen minutes ago blocks everything is a unit test of the policy; nobody waits for it here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::time::Duration;

use gateway_e2e::visiting::{Answer, Visitor};
use test_harness::facility::{Facility, Options};
use test_harness::wait;

const SOON: Duration = Duration::from_secs(20);

/// A facility whose box scans its canary every second, not every five minutes.
fn facility() -> (Facility, Visitor) {
    let mut facility = Facility::start(Options::default()).unwrap();
    let file = facility.gateway.configuration_file();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("[antivirus]\n", "[antivirus]\ncanary_seconds = 1\n"),
    )
    .unwrap();
    facility.gateway.restart().unwrap();
    let visitor = Visitor::new(&facility, "sakura-01");
    let page = visitor.sign_in(&facility, "sakura-01");
    assert!(page.says("支援対象者"), "{page:?}");
    (facility, visitor)
}

fn staff_pages(facility: &Facility) -> String {
    format!("{}staff/", facility.gateway.portal_url())
}

/// Writes a note with a file, as the form of the notebook does.
fn upload(facility: &Facility, visitor: &Visitor) -> Answer {
    let person = format!("{}persons/p-1001", staff_pages(facility));
    let page = visitor.open(&person);
    assert_eq!(page.status, 200, "reading is permitted: {page:?}");
    let (_, after) = page.body.split_once("name=\"csrf\" value=\"").unwrap();
    let csrf = after.split('"').next().unwrap();
    visitor.send(&[
        "--header",
        "Accept: text/html",
        "--header",
        &format!(
            "Origin: {}",
            facility.gateway.portal_url().trim_end_matches('/')
        ),
        "--form-string",
        &format!("csrf={csrf}"),
        "--form-string",
        "text=記録の控えです。",
        "--form",
        "attachment=@/etc/hostname;type=text/plain",
        &format!("{person}/notes"),
    ])
}

fn a_file_passes(facility: &Facility, visitor: &Visitor) {
    let written = wait::until("an upload", SOON, || {
        let answer = upload(facility, visitor);
        (answer.status == 303).then_some(answer)
    });
    written.unwrap();
}

#[test]
fn without_the_scanner_files_are_refused_and_text_is_read_and_written() {
    let (mut facility, visitor) = facility();
    a_file_passes(&facility, &visitor);
    facility.clamd.kill();
    let refused = wait::until("the refusal of a file", SOON, || {
        let answer = upload(&facility, &visitor);
        (answer.status == 403).then_some(answer)
    })
    .unwrap();
    assert!(
        refused.says("ファイルの送受信を止めています"),
        "{}",
        refused.body
    );
    assert!(refused.field("proxy-status").contains("AV-ALIVE"));
    let code = refused.support_code().unwrap();
    let log = facility.gateway.log();
    let line = log.lines().find(|line| line.contains(&code)).unwrap();
    assert!(
        line.contains("AV-ALIVE") && line.contains("article=27"),
        "{line}"
    );

    let origin = facility.gateway.portal_url();
    let text = visitor.send(&[
        "--header",
        "Content-Type: application/json",
        "--header",
        &format!("Origin: {}", origin.trim_end_matches('/')),
        "--data",
        r#"{"text":"文字だけの連絡です。"}"#,
        &format!("{}api/persons/p-1001/notes", staff_pages(&facility)),
    ]);
    assert_eq!(text.status, 201, "{text:?}");
    assert_eq!(visitor.open(&origin).status, 200);
    let console = visitor.open(&facility.gateway.console_url());
    assert!(
        console.says("ウイルス検査が止まっているため、ファイルの送受信を止めています"),
        "{}",
        console.body
    );

    facility.clamd.restart().unwrap();
    a_file_passes(&facility, &visitor);
    // Each turn is one line, however often the canary was tried.
    let log = facility.gateway.log();
    assert_eq!(
        log.matches("the virus scanner does not work").count(),
        1,
        "{log}"
    );
}

#[test]
fn a_box_that_starts_without_its_scanner_relays_the_portal_only_until_the_scanner_is_back() {
    let (mut facility, visitor) = facility();
    facility.clamd.kill();
    facility.gateway.restart().unwrap();
    let page = visitor.open(&staff_pages(&facility));
    assert_eq!(page.status, 403, "{page:?}");
    assert!(page.says("連絡帳への接続を止めています"));
    assert!(page.field("proxy-status").contains("AV-ALIVE"), "{page:?}");
    assert_eq!(visitor.open(&facility.gateway.portal_url()).status, 200);
    let console = visitor.open(&facility.gateway.console_url());
    assert!(
        console.says("ウイルス検査が止まっているため、連絡帳への接続を止めています"),
        "{}",
        console.body
    );
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(
        visitor.open(&staff_pages(&facility)).status,
        403,
        "trying again buys nothing"
    );

    facility.clamd.restart().unwrap();
    wait::until("staff pages, by themselves", SOON, || {
        (visitor.open(&staff_pages(&facility)).status == 200).then_some(())
    })
    .unwrap();
}
