//! Who looked at whose stored notes: recorded before it is shown, with its length, across crashes; seen by the manager, counted by
//! `gatewayctl`, handed to the city when it asks. What cannot be recorded is not shown, and what was changed is found.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gateway_e2e::browsing::{Result, Window};
use gateway_e2e::signing_in::at_the_notebook;
use gateway_e2e::small_disk::SmallDisk;
use gateway_e2e::visiting::{Answer, Visitor, password};
use serde_json::{Value, json};
use test_harness::browser::Browser;
use test_harness::facility::{Facility, Options};
use test_harness::{binaries, wait};

const PATIENCE: Duration = Duration::from_secs(120);
const STAFF: &str = "sakura-02";
const MANAGER: &str = "sakura-kanri";
const PERSON: &str = "p-1002";

fn console(facility: &Facility, path: &str) -> String {
    format!("{}{path}", facility.gateway.console_url())
}

/// Opens a page of the box until it is as it should be.
fn until(facility: &Facility, who: &Visitor, path: &str, good: impl Fn(&Answer) -> bool) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let page = who.open(&console(facility, path));
        if good(&page) {
            return page;
        }
        assert!(Instant::now() < end, "waited in vain at {path}: {page:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Somebody who has come over to the box's own pages.
fn reader(facility: &Facility, user: &str, browser: &str) -> Visitor {
    let visitor = Visitor::new(facility, browser);
    let page = visitor.sign_in(facility, user);
    assert_eq!(page.status, 200, "{}", page.body);
    let end = Instant::now() + PATIENCE;
    while !visitor
        .stored(&facility.gateway)
        .says(&format!("/notes/{PERSON}"))
    {
        assert!(
            Instant::now() < end,
            "the stored notes of {user} do not come"
        );
        std::thread::sleep(Duration::from_millis(300));
    }
    visitor
}

fn accesses(facility: &Facility) -> Value {
    let output = Command::new(binaries::ours("gatewayctl").unwrap())
        .args(["accesses", "--json", "--socket"])
        .arg(facility.gateway.state_directory().join("control.sock"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("sakura") && !text.contains("p-1"), "{text}");
    serde_json::from_str(&text).unwrap()
}

fn counted(facility: &Facility) -> u64 {
    let accesses = accesses(facility);
    let days = accesses["days"].as_object().unwrap();
    days.values().map(|count| count.as_u64().unwrap()).sum()
}

/// Everything in the log's directory, as text.
fn files(directory: &Path) -> String {
    fs::read_dir(directory)
        .unwrap()
        .map(|file| {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        })
        .collect()
}

/// What came of a request of the city.
fn handed(facility: &Facility, request: &Value) -> Vec<Value> {
    let kept = wait::until("the city to get the accesses", PATIENCE, || {
        let kept = facility.city.control("access-log-kept", request).ok()?;
        (kept["complete"] == true).then_some(kept)
    })
    .unwrap();
    let records = kept["records"].as_array().unwrap();
    records
        .iter()
        .map(|record| serde_json::from_str(record.as_str().unwrap()).unwrap())
        .collect()
}

#[test]
fn the_city_gets_the_accesses_that_it_asks_for_and_no_others() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let staff = reader(&facility, STAFF, "staff");
    let before = counted(&facility);
    let from = wait_for_another_second();
    assert_eq!(
        staff
            .open(&console(&facility, &format!("notes/{PERSON}")))
            .status,
        200
    );
    assert_eq!(staff.open(&console(&facility, "notes/p-1003")).status, 404);
    let origin = format!(
        "Origin: {}",
        facility.gateway.console_url().trim_end_matches('/')
    );
    let found = staff.send(&[
        "--location",
        "--header",
        &origin,
        "--data-urlencode",
        "q=血圧",
        &console(&facility, "search"),
    ]);
    assert_eq!(found.status, 200, "{}", found.body);
    assert!(counted(&facility) >= before + 3);

    // A crash of the daemon loses none of them.
    let recorded = counted(&facility);
    facility.gateway.restart().unwrap();
    wait::until("the log of accesses", PATIENCE, || {
        (accesses(&facility)["open"] == true).then_some(())
    })
    .unwrap();
    assert_eq!(counted(&facility), recorded);

    // No id, no name and no word is readable on the disk.
    let text = files(&facility.gateway.state_directory().join("accesses"));
    for word in [STAFF, PERSON, "p-1003", "血圧", "見本", "search"] {
        assert!(!text.contains(word), "{word}");
    }

    let to = wait_for_another_second();
    let staff = reader(&facility, STAFF, "staff-later");
    assert_eq!(
        staff
            .open(&console(&facility, &format!("notes/{PERSON}")))
            .status,
        200
    );
    let request = facility
        .city
        .control(
            "access-log",
            &json!({"facility": "tkh-1001", "from": from, "to": to}),
        )
        .unwrap();
    let records = handed(&facility, &request);
    let of = |what: &str| {
        records
            .iter()
            .filter(|record| record["what"] == what && record["user"] == STAFF)
            .collect::<Vec<_>>()
    };
    let notes = of("notes");
    assert_eq!(notes.len(), 2, "{records:#?}");
    assert!(
        notes
            .iter()
            .any(|one| one["person"] == PERSON && one["shown"] == true)
    );
    assert!(
        notes
            .iter()
            .any(|one| one.get("person").is_none() && one["shown"] == false)
    );
    assert!(
        of("search").iter().any(|one| one["shown"] == true),
        "{records:#?}"
    );
    assert!(records.iter().all(|record| record.get("device").is_none()));
    let endings = records
        .iter()
        .filter(|record| record["end"] == "next")
        .count();
    assert!(endings >= 1, "{records:#?}");
    let all = records.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("血圧") && !all.contains("見本"), "{all}");
}

