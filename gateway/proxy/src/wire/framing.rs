//! A strict parser of where HTTP/1 requests begin and end (RFC 9112), over bytes as they arrive.
//!
//! It decides what may be handed on; it does not build requests (hyper does, from the same bytes), reads no socket
//! and keeps no bytes. It is stricter than hyper and httparse on purpose: whatever two parsers could understand
//! differently is refused, since behind this gateway stands another parser.

#![forbid(unsafe_code)]

mod grammar;
mod violation;

use std::ops::Range;

pub use violation::Violation;

/// Longest request line, CRLF included (RFC 9112 §3 asks for at least 8000 octets).
pub const MAX_REQUEST_LINE: usize = 8 * 1024;
/// Longest head: request line, field lines and the empty line.
pub const MAX_HEAD: usize = 32 * 1024;
/// Most field lines in a head; hyper's own limit.
pub const MAX_FIELDS: usize = 100;
/// Longest line that opens a chunk, CRLF included.
pub const MAX_CHUNK_LINE: usize = 512;
/// Most bytes of chunk extensions in one message.
pub const MAX_CHUNK_EXTENSIONS: usize = 4 * 1024;
/// Longest trailer section.
pub const MAX_TRAILERS: usize = 8 * 1024;
/// Most field lines in a trailer section.
pub const MAX_TRAILER_FIELDS: usize = 32;

/// What the bytes of one connection are, so far.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    head: Head,
    /// Bytes of chunk extensions in this message.
    extensions: usize,
    /// Bytes and fields of this message's trailers.
    trailers: (usize, usize),
    /// Content bytes of this message, so far.
    content: u64,
    messages: u64,
    /// Content bytes of all messages that ended.
    contents: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Head,
    /// Content of known length; so much is left.
    Length(u64),
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    /// Behind a request that may turn the connection into something else.
    Undecided,
    Broken(Refusal),
}

/// How far the bytes given to [`Framing::push`] were understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes from the start of the window that may be handed on: whole heads, content, whole chunk and trailer lines.
    pub released: usize,
    /// What to do about the rest.
    pub verdict: Verdict,
}

/// What the bytes behind [`Progress::released`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The beginning of a head or a line, which needs more bytes; or nothing.
    More,
    /// Behind a CONNECT or a request with Upgrade: HTTP only if the request is not granted ([`Framing::resume`]).
    MaySwitch,
    /// They break a rule, and nothing on this connection can be trusted any more.
    Refused(Refusal),
}

/// Where a rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// In a head, of which nothing was released.
    Head(Violation),
    /// In the content or trailers of a request whose head was released.
    Body(Violation),
}

impl Refusal {
    /// The broken rule.
    #[must_use]
    pub const fn violation(self) -> Violation {
        match self {
            Self::Head(violation) | Self::Body(violation) => violation,
        }
    }
}

