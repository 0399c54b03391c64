//! The small pieces of HTTP's and URI's grammar that framing rests on.
//!
//! Only predicates over bytes; which of them a request must satisfy, and where, is decided in the parser.

/// `token` characters (RFC 9110 §5.6.2).
const TOKEN: u8 = 1;
/// Characters of a request target that are taken (see [`is_target`]).
const TARGET: u8 = 2;
/// Characters of a host name (see [`is_authority`]).
const HOST: u8 = 4;

/// The classes of each byte.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "index is below 256")]
        let byte = index as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        if alphanumeric || in_set(byte, b"!#$%&'*+-.^_`|~") {
            table[index] |= TOKEN;
        }
        if byte > b' ' && byte < 0x7f && !in_set(byte, b"\"#<>") {
            table[index] |= TARGET;
        }
        if alphanumeric || in_set(byte, b"-._~") {
            table[index] |= HOST;
        }
        index += 1;
    }
    table
}

const fn in_set(byte: u8, set: &[u8]) -> bool {
    let mut index = 0;
    while index < set.len() {
        if set[index] == byte {
            return true;
        }
        index += 1;
    }
    false
}

/// The length of the token at the start of `bytes`.
pub(super) fn token_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    // Eight at a time while they are letters and hyphens, which is what field names are made of.
    while let Some(word) = bytes.get(length..length + WORD) {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        let others = !letters_and_hyphens(word) & HIGH_BITS;
        if others != 0 {
            length += others.trailing_zeros() as usize / 8;
            break;
        }
        length += WORD;
    }
    let rest = &bytes[length..];
    let others = rest
        .iter()
        .position(|&byte| CLASS[usize::from(byte)] & TOKEN == 0);
    length + others.unwrap_or(rest.len())
}

/// Bytes in a machine word.
const WORD: usize = 8;
const HIGH_BITS: u64 = in_each(0x80);

const fn in_each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; WORD])
}

/// The high bit of each byte that is an ASCII letter or a hyphen; other bits mean nothing.
///
/// Each byte is compared by adding, to its low seven bits, what carries the wanted ones over 0x80.
const fn letters_and_hyphens(word: u64) -> u64 {
    const AT_LEAST_A: u64 = in_each(0x80 - b'a');
    const ABOVE_Z: u64 = in_each(0x80 - b'z' - 1);
    const LOW_BITS: u64 = !HIGH_BITS;
    let ascii = !word;
    let lower = (word | in_each(0x20)) & LOW_BITS;
    let letter = (lower + AT_LEAST_A) & !(lower + ABOVE_Z);
    let not_hyphen = ((word ^ in_each(b'-')) & LOW_BITS) + LOW_BITS;
    ascii & (letter | !not_hyphen)
}

/// Whether `bytes` is a `token`.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_length(bytes) == bytes.len()
}

/// Whether every byte may stand in a request target.
///
/// Wider than RFC 3986 by the visible characters that browsers leave raw in queries (`[ ] { } | \ ^` and the
/// backquote); a fragment (`#`), quotes, angle brackets, spaces, controls and bytes above 0x7e are refused.
pub(super) fn is_target(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(TARGET, |all, &byte| all & CLASS[usize::from(byte)])
        != 0
}

/// Whether `bytes` has a control character (RFC 9110 §5.5: CTL other than HTAB), CR and LF included.
pub(super) fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |bad, &byte| {
        bad | (byte < 0x20 && byte != b'\t') | (byte == 0x7f)
    })
}

/// How many control characters `bytes` has, HTAB, CR and LF included.
///
/// No branches, and a counter for each place in a block: compilers turn it into vector instructions.
pub(super) fn count_controls(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let mut total = 0;
    // A place counts to 255 at most.
    for stretch in bytes.chunks(BLOCK * 255) {
        let mut counts = [0_u8; BLOCK];
        let mut blocks = stretch.chunks_exact(BLOCK);
        for block in blocks.by_ref() {
            for (count, &byte) in counts.iter_mut().zip(block) {
                *count += is_control(byte);
            }
        }
        total += counts
            .iter()
            .map(|&count| usize::from(count))
            .sum::<usize>();
        total += blocks
            .remainder()
            .iter()
            .map(|&byte| usize::from(is_control(byte)))
            .sum::<usize>();
    }
    total
}

/// 1 for a control character.
const fn is_control(byte: u8) -> u8 {
    (byte < 0x20) as u8 | (byte == 0x7f) as u8
}

