//! Search and unread marks as their callers see them: exactly what a plain look through every permitted note would find.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use gateway_notes::{
    Attachment, Change, Event, Found, Limits, Looked, NotRecorded, Part, Personal, Reading, Role,
    RootsInMemory, Store, Witness,
};
use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization;

thread_local! {
    /// One box for each test.
    static ROOTS: Arc<RootsInMemory> = Arc::default();
}

fn roots() -> Arc<RootsInMemory> {
    ROOTS.with(Arc::clone)
}

const NOW: i64 = 1_800_000_000;

/// Remembers what was read.
#[derive(Default)]
struct Book(Mutex<Vec<Reading>>);

impl Witness for Book {
    fn recorded(
        &self,
        reading: Reading,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        self.0.lock().unwrap().push(reading);
        Box::pin(async { Ok(()) })
    }
}

fn open(directory: &Path, limits: Limits) -> Store {
    let (store, _) = Store::open(directory, roots(), limits).unwrap();
    store.witnessed(Arc::new(Book::default()))
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

fn person(id: &str, name: &str, readers: &[&str]) -> Change {
    Change::Person {
        id: id.into(),
        display_name: Personal::new(name),
        readers: readers.iter().map(|&reader| reader.to_owned()).collect(),
        support_ended: false,
    }
}

fn staff(id: &str) -> Change {
    Change::Staff {
        id: id.into(),
        display_name: Personal::new(id),
        role: Role::Staff,
        suspended: false,
    }
}

fn note(id: &str, person: &str, time: i64, text: &str) -> Change {
    note_by("佐藤", id, person, time, text, vec![])
}

fn note_by(
    author: &str,
    id: &str,
    person: &str,
    time: i64,
    text: &str,
    files: Vec<&str>,
) -> Change {
    Change::Note {
        id: id.into(),
        person: person.into(),
        author: author.into(),
        author_name: Personal::new(author),
        role: "訪問看護師".into(),
        time,
        text: Personal::new(text),
        attachments: files
            .into_iter()
            .map(|name| Attachment {
                id: name.into(),
                name: Personal::new(name),
                ..Attachment::default()
            })
            .collect(),
        signature: None,
    }
}

async fn found(store: &Store, user: &str, words: &str) -> Found {
    store.search(user, words, 50).await.unwrap().unwrap()
}

async fn ids(store: &Store, user: &str, words: &str) -> Vec<String> {
    let found = found(store, user, words).await;
    found.notes.into_iter().map(|found| found.note.id).collect()
}

fn shown(parts: &[Part]) -> String {
    let show = |part: &Part| match part.hit {
        true => format!("[{}]", part.text.reveal()),
        false => part.text.reveal().to_owned(),
    };
    parts.iter().map(show).collect()
}

async fn furnished(directory: &Path) -> Store {
    let store = open(directory, Limits::default());
    let changes = vec![
        staff("u"),
        staff("v"),
        person("p", "山田　ハナ", &["u"]),
        person("q", "髙橋 茂", &["u", "v"]),
        note(
            "n1",
            "p",
            NOW - 50,
            "夜間に３８．５度の発熱あり。ｸｰﾘﾝｸﾞ施行。",
        ),
        note("n2", "q", NOW - 40, "発熱なし。血圧 128/76。"),
        note_by(
            "鈴木 一郎",
            "n3",
            "q",
            NOW - 30,
            "検査結果です。",
            vec!["胸部Ｘ線.jpg"],
        ),
    ];
    apply(&store, changes).await;
    store
}

#[tokio::test]
async fn words_are_found_however_they_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    for (words, expected) in [
        ("発熱", vec!["n2", "n1"]),
        ("発熱 38.5度", vec!["n1"]),
        ("クーリング", vec!["n1"]),
        ("くーりんぐ", vec!["n1"]),
        ("血圧　１２８", vec!["n2"]),
        ("胸部x線", vec!["n3"]),
        ("スズキ", vec![]),
        ("鈴木", vec!["n3"]),
        ("訪問看護師", vec!["n3", "n2", "n1"]),
        // The person's name counts for each of their notes, beside at least one word in the note itself.
        ("山田 発熱", vec!["n1"]),
        ("高橋 発熱", vec!["n2"]),
        ("高橋", vec![]),
        ("発熱 嘔吐", vec![]),
    ] {
        assert_eq!(ids(&store, "u", words).await, expected, "{words}");
    }
    let found = found(&store, "u", "高橋").await;
    let person = &found.persons[0];
    assert_eq!((person.id.as_str(), person.unread), ("q", 2));
    assert_eq!(
        (found.persons.len(), found.more, found.cut_short),
        (1, false, false)
    );
    assert_eq!(store.search("u", " 　", 50).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_found_is_shown_with_its_place_marked() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let found_notes = found(&store, "u", "クーリング 発熱").await.notes;
    assert_eq!(
        shown(&found_notes[0].excerpt),
        "夜間に３８．５度の[発熱]あり。[ｸｰﾘﾝｸﾞ]施行。"
    );
    let found_notes = found(&store, "u", "X線").await.notes;
    assert_eq!(shown(&found_notes[0].attachments[0]), "胸部[Ｘ線].jpg");
    assert_eq!(found_notes[0].display_name.reveal(), "髙橋 茂");
}

#[tokio::test]
async fn what_may_not_be_read_is_not_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    assert_eq!(ids(&store, "v", "発熱").await, ["n2"]);
    assert_eq!(found(&store, "v", "山田").await, Found::default());
    assert_eq!(found(&store, "w", "発熱").await, Found::default());
    apply(&store, vec![person("q", "髙橋 茂", &["u"])]).await;
    assert_eq!(found(&store, "v", "発熱").await, Found::default());
}

