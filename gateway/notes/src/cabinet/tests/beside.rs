//! A second database beside the one that is read: what readers see meanwhile, and cuts at each step.

use super::*;

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| planted(name)[1].clone()).collect()
}

fn listed(cabinet: &Cabinet, user: &str) -> Vec<String> {
    contents(cabinet, user).into_keys().collect()
}

#[test]
fn readers_keep_what_they_had_until_the_second_database_is_complete() {
    let mut scene = Scene::furnished();
    let stolen = copied(scene.disk.path());
    scene.cabinet.begin_rebuild().unwrap();
    assert_eq!(scene.cabinet.position().unwrap(), None);
    assert_eq!(scene.cabinet.rebuilding().unwrap().notes, Some(0));
    assert_eq!(listed(&scene.cabinet, "s"), ids(&["p", "q"]));
    // p is no longer among what the city has; r is new.
    let new = [
        staff("s", false),
        person("q", &["s", "t"]),
        note("q", 1),
        person("r", &["s"]),
        note("r", 1),
    ];
    scene.apply(100, new);
    assert_eq!(scene.cabinet.rebuilding().unwrap().notes, Some(2));
    assert_eq!(listed(&scene.cabinet, "s"), ids(&["p", "q"]));
    scene.apply(110, [Change::CaughtUp]);
    assert_eq!(listed(&scene.cabinet, "s"), ids(&["q", "r"]));
    let standing = scene.cabinet.rebuilding().unwrap();
    assert_eq!((standing.notes, standing.renewal_due), (None, false));
    assert_eq!(scene.cabinet.position().unwrap().as_deref(), Some("000110"));
    // What only the old one had is gone from the disk, and for a copy of it too.
    let kept = NAMES.map(|name| scene.disk.path().join(name).exists());
    assert_eq!(kept, [false, true]);
    assert!(!opens_anything(stolen.path(), &scene.roots.inner));
    // And again, in the other direction.
    scene.cabinet.begin_rebuild().unwrap();
    scene.apply(200, furniture());
    assert_eq!(listed(&scene.cabinet, "s"), ids(&["p", "q"]));
}

#[test]
fn whatever_takes_a_right_away_counts_for_both_at_once_and_nothing_gives_one_early() {
    let mut scene = Scene::furnished();
    scene.cabinet.begin_rebuild().unwrap();
    scene.apply(100, [staff("s", false), staff("t", false)]);
    // Narrowed for t; u would be new, and is not let in before the whole is there.
    scene.apply(102, [staff("u", false), person("q", &["s", "u"])]);
    assert_eq!(listed(&scene.cabinet, "t"), Vec::<String>::new());
    assert_eq!(listed(&scene.cabinet, "u"), Vec::<String>::new());
    assert_eq!(listed(&scene.cabinet, "s"), ids(&["p", "q"]));
    scene.apply(104, [note_deleted("p", 1)]);
    assert_eq!(contents(&scene.cabinet, "s")[&planted("p")[1]].len(), 1);
    let stolen = copied(scene.disk.path());
    let sealed = sealed_bytes_of(&scene.cabinet, "p");
    scene.apply(105, [person_ended("p")]);
    assert_eq!(listed(&scene.cabinet, "s"), ids(&["q"]));
    let left = raw_bytes(scene.disk.path());
    assert!(sealed.iter().all(|bytes| !contains(&left, bytes)));
    assert!(!opens_anything(stolen.path(), &scene.roots.inner));
    scene.apply(106, [staff("s", true)]);
    assert_eq!(listed(&scene.cabinet, "s"), Vec::<String>::new());
    let suspended = Change::Facility {
        id: "f".into(),
        name: "やすらぎ".into(),
        suspended: true,
    };
    scene.apply(107, [staff("s", false), suspended]);
    assert_eq!(listed(&scene.cabinet, "s"), Vec::<String>::new());
    assert!(scene.cabinet.current.status().unwrap().suspended);
}

