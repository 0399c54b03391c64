//! Every reading is recorded before it is answered, and none is answered that is not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use gateway_notes::{
    Change, Error, Event, Limits, Looked, NotRecorded, Personal, Reading, Role, RootsInMemory,
    Store, Witness,
};

thread_local! {
    /// One box for each test.
    static ROOTS: Arc<RootsInMemory> = Arc::default();
}

fn roots() -> Arc<RootsInMemory> {
    ROOTS.with(Arc::clone)
}

const NOW: i64 = 1_800_000_000;

/// Writes down what it is told, unless it refuses.
#[derive(Default)]
struct Book {
    readings: Mutex<Vec<Reading>>,
    refuses: bool,
}

impl Witness for Book {
    fn recorded(
        &self,
        reading: Reading,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        self.readings.lock().unwrap().push(reading);
        let answer = if self.refuses {
            Err(NotRecorded)
        } else {
            Ok(())
        };
        Box::pin(async move { answer })
    }
}

async fn store(directory: &std::path::Path) -> Store {
    let (store, _) = Store::open(directory, roots(), Limits::default()).unwrap();
    let person = |id: &str, reader: &str| Change::Person {
        id: id.to_owned(),
        display_name: Personal::new("name"),
        readers: vec![reader.to_owned()],
        support_ended: false,
    };
    let changes = [
        Change::Staff {
            id: "s".to_owned(),
            display_name: Personal::new("staff"),
            role: Role::Staff,
            suspended: false,
        },
        person("p", "s"),
        person("q", "t"),
    ];
    let events = (1..)
        .zip(changes)
        .map(|(id, change)| Event {
            id: id.to_string(),
            change,
        })
        .collect();
    store.apply(None, events, NOW).await.unwrap();
    store
}

#[tokio::test]
async fn without_a_witness_nothing_personal_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path()).await;
    assert!(matches!(
        store.persons_for("s").await,
        Err(Error::NotRecorded)
    ));
    let page = store.notes_of("s", "p", 10, None).await;
    assert!(matches!(page, Err(Error::NotRecorded)));
    assert!(store.status().await.is_ok(), "counts are nobody's");
}

#[tokio::test]
async fn a_reading_is_recorded_with_its_person_and_a_refusal_without() {
    let directory = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let store = store(directory.path()).await.witnessed(book.clone());
    store.persons_for("s").await.unwrap();
    assert!(store.notes_of("s", "p", 10, None).await.unwrap().is_some());
    for out_of_reach in ["q", "nobody", "typed by mistake: 山田"] {
        let page = store.notes_of("s", out_of_reach, 10, None).await.unwrap();
        assert!(page.is_none());
    }
    let reading = |what, person: Option<&str>, granted| Reading {
        what,
        person: person.map(str::to_owned),
        granted,
    };
    let refused = reading(Looked::Notes, None, false);
    assert_eq!(
        *book.readings.lock().unwrap(),
        [
            reading(Looked::List, None, true),
            reading(Looked::Notes, Some("p"), true),
            refused.clone(),
            refused.clone(),
            refused,
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_answered() {
    let directory = tempfile::tempdir().unwrap();
    let book = Arc::new(Book {
        refuses: true,
        ..Book::default()
    });
    let store = store(directory.path()).await.witnessed(book);
    assert!(matches!(
        store.persons_for("s").await,
        Err(Error::NotRecorded)
    ));
    let page = store.notes_of("s", "p", 10, None).await;
    assert!(matches!(page, Err(Error::NotRecorded)));
}

#[tokio::test]
async fn a_page_asked_for_at_once_is_recorded_as_its_parts_are() {
    let directory = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let bare = store(directory.path()).await;
    let refused = bare.page_of_notes("s", "p", 10, None).await;
    assert!(matches!(refused, Err(Error::NotRecorded)));
    let refused = bare.page_of_persons("s").await;
    assert!(matches!(refused, Err(Error::NotRecorded)));
    let store = bare.witnessed(book.clone());
    let (opening, persons) = store.page_of_persons("s").await.unwrap().unwrap();
    assert_eq!(
        Some((opening.staff, opening.level)),
        store.staff_and_level("s").await.unwrap()
    );
    assert_eq!(persons, store.persons_for("s").await.unwrap());
    for person in ["p", "q", "nobody"] {
        let (_, page) = store
            .page_of_notes("s", person, 10, None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(page, store.notes_of("s", person, 10, None).await.unwrap());
    }
    {
        let readings = book.readings.lock().unwrap();
        assert_eq!(readings.len(), 8);
        for twice in readings.chunks(2) {
            assert_eq!(twice[0], twice[1]);
        }
    }
    // Who may read nothing at all reads nothing.
    assert!(store.page_of_persons("nobody").await.unwrap().is_none());
    let nothing = store.page_of_notes("nobody", "p", 10, None).await.unwrap();
    assert!(nothing.is_none());
    assert_eq!(book.readings.lock().unwrap().len(), 8);
}

/// Whoever adds a way to read for a user has it recorded: held against the source, because a forgotten record is nothing
/// that a test of the new way would notice.
#[test]
fn every_way_to_read_for_a_user_passes_the_witness() {
    // Standings are shown beside notes whose reading is on record; marking as read shows nothing.
    let unrecorded = [
        "staff",
        "staff_and_level",
        "notices",
        "attachment_standings",
        "mark_read",
    ];
    let source: String = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let mut seen = 0;
    for method in source.split("pub async fn ").skip(1) {
        let name = method.split(['(', '<']).next().unwrap_or_default();
        let (signature, rest) = method.split_once('{').unwrap();
        let body = rest.split("\n    }").next().unwrap_or_default();
        if !signature.contains("user:") || unrecorded.contains(&name) {
            continue;
        }
        seen += 1;
        assert!(
            [".read(", ".read_beside(", ".read_opening(", ".read_kept("]
                .iter()
                .any(|way| body.contains(way)),
            "Store::{name} answers a user and does not pass Store::read"
        );
    }
    assert!(seen >= 2, "the methods are found");
}
