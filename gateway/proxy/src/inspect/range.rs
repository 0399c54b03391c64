//! Cuts one range out of a whole, inspected body, where RFC 9110 section 14.2 lets a server do so.
//!
//! It does not ask the site for ranges: those could not be inspected. Anything that is not one plain, satisfiable range is
//! ignored, as the RFC allows, and answered with the whole.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, StatusCode, header};

/// What the client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    range: HeaderValue,
    condition: Option<HeaderValue>,
}

impl Wanted {
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Some(Self {
            range: headers.get(header::RANGE)?.clone(),
            condition: headers.get(header::IF_RANGE).cloned(),
        })
    }

    /// The bytes to send of a 200 with `fields` and `length` bytes; `None` for all of them.
    pub(crate) fn cut(&self, fields: &HeaderMap, length: u64) -> Option<Range<u64>> {
        if self
            .condition
            .as_ref()
            .is_some_and(|condition| !is_met(condition, fields))
        {
            return None;
        }
        one_range(self.range.as_bytes(), length)
    }
}

/// RFC 9110 section 13.1.5: a strong validator that is exactly the response's.
fn is_met(condition: &HeaderValue, fields: &HeaderMap) -> bool {
    let wanted = condition.as_bytes();
    if wanted.starts_with(b"\"") {
        return fields.get(header::ETAG).is_some_and(|tag| tag == condition);
    }
    // A date is strong only if it was long over when the response was made (section 8.8.2.2).
    let date = |name| {
        let value = fields.get(name)?.to_str().ok()?;
        httpdate::parse_http_date(value).ok()
    };
    let (Some(made), Some(modified)) = (date(header::DATE), date(header::LAST_MODIFIED)) else {
        return false;
    };
    fields.get(header::LAST_MODIFIED) == Some(condition)
        && made
            .duration_since(modified)
            .is_ok_and(|age| age.as_secs() >= 60)
}

fn one_range(value: &[u8], length: u64) -> Option<Range<u64>> {
    let set = std::str::from_utf8(value).ok()?.trim();
    let (unit, set) = set.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (from, to) = set.trim().split_once('-')?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let range = if from.is_empty() {
        length.saturating_sub(number(to)?)..length
    } else if to.is_empty() {
        number(from)?..length
    } else {
        let (from, to) = (number(from)?, number(to)?);
        if to < from {
            return None;
        }
        from..to.saturating_add(1).min(length)
    };
    (range.start < range.end).then_some(range)
}

/// Makes a 200 of the whole a 206 of a part.
pub(crate) fn announce(head: &mut http::response::Parts, range: &Range<u64>, length: u64) {
    let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
    if let Ok(value) = HeaderValue::try_from(text) {
        head.status = StatusCode::PARTIAL_CONTENT;
        head.headers.insert(header::CONTENT_RANGE, value);
        head.headers.insert(
            header::CONTENT_LENGTH,
            HeaderValue::from(range.end - range.start),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(range: &'static str) -> Option<Range<u64>> {
        one_range(range.as_bytes(), 100)
    }

    #[test]
    fn one_plain_range_is_cut_and_everything_else_is_the_whole() {
        assert_eq!(cut("bytes=0-9"), Some(0..10));
        assert_eq!(cut("bytes=90-"), Some(90..100));
        assert_eq!(cut("Bytes= 90-1000"), Some(90..100));
        assert_eq!(cut("bytes=-10"), Some(90..100));
        assert_eq!(cut("bytes=-1000"), Some(0..100));
        for whole in [
            "bytes=100-",
            "bytes=9-0",
            "bytes=-0",
            "bytes=-",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=a-b",
            "0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(cut(whole), None, "{whole}");
        }
    }

    #[test]
    fn a_condition_needs_a_strong_validator_that_is_the_same() {
        let wanted = |condition: &'static str| Wanted {
            range: HeaderValue::from_static("bytes=0-9"),
            condition: Some(HeaderValue::from_static(condition)),
        };
        let mut fields = HeaderMap::new();
        fields.insert("etag", HeaderValue::from_static("\"a\""));
        fields.insert(
            "date",
            HeaderValue::from_static("Sun, 22 Nov 2026 12:02:00 GMT"),
        );
        fields.insert(
            "last-modified",
            HeaderValue::from_static("Sun, 22 Nov 2026 12:00:00 GMT"),
        );
        assert!(wanted("\"a\"").cut(&fields, 100).is_some());
        assert!(wanted("\"b\"").cut(&fields, 100).is_none());
        assert!(wanted("W/\"a\"").cut(&fields, 100).is_none());
        assert!(
            wanted("Sun, 22 Nov 2026 12:00:00 GMT")
                .cut(&fields, 100)
                .is_some()
        );
        assert!(
            wanted("Sun, 22 Nov 2026 12:01:00 GMT")
                .cut(&fields, 100)
                .is_none()
        );
        fields.insert(
            "date",
            HeaderValue::from_static("Sun, 22 Nov 2026 12:00:30 GMT"),
        );
        assert!(
            wanted("Sun, 22 Nov 2026 12:00:00 GMT")
                .cut(&fields, 100)
                .is_none()
        );
    }
}
