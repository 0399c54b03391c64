//! Reads what a browser sends from a form: `application/x-www-form-urlencoded` and `multipart/form-data` (RFC 7578).
//!
//! It does not know which fields there should be. What it reads may be secret, so it copies into wiped memory only.

use bytes::Bytes;
use zeroize::Zeroizing;

/// The value of the first field `name`, decoded; `None` when it is absent or not valid UTF-8.
pub(crate) fn field(encoded: &[u8], name: &str) -> Option<Zeroizing<String>> {
    encoded
        .split(|byte| *byte == b'&')
        .filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (key, value) = pair.split_at(equals);
            (decode(key)?.as_str() == name).then(|| decode(&value[1..]))?
        })
        .next()
}

/// Every field of a form, decoded, in order. `None` when one of them is not valid.
pub(crate) struct Fields(Vec<(Zeroizing<String>, Zeroizing<String>)>);

impl Fields {
    /// Nothing was typed yet.
    pub(crate) const fn empty() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn read(encoded: &[u8]) -> Option<Self> {
        let pairs = encoded
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let equals = pair.iter().position(|byte| *byte == b'=')?;
                let (key, value) = pair.split_at(equals);
                Some((decode(key)?, decode(&value[1..])?))
            })
            .collect::<Option<_>>()
            .map(Self)
    }

    /// What was typed into a field; empty when it is absent.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.values(name).next().unwrap_or_default()
    }

    /// Everything that was chosen under one name.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, _)| key.as_str() == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether something was chosen.
    pub(crate) fn has(&self, name: &str, value: &str) -> bool {
        self.values(name).any(|chosen| chosen == value)
    }
}

/// Percent-decoding with `+` for a space.
pub(crate) fn decode(encoded: &[u8]) -> Option<Zeroizing<String>> {
    // Decoding never lengthens, so the buffer never moves and leaves no copy behind.
    let mut decoded = Zeroizing::new(String::with_capacity(encoded.len()));
    let mut bytes = Zeroizing::new(Vec::with_capacity(encoded.len()));
    let mut rest = encoded;
    while let [first, after @ ..] = rest {
        let (byte, next) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, after @ ..]) => (16 * digit(*high)? + digit(*low)?, after),
            (b'%', _) => return None,
            (other, _) => (*other, after),
        };
        bytes.push(byte);
        rest = next;
    }
    decoded.push_str(std::str::from_utf8(&bytes).ok()?);
    Some(decoded)
}

fn digit(hex: u8) -> Option<u8> {
    match hex {
        b'0'..=b'9' => Some(hex - b'0'),
        b'a'..=b'f' => Some(hex - b'a' + 10),
        b'A'..=b'F' => Some(hex - b'A' + 10),
        _ => None,
    }
}

/// The boundary from a `Content-Type`, if it announces `multipart/form-data`.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameters
        .split(';')
        .filter_map(|parameter| parameter.trim().split_once('='))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("boundary").then_some(value))?;
    let boundary = boundary
        .strip_prefix('"')
        .and_then(|quoted| quoted.strip_suffix('"'))
        .unwrap_or(boundary);
    // RFC 2046 §5.1.1: one to seventy characters.
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

/// The content of the first part `name`. `None` when it is absent or the body is not well formed up to it.
pub(crate) fn part(body: &Bytes, boundary: &str, name: &str) -> Option<Bytes> {
    let delimiter = format!("\r\n--{boundary}");
    let mut at = body
        .starts_with(&delimiter.as_bytes()[2..])
        .then_some(delimiter.len() - 2)?;
    loop {
        let rest = body.get(at..)?;
        // `--` after a delimiter ends the body.
        if !rest.starts_with(b"\r\n") {
            return None;
        }
        let head_end = find(rest, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&rest[2..head_end.max(2)]).ok()?;
        let content = at + head_end + 4;
        let length = find(body.get(content..)?, delimiter.as_bytes())?;
        if part_name(head) == Some(name) {
            return Some(body.slice(content..content + length));
        }
        at = content + length + delimiter.len();
    }
}

fn part_name(head: &str) -> Option<&str> {
    let value = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    let mut parameters = value.split(';').map(str::trim);
    if !parameters.next()?.eq_ignore_ascii_case("form-data") {
        return None;
    }
    parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find_map(|(name, value)| (name == "name").then_some(value))?
        .strip_prefix('"')?
        .strip_suffix('"')
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(form: &str, name: &str) -> Option<String> {
        field(form.as_bytes(), name).map(|text| text.to_string())
    }

    #[test]
    fn fields_are_found_and_decoded() {
        let form = "number=12%2D34&code=a+b%E3%81%82&empty=&number=second";
        assert_eq!(value(form, "number").as_deref(), Some("12-34"));
        assert_eq!(value(form, "code").as_deref(), Some("a bあ"));
        assert_eq!(value(form, "empty").as_deref(), Some(""));
        assert_eq!(value(form, "other"), None);
    }

    #[test]
    fn broken_encodings_are_no_value() {
        for form in ["x=%", "x=%1", "x=%zz", "x=%ff", "x", "", "&&", "=x"] {
            assert_eq!(value(form, "x"), None, "{form}");
        }
    }

    const MULTIPART: &str = "--b0\r\nContent-Disposition: form-data; name=\"passphrase\"\r\n\r\nsecret\r\n\
        --b0\r\ncontent-disposition: form-data; name=\"file\"; filename=\"name=\\\"x\\\".p12\"\r\n\
        Content-Type: application/x-pkcs12\r\n\r\n\x00\x01\r\n--b\r\n\r\n--b0--\r\n";

    #[test]
    fn parts_are_found_and_binary_content_is_kept() {
        let body = Bytes::from_static(MULTIPART.as_bytes());
        assert_eq!(part(&body, "b0", "passphrase").unwrap(), "secret");
        assert_eq!(part(&body, "b0", "file").unwrap(), "\x00\x01\r\n--b\r\n");
        assert_eq!(part(&body, "b0", "other"), None);
        assert_eq!(part(&body, "b1", "file"), None);
    }

    #[test]
    fn boundaries_are_read_from_the_content_type() {
        assert_eq!(boundary("multipart/form-data; boundary=b0"), Some("b0"));
        assert_eq!(
            boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"b 0\""),
            Some("b 0")
        );
        assert_eq!(boundary("multipart/form-data"), None);
        assert_eq!(boundary("multipart/form-data; boundary="), None);
        assert_eq!(
            boundary("application/x-www-form-urlencoded; boundary=b0"),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut body: Vec<u8>, cut in 0..400_usize) {
            let _ = field(&body, "x");
            let mut whole = MULTIPART.as_bytes().to_vec();
            whole.truncate(cut);
            whole.append(&mut body);
            let _ = part(&Bytes::from(whole), "b0", "file");
        }
    }
}
