//! Cuts `text/event-stream` (HTML Standard, section "Server-sent events") into events. A comment outside of an event stands
//! for itself, because heartbeats are comments and nothing follows them for a long while.
//!
//! Does not change a byte: what goes in comes out, whole lines at a time.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// An event is longer than what is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is too large")]
pub struct TooLarge;

/// An event stream on its way through.
#[derive(Debug)]
pub struct Events {
    buffer: BytesMut,
    /// Lines up to here are whole and belong to the event begun.
    line: usize,
    /// No line ends between `line` and here.
    searched: usize,
    /// The event begun has lines that are no comments.
    begun: bool,
    /// The last line ended with a carriage return: a line feed now belongs to it.
    returned: bool,
    /// The event begun is the first, before which a byte order mark may stand.
    first: bool,
    limit: usize,
}

/// One event, or a comment between events, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Every byte, the ends of lines included.
    pub raw: Bytes,
    /// What a browser makes of its `data` lines: their values joined with line feeds. Empty if it has none.
    pub data: Bytes,
}

impl Events {
    /// An event has at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            line: 0,
            searched: 0,
            begun: false,
            returned: false,
            first: true,
            limit,
        }
    }

    /// Bytes that wait for the end of their event.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Adds what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event; `None` when more is needed.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn next_event(&mut self) -> Result<Option<Event>, TooLarge> {
        loop {
            if self.returned && self.line < self.buffer.len() {
                self.returned = false;
                if self.buffer[self.line] == b'\n' {
                    self.line += 1;
                    self.searched = self.line;
                    if self.line == 1 {
                        // Its line has gone already.
                        return Ok(Some(self.cut()));
                    }
                }
            }
            let Some(end) = memchr2(b'\r', b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                return self.more();
            };
            let end = self.searched + end;
            if end >= self.limit {
                return Err(TooLarge);
            }
            let start = self.line.max(self.mark().min(end));
            let (empty, comment) = (start == end, self.buffer[start] == b':');
            self.returned = self.buffer[end] == b'\r';
            self.line = end + 1;
            if self.returned && self.buffer.get(self.line) == Some(&b'\n') {
                self.returned = false;
                self.line += 1;
            }
            self.searched = self.line;
            if empty || (comment && !self.begun) {
                return Ok(Some(self.cut()));
            }
            self.begun |= !comment;
        }
    }

    fn more(&self) -> Result<Option<Event>, TooLarge> {
        if self.buffer.len() > self.limit {
            Err(TooLarge)
        } else {
            Ok(None)
        }
    }

    /// What is left when the stream has ended: the beginning of an event that browsers do not take for one.
    pub fn end(&mut self) -> Option<Event> {
        self.line = self.buffer.len();
        (self.line > 0).then(|| self.cut())
    }

    /// Bytes of the byte order mark.
    fn mark(&self) -> usize {
        if self.first && self.buffer.starts_with(BOM) {
            BOM.len()
        } else {
            0
        }
    }

    fn cut(&mut self) -> Event {
        let mark = self.mark();
        let raw = self.buffer.split_to(self.line).freeze();
        self.first = false;
        self.line = 0;
        self.searched = 0;
        self.begun = false;
        Event {
            data: data(&raw, mark.min(raw.len())),
            raw,
        }
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The data of an event whose lines begin after `mark` bytes.
fn data(raw: &Bytes, mark: usize) -> Bytes {
    let mut lines = raw[mark..]
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .filter_map(value);
    let Some(first) = lines.next() else {
        return Bytes::new();
    };
    match lines.next() {
        None => raw.slice_ref(first),
        Some(second) => {
            let mut joined = BytesMut::with_capacity(raw.len());
            joined.extend_from_slice(first);
            for line in std::iter::once(second).chain(lines) {
                joined.extend_from_slice(b"\n");
                joined.extend_from_slice(line);
            }
            joined.freeze()
        }
    }
}

/// The value of a line whose field is `data`.
fn value(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(b""),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 200;

    /// Reads a stream in pieces of `size`.
    fn read(stream: &[u8], size: usize) -> Result<Vec<Event>, TooLarge> {
        let mut events = Events::new(LIMIT);
        let mut all = Vec::new();
        for piece in stream.chunks(size) {
            events.push(piece);
            while let Some(event) = events.next_event()? {
                all.push(event);
            }
        }
        all.extend(events.end());
        Ok(all)
    }

    fn texts(stream: &str, size: usize) -> Vec<String> {
        let text = |event: Event| String::from_utf8(event.raw.to_vec()).unwrap();
        read(stream.as_bytes(), size)
            .unwrap()
            .into_iter()
            .map(text)
            .collect()
    }

    #[test]
    fn events_end_with_an_empty_line_of_any_kind() {
        for end in ["\n", "\r\n", "\r"] {
            let first = format!("id: 1{end}data: a{end}data: b{end}{end}");
            let second = format!("data:c{end}{end}");
            let stream = format!("{first}{second}");
            assert_eq!(
                texts(&stream, stream.len()),
                [first.clone(), second.clone()]
            );
            let read = read(stream.as_bytes(), stream.len()).unwrap();
            assert_eq!(read[0].data, "a\nb");
            assert_eq!(read[1].data, "c");
        }
    }

    #[test]
    fn a_carriage_return_is_not_waited_upon_and_its_line_feed_follows() {
        let mut events = Events::new(LIMIT);
        events.push(b"data: a\r\n\r");
        assert_eq!(events.next_event().unwrap().unwrap().data, "a");
        events.push(b"\n");
        assert_eq!(events.next_event().unwrap().unwrap().raw, "\n");
        events.push(b"data: b\n\n");
        assert_eq!(events.next_event().unwrap().unwrap().data, "b");
    }

    #[test]
    fn a_heartbeat_goes_on_at_once_and_a_comment_inside_an_event_stays_there() {
        assert_eq!(
            texts(":\n:again\ndata: a\n:inside\n\n", 1),
            [":\n", ":again\n", "data: a\n:inside\n\n"]
        );
    }

    #[test]
    fn a_byte_order_mark_belongs_to_no_field() {
        let read = read(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", 1).unwrap();
        assert_eq!(read[0].data, "a");
        assert_eq!(read[1].data, "", "only at the beginning");
    }

    #[test]
    fn data_is_what_a_browser_would_make_of_it() {
        let read = read(b"data\ndata:  two\ndatax: no\nDATA: no\ndata:three\n\n", 1).unwrap();
        assert_eq!(read[0].data, "\n two\nthree");
    }

    #[test]
    fn an_event_over_the_limit_is_refused_before_it_ends() {
        let mut long = b"data: ".to_vec();
        long.resize(LIMIT, b'x');
        assert!(read(&long, 7).is_ok());
        long.push(b'x');
        assert_eq!(read(&long, 7), Err(TooLarge));
        let lines = b"data: x\n".repeat(30);
        assert_eq!(read(&lines, lines.len()), Err(TooLarge));
    }

    #[test]
    fn what_has_no_end_comes_when_the_stream_ends() {
        assert_eq!(texts("data: a\n\ndata: b", 4), ["data: a\n\n", "data: b"]);
    }

    proptest! {
        #[test]
        fn not_a_byte_is_changed_and_the_data_does_not_depend_on_how_it_was_cut(
            lines in prop::collection::vec(
                prop::sample::select(vec!["data: a", "data", ":c", "", "", "id: 1", "x", "\u{feff}data: b"]),
                0..30,
            ),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r", "\r\n"]), 30),
            size in 1..9_usize,
        ) {
            let stream: String = lines.iter().zip(&ends).flat_map(|(line, end)| [*line, *end]).collect();
            let result = |size| read(stream.as_bytes(), size).map(|events| {
                let raw: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
                let data: Vec<Bytes> = events.into_iter().map(|event| event.data).filter(|data| !data.is_empty()).collect();
                (raw, data)
            });
            let (whole, pieces) = (result(stream.len().max(1)), result(size));
            if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
                prop_assert_eq!(&whole.0, stream.as_bytes());
                prop_assert_eq!(whole, pieces);
            }
        }
    }
}
