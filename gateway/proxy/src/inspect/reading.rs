//! How the receiver of a body will read it: the content coding to undo, the boundary that divides it.
//!
//! It reads header fields only, and strictly: a field that two receivers could read in two ways makes a body that cannot
//! be inspected.

use http::{HeaderMap, HeaderValue, header};

/// The receiver's way to read a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// It is compressed with gzip (RFC 9110 section 8.4.1.3).
    pub(crate) gzip: bool,
    /// It is divided by this boundary (RFC 2046 section 5.1).
    pub(crate) boundary: Option<Vec<u8>>,
    /// It is the fields of a form, percent-encoded (WHATWG URL, section 5).
    pub(crate) form: bool,
}

/// Why a body with these fields is not inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A content coding that is not looked into, or more than one.
    Coding,
    /// A `Content-Type` that can be read in two ways.
    Type,
    /// A part of a body, which nobody can judge alone.
    Partial,
}

impl Reading {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Unreadable> {
        Ok(Self {
            gzip: gzip(headers)?,
            boundary: boundary(headers)?,
            form: headers
                .get_all(header::CONTENT_TYPE)
                .iter()
                .any(|value| is_form(value.as_bytes())),
        })
    }

    /// As it came is all there is to it.
    pub(crate) fn is_plain(&self) -> bool {
        !self.gzip && self.boundary.is_none() && !self.form
    }

    /// The same for the same way of reading, and for no other.
    pub(crate) fn label(&self) -> Vec<u8> {
        let mut label = vec![
            u8::from(self.gzip),
            u8::from(self.form),
            u8::from(self.boundary.is_some()),
        ];
        label.extend_from_slice(self.boundary.as_deref().unwrap_or_default());
        label
    }
}

fn gzip(headers: &HeaderMap) -> Result<bool, Unreadable> {
    let mut gzip = false;
    if !headers.contains_key(header::CONTENT_ENCODING) {
        return Ok(false);
    }
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            let coding = coding.trim_ascii();
            if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            let known =
                coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip");
            if !known || gzip {
                return Err(Unreadable::Coding);
            }
            gzip = true;
        }
    }
    Ok(gzip)
}

fn boundary(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Unreadable> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(first) = types.next() else {
        return Ok(None);
    };
    let divided = is_multipart(first.as_bytes());
    if types.next().is_some() {
        // Two types are two readings; only if neither divides the body is there one.
        let all = || headers.get_all(header::CONTENT_TYPE).iter();
        return if all().any(|value| is_multipart(value.as_bytes())) {
            Err(Unreadable::Type)
        } else {
            Ok(None)
        };
    }
    if !divided {
        return Ok(None);
    }
    boundary_of(first.as_bytes()).map(Some)
}

fn is_form(value: &[u8]) -> bool {
    const FORM: &[u8] = b"application/x-www-form-urlencoded";
    let value = value.trim_ascii_start();
    value
        .get(..FORM.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(FORM))
}

/// Whether a media type divides its body.
pub(crate) fn is_multipart(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    // Also behind a comma: some servers take the last of a list.
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii_start)
        .any(|value| {
            value
                .get(..10)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
        })
}

/// The boundary in a `Content-Type` of a divided body.
pub(crate) fn boundary_of(value: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let essence = value
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if essence.contains(&b',') {
        return Err(Unreadable::Type);
    }
    if essence.eq_ignore_ascii_case(b"multipart/byteranges") {
        return Err(Unreadable::Partial);
    }
    let mut found = None;
    for (name, text) in parameters(value).ok_or(Unreadable::Type)? {
        // `boundary*` and `boundary*0` (RFC 2231) too: some would read them.
        if name.len() >= 8 && name[..8].eq_ignore_ascii_case(b"boundary") {
            if name.len() > 8 || found.is_some() {
                return Err(Unreadable::Type);
            }
            found = Some(text);
        }
    }
    let boundary = found.ok_or(Unreadable::Type)?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    if boundary.is_empty()
        || boundary.len() > 70
        || boundary.ends_with(b" ")
        || !boundary.iter().all(allowed)
    {
        return Err(Unreadable::Type);
    }
    Ok(boundary)
}