/// What is known of the head being read. Positions count from the start of the window, which is the start of the head.
#[derive(Debug, Default)]
struct Head {
    /// Where the next line begins.
    next: usize,
    /// Up to where LF was looked for in vain.
    searched: usize,
    /// Lines read, empty ones included.
    lines: usize,
    fields: usize,
    request_line: bool,
    http10: bool,
    connect: bool,
    /// The authority in the request target.
    authority: Option<Range<usize>>,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Framing {
    /// A new connection, before its first byte.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests whose end was reached.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Content bytes of these requests, without chunk lines and trailers.
    #[must_use]
    pub const fn content_bytes(&self) -> u64 {
        self.contents
    }

    /// Judges `window`: the bytes that were not released yet, and whatever arrived since.
    ///
    /// The answer does not depend on how the bytes were cut into windows.
    pub fn push(&mut self, window: &[u8]) -> Progress {
        let mut released = 0;
        let verdict = loop {
            let rest = &window[released..];
            match self.step(rest) {
                Ok(Some(length)) => released += length,
                Ok(None) => {
                    break match self.state {
                        State::Undecided => Verdict::MaySwitch,
                        _ => Verdict::More,
                    };
                }
                Err(refusal) => {
                    self.state = State::Broken(refusal);
                    break Verdict::Refused(refusal);
                }
            }
        };
        Progress { released, verdict }
    }

    /// Goes on as HTTP behind a request that might have switched protocols and did not.
    pub fn resume(&mut self) {
        if matches!(self.state, State::Undecided) {
            self.state = State::Head;
        }
    }

    /// Takes one piece from `rest`; `None` when it holds none that is whole.
    fn step(&mut self, rest: &[u8]) -> Result<Option<usize>, Refusal> {
        match self.state {
            State::Broken(refusal) => Err(refusal),
            State::Undecided => Ok(None),
            _ if rest.is_empty() => Ok(None),
            State::Head => self.head(rest).map_err(Refusal::Head),
            State::Length(left) => Ok(Some(self.content(rest, left, State::Length))),
            State::ChunkData(left) => Ok(Some(self.content(rest, left, State::ChunkData))),
            State::ChunkLine => self.chunk_line(rest).map_err(Refusal::Body),
            State::ChunkEnd => self.chunk_end(rest).map_err(Refusal::Body),
            State::Trailers => self.trailer_line(rest).map_err(Refusal::Body),
        }
    }

    /// Content bytes, of which `left` are still to come.
    fn content(&mut self, rest: &[u8], left: u64, state: fn(u64) -> State) -> usize {
        let length = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let left = left - length as u64;
        self.content += length as u64;
        if left > 0 {
            self.state = state(left);
        } else if matches!(self.state, State::ChunkData(_)) {
            self.state = State::ChunkEnd;
        } else {
            self.end_of_message();
        }
        length
    }

    fn end_of_message(&mut self) {
        self.messages += 1;
        self.contents += std::mem::take(&mut self.content);
        self.state = if self.head.connect || self.head.upgrade {
            State::Undecided
        } else {
            State::Head
        };
        self.head = Head::default();
        self.extensions = 0;
        self.trailers = (0, 0);
    }

    /// A whole head, if `window` has it.
    ///
    /// The first pass leaves control characters aside; they are counted in one sweep over the finished head, which has
    /// two in each line when all is well. Otherwise a second, careful pass finds the first fault in reading order, so
    /// that the answer does not depend on where reads were cut, or none (a field value with HTAB).
    fn head(&mut self, window: &[u8]) -> Result<Option<usize>, Violation> {
        let end = match self.head.lines(window, Care::Quick) {
            Ok(None) => return Ok(None),
            Ok(Some(end)) if grammar::count_controls(&window[..end]) == 2 * self.head.lines => {
                Some(end)
            }
            Ok(Some(_)) | Err(_) => {
                self.head = Head::default();
                self.head.lines(window, Care::Full)?
            }
        };
        if end.is_some() {
            self.begin_content();
        }
        Ok(end)
    }

    fn begin_content(&mut self) {
        if self.head.chunked {
            self.state = State::ChunkLine;
        } else {
            match self.head.length {
                None | Some(0) => self.end_of_message(),
                Some(length) => self.state = State::Length(length),
            }
        }
    }

    /// `chunk-size [ chunk-ext ] CRLF` (§7.1).
    fn chunk_line(&mut self, rest: &[u8]) -> Result<Option<usize>, Violation> {
        let Some(line) =
            whole_line(rest, MAX_CHUNK_LINE).ok_or(Violation::ChunkExtensionsTooLarge)?
        else {
            return Ok(None);
        };
        let content = without_crlf(line)?;
        refuse_controls(content)?;
        let digits = content
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (size, extension) = content.split_at(digits);
        let size = grammar::hexadecimal(size).ok_or(Violation::ChunkSize)?;
        match extension.first() {
            None => {}
            Some(b';') if grammar::is_chunk_extension(extension) => {}
            Some(b';') => return Err(Violation::ChunkExtension),
            Some(_) => return Err(Violation::ChunkSize),
        }
        self.extensions += extension.len();
        if self.extensions > MAX_CHUNK_EXTENSIONS {
            return Err(Violation::ChunkExtensionsTooLarge);
        }
        self.state = if size == 0 {
            State::Trailers
        } else {
            State::ChunkData(size)
        };
        Ok(Some(line.len()))
    }

    /// The CRLF behind chunk data.
    fn chunk_end(&mut self, rest: &[u8]) -> Result<Option<usize>, Violation> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.state = State::ChunkLine;
                Ok(Some(2))
            }
            [b'\r'] => Ok(None),
            _ => Err(Violation::ChunkEnd),
        }
    }

    /// A field line of the trailer section, or the empty line behind it (§7.1.2).
    fn trailer_line(&mut self, rest: &[u8]) -> Result<Option<usize>, Violation> {
        let (bytes, fields) = self.trailers;
        let Some(line) =
            whole_line(rest, MAX_TRAILERS - bytes).ok_or(Violation::TrailersTooLarge)?
        else {
            return Ok(None);
        };
        let content = without_crlf(line)?;
        if content.is_empty() {
            self.end_of_message();
            return Ok(Some(line.len()));
        }
        refuse_controls(content)?;
        if fields == MAX_TRAILER_FIELDS {
            return Err(Violation::TrailersTooLarge);
        }
        self.trailers = (bytes + line.len(), fields + 1);
        let name = &content[..field_name(content)?];
        if grammar::is_forbidden_in_trailers(name) {
            return Err(Violation::TrailerForbidden);
        }
        Ok(Some(line.len()))
    }
}

