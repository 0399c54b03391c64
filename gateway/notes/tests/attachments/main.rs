//! Attachments in a real store: from wanted to readable, who may read them, and what is left of them afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

mod again;
mod bounds;
mod stand;

use std::sync::Arc;

use gateway_notes::{Attachment, Change, Error, Judgement, Looked, Refusal, Standing, Witness};

use stand::*;

#[tokio::test]
async fn an_attachment_is_readable_once_it_is_whole_and_clean_and_only_to_the_persons_readers() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 3 * CHUNK + 5)]).await;
    assert_eq!(standing(&store, "a").await, Standing::Coming);
    assert!(read(&store, "s", "a").await.is_none());
    let wanted = store.wanted_attachments(NOW, 4).await.unwrap().remove(0);
    assert_eq!(
        (wanted.id.as_str(), wanted.size),
        ("a", (3 * CHUNK + 5) as u64)
    );
    fetch(&store, Judgement::Readable).await;
    assert_eq!(read(&store, "s", "a").await, Some(content(3 * CHUNK + 5)));
    for (user, id) in [("t", "a"), ("nobody", "a"), ("s", "none")] {
        assert!(read(&store, user, id).await.is_none(), "{user} {id}");
    }
    let ids = vec!["a".to_owned()];
    assert_eq!(
        store
            .attachment_standings("t", "p", ids, NOW)
            .await
            .unwrap(),
        None
    );
    let from_the_middle = store.attachment("s", "a").await.unwrap().unwrap();
    let at = CHUNK + 100;
    let piece = from_the_middle.piece(at as u64).await.unwrap().unwrap();
    assert!(*piece == content(3 * CHUNK)[at..2 * CHUNK]);
}

#[tokio::test]
async fn no_byte_of_an_attachment_is_readable_before_it_is_judged() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 2 * CHUNK)]).await;
    let wanted = store.wanted_attachments(NOW, 4).await.unwrap().remove(0);
    let (attempt, mut incoming) = store
        .begin_attachment(wanted.attempt, NOW)
        .await
        .unwrap()
        .unwrap();
    incoming.write(&content(CHUNK)).unwrap();
    assert!(read(&store, "s", "a").await.is_none());
    // Nobody can say that it is readable, or whole, while it is not.
    assert!(
        !store
            .judge_attachment(attempt, Judgement::Readable)
            .await
            .unwrap()
    );
    incoming.write(&content(2 * CHUNK)[CHUNK..]).unwrap();
    assert!(incoming.finish().unwrap());
    assert!(store.attachment_fetched(attempt).await.unwrap());
    assert!(read(&store, "s", "a").await.is_none());
    assert_eq!(standing(&store, "a").await, Standing::Coming);
}

#[tokio::test]
async fn what_was_fetched_before_a_crash_is_not_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 5 * CHUNK)]).await;
    let wanted = store.wanted_attachments(NOW, 4).await.unwrap().remove(0);
    let (_, mut incoming) = store
        .begin_attachment(wanted.attempt, NOW)
        .await
        .unwrap()
        .unwrap();
    incoming.write(&content(2 * CHUNK + 700)).unwrap();
    drop(incoming);
    store.close().await;

    let store = open(directory.path());
    let wanted = store.wanted_attachments(NOW, 4).await.unwrap().remove(0);
    let (_, incoming) = store
        .begin_attachment(wanted.attempt, NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(incoming.have(), 2 * CHUNK as u64);
    drop(incoming);
    fetch(&store, Judgement::Readable).await;
    assert_eq!(read(&store, "s", "a").await, Some(content(5 * CHUNK)));
}

#[tokio::test]
async fn a_refused_attachment_is_erased_and_stays_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 100)]).await;
    fetch(&store, Judgement::Refused(Refusal::Infected)).await;
    assert!(files(directory.path()).is_empty());
    let refused = Standing::Refused(Refusal::Infected);
    assert_eq!(standing(&store, "a").await, refused);
    // The same note again, with the same file.
    apply(
        &store,
        vec![note("note of a", "p", NOW, vec![file("a", 100)])],
    )
    .await;
    assert_eq!(standing(&store, "a").await, refused);
    store.close().await;
    let store = open(directory.path());
    assert_eq!(standing(&store, "a").await, refused);
    // Another file in its place is another matter.
    let other = Attachment {
        sha256: "cd".repeat(32),
        ..file("a", 100)
    };
    apply(&store, vec![note("note of a", "p", NOW, vec![other])]).await;
    assert_eq!(standing(&store, "a").await, Standing::Coming);
}

#[tokio::test]
async fn wrong_content_is_fetched_once_more_and_then_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 100)]).await;
    fetch(&store, Judgement::Wrong).await;
    assert_eq!(
        standing(&store, "a").await,
        Standing::Refused(Refusal::WrongContent)
    );
    assert!(files(directory.path()).is_empty());
    // The city sends the note again: perhaps it has put it right.
    apply(
        &store,
        vec![note("note of a", "p", NOW, vec![file("a", 100)])],
    )
    .await;
    fetch(&store, Judgement::Readable).await;
    assert!(read(&store, "s", "a").await.is_some());
}

