//! The bodies inside a body, as its receiver will see them: unpacked, divided, decoded. Each is scanned on its own, because
//! signatures look at the beginning of a file.
//!
//! Archives and documents are not opened here; the scanner does that. All work is bounded, in size and in number.

use std::io::Read as _;

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use memchr::{memchr, memchr2};

use super::{
    kind::{self, Kinds},
    multipart::{self, Transfer},
    reading::{self, Reading},
};

/// Bodies inside one body.
const VIEWS: usize = 1024;
/// Multipart inside multipart.
const DEPTH: u8 = 4;
/// Base64 shorter than this in JSON is no file: the EICAR test file, which is no longer than it must be, has 92.
const BASE64: usize = 92;
/// Values shorter than this in a form are no file either.
const FIELD: usize = 64;

/// Why a body could not be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opaque {
    /// What is inside is larger than what is inspected, all together.
    TooLarge,
    TooMany,
    TooDeep,
    /// It is not the gzip it claims to be.
    Gzip,
    /// It cannot be divided, or a part cannot be decoded, in the one way that every server would.
    Multipart,
}

impl From<multipart::Indivisible> for Opaque {
    fn from(_: multipart::Indivisible) -> Self {
        Self::Multipart
    }
}

impl From<reading::Unreadable> for Opaque {
    fn from(_: reading::Unreadable) -> Self {
        Self::Multipart
    }
}

/// What is inside.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) views: Vec<Bytes>,
    /// What parts claim to be by their file names.
    pub(crate) kinds: Kinds,
}

/// Whether there may be anything inside a body that begins so.
pub(crate) fn is_worth_opening(reading: &Reading, start: &[u8]) -> bool {
    !reading.is_plain() || is_json(start)
}

/// Takes a body apart. What is inside is together at most three times `largest`.
pub(crate) fn open(body: Bytes, reading: &Reading, largest: u64) -> Result<Inside, Opaque> {
    let mut opening = Opening {
        inside: Inside::default(),
        left: largest.saturating_mul(3),
        largest,
    };
    let content = if reading.gzip {
        let unpacked = Bytes::from(opening.unpack(&body)?);
        opening.add(unpacked.clone())?;
        unpacked
    } else {
        body
    };
    match &reading.boundary {
        Some(boundary) => opening.divide(&content, boundary, DEPTH)?,
        None if reading.form => opening.fields(&content)?,
        None if is_json(&content) => opening.strings(&content)?,
        None => {}
    }
    Ok(opening.inside)
}

struct Opening {
    inside: Inside,
    left: u64,
    largest: u64,
}

impl Opening {
    fn add(&mut self, view: Bytes) -> Result<(), Opaque> {
        if view.is_empty() {
            return Ok(());
        }
        self.left = self
            .left
            .checked_sub(view.len() as u64)
            .ok_or(Opaque::TooLarge)?;
        if self.inside.views.len() == VIEWS {
            return Err(Opaque::TooMany);
        }
        self.inside.views.push(view);
        Ok(())
    }

    /// One gzip member and nothing behind it: some readers stop after the first, others go on.
    fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>, Opaque> {
        let mut decoder = GzDecoder::new(packed);
        let mut unpacked = Vec::new();
        (&mut decoder)
            .take(self.largest + 1)
            .read_to_end(&mut unpacked)
            .map_err(|_| Opaque::Gzip)?;
        if unpacked.len() as u64 > self.largest {
            return Err(Opaque::TooLarge);
        }
        if decoder.into_inner().is_empty() {
            Ok(unpacked)
        } else {
            Err(Opaque::Gzip)
        }
    }

