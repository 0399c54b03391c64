//! The store as its callers see it: who may read, what stays, what goes, what is on the disk.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod anybody;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anybody::Anybody;
use gateway_notes::{
    Attachment, Change, Error, Event, Limits, Opened, Personal, Role, RootsInMemory, Store,
};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

thread_local! {
    /// One box for each test.
    static ROOTS: Arc<RootsInMemory> = Arc::default();
}

fn roots() -> Arc<RootsInMemory> {
    ROOTS.with(Arc::clone)
}

fn person(id: &str, readers: &[&str]) -> Change {
    Change::Person {
        id: id.to_owned(),
        display_name: Personal::new(format!("name of {id}")),
        readers: readers.iter().map(|&reader| reader.to_owned()).collect(),
        support_ended: false,
    }
}

fn note(id: &str, person: &str, time: i64) -> Change {
    Change::Note {
        id: id.to_owned(),
        person: person.to_owned(),
        author: "author-id".to_owned(),
        author_name: Personal::new("author's name"),
        role: "訪問看護師".to_owned(),
        time,
        text: Personal::new(format!("text of {id}")),
        attachments: vec![Attachment {
            id: "a1".to_owned(),
            name: Personal::new("処方箋.pdf"),
            media_type: "application/pdf".to_owned(),
            size: 1234,
            sha256: "ab".repeat(32),
        }],
        signature: Some("signed".to_owned()),
    }
}

fn staff(id: &str, suspended: bool) -> Change {
    Change::Staff {
        id: id.to_owned(),
        display_name: Personal::new(format!("staff {id}")),
        role: Role::Staff,
        suspended,
    }
}

fn facility(suspended: bool) -> Change {
    Change::Facility {
        id: "f1".to_owned(),
        name: "やすらぎ".to_owned(),
        suspended,
    }
}

fn notice(id: &str, members_only: bool, until: Option<i64>) -> Change {
    Change::Notice {
        id: id.to_owned(),
        title: format!("title of {id}"),
        text: "text of a notice".to_owned(),
        members_only,
        until,
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}

/// Applies changes at the store's position.
async fn apply_at(store: &Store, now: i64, changes: Vec<Change>) {
    let position = store.position().await.unwrap();
    let start: u64 = position.as_deref().map_or(0, |id| id.parse().unwrap());
    let events = (start + 1..)
        .zip(changes)
        .map(|(id, change)| Event {
            id: id.to_string(),
            change,
        })
        .collect();
    store.apply(position, events, now).await.unwrap();
}

async fn apply(store: &Store, changes: Vec<Change>) {
    apply_at(store, NOW, changes).await;
}

fn open(directory: &Path) -> (Store, Opened) {
    let (store, opened) = Store::open(directory, roots(), Limits::default()).unwrap();
    (store.witnessed(Arc::new(Anybody)), opened)
}

async fn texts(store: &Store, user: &str, person: &str) -> Option<Vec<String>> {
    let page = store.notes_of(user, person, 100, None).await.unwrap()?;
    let texts = page.notes.iter().map(|note| note.text.reveal().to_owned());
    Some(texts.collect())
}

async fn persons(store: &Store, user: &str) -> Vec<String> {
    let persons = store.persons_for(user).await.unwrap();
    persons.into_iter().map(|person| person.id).collect()
}

/// Two persons, two staff: `s` may read both, `t` only q.
async fn furnished(directory: &Path) -> Store {
    let (store, opened) = open(directory);
    assert_eq!(opened, Opened::New);
    apply(
        &store,
        vec![
            facility(false),
            staff("s", false),
            staff("t", false),
            person("p", &["s"]),
            person("q", &["s", "t"]),
            note("n1", "p", NOW - 30),
            note("n2", "p", NOW - 20),
            note("n3", "q", NOW - 10),
            Change::CaughtUp,
        ],
    )
    .await;
    store
}

#[tokio::test]
async fn each_staff_member_reads_the_persons_the_city_permits_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    assert_eq!(persons(&store, "s").await, ["q", "p"]);
    assert_eq!(persons(&store, "t").await, ["q"]);
    assert_eq!(
        texts(&store, "s", "p").await.unwrap(),
        ["text of n2", "text of n1"]
    );
    assert_eq!(texts(&store, "t", "q").await.unwrap(), ["text of n3"]);
    // Not permitted and not there are the same.
    assert_eq!(texts(&store, "t", "p").await, None);
    assert_eq!(texts(&store, "t", "nobody").await, None);
    assert_eq!(texts(&store, "stranger", "p").await, None);
    assert!(persons(&store, "stranger").await.is_empty());
}