/// How thoroughly a head's lines are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Everything but control characters.
    Quick,
    Full,
}

impl Head {
    /// Reads the lines of `window` that were not read yet; the head's length when the last one is there.
    fn lines(&mut self, window: &[u8], care: Care) -> Result<Option<usize>, Violation> {
        loop {
            let Some(found) = memchr::memchr(b'\n', &window[self.searched..]) else {
                self.searched = window.len();
                // A complete line would be one byte longer at least.
                self.refuse_excess(window.len() + 1)?;
                return Ok(None);
            };
            let start = self.next;
            let end = self.searched + found + 1;
            self.refuse_excess(end)?;
            self.next = end;
            self.searched = end;
            self.lines += 1;
            let line = without_crlf(&window[start..end])?;
            if care == Care::Full {
                refuse_controls(line)?;
            }
            if self.request_line {
                if line.is_empty() {
                    self.finish(window)?;
                    return Ok(Some(end));
                }
                self.field(line, start)?;
            } else if !line.is_empty() {
                self.request_line(line, start)?;
            } else if self.lines > 1 {
                // §2.2: at least one empty line SHOULD be ignored. One is what old browsers send behind a form.
                return Err(Violation::EmptyLines);
            }
        }
    }

    /// Refuses a head whose current line reaches to `end` at least.
    const fn refuse_excess(&self, end: usize) -> Result<(), Violation> {
        if !self.request_line && end - self.next > MAX_REQUEST_LINE {
            return Err(Violation::RequestLineTooLong);
        }
        if end > MAX_HEAD {
            return Err(Violation::HeadTooLarge);
        }
        Ok(())
    }

    /// `method SP request-target SP HTTP-version` (§3), single spaces only.
    fn request_line(&mut self, line: &[u8], start: usize) -> Result<(), Violation> {
        let first = memchr::memchr(b' ', line).ok_or(Violation::RequestLine)?;
        let second =
            first + 1 + memchr::memchr(b' ', &line[first + 1..]).ok_or(Violation::RequestLine)?;
        let (method, target, version) = (
            &line[..first],
            &line[first + 1..second],
            &line[second + 1..],
        );
        match version {
            b"HTTP/1.1" => {}
            b"HTTP/1.0" => self.http10 = true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Violation::Version);
            }
            _ => return Err(Violation::RequestLine),
        }
        if !grammar::is_token(method) {
            return Err(Violation::Method);
        }
        self.request_line = true;
        self.target(method, target, start + first + 1)
    }

    /// The request target (§3.2), which begins at `start`.
    fn target(&mut self, method: &[u8], target: &[u8], start: usize) -> Result<(), Violation> {
        if target.is_empty() {
            return Err(Violation::RequestLine);
        }
        if !grammar::is_target(target) {
            return Err(Violation::TargetCharacter);
        }
        if method == b"CONNECT" {
            // §3.2.3; RFC 9110 §9.3.6: there is no default port.
            self.connect = true;
            if target.starts_with(b"/") || target == b"*" || absolute_form(target).is_some() {
                return Err(Violation::TargetForm);
            }
            if !grammar::is_authority(target, true) {
                return Err(Violation::TargetAuthority);
            }
            self.authority = Some(start..start + target.len());
            return Ok(());
        }
        if target.starts_with(b"/") {
            return Ok(());
        }
        if target == b"*" {
            return if method == b"OPTIONS" {
                Ok(())
            } else {
                Err(Violation::TargetForm)
            };
        }
        let authority = absolute_form(target).ok_or(Violation::TargetForm)?;
        if !grammar::is_authority(&target[authority.clone()], false) {
            return Err(Violation::TargetAuthority);
        }
        self.authority = Some(start + authority.start..start + authority.end);
        Ok(())
    }

    /// `field-name ":" OWS field-value OWS` (§5), beginning at `start`.
    fn field(&mut self, line: &[u8], start: usize) -> Result<(), Violation> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Violation::TooManyFields);
        }
        let colon = field_name(line)?;
        let name = &line[..colon];
        // Only five names matter here; the length tells most fields apart from them.
        match colon {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(line, colon, start),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length =
                    grammar::decimal(value(line, colon)).ok_or(Violation::ContentLengthInvalid)?;
                match self.length.replace(length) {
                    None => Ok(()),
                    Some(_) => Err(Violation::ContentLengthRepeated),
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // §6.1: chunked must be the final coding, once; no other coding is spoken here.
                let repeated = std::mem::replace(&mut self.chunked, true);
                if repeated || !value(line, colon).eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncoding);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn host(&mut self, line: &[u8], colon: usize, start: usize) -> Result<(), Violation> {
        let host = value(line, colon);
        if self.host.is_some() {
            return Err(Violation::HostRepeated);
        }
        if !grammar::is_authority(host, false) {
            return Err(Violation::HostInvalid);
        }
        let before = line[colon + 1..]
            .iter()
            .take_while(|byte| is_space(**byte))
            .count();
        let from = start + colon + 1 + before;
        self.host = Some(from..from + host.len());
        Ok(())
    }

    /// What only the whole head shows.
    fn finish(&self, window: &[u8]) -> Result<(), Violation> {
        if self.host.is_none() && !self.http10 {
            return Err(Violation::HostMissing);
        }
        if self.chunked && self.length.is_some() {
            return Err(Violation::LengthWithEncoding);
        }
        if self.chunked && self.http10 {
            return Err(Violation::TransferEncodingInHttp10);
        }
        if self.connect && (self.chunked || self.length.is_some()) {
            return Err(Violation::ConnectWithContent);
        }
        let (Some(authority), Some(host)) = (&self.authority, &self.host) else {
            return Ok(());
        };
        let (authority, host) = (&window[authority.clone()], &window[host.clone()]);
        // Beside a CONNECT some clients leave the port out of Host.
        let without_port =
            memchr::memrchr(b':', authority).map_or(authority, |colon| &authority[..colon]);
        if authority.eq_ignore_ascii_case(host)
            || self.connect && without_port.eq_ignore_ascii_case(host)
        {
            Ok(())
        } else {
            Err(Violation::HostDiffersFromTarget)
        }
    }
}

