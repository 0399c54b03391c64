//! Vectors for each rule, and the properties that hold for all bytes.

use proptest::prelude::*;

use super::*;

/// The verdict over all of `bytes` as one window, and how many bytes were released.
fn whole(bytes: &[u8]) -> Progress {
    Framing::new().push(bytes)
}

/// The verdict over `bytes` cut at `cuts`, as a caller sees it that keeps what was not released.
fn cut(bytes: &[u8], cuts: &[usize]) -> Progress {
    let mut framing = Framing::new();
    let mut released = 0;
    let mut progress = Progress {
        released: 0,
        verdict: Verdict::More,
    };
    for &end in cuts.iter().chain([&bytes.len()]) {
        progress = framing.push(&bytes[released..end.max(released)]);
        released += progress.released;
        if progress.verdict != Verdict::More {
            break;
        }
    }
    Progress {
        released,
        verdict: progress.verdict,
    }
}

fn refused(bytes: &[u8]) -> Option<Violation> {
    match whole(bytes).verdict {
        Verdict::Refused(refusal) => Some(refusal.violation()),
        _ => None,
    }
}

/// A head with `line` among its fields.
fn with(line: &str) -> Vec<u8> {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").into_bytes()
}

fn chunked(content: &str) -> Vec<u8> {
    format!("POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{content}")
        .into_bytes()
}

#[test]
fn a_bad_request_line_is_refused_by_its_name() {
    for (line, violation) in [
        ("GET /", Violation::RequestLine),
        ("GET  / HTTP/1.1", Violation::RequestLine),
        ("GET / HTTP/1.1 ", Violation::RequestLine),
        ("GET / x HTTP/1.1", Violation::RequestLine),
        (" GET / HTTP/1.1", Violation::RequestLine),
        ("G\u{e9}T / HTTP/1.1", Violation::Method),
        ("GET\t/ HTTP/1.1", Violation::RequestLine),
        ("GET / HTTP/2.0", Violation::Version),
        ("GET / HTTP/1.2", Violation::Version),
        ("GET / HTTP/0.9", Violation::Version),
        ("GET / http/1.1", Violation::RequestLine),
        ("GET / HTTP/1.10", Violation::RequestLine),
        ("GET / HTTP/11", Violation::RequestLine),
        (
            "GET /\u{7f}\u{e3}\u{81}\u{82} HTTP/1.1",
            Violation::ControlCharacter,
        ),
        ("GET /\u{3042} HTTP/1.1", Violation::TargetCharacter),
        ("GET /#f HTTP/1.1", Violation::TargetCharacter),
        ("GET /\"x\" HTTP/1.1", Violation::TargetCharacter),
        ("GET path HTTP/1.1", Violation::TargetForm),
        ("GET * HTTP/1.1", Violation::TargetForm),
        ("GET a:443 HTTP/1.1", Violation::TargetForm),
        ("GET ftp://a/ HTTP/1.1", Violation::TargetForm),
        ("GET http:///x HTTP/1.1", Violation::TargetAuthority),
        ("GET http://u@a/ HTTP/1.1", Violation::TargetAuthority),
        ("GET http://b/ HTTP/1.1", Violation::HostDiffersFromTarget),
        ("CONNECT / HTTP/1.1", Violation::TargetForm),
        ("CONNECT * HTTP/1.1", Violation::TargetForm),
        ("CONNECT http://a/ HTTP/1.1", Violation::TargetForm),
        ("CONNECT a HTTP/1.1", Violation::TargetAuthority),
        ("CONNECT a:99999 HTTP/1.1", Violation::TargetAuthority),
        ("CONNECT b:443 HTTP/1.1", Violation::HostDiffersFromTarget),
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(bytes.as_bytes()), Some(violation), "{line}");
    }
}