#[tokio::test]
async fn a_note_comes_back_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let page = store.notes_of("s", "p", 1, None).await.unwrap().unwrap();
    assert_eq!(page.display_name.reveal(), "name of p");
    let note = &page.notes[0];
    assert_eq!(
        (note.id.as_str(), note.author.as_str()),
        ("n2", "author-id")
    );
    assert_eq!(
        (note.author_name.reveal(), note.role.as_str()),
        ("author's name", "訪問看護師")
    );
    assert_eq!((note.time, note.fetched), (NOW - 20, NOW));
    assert_eq!(note.signature.as_deref(), Some("signed"));
    assert_eq!(note.attachments[0].name.reveal(), "処方箋.pdf");
    assert_eq!(note.attachments[0].size, 1234);
}

#[tokio::test]
async fn pages_follow_each_other_without_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let mut changes = vec![staff("s", false), person("p", &["s"])];
    // Several at the same second.
    changes.extend((0..25).map(|n| note(&format!("n{n}"), "p", NOW - n / 3)));
    apply(&store, changes).await;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.notes_of("s", "p", 10, before).await.unwrap().unwrap();
        seen.extend(page.notes.into_iter().map(|note| (note.time, note.id)));
        before = page.older;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.windows(2).all(|pair| pair[0].0 >= pair[1].0));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 25);
}

#[tokio::test]
async fn whatever_ends_a_permission_takes_effect_at_the_next_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;

    apply(&store, vec![staff("s", true)]).await;
    assert!(persons(&store, "s").await.is_empty());
    assert_eq!(texts(&store, "s", "p").await, None);
    assert!(store.staff("s").await.unwrap().is_none());
    apply(&store, vec![staff("s", false)]).await;
    assert_eq!(persons(&store, "s").await, ["q", "p"]);

    apply(&store, vec![person("q", &["s"])]).await;
    assert!(persons(&store, "t").await.is_empty());
    assert_eq!(texts(&store, "t", "q").await, None);

    apply(&store, vec![Change::NoteDeleted { id: "n2".into() }]).await;
    assert_eq!(texts(&store, "s", "p").await.unwrap(), ["text of n1"]);

    apply(&store, vec![facility(true)]).await;
    assert!(persons(&store, "s").await.is_empty());
    assert!(store.status().await.unwrap().suspended);
    apply(&store, vec![facility(false)]).await;

    apply(&store, vec![Change::PersonEnded { id: "p".into() }]).await;
    assert_eq!(persons(&store, "s").await, ["q"]);
    assert_eq!(texts(&store, "s", "p").await, None);
    // A late note does not bring the person back.
    apply(&store, vec![note("n9", "p", NOW)]).await;
    assert_eq!(texts(&store, "s", "p").await, None);
    // Support taken up again begins with nothing.
    apply(&store, vec![person("p", &["s"])]).await;
    assert_eq!(texts(&store, "s", "p").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_person_whose_support_ended_is_purged_like_a_deleted_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let ended = Change::Person {
        id: "p".into(),
        display_name: Personal::new("name of p"),
        readers: vec!["s".into()],
        support_ended: true,
    };
    apply(&store, vec![ended]).await;
    assert_eq!(persons(&store, "s").await, ["q"]);
    assert_eq!(store.status().await.unwrap().notes, 1);
}

#[tokio::test]
async fn a_person_added_and_ended_in_one_go_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let changes = vec![
        staff("s", false),
        person("p", &["s"]),
        note("n1", "p", NOW),
        Change::PersonEnded { id: "p".into() },
        person("p", &["s"]),
        note("n2", "p", NOW),
    ];
    apply(&store, changes).await;
    assert_eq!(texts(&store, "s", "p").await.unwrap(), ["text of n2"]);
    assert_eq!(store.status().await.unwrap().notes, 1);
}

#[tokio::test]
async fn notices_are_for_those_they_are_meant_for_and_end_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let changes = vec![
        notice("public", false, None),
        notice("members", true, Some(NOW + 100)),
        notice("over", false, Some(NOW)),
    ];
    apply(&store, changes).await;
    let ids = async |user, now| {
        let notices = store.notices(user, now).await.unwrap();
        notices
            .into_iter()
            .map(|notice| notice.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(None, NOW).await, ["public"]);
    assert_eq!(ids(Some("s"), NOW).await, ["members", "public"]);
    assert_eq!(ids(Some("s"), NOW + 100).await, ["public"]);
    assert_eq!(ids(Some("stranger"), NOW).await, ["public"]);
    apply(&store, vec![staff("s", true)]).await;
    assert_eq!(ids(Some("s"), NOW).await, ["public"]);
}

