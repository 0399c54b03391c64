//! Digests as lower-case hexadecimal and back.

use crate::index::Digest;

/// The text of some bytes.
#[must_use]
pub fn of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest that 64 lower-case hexadecimal digits stand for; `None` for anything else.
#[must_use]
pub fn digest(text: &str) -> Option<Digest> {
    let digits = text.as_bytes();
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 64 || !digits.iter().all(is_digit) {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_digest_in_lower_case_is_read() {
        let text = of(&[0xa7; 32]);
        assert_eq!(digest(&text), Some([0xa7; 32]));
        for bad in [
            "",
            &text[1..],
            &text.to_uppercase(),
            &text.replace('a', "g"),
            &format!("{text}0"),
        ] {
            assert_eq!(digest(bad), None, "{bad}");
        }
    }
}
