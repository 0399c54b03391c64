//! The framing guard: no panic, the same verdict however the bytes are cut, nothing released beyond the window.
#![no_main]

use gateway_proxy::wire::framing::{Framing, Progress, Verdict};
use libfuzzer_sys::fuzz_target;

/// Feeds `bytes` in pieces of `size`, as the guard does: what is not released is offered again, with more behind it.
fn in_pieces(bytes: &[u8], size: usize) -> (Progress, u64) {
    let mut framing = Framing::new();
    let mut released = 0;
    let mut end = 0;
    loop {
        end = bytes.len().min(end + size);
        let window = &bytes[released..end];
        let progress = framing.push(window);
        assert!(progress.released <= window.len());
        released += progress.released;
        match progress.verdict {
            Verdict::MaySwitch => framing.resume(),
            Verdict::More if end < bytes.len() => {}
            verdict => return (Progress { released, verdict }, framing.messages()),
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = in_pieces(bytes, bytes.len().max(1));
    assert_eq!(in_pieces(bytes, usize::from(size).max(1)), whole);
    assert_eq!(in_pieces(bytes, 1), whole);
});
