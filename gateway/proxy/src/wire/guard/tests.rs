//! The guard below a real hyper server connection, over an in-memory pipe.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::wire::framing::{Framing, Verdict};

/// What a handler got to see of a request.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    line: String,
    body: Result<Vec<u8>, Option<Violation>>,
}

/// Serves `client`'s other end until the connection ends.
struct Server {
    seen: Arc<Mutex<Vec<Seen>>>,
    watch: Watch,
    connection: tokio::task::JoinHandle<Result<(), hyper::Error>>,
}

fn serve(pipe: usize) -> (DuplexStream, Server) {
    let (client, server) = tokio::io::duplex(pipe);
    let (guarded, watch) = Guarded::new(server);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let tunnel = watch.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        answer(request, Arc::clone(&record), tunnel.clone())
    });
    let connection = tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(guarded), service)
            .with_upgrades(),
    );
    let server = Server {
        seen,
        watch,
        connection,
    };
    (client, server)
}

/// `/echo` upgrades to an echo, `/slow` takes its time, `/large` is large; everything says what it was asked.
async fn answer(
    mut request: Request<Incoming>,
    record: Arc<Mutex<Vec<Seen>>>,
    tunnel: Watch,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    if request.uri().path() == "/echo" || request.method() == http::Method::CONNECT {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.expect("the upgrade was granted"));
            let mut bytes = [0; 64];
            loop {
                match io.read(&mut bytes).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => io
                        .write_all(&bytes[..length])
                        .await
                        .expect("the pipe is open"),
                }
            }
        });
        tunnel.opaque();
        let mut response = Response::new(Full::default());
        if request.method() != http::Method::CONNECT {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response
                .headers_mut()
                .insert("upgrade", http::HeaderValue::from_static("echo"));
            response
                .headers_mut()
                .insert("connection", http::HeaderValue::from_static("upgrade"));
        }
        return Ok(response);
    }
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes().to_vec())
        .map_err(|error| Violation::behind(&error));
    let status = match &body {
        Ok(_) => 200,
        Err(violation) => violation.map_or(502, Violation::status),
    };
    if parts.uri.path() == "/slow" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let content = match parts.uri.path() {
        "/large" => vec![b'L'; 300_000],
        _ => line.clone().into_bytes(),
    };
    record
        .lock()
        .expect("no test panics here")
        .push(Seen { line, body });
    let mut response = Response::new(Full::from(content));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    Ok(response)
}

/// Sends `pieces`, each in its own read, and returns all that comes back until the server closes.
async fn exchange(pieces: &[&[u8]]) -> (String, Server) {
    let (mut client, server) = serve(1 << 20);
    for piece in pieces {
        // The server may have refused and gone already.
        let _ = client.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let mut reply = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(2), client.read_to_end(&mut reply));
    if read.await.is_ok_and(|read| read.is_err()) {
        reply.extend_from_slice(b"<reset>");
    }
    (String::from_utf8_lossy(&reply).into_owned(), server)
}

fn statuses(reply: &str) -> Vec<&str> {
    reply
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &reply[at + 9..at + 12])
        .filter(|status| status.parse::<u16>().is_ok())
        .collect()
}

impl Server {
    fn lines(&self) -> Vec<String> {
        self.seen
            .lock()
            .expect("no test panics here")
            .iter()
            .map(|seen| seen.line.clone())
            .collect()
    }
}

