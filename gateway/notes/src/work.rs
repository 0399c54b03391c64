//! Holds the work for what is out of reach against the work for what does not exist: counted, not timed.

use std::path::Path;
use std::sync::Arc;

use crate::database::Database;
use crate::file;
use crate::key::{Keyring, Kind, OPENED, Wrapping};
use crate::{Attachment, Change, Event, KeyRoots as _, Limits, Personal, Role, RootsInMemory};

const NOW: i64 = 1_800_000_000;

pub(crate) fn filled(directory: &Path) -> Database {
    let root = RootsInMemory::default().renew(0).unwrap();
    let keys = Keyring::generate(Arc::new(Wrapping::of(&root).unwrap())).unwrap();
    let mut database = Database::create(directory, keys, Limits::default()).unwrap();
    let staff = |id: &str| Change::Staff {
        id: id.into(),
        display_name: Personal::new("staff"),
        role: Role::Staff,
        suspended: false,
    };
    let mut changes = vec![staff("s"), staff("t")];
    for (person, reader) in [("mine", "s"), ("theirs", "t"), ("other", "t")] {
        changes.push(Change::Person {
            id: person.into(),
            display_name: Personal::new(format!("name of {person}")),
            readers: vec![reader.into()],
            support_ended: false,
        });
        for number in 0..5 {
            changes.push(Change::Note {
                id: format!("{person}-{number}"),
                person: person.into(),
                author: "t".into(),
                author_name: Personal::new("staff"),
                role: "看護師".into(),
                time: NOW - number,
                text: Personal::new("text"),
                attachments: vec![Attachment {
                    id: format!("a-{person}-{number}"),
                    name: Personal::new("file.txt"),
                    media_type: "text/plain".into(),
                    size: 9,
                    sha256: "ab".repeat(32),
                }],
                signature: None,
            });
        }
    }
    let events: Vec<Event> = (1..)
        .zip(changes)
        .map(|(id, change)| Event {
            id: id.to_string(),
            change,
        })
        .collect();
    database.apply(&events, NOW).unwrap();
    database
}

/// How often something is opened meanwhile.
fn opened(work: impl FnOnce()) -> u64 {
    let before = OPENED.with(std::cell::Cell::get);
    work();
    OPENED.with(std::cell::Cell::get) - before
}

#[test]
fn what_is_out_of_reach_takes_the_work_of_what_does_not_exist() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = filled(directory.path());
    // Whatever a missing id's tag happens to be, first, last or in between.
    let missing: Vec<String> = (0..40).map(|number| format!("missing-{number}")).collect();
    let out_of_reach = opened(|| {
        assert!(
            database
                .notes_of("s", "theirs", 50, None)
                .unwrap()
                .is_none()
        );
    });
    assert!(out_of_reach >= 3, "staff, key, row: {out_of_reach}");
    for id in &missing {
        let nowhere = opened(|| {
            assert!(database.notes_of("s", id, 50, None).unwrap().is_none());
        });
        assert_eq!(nowhere, out_of_reach, "notes of {id}");
    }
    let hidden = opened(|| {
        let tag = database.keys.tag(Kind::Person, "theirs");
        assert!(database.readable("s", &tag).unwrap().is_none());
    });
    let of_attachment = opened(|| {
        assert!(database.attachment("s", "a-theirs-0").unwrap().is_none());
    });
    assert!(of_attachment >= hidden, "the person's row is opened");
    for id in &missing {
        let nowhere = opened(|| {
            assert!(database.attachment("s", id).unwrap().is_none());
        });
        assert_eq!(nowhere, of_attachment, "attachment {id}");
    }
    // A colleague's note asked for under a person of one's own.
    let theirs = opened(|| {
        assert!(database.note_of("s", "mine", "theirs-0").unwrap().is_none());
    });
    let nowhere = opened(|| {
        assert!(database.note_of("s", "mine", "missing").unwrap().is_none());
    });
    assert_eq!(theirs, nowhere);
    let page = database.notes_of("s", "mine", 50, None).unwrap().unwrap();
    assert_eq!(page.notes.len(), 5, "what is permitted is read");
}

/// A connection as those have that read beside the thread that writes.
fn reader_of(database: &Database) -> Database {
    let (connection, keys) =
        file::open_to_read(&database.directory, database.keys.wrapping()).unwrap();
    Database::to_read(&database.directory, connection, keys)
}

/// One reading of a moment of its own.
fn read<T>(reader: &Database, work: impl FnOnce() -> T) -> T {
    reader.connection.execute_batch("BEGIN").unwrap();
    let opened = reader.opened.as_ref().unwrap();
    opened.at_this_moment(&reader.connection).unwrap();
    let answer = work();
    reader.connection.execute_batch("COMMIT").unwrap();
    answer
}

#[test]
fn what_others_have_opened_makes_nothing_quicker_for_whom_it_is_out_of_reach() {
    let directory = tempfile::tempdir().unwrap();
    let database = filled(directory.path());
    let reader = reader_of(&database);
    // Everybody is open already, and it shows to whoever may read.
    let count = |user: &str, person: &str| {
        let open = || {
            let page = reader.notes_of(user, person, 50, None).unwrap();
            page.map(|page| page.notes.len())
        };
        let mut found = None;
        let times = opened(|| found = read(&reader, open));
        (times, found)
    };
    for user in ["s", "t"] {
        read(&reader, || reader.persons_for(user)).unwrap();
        count(user, "missing");
    }
    assert_eq!(count("t", "theirs"), (5, Some(5)), "only the notes");
    let hidden = count("s", "theirs");
    assert_eq!(hidden, (2, None), "the key and the row");
    for number in 0..40 {
        assert_eq!(count("s", &format!("missing-{number}")), hidden);
    }
}

#[test]
fn what_is_open_does_not_outlive_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut database = filled(directory.path());
    let reader = reader_of(&database);
    let sees = |person: &str| {
        let page = read(&reader, || reader.notes_of("s", person, 50, None)).unwrap();
        page.map(|page| (page.notes.len(), page.unread))
    };
    assert_eq!(sees("mine"), Some((5, 5)));
    assert_eq!(sees("mine"), Some((5, 5)));
    assert!(database.mark_read("s", "mine", i64::MAX).unwrap());
    assert_eq!(sees("mine"), Some((5, 0)));
    let mut apply = |id: &str, change| {
        let id = id.to_owned();
        database.apply(&[Event { id, change }], NOW).unwrap();
    };
    let readers = |readers: &[&str]| Change::Person {
        id: "mine".into(),
        display_name: Personal::new("name of mine"),
        readers: readers.iter().map(|&reader| reader.to_owned()).collect(),
        support_ended: false,
    };
    apply("x1", readers(&["t"]));
    assert_eq!(sees("mine"), None, "withdrawn from this reader");
    apply("x2", readers(&["s"]));
    assert_eq!(sees("mine"), Some((5, 0)));
    apply(
        "x3",
        Change::Staff {
            id: "s".into(),
            display_name: Personal::new("staff"),
            role: Role::Staff,
            suspended: true,
        },
    );
    assert_eq!(sees("mine"), None, "suspended");
}
