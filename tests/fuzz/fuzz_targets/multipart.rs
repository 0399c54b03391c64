//! Multipart bodies: no panic; what is divided can be put together again from its parts and nothing else, byte for byte in
//! order; a delimiter is nowhere but between parts.
#![no_main]

use gateway_proxy::inspect::multipart::{divide, from_base64, from_quoted_printable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let boundary = b"b";
    let _ = from_quoted_printable(body);
    if let Some(decoded) = from_base64(body) {
        assert!(decoded.len() <= body.len() / 4 * 3 + 3);
    }
    let Ok(parts) = divide(body, boundary) else {
        return;
    };
    let mut at = 0;
    for part in &parts {
        let content = &body[part.content.clone()];
        assert!(part.content.start > at);
        assert!(!content.windows(3).any(|window| window == b"--b"));
        // A line end and a delimiter follow, and before there is a head that ends with an empty line.
        assert!(body[part.content.end..].starts_with(b"\r\n--b"));
        assert!(body[at..part.content.start].ends_with(b"\r\n"));
        at = part.content.end;
    }
    let end = &body[at..];
    let end = end.strip_prefix(b"\r\n").unwrap_or(end);
    assert!(matches!(end, b"--b--" | b"--b--\r\n"), "{end:?}");
    // Every other boundary divides it otherwise or not at all.
    assert!(parts.is_empty() || divide(body, b"bb").is_err());
});
