//! Pages as text, which is kept while nothing changes: each reading is decided and put on record all the same.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gateway_notes::{
    Attachment, Change, Error, Event, Limits, Looked, Moment, NotRecorded, PersonSummary, Personal,
    Reading, Role, RootsInMemory, Showing, Shown, Standing, Store, Witness,
};

const NOW: i64 = 1_800_000_000;
const AT: Moment = Moment { now: NOW, day: 1 };

/// How often a text was made by one test's thread and those that read for it.
static MADE: AtomicUsize = AtomicUsize::new(0);
/// One test at a time counts.
static COUNTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn show(showing: &Showing<'_>) -> Shown {
    MADE.fetch_add(1, Ordering::SeqCst);
    let mut text = String::new();
    let mut unread_only = Vec::new();
    for note in showing.notes {
        let from = text.len();
        text.push('*');
        unread_only.push((from..text.len(), note.number));
        text.push_str(note.text.reveal());
    }
    for standing in showing.standings {
        text.push_str(&format!("{standing:?}"));
    }
    Shown::new(text, unread_only)
}

fn show_person(person: &PersonSummary) -> Shown {
    MADE.fetch_add(1, Ordering::SeqCst);
    Shown::new(person.display_name.reveal().to_owned(), vec![])
}

fn made() -> usize {
    MADE.swap(0, Ordering::SeqCst)
}

#[derive(Default)]
struct Book {
    readings: Mutex<Vec<Reading>>,
    full: AtomicBool,
}