/// Whether `bytes` is `host [ ":" port ]` with a host that can exist (RFC 9110 §4.2, §7.2).
///
/// Host names are unreserved characters only: `reg-name`'s percent-encodings and sub-delimiters name no host of any
/// city, and a comma is how a second Host is smuggled into a first.
pub(super) fn is_authority(bytes: &[u8], needs_port: bool) -> bool {
    let (host_ok, rest) = if bytes.first() == Some(&b'[') {
        let Some(end) = memchr::memchr(b']', bytes) else {
            return false;
        };
        let inside = &bytes[1..end];
        // RFC 3986 §3.2.2: IPv6address; zone identifiers and IPvFuture have no place on this wire.
        let address = std::str::from_utf8(inside)
            .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        (address, &bytes[end + 1..])
    } else {
        let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
        let host = &bytes[..end];
        let name = host
            .iter()
            .fold(HOST, |all, &byte| all & CLASS[usize::from(byte)])
            != 0;
        (name && !host.is_empty(), &bytes[end..])
    };
    host_ok
        && match rest.split_first() {
            None => !needs_port,
            Some((b':', port)) => is_port(port),
            Some(_) => false,
        }
}

/// `1*5DIGIT` up to 65535. RFC 3986 allows an empty port; nothing that speaks HTTP sends one.
fn is_port(digits: &[u8]) -> bool {
    (1..=5).contains(&digits.len()) && decimal(digits).is_some_and(|port| port <= 65_535)
}

/// `1*DIGIT` below 2^63, at most 19 of them.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if !(1..=19).contains(&digits.len()) {
        return None;
    }
    let mut number = 0_u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Nineteen nines are below 2^64.
        number = number * 10 + u64::from(digit - b'0');
    }
    (number <= i64::MAX.unsigned_abs()).then_some(number)
}

/// `1*HEXDIG` below 2^63, at most 16 of them.
pub(super) fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if !(1..=16).contains(&digits.len()) {
        return None;
    }
    let mut number = 0_u64;
    for &digit in digits {
        let value = char::from(digit).to_digit(16)?;
        number = number << 4 | u64::from(value);
    }
    (number <= i64::MAX.unsigned_abs()).then_some(number)
}

/// Whether `bytes` is `*( ";" token [ "=" ( token / quoted-string ) ] )` (RFC 9112 §7.1.1).
///
/// The optional whitespace that the grammar calls bad is refused: nobody sends it but those who look for parsers that differ.
pub(super) fn is_chunk_extension(mut bytes: &[u8]) -> bool {
    while let Some((&first, rest)) = bytes.split_first() {
        if first != b';' {
            return false;
        }
        let name = token_length(rest);
        if name == 0 {
            return false;
        }
        bytes = &rest[name..];
        let Some((b'=', value)) = bytes.split_first() else {
            continue;
        };
        let length = match value.first() {
            Some(b'"') => quoted_length(value),
            _ => token_length(value),
        };
        if length == 0 {
            return false;
        }
        bytes = &value[length..];
    }
    true
}

/// The length of the `quoted-string` at the start of `bytes` (RFC 9110 §5.6.4); 0 when there is none.
fn quoted_length(bytes: &[u8]) -> usize {
    let mut index = 1;
    while let Some(&byte) = bytes.get(index) {
        match byte {
            b'"' => return index + 1,
            b'\\' => match bytes.get(index + 1) {
                Some(&escaped) if !has_control(&[escaped]) => index += 2,
                _ => return 0,
            },
            _ if has_control(&[byte]) => return 0,
            _ => index += 1,
        }
    }
    0
}

/// Whether `name` must not stand in a trailer section (RFC 9110 §6.5.1): framing, routing, authentication, request
/// modifiers and what describes the content, and the fields that this gateway sets itself.
pub(super) fn is_forbidden_in_trailers(name: &[u8]) -> bool {
    const FORBIDDEN: &[&[u8]] = &[
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"max-forwards",
        b"origin",
        b"pragma",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"range",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"www-authenticate",
        b"x-forwarded-for",
    ];
    FORBIDDEN
        .iter()
        .any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_at_a_time_find_the_same_tokens_as_one_by_one() {
        for byte in 0..=255_u8 {
            for at in 0..20 {
                let mut bytes = *b"Sec-Fetch-Site-Name!";
                bytes[at] = byte;
                let expected = bytes
                    .iter()
                    .position(|&byte| {
                        !byte.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(&byte)
                    })
                    .unwrap_or(bytes.len());
                assert_eq!(token_length(&bytes), expected, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn the_sweep_counts_control_characters_wherever_they_stand() {
        for byte in 0..=255_u8 {
            for at in 0..70 {
                let mut bytes = [b'x'; 70];
                bytes[at] = byte;
                assert_eq!(
                    count_controls(&bytes),
                    usize::from(byte.is_ascii_control()),
                    "{byte:#x} at {at}"
                );
            }
        }
        assert_eq!(count_controls(&[0; 100_000]), 100_000);
    }
}
