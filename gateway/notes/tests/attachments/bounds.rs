//! What is kept: less room, a narrower policy, a store switched off or filled anew.

use gateway_notes::{Attachment, AttachmentPolicy, Change, Judgement, Limits, NotKept, Standing};

use crate::stand::*;

#[tokio::test]
async fn the_oldest_files_go_before_any_note_does() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(
        directory.path(),
        &[("a", 40_000), ("b", 40_000), ("c", 40_000)],
    )
    .await;
    fetch(&store, Judgement::Readable).await;
    let limits = Limits {
        bytes: 100_000,
        ..Limits::default()
    };
    let bounds = AttachmentPolicy::default();
    assert!(!store.set_bounds(limits, bounds.clone(), NOW).await.unwrap());
    assert_eq!(files(directory.path()).len(), 2);
    assert_eq!(
        standing(&store, "c").await,
        Standing::NotKept(NotKept::NoRoom)
    );
    assert!(store.wanted_attachments(NOW, 4).await.unwrap().is_empty());
    assert!(read(&store, "s", "a").await.is_some());
    assert_eq!(store.status().await.unwrap().notes, 3);
    // A newer one takes the room of the oldest.
    apply(
        &store,
        vec![note("newest", "p", NOW + 9, vec![file("d", 30_000)])],
    )
    .await;
    fetch(&store, Judgement::Readable).await;
    assert!(read(&store, "s", "d").await.is_some());
    assert!(read(&store, "s", "b").await.is_none());
    let counts = store.attachment_counts(NOW).await.unwrap();
    assert_eq!((counts.total, counts.done, counts.not_kept), (2, 2, 2));
    assert_eq!(counts.bytes, 70_000);
    // More room again: what was let go of is fetched again.
    store
        .set_bounds(Limits::default(), bounds, NOW)
        .await
        .unwrap();
    fetch(&store, Judgement::Readable).await;
    assert!(read(&store, "s", "c").await.is_some());
}

#[tokio::test]
async fn a_narrower_policy_takes_away_at_once_what_it_does_not_have_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 40_000), ("b", 10_000)]).await;
    let older = note("old", "p", NOW - 9 * DAY, vec![file("c", 10)]);
    apply(&store, vec![older]).await;
    fetch(&store, Judgement::Readable).await;
    let keep = AttachmentPolicy::default();
    let narrower = [
        (
            AttachmentPolicy {
                largest: 20_000,
                ..keep.clone()
            },
            "a",
            NotKept::TooLarge,
        ),
        (
            AttachmentPolicy {
                days: 8,
                ..keep.clone()
            },
            "c",
            NotKept::TooOld,
        ),
        (
            AttachmentPolicy {
                media_types: vec!["application/pdf".into()],
                ..keep.clone()
            },
            "b",
            NotKept::MediaType,
        ),
        (
            AttachmentPolicy {
                kept: false,
                ..keep.clone()
            },
            "a",
            NotKept::Off,
        ),
    ];
    for (policy, gone, why) in narrower {
        store
            .set_bounds(Limits::default(), policy, NOW)
            .await
            .unwrap();
        assert!(read(&store, "s", gone).await.is_none());
        assert_eq!(standing(&store, gone).await, Standing::NotKept(why));
        let pictures = AttachmentPolicy {
            media_types: vec!["image/*".into()],
            ..keep.clone()
        };
        store
            .set_bounds(Limits::default(), pictures, NOW)
            .await
            .unwrap();
        fetch(&store, Judgement::Readable).await;
        assert!(read(&store, "s", gone).await.is_some());
    }
    assert_eq!(store.status().await.unwrap().notes, 3);
}

#[tokio::test]
async fn a_store_that_is_switched_off_is_erased_and_takes_nothing_in_until_it_is_switched_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 100)]).await;
    fetch(&store, Judgement::Readable).await;
    let off = Limits {
        days: 0,
        ..Limits::default()
    };
    assert!(
        store
            .set_bounds(off, AttachmentPolicy::default(), NOW)
            .await
            .unwrap()
    );
    assert!(files(directory.path()).is_empty());
    assert_eq!(store.position().await.unwrap(), None);
    let facility = Change::Facility {
        id: "f".into(),
        name: "facility".into(),
        suspended: true,
    };
    let changes = vec![
        staff("s"),
        person("p", &["s"]),
        note("n", "p", NOW, vec![]),
        facility,
    ];
    apply(&store, changes).await;
    let status = store.status().await.unwrap();
    assert_eq!(
        (status.persons, status.notes, status.suspended),
        (0, 0, true)
    );
    // Said again, also after a restart, it changes nothing.
    store.close().await;
    let store = open(directory.path());
    assert!(
        !store
            .set_bounds(off, AttachmentPolicy::default(), NOW)
            .await
            .unwrap()
    );
    assert!(store.position().await.unwrap().is_some());
    assert!(
        store
            .set_bounds(Limits::default(), AttachmentPolicy::default(), NOW)
            .await
            .unwrap()
    );
    assert_eq!(store.position().await.unwrap(), None);
}

#[tokio::test]
async fn a_store_that_is_filled_anew_takes_over_the_files_that_are_still_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 2 * CHUNK), ("b", 100), ("c", 7)]).await;
    fetch(&store, Judgement::Readable).await;
    store.begin_rebuild().await.unwrap();
    let other = Attachment {
        sha256: "cd".repeat(32),
        ..file("c", 7)
    };
    let again = vec![
        staff("s"),
        person("p", &["s"]),
        note("note of a", "p", NOW, vec![file("a", 2 * CHUNK)]),
        note("note of c", "p", NOW - 60, vec![other]),
        Change::CaughtUp,
    ];
    apply(&store, again).await;
    assert_eq!(read(&store, "s", "a").await, Some(content(2 * CHUNK)));
    assert!(read(&store, "s", "b").await.is_none());
    let wanted = store.wanted_attachments(NOW, 4).await.unwrap();
    assert_eq!(wanted.len(), 1, "{wanted:?}");
    assert_eq!(wanted[0].id, "c");
    assert_eq!(files(directory.path()).len(), 1);
    store.close().await;
    let store = open(directory.path());
    assert_eq!(read(&store, "s", "a").await, Some(content(2 * CHUNK)));
}
