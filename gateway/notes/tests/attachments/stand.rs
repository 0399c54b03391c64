//! A store with a person, two staff members and files; nothing is fetched from anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_notes::{
    Attachment, Change, Event, Judgement, Limits, NotRecorded, Personal, Reading, Role,
    RootsInMemory, Standing, Store, Witness,
};

thread_local! {
    /// One box for each test.
    static ROOTS: Arc<RootsInMemory> = Arc::default();
}

pub(crate) fn roots() -> Arc<RootsInMemory> {
    ROOTS.with(Arc::clone)
}

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const DAY: i64 = 86_400;
pub(crate) const CHUNK: usize = 64 * 1024;

/// Records everything, and says what it was when asked.
#[derive(Default)]
pub(crate) struct Book(pub(crate) std::sync::Mutex<Vec<Reading>>);

impl Witness for Book {
    fn recorded(
        &self,
        reading: Reading,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        self.0.lock().unwrap().push(reading);
        Box::pin(async { Ok(()) })
    }
}

pub(crate) fn open(directory: &Path) -> Store {
    Store::open(directory, roots(), Limits::default())
        .unwrap()
        .0
        .witnessed(Arc::new(Book::default()))
}

pub(crate) async fn apply(store: &Store, changes: Vec<Change>) {
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

pub(crate) fn person(id: &str, readers: &[&str]) -> Change {
    Change::Person {
        id: id.into(),
        display_name: Personal::new("somebody"),
        readers: readers.iter().map(|reader| (*reader).to_owned()).collect(),
        support_ended: false,
    }
}

pub(crate) fn staff(id: &str) -> Change {
    Change::Staff {
        id: id.into(),
        display_name: Personal::new("staff"),
        role: Role::Staff,
        suspended: false,
    }
}

pub(crate) fn file(id: &str, size: usize) -> Attachment {
    Attachment {
        id: id.into(),
        name: Personal::new(format!("{id}.png")),
        media_type: "image/png".into(),
        size: size as u64,
        sha256: "ab".repeat(32),
    }
}

pub(crate) fn note(id: &str, person: &str, time: i64, attachments: Vec<Attachment>) -> Change {
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
pub(crate) async fn with_files(directory: &Path, files: &[(&str, usize)]) -> Store {
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

pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from(n % 249).unwrap()).collect()
}

/// Fetches everything wanted and says of each what `judge` says.
pub(crate) async fn fetch(store: &Store, judge: Judgement) {
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

pub(crate) async fn read(store: &Store, user: &str, id: &str) -> Option<Vec<u8>> {
    let attachment = store.attachment(user, id).await.unwrap()?;
    let mut bytes = Vec::new();
    while bytes.len() < usize::try_from(attachment.size).unwrap() {
        let piece = attachment.piece(bytes.len() as u64).await.unwrap()?;
        bytes.extend_from_slice(&piece);
    }
    Some(bytes)
}

pub(crate) async fn standing(store: &Store, id: &str) -> Standing {
    let ids = vec![id.to_owned()];
    let standings = store.attachment_standings("s", "p", ids, NOW).await;
    standings.unwrap().unwrap()[0]
}

pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    ["a/attachments", "b/attachments"]
        .into_iter()
        .filter_map(|name| std::fs::read_dir(directory.join(name)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .collect()
}
