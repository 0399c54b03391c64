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
    bytes
        .iter()
        .position(|&byte| CLASS[usize::from(byte)] & TOKEN == 0)
        .unwrap_or(bytes.len())
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

/// Whether `bytes` has a control character other than HTAB, CR and LF, and how many CRs it has.
///
/// One pass without branches, in blocks that compilers turn into vector instructions.
pub(super) fn control_and_returns(bytes: &[u8]) -> (bool, usize) {
    const BLOCK: usize = 32;
    let mut bad = 0_u8;
    let mut returns = 0_usize;
    let mut blocks = bytes.chunks_exact(BLOCK);
    for block in blocks.by_ref() {
        let mut count = 0_u8;
        for &byte in block {
            bad |= judge(byte);
            count += u8::from(byte == b'\r');
        }
        returns += usize::from(count);
    }
    for &byte in blocks.remainder() {
        bad |= judge(byte);
        returns += usize::from(byte == b'\r');
    }
    (bad != 0, returns)
}

/// 1 for a control character that no head may have.
const fn judge(byte: u8) -> u8 {
    let control =
        (byte < 0x20) as u8 & (byte != b'\t') as u8 & (byte != b'\r') as u8 & (byte != b'\n') as u8;
    control | (byte == 0x7f) as u8
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
