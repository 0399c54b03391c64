//! Holds the work for what is out of reach against the work for what does not exist: counted, not timed.

use std::path::Path;
use std::sync::Arc;

use crate::database::Database;
use crate::key::{Keyring, Kind, OPENED, Wrapping};
use crate::{Attachment, Change, Event, KeyRoots as _, Limits, Personal, Role, RootsInMemory};

const NOW: i64 = 1_800_000_000;

fn filled(directory: &Path) -> Database {
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
