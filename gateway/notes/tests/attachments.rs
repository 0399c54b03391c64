//! Attachments in a real store: from wanted to readable, who may read them, and what is left of them afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_notes::{
    Attachment, AttachmentPolicy, Change, Error, Event, Judgement, Limits, Looked, NotKept,
    NotRecorded, Personal, Reading, Refusal, Role, RootsInMemory, Standing, Store, Witness,
};

thread_local! {
    /// One box for each test.
    static ROOTS: Arc<RootsInMemory> = Arc::default();
}

fn roots() -> Arc<RootsInMemory> {
    ROOTS.with(Arc::clone)
}

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
const CHUNK: usize = 64 * 1024;

/// Records everything, and says what it was when asked.
#[derive(Default)]
struct Book(std::sync::Mutex<Vec<Reading>>);

impl Witness for Book {
    fn recorded(
        &self,
        reading: Reading,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        self.0.lock().unwrap().push(reading);
        Box::pin(async { Ok(()) })
    }
}

fn open(directory: &Path) -> Store {
    Store::open(directory, roots(), Limits::default())
        .unwrap()
        .0
        .witnessed(Arc::new(Book::default()))
}

async fn apply(store: &Store, changes: Vec<Change>) {
    for change in changes {
        let after = store.position().await.unwrap();
        let next = after
            .as_deref()
            .map_or(1, |id| id.parse::<u32>().unwrap() + 1);
        let event = Event {
            id: next.to_string(),
            change,
        };
        store.apply(after, vec![event], NOW).await.unwrap();
    }
}

fn person(id: &str, readers: &[&str]) -> Change {
    Change::Person {
        id: id.into(),
        display_name: Personal::new("somebody"),
        readers: readers.iter().map(|reader| (*reader).to_owned()).collect(),
        support_ended: false,
    }
}

fn staff(id: &str) -> Change {
    Change::Staff {
        id: id.into(),
        display_name: Personal::new("staff"),
        role: Role::Staff,
        suspended: false,
    }
}

fn file(id: &str, size: usize) -> Attachment {
    Attachment {
        id: id.into(),
        name: Personal::new(format!("{id}.png")),
        media_type: "image/png".into(),
        size: size as u64,
        sha256: "ab".repeat(32),
    }
}

fn note(id: &str, person: &str, time: i64, attachments: Vec<Attachment>) -> Change {
    Change::Note {
        id: id.into(),
        person: person.into(),
        author: "s".into(),
        author_name: Personal::new("author"),
        role: "nurse".into(),
        time,
        text: Personal::new("text"),
        attachments,
        signature: None,
    }
}

/// A store with one person, whom `s` may read and `t` may not, and these files on one note each, the first the newest.
async fn with_files(directory: &Path, files: &[(&str, usize)]) -> Store {
    let store = open(directory);
    let mut changes = vec![staff("s"), staff("t"), person("p", &["s"])];
    for (age, (id, size)) in (0_i64..).zip(files) {
        changes.push(note(
            &format!("note of {id}"),
            "p",
            NOW - age * 60,
            vec![file(id, *size)],
        ));
    }
    apply(&store, changes).await;
    store
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from(n % 249).unwrap()).collect()
}

/// Fetches everything wanted and says of each what `judge` says.
async fn fetch(store: &Store, judge: Judgement) {
    loop {
        let wanted = store.wanted_attachments(NOW, 4).await.unwrap();
        if wanted.is_empty() {
            break;
        }
        for wanted in wanted {
            let (attempt, mut incoming) = store
                .begin_attachment(wanted.attempt, NOW)
                .await
                .unwrap()
                .unwrap();
            let bytes = content(usize::try_from(wanted.size).unwrap());
            let have = usize::try_from(incoming.have()).unwrap();
            incoming.write(&bytes[have..]).unwrap();
            assert!(incoming.finish().unwrap());
            assert!(store.attachment_fetched(attempt).await.unwrap());
        }
        for unjudged in store.unjudged_attachments(16).await.unwrap() {
            let mut read = Vec::new();
            unjudged
                .read(|bytes| read.extend_from_slice(bytes))
                .unwrap();
            assert!(read == content(usize::try_from(unjudged.size).unwrap()));
            assert_eq!(unjudged.extension, "png");
            assert!(
                store
                    .judge_attachment(unjudged.attempt, judge)
                    .await
                    .unwrap()
            );
        }
    }
}

async fn read(store: &Store, user: &str, id: &str) -> Option<Vec<u8>> {
    let attachment = store.attachment(user, id).await.unwrap()?;
    let mut bytes = Vec::new();
    while bytes.len() < usize::try_from(attachment.size).unwrap() {
        let piece = attachment.piece(bytes.len() as u64).await.unwrap()?;
        bytes.extend_from_slice(&piece);
    }
    Some(bytes)
}

async fn standing(store: &Store, id: &str) -> Standing {
    let ids = vec![id.to_owned()];
    let standings = store.attachment_standings("s", "p", ids, NOW).await;
    standings.unwrap().unwrap()[0]
}

fn files(directory: &Path) -> Vec<PathBuf> {
    ["a/attachments", "b/attachments"]
        .into_iter()
        .filter_map(|name| std::fs::read_dir(directory.join(name)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .collect()
}

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
