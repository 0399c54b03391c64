//! An incremental parser for `text/event-stream` (WHATWG HTML §9.2), bounded and strict about UTF-8.
//!
//! It does not reconnect, does not know event names and never panics, whatever the bytes and however they are cut. Lines and
//! data are wiped when they go: they are notes of persons, readable.

use zeroize::Zeroizing;

/// The longest event, in bytes over all its lines, that is accepted. A note's text plus its JSON stays far below.
pub const MAX_EVENT: usize = 1024 * 1024;

/// What the parser found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A dispatched event.
    Event {
        /// The `event` field; `message` when absent.
        name: String,
        /// The `data` lines joined by line feeds.
        data: Zeroizing<String>,
        /// The `id` field of this very event, when it had one.
        id: Option<String>,
    },
    /// A comment line: a sign of life.
    Comment,
    /// The city asked for this reconnection time, in milliseconds.
    Retry(u64),
}

/// The stream is not what it should be. The connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// Longer than [`MAX_EVENT`].
    #[error("an event is longer than {MAX_EVENT} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("a line is not UTF-8")]
    NotUtf8,
}

/// The parser's state between two pieces of the stream.
#[derive(Debug, Default)]
pub struct Parser {
    line: Zeroizing<Vec<u8>>,
    after_carriage_return: bool,
    past_first_line: bool,
    name: String,
    data: Zeroizing<String>,
    has_data: bool,
    id: Option<String>,
}

impl Parser {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece and appends what it completes to `out`.
    ///
    /// # Errors
    /// When the stream breaks a bound or is not UTF-8. What was completed before is in `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<Frame>) -> Result<(), SseError> {
        for &byte in piece {
            let after_carriage_return = std::mem::take(&mut self.after_carriage_return);
            match byte {
                b'\n' if after_carriage_return => {}
                b'\n' => self.end_of_line(out)?,
                b'\r' => {
                    self.after_carriage_return = true;
                    self.end_of_line(out)?;
                }
                _ if self.line.len() + self.data.len() + self.name.len() >= MAX_EVENT => {
                    return Err(SseError::TooLong);
                }
                _ => push(&mut self.line, byte),
            }
        }
        Ok(())
    }

    fn end_of_line(&mut self, out: &mut Vec<Frame>) -> Result<(), SseError> {
        let line = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&line).map_err(|_| SseError::NotUtf8)?;
        // "The stream may begin with one BOM" (§9.2.5): only the very first line.
        let line = if std::mem::replace(&mut self.past_first_line, true) {
            line
        } else {
            line.strip_prefix('\u{feff}').unwrap_or(line)
        };
        if line.is_empty() {
            self.dispatch(out);
            return Ok(());
        }
        if line.starts_with(':') {
            out.push(Frame::Comment);
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    append(&mut self.data, "\n");
                }
                append(&mut self.data, value);
                self.has_data = true;
            }
            // An id with a NUL is ignored (§9.2.6).
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => {
                if let Ok(milliseconds) = value.parse::<u64>()
                    && value.bytes().all(|byte| byte.is_ascii_digit())
                {
                    out.push(Frame::Retry(milliseconds));
                }
            }
            _ => {}
        }
        if self.data.len() + self.name.len() > MAX_EVENT {
            return Err(SseError::TooLong);
        }
        Ok(())
    }

    fn dispatch(&mut self, out: &mut Vec<Frame>) {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        let id = self.id.take();
        // An event without data is not dispatched (§9.2.6).
        if std::mem::take(&mut self.has_data) {
            let name = if name.is_empty() {
                "message".to_owned()
            } else {
                name
            };
            out.push(Frame::Event { name, data, id });
        }
    }
}

/// A buffer's first size; more lines than not fit in.
const FIRST: usize = 512;

