//! The TPM dies, comes back, is cleared: what staff and managers then see, and what is lost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::time::{Duration, Instant};

use gateway_e2e::visiting::Visitor;
use test_harness::facility::{Facility, Options};
use test_harness::{setup, wait};

const STAFF: &str = "sakura-01";
const SOON: Duration = Duration::from_secs(30);

fn signed_in(facility: &Facility) -> Visitor {
    let visitor = Visitor::new(facility, STAFF);
    let page = visitor.sign_in(facility, STAFF);
    assert!(page.says("支援対象者"), "{page:?}");
    visitor
}

fn staff_pages(facility: &Facility) -> String {
    format!("{}staff/", facility.gateway.portal_url())
}

fn count(facility: &Facility, words: &str) -> usize {
    facility
        .gateway
        .log()
        .lines()
        .filter(|line| line.contains(words))
        .count()
}

#[test]
fn a_tpm_that_dies_and_comes_back_costs_no_request_on_open_connections() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility);
    let url = staff_pages(&facility);
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut all = Vec::new();
            while Instant::now() < end {
                all.push(visitor.open(&url).status);
            }
            all
        });
        std::thread::sleep(Duration::from_millis(300));
        facility.tpm.kill();
        std::thread::sleep(Duration::from_millis(1200));
        facility.tpm.restart().unwrap();
        let statuses = requests.join().unwrap();
        assert!(statuses.len() > 20, "{}", statuses.len());
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    });
    // A city started anew knows no sessions: the next connection needs a signature of the restarted TPM.
    facility.city.restart().unwrap();
    let page = visitor.open(&url);
    assert_eq!(page.status, 200, "{}", page.body);
}

#[test]
fn without_a_tpm_staff_are_told_while_the_portal_and_the_stored_notes_stay_open() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility);
    wait::until("stored notes", SOON, || {
        visitor
            .stored(&facility.gateway)
            .says("参照情報")
            .then_some(())
    })
    .unwrap();
    facility.tpm.kill();
    facility.city.restart().unwrap();

    let asked = Instant::now();
    let problem = visitor.ask(&staff_pages(&facility));
    assert!(asked.elapsed() < Duration::from_secs(12));
    assert_eq!(problem.status, 503, "{problem:?}");
    assert_eq!(problem.field("content-type"), "application/problem+json");
    assert!(problem.says("urn:renraku:problem:key-unavailable"));
    assert!(problem.field("proxy-status").contains("key-unavailable"));
    let code = problem.support_code().unwrap();
    assert_eq!(count(&facility, &code), 1, "{}", facility.gateway.log());

    // The public portal needs no key (第17条), and the box soon stops trying with one.
    let portal = wait::until("the public portal", SOON, || {
        let page = visitor.open(&facility.gateway.portal_url());
        (page.status == 200).then_some(page)
    })
    .unwrap();
    assert!(portal.says("ポータルサイト"));
    let asked = Instant::now();
    let page = visitor.open(&staff_pages(&facility));
    assert!(asked.elapsed() < Duration::from_secs(1), "refused at once");
    assert_eq!(page.status, 403);
    assert!(page.says("連絡帳への接続を止めています"), "{}", page.body);
    assert!(page.says("/.well-known/renraku-gateway/notes"));
    assert!(page.field("proxy-status").contains("CERT"));
    let stored = visitor.stored(&facility.gateway);
    assert!(
        stored.says("参照情報") && stored.says("架空 花子"),
        "{}",
        stored.body
    );
    let console = visitor.open(&format!("{}certificates", facility.gateway.console_url()));
    assert!(
        console.says("安全チップ（TPM）が応答しません"),
        "{}",
        console.body
    );
    assert_eq!(count(&facility, "only the public portal is relayed"), 1);
    assert!(
        count(&facility, "tpm-unavailable") <= 4,
        "{}",
        facility.gateway.log()
    );

    facility.tpm.restart().unwrap();
    wait::until("staff pages, by themselves", SOON, || {
        (visitor.open(&staff_pages(&facility)).status == 200).then_some(())
    })
    .unwrap();
}

