//! Vectors for RFC 9112: framing, request lines, fields, chunks and connection management.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Bench, CITY};

/// What must become of the bytes.
enum Wanted {
    /// These statuses; the last request is refused, and what comes behind it is never looked at. As many requests as there
    /// are 200s reach the site.
    Refused(&'static [u16]),
    /// This status, from the handler; the connection may live on, and the site gets nothing.
    Declined(u16),
    /// The site gets exactly these requests: method and target, content.
    Relayed(&'static [(&'static str, &'static str)]),
}
use Wanted::{Declined, Refused, Relayed};

/// A name, the section it comes from, the bytes, and what is wanted.
type Vector = (&'static str, &'static str, &'static str, Wanted);

/// A refusal of the first request.
const BAD: Wanted = Refused(&[400]);

/// A request that must never be taken for one.
macro_rules! smuggled {
    () => {
        "GET /smuggled HTTP/1.1\r\nHost: city.localhost\r\n\r\n"
    };
}

/// A sound POST with these framing fields, and what follows the head.
macro_rules! post {
    ($fields:literal, $content:literal) => {
        concat!(
            "POST /p HTTP/1.1\r\nHost: city.localhost\r\n",
            $fields,
            "\r\n",
            $content
        )
    };
}

/// The same with chunked content.
macro_rules! chunks {
    ($content:literal) => {
        post!("Transfer-Encoding: chunked\r\n", $content)
    };
}

/// A GET with this field line besides Host.
macro_rules! get {
    ($field:literal) => {
        concat!(
            "GET /g HTTP/1.1\r\nHost: city.localhost\r\n",
            $field,
            "\r\n\r\n"
        )
    };
}

const VECTORS: &[Vector] = &[
    // Message parsing (§2.2), field syntax (§5).
    (
        "a request line that ends with LF",
        "§2.2",
        "GET /g HTTP/1.1\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a field line that ends with LF",
        "§2.2",
        "GET /g HTTP/1.1\r\nHost: city.localhost\n\r\n",
        BAD,
    ),
    (
        "a head that ends with LF",
        "§2.2",
        concat!("GET /g HTTP/1.1\r\nHost: city.localhost\r\n\n", smuggled!()),
        BAD,
    ),
    (
        "a head that ends with CR CR LF",
        "§2.2",
        "GET /g HTTP/1.1\r\nHost: city.localhost\r\n\r\r\n\r\n",
        BAD,
    ),
    (
        "CR within a field value",
        "§2.2",
        get!("X: a\rTransfer-Encoding: chunked"),
        BAD,
    ),
    (
        "CR within the target",
        "§2.2",
        "GET /g\r/ HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "one empty line before a request",
        "§2.2",
        "\r\nGET /g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        Relayed(&[("GET /g", "")]),
    ),
    (
        "two empty lines before a request",
        "§2.2",
        "\r\n\r\nGET /g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "LF before a request",
        "§2.2",
        "\nGET /g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "whitespace before the first field",
        "§2.2",
        "GET /g HTTP/1.1\r\n Host: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "NUL in a field value",
        "RFC 9110 §5.5",
        get!("X: a\0b"),
        BAD,
    ),
    ("NUL in a field name", "§5.1", get!("X\0: a"), BAD),
    (
        "a control character in a field value",
        "RFC 9110 §5.5",
        get!("X: a\x08b"),
        BAD,
    ),
    (
        "DEL in a field value",
        "RFC 9110 §5.5",
        get!("X: a\x7fb"),
        BAD,
    ),
    (
        "a vertical tab before a value",
        "RFC 9110 §5.5",
        post!("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"),
        BAD,
    ),
    (
        "HTAB around a value",
        "§5.1",
        get!("X:\ta\tb\t"),
        Relayed(&[("GET /g", "")]),
    ),
    (
        "a space before the colon",
        "§5.1",
        post!("Content-Length : 5\r\n", "12345"),
        BAD,
    ),
    (
        "a tab before the colon",
        "§5.1",
        post!("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"),
        BAD,
    ),
    ("a folded field", "§5.2", get!("X: a\r\n b"), BAD),
    (
        "a folded Transfer-Encoding",
        "§5.2",
        post!("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        BAD,
    ),
    (
        "a field without a colon",
        "§5",
        get!("Transfer-Encoding"),
        BAD,
    ),
    ("a field without a name", "§5.1", get!(": a"), BAD),
    ("a field name that is no token", "§5.1", get!("X[]: a"), BAD),
    (
        "a space within a field name",
        "§5.1",
        post!("Content Length: 5\r\n", "12345"),
        BAD,
    ),
    // Request line (§3).
    (
        "two spaces in the request line",
        "§3",
        "GET  /g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a tab in the request line",
        "§3",
        "GET\t/g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a space in the target",
        "§3.2",
        "GET /g /h HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a space behind the version",
        "§3",
        "GET /g HTTP/1.1 \r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a request without a version",
        "§3",
        "GET /g\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "HTTP/0.9",
        "§2.3",
        "GET /g HTTP/0.9\r\nHost: city.localhost\r\n\r\n",
        Refused(&[505]),
    ),
    (
        "HTTP/1.2",
        "§2.3",
        "GET /g HTTP/1.2\r\nHost: city.localhost\r\n\r\n",
        Refused(&[505]),
    ),
    (
        "the preface of HTTP/2",
        "§2.3",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        Refused(&[505]),
    ),
    (
        "a version in lower case",
        "§2.3",
        "GET /g http/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a version with two digits",
        "§2.3",
        "GET /g HTTP/1.01\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a method that is no token",
        "§3.1",
        "GE(T) /g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a target without a slash",
        "§3.2",
        "GET g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a fragment in the target",
        "§3.2",
        "GET /g#f HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a raw non-ASCII target",
        "§3.2",
        "GET /\u{9ad8}\u{8429} HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "an asterisk for GET",
        "§3.2.4",
        "GET * HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "an authority for GET",
        "§3.2.3",
        "GET city.localhost:443 HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "an absolute target",
        "§3.2.2",
        "GET https://city.localhost/g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        Relayed(&[("GET /g", "")]),
    ),
    (
        "an absolute target for another host",
        "§3.2.2",
        "GET https://b.localhost/g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "an absolute target with user information",
        "§3.2.2",
        "GET https://u@city.localhost/g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "an absolute target with another scheme",
        "§3.2.2",
        "GET file://city.localhost/g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "CONNECT to a path",
        "§3.2.3",
        "CONNECT /g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "CONNECT without a port",
        "§3.2.3",
        "CONNECT city.localhost HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "CONNECT with content",
        "RFC 9110 §9.3.6",
        "CONNECT city.localhost:443 HTTP/1.1\r\nHost: city.localhost:443\r\nContent-Length: 4\r\n\r\nabcd",
        BAD,
    ),
    // Host (§3.2).
    ("no Host", "§3.2", "GET /g HTTP/1.1\r\nX: y\r\n\r\n", BAD),
    (
        "an empty Host",
        "§3.2",
        "GET /g HTTP/1.1\r\nHost:\r\n\r\n",
        BAD,
    ),
    ("two Hosts", "§3.2", get!("Host: city.localhost"), BAD),
    (
        "two different Hosts",
        "§3.2",
        get!("Host: b.localhost"),
        BAD,
    ),
    (
        "two hosts in one Host",
        "§3.2",
        "GET /g HTTP/1.1\r\nHost: city.localhost, b.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a path in Host",
        "§3.2",
        "GET /g HTTP/1.1\r\nHost: city.localhost/b\r\n\r\n",
        BAD,
    ),
    (
        "user information in Host",
        "§3.2",
        "GET /g HTTP/1.1\r\nHost: b@city.localhost\r\n\r\n",
        BAD,
    ),
    (
        "a port in Host that is no number",
        "§3.2",
        "GET /g HTTP/1.1\r\nHost: city.localhost:b\r\n\r\n",
        BAD,
    ),
    // Content length (§6.2, §6.3).
    (
        "content of a known length",
        "§6.2",
        post!("Content-Length: 5\r\n", "12345"),
        Relayed(&[("POST /p", "12345")]),
    ),
    (
        "a length with a sign",
        "§6.3",
        post!("Content-Length: +5\r\n", "12345"),
        BAD,
    ),
    (
        "a negative length",
        "§6.3",
        post!("Content-Length: -1\r\n", ""),
        BAD,
    ),
    (
        "a hexadecimal length",
        "§6.3",
        post!("Content-Length: 0x5\r\n", "12345"),
        BAD,
    ),
    (
        "a length with a fraction",
        "§6.3",
        post!("Content-Length: 5.0\r\n", "12345"),
        BAD,
    ),
    (
        "an empty length",
        "§6.3",
        post!("Content-Length: \r\n", ""),
        BAD,
    ),
    (
        "a length beyond 64 bits",
        "§6.3",
        post!("Content-Length: 18446744073709551621\r\n", "12345"),
        BAD,
    ),
    (
        "a list of equal lengths",
        "§6.3",
        post!("Content-Length: 5, 5\r\n", "12345"),
        BAD,
    ),
    (
        "two equal lengths",
        "§6.3",
        post!("Content-Length: 5\r\nContent-Length: 5\r\n", "12345"),
        BAD,
    ),
    (
        "two different lengths",
        "§6.3",
        post!("Content-Length: 5\r\nContent-Length: 6\r\n", "123456"),
        BAD,
    ),
    (
        "a length with full-width digits",
        "§6.3",
        post!("Content-Length: \u{ff15}\r\n", "12345"),
        BAD,
    ),
    // Transfer coding (§6.1).
    (
        "chunked content",
        "§7.1",
        chunks!("5\r\n12345\r\n0\r\n\r\n"),
        Relayed(&[("POST /p", "12345")]),
    ),
    (
        "chunked in capitals",
        "§7",
        post!("Transfer-Encoding: CHUNKED\r\n", "1\r\nx\r\n0\r\n\r\n"),
        Relayed(&[("POST /p", "x")]),
    ),
    (
        "a length before a coding",
        "§6.1",
        post!(
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\nX"
        ),
        BAD,
    ),
    (
        "a coding before a length",
        "§6.1",
        post!(
            "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
            "0\r\n\r\nX"
        ),
        BAD,
    ),
    (
        "an unknown coding",
        "§6.1",
        post!("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        BAD,
    ),
    (
        "identity",
        "§6.1",
        post!("Transfer-Encoding: identity\r\nContent-Length: 1\r\n", "x"),
        BAD,
    ),
    (
        "chunked before another coding",
        "§6.3",
        post!("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        BAD,
    ),
    (
        "chunked behind another coding",
        "§6.1",
        post!("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        BAD,
    ),
    (
        "chunked twice",
        "§6.1",
        post!(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n"
        ),
        BAD,
    ),
    (
        "chunked in quotes",
        "§6.1",
        post!("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        BAD,
    ),
    (
        "chunked with a parameter",
        "§6.1",
        post!("Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n"),
        BAD,
    ),
    (
        "an empty coding",
        "§6.1",
        post!("Transfer-Encoding:\r\nContent-Length: 1\r\n", "x"),
        BAD,
    ),
    (
        "a coding in HTTP/1.0",
        "§6.1",
        "POST /p HTTP/1.0\r\nHost: city.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BAD,
    ),
    // Chunks (§7.1).
    (
        "a chunk size with 0x",
        "§7.1",
        chunks!("0x5\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk size with a sign",
        "§7.1",
        chunks!("+5\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk size with a space",
        "§7.1",
        chunks!("5 \r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk size behind a space",
        "§7.1",
        chunks!(" 5\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk size with an underscore",
        "§7.1",
        chunks!("1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "no chunk size",
        "§7.1",
        chunks!("\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk size beyond 64 bits",
        "§7.1",
        chunks!("10000000000000005\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk size that is negative as a signed number",
        "§7.1",
        chunks!("fffffffffffffffb\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk line that ends with LF",
        "§7.1",
        chunks!("5\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk that ends with LF",
        "§7.1",
        chunks!("5\r\n12345\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk that is longer than its size",
        "§7.1",
        chunks!("4\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk that is shorter than its size",
        "§7.1",
        chunks!("6\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk with an extension",
        "§7.1.1",
        chunks!("5;a=b;c=\"d;e\"\r\n12345\r\n0\r\n\r\n"),
        Relayed(&[("POST /p", "12345")]),
    ),
    (
        "LF within a chunk extension",
        "§7.1.1",
        chunks!("5;a\n\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "CR within a chunk extension",
        "§7.1.1",
        chunks!("5;a=\"\r0\"\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "LF within a quoted chunk extension",
        "§7.1.1",
        chunks!("5;a=\"\n\"\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk extension without a name",
        "§7.1.1",
        chunks!("5;=b\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    (
        "a chunk extension with an open quote",
        "§7.1.1",
        chunks!("5;a=\"b\r\n12345\r\n0\r\n\r\n"),
        BAD,
    ),
    // Trailers (§7.1.2).
    (
        "a trailer",
        "§7.1.2",
        chunks!("0\r\nX-Checksum: 1\r\n\r\n"),
        Relayed(&[("POST /p", "")]),
    ),
    (
        "Content-Length as a trailer",
        "RFC 9110 §6.5.1",
        chunks!("0\r\nContent-Length: 5\r\n\r\n12345"),
        BAD,
    ),
    (
        "Transfer-Encoding as a trailer",
        "RFC 9110 §6.5.1",
        chunks!("0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        BAD,
    ),
    (
        "Host as a trailer",
        "RFC 9110 §6.5.1",
        chunks!("0\r\nHost: b.localhost\r\n\r\n"),
        BAD,
    ),
    (
        "Authorization as a trailer",
        "RFC 9110 §6.5.1",
        chunks!("0\r\nAuthorization: Basic YTpi\r\n\r\n"),
        BAD,
    ),
    (
        "a trailer that ends with LF",
        "§7.1.2",
        chunks!("0\r\nX: 1\n\r\n"),
        BAD,
    ),
    (
        "a folded trailer",
        "§7.1.2",
        chunks!("0\r\nX: 1\r\n Y: 2\r\n\r\n"),
        BAD,
    ),
    (
        "a trailer section that ends with LF",
        "§7.1.2",
        chunks!("0\r\n\n"),
        BAD,
    ),
    // Connection management (§9), smuggling by what follows (§11.2).
    (
        "requests in one write",
        "§9.3.2",
        concat!(
            "GET /1 HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
            chunks!("1\r\nx\r\n0\r\n\r\n"),
            "GET /2 HTTP/1.1\r\nHost: city.localhost\r\n\r\n"
        ),
        Relayed(&[("GET /1", ""), ("POST /p", "x"), ("GET /2", "")]),
    ),
    (
        "a request in the content of another",
        "§11.2",
        post!(
            "Content-Length: 43\r\n",
            "GET /smuggled HTTP/1.1\r\nHost: b.localhost\r\n"
        ),
        Relayed(&[("POST /p", "GET /smuggled HTTP/1.1\r\nHost: b.localhost\r\n")]),
    ),
    (
        "a request in the content of a GET",
        "§11.2",
        "GET /g HTTP/1.1\r\nHost: city.localhost\r\nContent-Length: 29\r\n\r\nGET /smuggled HTTP/1.1\r\nX: y\r",
        Relayed(&[("GET /g", "GET /smuggled HTTP/1.1\r\nX: y\r")]),
    ),
    (
        "a bad request behind a good one",
        "§11.2",
        concat!(
            "GET /g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
            "GET /h HTTP/1.1\r\nHost: city.localhost\nX: y\r\n\r\n",
            smuggled!()
        ),
        Refused(&[200, 400]),
    ),
    (
        "a request behind one that closes",
        "§9.6",
        concat!(
            "GET /g HTTP/1.1\r\nHost: city.localhost\r\nConnection: close\r\n\r\n",
            smuggled!()
        ),
        Refused(&[200]),
    ),
    (
        "a request behind content that is too short by one",
        "§11.2",
        concat!(post!("Content-Length: 4\r\n", "12345"), smuggled!()),
        // The fifth byte belongs to the next method, which is a token: nobody can know.
        Relayed(&[("POST /p", "1234"), ("5GET /smuggled", "")]),
    ),
    (
        "an upgrade to HTTP/2",
        "§11.2",
        get!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA"),
        Declined(501),
    ),
    (
        "TRACE",
        "RFC 9110 §9.3.8",
        "TRACE /g HTTP/1.1\r\nHost: city.localhost\r\n\r\n",
        Declined(405),
    ),
];

/// Sends `bytes` and reads statuses until `count` have come, or the box closes.
async fn exchange(
    bench: &Bench,
    bytes: &[u8],
    count: usize,
    cut: Option<usize>,
) -> (Vec<u16>, bool) {
    let mut tls = bench.connect(b"http/1.1").await;
    for piece in bytes.chunks(cut.unwrap_or(bytes.len())) {
        // The box may have refused and closed already.
        if tls.write_all(piece).await.is_err() || tls.flush().await.is_err() {
            break;
        }
    }
    let mut reply = Vec::new();
    let mut closed = false;
    loop {
        // Past the last status wanted, a moment to see whether another follows.
        let patience = if statuses(&reply).len() < count {
            5000
        } else {
            30
        };
        match tokio::time::timeout(Duration::from_millis(patience), tls.read_buf(&mut reply)).await
        {
            Ok(Ok(0) | Err(_)) => {
                closed = true;
                break;
            }
            Ok(Ok(_)) => {}
            Err(_) => break,
        }
    }
    (statuses(&reply), closed)
}

fn statuses(reply: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(reply);
    let after_version = |at: usize| text.get(at + 9..at + 12).and_then(|code| code.parse().ok());
    text.match_indices("HTTP/1.1 ")
        .filter_map(|(at, _)| after_version(at))
        .collect()
}

/// Runs all vectors, each sent whole or in pieces of `cut` bytes, and reports every one that goes wrong.
async fn run(cut: Option<usize>) {
    let bench = Bench::start().await;
    let mut wrong = Vec::new();
    for (name, section, bytes, wanted) in VECTORS {
        let (expected, relayed): (Vec<u16>, usize) = match wanted {
            Refused(statuses) => (
                statuses.to_vec(),
                statuses.iter().filter(|&&status| status == 200).count(),
            ),
            Declined(status) => (vec![*status], 0),
            Relayed(requests) => (vec![200; requests.len()], requests.len()),
        };
        let (statuses, closed) = exchange(&bench, bytes.as_bytes(), expected.len(), cut).await;
        let arrived = bench.site.take();
        let as_wanted = match wanted {
            Refused(_) => closed && arrived.len() == relayed,
            Declined(_) => arrived.is_empty(),
            Relayed(requests) => {
                let got = arrived.iter().map(|request| {
                    let line = request.line.strip_suffix(" HTTP/1.1");
                    let content = String::from_utf8_lossy(&request.content);
                    (
                        line.unwrap_or("another version").to_owned(),
                        content.into_owned(),
                    )
                });
                let requests = requests
                    .iter()
                    .map(|(line, content)| ((*line).to_owned(), (*content).to_owned()));
                got.eq(requests)
                    && arrived
                        .iter()
                        .all(|request| request.field("host") == [CITY])
            }
        };
        if statuses != expected || !as_wanted {
            wrong.push(format!("{name} ({section}): {statuses:?}, wanted {expected:?}; closed: {closed}; arrived: {arrived:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} vectors:\n{}",
        wrong.len(),
        VECTORS.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn every_vector_of_rfc_9112_ends_as_the_standard_wants() {
    assert!(VECTORS.len() >= 57);
    run(None).await;
}

#[tokio::test]
async fn every_vector_ends_the_same_when_it_comes_in_small_pieces() {
    run(Some(7)).await;
}

#[tokio::test]
async fn what_is_too_long_is_answered_with_414_and_431() {
    let bench = Bench::start().await;
    let target = format!("GET /{} HTTP/1.1\r\nHost: {CITY}\r\n\r\n", "x".repeat(9000));
    assert_eq!(
        exchange(&bench, target.as_bytes(), 1, None).await,
        (vec![414], true)
    );
    let field = format!(
        "GET / HTTP/1.1\r\nHost: {CITY}\r\nX: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    assert_eq!(
        exchange(&bench, field.as_bytes(), 1, None).await,
        (vec![431], true)
    );
    let fields = format!(
        "GET / HTTP/1.1\r\nHost: {CITY}\r\n{}\r\n",
        "X: y\r\n".repeat(101)
    );
    assert_eq!(
        exchange(&bench, fields.as_bytes(), 1, None).await,
        (vec![431], true)
    );
    assert_eq!(bench.site.take(), []);
}

#[tokio::test]
async fn fields_that_concern_one_connection_do_not_pass() {
    let bench = Bench::start().await;
    let bytes = format!(
        "POST /p HTTP/1.1\r\nHost: {CITY}\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nTE: gzip\r\nProxy-Authorization: Basic YTpi\r\nX-End: 2\r\n\
         Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Checksum: 1\r\n\r\n"
    );
    assert_eq!(exchange(&bench, bytes.as_bytes(), 1, None).await.0, [200]);
    let arrived = bench.site.take();
    let request = arrived.first().expect("the request");
    for name in [
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "te",
        "proxy-authorization",
        "connection",
    ] {
        assert_eq!(request.field(name), [""; 0], "{name}");
    }
    assert_eq!(request.field("x-end"), ["2"]);
    assert_eq!(request.content, b"x");
}
