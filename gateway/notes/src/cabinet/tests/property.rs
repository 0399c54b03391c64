//! Any sequence of batches, cut at any step of any batch.

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Person(u8),
    Note(u8, usize),
    NoteDeleted(u8, usize),
    Ended(u8),
}

#[derive(Clone, Debug)]
enum Batch {
    Steps(Vec<Step>),
    Rebuild,
}

fn batch() -> impl Strategy<Value = Batch> {
    let (person, note) = (0..3_u8, 0..5_usize);
    let step = prop_oneof![
        3 => person.clone().prop_map(Step::Person),
        4 => (person.clone(), note.clone()).prop_map(|(p, n)| Step::Note(p, n)),
        1 => (person.clone(), note).prop_map(|(p, n)| Step::NoteDeleted(p, n)),
        2 => person.prop_map(Step::Ended),
    ];
    prop_oneof![
        5 => prop::collection::vec(step, 1..6).prop_map(Batch::Steps),
        1 => Just(Batch::Rebuild),
    ]
}

type Model = BTreeMap<u8, BTreeSet<usize>>;

fn name(person: u8) -> String {
    format!("x{person}")
}

fn play(model: &mut Model, step: &Step) {
    match step {
        Step::Person(person) => {
            model.entry(*person).or_default();
        }
        Step::Note(person, note) => {
            if let Some(notes) = model.get_mut(person) {
                notes.insert(*note);
            }
        }
        Step::NoteDeleted(person, note) => {
            if let Some(notes) = model.get_mut(person) {
                notes.remove(note);
            }
        }
        Step::Ended(person) => {
            model.remove(person);
        }
    }
}

fn change(step: &Step) -> Change {
    match step {
        Step::Person(of) => person(&name(*of), &["s"]),
        Step::Note(of, number) => note(&name(*of), *number),
        Step::NoteDeleted(of, number) => note_deleted(&name(*of), *number),
        Step::Ended(of) => person_ended(&name(*of)),
    }
}

fn everything(model: &Model) -> Vec<Change> {
    let mut changes = vec![staff("s", false)];
    for (of, notes) in model {
        changes.push(person(&name(*of), &["s"]));
        changes.extend(notes.iter().map(|number| note(&name(*of), *number)));
    }
    changes.push(Change::CaughtUp);
    changes
}

fn expected(model: &Model) -> Contents {
    let note_id = |of: u8, number: &usize| format!("{}-{number}", planted(&name(of))[2]);
    model
        .iter()
        .map(|(of, notes)| {
            let notes = notes.iter().map(|number| note_id(*of, number)).collect();
            (planted(&name(*of))[1].clone(), notes)
        })
        .collect()
}

fn changes(batch: &Batch, model: &Model) -> Vec<Change> {
    match batch {
        Batch::Steps(steps) => steps.iter().map(change).collect(),
        Batch::Rebuild => everything(model),
    }
}

/// Whether this batch ends somebody who was there, so that copies from before must not open afterwards.
fn purges(batch: &Batch, before: &Model) -> bool {
    match batch {
        Batch::Steps(steps) => steps
            .iter()
            .any(|step| matches!(step, Step::Ended(person) if before.contains_key(person))),
        Batch::Rebuild => true,
    }
}

fn run(batches: &[Batch]) {
    let mut scene = Scene::new();
    let mut model = Model::new();
    let mut first = 1;
    scene.apply(first, everything(&model));
    scene.roots.taken();
    for batch in batches {
        first += 100;
        let before = model.clone();
        if let Batch::Steps(steps) = batch {
            steps.iter().for_each(|step| play(&mut model, step));
        }
        let stolen = copied(scene.disk.path());
        let start = scene.cabinet.position().unwrap();
        if matches!(batch, Batch::Rebuild) {
            scene.cabinet.begin_rebuild().unwrap();
        }
        scene.apply(first, changes(batch, &model));
        let end = scene.cabinet.position().unwrap();
        assert_eq!(contents(&scene.cabinet, "s"), expected(&model));
        if purges(batch, &before) {
            assert!(!opens_anything(stolen.path(), &scene.roots.inner));
        }
        for image in scene.roots.taken() {
            cut(
                image,
                batch,
                first,
                &before,
                &model,
                (&start, &end),
                stolen.path(),
            );
        }
    }
}

fn cut(
    image: Image,
    batch: &Batch,
    first: usize,
    before: &Model,
    after: &Model,
    (start, end): (&Option<String>, &Option<String>),
    stolen: &Path,
) {
    let step = &image.step;
    let roots = Arc::new(image.roots);
    let keeper: Arc<dyn KeyRoots> = Arc::clone(&roots) as Arc<dyn KeyRoots>;
    let (mut cabinet, opened) =
        Cabinet::open(image.disk.path(), keeper, Limits::default()).unwrap();
    assert_eq!(opened, Opened::Resumed, "{step}");
    let position = cabinet.position().unwrap();
    let found = contents(&cabinet, "s");
    if position == *end {
        assert_eq!(found, expected(after), "{step}");
    } else {
        // Nothing but persons that end and notes that are deleted may be missing already.
        let before = expected(before);
        for (person, notes) in &before {
            match found.get(person) {
                Some(found) => {
                    assert!(found.is_subset(notes), "{step}");
                    let mut missing = notes.difference(found);
                    assert!(missing.all(|note| deletes(batch, note)), "{step}");
                }
                None => assert!(!expected(after).contains_key(person) || ends(batch, person)),
            }
        }
        assert!(found.keys().all(|person| before.contains_key(person)));
        // The city says it again.
        if matches!(batch, Batch::Rebuild) && position == *start {
            cabinet.begin_rebuild().unwrap();
        }
        let position = cabinet.position().unwrap();
        let again = events(first, changes(batch, after));
        cabinet.apply(position.as_deref(), &again, NOW).unwrap();
        assert_eq!(contents(&cabinet, "s"), expected(after), "{step}");
    }
    if purges(batch, before) {
        assert!(!opens_anything(stolen, &roots), "{step}");
    }
    assert_eq!(roots.roots().unwrap().len(), 1, "{step}");
}

/// Deleted in this batch, and perhaps there again at its end.
fn deletes(batch: &Batch, note: &str) -> bool {
    let is = |of: u8, number: usize| format!("{}-{number}", planted(&name(of))[2]) == note;
    match batch {
        Batch::Steps(steps) => steps
            .iter()
            .any(|step| matches!(step, Step::NoteDeleted(of, number) if is(*of, *number))),
        Batch::Rebuild => false,
    }
}

/// Ended in this batch, and perhaps there again at its end.
fn ends(batch: &Batch, person: &str) -> bool {
    match batch {
        Batch::Steps(steps) => steps
            .iter()
            .any(|step| matches!(step, Step::Ended(of) if planted(&name(*of))[1] == person)),
        Batch::Rebuild => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_cut_where_nothing_purged_is_readable_and_nothing_else_is_lost(
        batches in prop::collection::vec(batch(), 1..6)
    ) {
        run(&batches);
    }
}
