//! Divides a multipart body (RFC 2046 section 5.1, RFC 7578) so strictly that every server divides it the same way.
//!
//! It does not decode or judge parts. What a lenient reader might divide elsewhere is refused: text before the first or
//! behind the last delimiter, bare line feeds, folded or doubled fields, a delimiter in the middle of a line.

use std::ops::Range;

use memchr::memmem;

/// Parts of one body.
const PARTS: usize = 256;
/// Fields of one part, and bytes of its head.
const FIELDS: usize = 16;
const HEAD: usize = 8 * 1024;

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `Content-Disposition`, if there is one.
    pub disposition: Option<Vec<u8>>,
    /// `Content-Type`, if there is one.
    pub media_type: Option<Vec<u8>>,
    /// `Content-Transfer-Encoding`, in lower case, if there is one.
    pub transfer: Option<Vec<u8>>,
    /// Where its content lies in the body.
    pub content: Range<usize>,
}

/// The body is not what every server would read in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a multipart body cannot be divided: {0}")]
pub struct Indivisible(pub &'static str);

/// Finds all parts.
///
/// # Errors
/// [`Indivisible`] for whatever is not plainly written, or too many parts.
pub fn divide(body: &[u8], boundary: &[u8]) -> Result<Vec<Part>, Indivisible> {
    let delimiter = [b"--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    let mut parts = Vec::new();
    if !body.starts_with(&delimiter) {
        return Err(Indivisible("text before the first part"));
    }
    let mut at = delimiter.len();
    loop {
        let rest = &body[at..];
        if let Some(end) = rest.strip_prefix(b"--") {
            return match end {
                b"" | b"\r\n" => Ok(parts),
                _ => Err(Indivisible("text behind the last part")),
            };
        }
        if !rest.starts_with(b"\r\n") {
            return Err(Indivisible("a delimiter that does not end its line"));
        }
        if parts.len() == PARTS {
            return Err(Indivisible("too many parts"));
        }
        at += 2;
        let (mut part, begin) = head(body, at)?;
        let next = finder
            .find(&body[begin..])
            .map(|found| begin + found)
            .ok_or(Indivisible("no end"))?;
        // An empty part may end where it begins: its head has just ended a line.
        let end = if next == begin {
            return Err(Indivisible("a delimiter inside a head"));
        } else if body[begin..next].ends_with(b"\r\n") {
            next - 2
        } else {
            return Err(Indivisible("a delimiter inside a line"));
        };
        part.content = begin..end;
        parts.push(part);
        at = next + delimiter.len();
    }
}

/// The head of a part at `at`, and where its content begins.
fn head(body: &[u8], mut at: usize) -> Result<(Part, usize), Indivisible> {
    let begin = at;
    let mut part = Part {
        disposition: None,
        media_type: None,
        transfer: None,
        content: 0..0,
    };
    for _ in 0..=FIELDS {
        let rest = &body[at..body.len().min(begin + HEAD)];
        let end = memmem::find(rest, b"\r\n").ok_or(Indivisible("a head without end"))?;
        let line = &rest[..end];
        at += end + 2;
        if line.is_empty() {
            return Ok((part, at));
        }
        field(line, &mut part)?;
    }
    Err(Indivisible("too many fields"))
}

fn field(line: &[u8], part: &mut Part) -> Result<(), Indivisible> {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(Indivisible("a line that is no field"))?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(|byte| super::reading::is_token(*byte)) {
        return Err(Indivisible("a field without a name"));
    }
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        return Err(Indivisible("a control character in a field"));
    }
    let known = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
    let place = if known("content-disposition") {
        &mut part.disposition
    } else if known("content-type") {
        &mut part.media_type
    } else if known("content-transfer-encoding") {
        &mut part.transfer
    } else if known("content-encoding") && !value.eq_ignore_ascii_case(b"identity") {
        return Err(Indivisible("a compressed part"));
    } else {
        return Ok(());
    };
    if place.is_some() {
        return Err(Indivisible("a field twice"));
    }
    *place = Some(value.to_vec());
    Ok(())
}

/// What a transfer encoding does to a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Nothing.
    Identity,
    /// RFC 2045 section 6.8.
    Base64,
    /// RFC 2045 section 6.7.
    QuotedPrintable,
}

