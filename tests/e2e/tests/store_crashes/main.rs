//! The box dies at every write, sync, removal and TPM NV command of a scripted day of its store; each time it opens again, has
//! everything that may be read and the city still has, and nothing that was purged.
//!
//! All points are tried, unless `CRASH_POINTS` says `STRIDE` or `STRIDE+FIRST`: every STRIDE-th point, beginning with FIRST.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what a test cannot do is its failure; its progress is for who waits"
)]

mod day;
mod remains;
mod stage;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use stage::Stage;

/// How many facilities die at a time.
const STAGES: usize = 2;

/// The points to try, of `last`.
fn chosen(last: u64) -> Vec<u64> {
    let wish = std::env::var("CRASH_POINTS").unwrap_or_else(|_| "1".to_owned());
    let (stride, first) = wish.split_once('+').unwrap_or((&wish, "1"));
    let stride: usize = stride.parse().unwrap();
    (first.parse().unwrap()..=last).step_by(stride).collect()
}

#[test]
fn wherever_the_box_dies_nothing_permitted_is_lost_and_nothing_purged_is_left() {
    let mut stages: Vec<Stage> = (0..STAGES).map(|_| Stage::prepared()).collect();
    let whole = stages[0].day_without_a_crash();
    let kinds = stage::kinds(&whole);
    eprintln!("{} points in the day: {kinds:?}", whole.len());
    // A day that writes next to nothing would prove next to nothing.
    assert!(whole.len() >= 150, "{} points: {kinds:?}", whole.len());
    for call in ["pwrite", "fsync", "ftruncate"] {
        assert!(kinds.contains_key(call), "no {call}: {kinds:?}");
    }

    let points = chosen(u64::try_from(whole.len()).unwrap());
    let (next, died) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for stage in &mut stages {
            scope.spawn(|| {
                while let Some(at) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = stage.day_with_a_crash(*at);
                    died.fetch_add(usize::from(outcome.died), Ordering::Relaxed);
                    if let Err(fault) = outcome.verdict {
                        eprintln!("{fault}");
                        faults.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    let (died, faults) = (died.into_inner(), faults.into_inner().unwrap());
    eprintln!("{died} deaths at {} points", points.len());
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    // Threads take turns differently each time, so the last few points of the list may not come; most must.
    assert!(died * 10 >= points.len() * 8, "{died} of {}", points.len());
}