#[tokio::test]
async fn the_record_names_every_person_of_whom_something_was_shown() {
    let directory = tempfile::tempdir().unwrap();
    let book = Arc::new(Book::default());
    let store = furnished(directory.path())
        .await
        .witnessed(Arc::clone(&book) as Arc<dyn Witness>);
    found(&store, "u", "発熱").await;
    let readings = std::mem::take(&mut *book.0.lock().unwrap());
    assert!(
        readings
            .iter()
            .all(|reading| reading.what == Looked::Search)
    );
    let named: BTreeSet<_> = readings
        .iter()
        .filter_map(|reading| reading.person.as_deref())
        .collect();
    assert_eq!(named, BTreeSet::from(["p", "q"]));
    found(&store, "u", "嘔吐").await;
    let readings = book.0.lock().unwrap();
    assert_eq!(
        readings.len(),
        1,
        "a search that finds nothing is recorded too"
    );
    assert_eq!(readings[0].person, None);
}

#[tokio::test]
async fn changed_deleted_and_old_notes_are_not_found_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    apply(&store, vec![note("n2", "q", NOW - 40, "訂正しました。")]).await;
    assert_eq!(ids(&store, "u", "発熱").await, ["n1"]);
    assert_eq!(ids(&store, "u", "訂正").await, ["n2"]);
    apply(&store, vec![Change::NoteDeleted { id: "n1".into() }]).await;
    assert!(ids(&store, "u", "発熱").await.is_empty());
    apply(&store, vec![Change::PersonEnded { id: "q".into() }]).await;
    assert_eq!(found(&store, "u", "検査 高橋 訂正").await, Found::default());
    store.tidy(NOW + 31 * 86_400).await.unwrap();
    assert!(ids(&store, "u", "訪問看護師").await.is_empty());
}

#[tokio::test]
async fn results_are_bounded_and_say_that_there_are_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let notes = (0..60).map(|n| note(&format!("m{n}"), "p", NOW - 1000 + n, "排便あり"));
    apply(&store, notes.collect()).await;
    let found = found(&store, "u", "排便").await;
    assert_eq!((found.notes.len(), found.more), (50, true));
    assert_eq!(found.notes[0].note.id, "m59");
    assert_eq!(found.notes[49].note.id, "m10");
}

#[tokio::test]
async fn a_mark_counts_what_came_after_it_for_its_reader_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let unread = async |user: &str, person: &str| {
        let persons = store.persons_for(user).await.unwrap();
        let page = store
            .notes_of(user, person, 50, None)
            .await
            .unwrap()
            .unwrap();
        let listed = persons.iter().find(|listed| listed.id == person).unwrap();
        assert_eq!(listed.unread, page.unread);
        let marked = page
            .notes
            .iter()
            .filter(|note| note.number > page.read_upto);
        assert_eq!(marked.count() as u64, page.unread);
        (page.unread, page.newest_number)
    };
    let (count, newest) = unread("u", "q").await;
    assert_eq!(count, 2);
    assert!(store.mark_read("u", "q", newest).await.unwrap());
    assert_eq!(unread("u", "q").await.0, 0);
    assert_eq!(unread("v", "q").await.0, 2);
    // A note that is old by its time but came now, and one that was changed.
    apply(&store, vec![note("late", "q", NOW - 9000, "遅れて届いた")]).await;
    apply(&store, vec![note("n3", "q", NOW - 30, "書き直した")]).await;
    assert_eq!(unread("u", "q").await.0, 2);
    // Neither backwards nor beyond what is there.
    assert!(store.mark_read("u", "q", 1).await.unwrap());
    assert_eq!(unread("u", "q").await.0, 2);
    assert!(store.mark_read("u", "q", i64::MAX).await.unwrap());
    apply(&store, vec![note("next", "q", NOW, "次の記録")]).await;
    assert_eq!(unread("u", "q").await.0, 1);
    assert!(!store.mark_read("v", "p", 1).await.unwrap());
    assert!(!store.mark_read("v", "nobody", 1).await.unwrap());
}

