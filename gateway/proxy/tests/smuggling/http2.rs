//! Vectors for RFC 9113 §8: fields, pseudo-header fields and content, in a downgrade to HTTP/1.1.

use tokio::io::AsyncWriteExt;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, fields, frame, outcome, preface,
};
use super::{Bench, CITY};

type Field = (&'static [u8], &'static [u8]);

const METHOD: Field = (b":method", b"GET");
const POST: Field = (b":method", b"POST");
const SCHEME: Field = (b":scheme", b"https");
const PATH: Field = (b":path", b"/g");
const AUTHORITY: Field = (b":authority", b"city.localhost");

/// A sound head with more fields behind it.
macro_rules! head {
    ($($field:expr),* $(,)?) => { &[METHOD, SCHEME, PATH, AUTHORITY, $($field),*] };
}

/// Heads that are malformed (§8.1.1), each with its section.
const MALFORMED: &[(&str, &str, &[Field])] = &[
    ("a field name in capitals", "§8.2", head![(b"X-Name", b"1")]),
    ("an empty field name", "§8.2", head![(b"", b"1")]),
    (
        "a space in a field name",
        "§8.2.1",
        head![(b"x name", b"1")],
    ),
    (
        "a colon in a field name",
        "§8.2.1",
        head![(b"x:name", b"1")],
    ),
    ("LF in a field name", "§8.2.1", head![(b"x\nname", b"1")]),
    (
        "a non-ASCII field name",
        "§8.2.1",
        head![("x-\u{e9}".as_bytes(), b"1")],
    ),
    ("NUL in a value", "§8.2.1", head![(b"x-name", b"a\0b")]),
    ("CR in a value", "§8.2.1", head![(b"x-name", b"a\rb")]),
    ("LF in a value", "§8.2.1", head![(b"x-name", b"a\nb")]),
    (
        "a field within a value",
        "§8.2.1",
        head![(b"x-name", b"a\r\nTransfer-Encoding: chunked")],
    ),
    (
        "a request within a value",
        "§8.2.1",
        head![(
            b"x-name",
            b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: city.localhost"
        )],
    ),
    (
        "a space before a value",
        "§8.2.1",
        head![(b"x-name", b" a")],
    ),
    ("a tab behind a value", "§8.2.1", head![(b"x-name", b"a\t")]),
    ("Connection", "§8.2.2", head![(b"connection", b"close")]),
    ("Keep-Alive", "§8.2.2", head![(b"keep-alive", b"timeout=5")]),
    (
        "Proxy-Connection",
        "§8.2.2",
        head![(b"proxy-connection", b"keep-alive")],
    ),
    (
        "Transfer-Encoding",
        "§8.2.2",
        head![(b"transfer-encoding", b"chunked")],
    ),
    ("Upgrade", "§8.2.2", head![(b"upgrade", b"websocket")]),
    (
        "TE with more than trailers",
        "§8.2.2",
        head![(b"te", b"gzip")],
    ),
    ("no method", "§8.3.1", &[SCHEME, PATH, AUTHORITY]),
    ("no scheme", "§8.3.1", &[METHOD, PATH, AUTHORITY]),
    ("no path", "§8.3.1", &[METHOD, SCHEME, AUTHORITY]),
    (
        "no authority and no Host",
        "§8.3.1",
        &[METHOD, SCHEME, PATH],
    ),
    (
        "an empty path",
        "§8.3.1",
        &[METHOD, SCHEME, (b":path", b""), AUTHORITY],
    ),
    (
        "an empty method",
        "§8.3.1",
        &[(b":method", b""), SCHEME, PATH, AUTHORITY],
    ),
    ("two methods", "§8.3", head![METHOD]),
    ("two paths", "§8.3", head![(b":path", b"/smuggled")]),
    ("two schemes", "§8.3", head![SCHEME]),
    ("two authorities", "§8.3", head![AUTHORITY]),
    (
        "an unknown pseudo-header field",
        "§8.3",
        &[METHOD, SCHEME, PATH, AUTHORITY, (b":name", b"1")],
    ),
    (
        "a status in a request",
        "§8.3",
        &[METHOD, SCHEME, PATH, AUTHORITY, (b":status", b"200")],
    ),
    (
        "a pseudo-header field behind a field",
        "§8.3",
        &[METHOD, SCHEME, AUTHORITY, (b"x-name", b"1"), PATH],
    ),
    (
        "user information in the authority",
        "§8.3.1",
        &[METHOD, SCHEME, PATH, (b":authority", b"u@city.localhost")],
    ),
    (
        "an authority that is none",
        "§8.3.1",
        &[METHOD, SCHEME, PATH, (b":authority", b"city.localhost/x")],
    ),
    (
        "Host that differs from the authority",
        "§8.3.1",
        head![(b"host", b"b.localhost")],
    ),
    (
        "two Hosts",
        "§8.3.1",
        head![(b"host", b"city.localhost"), (b"host", b"city.localhost")],
    ),
    (
        "a path without a slash",
        "§8.3.1",
        &[METHOD, SCHEME, (b":path", b"g"), AUTHORITY],
    ),
    (
        "a space in the path",
        "§8.3.1",
        &[METHOD, SCHEME, (b":path", b"/g HTTP/1.1"), AUTHORITY],
    ),
    (
        "a request in the path",
        "§8.3.1",
        &[
            METHOD,
            SCHEME,
            (
                b":path",
                b"/g HTTP/1.1\r\nHost: b.localhost\r\n\r\nGET /smuggled",
            ),
            AUTHORITY,
        ],
    ),
    (
        "an asterisk for GET",
        "§8.3.1",
        &[METHOD, SCHEME, (b":path", b"*"), AUTHORITY],
    ),
    (
        "a request in the method",
        "§8.3.1",
        &[
            (b":method", b"GET /smuggled HTTP/1.1\r\nX: y\r\n\r\nGET"),
            SCHEME,
            PATH,
            AUTHORITY,
        ],
    ),
    (
        "a space in the method",
        "§8.3.1",
        &[(b":method", b"GET /smuggled"), SCHEME, PATH, AUTHORITY],
    ),
    (
        "CONNECT with a path",
        "§8.5",
        &[(b":method", b"CONNECT"), SCHEME, PATH, AUTHORITY],
    ),
    (
        "a content length beside no content",
        "§8.1.1",
        head![(b"content-length", b"5")],
    ),
    (
        "a content length that is no number",
        "§8.1.1",
        head![(b"content-length", b"+0")],
    ),
    (
        "two content lengths",
        "§8.1.1",
        head![(b"content-length", b"0"), (b"content-length", b"1")],
    ),
];