#[tokio::test]
async fn nothing_readable_reaches_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let planted = Change::Note {
        id: "note-id-8731".into(),
        person: "p".into(),
        author: "author-id-8731".into(),
        author_name: Personal::new("佐藤看護師"),
        role: "role-8731".into(),
        time: NOW,
        text: Personal::new("血圧 128/76、夜間せん妄あり"),
        attachments: vec![Attachment {
            id: "attachment-8731".into(),
            name: Personal::new("山田花子_退院時サマリー.pdf"),
            ..Attachment::default()
        }],
        signature: Some("signature-8731".into()),
    };
    let person = Change::Person {
        id: "person-id-8731".into(),
        display_name: Personal::new("山田花子"),
        readers: vec!["reader-8731".into()],
        support_ended: false,
    };
    let changes = vec![
        planted,
        person,
        staff("staff-id-8731", false),
        notice("notice-8731", true, None),
    ];
    apply(&store, changes).await;

    let search = |when: &str| {
        let plain = [
            "8731",
            "山田",
            "佐藤",
            "血圧",
            "せん妄",
            "サマリー",
            "name of",
            "text of",
            "title of",
            "staff s",
            "author",
            "やすらぎ",
            "訪問",
            "処方箋",
            "notice",
        ];
        for path in files_below(directory.path()) {
            let bytes = std::fs::read(&path).unwrap();
            // The names of tables and columns are no data.
            let schema = include_bytes!("../src/schema.sql");
            for word in plain {
                let allowed = schema.windows(word.len()).any(|w| w == word.as_bytes());
                let found = bytes.windows(word.len()).any(|w| w == word.as_bytes());
                assert!(!found || allowed, "{word} found in {path:?} {when}");
            }
        }
    };
    search("with the log");
    apply(&store, vec![Change::PersonEnded { id: "p".into() }]).await;
    search("after a purge");
    store.close().await;
    search("after closing");
}

#[tokio::test]
async fn a_store_opened_again_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let position = store.position().await.unwrap();
    assert_eq!(position.as_deref(), Some("9"));
    store.close().await;

    let (store, opened) = open(directory.path());
    assert_eq!(opened, Opened::Resumed);
    assert_eq!(store.position().await.unwrap(), position);
    assert_eq!(persons(&store, "s").await, ["q", "p"]);
    let status = store.status().await.unwrap();
    assert_eq!((status.persons, status.notes), (2, 3));
    assert_eq!(status.caught_up, Some(NOW));
    assert_eq!(status.facility.as_deref(), Some("やすらぎ"));
}

#[tokio::test]
async fn events_that_do_not_follow_the_position_are_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let event = || {
        vec![Event {
            id: "99".into(),
            change: person("r", &["s"]),
        }]
    };
    for after in [None, Some("8".to_owned()), Some("10".to_owned())] {
        let outcome = store.apply(after, event(), NOW).await;
        assert!(matches!(outcome, Err(Error::OutOfStep)), "{outcome:?}");
    }
    assert_eq!(persons(&store, "s").await, ["q", "p"]);
    assert_eq!(store.position().await.unwrap().as_deref(), Some("9"));
}

type Damage = fn(&Path);

#[tokio::test]
async fn a_damaged_store_starts_afresh_instead_of_failing_or_lying() {
    let damages: [(&str, Damage); 8] = [
        ("garbage", |file| {
            std::fs::write(file, vec![0x5a; 20_000]).unwrap()
        }),
        ("cut", |file| {
            let length = std::fs::metadata(file).unwrap().len();
            let file = std::fs::File::options().write(true).open(file).unwrap();
            file.set_len(length / 2).unwrap();
        }),
        ("zeros in the middle", |file| {
            let mut bytes = std::fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle..].fill(0);
            std::fs::write(file, bytes).unwrap();
        }),
        ("another program's database", |file| {
            std::fs::remove_file(file).unwrap();
            let other = rusqlite::Connection::open(file).unwrap();
            other
                .execute_batch("CREATE TABLE other (x); PRAGMA user_version = 1;")
                .unwrap();
        }),
        ("a later version", |file| {
            let other = rusqlite::Connection::open(file).unwrap();
            other.execute_batch("PRAGMA user_version = 77;").unwrap();
        }),
        ("no generation", |file| {
            let other = rusqlite::Connection::open(file).unwrap();
            other
                .execute_batch("DELETE FROM meta WHERE name = 'root';")
                .unwrap();
        }),
        ("another generation", |file| {
            let other = rusqlite::Connection::open(file).unwrap();
            other
                .execute_batch("UPDATE meta SET value = x'0000000000000007' WHERE name = 'root';")
                .unwrap();
        }),
        ("another's key", |file| {
            let other = rusqlite::Connection::open(file).unwrap();
            other
                .execute_batch("UPDATE meta SET value = zeroblob(60) WHERE name = 'general-key';")
                .unwrap();
        }),
    ];
    for (name, damage) in damages {
        let directory = tempfile::tempdir().unwrap();
        furnished(directory.path()).await.close().await;
        damage(&directory.path().join("a/notes.db"));
        let (store, opened) = open(directory.path());
        assert_eq!(opened, Opened::StartedAfresh, "{name}");
        assert_eq!(store.position().await.unwrap(), None, "{name}");
        // And it works.
        apply(&store, vec![staff("s", false), person("p", &["s"])]).await;
        assert_eq!(persons(&store, "s").await, ["p"], "{name}");
    }
}

