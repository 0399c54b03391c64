//! A deleted note: what a thief has who copied the disk before, and what is left of everything else of its person.

use super::*;
use crate::key::{Cipher, Kind, Tag, identity};
use crate::search_segments::{search_cipher, segment_identity};
use crate::writing::{note_identity, person_cipher};

fn tag_of(cabinet: &Cabinet, name: &str) -> Tag {
    let [_, id, ..] = planted(name);
    cabinet.current.keys.tag(Kind::Person, &id)
}

/// The person's key as this box has it now.
fn key_of(cabinet: &Cabinet, name: &str) -> Cipher {
    let Database {
        connection, keys, ..
    } = &cabinet.current;
    let tag = tag_of(cabinet, name);
    person_cipher(connection, keys, &tag).unwrap().unwrap()
}

/// How much of a person's in a stolen copy of the disk this key opens: name, notes, segments.
fn opened_with(stolen: &Path, person: &Tag, key: &Cipher) -> usize {
    let copy = copied(stolen);
    let connection = rusqlite::Connection::open(copy.path().join("a/notes.db")).unwrap();
    let rows = |sql: &str| {
        let mut query = connection.prepare(sql).unwrap();
        let rows = query.query_map([person], |row| {
            Ok((
                row.get::<_, Tag>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Vec<u8>>(2)?,
            ))
        });
        rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    let names = rows("SELECT tag, 0, body FROM persons WHERE tag = ?1");
    let notes = rows("SELECT tag, time, body FROM notes WHERE person = ?1");
    let segments = rows("SELECT person, 0, body FROM segments WHERE person = ?1");
    let search = search_cipher(key).unwrap();
    let names = names.iter().filter(|(tag, _, body)| {
        let bound_to = identity(b"person", &[tag]);
        key.open(&bound_to, body).is_ok()
    });
    let notes = notes.iter().filter(|(tag, time, body)| {
        let bound_to = note_identity(tag, person, *time);
        key.open(&bound_to, body).is_ok()
    });
    let segments = segments
        .iter()
        .filter(|(_, _, body)| search.open(&segment_identity(person), body).is_ok());
    names.count() + notes.count() + segments.count()
}

#[test]
fn a_copy_of_the_disk_from_before_a_note_was_deleted_opens_no_more_with_this_very_box() {
    let mut scene = Scene::furnished();
    let stolen = copied(scene.disk.path());
    let person = tag_of(&scene.cabinet, "p");
    assert!(opens_anything(stolen.path(), &scene.roots.inner));
    let before = key_of(&scene.cabinet, "p");
    assert_eq!(
        opened_with(stolen.path(), &person, &before),
        4,
        "the name, two notes, what is searched: the thief would find them"
    );

    scene.apply(20, [note_deleted("p", 1)]);

    assert!(!opens_anything(stolen.path(), &scene.roots.inner));
    let now = key_of(&scene.cabinet, "p");
    assert_eq!(opened_with(stolen.path(), &person, &now), 0);
    // Of nobody else was anything sealed anew, and all is there that was not deleted.
    let other = tag_of(&scene.cabinet, "q");
    let theirs = key_of(&scene.cabinet, "q");
    assert_eq!(opened_with(stolen.path(), &other, &theirs), 4);
    let left = contents(&scene.cabinet, "s");
    assert_eq!(left[&planted("p")[1]].len(), 1);
    assert_eq!(left[&planted("q")[1]].len(), 2);
}

#[test]
fn what_is_left_of_the_person_is_read_searched_and_marked_as_before() {
    let mut scene = Scene::furnished();
    let [_, id, _, word, _] = planted("p");
    assert!(scene.cabinet.current.mark_read("s", &id, i64::MAX).unwrap());
    scene.apply(20, [note("p", 3)]);
    let standing = |cabinet: &Cabinet| {
        let page = cabinet.current.notes_of("s", &id, 9, None);
        let page = page.unwrap().unwrap();
        let texts = page.notes.iter().map(|note| note.text.reveal().to_owned());
        (texts.collect::<Vec<_>>(), page.unread)
    };
    let (texts, unread) = standing(&scene.cabinet);
    assert_eq!((texts.len(), unread), (3, 1));
    scene.apply(30, [note_deleted("p", 1)]);
    assert_eq!(standing(&scene.cabinet), (texts[..2].to_vec(), 1));
    let found = |cabinet: &Cabinet| {
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = cabinet.current.search("s", &word, 9, deadline).unwrap();
        found.unwrap().notes.len()
    };
    assert_eq!(found(&scene.cabinet), 2);
    // Twice, and after a restart.
    scene.apply(40, [note_deleted("p", 3)]);
    drop(scene.cabinet);
    let (mut cabinet, opened) = Scene::opened(scene.disk.path(), &scene.roots);
    assert_eq!(opened, Opened::Resumed);
    assert_eq!(standing(&cabinet), (texts[1..2].to_vec(), 0));
    assert_eq!(found(&cabinet), 1);
    // A key given anew is destroyed as any other when the person leaves.
    let stolen = copied(scene.disk.path());
    let after = cabinet.position().unwrap();
    let purge = events(50, [person_ended("p")]);
    cabinet.apply(after.as_deref(), &purge, NOW).unwrap();
    assert!(!opens_anything(stolen.path(), &scene.roots.inner));
}

#[test]
fn many_notes_deleted_in_one_go_together_with_a_purge_cost_one_renewal() {
    let mut scene = Scene::furnished();
    let generation = scene.cabinet.rebuilding().unwrap().generation;
    let gone = [
        note_deleted("p", 1),
        note_deleted("q", 1),
        note("p", 7),
        note_deleted("q", 2),
        person_ended("p"),
    ];
    scene.apply(20, gone);
    let standing = scene.cabinet.rebuilding().unwrap();
    assert_eq!(standing.generation, generation + 1);
    assert!(!standing.renewal_due);
    let left = contents(&scene.cabinet, "s");
    assert_eq!(left.len(), 1);
    assert!(left[&planted("q")[1]].is_empty());
    // A note that never was here, or is not any more, costs nothing.
    scene.apply(
        30,
        [note_deleted("q", 1), note("q", 9), note_deleted("q", 9)],
    );
    let after = scene.cabinet.rebuilding().unwrap().generation;
    assert_eq!(after, generation + 1);
}

#[test]
fn after_a_power_cut_at_any_step_of_a_deletion_it_is_completed_and_nothing_else_is_lost() {
    let mut scene = Scene::furnished();
    let before = contents(&scene.cabinet, "s");
    let stolen = copied(scene.disk.path());
    let person = tag_of(&scene.cabinet, "p");
    let batch = || events(20, [note_deleted("p", 1), note("q", 3)]);
    let position = scene.cabinet.position().unwrap();
    scene
        .cabinet
        .apply(position.as_deref(), &batch(), NOW)
        .unwrap();
    let after = contents(&scene.cabinet, "s");
    let mut without = before.clone();
    let [_, id, note, ..] = planted("p");
    without.get_mut(&id).unwrap().remove(&format!("{note}-1"));
    let images = scene.roots.taken();
    assert!(images.len() >= 8, "{}", images.len());
    let mut done = false;
    for image in images {
        done |= image.step == "keys destroyed";
        let step = &image.step;
        let roots = Arc::new(image.roots);
        let keeper: Arc<dyn KeyRoots> = Arc::clone(&roots) as Arc<dyn KeyRoots>;
        let (mut cabinet, opened) =
            Cabinet::open(image.disk.path(), keeper, Limits::default()).unwrap();
        assert_eq!(opened, Opened::Resumed, "{step}");
        let said = cabinet.position().unwrap();
        let found = contents(&cabinet, "s");
        if said != position {
            assert_eq!(found, after, "{step}");
        } else if done {
            assert_eq!(found, without, "{step}");
        } else {
            assert_eq!(found, before, "{step}");
            cabinet.apply(said.as_deref(), &batch(), NOW).unwrap();
            assert_eq!(contents(&cabinet, "s"), after, "{step}");
        }
        // Completed by the opening alone, before the city says it again.
        assert!(!cabinet.rebuilding().unwrap().renewal_due, "{step}");
        assert!(!opens_anything(stolen.path(), &roots), "{step}");
        let key = key_of(&cabinet, "p");
        assert_eq!(opened_with(stolen.path(), &person, &key), 0, "{step}");
        assert_eq!(roots.roots().unwrap().len(), 1, "{step}");
    }
    assert!(done);
}

#[test]
fn a_note_deleted_while_another_store_is_filled_is_gone_from_both_for_good() {
    let mut scene = Scene::furnished();
    let stolen = copied(scene.disk.path());
    let person = tag_of(&scene.cabinet, "p");
    scene.cabinet.begin_rebuild().unwrap();
    let again = furniture().into_iter().take(6);
    scene.apply(20, again);
    scene.apply(30, [note_deleted("p", 1)]);
    let key = key_of(&scene.cabinet, "p");
    assert_eq!(opened_with(stolen.path(), &person, &key), 0);
    assert!(!opens_anything(stolen.path(), &scene.roots.inner));
    assert_eq!(contents(&scene.cabinet, "s")[&planted("p")[1]].len(), 1);
    scene.apply(40, [note("q", 1), note("q", 2), Change::CaughtUp]);
    assert!(scene.cabinet.rebuilding().unwrap().notes.is_none());
    let left = contents(&scene.cabinet, "s");
    assert_eq!(left[&planted("p")[1]].len(), 1);
    assert_eq!(left[&planted("q")[1]].len(), 2);
}