    fn divide(&mut self, body: &Bytes, boundary: &[u8], depth: u8) -> Result<(), Opaque> {
        if depth == 0 {
            return Err(Opaque::TooDeep);
        }
        for part in multipart::divide(body, boundary)? {
            if let Some(disposition) = &part.disposition {
                for name in reading::file_names(disposition).ok_or(Opaque::Multipart)? {
                    self.inside.kinds = self.inside.kinds.and(kind::of_name(&name).into());
                }
            }
            let raw = body.slice(part.content.clone());
            self.add(raw.clone())?;
            let content = match part.transfer()? {
                Transfer::Identity => raw,
                Transfer::Base64 => {
                    let decoded = multipart::from_base64(&raw).ok_or(Opaque::Multipart)?;
                    self.decoded(decoded)?
                }
                Transfer::QuotedPrintable => {
                    self.decoded(multipart::from_quoted_printable(&raw))?
                }
            };
            match &part.media_type {
                Some(media_type) if reading::is_multipart(media_type) => {
                    self.divide(&content, &reading::boundary_of(media_type)?, depth - 1)?;
                }
                _ if is_json(&content) => self.strings(&content)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn decoded(&mut self, decoded: Vec<u8>) -> Result<Bytes, Opaque> {
        let decoded = Bytes::from(decoded);
        self.add(decoded.clone())?;
        Ok(decoded)
    }

    /// The values of a form as its receiver will see them, and files in them.
    fn fields(&mut self, form: &[u8]) -> Result<(), Opaque> {
        for field in form.split(|byte| *byte == b'&') {
            let value = memchr(b'=', field).map_or(field, |at| &field[at + 1..]);
            if value.len() < FIELD {
                continue;
            }
            let spaced: Vec<u8> = value
                .iter()
                .map(|byte| if *byte == b'+' { b' ' } else { *byte })
                .collect();
            let value = self.decoded(reading::percent_decoded(&spaced))?;
            if let Some(file) = base64_in(&value) {
                self.decoded(file)?;
            }
        }
        Ok(())
    }

    /// Files in JSON: strings that are base64 and nothing else, alone or in a `data:` URL (RFC 2397).
    fn strings(&mut self, json: &[u8]) -> Result<(), Opaque> {
        let mut rest = json;
        while let Some(quote) = memchr(b'"', rest) {
            rest = &rest[quote + 1..];
            let end = end_of_string(rest);
            let (text, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if text.len() < BASE64 {
                continue;
            }
            if let Some(decoded) = base64_in(&unescaped(text)) {
                self.decoded(decoded)?;
            }
        }
        Ok(())
    }
}

/// Where a JSON string ends, or everything does.
fn end_of_string(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', &text[at..]) {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at = (at + 2).min(text.len());
    }
    text.len()
}

/// RFC 8259 section 7, as far as base64 goes: what is no ASCII cannot be part of it.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        match rest {
            [] => return plain,
            [b'\\', b'u', b'0', b'0', high, low, after @ ..] => {
                let digit = |byte: u8| {
                    char::from(byte)
                        .to_digit(16)
                        .and_then(|d| u8::try_from(d).ok())
                };
                plain.push(digit(*high).unwrap_or(15) << 4 | digit(*low).unwrap_or(15));
                rest = after;
            }
            [b'\\', b'n' | b'r' | b't', after @ ..] => {
                plain.push(b'\n');
                rest = after;
            }
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
}

fn base64_in(text: &[u8]) -> Option<Vec<u8>> {
    let payload = if text
        .get(..5)
        .is_some_and(|s| s.eq_ignore_ascii_case(b"data:"))
    {
        let comma = memchr(b',', text)?;
        let kind = &text[..comma];
        let coded = kind.len() >= 7 && kind[kind.len() - 7..].eq_ignore_ascii_case(b";base64");
        if !coded {
            return Some(reading::percent_decoded(&text[comma + 1..]));
        }
        reading::percent_decoded(&text[comma + 1..])
    } else {
        text.to_vec()
    };
    (payload.len() >= BASE64).then(|| multipart::from_base64(&payload))?
}

fn is_json(start: &[u8]) -> bool {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const FILE: &[u8] = b"a file that is long enough to be one, since short strings are no files at all, as we know";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn opened(body: &[u8], reading: &Reading) -> Result<Inside, Opaque> {
        open(Bytes::copy_from_slice(body), reading, 1 << 20)
    }

    fn packed() -> Reading {
        Reading {
            gzip: true,
            ..Reading::default()
        }
    }

    fn divided() -> Reading {
        Reading {
            boundary: Some(b"b".to_vec()),
            ..Reading::default()
        }
    }

    #[test]
    fn one_member_of_gzip_is_unpacked_and_a_second_or_a_bomb_is_not() {
        let inside = opened(&gzip(FILE), &packed()).unwrap();
        assert_eq!(inside.views, [FILE]);
        let two = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(opened(&two, &packed()).unwrap_err(), Opaque::Gzip);
        let cut = &gzip(FILE)[..20];
        assert_eq!(opened(cut, &packed()).unwrap_err(), Opaque::Gzip);
        let bomb = gzip(&vec![0; 2 << 20]);
        assert!(bomb.len() < 8192);
        assert_eq!(opened(&bomb, &packed()).unwrap_err(), Opaque::TooLarge);
    }

    #[test]
    fn parts_are_views_raw_and_decoded_at_every_depth() {
        let coded = STANDARD.encode(FILE);
        let inner = format!("--c\r\nContent-Transfer-Encoding: base64\r\n\r\n{coded}\r\n--c--");
        let body =
            format!("--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{inner}\r\n--b--");
        let inside = opened(body.as_bytes(), &divided()).unwrap();
        assert_eq!(inside.views, [inner.as_bytes(), coded.as_bytes(), FILE]);
    }

    #[test]
    fn the_name_of_a_part_counts_where_its_content_cannot_tell() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.js\"\r\n\r\nx=1\r\n--b--";
        let kinds = opened(body, &divided()).unwrap().kinds;
        assert_eq!(
            kinds.iter().collect::<Vec<_>>(),
            [gateway_antivirus::Kind::Script]
        );
    }

    #[test]
    fn files_in_json_are_views() {
        let coded = STANDARD.encode(FILE);
        let escaped = coded.replace('A', "\\u0041").replace('/', "\\/");
        let json = format!(
            r#"{{"a":"{coded}","b":["x \" {coded}","data:text/plain;base64,{escaped}"],"c":"{}"}}"#,
            "記録".repeat(100)
        );
        let inside = opened(json.as_bytes(), &Reading::default()).unwrap();
        assert_eq!(inside.views, [FILE, FILE]);
        assert!(
            opened(b"plain text", &Reading::default())
                .unwrap()
                .views
                .is_empty()
        );
    }

    #[test]
    fn values_of_a_form_are_views_as_their_receiver_sees_them() {
        let form = Reading {
            form: true,
            ..Reading::default()
        };
        let encoded: String = FILE.iter().map(|byte| format!("%{byte:02x}")).collect();
        let coded = STANDARD.encode(FILE).replace('+', "%2B");
        let body = format!("csrf=abc&text={encoded}&picture=data:image/png;base64,{coded}");
        let views = opened(body.as_bytes(), &form).unwrap().views;
        assert_eq!(views.len(), 3);
        assert_eq!([&views[0][..], &views[2]], [FILE, FILE]);
        assert!(opened(b"a=b&c", &form).unwrap().views.is_empty());
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let mut body = String::from("x");
        for _ in 0..6 {
            body =
                format!("--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{body}\r\n--b--");
        }
        assert!(opened(body.as_bytes(), &divided()).is_err());
        let many = format!(
            "[{}]",
            vec![format!("\"{}\"", "A".repeat(92)); VIEWS + 1].join(",")
        );
        assert_eq!(
            opened(many.as_bytes(), &Reading::default()).unwrap_err(),
            Opaque::TooMany
        );
    }
}
