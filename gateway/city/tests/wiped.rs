//! No memory that the parser of the feed gives back still holds what it parsed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]
#![allow(
    unsafe_code,
    reason = "an allocator is the only one who sees what is given back"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use gateway_city::sse::{Frame, MAX_EVENT, Parser};

/// What a note says; in no other memory of this program but its constants.
const WORD: &[u8] = "褥瘡の処置をしました".as_bytes();

/// Looks for [`WORD`] in whatever is given back.
struct Watching;

static LEFT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is. `realloc` is the trait's own, by way of `alloc` and
// `dealloc`, so that what is outgrown is seen too.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the one of the system's allocator. Zeroed, so that all of it can be read later.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block is still allocated, of this size, and was initialised when it was allocated.
        let bytes = unsafe { std::slice::from_raw_parts(pointer, layout.size()) };
        if bytes.windows(WORD.len()).any(|part| part == WORD) {
            LEFT.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Parses a stream in pieces of this size, lets everything go, and says how often the word was left behind.
fn left_of(lines: usize, piece: usize) -> usize {
    let before = LEFT.load(Ordering::Relaxed);
    let mut parser = Parser::new();
    let mut frames = Vec::new();
    let mut push = |bytes: &'static [u8]| {
        for part in bytes.chunks(piece) {
            parser.push(part, &mut frames).unwrap();
        }
    };
    push(b"event: note\n");
    for _ in 0..lines {
        push(b"data: ");
        push(WORD);
        push(b"\n");
    }
    push(b"id: 7\n\ndata: ");
    // And one that never ends.
    push(WORD);
    let Some(Frame::Event { data, .. }) = frames.first() else {
        panic!("no event");
    };
    assert!(data.contains(std::str::from_utf8(WORD).unwrap()));
    drop(frames);
    drop(parser);
    LEFT.load(Ordering::Relaxed) - before
}

#[test]
fn what_the_feed_said_is_wiped_before_its_memory_is_given_back() {
    // One test only: the allocator is everybody's.
    let before = LEFT.load(Ordering::Relaxed);
    drop(WORD.to_vec());
    assert_eq!(LEFT.load(Ordering::Relaxed) - before, 1, "it would be seen");
    for lines in [1, 2, 40, MAX_EVENT / 64] {
        for piece in [1, 7, 4096] {
            assert_eq!(left_of(lines, piece), 0, "{lines} lines by {piece} bytes");
        }
    }
}
