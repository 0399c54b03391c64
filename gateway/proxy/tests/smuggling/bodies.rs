//! Where a body ends, and what follows it: lengths, transfer codings, chunks, trailers, connections (RFC 9112 §§6, 7, 9, 11.2).

use super::{BAD, Declined, Refused, Relayed, Vector};

pub(crate) const VECTORS: &[Vector] = &[
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
