//! Judging a request allocates nothing, whether it is permitted or refused.
#![allow(
    unsafe_code,
    reason = "counting allocations needs an allocator, whose trait is unsafe"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use gateway_policy::{Area, Asked, Device, DeviceId, Gate, Recent, Snapshot, Timestamp};

#[path = "gate/crowd.rs"]
mod crowd;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system allocator unchanged; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`, and `alloc` above is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn judging_allocates_nothing() {
    let now = Timestamp(1_800_000_000);
    let blank = Snapshot::nothing_known(now);
    let good = crowd::snapshot(now);
    let asked = Asked {
        area: Area::Staff,
        writes: true,
        transfers_file: true,
    };
    let gate = Gate::new();

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let device = Device::Registered(DeviceId([77; 16]));
    let permitted = black_box(gate.check(black_box(&asked), device, black_box(&good), now)).is_ok();
    let refused = black_box(gate.check(black_box(&asked), device, black_box(&blank), now)).is_err();
    let unknown = Device::Unknown;
    let stranger =
        black_box(gate.check(black_box(&asked), unknown, black_box(&good), now)).is_err();
    let after = ALLOCATIONS.load(Ordering::Relaxed);

    let (good, mut recent) = (Arc::new(good), Recent::default());
    let before_again = ALLOCATIONS.load(Ordering::Relaxed);
    let again = (0..2).all(|_| {
        let judged = gate.check_recent(&mut recent, black_box(&asked), device, &good, now);
        black_box(judged).is_ok()
    });
    let after_again = ALLOCATIONS.load(Ordering::Relaxed);

    assert!(permitted && refused && stranger && again);
    assert_eq!((after - before, after_again - before_again), (0, 0));
}
