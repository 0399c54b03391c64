//! Puts the messages of one direction of a WebSocket together from frames (RFC 6455 section 5.4). Holds at most one message,
//! and never more than its limit. Does not read or write.

use bytes::{Buf, BytesMut};

use super::frame::{Head, Opcode, Sender, Violation, close_code, mask};

/// A data message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// UTF-8 by its sender's word, and it is.
    pub text: bool,
    /// All of it, unmasked.
    pub payload: Vec<u8>,
    /// The longest of the frames it came in: its receiver can be expected to take frames of that size.
    pub longest_frame: u64,
}

/// What a peer says with one message or control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A data message.
    Message(Message),
    /// A sign of life is asked for.
    Ping(Vec<u8>),
    /// A sign of life.
    Pong(Vec<u8>),
    /// Nothing more will come. Code and reason, if any, as on the wire, and found valid.
    Close(Vec<u8>),
}

/// One direction of a WebSocket.
#[derive(Debug)]
pub struct Assembly {
    sender: Sender,
    limit: usize,
    frame: Option<Frame>,
    /// The data message begun, if any.
    message: Option<Message>,
    control: Vec<u8>,
    closed: bool,
}

/// A frame whose head has been read.
#[derive(Debug)]
struct Frame {
    head: Head,
    /// Bytes of its payload that have been taken.
    taken: u64,
}

impl Assembly {
    /// For what `sender` sends; messages have at most `limit` bytes.
    #[must_use]
    pub const fn new(sender: Sender, limit: usize) -> Self {
        Self {
            sender,
            limit,
            frame: None,
            message: None,
            control: Vec::new(),
            closed: false,
        }
    }

    /// Bytes of the message that is being put together.
    #[must_use]
    pub fn held(&self) -> usize {
        self.message
            .as_ref()
            .map_or(0, |message| message.payload.len())
    }