/// Records have whole seconds: what comes later is to be in another one.
fn wait_for_another_second() -> u64 {
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let begun = now();
    wait::until("the next second", PATIENCE, || (now() > begun).then(now)).unwrap()
}

#[test]
fn a_log_of_accesses_that_was_cut_is_found_and_one_that_does_not_open_shows_nothing() {
    let mut facility = Facility::start(Options::default()).unwrap();
    let staff = reader(&facility, STAFF, "staff");
    for _ in 0..3 {
        assert_eq!(
            staff
                .open(&console(&facility, &format!("notes/{PERSON}")))
                .status,
            200
        );
    }
    // Stopped in order, so that the audit log has taken down how far it had come.
    facility.gateway.process().stop().unwrap();
    let log = facility.gateway.state_directory().join("accesses");
    let first = log.join("00000000000000000001.jsonl");
    let text = fs::read_to_string(&first).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&first, lines[..lines.len() - 2].join("\n") + "\n").unwrap();
    facility.gateway.start_again().unwrap();
    wait::until("the city to hear of it", PATIENCE, || {
        let reports = facility.city.statistics().ok()?["reports"].clone();
        let mut all = reports.as_array()?.iter();
        all.any(|report| report["kind"] == "incident" && report["last"]["kind"] == "tampering")
            .then_some(())
    })
    .unwrap();
    let aside = fs::read_dir(facility.gateway.state_directory())
        .unwrap()
        .filter(|file| {
            let name = file.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("accesses-set-aside-")
        })
        .count();
    assert_eq!(aside, 1);
    let staff = reader(&facility, STAFF, "staff-again");
    assert_eq!(
        staff
            .open(&console(&facility, &format!("notes/{PERSON}")))
            .status,
        200
    );

    // Where there is no room for the log, nothing personal is shown, and the notebook goes on.
    facility.gateway.process().stop().unwrap();
    let away = log.with_file_name("away");
    fs::rename(&log, &away).unwrap();
    fs::write(&log, "").unwrap();
    facility.gateway.start_again().unwrap();
    let staff = Visitor::new(&facility, "staff-without");
    let signed_in = staff.sign_in(&facility, STAFF);
    assert_eq!(signed_in.status, 200, "{}", signed_in.body);
    let refused = until_status(&facility, &staff, 503);
    assert!(refused.says("閲覧の記録を残せないため"), "{}", refused.body);
    assert!(!refused.says("見本"), "{}", refused.body);
    fs::remove_file(&log).unwrap();
    fs::rename(&away, &log).unwrap();
    until(&facility, &staff, "notes", |page| page.says(PERSON));
}