#[test]
fn each_form_of_target_is_accepted_where_it_belongs() {
    for line in [
        "GET / HTTP/1.1",
        "GET /a?b={c}|d&e=%E3%81%82 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://a HTTP/1.1",
        "GET HTTPS://A/x?y HTTP/1.1",
        "GET http://a?y HTTP/1.1",
        "CONNECT a:443 HTTP/1.1",
        "CUSTOM-METHOD / HTTP/1.1",
        "GET / HTTP/1.0",
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(bytes.as_bytes()), None, "{line}");
        assert_eq!(whole(bytes.as_bytes()).released, bytes.len(), "{line}");
    }
}

#[test]
fn a_bad_field_line_is_refused_by_its_name() {
    for (line, violation) in [
        ("X: a\n b: c", Violation::BareLineFeed),
        ("X: a\rb: c", Violation::BareCarriageReturn),
        ("X: a\r\r", Violation::BareCarriageReturn),
        ("X: a\0b", Violation::ControlCharacter),
        ("X: a\u{b}b", Violation::ControlCharacter),
        ("X: a\u{7f}", Violation::ControlCharacter),
        ("X : a", Violation::SpaceBeforeColon),
        ("X\t: a", Violation::SpaceBeforeColon),
        (" X: a", Violation::LineFolding),
        ("X: a\r\n\tb", Violation::LineFolding),
        (": a", Violation::FieldName),
        ("X(: a", Violation::FieldName),
        ("\u{3042}: a", Violation::FieldName),
        ("X", Violation::FieldLine),
        ("Host: a", Violation::HostRepeated),
        (
            "Content-Length: 5\r\nContent-Length: 5",
            Violation::ContentLengthRepeated,
        ),
        ("Content-Length: 5, 5", Violation::ContentLengthInvalid),
        ("Content-Length: +5", Violation::ContentLengthInvalid),
        ("Content-Length: -5", Violation::ContentLengthInvalid),
        ("Content-Length: 0x5", Violation::ContentLengthInvalid),
        ("Content-Length: 5 5", Violation::ContentLengthInvalid),
        ("Content-Length:", Violation::ContentLengthInvalid),
        ("Content-Length: \u{ff15}", Violation::ContentLengthInvalid),
        (
            "Content-Length: 9223372036854775808",
            Violation::ContentLengthInvalid,
        ),
        (
            "Content-Length: 99999999999999999999",
            Violation::ContentLengthInvalid,
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            Violation::LengthWithEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            Violation::LengthWithEncoding,
        ),
        (
            "Transfer-Encoding: gzip, chunked",
            Violation::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked, gzip",
            Violation::TransferEncoding,
        ),
        (
            "Transfer-Encoding: chunked, chunked",
            Violation::TransferEncoding,
        ),
        ("Transfer-Encoding: identity", Violation::TransferEncoding),
        (
            "Transfer-Encoding: \"chunked\"",
            Violation::TransferEncoding,
        ),
        ("Transfer-Encoding: xchunked", Violation::TransferEncoding),
        (
            "Transfer-Encoding: chunked;q=1",
            Violation::TransferEncoding,
        ),
        ("Transfer-Encoding:", Violation::TransferEncoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Violation::TransferEncoding,
        ),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            Violation::TransferEncoding,
        ),
    ] {
        assert_eq!(refused(&with(line)), Some(violation), "{line:?}");
    }
}

#[test]
fn a_tab_in_a_field_value_is_no_control_character() {
    assert_eq!(refused(&with("X:\ta\tb\t")), None);
    assert_eq!(
        refused(&with("X:\ta\tb\x01")),
        Some(Violation::ControlCharacter)
    );
}

