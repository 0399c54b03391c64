//! Readers beside the thread that writes: what it says to be done they see at once, and nothing that it has taken back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway_notes::{
    Change, Event, Limits, NotRecorded, Personal, Reading, Role, RootsInMemory, Store, Witness,
};

const NOW: i64 = 1_800_000_000;

struct Anybody;

impl Witness for Anybody {
    fn recorded(
        &self,
        _: Reading,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

fn open(directory: &Path) -> Store {
    let roots = Arc::new(RootsInMemory::default());
    let (store, _) = Store::open(directory, roots, Limits::default()).unwrap();
    store.witnessed(Arc::new(Anybody))
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

fn person(id: &str, readers: &[&str]) -> Change {
    Change::Person {
        id: id.into(),
        display_name: Personal::new(format!("name of {id}")),
        readers: readers.iter().map(|&reader| reader.to_owned()).collect(),
        support_ended: false,
    }
}

fn note(id: &str, person: &str, text: &str) -> Change {
    Change::Note {
        id: id.into(),
        person: person.into(),
        author: "v".into(),
        author_name: Personal::new("author"),
        role: "role".into(),
        time: NOW,
        text: Personal::new(text),
        attachments: vec![],
        signature: None,
    }
}

async fn texts(store: &Store, person: &str) -> Option<Vec<String>> {
    let page = store.notes_of("u", person, 50, None).await.unwrap()?;
    let texts = page.notes.iter().map(|note| note.text.reveal().to_owned());
    Some(texts.collect())
}

#[tokio::test]
async fn each_change_is_seen_by_the_next_reader() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    apply(&store, vec![staff(false), person("p", &["u"])]).await;
    for round in 0..200 {
        let text = format!("round {round}");
        apply(&store, vec![note("n", "p", &text)]).await;
        assert_eq!(texts(&store, "p").await.unwrap(), [text]);
        apply(&store, vec![person("p", &[])]).await;
        assert_eq!(texts(&store, "p").await, None);
        apply(&store, vec![person("p", &["u"]), staff(true)]).await;
        assert_eq!(texts(&store, "p").await, None);
        apply(&store, vec![staff(false)]).await;
    }
}

/// Keeps all readers busy until it is dropped.
struct Crowd(Arc<AtomicBool>, Vec<tokio::task::JoinHandle<u64>>);

impl Crowd {
    fn new(store: &Store) -> Self {
        let go_on = Arc::new(AtomicBool::new(true));
        let tasks = (0..8).map(|number| {
            let (store, go_on) = (store.clone(), Arc::clone(&go_on));
            tokio::spawn(async move {
                let mut read = 0;
                while go_on.load(Ordering::Relaxed) {
                    if number % 4 == 0 {
                        store.search("u", "text", 50).await.unwrap();
                    } else {
                        store.persons_for("u").await.unwrap();
                        texts(&store, "p").await;
                    }
                    read += 1;
                }
                read
            })
        });
        let tasks = tasks.collect();
        Self(go_on, tasks)
    }

    async fn end(self) {
        self.0.store(false, Ordering::Relaxed);
        for task in self.1 {
            assert!(task.await.unwrap() > 0);
        }
    }
}

fn log_is_empty(directory: &Path) -> bool {
    let mut logs = walk(directory);
    logs.retain(|path| path.to_string_lossy().ends_with("-wal"));
    logs.iter()
        .all(|log| std::fs::metadata(log).unwrap().len() == 0)
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_leaves_the_log_however_many_are_reading() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let notes = (0..200).map(|n| note(&format!("n{n}"), "p", "some text"));
    let changes = [staff(false), person("p", &["u"])].into_iter().chain(notes);
    apply(&store, changes.collect()).await;
    let crowd = Crowd::new(&store);
    for n in 0..60 {
        let id = format!("n{n}");
        apply(&store, vec![Change::NoteDeleted { id }]).await;
        assert!(log_is_empty(directory.path()), "after {n}");
    }
    let other = person("q", &["u"]);
    apply(&store, vec![other, note("m", "q", "text")]).await;
    apply(&store, vec![Change::PersonEnded { id: "q".into() }]).await;
    assert!(log_is_empty(directory.path()));
    assert_eq!(texts(&store, "q").await, None);
    crowd.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_made_anew_under_readers_shows_nothing_of_before() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let first = vec![staff(false), person("p", &["u"]), note("n", "p", "before")];
    apply(&store, first).await;
    let crowd = Crowd::new(&store);
    for round in 0..20 {
        store.erase().await.unwrap();
        assert_eq!(texts(&store, "p").await, None, "round {round}");
        assert!(store.staff("u").await.unwrap().is_none());
        apply(
            &store,
            vec![staff(false), person("p", &["u"]), note("n", "p", "after")],
        )
        .await;
        assert_eq!(texts(&store, "p").await.unwrap(), ["after"]);
    }
    crowd.end().await;
    // Nobody holds on to a file that is gone.
    let gone = std::fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        let target = std::fs::read_link(entry.as_ref().unwrap().path());
        let target = target.unwrap_or_default();
        let target = target.to_string_lossy();
        target.starts_with(&*directory.path().to_string_lossy()) && target.ends_with("(deleted)")
    });
    assert_eq!(gone.count(), 0);
    store.close().await;
}

#[tokio::test]
async fn many_readers_and_a_writer_share_one_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let people = [person("p", &["u"]), person("q", &["u"])];
    let first = [staff(false), note("n", "q", "text of n")];
    apply(&store, people.into_iter().chain(first).collect()).await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let store = store.clone();
        readers.spawn(async move { texts(&store, "q").await });
    }
    for n in 0..20 {
        apply(&store, vec![note(&format!("m{n}"), "p", "more")]).await;
    }
    while let Some(read) = readers.join_next().await {
        assert_eq!(read.unwrap().unwrap(), ["text of n"]);
    }
    assert_eq!(store.status().await.unwrap().notes, 21);
}

#[tokio::test]
async fn reading_waits_for_no_writer() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    apply(
        &store,
        vec![staff(false), person("p", &["u"]), note("n", "p", "text")],
    )
    .await;
    assert_eq!(texts(&store, "p").await.unwrap(), ["text"]);
    // One transaction that takes a while; everything that is read meanwhile is read before it ends.
    let position = store.position().await.unwrap();
    let events = (0..20_000).map(|n| Event {
        id: format!("e{n}"),
        change: note(&format!("m{n}"), "p", "many"),
    });
    let (writer, events) = (store.clone(), events.collect());
    let written = tokio::spawn(async move { writer.apply(position, events, NOW).await.unwrap() });
    tokio::task::yield_now().await;
    let mut read = 0;
    while !written.is_finished() {
        let shown = texts(&store, "p").await.unwrap();
        assert!(shown == ["text"] || shown.len() == 50);
        read += usize::from(shown == ["text"]);
    }
    assert!(read > 5, "only {read} pages were read beside the writer");
}
