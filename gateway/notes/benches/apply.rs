//! What filling the store costs, a purge among 500 persons, and the list of a person's newest 50 notes.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first surprise")]

use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gateway_notes::{
    Change, Event, Limits, NotRecorded, Personal, Reading, Role, RootsInMemory, Store, Witness,
};
use tokio::runtime::Runtime;

const NOW: i64 = 1_800_000_000;
const PERSONS: usize = 500;
const NOTES: usize = 100_000;
/// As many events as are handed over together at most while the box catches up.
const BATCH: usize = 4096;

struct Nobody;

impl Witness for Nobody {
    fn recorded(
        &self,
        _: Reading,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

fn person(number: usize) -> Change {
    Change::Person {
        id: format!("person-{number}"),
        display_name: Personal::new(format!("架空 {number}")),
        readers: (0..5)
            .map(|at| format!("user-{}", (number + at) % 80))
            .collect(),
        support_ended: false,
    }
}

fn note(number: usize) -> Change {
    Change::Note {
        id: format!("note-{number}"),
        person: format!("person-{}", number % PERSONS),
        author: "user-1".into(),
        author_name: Personal::new("見本 太郎"),
        role: "訪問看護師".into(),
        time: NOW - i64::try_from(number).unwrap(),
        text: Personal::new(
            "血圧128/76、体温36.4度。食事は全量摂取。夜間の咳は減っている。右足の浮腫は昨日と変わらず、弾性包帯を巻き直した。"
                .repeat(2),
        ),
        attachments: vec![],
        signature: None,
    }
}

fn batches(changes: impl Iterator<Item = Change>, first: usize, size: usize) -> Vec<Vec<Event>> {
    let mut batches = vec![Vec::with_capacity(size)];
    for (id, change) in (first..).zip(changes) {
        if batches.last().unwrap().len() == size {
            batches.push(Vec::with_capacity(size));
        }
        let id = format!("{id:09}");
        batches.last_mut().unwrap().push(Event { id, change });
    }
    batches
}

fn open(directory: &Path) -> Store {
    let roots = Arc::new(RootsInMemory::default());
    let (store, _) = Store::open(directory, roots, Limits::default()).unwrap();
    store.witnessed(Arc::new(Nobody))
}

async fn apply(store: &Store, batches: Vec<Vec<Event>>) {
    let mut after = store.position().await.unwrap();
    for batch in batches {
        let last = batch.last().map(|event| event.id.clone());
        store.apply(after, batch, NOW).await.unwrap();
        after = last;
    }
}

fn furniture() -> impl Iterator<Item = Change> {
    let staff = (0..80).map(|number| Change::Staff {
        id: format!("user-{number}"),
        display_name: Personal::new("見本 花子"),
        role: Role::Staff,
        suspended: false,
    });
    staff.chain((0..PERSONS).map(person))
}

fn filling(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(u64::try_from(NOTES).unwrap()));
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(20));
    group.bench_function("100,000 notes", |bencher| {
        bencher.iter_batched(
            || {
                let directory = tempfile::tempdir().unwrap();
                let store = open(directory.path());
                runtime.block_on(apply(&store, batches(furniture(), 1, BATCH)));
                (directory, store, batches((0..NOTES).map(note), 1000, BATCH))
            },
            |(directory, store, batches)| {
                runtime.block_on(apply(&store, batches));
                (directory, store)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn full(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    runtime.block_on(apply(&store, batches(furniture(), 1, BATCH)));
    runtime.block_on(apply(&store, batches((0..NOTES).map(note), 1000, BATCH)));
    criterion.bench_function("newest 50 of one of 500 persons", |bencher| {
        bencher.iter(|| {
            let page = runtime.block_on(store.notes_of("user-3", "person-3", 50, None));
            black_box(page.unwrap().unwrap().notes.len())
        });
    });
    let mut number = 1_000_000;
    criterion.bench_function("purge of one of 500 persons, 200 notes each", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                number += 1000;
                let mut whole = vec![person(7)];
                whole.extend((0..200).map(|at| note(7 + at * PERSONS)));
                // A day later each time, or renewals would be held back.
                runtime.block_on(apply(&store, batches(whole.into_iter(), number, 1000)));
                let id = "person-7".to_owned();
                let end = batches([Change::PersonEnded { id }].into_iter(), number + 500, 1);
                let start = Instant::now();
                runtime.block_on(apply(&store, end));
                spent += start.elapsed();
            }
            spent
        });
    });
    let mut at = 0;
    criterion.bench_function(
        "a note deleted of one of 500 persons, 200 notes each",
        |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    number += 1000;
                    let person = 10 + at % 400;
                    at += 1;
                    let Change::Note { id, .. } = note(person) else {
                        continue;
                    };
                    let gone = batches([Change::NoteDeleted { id }].into_iter(), number, 1);
                    let start = Instant::now();
                    runtime.block_on(apply(&store, gone));
                    spent += start.elapsed();
                    let again = batches([note(person)].into_iter(), number + 500, 1);
                    runtime.block_on(apply(&store, again));
                }
                spent
            });
        },
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = filling, full
}
criterion_main!(benches);
