//! Vectors for RFC 9112: framing, request lines, fields, chunks and connection management.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Bench, CITY};

#[macro_use]
#[path = "requests.rs"]
mod requests;
#[path = "bodies.rs"]
mod bodies;
#[path = "heads.rs"]
mod heads;

/// What must become of the bytes.
pub(crate) enum Wanted {
    /// These statuses; the last request is refused, and what comes behind it is never looked at. As many requests as there
    /// are 200s reach the site.
    Refused(&'static [u16]),
    /// This status, from the handler; the connection may live on, and the site gets nothing.
    Declined(u16),
    /// The site gets exactly these requests: method and target, content.
    Relayed(&'static [(&'static str, &'static str)]),
}
pub(crate) use Wanted::{Declined, Refused, Relayed};

/// A name, the section it comes from, the bytes, and what is wanted.
pub(crate) type Vector = (&'static str, &'static str, &'static str, Wanted);

/// A refusal of the first request.
pub(crate) const BAD: Wanted = Refused(&[400]);

fn vectors() -> impl Iterator<Item = &'static Vector> {
    heads::VECTORS.iter().chain(bodies::VECTORS)
}

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
    for (name, section, bytes, wanted) in vectors() {
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
        vectors().count(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn every_vector_of_rfc_9112_ends_as_the_standard_wants() {
    assert!(vectors().count() >= 57);
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
