//! Event streams on their way through: not a byte changed, the same data however the bytes are cut, never more held than the
//! limit and one piece.
#![no_main]

use gateway_proxy::messages::events::Events;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

/// Everything that came out, the data of all events, and whether an event was too large.
fn in_pieces(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<Vec<u8>>, bool) {
    let mut events = Events::new(LIMIT);
    let (mut raw, mut data) = (Vec::new(), Vec::new());
    let mut take = |event: gateway_proxy::messages::events::Event| {
        raw.extend_from_slice(&event.raw);
        if !event.data.is_empty() {
            data.push(event.data.to_vec());
        }
    };
    let mut too_large = false;
    'all: for piece in bytes.chunks(size) {
        events.push(piece);
        loop {
            match events.next_event() {
                Ok(None) => break,
                Ok(Some(event)) => take(event),
                Err(_) => {
                    too_large = true;
                    break 'all;
                }
            }
        }
        assert!(events.held() <= LIMIT);
    }
    if !too_large {
        events.end().into_iter().for_each(&mut take);
        assert_eq!(raw, bytes);
    }
    assert!(bytes.starts_with(&raw));
    (raw, data, too_large)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = in_pieces(bytes, bytes.len().max(1));
    let pieces = in_pieces(bytes, usize::from(size).max(1));
    if !whole.2 && !pieces.2 {
        assert_eq!(pieces, whole);
    }
});