impl Witness for Book {
    fn recorded(
        &self,
        reading: Reading,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        self.readings.lock().unwrap().push(reading);
        let full = self.full.load(Ordering::SeqCst);
        Box::pin(async move { if full { Err(NotRecorded) } else { Ok(()) } })
    }
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

fn staff(id: &str, suspended: bool) -> Change {
    Change::Staff {
        id: id.into(),
        display_name: Personal::new(format!("name of {id}")),
        role: Role::Staff,
        suspended,
    }
}

fn person(id: &str, readers: &[&str]) -> Change {
    Change::Person {
        id: id.into(),
        display_name: Personal::new(format!("name of {id}")),
        readers: readers.iter().map(|&reader| reader.to_owned()).collect(),
        support_ended: false,
    }
}

fn note(id: &str, person: &str, text: &str, attachments: Vec<Attachment>) -> Change {
    Change::Note {
        id: id.into(),
        person: person.into(),
        author: "v".into(),
        author_name: Personal::new("author"),
        role: "role".into(),
        time: NOW,
        text: Personal::new(text),
        attachments,
        signature: None,
    }
}

fn empty(directory: &std::path::Path) -> (Store, Arc<Book>) {
    let roots = Arc::new(RootsInMemory::default());
    let (store, _) = Store::open(directory, roots, Limits::default()).unwrap();
    let book = Arc::new(Book::default());
    (store.witnessed(book.clone()), book)
}

async fn notes(store: &Store, user: &str, person: &str) -> Option<String> {
    let found = store.shown_notes(user, person, 50, AT, show).await.unwrap();
    let (opening, page) = found?;
    assert_eq!(
        opening.staff.display_name.reveal(),
        format!("name of {user}")
    );
    let page = page?;
    assert_eq!(page.name.reveal(), format!("name of {person}"));
    Some(page.text.for_reader(page.read_upto).collect())
}

async fn list(store: &Store, user: &str) -> Option<Vec<(String, u64)>> {
    let (_, entries) = store.shown_persons(user, show_person).await.unwrap()?;
    let entry = |entry: &gateway_notes::Entry| (entry.text.whole().to_owned(), entry.unread);
    Some(entries.iter().map(entry).collect())
}

#[tokio::test]
async fn what_is_answered_again_was_made_once_and_is_put_on_record_each_time() {
    let _alone = COUNTING.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let (store, book) = empty(directory.path());
    let people = vec![
        staff("u", false),
        person("p", &["u"]),
        note("n", "p", "text", vec![]),
    ];
    apply(&store, people).await;
    made();
    for _ in 0..3 {
        assert_eq!(notes(&store, "u", "p").await.unwrap(), "*text");
        assert_eq!(list(&store, "u").await.unwrap(), [("name of p".into(), 1)]);
    }
    assert_eq!(made(), 2);
    {
        let readings = book.readings.lock().unwrap();
        let of = |what: Looked, about: Option<&str>| {
            let is = |reading: &&Reading| {
                reading.what == what && reading.granted && reading.person.as_deref() == about
            };
            readings.iter().filter(is).count()
        };
        assert_eq!(of(Looked::Notes, Some("p")), 3);
        assert_eq!(of(Looked::List, None), 3);
        assert_eq!(readings.len(), 6);
    }
    book.full.store(true, Ordering::SeqCst);
    let refused = store.shown_notes("u", "p", 50, AT, show).await;
    assert!(matches!(refused, Err(Error::NotRecorded)));
    let refused = store.shown_persons("u", show_person).await;
    assert!(matches!(refused, Err(Error::NotRecorded)));
}

#[tokio::test]
async fn who_may_not_read_a_person_gets_nothing_of_what_others_have_had_made() {
    let _alone = COUNTING.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let (store, book) = empty(directory.path());
    let people = vec![
        staff("u", false),
        staff("v", false),
        person("p", &["u"]),
        person("q", &["u", "v"]),
        note("n", "p", "text", vec![]),
    ];
    apply(&store, people).await;
    for _ in 0..2 {
        assert_eq!(notes(&store, "u", "p").await.unwrap(), "*text");
        assert_eq!(list(&store, "u").await.unwrap().len(), 2);
        assert_eq!(notes(&store, "v", "q").await.unwrap(), "");
        assert_eq!(list(&store, "v").await.unwrap(), [("name of q".into(), 0)]);
        for (user, person) in [("v", "p"), ("v", "nobody")] {
            assert_eq!(notes(&store, user, person).await, None);
            let last = book.readings.lock().unwrap().pop().unwrap();
            assert!(!last.granted && last.person.is_none());
        }
        assert_eq!(notes(&store, "nobody", "p").await, None);
        assert_eq!(list(&store, "nobody").await, None);
    }
}

#[tokio::test]
async fn each_change_is_seen_by_the_next_reader_of_text() {
    let _alone = COUNTING.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let (store, _book) = empty(directory.path());
    apply(&store, vec![staff("u", false), person("p", &["u"])]).await;
    for round in 0..100 {
        let text = format!("round {round}");
        apply(&store, vec![note("n", "p", &text, vec![])]).await;
        for _ in 0..2 {
            assert_eq!(notes(&store, "u", "p").await.unwrap(), format!("*{text}"));
            assert_eq!(list(&store, "u").await.unwrap()[0].1, 1);
        }
        assert!(store.mark_read("u", "p", i64::MAX).await.unwrap());
        assert_eq!(notes(&store, "u", "p").await.unwrap(), text);
        assert_eq!(list(&store, "u").await.unwrap()[0].1, 0);
        apply(&store, vec![person("p", &[])]).await;
        assert_eq!(notes(&store, "u", "p").await, None);
        assert_eq!(list(&store, "u").await.unwrap(), []);
        apply(&store, vec![person("p", &["u"])]).await;
        assert_eq!(notes(&store, "u", "p").await.unwrap(), text);
        apply(&store, vec![staff("u", true)]).await;
        assert_eq!(notes(&store, "u", "p").await, None);
        assert_eq!(list(&store, "u").await, None);
        apply(&store, vec![staff("u", false)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_of_a_crowd_is_answered_what_was_taken_back_before_they_asked() {
    let _alone = COUNTING.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let (store, _book) = empty(directory.path());
    apply(&store, vec![staff("u", false), person("p", &["u"])]).await;
    let go_on = Arc::new(AtomicBool::new(true));
    // The oldest text that may still be read.
    let oldest = Arc::new(AtomicUsize::new(0));
    let crowd: Vec<_> = (0..6)
        .map(|_| {
            let (store, go_on) = (store.clone(), Arc::clone(&go_on));
            let oldest = Arc::clone(&oldest);
            tokio::spawn(async move {
                while go_on.load(Ordering::SeqCst) {
                    let least = oldest.load(Ordering::SeqCst);
                    if let Some(text) = notes(&store, "u", "p")
                        .await
                        .filter(|text| !text.is_empty())
                    {
                        let round: usize = text.trim_start_matches('*').parse().unwrap();
                        assert!(round >= least, "{round} was replaced by {least}");
                    }
                }
            })
        })
        .collect();
    for round in 1..300 {
        apply(&store, vec![note("n", "p", &round.to_string(), vec![])]).await;
        oldest.store(round, Ordering::SeqCst);
    }
    go_on.store(false, Ordering::SeqCst);
    for reader in crowd {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn days_and_attachments_are_told_as_they_are() {
    let _alone = COUNTING.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let (store, _book) = empty(directory.path());
    let attachment = Attachment {
        id: "a".into(),
        name: Personal::new("file"),
        media_type: "image/png".into(),
        size: 10,
        sha256: "00".repeat(32),
    };
    let changes = vec![
        staff("u", false),
        person("p", &["u"]),
        note("n", "p", "text", vec![attachment]),
    ];
    apply(&store, changes).await;
    let coming = format!("*text{:?}", Standing::Coming);
    assert_eq!(notes(&store, "u", "p").await.unwrap(), coming);
    // Another day calls days by other names.
    made();
    let tomorrow = Moment { day: 2, ..AT };
    store
        .shown_notes("u", "p", 50, tomorrow, show)
        .await
        .unwrap();
    assert_eq!(made(), 1);
    // What is kept of attachments changes without a row being written.
    let none = gateway_notes::AttachmentPolicy {
        largest: 1,
        ..gateway_notes::AttachmentPolicy::default()
    };
    store
        .set_bounds(Limits::default(), none, NOW)
        .await
        .unwrap();
    let text = notes(&store, "u", "p").await.unwrap();
    assert!(text.contains("NotKept(TooLarge)"), "{text}");
}