const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_bad_head_is_answered_by_the_guard_and_never_reaches_the_handler() {
    let (reply, server) = exchange(&[b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"]).await;
    assert_eq!(statuses(&reply), ["400"], "{reply}");
    assert!(
        reply.contains("connection: close") && reply.contains("CRLF"),
        "{reply}"
    );
    assert_eq!(server.lines(), [""; 0]);
    assert_eq!(server.watch.violation(), Some(Violation::BareLineFeed));
}

#[tokio::test]
async fn a_bad_head_that_arrives_byte_by_byte_is_answered_the_same() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n";
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    let (reply, server) = exchange(&pieces).await;
    assert_eq!(statuses(&reply), ["400"], "{reply}");
    assert_eq!(server.lines(), [""; 0]);
}

#[tokio::test]
async fn earlier_responses_come_whole_and_in_order_before_the_refusal() {
    for first in ["/slow", "/large", "/good"] {
        let good = format!("GET {first} HTTP/1.1\r\nHost: a\r\n\r\n");
        let bytes = [good.as_bytes(), GOOD, b"GET / HTTP/9.9\r\n\r\n"].concat();
        let (reply, server) = exchange(&[&bytes]).await;
        assert_eq!(statuses(&reply), ["200", "200", "505"], "{first}");
        assert_eq!(
            server.lines(),
            [format!("GET {first}"), "GET /good".to_owned()]
        );
    }
}

#[tokio::test]
async fn a_refusal_waits_for_a_large_response_that_the_client_is_slow_to_read() {
    let (mut client, _server) = serve(1000);
    let bytes = [&b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\0"].concat();
    client.write_all(&bytes).await.expect("the pipe is open");
    tokio::time::sleep(Duration::from_millis(20)).await;
    client
        .write_all(b"\r\n\r\n")
        .await
        .expect("the pipe is open");
    let mut reply = Vec::new();
    let mut piece = [0; 700];
    while let Ok(Ok(length)) =
        tokio::time::timeout(Duration::from_secs(2), client.read(&mut piece)).await
    {
        if length == 0 {
            break;
        }
        reply.extend_from_slice(&piece[..length]);
        tokio::task::yield_now().await;
    }
    let reply = String::from_utf8_lossy(&reply);
    assert_eq!(statuses(&reply), ["200", "400"]);
    let refusal = reply.rfind("HTTP/1.1 400").expect("a refusal");
    assert!(reply[..refusal].ends_with(&"L".repeat(300_000)));
}

#[tokio::test]
async fn broken_content_ends_with_an_error_that_names_the_rule() {
    let (reply, server) = exchange(&[
        b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n+1\r\nx\r\n0\r\n\r\n",
    ])
    .await;
    assert_eq!(statuses(&reply), ["400"], "{reply}");
    let seen = server.seen.lock().expect("no test panics here");
    assert_eq!(seen[0].body, Err(Some(Violation::ChunkSize)));
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn requests_that_share_a_read_all_reach_the_handler() {
    let bytes = [
        GOOD,
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"\r\nPOST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=\"y\"\r\nde\r\n0\r\nT: v\r\n\r\n",
        b"GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ]
    .concat();
    let (reply, server) = exchange(&[&bytes]).await;
    assert_eq!(statuses(&reply), ["200"; 4], "{reply}");
    assert_eq!(
        server.lines(),
        ["GET /good", "POST /a", "POST /b", "GET /c"]
    );
    let seen = server.seen.lock().expect("no test panics here");
    assert_eq!(seen[1].body, Ok(b"abc".to_vec()));
    assert_eq!(seen[2].body, Ok(b"de".to_vec()));
}

#[tokio::test]
async fn a_body_that_waits_for_100_continue_passes() {
    let (mut client, server) = serve(4096);
    let head = b"POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    client.write_all(head).await.expect("the pipe is open");
    let mut interim = [0; 25];
    client
        .read_exact(&mut interim)
        .await
        .expect("an interim response");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.expect("the pipe is open");
    let mut reply = String::new();
    client.read_to_string(&mut reply).await.expect("a response");
    assert_eq!(statuses(&reply), ["200"]);
    assert_eq!(
        server.seen.lock().expect("no test panics here")[0].body,
        Ok(b"body".to_vec())
    );
}

#[tokio::test]
async fn a_granted_tunnel_carries_bytes_that_are_no_http() {
    let upgrade =
        &b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"[..];
    let connect = &b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"[..];
    for head in [upgrade, connect] {
        for eager in [true, false] {
            let (mut client, server) = serve(4096);
            let noise = b"\x16\x03\x01\0\r\n\n\0noise";
            // An eager client sends before it is told that it may.
            let first = if eager {
                [head, noise].concat()
            } else {
                head.to_vec()
            };
            client.write_all(&first).await.expect("the pipe is open");
            let mut reply = Vec::new();
            while !reply.ends_with(b"\r\n\r\n") {
                reply.push(client.read_u8().await.expect("a response"));
            }
            if !eager {
                client.write_all(noise).await.expect("the pipe is open");
            }
            let mut echoed = vec![0; noise.len()];
            client.read_exact(&mut echoed).await.expect("the echo");
            assert_eq!(echoed, noise);
            assert_eq!(server.watch.violation(), None);
        }
    }
}

#[tokio::test]
async fn behind_a_switch_that_was_not_granted_the_bytes_are_requests_again() {
    let declined = b"GET /plain HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (second, third) in [
        (&last[..], "200"),
        (b"\x16\x03\x01\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\n\r\n", "400"),
    ] {
        for together in [true, false] {
            let (reply, server) = if together {
                exchange(&[&[&declined[..], &declined[..], second].concat()]).await
            } else {
                let mut pieces: Vec<&[u8]> = vec![declined, declined];
                pieces.extend(second.chunks(1));
                exchange(&pieces).await
            };
            assert_eq!(statuses(&reply), ["200", "200", third], "{reply}");
            assert_eq!(server.lines().len(), if third == "200" { 3 } else { 2 });
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_a_head_ends_the_connection_quietly() {
    let (mut client, server) = serve(4096);
    client
        .write_all(b"GET / HT")
        .await
        .expect("the pipe is open");
    tokio::task::yield_now().await;
    drop(client);
    server
        .connection
        .await
        .expect("no panic")
        .expect("a quiet end");
}

#[tokio::test]
async fn what_a_client_still_sends_behind_a_refusal_is_read_and_dropped() {
    let (mut client, server) = serve(1024);
    client
        .write_all(b"BAD\r\n\r\n")
        .await
        .expect("the pipe is open");
    for _ in 0..100 {
        client
            .write_all(&[b'x'; 1000])
            .await
            .expect("the server still reads");
    }
    let mut reply = String::new();
    client
        .read_to_string(&mut reply)
        .await
        .expect("the refusal");
    assert_eq!(statuses(&reply), ["400"]);
    drop(client);
    assert!(server.connection.await.expect("no panic").is_err());
}

/// All that the handler saw of `bytes`, sent in pieces of `size`.
fn seen_by_the_handler(bytes: &[u8], size: usize) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (client, server) = serve(1 << 20);
        let (mut reader, mut writer) = tokio::io::split(client);
        let reply = tokio::spawn(async move {
            let mut reply = Vec::new();
            let _ = reader.read_to_end(&mut reply).await;
        });
        for piece in bytes.chunks(size) {
            let _ = writer.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        // Let every response out before the end of the stream makes hyper give up on them.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let _ = writer.shutdown().await;
        let _ = server.connection.await.expect("no panic");
        let _ = reply.await;
        std::mem::take(&mut *server.seen.lock().expect("no test panics here"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever the guard lets through, hyper cuts into the same requests with as many bytes of content.
    #[test]
    fn hyper_understands_what_the_guard_lets_through_as_the_guard_does(
        bytes in crate::wire::framing::tests::nearly_sound(),
        size in 1..400_usize,
    ) {
        let mut framing = Framing::new();
        let verdict = framing.push(&bytes).verdict;
        prop_assume!(verdict != Verdict::MaySwitch);
        let seen = seen_by_the_handler(&bytes, size);
        let whole: Vec<&Vec<u8>> = seen.iter().filter_map(|seen| seen.body.as_ref().ok()).collect();
        prop_assert_eq!(whole.len() as u64, framing.messages(), "{:?}", &seen);
        let content: usize = whole.iter().map(|body| body.len()).sum();
        prop_assert_eq!(content as u64, framing.content_bytes());
        // What is not whole is at most one request at the end, and the handler is told whose fault that is.
        for broken in seen.iter().filter_map(|seen| seen.body.as_ref().err()) {
            let expected = match verdict {
                Verdict::Refused(Refusal::Body(violation)) => Some(violation),
                _ => None,
            };
            prop_assert_eq!(*broken, expected);
        }
    }
}