#[test]
fn a_tpm_cleared_while_the_box_runs_is_said_once_and_a_new_number_repairs_it() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let visitor = signed_in(&facility);
    facility.tpm.restart().unwrap();
    facility.tpm.clear().unwrap();
    facility.city.restart().unwrap();
    let page = visitor.open(&staff_pages(&facility));
    assert!([403, 503].contains(&page.status), "{page:?}");
    assert!(page.support_code().is_some());

    says_that_the_key_is_lost(&facility, &visitor);
    // Neither staff who keep trying nor the feed make it a loop.
    let before = facility.gateway.log().lines().count();
    for _ in 0..20 {
        assert_eq!(visitor.open(&staff_pages(&facility)).status, 403);
    }
    std::thread::sleep(Duration::from_secs(3));
    let after = facility.gateway.log().lines().count();
    assert!(after - before <= 24, "{}", facility.gateway.log());
    assert_eq!(
        count(&facility, "tpm-key-lost"),
        1,
        "{}",
        facility.gateway.log()
    );
    assert_eq!(visitor.open(&facility.gateway.portal_url()).status, 200);

    a_new_number_repairs_it(&mut facility);
}

#[test]
fn a_tpm_cleared_while_the_box_is_off_is_said_and_a_new_number_repairs_it() {
    let mut facility = Facility::start(Options::default()).unwrap();
    facility.gateway.process().stop();
    facility.tpm.restart().unwrap();
    facility.tpm.clear().unwrap();
    facility.gateway.start_again().unwrap();
    // The LAN key was sealed to the TPM as well, so browsers warn until the box is set up anew.
    let manager = Visitor::new(&facility, "manager").accepting_any_certificate();
    says_that_the_key_is_lost(&facility, &manager);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        count(&facility, "the TPM is not open"),
        1,
        "{}",
        facility.gateway.log()
    );
    a_new_number_repairs_it(&mut facility);
}

fn says_that_the_key_is_lost(facility: &Facility, visitor: &Visitor) {
    let console = wait::until("the console to say it", SOON, || {
        let page = visitor.open(&facility.gateway.console_url());
        page.says("鍵が失われました").then_some(page)
    })
    .unwrap();
    assert!(
        console.says("電子証明書の鍵が装置から失われた"),
        "{}",
        console.body
    );
    assert!(
        console.says("新しい電子証明書取得用番号"),
        "{}",
        console.body
    );
    assert!(console.says("/setup"));
}

fn a_new_number_repairs_it(facility: &mut Facility) {
    let (number, code) = (
        facility.city.text("spare_number").to_owned(),
        facility.city.text("spare_code").to_owned(),
    );
    setup::provision(&facility.gateway, &number, &code).unwrap();
    let visitor = signed_in(facility);
    wait::until("stored notes again", SOON, || {
        visitor
            .stored(&facility.gateway)
            .says("架空 花子")
            .then_some(())
    })
    .unwrap();
    // The store lives under a key of this TPM now: it goes on after a restart.
    facility.gateway.restart().unwrap();
    let log = facility.gateway.log();
    assert!(
        log.lines()
            .rev()
            .find(|line| line.contains("the store of notes"))
            .unwrap()
            .contains("goes on where it stopped"),
        "{log}"
    );
    assert!(
        signed_in(facility)
            .open(&facility.gateway.console_url())
            .status
            == 200
    );
}

#[test]
fn a_number_typed_while_the_tpm_is_away_is_not_spent_and_the_page_names_the_tpm() {
    let mut facility = Facility::start(Options {
        provision: false,
        ..Options::default()
    })
    .unwrap();
    let manager = Visitor::new(&facility, "manager").accepting_any_certificate();
    let (number, code) = (
        facility.city.text("certificate_number").to_owned(),
        facility.city.text("access_code").to_owned(),
    );
    facility.tpm.kill();
    let console = facility.gateway.console_url();
    let typed = manager.send(&[
        "--header",
        &format!("Origin: {}", console.trim_end_matches('/')),
        "--data",
        &format!("number={number}&access_code={code}"),
        &format!("{console}setup"),
    ]);
    assert_eq!(typed.status, 303, "{typed:?}");
    let page = wait::until("the end of the ceremony", SOON, || {
        let page = manager.open(&format!("{console}setup"));
        page.says("name=\"access_code\"").then_some(page)
    })
    .unwrap();
    assert!(page.says("TPM") && page.says("P-TPM"), "{}", page.body);
    facility.tpm.restart().unwrap();
    setup::provision(&facility.gateway, &number, &code)
        .unwrap_or_else(|error| panic!("{error}\n{}", facility.gateway.log()));
    let _signed_in = signed_in(&facility);
}