#[tokio::test]
async fn marks_outlive_a_store_filled_anew_beside_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let unread = async || {
        let page = store.notes_of("u", "q", 50, None).await.unwrap().unwrap();
        let unread = page
            .notes
            .iter()
            .filter(|note| note.number > page.read_upto);
        let unread: Vec<_> = unread.map(|note| note.id.clone()).collect();
        assert_eq!(unread.len() as u64, page.unread);
        (unread, page.newest_number)
    };
    let newest = unread().await.1;
    store.mark_read("u", "q", newest).await.unwrap();
    apply(&store, vec![note("n4", "q", NOW - 20, "まだ読んでいない")]).await;
    assert_eq!(unread().await.0, ["n4"]);
    let everything = |changed: &str| {
        vec![
            staff("u"),
            person("p", "山田　ハナ", &["u"]),
            person("q", "髙橋 茂", &["u"]),
            note("n2", "q", NOW - 40, "発熱なし。血圧 128/76。"),
            note_by(
                "鈴木 一郎",
                "n3",
                "q",
                NOW - 30,
                changed,
                vec!["胸部Ｘ線.jpg"],
            ),
            note("n4", "q", NOW - 20, "まだ読んでいない"),
            Change::CaughtUp,
        ]
    };
    store.begin_rebuild().await.unwrap();
    apply(&store, everything("検査結果です。")).await;
    assert_eq!(unread().await.0, ["n4"]);
    // A note that was changed meanwhile is unread, and with it what came after it.
    store.begin_rebuild().await.unwrap();
    apply(&store, everything("検査結果です。訂正あり。")).await;
    assert_eq!(unread().await.0, ["n4", "n3"]);
}

#[tokio::test]
async fn who_had_read_everything_and_writes_has_read_their_own_note() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let unread = async |user: &str| {
        let page = store.notes_of(user, "q", 50, None).await.unwrap().unwrap();
        (page.unread, page.newest_number)
    };
    let own = |id: &str| note_by("u", id, "q", NOW, "自分の記録", vec![]);
    // Without a mark there is nothing to move on.
    apply(&store, vec![own("o1")]).await;
    let (count, newest) = unread("u").await;
    assert_eq!(count, 3);
    store.mark_read("u", "q", newest).await.unwrap();
    apply(&store, vec![own("o2")]).await;
    assert_eq!(unread("u").await.0, 0);
    let with_files = note_by("u", "o2b", "q", NOW, "自分の記録", vec!["a", "b"]);
    apply(&store, vec![with_files]).await;
    assert_eq!(unread("u").await.0, 0);
    // What somebody else wrote before is not taken for read.
    apply(
        &store,
        vec![note("other", "q", NOW, "同僚の記録"), own("o3")],
    )
    .await;
    assert_eq!(unread("u").await.0, 2);
}

/// Text as it occurs in notes, from few characters, so that searches find something.
fn text() -> impl Strategy<Value = String> {
    "[あいかがきッつつァーｱｶﾞＡa１1発熱髙高 　、\n-]{0,14}"
}

#[derive(Clone, Debug)]
enum Step {
    Note(u8, u8, String, String),
    Deleted(u8),
    Ended(u8),
    Person(u8, String, BTreeSet<u8>),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let readers = prop::collection::btree_set(0..3_u8, 0..3);
    prop_oneof![
        12 => (0..40_u8, 0..3_u8, text(), text())
            .prop_map(|(note, person, text, file)| Step::Note(note, person, text, file)),
        2 => (0..40_u8).prop_map(Step::Deleted),
        1 => (0..3_u8).prop_map(Step::Ended),
        4 => (0..3_u8, text(), readers).prop_map(|(person, name, readers)| Step::Person(person, name, readers)),
        1 => Just(Step::Reopen),
    ]
}

