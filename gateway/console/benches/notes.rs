//! What the page with a person's newest 50 notes costs, from the request to its bytes: session, permission, record, notes,
//! rendering. And the page with 80 persons.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first surprise")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gateway_notes::{Change, Personal, Role};

#[path = "../tests/console/desk.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests' desk, of which little is used here"
)]
mod desk;

use desk::{BOX, NOW, apply, console_with_notes, get, person, signed_in};

const TEXT: &str = "訪問しました。血圧128/76、体温36.4度、SpO2 97％。呼吸音は清で、浮腫はありません。夕食は主食8割、副食6割を召し上がりました。\n次回の訪問は金曜日の10時の予定です。何かあればいつでもご連絡ください。";

fn pages(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let (console, desk, _directory) = runtime.block_on(console_with_notes());
    let store = desk.0.lock().unwrap().store.clone().unwrap();
    let persons = (0..80).map(|n| person(&format!("b-{n}"), &format!("山田 {n}子"), &["sato"]));
    let notes = (0..4000).map(|n: i64| Change::Note {
        id: format!("b-{n}"),
        person: format!("b-{}", n % 80),
        author: "suzuki".into(),
        author_name: Personal::new("鈴木 一郎"),
        role: "訪問看護師".into(),
        time: NOW.0 - n * 300,
        text: Personal::new(TEXT),
        attachments: vec![],
        signature: None,
    });
    runtime.block_on(apply(&store, persons.chain(notes).collect()));
    let cookie = runtime.block_on(signed_in(&console, "sato", Role::Staff, None));
    let mut group = criterion.benchmark_group("pages of notes");
    for target in ["/notes/b-7", "/notes"] {
        group.bench_function(target, |bencher| {
            bencher.iter(|| {
                let page = get(BOX, black_box(target)).cookie(&cookie).ask(&console);
                let page = runtime.block_on(page);
                // What was recorded would grow without end.
                desk.0.lock().unwrap().looked.clear();
                assert_eq!(page.status().as_u16(), 200);
                page.text().len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pages);
criterion_main!(benches);
