//! How long a search and a list of notes take in a store of 100,000 notes: by somebody who reads everybody, and by somebody who
//! reads one person.
#![allow(clippy::print_stderr, reason = "a benchmark says what it measured on")]
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first surprise")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use gateway_notes::{
    Change, Event, Limits, NotRecorded, Personal, Reading, Role, RootsInMemory, Store, Witness,
};

const PERSONS: usize = 200;
const NOTES: usize = 100_000;
const BATCH: usize = 1000;
const NOW: i64 = 1_800_000_000;

/// Sentences of about the length and kind that notes have.
const SENTENCES: [&str; 8] = [
    "訪問しました。血圧128/76、体温36.4度、SpO2 97％。呼吸音は清で、浮腫はありません。",
    "夕食は主食8割、副食6割を召し上がりました。むせ込みなく、水分は150ml摂取されています。",
    "ご家族から、週末のショートステイの利用について相談がありました。空きを確認して折り返します。",
    "夜間に2回トイレに起きられましたが、ふらつきはありませんでした。センサーマットを継続します。",
    "褥瘡は仙骨部、1.5×2cm、浸出液は少量。洗浄してドレッシング材を交換しました。",
    "処方が変わりました。新しい薬は夕食後に1錠です。飲み忘れがないか確認をお願いします。",
    "デイサービスでは体操に参加され、表情もよく過ごされました。入浴も問題ありません。",
    "次回の訪問は金曜日の10時の予定です。何かあればいつでもご連絡ください。",
];

struct Anybody;

impl Witness for Anybody {
    fn recorded(
        &self,
        _: Reading,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

fn text(n: usize) -> String {
    let three = [n, n / 8, n / 64].map(|n| SENTENCES[n % SENTENCES.len()]);
    let rare = if n.is_multiple_of(997) {
        "誤嚥の疑いで受診。"
    } else {
        ""
    };
    format!("{rare}{}", three.concat())
}

fn note(n: usize) -> Change {
    Change::Note {
        id: format!("n{n}"),
        person: format!("p{}", n % PERSONS),
        author: "u".into(),
        author_name: Personal::new("佐藤 花子"),
        role: "訪問看護師".into(),
        time: NOW - 2_000_000 + i64::try_from(n).unwrap() * 20,
        text: Personal::new(text(n)),
        attachments: vec![],
        signature: None,
    }
}

async fn fill(directory: &Path) -> Store {
    let roots = Arc::new(RootsInMemory::default());
    let (store, _) = Store::open(directory, roots, Limits::default()).unwrap();
    let store = store.witnessed(Arc::new(Anybody));
    let staff = |id: &str| Change::Staff {
        id: id.into(),
        display_name: Personal::new(id),
        role: Role::Staff,
        suspended: false,
    };
    let persons = (0..PERSONS).map(|n| Change::Person {
        id: format!("p{n}"),
        display_name: Personal::new(format!("山田 {n}子")),
        readers: if n == 0 {
            vec!["all".into(), "one".into()]
        } else {
            vec!["all".into()]
        },
        support_ended: false,
    });
    let changes = [staff("all"), staff("one")].into_iter().chain(persons);
    let mut events = changes
        .chain((0..NOTES).map(note))
        .enumerate()
        .map(|(id, change)| Event {
            id: id.to_string(),
            change,
        });
    let start = std::time::Instant::now();
    loop {
        let batch: Vec<Event> = events.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let position = store.position().await.unwrap();
        store.apply(position, batch, NOW).await.unwrap();
    }
    eprintln!(
        "{NOTES} notes stored in {:.1} s, {} bytes on disk",
        start.elapsed().as_secs_f32(),
        std::fs::metadata(directory.join("a/notes.db"))
            .unwrap()
            .len()
    );
    store
}

fn search(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = runtime.block_on(fill(directory.path()));
    let mut group = criterion.benchmark_group("store of 100,000 notes");
    for (name, user, words) in [
        ("search everybody, a rare word", "all", "誤嚥"),
        ("search everybody, a frequent word", "all", "血圧"),
        ("search everybody, two words", "all", "ショートステイ 血圧"),
        ("search everybody, nothing found", "all", "ない言葉"),
        ("search one person", "one", "血圧"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                runtime
                    .block_on(store.search(user, black_box(words), 50))
                    .unwrap()
            });
        });
    }
    group.bench_function("newest 50 notes of a person", |bencher| {
        bencher.iter(|| {
            runtime
                .block_on(store.notes_of("all", black_box("p7"), 50, None))
                .unwrap()
        });
    });
    group.bench_function("list of 200 persons", |bencher| {
        bencher.iter(|| {
            runtime
                .block_on(store.persons_for(black_box("all")))
                .unwrap()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = search
}
criterion_main!(benches);