#[test]
fn host_must_be_there_once_and_name_a_host() {
    let head = |host: &str| format!("GET / HTTP/1.1\r\n{host}\r\n");
    assert_eq!(refused(head("").as_bytes()), Some(Violation::HostMissing));
    assert_eq!(refused(b"GET / HTTP/1.0\r\n\r\n"), None);
    for host in [
        "", " ", "a b", "a,b", "a/b", "u@a", "a:", "a:b", "a:123456", "a:1:2", "[::1", "[::g]",
        "[a]", "::1", "a%2e", "\u{e9}",
    ] {
        let bytes = head(&format!("Host: {host}\r\n"));
        assert_eq!(
            refused(bytes.as_bytes()),
            Some(Violation::HostInvalid),
            "{host}"
        );
    }
    for host in [
        "a",
        "A.example",
        "a_b-c~d",
        "a:8443",
        "127.0.0.1:1",
        "[::1]",
        "[2001:db8::1]:443",
    ] {
        assert_eq!(
            refused(head(&format!("Host:\t{host} \r\n")).as_bytes()),
            None,
            "{host}"
        );
    }
}

#[test]
fn http_1_0_has_no_transfer_encoding_and_connect_no_content() {
    assert_eq!(
        refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Some(Violation::TransferEncodingInHttp10)
    );
    for field in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
        let bytes = format!("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{field}\r\n\r\n");
        assert_eq!(
            refused(bytes.as_bytes()),
            Some(Violation::ConnectWithContent)
        );
    }
}

#[test]
fn one_empty_line_before_a_request_is_ignored_and_a_second_refused() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(refused(format!("\r\n{get}\r\n{get}").as_bytes()), None);
    assert_eq!(
        refused(format!("\r\n\r\n{get}").as_bytes()),
        Some(Violation::EmptyLines)
    );
    assert_eq!(
        refused(format!("\n{get}").as_bytes()),
        Some(Violation::BareLineFeed)
    );
    assert_eq!(
        refused(format!("\r{get}").as_bytes()),
        Some(Violation::BareCarriageReturn)
    );
}

#[test]
fn bad_chunks_are_refused_by_their_name() {
    let long = "1".repeat(MAX_CHUNK_LINE);
    let many = "1;abcdefgh=ijklmnop\r\nx\r\n".repeat(MAX_CHUNK_EXTENSIONS / 18 + 1);
    for (content, violation) in [
        ("0x1\r\n", Violation::ChunkSize),
        ("+1\r\n", Violation::ChunkSize),
        ("-1\r\n", Violation::ChunkSize),
        (" 1\r\n", Violation::ChunkSize),
        ("1 \r\n", Violation::ChunkSize),
        ("1\t;a\r\n", Violation::ChunkSize),
        ("\r\n", Violation::ChunkSize),
        ("g\r\n", Violation::ChunkSize),
        ("1_0\r\n", Violation::ChunkSize),
        ("8000000000000000\r\n", Violation::ChunkSize),
        ("10000000000000001\r\n", Violation::ChunkSize),
        ("00000000000000001\r\n", Violation::ChunkSize),
        ("1\n", Violation::BareLineFeed),
        ("1;a\n", Violation::BareLineFeed),
        ("1;a=\"\n\"\r\n", Violation::BareLineFeed),
        ("1;a\rb\r\n", Violation::BareCarriageReturn),
        ("1;a=\"\rb\"\r\n", Violation::BareCarriageReturn),
        ("1;a=\0\r\n", Violation::ControlCharacter),
        ("1;\r\n", Violation::ChunkExtension),
        ("1; a\r\n", Violation::ChunkExtension),
        ("1;a=\r\n", Violation::ChunkExtension),
        ("1;a=\"b\r\n", Violation::ChunkExtension),
        ("1;a=\"b\"c\r\n", Violation::ChunkExtension),
        ("1;a=b c\r\n", Violation::ChunkExtension),
        ("1\r\nxy", Violation::ChunkEnd),
        ("1\r\nx\n", Violation::ChunkEnd),
        ("1\r\nx\r\r", Violation::ChunkEnd),
        (long.as_str(), Violation::ChunkExtensionsTooLarge),
        (many.as_str(), Violation::ChunkExtensionsTooLarge),
    ] {
        assert_eq!(refused(&chunked(content)), Some(violation), "{content:?}");
    }
}