    /// Whether a Close frame has been read; what follows it is nothing.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes what has come and says what it means; `None` when more is needed.
    ///
    /// # Errors
    /// [`Violation`]; the connection is then to be closed.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Said>, Violation> {
        loop {
            if self.closed {
                bytes.clear();
                return Ok(None);
            }
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => {
                    let Some((head, length)) = Head::parse(bytes, self.sender)? else {
                        return Ok(None);
                    };
                    bytes.advance(length);
                    self.begin(&head)?;
                    Frame { head, taken: 0 }
                }
            };
            let frame = self.take(frame, bytes);
            if frame.taken < frame.head.length {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(said) = self.end(&frame.head)? {
                return Ok(Some(said));
            }
        }
    }

    /// What a head says before its payload is there.
    fn begin(&mut self, head: &Head) -> Result<(), Violation> {
        if head.opcode.is_control() {
            self.control.clear();
            return Ok(());
        }
        match (head.opcode, &mut self.message) {
            (Opcode::Continuation, None) => return Err(Violation::Fragments),
            (Opcode::Continuation, Some(message)) => {
                message.longest_frame = message.longest_frame.max(head.length);
            }
            (_, Some(_)) => return Err(Violation::Fragments),
            (opcode, None) => {
                self.message = Some(Message {
                    text: opcode == Opcode::Text,
                    payload: Vec::new(),
                    longest_frame: head.length,
                });
            }
        }
        let left = self.limit.saturating_sub(self.held());
        if head.length > left as u64 {
            return Err(Violation::TooLarge);
        }
        Ok(())
    }

    /// Takes what there is of a frame's payload.
    fn take(&mut self, mut frame: Frame, bytes: &mut BytesMut) -> Frame {
        let missing = frame.head.length - frame.taken;
        let take = usize::try_from(missing)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let into = match &mut self.message {
            Some(message) if !frame.head.opcode.is_control() => &mut message.payload,
            _ => &mut self.control,
        };
        let start = into.len();
        if start == 0 && frame.head.fin && take as u64 == frame.head.length {
            into.reserve_exact(take);
        }
        into.extend_from_slice(&bytes[..take]);
        bytes.advance(take);
        if let Some(key) = frame.head.mask {
            let offset = usize::try_from(frame.taken % 4).unwrap_or(0);
            mask(&mut into[start..], key, offset);
        }
        frame.taken += take as u64;
        frame
    }

    /// A frame is whole.
    fn end(&mut self, head: &Head) -> Result<Option<Said>, Violation> {
        match head.opcode {
            Opcode::Ping => return Ok(Some(Said::Ping(std::mem::take(&mut self.control)))),
            Opcode::Pong => return Ok(Some(Said::Pong(std::mem::take(&mut self.control)))),
            Opcode::Close => {
                close_code(&self.control)?;
                self.closed = true;
                self.message = None;
                return Ok(Some(Said::Close(std::mem::take(&mut self.control))));
            }
            _ if !head.fin => return Ok(None),
            _ => {}
        }
        let Some(message) = self.message.take() else {
            return Ok(None);
        };
        if message.text && std::str::from_utf8(&message.payload).is_err() {
            return Err(Violation::Utf8);
        }
        Ok(Some(Said::Message(message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1000;

    fn frame(fin: bool, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let head = Head {
            fin,
            opcode,
            mask: key,
            length: payload.len() as u64,
        };
        head.write(&mut bytes);
        let start = bytes.len();
        bytes.extend_from_slice(payload);
        if let Some(key) = key {
            mask(&mut bytes[start..], key, 0);
        }
        bytes
    }

    fn server(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        frame(fin, opcode, payload, None)
    }

    /// Reads everything, in pieces of `size`.
    fn read(bytes: &[u8], sender: Sender, size: usize) -> (Vec<Said>, Option<Violation>) {
        let mut assembly = Assembly::new(sender, LIMIT);
        let (mut said, mut buffer) = (Vec::new(), BytesMut::new());
        for piece in bytes.chunks(size.max(1)) {
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

    fn refused(frames: &[Vec<u8>]) -> Option<Violation> {
        read(&frames.concat(), Sender::Server, 1).1
    }

    #[test]
    fn control_frames_come_between_fragments_and_keep_their_place() {
        let bytes = [
            server(false, Opcode::Text, "お".as_bytes()),
            server(true, Opcode::Ping, b"alive?"),
            server(false, Opcode::Continuation, b""),
            server(true, Opcode::Continuation, "はよう".as_bytes()),
            server(true, Opcode::Pong, b""),
            server(true, Opcode::Close, &1000_u16.to_be_bytes()),
            b"whatever follows".to_vec(),
        ]
        .concat();
        let (said, violation) = read(&bytes, Sender::Server, 3);
        assert_eq!(violation, None);
        assert_eq!(
            said,
            [
                Said::Ping(b"alive?".to_vec()),
                Said::Message(Message {
                    text: true,
                    payload: "おはよう".into(),
                    longest_frame: 9,
                }),
                Said::Pong(Vec::new()),
                Said::Close(1000_u16.to_be_bytes().to_vec()),
            ]
        );
    }

    #[test]
    fn fragments_that_form_no_message_are_refused() {
        let start = server(false, Opcode::Binary, b"a");
        assert_eq!(
            refused(&[server(true, Opcode::Continuation, b"a")]),
            Some(Violation::Fragments)
        );
        assert_eq!(
            refused(&[start.clone(), server(true, Opcode::Text, b"a")]),
            Some(Violation::Fragments)
        );
        let done = server(true, Opcode::Continuation, b"b");
        assert_eq!(
            refused(&[start, done.clone(), done]),
            Some(Violation::Fragments)
        );
    }

    #[test]
    fn text_is_utf8_as_a_whole_and_not_in_every_fragment() {
        let split = [
            server(false, Opcode::Text, b"\xe3\x81"),
            server(true, Opcode::Continuation, b"\x82"),
        ];
        assert_eq!(refused(&split), None);
        for wrong in [
            b"\xff".as_slice(),
            b"\xed\xa0\x80",
            b"\xc0\xaf",
            b"\xe3\x81",
        ] {
            assert_eq!(
                refused(&[server(true, Opcode::Text, wrong)]),
                Some(Violation::Utf8)
            );
            assert_eq!(refused(&[server(true, Opcode::Binary, wrong)]), None);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_head() {
        let head = |length| {
            let mut bytes = Vec::new();
            Head {
                fin: true,
                opcode: Opcode::Binary,
                mask: None,
                length,
            }
            .write(&mut bytes);
            bytes
        };
        assert_eq!(refused(&[head(1001)]), Some(Violation::TooLarge));
        assert_eq!(refused(&[head(u64::MAX >> 1)]), Some(Violation::TooLarge));
        assert_eq!(refused(&[server(true, Opcode::Binary, &[0; 1000])]), None);
        let half = server(false, Opcode::Binary, &[0; 600]);
        let rest = server(true, Opcode::Continuation, &[0; 401]);
        assert_eq!(refused(&[half, rest]), Some(Violation::TooLarge));
    }

    /// Ping or Pong, and what it carries.
    type Control = (bool, Vec<u8>);

    #[derive(Clone, Debug)]
    struct Sent {
        payload: Vec<u8>,
        text: bool,
        /// Where it is cut, and what is said in between.
        cuts: Vec<(usize, Option<Control>)>,
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let payload = prop_oneof![
            "\\PC{0,200}".prop_map(|text| (text.into_bytes(), true)),
            prop::collection::vec(any::<u8>(), 0..600).prop_map(|bytes| (bytes, false)),
        ];
        let control = (any::<bool>(), prop::collection::vec(any::<u8>(), 0..125));
        let cuts = prop::collection::vec((any::<usize>(), prop::option::of(control)), 0..5);
        (payload, cuts).prop_map(|((payload, text), cuts)| Sent {
            payload,
            text,
            cuts,
        })
    }

    proptest! {
        #[test]
        fn any_fragmentation_yields_the_same_messages(
            all in prop::collection::vec(sent(), 0..5),
            key: Option<[u8; 4]>,
            size in 1..64_usize,
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for Sent { payload, text, cuts } in all {
                let mut cuts = cuts;
                for cut in &mut cuts {
                    cut.0 %= payload.len() + 1;
                }
                cuts.sort_by_key(|cut| cut.0);
                let mut opcode = if text { Opcode::Text } else { Opcode::Binary };
                let (mut from, mut longest) = (0, 0);
                for (cut, control) in cuts {
                    bytes.extend(frame(false, opcode, &payload[from..cut], key));
                    longest = longest.max(cut - from);
                    (from, opcode) = (cut, Opcode::Continuation);
                    if let Some((ping, payload)) = control {
                        let opcode = if ping { Opcode::Ping } else { Opcode::Pong };
                        bytes.extend(frame(true, opcode, &payload, key));
                        expected.push(if ping { Said::Ping(payload) } else { Said::Pong(payload) });
                    }
                }
                bytes.extend(frame(true, opcode, &payload[from..], key));
                let longest_frame = longest.max(payload.len() - from) as u64;
                expected.push(Said::Message(Message { text, payload, longest_frame }));
            }
            let sender = if key.is_some() { Sender::Client } else { Sender::Server };
            let (said, violation) = read(&bytes, sender, size);
            prop_assert_eq!(violation, None);
            prop_assert_eq!(said, expected);
        }

        #[test]
        fn no_bytes_make_it_panic_or_depend_on_how_they_were_cut(
            bytes in prop::collection::vec(prop_oneof![
                any::<u8>(),
                prop::sample::select(vec![0x81, 0x01, 0x80, 0x82, 0x88, 0x89, 0x7e, 0x7f, 0x02, 0x00]),
            ], 0..200),
            size in 1..20_usize,
        ) {
            prop_assert_eq!(read(&bytes, Sender::Server, size), read(&bytes, Sender::Server, 1));
        }
    }
}
