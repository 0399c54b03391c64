//! Power cuts: the disk and the keeper of roots are copied at every step, and each copy is opened as after a cut there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{Change, Personal, Role, Root, RootFault, RootsInMemory};

const NOW: i64 = 1_800_000_000;

/// What the machine would be found with after a power cut at this moment.
struct Image {
    step: String,
    disk: TempDir,
    roots: RootsInMemory,
}

/// Roots that are photographed, together with the disk, before and after everything that is done with them.
struct Watched {
    inner: RootsInMemory,
    disk: PathBuf,
    images: Mutex<Vec<Image>>,
    fails: Mutex<bool>,
}

impl Watched {
    fn new(disk: &Path) -> Arc<Self> {
        Arc::new(Self {
            inner: RootsInMemory::default(),
            disk: disk.to_owned(),
            images: Mutex::default(),
            fails: Mutex::default(),
        })
    }

    fn shoot(&self, step: &str) {
        let image = Image {
            step: step.to_owned(),
            disk: copied(&self.disk),
            roots: self.inner.snapshot(),
        };
        self.images.lock().unwrap().push(image);
    }

    fn taken(&self) -> Vec<Image> {
        std::mem::take(&mut *self.images.lock().unwrap())
    }

    fn check(&self, action: &'static str) -> Result<(), RootFault> {
        if *self.fails.lock().unwrap() {
            let source = Box::new(io::Error::other("no TPM"));
            return Err(RootFault { action, source });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

impl KeyRoots for Watched {
    fn roots(&self) -> Result<Vec<Root>, RootFault> {
        self.inner.roots()
    }

    fn renew(&self, from: u64) -> Result<Root, RootFault> {
        self.check("renew")?;
        self.shoot("before renewing");
        let root = self.inner.renew(from);
        self.shoot("after renewing");
        root
    }

    fn keep_only(&self, generation: u64) -> Result<(), RootFault> {
        self.check("forget")?;
        self.shoot("before forgetting");
        let done = self.inner.keep_only(generation);
        self.shoot("after forgetting");
        done
    }
}

fn copied(from: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let (path, copied) = (entry.path(), to.join(entry.file_name()));
            if path.is_dir() {
                copy(&path, &copied);
            } else {
                fs::copy(path, copied).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
    to
}

fn raw_bytes(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        bytes.extend(entry.file_name().into_encoded_bytes());
        if entry.path().is_dir() {
            bytes.extend(raw_bytes(&entry.path()));
        } else {
            bytes.extend(fs::read(entry.path()).unwrap());
        }
    }
    bytes
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

/// What is planted about a person: in its name, its id, the notes' ids, and words of the notes that are searched for.
fn planted(person: &str) -> [String; 5] {
    [
        format!("利用者の氏名{person}"),
        format!("city-person-id-{person}"),
        format!("city-note-id-{person}"),
        format!("褥瘡の処置{person}"),
        format!("アムロジピン{person}"),
    ]
}

fn person(name: &str, readers: &[&str]) -> Change {
    let [display_name, id, ..] = planted(name);
    Change::Person {
        id,
        display_name: Personal::new(display_name),
        readers: readers.iter().map(|&reader| reader.to_owned()).collect(),
        support_ended: false,
    }
}

fn person_ended(name: &str) -> Change {
    let [_, id, ..] = planted(name);
    Change::PersonEnded { id }
}

fn note(person: &str, number: usize) -> Change {
    let [_, id, note, first, second] = planted(person);
    Change::Note {
        id: format!("{note}-{number}"),
        person: id,
        author: "author-id".into(),
        author_name: Personal::new("記録した看護師"),
        role: "訪問看護師".into(),
        time: NOW - 100 + i64::try_from(number).unwrap(),
        text: Personal::new(format!("{first}、{second}を{number}錠")),
        attachments: vec![],
        signature: None,
    }
}

fn note_deleted(person: &str, number: usize) -> Change {
    let [_, _, note, ..] = planted(person);
    Change::NoteDeleted {
        id: format!("{note}-{number}"),
    }
}

fn staff(user: &str, suspended: bool) -> Change {
    Change::Staff {
        id: user.to_owned(),
        display_name: Personal::new("職員の氏名"),
        role: Role::Staff,
        suspended,
    }
}

fn events(first: usize, changes: impl IntoIterator<Item = Change>) -> Vec<Event> {
    let numbered = (first..).zip(changes);
    numbered
        .map(|(id, change)| Event {
            id: format!("{id:06}"),
            change,
        })
        .collect()
}

/// By person, the ids of its notes as this user reads them.
type Contents = BTreeMap<String, BTreeSet<String>>;

fn contents(cabinet: &Cabinet, user: &str) -> Contents {
    let persons = cabinet.current.persons_for(user).unwrap();
    let notes = |person: &str| {
        let page = cabinet.current.notes_of(user, person, 1000, None);
        let page = page.unwrap().expect("it is listed");
        page.notes.into_iter().map(|note| note.id).collect()
    };
    persons
        .into_iter()
        .map(|person| (person.id.clone(), notes(&person.id)))
        .collect()
}

struct Scene {
    disk: TempDir,
    roots: Arc<Watched>,
    cabinet: Cabinet,
}

impl Scene {
    fn new() -> Self {
        let disk = tempfile::tempdir().unwrap();
        let roots = Watched::new(disk.path());
        let cabinet = Self::opened(disk.path(), &roots).0;
        Self {
            disk,
            roots,
            cabinet,
        }
    }

    fn opened(disk: &Path, roots: &Arc<Watched>) -> (Cabinet, Opened) {
        let keeper: Arc<dyn KeyRoots> = Arc::clone(roots) as Arc<dyn KeyRoots>;
        let (mut cabinet, opened) = Cabinet::open(disk, keeper, Limits::default()).unwrap();
        let watched = Arc::clone(roots);
        cabinet.on_step = Some(Box::new(move |step| watched.shoot(step)));
        (cabinet, opened)
    }

    /// p and q with two notes each, read by s; q also by t.
    fn furnished() -> Self {
        let mut scene = Self::new();
        scene.apply(1, furniture());
        scene.roots.taken();
        scene
    }

    fn apply(&mut self, first: usize, changes: impl IntoIterator<Item = Change>) {
        let after = self.cabinet.position().unwrap();
        self.cabinet
            .apply(after.as_deref(), &events(first, changes), NOW)
            .unwrap();
    }
}

fn furniture() -> Vec<Change> {
    vec![
        staff("s", false),
        staff("t", false),
        person("p", &["s"]),
        person("q", &["s", "t"]),
        note("p", 1),
        note("p", 2),
        note("q", 1),
        note("q", 2),
        Change::CaughtUp,
    ]
}

/// Everything that a thief has: the stolen disk, and whatever the TPM still gives. Is any key of the stolen disk opened?
fn opens_anything(stolen: &Path, roots: &RootsInMemory) -> bool {
    let wrappings = wrappings(roots).unwrap();
    // His own copy of the program, so that nothing here has to be right for the test to be.
    let copy = copied(stolen);
    NAMES.iter().any(|name| {
        let file = copy.path().join(name).join("notes.db");
        if !file.exists() {
            return false;
        }
        let connection = rusqlite::Connection::open(file).unwrap();
        let mut query = connection.prepare("SELECT tag, key FROM persons").unwrap();
        let keys = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .collect::<Result<Vec<(crate::key::Tag, Vec<u8>)>, _>>()
            .unwrap();
        let person = keys.iter().any(|(tag, key)| {
            wrappings
                .iter()
                .any(|root| root.rewrap_person(root, tag, key).is_ok())
        });
        person || file::open(&copy.path().join(name), &wrappings).is_ok_and(|open| open.is_some())
    })
}

fn sealed_bytes_of(cabinet: &Cabinet, name: &str) -> Vec<Vec<u8>> {
    let [_, id, ..] = planted(name);
    let tag = cabinet.current.keys.tag(crate::key::Kind::Person, &id);
    let mut found = Vec::new();
    for sql in [
        "SELECT key FROM persons WHERE tag = ?1",
        "SELECT body FROM persons WHERE tag = ?1",
        "SELECT body FROM notes WHERE person = ?1",
        "SELECT body FROM segments WHERE person = ?1",
    ] {
        let mut query = cabinet.current.connection.prepare(sql).unwrap();
        let rows = query.query_map([tag], |row| row.get::<_, Vec<u8>>(0));
        found.extend(rows.unwrap().map(Result::unwrap));
    }
    found
}

#[test]
fn a_purge_leaves_nothing_on_the_disk_and_a_stolen_copy_of_it_opens_no_more() {
    let mut scene = Scene::furnished();
    let sealed = sealed_bytes_of(&scene.cabinet, "p");
    assert!(sealed.len() >= 4, "key, name, notes and search words");
    let before = raw_bytes(scene.disk.path());
    assert!(sealed.iter().all(|bytes| contains(&before, bytes)));
    let stolen = copied(scene.disk.path());
    assert!(opens_anything(stolen.path(), &scene.roots.inner));

    scene.apply(20, [person_ended("p"), note("q", 3)]);

    let after = raw_bytes(scene.disk.path());
    for bytes in &sealed {
        assert!(!contains(&after, bytes), "something sealed is left");
    }
    for word in planted("p").iter().chain(&planted("q")) {
        assert!(!contains(&after, word.as_bytes()), "{word} is readable");
        assert!(!contains(&before, word.as_bytes()), "{word} was readable");
    }
    assert!(!opens_anything(stolen.path(), &scene.roots.inner));
    assert_eq!(scene.roots.inner.roots().unwrap().len(), 1);
    assert_eq!(contents(&scene.cabinet, "s").len(), 1);
}

#[test]
fn many_purges_in_one_go_cost_one_renewal() {
    let mut scene = Scene::furnished();
    let generation = scene.cabinet.rebuilding().unwrap().generation;
    scene.apply(20, [person_ended("p"), person_ended("q")]);
    let standing = scene.cabinet.rebuilding().unwrap();
    assert_eq!(standing.generation, generation + 1);
    assert!(!standing.renewal_due);
    scene.apply(30, [person_ended("p"), person("r", &["s"])]);
    let after = scene.cabinet.rebuilding().unwrap().generation;
    assert_eq!(after, generation + 1, "who is not there costs nothing");
}

#[test]
fn after_a_power_cut_at_any_step_of_a_purge_it_is_completed_and_nothing_else_is_lost() {
    let mut scene = Scene::furnished();
    let before = contents(&scene.cabinet, "s");
    let sealed = sealed_bytes_of(&scene.cabinet, "p");
    let stolen = copied(scene.disk.path());
    let batch = || events(20, [person_ended("p"), note("q", 3)]);
    let position = scene.cabinet.position().unwrap();
    scene
        .cabinet
        .apply(position.as_deref(), &batch(), NOW)
        .unwrap();
    let after = contents(&scene.cabinet, "s");
    let mut without_p = before.clone();
    without_p.remove(&planted("p")[1]);
    let images = scene.roots.taken();
    assert!(images.len() >= 8, "{}", images.len());
    let mut destroyed = false;
    for image in images {
        destroyed |= image.step == "keys destroyed";
        let step = &image.step;
        let roots = Arc::new(image.roots);
        let keeper: Arc<dyn KeyRoots> = Arc::clone(&roots) as Arc<dyn KeyRoots>;
        let (mut cabinet, opened) =
            Cabinet::open(image.disk.path(), keeper, Limits::default()).unwrap();
        assert_eq!(opened, Opened::Resumed, "{step}");
        let found = contents(&cabinet, "s");
        let said = cabinet.position().unwrap();
        if said == position {
            let expected = if destroyed { &without_p } else { &before };
            assert_eq!(&found, expected, "{step}");
        } else {
            assert_eq!(found, after, "{step}");
        }
        if destroyed {
            // Completed by the opening alone, before the city says it again.
            assert!(!cabinet.rebuilding().unwrap().renewal_due, "{step}");
            assert!(!opens_anything(stolen.path(), &roots), "{step}");
            let left = raw_bytes(image.disk.path());
            for bytes in &sealed {
                assert!(!contains(&left, bytes), "{step}");
            }
        }
        if said == position {
            cabinet.apply(said.as_deref(), &batch(), NOW).unwrap();
            assert_eq!(contents(&cabinet, "s"), after, "{step}");
            assert!(!opens_anything(stolen.path(), &roots), "{step}");
        }
        assert_eq!(roots.roots().unwrap().len(), 1, "{step}");
    }
    assert!(destroyed);
}

#[test]
fn while_the_tpm_fails_the_feed_goes_on_and_the_renewal_is_made_up_for() {
    let mut scene = Scene::furnished();
    let stolen = copied(scene.disk.path());
    *scene.roots.fails.lock().unwrap() = true;
    scene.apply(20, [person_ended("p"), note("q", 3)]);
    assert_eq!(contents(&scene.cabinet, "s").len(), 1);
    assert!(scene.cabinet.rebuilding().unwrap().renewal_due);
    assert!(opens_anything(stolen.path(), &scene.roots.inner));
    // Not at each event: the keeper would be waited for each time.
    *scene.roots.fails.lock().unwrap() = false;
    scene.apply(30, [note("q", 4)]);
    assert!(scene.cabinet.rebuilding().unwrap().renewal_due);
    scene.cabinet.not_before = None;
    scene.cabinet.tidy(NOW + 60).unwrap();
    assert!(!scene.cabinet.rebuilding().unwrap().renewal_due);
    assert!(!opens_anything(stolen.path(), &scene.roots.inner));
    // So does the next start, whatever the time.
    *scene.roots.fails.lock().unwrap() = true;
    scene.apply(40, [person_ended("q")]);
    drop(scene.cabinet);
    *scene.roots.fails.lock().unwrap() = false;
    let (cabinet, opened) = Scene::opened(scene.disk.path(), &scene.roots);
    assert_eq!(opened, Opened::Resumed);
    assert!(!cabinet.rebuilding().unwrap().renewal_due);
}

#[test]
fn renewals_that_come_too_often_wait_and_are_made_together() {
    let mut scene = Scene::new();
    scene.apply(1, [staff("s", false)]);
    let mut number = 10;
    let mut purge = |scene: &mut Scene| {
        number += 10;
        scene.apply(number, [person("p", &["s"]), note("p", 1)]);
        scene.apply(number + 5, [person_ended("p")]);
    };
    for _ in 0..40 {
        purge(&mut scene);
        assert!(contents(&scene.cabinet, "s").is_empty());
    }
    let standing = scene.cabinet.rebuilding().unwrap();
    assert!(standing.renewal_due && standing.generation < 30);
    scene.cabinet.tidy(NOW + 3600).unwrap();
    let later = scene.cabinet.rebuilding().unwrap();
    assert!(!later.renewal_due);
    assert_eq!(later.generation, standing.generation + 1);
}

#[test]
fn a_lost_or_foreign_root_starts_the_store_afresh_and_none_is_no_error() {
    let scene = Scene::furnished();
    let disk = copied(scene.disk.path());
    for roots in [RootsInMemory::default(), {
        let other = RootsInMemory::default();
        other.renew(0).unwrap();
        other
    }] {
        let disk = copied(disk.path());
        let (mut cabinet, opened) =
            Cabinet::open(disk.path(), Arc::new(roots), Limits::default()).unwrap();
        assert_eq!(opened, Opened::StartedAfresh);
        assert_eq!(cabinet.position().unwrap(), None);
        cabinet.apply(None, &events(1, furniture()), NOW).unwrap();
        assert_eq!(contents(&cabinet, "s").len(), 2);
    }
}

#[test]
fn an_erased_store_leaves_nothing_that_a_copy_made_before_could_open() {
    let mut scene = Scene::furnished();
    let stolen = copied(scene.disk.path());
    scene.cabinet.start_afresh().unwrap();
    assert!(!opens_anything(stolen.path(), &scene.roots.inner));
    assert_eq!(scene.cabinet.position().unwrap(), None);
}

#[test]
fn a_deleted_note_leaves_nothing_in_any_file() {
    let mut scene = Scene::furnished();
    let bodies = |cabinet: &Cabinet| {
        let mut query = cabinet
            .current
            .connection
            .prepare("SELECT body FROM notes UNION ALL SELECT body FROM segments")
            .unwrap();
        let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        rows.map(Result::unwrap).collect::<BTreeSet<_>>()
    };
    let before = bodies(&scene.cabinet);
    scene.apply(20, [note_deleted("p", 1)]);
    let after = bodies(&scene.cabinet);
    let gone: Vec<_> = before.difference(&after).collect();
    assert!(gone.len() >= 2, "the note, and the words to search for");
    let left = raw_bytes(scene.disk.path());
    assert!(gone.iter().all(|bytes| !contains(&left, bytes)));
    assert!(after.iter().all(|bytes| contains(&left, bytes)));
}

#[test]
fn rows_copied_from_one_person_to_another_are_not_believed() {
    let scene = Scene::furnished();
    // Someone with the disk gives p's notes to q, whom t may read.
    let tag = |name: &str| {
        let [_, id, ..] = planted(name);
        scene
            .cabinet
            .current
            .keys
            .tag(crate::key::Kind::Person, &id)
    };
    let database = &scene.cabinet.current;
    database
        .connection
        .execute(
            "UPDATE notes SET person = ?1 WHERE person = ?2",
            [tag("q"), tag("p")],
        )
        .unwrap();
    let [_, id, ..] = planted("q");
    assert!(matches!(
        database.notes_of("t", &id, 10, None),
        Err(Error::Damaged)
    ));
}

mod beside;
mod deleted;
mod property;
