//! The scanner is killed, hangs, comes back: what passes meanwhile, and how long it takes.

use std::time::{Duration, Instant};

use gateway_antivirus::Scanner;
use gateway_policy::{Check, Grade, Observation, Snapshot, Subject};
use gateway_proxy::{Inspection, InspectionLimits};
use test_harness::clamd::{Clamd, Database, eicar};

use crate::{
    files::{pdf, png},
    origin::Speaks,
    site::{BOTH, Content, Site, problem},
    stand::{Setup, good_ledger, measured, now, snapshot},
};

const SOON: Duration = Duration::from_secs(1);

struct Own {
    site: Site,
    clamd: Clamd,
    scanner: Scanner,
    _directory: tempfile::TempDir,
}

/// A box with a scanner of its own, which it waits for a second.
async fn own() -> Own {
    let directory = tempfile::tempdir().unwrap();
    let clamd = Clamd::start(directory.path()).unwrap();
    let scanner = Scanner::new(gateway_antivirus::Config {
        scan: SOON,
        command: SOON,
        ..gateway_antivirus::Config::new(clamd.socket())
    });
    let limits = InspectionLimits {
        scanner_wait: SOON,
        ..InspectionLimits::default()
    };
    let mut setup = Setup::new();
    setup.inspection = Some(Inspection::new(scanner.clone(), limits).unwrap());
    Own {
        site: Site::with(setup, Speaks::Http1).await,
        clamd,
        scanner,
        _directory: directory,
    }
}

/// The scanner does not catch its canary any more, and the gate knows.
fn scanner_failed() -> Snapshot {
    let mut ledger = good_ledger();
    let failed = measured(
        Check::AvAlive,
        Observation::Fail {
            grade: Grade::Major,
            since: Some(now()),
        },
    );
    ledger.observe(Subject::Box, failed, now());
    snapshot(&ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_of_the_scanner_nothing_passes_and_the_person_is_told_so_in_time() {
    let mut own = own().await;
    own.site.serve("/picture", Content::new(png(8)));
    own.clamd.kill();
    for version in BOTH {
        let began = Instant::now();
        let answer = own.site.post(version, &[], pdf(1)).await;
        assert_eq!(
            (answer.status.as_u16(), problem(&answer)),
            (503, "scanner-unavailable".to_owned())
        );
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(own.site.get(version, "/picture", &[]).await.status, 503);
        assert!(began.elapsed() < Duration::from_secs(8));
    }
    assert_eq!(own.site.received(), 0);
    own.clamd.restart().unwrap();
    assert_eq!(own.site.post(BOTH[0], &[], pdf(1)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_that_hangs_is_given_up_and_one_that_comes_back_in_time_is_waited_for() {
    let mut own = own().await;
    own.clamd.suspend().unwrap();
    let answer = own.site.post(BOTH[0], &[], pdf(2)).await;
    assert_eq!(answer.status, 503);
    own.clamd.resume().unwrap();
    own.clamd.kill();
    let (answer, ()) = tokio::join!(own.site.post(BOTH[1], &[], pdf(3)), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        own.clamd.restart().unwrap();
    });
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_short_window_texts_pass_and_files_do_not() {
    let mut own = own().await;
    own.clamd.kill();
    own.site.stand.snapshot.store(scanner_failed().into());
    own.site.serve(
        "/staff",
        Content::new("<p>記録</p>").with("content-type", "text/html"),
    );
    own.site
        .serve("/long", Content::new("長い".repeat(1 << 19)));
    own.site.serve(
        "/binary",
        Content::new(pdf(1)).with("content-type", "text/plain"),
    );
    let file = Content::new("a,b").with("content-disposition", "attachment; filename=a.csv");
    own.site.serve("/file", file);
    let json = [("content-type", "application/json")];
    for version in BOTH {
        let text = own.site.post(version, &json, r#"{"text":"連絡"}"#).await;
        assert_eq!(text.text(), "taken");
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let words = "text=".to_owned() + &"%E8%A8%98".repeat(30);
        assert_eq!(own.site.post(version, &form, words).await.status, 200);
        let picture = "p=data:image/png;base64,".to_owned() + &"iVBORw0K".repeat(20);
        assert_eq!(own.site.post(version, &form, picture).await.status, 503);
        let long = format!(r#"{{"text":"{}"}}"#, "長".repeat(30_000));
        assert_eq!(own.site.post(version, &json, long).await.status, 503);
        let hidden = format!(r#"{{"file":"{}"}}"#, "QUJD".repeat(40));
        assert_eq!(own.site.post(version, &json, hidden).await.status, 503);
        assert_eq!(own.site.get(version, "/staff", &[]).await.status, 200);
        assert_eq!(own.site.get(version, "/long", &[]).await.status, 503);
        assert_eq!(own.site.get(version, "/binary", &[]).await.status, 503);
        let refused = own.site.get(version, "/file", &[]).await;
        assert_eq!(
            (refused.status.as_u16(), problem(&refused)),
            (403, "restricted".to_owned())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_portal_stays_readable_without_the_scanner() {
    let mut own = own().await;
    own.clamd.kill();
    own.site.serve(
        "/public/a",
        Content::new("<p>お知らせ</p>").with("content-type", "text/html"),
    );
    assert_eq!(own.site.get(BOTH[1], "/public/a", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_clean_is_known_until_the_database_changes() {
    let mut own = own().await;
    own.clamd.restart_with(Database::WithoutEicar).unwrap();
    own.scanner.database_changed();
    for version in BOTH {
        assert_eq!(own.site.post(version, &[], eicar()).await.status, 200);
    }
    own.clamd.kill();
    assert_eq!(
        own.site.post(BOTH[0], &[], eicar()).await.status,
        200,
        "known"
    );
    own.clamd.restart_with(Database::Eicar).unwrap();
    own.scanner.database_changed();
    for version in BOTH {
        let answer = own.site.post(version, &[], eicar()).await;
        assert_eq!(problem(&answer), "infected");
    }
}