/// As `Vec::push`, which would leave the outgrown bytes behind.
fn push(line: &mut Zeroizing<Vec<u8>>, byte: u8) {
    if line.len() == line.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity((2 * line.len()).max(FIRST)));
        larger.extend_from_slice(line);
        *line = larger;
    }
    line.push(byte);
}

/// As `String::push_str`, likewise.
fn append(data: &mut Zeroizing<String>, more: &str) {
    let length = data.len() + more.len();
    if length > data.capacity() {
        let larger = if data.is_empty() { length } else { 2 * length };
        let mut larger = Zeroizing::new(String::with_capacity(larger));
        larger.push_str(data);
        *data = larger;
    }
    data.push_str(more);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Result<Vec<Frame>, SseError> {
        let mut parser = Parser::new();
        let mut out = Vec::new();
        for piece in pieces {
            parser.push(piece, &mut out)?;
        }
        Ok(out)
    }

    fn event(name: &str, data: &str, id: Option<&str>) -> Frame {
        Frame::Event {
            name: name.into(),
            data: data.to_owned().into(),
            id: id.map(Into::into),
        }
    }

    #[test]
    fn events_comments_and_retry_are_told_apart() {
        let stream = b"\xef\xbb\xbf: hello\n\nevent: note\ndata: {\"a\":\ndata: 1}\nid: 7\n\nretry: 3000\ndata:x\n\n";
        let expected = vec![
            Frame::Comment,
            event("note", "{\"a\":\n1}", Some("7")),
            Frame::Retry(3000),
            event("message", "x", None),
        ];
        assert_eq!(parse(&[stream]), Ok(expected));
    }

    #[test]
    fn every_kind_of_line_end_is_one_line_end() {
        let expected = Ok(vec![event("a", "1", Some("x")), event("b", "2", None)]);
        for end in ["\n", "\r", "\r\n"] {
            let stream = [
                "event: a", "data: 1", "id: x", "", "event: b", "data: 2", "", "",
            ]
            .join(end);
            assert_eq!(parse(&[stream.as_bytes()]), expected, "{end:?}");
        }
    }

    #[test]
    fn an_event_without_data_is_not_dispatched_and_its_id_is_not_kept() {
        assert_eq!(
            parse(&[b"event: a\nid: 1\n\ndata: 2\n\n"]),
            Ok(vec![event("message", "2", None)])
        );
    }

    #[test]
    fn an_unfinished_event_is_never_dispatched() {
        assert_eq!(
            parse(&[b"event: person-ended\ndata: {\"id\":\"p\"}\n"]),
            Ok(vec![])
        );
    }

    #[test]
    fn an_endless_line_or_event_is_refused() {
        let long = vec![b'x'; MAX_EVENT + 1];
        assert_eq!(parse(&[&long]), Err(SseError::TooLong));
        let line = [b"data: ".as_slice(), &[b'y'; 4000], b"\n"].concat();
        assert_eq!(parse(&[&line.repeat(300)]), Err(SseError::TooLong));
    }

    #[test]
    fn a_line_that_is_not_utf8_is_refused() {
        assert_eq!(parse(&[b"data: \xff\n\n"]), Err(SseError::NotUtf8));
    }

    fn streamlike() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            Just(b"data: ".to_vec()),
            Just(b"event: note".to_vec()),
            Just(b"id: 5".to_vec()),
            Just(b"retry: 10".to_vec()),
            Just(b":".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n\n".to_vec()),
            Just("連絡".as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..3),
        ];
        prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_events(
            stream in streamlike(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut whole = Vec::new();
            let whole_result = Parser::new().push(&stream, &mut whole);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&stream[from..cut]);
                from = cut;
            }
            pieces.push(&stream[from..]);
            let mut parser = Parser::new();
            let mut out = Vec::new();
            let result = pieces.iter().try_for_each(|piece| parser.push(piece, &mut out));
            prop_assert_eq!(result, whole_result);
            prop_assert_eq!(out, whole);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(stream in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = Parser::new().push(&stream, &mut Vec::new());
        }
    }
}
