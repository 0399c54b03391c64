//! What RFC 9113 demands of fields and the `h2` crate leaves to its user.
//!
//! It looks at fields that hyper has parsed; the framing of HTTP/1 is judged before that, in `framing`.

use http::HeaderMap;

/// Whether a value begins or ends with whitespace, which makes an HTTP/2 message malformed (RFC 9113 §8.2.1).
///
/// A site behind HTTP/1.1 would read `content-length: 5` and `content-length:  5` as the same field. Over HTTP/1.1 such
/// whitespace is not part of the value and hyper has removed it.
#[must_use]
pub fn has_padded_value(fields: &HeaderMap) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    fields.values().any(|value| {
        let value = value.as_bytes();
        is_space(value.first()) || is_space(value.last())
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn whitespace_counts_only_at_the_ends_of_a_value() {
        for (value, padded) in [
            ("", false),
            ("a", false),
            ("a b", false),
            (" a", true),
            ("a\t", true),
            (" ", true),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert("x-sound", HeaderValue::from_static("y"));
            fields.append("x-name", HeaderValue::from_static(value));
            assert_eq!(has_padded_value(&fields), padded, "{value:?}");
        }
    }
}
