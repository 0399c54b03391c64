//! WebSocket frames (RFC 6455 section 5.2): their heads, masking, and what a Close frame says. Does not put messages together.

/// Who sent a frame: clients mask, servers do not (section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The side that opened the connection.
    Client,
    /// The side that accepted it.
    Server,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    const fn parse(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Close, Ping or Pong.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// What was wrong. The peer is told with [`Violation::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A reserved bit is set: no extension was negotiated.
    #[error("a reserved bit is set")]
    Reserved,
    /// An opcode that has no meaning.
    #[error("an opcode has no meaning")]
    Opcode,
    /// Masked by a server, or not masked by a client.
    #[error("masked by a server or not masked by a client")]
    Mask,
    /// A length that is not written in the shortest way, or too long to be one.
    #[error("a length is not written as it must be")]
    Length,
    /// A control frame in pieces, or longer than 125 bytes.
    #[error("a control frame is fragmented or too long")]
    Control,
    /// A continuation of nothing, or a message inside a message.
    #[error("fragments do not form a message")]
    Fragments,
    /// A Close frame with half a code, or a code that may not be sent.
    #[error("a close code may not be sent")]
    CloseCode,
    /// Text, or the reason for a close, is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A message is larger than what is taken.
    #[error("a message is too large")]
    TooLarge,
}

impl Violation {
    /// The code to close with (section 7.4.1).
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Utf8 => 1007,
            Self::TooLarge => 1009,
            _ => 1002,
        }
    }
}

/// The longest head of a frame.
pub const LONGEST_HEAD: usize = 14;
/// The longest payload of a control frame.
pub const LONGEST_CONTROL: usize = 125;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last frame of its message.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// The masking key, if the sender is a client.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload.
    pub length: u64,
}

impl Head {
    /// Reads a head from the beginning of `bytes`; with how many bytes it has. `None` if it is not all there.
    ///
    /// # Errors
    /// [`Violation`] as soon as the bytes that are there show one.
    pub fn parse(bytes: &[u8], sender: Sender) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Violation::Reserved);
        }
        let opcode = Opcode::parse(first & 0x0f).ok_or(Violation::Opcode)?;
        let fin = first & 0x80 != 0;
        if opcode.is_control() && !fin {
            return Err(Violation::Control);
        }
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let masked = second & 0x80 != 0;
        if masked != (sender == Sender::Client) {
            return Err(Violation::Mask);
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > LONGEST_CONTROL {
            return Err(Violation::Control);
        }
        let (length, after) = match short {
            126 => match bytes.get(2..4) {
                None => return Ok(None),
                Some(field) => {
                    let length = field
                        .iter()
                        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                    if length < 126 {
                        return Err(Violation::Length);
                    }
                    (length, 4)
                }
            },
            127 => match bytes.get(2..10) {
                None => return Ok(None),
                Some(field) => {
                    let length = field
                        .iter()
                        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                    if length <= u64::from(u16::MAX) || length > i64::MAX as u64 {
                        return Err(Violation::Length);
                    }
                    (length, 10)
                }
            },
            short => (u64::from(short), 2),
        };
        let (mask, end) = if masked {
            match bytes.get(after..after + 4) {
                None => return Ok(None),
                Some(key) => (Some([key[0], key[1], key[2], key[3]]), after + 4),
            }
        } else {
            (None, after)
        };
        let head = Self {
            fin,
            opcode,
            mask,
            length,
        };
        Ok(Some((head, end)))
    }

    /// Writes the head, with the length in its shortest form.
    pub fn write(&self, out: &mut impl Extend<u8>) {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        out.extend([u8::from(self.fin) << 7 | self.opcode as u8]);
        let bytes = self.length.to_be_bytes();
        match self.length {
            0..=125 => out.extend([masked | bytes[7]]),
            126..=0xffff => out.extend([masked | 126, bytes[6], bytes[7]]),
            _ => {
                out.extend([masked | 127]);
                out.extend(bytes);
            }
        }
        if let Some(key) = self.mask {
            out.extend(key);
        }
    }
}