#[test]
fn sound_chunks_are_released_to_the_last_byte() {
    for content in [
        "0\r\n\r\n",
        "1\r\nx\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n00\r\n\r\n",
        "a;b;c=d;e=\"f;\\\"g\t\"\r\n0123456789\r\n0;last\r\nX-Checksum: 1\r\nY:\r\n\r\n",
    ] {
        let mut framing = Framing::new();
        let bytes = chunked(content);
        assert_eq!(framing.push(&bytes).released, bytes.len(), "{content:?}");
        assert_eq!(framing.messages(), 1, "{content:?}");
    }
}

#[test]
fn fields_of_the_head_are_refused_in_trailers() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "HOST",
        "Authorization",
        "Cookie",
        "Trailer",
        "Connection",
    ] {
        let bytes = chunked(&format!("0\r\n{name}: 1\r\n\r\n"));
        assert_eq!(refused(&bytes), Some(Violation::TrailerForbidden), "{name}");
    }
    for (line, violation) in [
        ("X : 1", Violation::SpaceBeforeColon),
        (" X: 1", Violation::LineFolding),
        ("X: 1\r", Violation::BareCarriageReturn),
        ("X: 1\ny: 2", Violation::BareLineFeed),
        ("X", Violation::FieldLine),
    ] {
        let bytes = chunked(&format!("0\r\n{line}\r\n\r\n"));
        assert_eq!(refused(&bytes), Some(violation), "{line:?}");
    }
    let many = "T: 1\r\n".repeat(MAX_TRAILER_FIELDS + 1);
    assert_eq!(
        refused(&chunked(&format!("0\r\n{many}\r\n"))),
        Some(Violation::TrailersTooLarge)
    );
    let large = format!("T: {}\r\n", "x".repeat(MAX_TRAILERS));
    assert_eq!(
        refused(&chunked(&format!("0\r\n{large}\r\n"))),
        Some(Violation::TrailersTooLarge)
    );
}

#[test]
fn what_is_too_long_is_refused_exactly_beyond_its_limit() {
    let target = |length: usize| {
        let padding = length - "GET / HTTP/1.1\r\n".len();
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(padding))
    };
    assert_eq!(refused(target(MAX_REQUEST_LINE).as_bytes()), None);
    assert_eq!(
        refused(target(MAX_REQUEST_LINE + 1).as_bytes()),
        Some(Violation::RequestLineTooLong)
    );
    let head = |length: usize| {
        let padding = length - "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(padding)
        )
    };
    assert_eq!(refused(head(MAX_HEAD).as_bytes()), None);
    assert_eq!(
        refused(head(MAX_HEAD + 1).as_bytes()),
        Some(Violation::HeadTooLarge)
    );
    let fields = |count: usize| with(&vec!["X: y"; count - 1].join("\r\n"));
    assert_eq!(refused(&fields(MAX_FIELDS)), None);
    assert_eq!(
        refused(&fields(MAX_FIELDS + 1)),
        Some(Violation::TooManyFields)
    );
    // Without an end in sight, too.
    assert_eq!(
        refused(&[b'G'; MAX_REQUEST_LINE]),
        Some(Violation::RequestLineTooLong)
    );
}

#[test]
fn behind_a_request_that_may_switch_protocols_nothing_is_released() {
    let upgrade = with("Connection: upgrade\r\nUpgrade: websocket");
    let bytes = [&upgrade[..], b"\x81\x05hello"].concat();
    let mut framing = Framing::new();
    let expected = Progress {
        released: upgrade.len(),
        verdict: Verdict::MaySwitch,
    };
    assert_eq!(framing.push(&bytes), expected);
    assert_eq!(
        framing.push(b"\x81"),
        Progress {
            released: 0,
            ..expected
        }
    );
    framing.resume();
    assert_eq!(framing.push(&upgrade).released, upgrade.len());
}