/// The line at the start of `bytes`; `Some(None)` when its end is not there yet, `None` when it is longer than `limit`.
#[allow(clippy::option_option, reason = "three answers: whole, not yet, never")]
fn whole_line(bytes: &[u8], limit: usize) -> Option<Option<&[u8]>> {
    let within = &bytes[..bytes.len().min(limit)];
    match memchr::memchr(b'\n', within) {
        Some(end) => Some(Some(&within[..=end])),
        None if bytes.len() >= limit => None,
        None => Some(None),
    }
}

/// A line, which ends with LF, without its CRLF.
fn without_crlf(line: &[u8]) -> Result<&[u8], Violation> {
    line.strip_suffix(b"\r\n").ok_or(Violation::BareLineFeed)
}

/// Refuses control characters other than HTAB (RFC 9110 §5.5), CR by its own name (§2.2).
fn refuse_controls(line: &[u8]) -> Result<(), Violation> {
    if !grammar::has_control(line) {
        Ok(())
    } else if memchr::memchr(b'\r', line).is_some() {
        Err(Violation::BareCarriageReturn)
    } else {
        Err(Violation::ControlCharacter)
    }
}

/// The length of the field name that `line` begins with; the colon is behind it.
fn field_name(line: &[u8]) -> Result<usize, Violation> {
    let length = grammar::token_length(line);
    match line.get(length) {
        Some(b':') if length > 0 => Ok(length),
        Some(&byte) if length == 0 && is_space(byte) => Err(Violation::LineFolding),
        Some(&byte) if is_space(byte) => Err(Violation::SpaceBeforeColon),
        Some(_) => Err(Violation::FieldName),
        None => Err(Violation::FieldLine),
    }
}

/// The field value behind the colon, without the optional whitespace around it.
fn value(line: &[u8], colon: usize) -> &[u8] {
    let mut value = &line[colon + 1..];
    while let [first, rest @ ..] = value {
        if !is_space(*first) {
            break;
        }
        value = rest;
    }
    while let [rest @ .., last] = value {
        if !is_space(*last) {
            break;
        }
        value = rest;
    }
    value
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Where the authority of an absolute-form target (§3.2.2) with scheme http or https is.
fn absolute_form(target: &[u8]) -> Option<Range<usize>> {
    let scheme = [&b"http://"[..], &b"https://"[..]]
        .into_iter()
        .find(|scheme| {
            target.len() >= scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme)
        })?;
    let start = scheme.len();
    let length = target[start..]
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(target.len() - start);
    Some(start..start + length)
}

#[cfg(test)]
pub(in crate::wire) mod tests;
