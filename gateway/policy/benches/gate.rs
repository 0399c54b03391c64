//! The gate's cost per request; the aim is below 2 µs.
#![allow(
    missing_docs,
    reason = "criterion's macro makes an undocumented function"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gateway_policy::{
    Antivirus, Area, Asked, Certificate, Clock, Evidence, Gate, Snapshot, Standing, Timestamp,
};

fn check(criterion: &mut Criterion) {
    let now = Timestamp(1_800_000_000);
    let gate = Gate::new();
    let asked = Asked {
        area: Area::Staff,
        writes: true,
        transfers_file: true,
    };
    let blank = Snapshot::nothing_known(now);
    let good = Snapshot {
        taken: now,
        antivirus: Evidence::Known {
            value: Antivirus::Alive,
            at: now,
        },
        clock: Evidence::Known {
            value: Clock::Sane,
            at: now,
        },
        certificate: Evidence::Known {
            value: Certificate::Held {
                not_before: now.plus(-9),
                not_after: now.plus(9_999_999),
            },
            at: now,
        },
        standing: Evidence::Known {
            value: Standing::Active,
            at: now,
        },
    };
    for (name, snapshot) in [("permitted", good), ("refused", blank)] {
        criterion.bench_function(&format!("gate/{name}"), |bencher| {
            bencher.iter(|| black_box(gate.check(black_box(&asked), black_box(&snapshot), now)));
        });
    }
}

criterion_group!(benches, check);
criterion_main!(benches);