/// The rule, written down once more and independently: whole texts, character by character.
fn plain(text: &str) -> String {
    text.nfkc()
        .flat_map(char::to_lowercase)
        .filter(|character| !" 　\n-ー\u{3099}".contains(*character))
        .map(|character| match character {
            'ッ' | 'っ' | 'ツ' => 'つ',
            'ァ' | 'ぁ' | 'ア' => 'あ',
            'カ' => 'か',
            'ガ' => 'が',
            '髙' => '高',
            other => other,
        })
        .collect()
}

#[derive(Default)]
struct Model {
    /// Name and readers.
    persons: BTreeMap<u8, (String, BTreeSet<u8>)>,
    /// Person, text, attachment.
    notes: BTreeMap<u8, (u8, String, String)>,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Note(note, person, text, file) => {
                self.notes.remove(note);
                if self.persons.contains_key(person) {
                    self.notes
                        .insert(*note, (*person, text.clone(), file.clone()));
                }
            }
            Step::Deleted(note) => drop(self.notes.remove(note)),
            Step::Ended(person) => {
                self.persons.remove(person);
                self.notes.retain(|_, (of, _, _)| of != person);
            }
            Step::Person(person, name, readers) => {
                self.persons
                    .insert(*person, (name.clone(), readers.clone()));
            }
            Step::Reopen => {}
        }
    }

    /// Ids of notes and persons.
    fn search(&self, user: u8, words: &str) -> Option<(Vec<String>, BTreeSet<String>)> {
        let words: Vec<String> = words.split_whitespace().map(plain).collect();
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            return None;
        }
        let readable = |person: &u8| self.persons[person].1.contains(&user);
        let name = |person: &u8| plain(&self.persons[person].0);
        let notes = self.notes.iter().rev().filter(|(_, (person, text, file))| {
            let parts = [plain(text), plain("名"), plain("訪問看護師"), plain(file)];
            let within = |word: &String| parts.iter().any(|part| part.contains(word));
            readable(person)
                && words.iter().any(within)
                && words
                    .iter()
                    .all(|word| within(word) || name(person).contains(word))
        });
        let persons = self.persons.keys().filter(|person| {
            readable(person) && words.iter().all(|word| name(person).contains(word))
        });
        Some((
            notes.map(|(note, _)| format!("n{note}")).collect(),
            persons.map(|person| format!("p{person}")).collect(),
        ))
    }
}

fn change(step: &Step) -> Option<Change> {
    Some(match step {
        Step::Note(note, person, text, file) => note_by(
            "名",
            &format!("n{note}"),
            &format!("p{person}"),
            NOW - 100 + i64::from(*note),
            text,
            vec![file],
        ),
        Step::Deleted(note) => Change::NoteDeleted {
            id: format!("n{note}"),
        },
        Step::Ended(person) => Change::PersonEnded {
            id: format!("p{person}"),
        },
        Step::Person(id, name, readers) => {
            let readers: Vec<String> = readers.iter().map(|user| format!("u{user}")).collect();
            let readers: Vec<&str> = readers.iter().map(String::as_str).collect();
            person(&format!("p{id}"), name, &readers)
        }
        Step::Reopen => return None,
    })
}

async fn run(batches: Vec<Vec<Step>>, searches: Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, mut model) = (open(directory.path(), Limits::default()), Model::default());
    apply(&store, vec![staff("u0"), staff("u1"), staff("u2")]).await;
    for batch in batches {
        batch.iter().for_each(|step| model.apply(step));
        apply(&store, batch.iter().filter_map(change).collect()).await;
        if batch.iter().any(|step| matches!(step, Step::Reopen)) {
            store.close().await;
            store = open(directory.path(), Limits::default());
        }
        for words in &searches {
            for user in 0..3 {
                let found = store.search(&format!("u{user}"), words, 50).await.unwrap();
                let found = found.map(|found| {
                    assert!(!found.more && !found.cut_short);
                    let notes = found.notes.into_iter().map(|found| found.note.id);
                    let persons = found.persons.into_iter().map(|person| person.id);
                    (notes.collect::<Vec<_>>(), persons.collect::<BTreeSet<_>>())
                });
                assert_eq!(found, model.search(user, words), "{words:?} by u{user}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_a_look_through_every_permitted_note_finds(
        batches in prop::collection::vec(prop::collection::vec(step(), 0..24), 1..8),
        searches in prop::collection::vec("[あいかがきッつァーｱｶA1発熱髙 　]{1,4}", 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(batches, searches));
    }
}