#[tokio::test]
async fn a_store_under_another_root_starts_afresh() {
    let directory = tempfile::tempdir().unwrap();
    furnished(directory.path()).await.close().await;
    let other = Arc::new(RootsInMemory::default());
    let (store, opened) = Store::open(directory.path(), other, Limits::default()).unwrap();
    let store = store.witnessed(Arc::new(Anybody));
    assert_eq!(opened, Opened::StartedAfresh);
    assert!(persons(&store, "s").await.is_empty());
}

#[tokio::test]
async fn damage_that_shows_only_in_use_starts_the_store_afresh_and_tells_the_follower() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    let other = rusqlite::Connection::open(directory.path().join("a/notes.db")).unwrap();
    other
        .execute("UPDATE persons SET body = zeroblob(64)", [])
        .unwrap();
    drop(other);
    let outcome = store.persons_for("s").await;
    assert!(matches!(outcome, Err(Error::StartedAfresh)), "{outcome:?}");
    // The follower, still at event 9, cannot append to an emptied store.
    let event = vec![Event {
        id: "10".into(),
        change: Change::CaughtUp,
    }];
    let outcome = store.apply(Some("9".into()), event, NOW).await;
    assert!(matches!(outcome, Err(Error::OutOfStep)), "{outcome:?}");
    assert_eq!(store.position().await.unwrap(), None);
}

#[tokio::test]
async fn the_oldest_notes_go_first_when_there_are_too_many_or_too_large_ones() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        notes: 3,
        ..Limits::default()
    };
    let (store, _) = Store::open(directory.path(), roots(), limits).unwrap();
    let store = store.witnessed(Arc::new(Anybody));
    let mut changes = vec![staff("s", false), person("p", &["s"])];
    changes.extend((0..5).map(|n| note(&format!("n{n}"), "p", NOW - n)));
    apply(&store, changes).await;
    let kept = ["text of n0", "text of n1", "text of n2"];
    assert_eq!(texts(&store, "s", "p").await.unwrap(), kept);

    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        bytes: 3000,
        ..Limits::default()
    };
    let (store, _) = Store::open(directory.path(), roots(), limits).unwrap();
    let store = store.witnessed(Arc::new(Anybody));
    let mut changes = vec![staff("s", false), person("p", &["s"])];
    changes.extend((0..9).map(|n| note(&format!("n{n}"), "p", NOW - n)));
    apply(&store, changes).await;
    let status = store.status().await.unwrap();
    assert!(status.bytes <= 3000 && status.notes >= 2, "{status:?}");
    assert_eq!(texts(&store, "s", "p").await.unwrap()[0], "text of n0");
}

#[tokio::test]
async fn notes_grow_old_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let changes = vec![
        staff("s", false),
        person("p", &["s"]),
        note("too old", "p", NOW - 30 * DAY - 1),
        note("old", "p", NOW - 30 * DAY),
        note("new", "p", NOW),
    ];
    apply(&store, changes).await;
    assert_eq!(
        texts(&store, "s", "p").await.unwrap(),
        ["text of new", "text of old"]
    );
    store.tidy(NOW + 1).await.unwrap();
    assert_eq!(texts(&store, "s", "p").await.unwrap(), ["text of new"]);
    assert_eq!(store.status().await.unwrap().notes, 1);
}

#[tokio::test]
async fn an_erased_store_is_empty_and_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = furnished(directory.path()).await;
    store.erase().await.unwrap();
    assert_eq!(store.position().await.unwrap(), None);
    assert!(persons(&store, "s").await.is_empty());
    apply(&store, vec![staff("s", false), person("p", &["s"])]).await;
    assert_eq!(persons(&store, "s").await, ["p"]);
}

#[tokio::test]
async fn the_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("notes");
    let _store = furnished(&inner).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    assert_eq!(mode(&inner.join("a")), 0o700);
    let files = files_below(&inner);
    assert!(files.len() >= 2);
    for file in files {
        assert_eq!(mode(&file), 0o600);
    }
}