impl Part {
    /// Its transfer encoding.
    ///
    /// # Errors
    /// [`Indivisible`] if it is none of the known ones.
    pub fn transfer(&self) -> Result<Transfer, Indivisible> {
        let Some(name) = &self.transfer else {
            return Ok(Transfer::Identity);
        };
        match name.to_ascii_lowercase().as_slice() {
            b"7bit" | b"8bit" | b"binary" => Ok(Transfer::Identity),
            b"base64" => Ok(Transfer::Base64),
            b"quoted-printable" => Ok(Transfer::QuotedPrintable),
            _ => Err(Indivisible("an unknown transfer encoding")),
        }
    }
}

/// Decodes base64, with or without padding, in either alphabet, with line ends between; `None` for anything that readers
/// treat differently: other characters, or more behind the padding.
#[must_use]
pub fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut held, mut padded) = (0_u32, 0_u8, false);
    for byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => {
                padded = true;
                continue;
            }
            b'\r' | b'\n' | b' ' | b'\t' => continue,
            _ => return None,
        };
        if padded {
            return None;
        }
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            decoded.push(u8::try_from(bits >> held & 0xff).unwrap_or(0));
        }
    }
    Some(decoded)
}

/// Decodes quoted-printable; what is no escape stays.
#[must_use]
pub fn from_quoted_printable(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        match rest {
            [] => return decoded,
            [b'=', b'\r', b'\n', after @ ..] | [b'=', b'\n', after @ ..] => rest = after,
            [b'=', high, low, after @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => {
                    decoded.push(b'=');
                    rest = &rest[1..];
                }
            },
            [byte, after @ ..] => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(body: &str) -> &'static str {
        divide(body.as_bytes(), b"b").unwrap_err().0
    }

    #[test]
    fn what_browsers_send_is_divided() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n記録\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.pdf\"\r\nContent-Type: application/pdf\r\n\r\n%PDF\r\n\r\n\
                    --b\r\n\r\n\r\n--b--\r\n";
        let parts = divide(body.as_bytes(), b"b").unwrap();
        let contents: Vec<&str> = parts
            .iter()
            .map(|part| &body[part.content.clone()])
            .collect();
        assert_eq!(contents, ["記録", "%PDF\r\n", ""]);
        assert_eq!(
            parts[1].media_type.as_deref(),
            Some(&b"application/pdf"[..])
        );
        assert!(divide(b"--b--", b"b").unwrap().is_empty());
    }

    #[test]
    fn what_could_be_divided_in_two_ways_is_refused() {
        for body in [
            "",
            "x\r\n--b\r\n\r\n\r\n--b--",
            "\r\n--b\r\n\r\n\r\n--b--",
            "--b \r\n\r\n\r\n--b--",
            "--b\n\n\n--b--",
            "--b\r\nA: b\n\r\n\r\n--b--",
            "--b\r\nContent-Type: a\r\n b\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Type: a\r\ncontent-type: b\r\n\r\nx\r\n--b--",
            "--b\r\n\r\nx\n--b--",
            "--b\r\n\r\nx--b\r\n--b--",
            "--b\r\n\r\nx\r\n--bb\r\n--b--",
            "--b\r\n\r\nx\r\n--b",
            "--b\r\n\r\nx",
            "--b\r\n\r\nx\r\n--b--\r\nmore",
            "--b\r\n\r\n--b--",
            "--b\r\nnot a field\r\n\r\nx\r\n--b--",
            "--b\r\nA : b\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Encoding: gzip\r\n\r\nx\r\n--b--",
        ] {
            assert!(!why(body).is_empty(), "{body:?}");
        }
        let many = "--b\r\n\r\n\r\n".repeat(PARTS + 1) + "--b--";
        assert_eq!(why(&many), "too many parts");
    }

    #[test]
    fn transfer_encodings_are_decoded_where_all_decode_the_same() {
        let hello = from_base64(b"44GT44KT\r\n44Gr44Gh44Gv").unwrap();
        assert_eq!(hello, "こんにちは".as_bytes());
        assert_eq!(from_base64(b"YQ==").unwrap(), b"a");
        assert_eq!(from_base64(b"YQ==YQ=="), None);
        assert_eq!(from_base64(b"*Y*W*J*j"), None);
        assert_eq!(
            from_quoted_printable(b"a=3Db=\r\nc=E3=81=82=zz="),
            "a=bcあ=zz=".as_bytes()
        );
    }

    #[test]
    fn only_known_transfer_encodings_are_taken() {
        let part = |name: &str| Part {
            disposition: None,
            media_type: None,
            transfer: Some(name.into()),
            content: 0..0,
        };
        assert_eq!(part("BASE64").transfer(), Ok(Transfer::Base64));
        assert_eq!(part("8bit").transfer(), Ok(Transfer::Identity));
        assert!(part("x-uuencode").transfer().is_err());
    }
}