#[test]
fn a_refused_connection_stays_refused() {
    let mut framing = Framing::new();
    let refused = framing.push(b"\r\n\r\n");
    assert_eq!(framing.push(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), refused);
}

#[test]
fn every_violation_has_a_status_and_a_section() {
    for violation in Violation::ALL {
        assert!(
            [400, 414, 431, 505].contains(&violation.status()),
            "{violation:?}"
        );
        assert!(violation.section().contains('§'), "{violation:?}");
        let error = std::io::Error::from(*violation);
        assert_eq!(Violation::behind(&error), Some(*violation));
    }
}

/// Sound requests of every kind of framing.
pub(in crate::wire) fn request() -> impl Strategy<Value = Vec<u8>> {
    let field = "[A-Za-z][A-Za-z0-9-]{0,10}: ?[ -~\u{e9}\u{3042}]{0,20}".prop_filter(
        "a field that means something here",
        |field| {
            let name = field
                .split(':')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            ![
                "host",
                "upgrade",
                "te",
                "expect",
                "connection",
                "trailer",
                "range",
                "via",
                "origin",
                "cookie",
                "pragma",
            ]
            .contains(&name.as_str())
        },
    );
    let fields = prop::collection::vec(field, 0..6);
    let chunk = (
        prop::collection::vec(any::<u8>(), 1..40),
        "(;[a-z]{1,4}(=[a-z]{1,4}|=\"[ !#-\\[\\]-~]{0,6}\")?){0,2}",
    );
    let content = prop_oneof![
        Just(None).prop_map(|_: Option<()>| (String::new(), Vec::new())),
        prop::collection::vec(any::<u8>(), 0..200)
            .prop_map(|content| (format!("Content-Length: {}\r\n", content.len()), content)),
        (
            prop::collection::vec(chunk, 0..5),
            "(X-[a-z]{1,5}: [ -~]{0,9}\r\n){0,2}"
        )
            .prop_map(|(chunks, trailers)| {
                let mut content = Vec::new();
                for (data, extension) in chunks {
                    content
                        .extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
                    content.extend_from_slice(&data);
                    content.extend_from_slice(b"\r\n");
                }
                content.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
                ("transfer-Encoding: Chunked\r\n".to_owned(), content)
            }),
    ];
    (
        "(\r\n)?",
        "(GET|POST|PUT|X-Y)",
        "/[a-z0-9/?=&%.]{0,20}",
        fields,
        content,
    )
        .prop_map(|(empty, method, target, fields, (framing, content))| {
            let mut bytes =
                format!("{empty}{method} {target} HTTP/1.1\r\nHost: a.example\r\n{framing}")
                    .into_bytes();
            for field in fields {
                bytes.extend_from_slice(field.as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&content);
            bytes
        })
}

/// Streams that are nearly sound: requests with a few bytes changed, removed or inserted.
pub(in crate::wire) fn nearly_sound() -> impl Strategy<Value = Vec<u8>> {
    let change = (
        any::<prop::sample::Index>(),
        0..3_u8,
        prop::sample::select(b"\r\n\0 \t:;,x0\x7f\xff\"".to_vec()),
    );
    let changes = prop::collection::vec(change, 0..3);
    (prop::collection::vec(request(), 1..4), changes).prop_map(|(requests, changes)| {
        let mut bytes = requests.concat();
        for (at, kind, byte) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn sound_requests_are_released_whole(requests in prop::collection::vec(request(), 1..4)) {
        let bytes = requests.concat();
        let mut framing = Framing::new();
        let progress = framing.push(&bytes);
        prop_assert_eq!(progress, Progress { released: bytes.len(), verdict: Verdict::More });
        prop_assert_eq!(framing.messages(), requests.len() as u64);
    }

    #[test]
    fn the_verdict_does_not_depend_on_where_reads_are_cut(
        bytes in nearly_sound(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let expected = whole(&bytes);
        prop_assert_eq!(cut(&bytes, &cuts), expected);
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(cut(&bytes, &every), expected);
    }
}
