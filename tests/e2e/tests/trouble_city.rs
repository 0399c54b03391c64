//! The city fails in every way it can: what staff see, what they can still read, and that all comes back by itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_e2e::visiting::{Answer, Visitor};
use serde_json::json;
use test_harness::facility::{Facility, Options};
use test_harness::wait;

const SOON: Duration = Duration::from_secs(20);

/// A facility whose box waits two seconds for the city, not sixty.
fn facility() -> (Facility, Visitor) {
    let facility = Facility::start(Options {
        more_configuration: "[limits]\nanswer_seconds = 2\n".to_owned(),
        ..Options::default()
    })
    .unwrap();
    let visitor = Visitor::new(&facility, "sakura-01");
    let page = visitor.sign_in(&facility, "sakura-01");
    assert!(page.says("支援対象者"), "{page:?}");
    (facility, visitor)
}

fn staff_pages(facility: &Facility) -> String {
    format!("{}staff/", facility.gateway.portal_url())
}

fn comes_back(facility: &Facility, visitor: &Visitor) {
    wait::until("staff pages, by themselves", SOON, || {
        let page = visitor.open(&staff_pages(facility));
        (page.status == 200 && page.ended == 0).then_some(())
    })
    .unwrap();
}

/// Page and problem of a failure say the same, and its support code finds one line in the log.
fn says(facility: &Facility, visitor: &Visitor, title: &str, problem: &str, error: &str) {
    let page = visitor.open(&staff_pages(facility));
    assert!(page.says(title), "{page:?}");
    assert!(page.says("次にすること") && page.says("/.well-known/renraku-gateway/notes"));
    assert!(page.field("content-type").starts_with("text/html"));
    let program = visitor.ask(&staff_pages(facility));
    assert_eq!(program.field("content-type"), "application/problem+json");
    let document: serde_json::Value = serde_json::from_str(&program.body).unwrap();
    assert_eq!(document["type"], format!("urn:renraku:problem:{problem}"));
    assert_eq!(document["status"], program.status);
    for answer in [&page, &program] {
        let status = answer.field("proxy-status");
        assert!(status.starts_with("renraku-gateway;error="), "{status}");
        assert!(
            error.split('|').any(|error| status.contains(error)),
            "{status}"
        );
        assert_eq!(answer.field("cache-control"), "no-store");
        is_logged_once(facility, answer);
    }
}

fn is_logged_once(facility: &Facility, answer: &Answer) {
    let code = answer.support_code().unwrap();
    let log = facility.gateway.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&code)).collect();
    assert_eq!(lines.len(), 1, "{code}: {lines:?}");
    assert!(lines[0].contains("renraku::upstream"), "{}", lines[0]);
}

#[test]
fn while_the_city_is_down_stored_notes_are_read_and_afterwards_all_goes_on_by_itself() {
    let (facility, visitor) = facility();
    wait::until("stored notes", SOON, || {
        visitor
            .stored(&facility.gateway)
            .says("参照情報")
            .then_some(())
    })
    .unwrap();
    facility.city.fail("down").unwrap();
    says(
        &facility,
        &visitor,
        "連絡帳につながりません",
        "unreachable",
        "connection_refused|destination_unavailable",
    );
    let status = visitor.ask(&staff_pages(&facility)).status;
    assert!([502, 503].contains(&status), "{status}");
    let portal = visitor.open(&facility.gateway.portal_url());
    assert!(
        portal.says("連絡帳につながりません"),
        "the portal is the city's as well"
    );

    assert!(visitor.stored(&facility.gateway).says("架空 花子"));
    let notes = format!("{}notes/p-1001", facility.gateway.console_url());
    let stored = visitor.open(&notes);
    assert!(
        stored.says("参照情報") && !stored.says("<textarea"),
        "{}",
        stored.body
    );
    let console = wait::until("the console to say it", SOON, || {
        let page = visitor.open(&facility.gateway.console_url());
        page.says("市の連絡帳につながりません").then_some(page)
    })
    .unwrap();
    assert!(console.says("保存した連絡を読む"), "{}", console.body);

    let meanwhile = "停電の間に電話で聞いた内容です。";
    facility
        .city
        .control(
            "note",
            &json!({ "person": "p-1001", "author": "sakura-02", "text": meanwhile }),
        )
        .unwrap();
    facility.city.recover().unwrap();
    comes_back(&facility, &visitor);
    wait::until("the note in the store", Duration::from_secs(60), || {
        visitor.open(&notes).says(meanwhile).then_some(())
    })
    .unwrap();
    // The sentence on top may still ask for the registers, which nobody has filled in here.
    let home = visitor.open(&facility.gateway.console_url());
    assert!(
        home.says("つながっています") && !home.says("つながりません"),
        "{home:?}"
    );
    // One line when the city went, however often it was tried.
    let log = facility.gateway.log();
    assert!(
        log.matches("not connected to the city").count() <= 2,
        "{log}"
    );
}

