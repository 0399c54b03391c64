//! Text that is kept for the next reader is searched for in this process's own memory, as a core dump would show it: it is there
//! while it is kept, and gone after whatever takes away the right to read it.
//!
//! Alone in its file, so that no other test's letters are in the same process.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_notes::{
    Change, Error, Event, Limits, Moment, NotRecorded, PersonSummary, Personal, Reading, Role,
    RootsInMemory, Showing, Shown, Store, Witness,
};
use zeroize::{Zeroize as _, Zeroizing};

const NOW: i64 = 1_800_000_000;
const AT: Moment = Moment { now: NOW, day: 1 };

/// What every text is made into here. It stands in what is read only of the program, and nowhere else before it is made.
const NEEDLE: &str = "shown: pressure 128/76";
/// Masked, so that the search does not find the searcher.
const MASK: u8 = 0x55;

/// How often it stands in this process's writable memory.
fn found() -> usize {
    let masked: Vec<u8> = NEEDLE.bytes().map(|byte| byte ^ MASK).collect();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split_whitespace().next().unwrap_or_default();
        let Some((from, to)) = range.split_once('-') else {
            continue;
        };
        let parse = |text| u64::from_str_radix(text, 16).unwrap();
        let (from, to) = (parse(from), parse(to));
        let mut content = vec![0; usize::try_from(to - from).unwrap()];
        memory.seek(SeekFrom::Start(from)).unwrap();
        // Some regions belong to the kernel.
        if memory.read_exact(&mut content).is_ok() {
            let is = |window: &&[u8]| window.iter().zip(&masked).all(|(a, b)| a ^ MASK == *b);
            found += content.windows(masked.len()).filter(is).count();
        }
        content.zeroize();
    }
    found
}

struct Anybody;

impl Witness for Anybody {
    fn recorded(
        &self,
        _: Reading,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

fn show(showing: &Showing<'_>) -> Shown {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    for note in showing.notes {
        text.push_str("shown: ");
        text.push_str(note.text.reveal());
    }
    Shown::new(text, vec![])
}

fn show_person(person: &PersonSummary) -> Shown {
    let mut text = Zeroizing::new(String::with_capacity(64));
    if !person.id.is_empty() {
        text.push_str(NEEDLE);
    }
    Shown::new(text, vec![])
}

async fn apply(store: &Store, changes: Vec<Change>) {
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

fn staff(suspended: bool) -> Change {
    Change::Staff {
        id: "u".into(),
        display_name: Personal::new("staff"),
        role: Role::Staff,
        suspended,
    }
}

/// Stores a note, has it read, and finds it kept.
async fn kept(store: &Store) {
    let person = Change::Person {
        id: "p".into(),
        display_name: Personal::new("name"),
        readers: vec!["u".into()],
        support_ended: false,
    };
    let note = Change::Note {
        id: "n".into(),
        person: "p".into(),
        author: "v".into(),
        author_name: Personal::new("author"),
        role: "role".into(),
        time: NOW,
        text: Personal::new("pressure 128/76"),
        attachments: vec![],
        signature: None,
    };
    apply(store, vec![staff(false), person, note]).await;
    assert_eq!(found(), 0, "nothing is made before anybody reads");
    let (_, page) = store
        .shown_notes("u", "p", 50, AT, show)
        .await
        .unwrap()
        .unwrap();
    drop(page.unwrap());
    let (_, list) = store
        .shown_persons("u", show_person)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(list.len(), 1);
    drop(list);
    assert!(found() >= 2, "the search works");
}

#[tokio::test]
async fn nothing_that_was_kept_is_left_in_memory_after_a_purge_a_suspension_a_lock_or_any_change() {
    let directory = tempfile::tempdir().unwrap();
    let open = Arc::new(AtomicBool::new(true));
    let roots = Arc::new(RootsInMemory::default());
    let (store, _) = Store::open(directory.path(), roots, Limits::default()).unwrap();
    let asked = Arc::clone(&open);
    let store = store
        .guarded(Arc::new(move || asked.load(Ordering::SeqCst)))
        .witnessed(Arc::new(Anybody));

    kept(&store).await;
    apply(&store, vec![Change::PersonEnded { id: "p".into() }]).await;
    assert_eq!(found(), 0, "after the end of support");

    kept(&store).await;
    apply(&store, vec![staff(true)]).await;
    assert_eq!(found(), 0, "after a suspension");

    kept(&store).await;
    store.mark_read("u", "p", i64::MAX).await.unwrap();
    assert_eq!(found(), 0, "after anything was written");

    kept(&store).await;
    open.store(false, Ordering::SeqCst);
    let refused = store.shown_notes("u", "p", 50, AT, show).await;
    assert!(matches!(refused, Err(Error::Locked)));
    assert_eq!(found(), 0, "after a lock");
    open.store(true, Ordering::SeqCst);

    kept(&store).await;
    store.erase().await.unwrap();
    assert_eq!(found(), 0, "after everything was erased");
}