/// Begun, half filled, a person ended, completed: after a cut at any step the rest can be done, and ends the same.
#[test]
fn after_a_power_cut_at_any_step_of_a_rebuilding_it_goes_on() {
    let mut scene = Scene::furnished();
    let stolen = copied(scene.disk.path());
    let rest = remaining(None);
    scene.roots.shoot("at rest");
    scene.cabinet.begin_rebuild().unwrap();
    for event in rest.chunks(2) {
        let after = scene.cabinet.position().unwrap();
        scene.cabinet.apply(after.as_deref(), event, NOW).unwrap();
    }
    let complete = contents(&scene.cabinet, "s");
    assert_eq!(complete.keys().cloned().collect::<Vec<_>>(), ids(&["q"]));
    let images = scene.roots.taken();
    let steps: BTreeSet<&str> = images.iter().map(|image| image.step.as_str()).collect();
    for step in [
        "beside",
        "rebuilding",
        "switching",
        "switched",
        "old erased",
    ] {
        assert!(steps.contains(step), "{step} in {steps:?}");
    }
    for image in images {
        let step = &image.step;
        let roots = Arc::new(image.roots);
        let keeper: Arc<dyn KeyRoots> = Arc::clone(&roots) as Arc<dyn KeyRoots>;
        let (mut cabinet, opened) =
            Cabinet::open(image.disk.path(), keeper, Limits::default()).unwrap();
        assert_eq!(opened, Opened::Resumed, "{step}");
        // Somebody can be read at any time.
        let found = listed(&cabinet, "s");
        assert!(found == ids(&["p", "q"]) || found == ids(&["q"]), "{step}");
        if cabinet.position().unwrap().as_deref() == Some("000009") {
            // The city says 410 again.
            cabinet.begin_rebuild().unwrap();
        }
        let position = cabinet.position().unwrap();
        let left = remaining(position.as_deref());
        cabinet.apply(position.as_deref(), &left, NOW).unwrap();
        assert_eq!(contents(&cabinet, "s"), complete, "{step}");
        assert!(!opens_anything(stolen.path(), &roots), "{step}");
        assert_eq!(roots.roots().unwrap().len(), 1, "{step}");
        let standing = cabinet.rebuilding().unwrap();
        assert_eq!((standing.notes, standing.renewal_due), (None, false));
    }
}

/// What the city says to whoever begins anew, after a position.
fn remaining(position: Option<&str>) -> Vec<Event> {
    let all = events(
        100,
        [
            staff("s", false),
            person("p", &["s"]),
            note("p", 1),
            person("q", &["s"]),
            person_ended("p"),
            note("q", 1),
            note("q", 7),
            Change::CaughtUp,
        ],
    );
    all.into_iter()
        .filter(|event| position.is_none_or(|at| event.id.as_str() > at))
        .collect()
}

#[test]
fn damage_to_one_of_two_leaves_the_other() {
    for (name, reads) in [("a", false), ("b", true)] {
        let mut scene = Scene::furnished();
        scene.cabinet.begin_rebuild().unwrap();
        scene.apply(100, [staff("s", false), person("q", &["s"])]);
        drop(scene.cabinet);
        let file = scene.disk.path().join(name).join("notes.db");
        fs::write(file, vec![0x5a; 20_000]).unwrap();
        let (mut cabinet, opened) = Scene::opened(scene.disk.path(), &scene.roots);
        assert_eq!(opened, Opened::StartedAfresh);
        assert_eq!(listed(&cabinet, "s").len(), if reads { 2 } else { 1 });
        let position = cabinet.position().unwrap();
        let expected = if reads { "000009" } else { "000101" };
        assert_eq!(position.as_deref(), Some(expected));
        let more = events(300, [person("z", &["s"])]);
        cabinet.apply(position.as_deref(), &more, NOW).unwrap();
    }
}
