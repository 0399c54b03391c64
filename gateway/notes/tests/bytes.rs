//! The bytes of the policy against the bytes on the disk: what is counted is what the store takes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod anybody;

use std::path::Path;
use std::sync::Arc;

use anybody::Anybody;
use gateway_notes::{Attachment, Change, Event, Limits, Personal, Role, RootsInMemory, Store};

const NOW: i64 = 1_800_000_000;
const PERSONS: usize = 20;

/// A day's notes of a facility: half a page each, on every fifth a picture.
fn note(number: usize, length: usize) -> Change {
    let sentence = "血圧は安定しており、食事は八割ほど召し上がりました。";
    let attachments = (number.is_multiple_of(5)).then(|| Attachment {
        id: format!("attachment-{number:06}"),
        name: Personal::new("処置後の写真.jpg"),
        media_type: "image/jpeg".to_owned(),
        size: 1,
        sha256: "ab".repeat(32),
    });
    Change::Note {
        id: format!("note-{number:06}"),
        person: format!("person-{}", number % PERSONS),
        author: "sakura-01".to_owned(),
        author_name: Personal::new("佐藤 花子"),
        role: "訪問看護師".to_owned(),
        time: NOW - 1_000_000 + i64::try_from(number).unwrap(),
        text: Personal::new(sentence.repeat(length)),
        attachments: attachments.into_iter().collect(),
        signature: None,
    }
}

fn furniture() -> Vec<Change> {
    let person = |number| Change::Person {
        id: format!("person-{number}"),
        display_name: Personal::new("name"),
        readers: vec!["s".to_owned()],
        support_ended: false,
    };
    let staff = Change::Staff {
        id: "s".to_owned(),
        display_name: Personal::new("staff"),
        role: Role::Staff,
        suspended: false,
    };
    std::iter::once(staff)
        .chain((0..PERSONS).map(person))
        .collect()
}

fn open(directory: &Path, roots: &Arc<RootsInMemory>, bytes: u64) -> Store {
    let limits = Limits {
        bytes,
        ..Limits::default()
    };
    let roots: Arc<RootsInMemory> = Arc::clone(roots);
    let (store, _) = Store::open(directory, roots, limits).unwrap();
    store.witnessed(Arc::new(Anybody))
}

async fn apply(store: &Store, changes: impl IntoIterator<Item = Change>) {
    let position = store.position().await.unwrap();
    let start: u64 = position.as_deref().map_or(0, |id| id.parse().unwrap());
    let events = (start + 1..)
        .zip(changes)
        .map(|(id, change)| Event {
            id: id.to_string(),
            change,
        })
        .collect();
    store.apply(position, events, NOW).await.unwrap();
}

/// In batches, as they come from the feed.
async fn fill(store: &Store, notes: usize, length: usize) {
    apply(store, furniture()).await;
    for first in (0..notes).step_by(200) {
        apply(
            store,
            (first..first + 200).map(|number| note(number, length)),
        )
        .await;
    }
}

/// What the files take once the store is closed and its log is in the database.
async fn on_disk(store: Store, directory: &Path) -> u64 {
    store.close().await;
    let sizes = ["notes.db", "notes.db-wal"].map(|name| {
        std::fs::metadata(directory.join("a").join(name)).map_or(0, |metadata| metadata.len())
    });
    sizes.iter().sum()
}

#[tokio::test]
async fn what_is_counted_is_what_notes_take_on_the_disk_with_all_that_is_kept_of_them() {
    for (notes, length) in [(4000, 1), (4000, 4), (1000, 40)] {
        let directory = tempfile::tempdir().unwrap();
        let roots = Arc::default();
        let store = open(directory.path(), &roots, u64::MAX);
        fill(&store, notes, length).await;
        let counted = store.status().await.unwrap().bytes;
        let taken = on_disk(store, directory.path()).await;
        assert!(
            taken <= counted + counted / 4 && counted <= taken + taken / 4,
            "{counted} counted, {taken} on the disk, text of {length} sentences"
        );
        let store = open(directory.path(), &roots, u64::MAX);
        let again = store.status().await.unwrap().bytes;
        assert_eq!(again, counted, "the same after a restart");
    }
}

#[tokio::test]
async fn a_store_that_is_full_takes_no_more_of_the_disk_than_the_policy_gives() {
    const ALLOWED: u64 = 2 << 20;
    let directory = tempfile::tempdir().unwrap();
    let roots = Arc::default();
    let store = open(directory.path(), &roots, ALLOWED);
    fill(&store, 6000, 4).await;
    let status = store.status().await.unwrap();
    assert!(status.bytes <= ALLOWED, "{status:?}");
    assert!(status.bytes > ALLOWED / 10 * 9, "{status:?}");
    // The newest are there, and what is searched of them.
    let person = format!("person-{}", 5999 % PERSONS);
    let page = store
        .notes_of("s", &person, 1, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(page.notes[0].id, "note-005999");
    let taken = on_disk(store, directory.path()).await;
    assert!(taken <= ALLOWED + ALLOWED / 4, "{taken} on the disk");
}

#[tokio::test]
async fn what_goes_gives_back_all_that_it_took() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), &Arc::default(), u64::MAX);
    fill(&store, 400, 2).await;
    let full = store.status().await.unwrap().bytes;
    // Written anew it takes what it takes, not twice.
    apply(&store, [note(10, 2), note(10, 2)]).await;
    assert_eq!(store.status().await.unwrap().bytes, full);
    apply(&store, [note(10, 3)]).await;
    let longer = store.status().await.unwrap().bytes;
    assert!(
        longer > full,
        "a longer text and its longer words to search"
    );
    apply(&store, [note(10, 2)]).await;
    assert_eq!(store.status().await.unwrap().bytes, full);
    let gone = (0..200).map(|number| Change::NoteDeleted {
        id: format!("note-{number:06}"),
    });
    apply(&store, gone).await;
    assert_eq!(store.status().await.unwrap().bytes, full / 2);
    let ended = (0..PERSONS).map(|number| Change::PersonEnded {
        id: format!("person-{number}"),
    });
    apply(&store, ended).await;
    assert_eq!(store.status().await.unwrap().bytes, 0);
}