#[test]
fn a_city_that_hangs_is_given_up_after_the_configured_time() {
    let (facility, visitor) = facility();
    facility
        .city
        .control(
            "fail",
            &json!({ "mode": "slow", "delay_ms": 1000, "path": "/staff" }),
        )
        .unwrap();
    let asked = Instant::now();
    assert_eq!(
        visitor.open(&staff_pages(&facility)).status,
        200,
        "slow is not broken"
    );
    assert!(asked.elapsed() >= Duration::from_secs(1));

    facility
        .city
        .control("fail", &json!({ "mode": "hang", "path": "/staff" }))
        .unwrap();
    let asked = Instant::now();
    assert_eq!(visitor.ask(&staff_pages(&facility)).status, 504);
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    says(
        &facility,
        &visitor,
        "連絡帳の応答がありません",
        "timeout",
        "http_response_timeout",
    );
    facility.city.recover().unwrap();
    comes_back(&facility, &visitor);
}

#[test]
fn errors_of_the_city_pass_as_they_are() {
    let (facility, visitor) = facility();
    facility
        .city
        .control("fail", &json!({ "mode": "5xx", "path": "/staff" }))
        .unwrap();
    let page = visitor.open(&staff_pages(&facility));
    assert_eq!(page.status, 503);
    assert_ne!(page.field("retry-after"), "");
    assert!(
        !page.field("proxy-status").contains("error="),
        "{}",
        page.field("proxy-status")
    );
    assert!(
        !page.says("事業所のゲートウェイが表示しています"),
        "{}",
        page.body
    );
    assert!(!facility.gateway.log().contains("renraku::upstream"));
    facility.city.recover().unwrap();
    comes_back(&facility, &visitor);
}

#[test]
fn a_body_that_the_city_cuts_never_looks_complete() {
    let (facility, visitor) = facility();
    let picture = STANDARD.encode(vec![7_u8; 600_000]);
    let file =
        json!({ "name": "写真.bin", "media_type": "application/octet-stream", "base64": picture });
    let note = json!({ "person": "p-1001", "author": "sakura-02", "text": "添付です。", "attachments": [file] });
    let note = facility.city.control("note", &note).unwrap();
    let id = note["attachments"][0]["id"].as_str().unwrap();
    let urls = [
        staff_pages(&facility),
        format!("{}attachments/{id}", staff_pages(&facility)),
    ];
    for url in &urls {
        assert_eq!(visitor.open(url).ended, 0);
    }
    facility
        .city
        .control("fail", &json!({ "mode": "cut-mid-body", "path": "/staff" }))
        .unwrap();
    for version in ["--http1.1", "--http2"] {
        for url in &urls {
            let cut = visitor.send(&[version, "--header", "Accept: text/html", url]);
            // What breaks before its head went out may be the box's own, complete page; all else is a broken transfer.
            match cut.status {
                0 | 200 => assert_ne!(cut.ended, 0, "{version} {url}: curl took it for complete"),
                502 => assert!(cut.says("連絡帳との通信が途切れました") && cut.ended == 0),
                _ => panic!("{version} {url}: {cut:?}"),
            }
        }
    }
    facility.city.recover().unwrap();
    comes_back(&facility, &visitor);
}
