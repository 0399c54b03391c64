//! While the guard says no, nothing personal is answered, whoever asks and through whichever handle.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_notes::{
    Change, Error, Event, Limits, NotRecorded, Personal, Reading, Role, RootsInMemory, Store,
    Witness,
};

thread_local! {
    /// One box for each test.
    static ROOTS: Arc<RootsInMemory> = Arc::default();
}

fn roots() -> Arc<RootsInMemory> {
    ROOTS.with(Arc::clone)
}

const NOW: i64 = 1_800_000_000;

/// Locks the store while a reading is being recorded.
struct Locks(Arc<AtomicBool>, bool);

impl Witness for Locks {
    fn recorded(
        &self,
        _: Reading,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        if self.1 {
            self.0.store(false, Ordering::SeqCst);
        }
        Box::pin(async { Ok(()) })
    }
}

async fn store(directory: &std::path::Path, open: &Arc<AtomicBool>) -> Store {
    let (store, _) = Store::open(directory, roots(), Limits::default()).unwrap();
    let changes = [
        Change::Staff {
            id: "s".to_owned(),
            display_name: Personal::new("staff"),
            role: Role::Staff,
            suspended: false,
        },
        Change::Person {
            id: "p".to_owned(),
            display_name: Personal::new("name"),
            readers: vec!["s".to_owned()],
            support_ended: false,
        },
    ];
    let events = (1..)
        .zip(changes)
        .map(|(id, change)| Event {
            id: id.to_string(),
            change,
        })
        .collect();
    store.apply(None, events, NOW).await.unwrap();
    let open = Arc::clone(open);
    store.guarded(Arc::new(move || open.load(Ordering::SeqCst)))
}

#[tokio::test]
async fn a_locked_store_answers_nothing_personal_and_opens_again_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let open = Arc::new(AtomicBool::new(true));
    let store = store(directory.path(), &open).await;
    let reader = store.witnessed(Arc::new(Locks(Arc::clone(&open), false)));
    assert_eq!(reader.persons_for("s").await.unwrap().len(), 1);
    open.store(false, Ordering::SeqCst);
    for handle in [
        reader.clone(),
        reader.witnessed(Arc::new(Locks(open.clone(), false))),
    ] {
        let persons = handle.persons_for("s").await;
        assert!(matches!(persons, Err(Error::Locked)), "{persons:?}");
        let notes = handle.notes_of("s", "p", 10, None).await;
        assert!(matches!(notes, Err(Error::Locked)), "{notes:?}");
        // What does not exist looks as what does.
        let nobody = handle.notes_of("x", "y", 10, None).await;
        assert!(matches!(nobody, Err(Error::Locked)), "{nobody:?}");
    }
    // What the city takes back is taken back all the same.
    let ended = Event {
        id: "3".to_owned(),
        change: Change::PersonEnded { id: "p".to_owned() },
    };
    store
        .apply(Some("2".to_owned()), vec![ended], NOW)
        .await
        .unwrap();
    open.store(true, Ordering::SeqCst);
    assert!(reader.persons_for("s").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_store_that_locks_while_a_reading_waits_does_not_answer_it() {
    let directory = tempfile::tempdir().unwrap();
    let open = Arc::new(AtomicBool::new(true));
    let store = store(directory.path(), &open).await;
    let reader = store.witnessed(Arc::new(Locks(Arc::clone(&open), true)));
    let persons = reader.persons_for("s").await;
    assert!(matches!(persons, Err(Error::Locked)), "{persons:?}");
}
