//! Problem documents from the city: no panic, and nothing but problem+json within its bound is taken for one.
#![no_main]

use gateway_city::wire::{MAX_PROBLEM, Problem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = Problem::parse("application/problem+json; charset=utf-8", bytes);
    assert!(parsed.is_none() || bytes.len() <= MAX_PROBLEM);
    assert!(Problem::parse("text/html", bytes).is_none());
});