/// The parameters behind a media type or disposition; `None` if they are not written as RFC 9110 section 5.6.6 says.
pub(crate) fn parameters(value: &[u8]) -> Option<Vec<(&[u8], Vec<u8>)>> {
    let mut rest = match value.iter().position(|byte| *byte == b';') {
        Some(at) => &value[at..],
        None if value.contains(&b'"') || value.contains(&b',') => return None,
        None => return Some(Vec::new()),
    };
    let mut all = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        match rest {
            [] => return Some(all),
            [b';', after @ ..] => rest = after.trim_ascii_start(),
            _ => return None,
        }
        if rest.is_empty() {
            return Some(all);
        }
        if rest.starts_with(b";") {
            continue;
        }
        let end = rest.iter().position(|byte| *byte == b'=')?;
        let name = &rest[..end];
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || all.len() >= 16 {
            return None;
        }
        rest = &rest[end + 1..];
        let text;
        (text, rest) = parameter_value(rest)?;
        all.push((name, text));
    }
}

fn parameter_value(rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut quoted) = rest.strip_prefix(b"\"") else {
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b';' | b' ' | b'\t'))
            .unwrap_or(rest.len());
        let text = &rest[..end];
        // File names are written without quotes by some; a quote in the middle, however, has no one meaning.
        let fits = !text.is_empty() && !text.iter().any(|byte| b"\",".contains(byte));
        return fits.then(|| (text.to_vec(), &rest[end..]));
    };
    let mut text = Vec::new();
    loop {
        match quoted {
            [b'"', after @ ..] => return Some((text, after)),
            [b'\\', b'"', after @ ..] => {
                text.push(b'"');
                quoted = after;
            }
            // Browsers write a backslash as it is (it may be half a character of Shift_JIS), so it stays as it is.
            [byte, after @ ..] if *byte >= b' ' || *byte == b'\t' => {
                text.push(*byte);
                quoted = after;
            }
            _ => return None,
        }
    }
}

pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The file names that a `Content-Disposition` claims, every one of them; `None` if it cannot be read.
pub(crate) fn file_names(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let names = parameters(value)?
        .into_iter()
        .filter(|(name, _)| {
            name.get(..8)
                .is_some_and(|n| n.eq_ignore_ascii_case(b"filename"))
        })
        .map(|(name, text)| {
            if name.ends_with(b"*") {
                percent_decoded(&text)
            } else {
                text
            }
        });
    Some(names.collect())
}

/// RFC 8187; what is no escape stays.
pub(crate) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        match rest {
            [] => return decoded,
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| {
                    char::from(byte)
                        .to_digit(16)
                        .and_then(|d| u8::try_from(d).ok())
                };
                decoded.push(digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0));
                rest = after;
            }
            [byte, after @ ..] => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
}