#[test]
fn on_a_full_disk_what_cannot_be_recorded_is_not_shown_and_the_notebook_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&directory.path().join("gateway/state"), "24m");
    let facility = Facility::start_in(directory.path(), Options::default()).unwrap();
    let staff = reader(&facility, STAFF, "staff");
    let page = format!("notes/{PERSON}");
    let shown = staff.open(&console(&facility, &page));
    assert!(shown.status == 200 && shown.says("見本 太郎"), "{shown:?}");

    let ballast = disk.fill();
    // The page of the disk that the log has begun still takes a few.
    let refused = until(&facility, &staff, &page, |page| page.status != 200);
    assert_eq!(refused.status, 503, "{refused:?}");
    for path in [page.as_str(), "notes"] {
        let refused = staff.open(&console(&facility, path));
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(!refused.says("見本"), "{refused:?}");
    }
    let portal = staff.open(&format!("{}staff/", facility.gateway.portal_url()));
    assert!(
        portal.status == 200 && portal.says("支援対象者"),
        "{portal:?}"
    );

    fs::remove_file(ballast).unwrap();
    let again = until(&facility, &staff, &page, |page| page.status == 200);
    assert!(again.says("参照情報"), "{again:?}");
    assert!(counted(&facility) > 0);
}

fn until_status(facility: &Facility, who: &Visitor, status: u16) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let page = who.stored(&facility.gateway);
        if page.status == status {
            return page;
        }
        assert!(
            Instant::now() < end,
            "waited in vain for {status}: {page:?}"
        );
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[tokio::test]
async fn a_page_that_is_left_says_so_and_the_manager_sees_who_looked_for_how_long() -> Result<()> {
    let facility = Facility::start(Options::default()).unwrap();
    // The store is filled before the browser comes.
    let manager = reader(&facility, MANAGER, "manager");
    let browser = Browser::start(&facility.city.ca_file()).unwrap();
    let window = Window::open(&browser).await?;
    let portal = facility.gateway.portal_url();
    window.visit(&format!("{portal}staff/login")).await?;
    window.type_into("#user_id", STAFF).await?;
    window
        .type_into("#password", &password(&facility, STAFF))
        .await?;
    window.click("#sign-in").await?;
    window.element("#persons .person").await?;
    window
        .visit(&format!("{portal}.well-known/renraku-gateway/notes"))
        .await?;
    window
        .visit(&console(&facility, &format!("notes/{PERSON}")))
        .await?;
    window.reads("見本 太郎").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Away from the box altogether: nothing else tells it.
    window.visit("about:blank").await?;
    let page = until(
        &facility,
        &manager,
        &format!("accesses?user={STAFF}&person={PERSON}"),
        |page| page.says(PERSON) && !page.says("不明"),
    );
    assert!(page.says("秒") && !page.says("以内"), "{}", page.body);
    assert!(
        page.says("例示 健") && page.says("見本 太郎"),
        "{}",
        page.body
    );
    // Looking at the record is on record.
    let own = manager.open(&console(&facility, &format!("accesses?user={MANAGER}")));
    assert!(own.says("閲覧の記録</td>"), "{}", own.body);
    // Nobody else may.
    let staff = reader(&facility, "sakura-01", "colleague");
    assert_eq!(staff.open(&console(&facility, "accesses")).status, 403);

    photograph_as_manager(&facility, &browser).await?;
    window.close().await;
    Ok(())
}

/// For people to look at.
async fn photograph_as_manager(facility: &Facility, browser: &Browser) -> Result<()> {
    let window = Window::open(browser).await?;
    let portal = facility.gateway.portal_url();
    at_the_notebook(facility, &window, MANAGER).await?;
    window.element("#persons .person").await?;
    window
        .visit(&format!("{portal}.well-known/renraku-gateway/notes"))
        .await?;
    window.visit(&console(facility, "accesses")).await?;
    window.reads("閲覧の記録").await?;
    window.photograph("access-log-manager").await?;
    window.close().await;
    Ok(())
}
