//! WebSocket messages: no panic, the same messages however the bytes are cut, never more held than the limit, and what was
//! accepted, written as a client would write it, is read the same.
#![no_main]

use bytes::BytesMut;
use gateway_proxy::messages::{
    assembly::{Assembly, Said},
    frame::{Head, Opcode, Sender, Violation, mask},
};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fn in_pieces(bytes: &[u8], sender: Sender, size: usize) -> (Vec<Said>, Option<Violation>) {
    let mut assembly = Assembly::new(sender, LIMIT);
    let (mut said, mut buffer) = (Vec::new(), BytesMut::new());
    for piece in bytes.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            match assembly.next(&mut buffer) {
                Ok(None) => break,
                Ok(Some(one)) => said.push(one),
                Err(violation) => return (said, Some(violation)),
            }
        }
        assert!(assembly.held() <= LIMIT);
    }
    (said, None)
}

/// One frame for each message.
fn written(all: &[Said]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (said, place) in all.iter().zip(0_u8..=255) {
        let (opcode, payload) = match said {
            Said::Message(message) if message.text => (Opcode::Text, &message.payload),
            Said::Message(message) => (Opcode::Binary, &message.payload),
            Said::Ping(payload) => (Opcode::Ping, payload),
            Said::Pong(payload) => (Opcode::Pong, payload),
            Said::Close(payload) => (Opcode::Close, payload),
        };
        let key = [place, 1, 2, 3];
        let head = Head { fin: true, opcode, mask: Some(key), length: payload.len() as u64 };
        head.write(&mut bytes);
        let start = bytes.len();
        bytes.extend_from_slice(payload);
        mask(&mut bytes[start..], key, 0);
    }
    bytes
}

fn payloads(all: &[Said]) -> Vec<Said> {
    let mut all = all.to_vec();
    all.truncate(256);
    for said in &mut all {
        if let Said::Message(message) = said {
            message.longest_frame = message.payload.len() as u64;
        }
    }
    all
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (client, size, bytes) = input;
    let sender = if client { Sender::Client } else { Sender::Server };
    let whole = in_pieces(bytes, sender, bytes.len().max(1));
    assert_eq!(in_pieces(bytes, sender, usize::from(size).max(1)), whole);
    assert_eq!(in_pieces(bytes, sender, 1), whole);
    let again = in_pieces(&written(&whole.0), Sender::Client, 7);
    assert_eq!(again, (payloads(&whole.0), None));
});