/// What the site may answer with: a coding that the box can look into, and only if the client takes it.
pub(crate) fn reduce_accept_encoding(headers: &mut HeaderMap) {
    const GZIP: HeaderValue = HeaderValue::from_static("gzip");
    const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
    let Some(first) = headers.get(header::ACCEPT_ENCODING) else {
        return;
    };
    if first == GZIP || first == IDENTITY {
        return;
    }
    let takes_gzip = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .any(|value| {
            value.as_bytes().split(|byte| *byte == b',').any(|coding| {
                let mut words = coding.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                let name = words.next().unwrap_or_default();
                let refused = words.any(|word| {
                    word.strip_prefix(b"q=")
                        .or_else(|| word.strip_prefix(b"Q="))
                        .is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
                });
                (name.eq_ignore_ascii_case(b"gzip") || name == b"*") && !refused
            })
        });
    headers.insert(
        header::ACCEPT_ENCODING,
        if takes_gzip { GZIP } else { IDENTITY },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> Result<Reading, Unreadable> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Reading::of(&headers)
    }

    #[test]
    fn one_coding_is_undone_and_more_are_not() {
        assert_eq!(of(&[]), Ok(Reading::default()));
        assert!(
            of(&[("content-encoding", "identity, X-GZIP")])
                .unwrap()
                .gzip
        );
        for codings in [
            "br",
            "zstd",
            "deflate",
            "gzip, gzip",
            "gzip, br",
            "compress",
        ] {
            assert_eq!(
                of(&[("content-encoding", codings)]),
                Err(Unreadable::Coding),
                "{codings}"
            );
        }
        let twice = of(&[("content-encoding", "gzip"), ("content-encoding", "gzip")]);
        assert_eq!(twice, Err(Unreadable::Coding));
    }

    #[test]
    fn the_boundary_is_read_only_where_all_read_the_same() {
        let boundary = |value| of(&[("content-type", value)]).map(|reading| reading.boundary);
        assert_eq!(boundary("text/html; charset=utf-8"), Ok(None));
        for value in [
            "multipart/form-data; boundary=abc",
            "Multipart/Form-Data;BOUNDARY=\"abc\"; charset=utf-8",
            "multipart/mixed; charset=utf-8; boundary=abc;",
        ] {
            assert_eq!(boundary(value), Ok(Some(b"abc".to_vec())), "{value}");
        }
        for value in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary*0=a; boundary*1=b",
            "multipart/form-data; boundary=a; boundary*=utf-8''b",
            "multipart/form-data; boundary=\"a",
            "multipart/form-data; boundary=a\"b\"",
            "multipart/form-data; boundary=a,b",
            "multipart/form-data, text/plain; boundary=a",
            "text/plain, multipart/form-data; boundary=\"a\", x",
            "multipart/form-data; boundary=a b",
            "multipart/form-data; boundary=\"a \"",
            "multipart/form-data boundary=a",
        ] {
            assert_eq!(boundary(value), Err(Unreadable::Type), "{value}");
        }
        assert_eq!(
            boundary("multipart/byteranges; boundary=a"),
            Err(Unreadable::Partial)
        );
        let twice = of(&[
            ("content-type", "text/plain"),
            ("content-type", "multipart/form-data; boundary=a"),
        ]);
        assert_eq!(twice, Err(Unreadable::Type));
    }

    #[test]
    fn every_claimed_file_name_is_found() {
        let names = |value: &str| file_names(value.as_bytes());
        assert_eq!(
            names("attachment; filename=a.js"),
            Some(vec![b"a.js".to_vec()])
        );
        assert_eq!(
            names("attachment; filename=\"a.txt\"; filename*=UTF-8''b%2Evbs"),
            Some(vec![b"a.txt".to_vec(), b"UTF-8''b.vbs".to_vec()])
        );
        assert_eq!(
            names("form-data; name=\"x\\\"; filename=\\\"y\""),
            Some(vec![])
        );
        assert_eq!(names("attachment; filename=\"a"), None);
        assert_eq!(names("attachment"), Some(vec![]));
    }

    #[test]
    fn the_site_is_offered_only_what_can_be_looked_into() {
        let reduced = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("accept-encoding", HeaderValue::from_static(value));
            reduce_accept_encoding(&mut headers);
            headers["accept-encoding"].to_str().unwrap().to_owned()
        };
        assert_eq!(reduced("gzip, deflate, br, zstd"), "gzip");
        assert_eq!(reduced("br;q=1, *;q=0.5"), "gzip");
        assert_eq!(reduced("br, gzip;q=0"), "identity");
        assert_eq!(reduced("identity"), "identity");
        assert_eq!(reduced(""), "identity");
    }
}
