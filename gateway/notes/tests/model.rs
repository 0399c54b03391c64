//! Any sequence of events against a model that says in plain words who may read what.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod anybody;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anybody::Anybody;
use gateway_notes::{Change, Event, Limits, Personal, Role, RootsInMemory, Store};
use proptest::prelude::*;

thread_local! {
    /// One box for each test.
    static ROOTS: Arc<RootsInMemory> = Arc::default();
}

fn roots() -> Arc<RootsInMemory> {
    ROOTS.with(Arc::clone)
}

const NOW: i64 = 1_800_000_000;
const DAYS: u32 = 30;
const MOST: usize = 12;

/// What a test does with the store.
#[derive(Clone, Debug)]
enum Step {
    Person {
        person: u8,
        readers: BTreeSet<u8>,
        ended: bool,
    },
    Note {
        note: u8,
        person: u8,
        days_ago: i64,
    },
    NoteDeleted {
        note: u8,
    },
    PersonEnded {
        person: u8,
    },
    Staff {
        user: u8,
        suspended: bool,
    },
    Facility {
        suspended: bool,
    },
    CaughtUp,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let (person, user, note) = (0..4_u8, 0..4_u8, 0..24_u8);
    prop_oneof![
        4 => (person.clone(), prop::collection::btree_set(user.clone(), 0..4), prop::bool::weighted(0.1))
            .prop_map(|(person, readers, ended)| Step::Person { person, readers, ended }),
        8 => (note.clone(), person.clone(), 0..40_i64)
            .prop_map(|(note, person, days_ago)| Step::Note { note, person, days_ago }),
        2 => note.prop_map(|note| Step::NoteDeleted { note }),
        1 => person.prop_map(|person| Step::PersonEnded { person }),
        3 => (user, prop::bool::weighted(0.3))
            .prop_map(|(user, suspended)| Step::Staff { user, suspended }),
        1 => prop::bool::weighted(0.3).prop_map(|suspended| Step::Facility { suspended }),
        1 => Just(Step::CaughtUp),
        1 => Just(Step::Reopen),
    ]
}

fn change(step: &Step, number: usize) -> Option<Change> {
    Some(match step {
        Step::Person {
            person,
            readers,
            ended,
        } => Change::Person {
            id: format!("p{person}"),
            display_name: Personal::new("name"),
            readers: readers.iter().map(|user| format!("u{user}")).collect(),
            support_ended: *ended,
        },
        Step::Note {
            note,
            person,
            days_ago,
        } => Change::Note {
            id: format!("n{note}"),
            person: format!("p{person}"),
            author: "u0".into(),
            author_name: Personal::new("author"),
            role: "role".into(),
            time: time(*note, *days_ago),
            text: Personal::new(format!("written in step {number}")),
            attachments: vec![],
            signature: None,
        },
        Step::NoteDeleted { note } => Change::NoteDeleted {
            id: format!("n{note}"),
        },
        Step::PersonEnded { person } => Change::PersonEnded {
            id: format!("p{person}"),
        },
        Step::Staff { user, suspended } => Change::Staff {
            id: format!("u{user}"),
            display_name: Personal::new("staff"),
            role: Role::Staff,
            suspended: *suspended,
        },
        Step::Facility { suspended } => Change::Facility {
            id: "f".into(),
            name: "facility".into(),
            suspended: *suspended,
        },
        Step::CaughtUp => Change::CaughtUp,
        Step::Reopen => return None,
    })
}

/// Every note has a second of its own, so that the order is known.
fn time(note: u8, days_ago: i64) -> i64 {
    NOW - days_ago * 86_400 + i64::from(note)
}

#[derive(Default)]
struct Model {
    suspended: bool,
    staff: BTreeMap<u8, bool>,
    readers: BTreeMap<u8, BTreeSet<u8>>,
    /// By note: person, time, step in which it was written.
    notes: BTreeMap<u8, (u8, i64, usize)>,
}