/// Masks, or takes the mask away (section 5.3). `offset` is the place of the first byte in the frame's payload.
pub fn mask(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let mut key = key;
    key.rotate_left(offset % 4);
    let word = u64::from_ne_bytes([
        key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3],
    ]);
    let mut words = payload.chunks_exact_mut(8);
    for bytes in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        bytes.copy_from_slice(&(u64::from_ne_bytes(eight) ^ word).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// The code of a Close frame, if it has one (section 5.5.1).
///
/// # Errors
/// [`Violation::CloseCode`], [`Violation::Utf8`].
pub fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::CloseCode),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    // Section 7.4, and the registry of section 11.7: 1004 to 1006 and 1015 are never on the wire.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode);
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(Violation::Utf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from_client(bytes: &[u8]) -> Result<Option<(Head, usize)>, Violation> {
        Head::parse(bytes, Sender::Client)
    }

    fn from_server(bytes: &[u8]) -> Result<Option<(Head, usize)>, Violation> {
        Head::parse(bytes, Sender::Server)
    }

    #[test]
    fn the_standards_own_examples_are_read() {
        // Section 5.7.
        let hello = from_server(b"\x81\x05Hello").unwrap().unwrap();
        assert_eq!(
            (hello.0.opcode, hello.0.fin, hello.0.length, hello.1),
            (Opcode::Text, true, 5, 2)
        );
        let masked = from_client(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
            .unwrap()
            .unwrap();
        assert_eq!(masked.0.mask, Some([0x37, 0xfa, 0x21, 0x3d]));
        let mut payload = *b"\x7f\x9f\x4d\x51\x58";
        mask(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&payload, b"Hello");
        let big = from_server(b"\x82\x7f\0\0\0\0\0\x01\0\0").unwrap().unwrap();
        assert_eq!((big.0.length, big.1), (65_536, 10));
        let medium = from_server(b"\x82\x7e\x01\0").unwrap().unwrap();
        assert_eq!((medium.0.length, medium.1), (256, 4));
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused() {
        for bits in 1..8_u8 {
            assert_eq!(
                from_server(&[0x81 | bits << 4, 0]),
                Err(Violation::Reserved)
            );
        }
        for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(from_server(&[0x80 | opcode, 0]), Err(Violation::Opcode));
        }
    }

    #[test]
    fn clients_mask_and_servers_do_not() {
        assert_eq!(from_client(b"\x81\x05Hello"), Err(Violation::Mask));
        assert_eq!(from_server(b"\x81\x85\0\0\0\0Hello"), Err(Violation::Mask));
    }

    #[test]
    fn a_length_that_is_longer_than_it_must_be_is_refused() {
        assert_eq!(from_server(b"\x82\x7e\0\x7d"), Err(Violation::Length));
        assert!(from_server(b"\x82\x7e\0\x7e").unwrap().is_some());
        assert_eq!(
            from_server(b"\x82\x7f\0\0\0\0\0\0\xff\xff"),
            Err(Violation::Length)
        );
        assert_eq!(
            from_server(b"\x82\x7f\x80\0\0\0\0\0\0\0"),
            Err(Violation::Length)
        );
    }

    #[test]
    fn control_frames_are_whole_and_short() {
        for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
            assert_eq!(from_server(&[opcode as u8, 0]), Err(Violation::Control));
            assert_eq!(
                from_server(&[0x80 | opcode as u8, 126, 0, 126]),
                Err(Violation::Control)
            );
            assert!(from_server(&[0x80 | opcode as u8, 125]).unwrap().is_some());
        }
    }

    #[test]
    fn close_codes_that_may_not_be_sent_are_refused() {
        let with = |code: u16| close_code(&code.to_be_bytes());
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
        ] {
            assert_eq!(with(code), Err(Violation::CloseCode), "{code}");
        }
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 4999,
        ] {
            assert_eq!(with(code), Ok(Some(code)));
        }
        assert_eq!(close_code(b""), Ok(None));
        assert_eq!(close_code(b"\x03"), Err(Violation::CloseCode));
        assert_eq!(close_code(b"\x03\xe8\xff"), Err(Violation::Utf8));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_not_before_it_is_whole(
            fin: bool,
            opcode in prop::sample::select(vec![Opcode::Continuation, Opcode::Text, Opcode::Binary]),
            key: Option<[u8; 4]>,
            length in prop_oneof![0..200_u64, 65_000..66_000_u64, any::<u64>().prop_map(|n| n >> 1)],
        ) {
            let head = Head { fin, opcode, mask: key, length };
            let mut bytes = Vec::new();
            head.write(&mut bytes);
            prop_assert!(bytes.len() <= LONGEST_HEAD);
            let sender = if key.is_some() { Sender::Client } else { Sender::Server };
            for end in 0..bytes.len() {
                prop_assert_eq!(Head::parse(&bytes[..end], sender), Ok(None));
            }
            prop_assert_eq!(Head::parse(&bytes, sender), Ok(Some((head, bytes.len()))));
        }

        #[test]
        fn masking_in_pieces_is_masking_at_once(
            payload in prop::collection::vec(any::<u8>(), 0..100),
            key: [u8; 4],
            cut in 0..100_usize,
        ) {
            let slow: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            let mut pieces = payload.clone();
            let cut = cut.min(payload.len());
            let (first, second) = pieces.split_at_mut(cut);
            mask(first, key, 0);
            mask(second, key, cut);
            prop_assert_eq!(pieces, slow);
        }
    }
}
