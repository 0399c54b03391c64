//! The gate's cost per request in a facility with eighty PCs; the aim is below 2 µs.
#![allow(
    missing_docs,
    reason = "criterion's macro makes an undocumented function"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gateway_policy::{Area, Asked, Device, DeviceId, Gate, Snapshot, Timestamp};

#[path = "../tests/gate/crowd.rs"]
mod crowd;

fn check(criterion: &mut Criterion) {
    let now = Timestamp(1_800_000_000);
    let gate = Gate::new();
    let asked = Asked {
        area: Area::Staff,
        writes: true,
        transfers_file: true,
    };
    let registered = Device::Registered(DeviceId([77; 16]));
    for (name, snapshot, device) in [
        ("permitted", crowd::snapshot(now), registered),
        ("unknown-device", crowd::snapshot(now), Device::Unknown),
        ("nothing-known", Snapshot::nothing_known(now), registered),
    ] {
        criterion.bench_function(&format!("gate/{name}"), |bencher| {
            bencher.iter(|| {
                black_box(gate.check(black_box(&asked), device, black_box(&snapshot), now))
            });
        });
    }
}

criterion_group!(benches, check);
criterion_main!(benches);
