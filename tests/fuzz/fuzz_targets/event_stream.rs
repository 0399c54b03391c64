//! The city's feed: no panic, and the same frames however the stream is cut.
#![no_main]

use gateway_city::sse::{Frame, Parser, SseError};
use libfuzzer_sys::fuzz_target;

fn in_pieces(bytes: &[u8], size: usize) -> (Vec<Frame>, Result<(), SseError>) {
    let mut parser = Parser::new();
    let mut frames = Vec::new();
    for piece in bytes.chunks(size) {
        if let Err(error) = parser.push(piece, &mut frames) {
            return (frames, Err(error));
        }
    }
    (frames, Ok(()))
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = in_pieces(bytes, bytes.len().max(1));
    assert_eq!(in_pieces(bytes, usize::from(size).max(1)), whole);
});