#[tokio::test]
async fn a_changed_note_keeps_its_files_and_one_that_no_longer_names_them_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 100)]).await;
    fetch(&store, Judgement::Readable).await;
    let again = note(
        "note of a",
        "p",
        NOW + 5,
        vec![file("a", 100), file("b", 7)],
    );
    apply(&store, vec![again]).await;
    assert_eq!(read(&store, "s", "a").await, Some(content(100)));
    assert_eq!(standing(&store, "b").await, Standing::Coming);
    let without = note("note of a", "p", NOW + 6, vec![file("b", 7)]);
    apply(&store, vec![without]).await;
    assert!(read(&store, "s", "a").await.is_none());
    assert!(files(directory.path()).is_empty());
}

#[tokio::test]
async fn files_go_with_their_note_and_with_their_person_also_while_they_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 3 * CHUNK), ("b", 100)]).await;
    fetch(&store, Judgement::Readable).await;
    assert_eq!(files(directory.path()).len(), 2);
    let reading = store.attachment("s", "a").await.unwrap().unwrap();
    assert!(reading.piece(0).await.unwrap().is_some());
    apply(
        &store,
        vec![Change::NoteDeleted {
            id: "note of a".into(),
        }],
    )
    .await;
    assert!(reading.piece(CHUNK as u64).await.unwrap().is_none());
    assert_eq!(files(directory.path()).len(), 1);
    apply(&store, vec![Change::PersonEnded { id: "p".into() }]).await;
    assert!(files(directory.path()).is_empty());
    assert!(read(&store, "s", "b").await.is_none());
}

#[tokio::test]
async fn a_reader_withdrawn_in_the_middle_of_a_file_gets_no_further() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 3 * CHUNK)]).await;
    fetch(&store, Judgement::Readable).await;
    let reading = store.attachment("s", "a").await.unwrap().unwrap();
    assert!(reading.piece(0).await.unwrap().is_some());
    apply(&store, vec![person("p", &["t"])]).await;
    assert!(reading.piece(CHUNK as u64).await.unwrap().is_none());
    assert!(read(&store, "t", "a").await.is_some());
}

#[tokio::test]
async fn an_attempt_is_worth_nothing_once_its_note_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 100)]).await;
    let wanted = store.wanted_attachments(NOW, 4).await.unwrap().remove(0);
    let (attempt, mut incoming) = store
        .begin_attachment(wanted.attempt, NOW)
        .await
        .unwrap()
        .unwrap();
    apply(
        &store,
        vec![Change::NoteDeleted {
            id: "note of a".into(),
        }],
    )
    .await;
    incoming.write(&content(100)).unwrap();
    assert!(incoming.finish().unwrap());
    assert!(!store.attachment_fetched(attempt).await.unwrap());
    assert!(
        store
            .begin_attachment(attempt, NOW)
            .await
            .unwrap()
            .is_none()
    );
    assert!(files(directory.path()).is_empty());
}

#[tokio::test]
async fn a_damaged_file_is_fetched_again_and_nothing_else_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 2 * CHUNK)]).await;
    fetch(&store, Judgement::Readable).await;
    let path = files(directory.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[CHUNK + 50] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let reading = store.attachment("s", "a").await.unwrap().unwrap();
    assert!(reading.piece(0).await.unwrap().is_some());
    let lost = reading.piece(CHUNK as u64).await;
    assert!(matches!(lost, Err(Error::AttachmentLost)));
    assert_eq!(standing(&store, "a").await, Standing::Coming);
    fetch(&store, Judgement::Readable).await;
    assert!(read(&store, "s", "a").await.is_some());
    assert_eq!(store.status().await.unwrap().notes, 1);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_swept_when_the_store_opens() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 100)]).await;
    fetch(&store, Judgement::Readable).await;
    store.close().await;
    let orphan = directory
        .path()
        .join("a/attachments/00112233445566778899aabbccddeeff");
    std::fs::write(&orphan, b"made, and then the power went").unwrap();
    let store = open(directory.path());
    assert!(!orphan.exists());
    assert!(read(&store, "s", "a").await.is_some());
    store.erase().await.unwrap();
    assert!(files(directory.path()).is_empty());
}

#[tokio::test]
async fn a_state_changed_on_the_disk_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 100)]).await;
    let wanted = store.wanted_attachments(NOW, 4).await.unwrap().remove(0);
    let (attempt, mut incoming) = store
        .begin_attachment(wanted.attempt, NOW)
        .await
        .unwrap()
        .unwrap();
    incoming.write(&content(100)).unwrap();
    assert!(incoming.finish().unwrap());
    assert!(store.attachment_fetched(attempt).await.unwrap());
    store.close().await;
    let database = rusqlite::Connection::open(directory.path().join("a/notes.db")).unwrap();
    database
        .execute("UPDATE attachments SET state = 3", [])
        .unwrap();
    drop(database);
    let store = open(directory.path());
    let read = store.attachment("s", "a").await;
    assert!(matches!(read, Err(Error::StartedAfresh)), "{read:?}");
}

#[tokio::test]
async fn the_witness_hears_of_each_attachment_before_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_files(directory.path(), &[("a", 100)]).await;
    fetch(&store, Judgement::Readable).await;
    let book = Arc::new(Book::default());
    let store = store.witnessed(Arc::clone(&book) as Arc<dyn Witness>);
    assert!(store.attachment("s", "a").await.unwrap().is_some());
    assert!(store.attachment("t", "a").await.unwrap().is_none());
    let readings = book.0.lock().unwrap().clone();
    let told: Vec<_> = readings
        .iter()
        .map(|reading| (reading.what, reading.person.as_deref(), reading.granted))
        .collect();
    assert_eq!(
        told,
        [
            (Looked::Attachment, Some("p"), true),
            (Looked::Attachment, None, false)
        ]
    );
}