impl Model {
    fn apply(&mut self, step: &Step, number: usize) {
        match step {
            Step::PersonEnded { person }
            | Step::Person {
                person,
                ended: true,
                ..
            } => {
                self.readers.remove(person);
                self.notes.retain(|_, (of, _, _)| of != person);
            }
            Step::Person {
                person, readers, ..
            } => {
                self.readers.insert(*person, readers.clone());
            }
            Step::Note {
                note,
                person,
                days_ago,
            } => {
                self.notes.remove(note);
                let time = time(*note, *days_ago);
                let young = time >= NOW - i64::from(DAYS) * 86_400;
                if young && self.readers.contains_key(person) {
                    self.notes.insert(*note, (*person, time, number));
                }
            }
            Step::NoteDeleted { note } => {
                self.notes.remove(note);
            }
            Step::Staff { user, suspended } => {
                self.staff.insert(*user, *suspended);
            }
            Step::Facility { suspended } => self.suspended = *suspended,
            Step::CaughtUp | Step::Reopen => {}
        }
    }

    fn evict(&mut self) {
        while self.notes.len() > MOST {
            let oldest = self.notes.iter().min_by_key(|(_, (_, time, _))| *time);
            let oldest = *oldest.unwrap().0;
            self.notes.remove(&oldest);
        }
    }

    fn may_read(&self, user: u8, person: u8) -> bool {
        !self.suspended
            && self.staff.get(&user) == Some(&false)
            && self
                .readers
                .get(&person)
                .is_some_and(|readers| readers.contains(&user))
    }

    /// The texts of a person's notes, newest first, or `None` when this user may not read them.
    fn texts(&self, user: u8, person: u8) -> Option<Vec<String>> {
        let mut notes: Vec<_> = self
            .notes
            .values()
            .filter(|(of, _, _)| *of == person)
            .collect();
        notes.sort_by_key(|(_, time, _)| -time);
        let texts = notes
            .iter()
            .map(|(_, _, step)| format!("written in step {step}"));
        self.may_read(user, person).then(|| texts.collect())
    }
}

async fn compare(store: &Store, model: &Model) {
    for user in 0..5 {
        let name = format!("u{user}");
        let listed = store.persons_for(&name).await.unwrap();
        let mut listed: Vec<_> = listed.into_iter().map(|person| person.id).collect();
        listed.sort();
        let permitted: Vec<_> = (0..5)
            .filter(|p| model.may_read(user, *p))
            .map(|p| format!("p{p}"))
            .collect();
        assert_eq!(listed, permitted);
        for person in 0..5 {
            let page = store
                .notes_of(&name, &format!("p{person}"), 100, None)
                .await
                .unwrap();
            let texts = page.map(|page| {
                let texts = page.notes.iter().map(|note| note.text.reveal().to_owned());
                texts.collect::<Vec<_>>()
            });
            assert_eq!(
                texts,
                model.texts(user, person),
                "user {user}, person {person}"
            );
        }
    }
    assert_eq!(
        store.status().await.unwrap().notes,
        model.notes.len() as u64
    );
}

async fn run(batches: Vec<Vec<Step>>) {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits {
        days: DAYS,
        notes: MOST as u64,
        ..Limits::default()
    };
    let open = || {
        Store::open(directory.path(), roots(), limits)
            .unwrap()
            .0
            .witnessed(Arc::new(Anybody))
    };
    let (mut store, mut model) = (open(), Model::default());
    let (mut number, mut position) = (0, None);
    for batch in batches {
        let mut events = Vec::new();
        for step in &batch {
            number += 1;
            model.apply(step, number);
            if let Some(change) = change(step, number) {
                events.push(Event {
                    id: number.to_string(),
                    change,
                });
            }
        }
        model.evict();
        let last = events.last().map(|event| event.id.clone());
        store.apply(position.clone(), events, NOW).await.unwrap();
        position = last.or(position);
        if batch.iter().any(|step| matches!(step, Step::Reopen)) {
            store.close().await;
            store = open();
        }
        assert_eq!(store.position().await.unwrap(), position);
        compare(&store, &model).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_shows_each_user_what_the_model_permits(
        batches in prop::collection::vec(prop::collection::vec(step(), 0..8), 1..12)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(batches));
    }
}