/// Whether the stream was refused: with an error, or a status that says whose fault it is.
fn refused(outcome: Outcome) -> bool {
    const PROTOCOL_ERROR: u32 = 1;
    match outcome {
        Outcome::Answered(status) => (400..500).contains(&status),
        Outcome::Reset(code) | Outcome::GoAway(code) => code == PROTOCOL_ERROR,
        Outcome::Closed | Outcome::Silence => false,
    }
}

/// Sends `frames` on a new connection and waits for what becomes of stream 1.
async fn send(bench: &Bench, frames: &[Vec<u8>]) -> Outcome {
    let mut tls = bench.connect(b"h2").await;
    let bytes = [preface(), frames.concat()].concat();
    tls.write_all(&bytes).await.unwrap();
    tls.flush().await.unwrap();
    outcome(&mut tls).await
}

fn headers(flags: u8, list: &[Field]) -> Vec<u8> {
    frame(HEADERS, flags, 1, &fields(list))
}

#[tokio::test]
async fn every_malformed_head_of_rfc_9113_is_refused_and_never_arrives() {
    let bench = Bench::start().await;
    let mut wrong = Vec::new();
    for (name, section, list) in MALFORMED {
        let outcome = send(&bench, &[headers(END_STREAM | END_HEADERS, list)]).await;
        let arrived = bench.site.take();
        if !refused(outcome) || !arrived.is_empty() {
            wrong.push(format!(
                "{name} ({section}): {outcome:?}, arrived: {arrived:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} vectors:\n{}",
        wrong.len(),
        MALFORMED.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn content_that_is_not_as_long_as_it_says_never_arrives_whole() {
    let bench = Bench::start().await;
    let mut wrong = Vec::new();
    for (said, sent) in [("4", "12345"), ("6", "12345"), ("0", "12345")] {
        let length: &'static [u8] = said.as_bytes();
        let list = [POST, SCHEME, PATH, AUTHORITY, (b"content-length", length)];
        let frames = [
            headers(END_HEADERS, &list),
            frame(DATA, END_STREAM, 1, sent.as_bytes()),
        ];
        let outcome = send(&bench, &frames).await;
        let arrived = bench.site.take();
        if !refused(outcome) || !arrived.is_empty() {
            wrong.push(format!(
                "{said} for {sent}: {outcome:?}, arrived: {arrived:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn sound_requests_arrive_as_exactly_one_request() {
    let bench = Bench::start().await;
    let list = [
        POST,
        SCHEME,
        PATH,
        AUTHORITY,
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"te", b"trailers"),
    ];
    let content = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: city.localhost\r\n\r\n";
    let frames = [
        headers(END_HEADERS, &list),
        frame(DATA, END_STREAM, 1, content),
    ];
    assert_eq!(send(&bench, &frames).await, Outcome::Answered(200));
    let arrived = bench.site.take();
    let [request] = &arrived[..] else {
        panic!("{arrived:?}")
    };
    assert_eq!(request.line, "POST /g HTTP/1.1");
    assert_eq!(request.content, content);
    assert_eq!(request.field("host"), [CITY]);
    assert_eq!(request.field("cookie"), ["a=1; b=2"]);
}

#[tokio::test]
async fn trailers_cannot_change_what_was_sent() {
    let bench = Bench::start().await;
    for (name, value) in [
        (&b"content-length"[..], &b"1"[..]),
        (b"transfer-encoding", b"chunked"),
        (b"host", b"b.localhost"),
        (b"authorization", b"Basic YTpi"),
        (b"cookie", b"session=1"),
        (b":path", b"/smuggled"),
    ] {
        let frames = [
            headers(END_HEADERS, &[POST, SCHEME, PATH, AUTHORITY]),
            frame(DATA, 0, 1, b"12345"),
            frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                &fields(&[(name, value), (b"x-checksum", b"1")]),
            ),
        ];
        let outcome = send(&bench, &frames).await;
        let arrived = bench.site.take();
        match &arrived[..] {
            [] => assert!(refused(outcome), "{outcome:?}"),
            [request] => {
                assert_eq!(request.content, b"12345");
                let harmless = request
                    .trailers
                    .iter()
                    .all(|(name, _)| name == "x-checksum");
                assert!(harmless, "{request:?}");
            }
            _ => panic!("{arrived:?}"),
        }
    }
}

#[tokio::test]
async fn a_head_that_another_frame_interrupts_ends_the_connection() {
    let bench = Bench::start().await;
    let section = fields(&[METHOD, SCHEME, PATH, AUTHORITY]);
    let (first, second) = section.split_at(10);
    let whole = [
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, END_HEADERS, 1, second),
    ];
    assert_eq!(send(&bench, &whole).await, Outcome::Answered(200));
    assert_eq!(bench.site.take().len(), 1);
    let between = frame(DATA, 0, 1, b"x");
    let interrupted = [whole[0].clone(), between, whole[1].clone()];
    assert_eq!(send(&bench, &interrupted).await, Outcome::GoAway(1));
    assert_eq!(bench.site.take(), []);
}
