//! HTTP/2 frames by hand, so that what no client library would send can be sent.
//! Only as much of HPACK as a test needs: literals out, the status in.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
pub const CONTINUATION: u8 = 0x9;

/// A frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A field section of literal fields without indexing (RFC 7541 §6.2.2).
pub fn fields(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in fields {
        section.push(0);
        for string in [name, value] {
            assert!(
                string.len() < 127,
                "one byte of length is enough for a test"
            );
            section.push(u8::try_from(string.len()).unwrap());
            section.extend_from_slice(string);
        }
    }
    section
}

/// The client's side of the beginning of a connection (§3.4).
pub fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

/// How the server ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
    Silence,
}

/// Reads until stream 1 or the connection ends.
pub async fn outcome<T: AsyncReadExt + AsyncWriteExt + Unpin>(io: &mut T) -> Outcome {
    tokio::time::timeout(Duration::from_secs(5), read(io))
        .await
        .unwrap_or(Outcome::Silence)
}

async fn read<T: AsyncReadExt + AsyncWriteExt + Unpin>(io: &mut T) -> Outcome {
    loop {
        let mut head = [0; 9];
        if io.read_exact(&mut head).await.is_err() {
            return Outcome::Closed;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        if io.read_exact(&mut payload).await.is_err() {
            return Outcome::Closed;
        }
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match (head[3], stream) {
            (HEADERS, 1) => return Outcome::Answered(status(&payload)),
            (RST_STREAM, 1) => return Outcome::Reset(word(0)),
            (GOAWAY, 0) if word(4) != 0 => return Outcome::GoAway(word(4)),
            (SETTINGS, 0) if head[4] == 0 => {
                let _ = io.write_all(&frame(SETTINGS, 1, 0, &[])).await;
                let _ = io.flush().await;
            }
            _ => {}
        }
    }
}

/// The status that a response's field section begins with.
fn status(section: &[u8]) -> u16 {
    // A change of the dynamic table's size may come first (RFC 7541 §6.3).
    let start = section.iter().position(|byte| byte & 0xe0 != 0x20).unwrap();
    match section[start..] {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x48 | 0x08, length, ref rest @ ..] => {
            let string = &rest[..usize::from(length & 0x7f)];
            if length & 0x80 == 0 {
                std::str::from_utf8(string).unwrap().parse().unwrap()
            } else {
                huffman_digits(string)
            }
        }
        _ => panic!("a response that does not begin with its status: {section:02x?}"),
    }
}

/// Three digits in RFC 7541's Huffman code: 0 to 2 in five bits, 3 to 9 in six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let mut bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut code = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
        if code > 2 {
            code = (code << 1 | bits.next().unwrap()) - 0b01_1001 + 3;
        }
        number = number * 10 + code;
    }
    number
}

#[test]
fn statuses_are_read_in_every_spelling() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x20, 0x8c]), 400);
    assert_eq!(status(b"\x48\x03421"), 421);
    // 421: 011010 00010 00001, padded with ones.
    assert_eq!(status(&[0x48, 0x82, 0b0110_1000, 0b0100_0001]), 421);
}
