//! The person who waits on a large file, and the memory all files may take together.

use std::time::Duration;

use gateway_proxy::InspectionLimits;
use http::Version;
use test_harness::clamd::eicar;

use crate::{
    client::Answer,
    origin::Speaks,
    site::{BOTH, Content, Site, problem},
    stand::{Setup, inspection},
};

const NAVIGATE: (&str, &str) = ("sec-fetch-mode", "navigate");
const COOKIE: (&str, &str) = ("cookie", "sid=mine");

async fn impatient(change: impl FnOnce(&mut InspectionLimits)) -> Site {
    let mut limits = InspectionLimits {
        person_waits: Duration::from_millis(100),
        ..InspectionLimits::default()
    };
    change(&mut limits);
    let mut setup = Setup::new();
    setup.inspection = Some(inspection(limits));
    Site::with(setup, Speaks::Http1).await
}

/// Takes a second to come.
fn slow(body: impl Into<bytes::Bytes>) -> Content {
    let content = Content::new(body)
        .with("content-type", "application/pdf")
        .with("content-disposition", "attachment; filename=a.pdf");
    let piece = content.body.len().div_ceil(10);
    Content {
        piece: Some(piece),
        pause: Duration::from_millis(100),
        ..content
    }
}

/// Where a page of progress leads.
fn leads_to(page: &Answer) -> String {
    assert_eq!(page.status, 200);
    assert!(page.text().contains("ウイルス検査中"), "{page:?}");
    let (seconds, path) = page.header("refresh").split_once("; url=").unwrap();
    assert_eq!(seconds, "2");
    path.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_how_far_it_is_and_then_gets_the_file() {
    let site = impatient(|_| {}).await;
    let body = vec![b'p'; 300_000];
    site.serve("/file", slow(body.clone()));
    for version in BOTH {
        let page = site.get(version, "/file", &[NAVIGATE, COOKIE]).await;
        assert!(!page.headers.contains_key("content-disposition"));
        let path = leads_to(&page);
        let page = site.get(version, &path, &[NAVIGATE, COOKIE]).await;
        assert_eq!(leads_to(&page), path);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        for _ in 0..2 {
            let file = site.get(version, &path, &[NAVIGATE, COOKIE]).await;
            assert_eq!(
                file.header("content-disposition"),
                "attachment; filename=a.pdf"
            );
            assert!(file.body == body);
        }
        let other = site
            .get(version, &path, &[NAVIGATE, ("cookie", "sid=other")])
            .await;
        assert_eq!(other.status, 404);
        let guessed = "/.well-known/renraku-gateway/downloads/AAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(
            site.get(version, guessed, &[NAVIGATE, COOKIE]).await.status,
            404
        );
    }
    assert_eq!(site.requests(), 2, "each file was fetched once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_waited_is_told_what_was_found() {
    let site = impatient(|_| {}).await;
    site.serve("/virus", slow(eicar()));
    let path = leads_to(&site.get(Version::HTTP_2, "/virus", &[NAVIGATE]).await);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let answer = site.get(Version::HTTP_2, &path, &[NAVIGATE]).await;
    assert_eq!(
        (answer.status.as_u16(), problem(&answer)),
        (403, "infected".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_pages_and_those_without_a_place_wait_without_a_page() {
    let site = impatient(|limits| limits.waited_for = 1).await;
    site.serve("/file", slow("file"));
    let page = Content::new("<p>page</p>").with("content-type", "text/html");
    site.serve(
        "/page",
        Content {
            piece: Some(4),
            pause: Duration::from_millis(80),
            ..page
        },
    );
    assert_eq!(site.get(BOTH[0], "/file", &[]).await.text(), "file");
    assert_eq!(
        site.get(BOTH[0], "/page", &[NAVIGATE]).await.text(),
        "<p>page</p>"
    );
    leads_to(&site.get(BOTH[0], "/file", &[NAVIGATE]).await);
    assert_eq!(site.get(BOTH[0], "/file", &[NAVIGATE]).await.text(), "file");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_memory_for_bodies_is_taken_others_are_told_to_come_again() {
    let site = impatient(|limits| {
        limits.held_bytes = 1 << 20;
        limits.room_wait = Duration::from_millis(100);
    })
    .await;
    site.serve("/file", Content::new(vec![b'x'; 2 << 20]));
    let answer = site.get(BOTH[1], "/file", &[]).await;
    assert_eq!(
        (answer.status.as_u16(), problem(&answer)),
        (503, "busy".to_owned())
    );
    // What was held is given back.
    for _ in 0..20 {
        let answer = site.post(BOTH[1], &[], vec![b'y'; 900_000]).await;
        assert_eq!(answer.text(), "taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_packed_counts_as_much_as_comes_out_of_it() {
    let site = impatient(|limits| {
        limits.held_bytes = 60 << 20;
        limits.room_wait = Duration::from_millis(100);
    })
    .await;
    let gzipped = [("content-encoding", "gzip")];
    // Forty kilobytes that become forty megabytes, for which there is no room twice.
    let large = crate::files::gzip(&vec![0; 40 << 20]);
    let answer = site.post(BOTH[1], &gzipped, large).await;
    assert_eq!(
        (answer.status.as_u16(), problem(&answer)),
        (503, "busy".to_owned())
    );
    let page = crate::files::gzip("記録です。".repeat(5000).as_bytes());
    assert_eq!(site.post(BOTH[1], &gzipped, page).await.text(), "taken");
}
