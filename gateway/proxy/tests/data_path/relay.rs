//! What is relayed arrives unchanged, in every combination of protocols, as a stream.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::{
    client::{Client, full},
    origin::{Origin, Speaks},
    stand::{CITY, CONSOLE, Setup, Stand},
};

const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];
const ORIGINS: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

async fn stand(speaks: Speaks) -> (Stand, Origin) {
    let setup = Setup::new();
    let origin = Origin::start(&setup.authority, speaks).await;
    let stand = setup.start(origin.address);
    (stand, origin)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_protocols_relays() {
    for speaks in ORIGINS {
        let (stand, origin) = stand(speaks).await;
        for version in BOTH {
            let mut client = Client::connect(&stand, version).await;
            for round in 0..3 {
                let answer = client.get("/staff/notes").await;
                assert_eq!(answer.text(), "GET /staff/notes");
                assert_eq!(answer.header("cache-status"), "renraku-gateway; fwd=bypass");
                let body = vec![b'a' + round; 100_000];
                let answer = client.post("/echo", body.clone()).await;
                assert_eq!(answer.body, body);
                assert_eq!(client.get("/none").await.status, 204);
            }
        }
        assert_eq!(origin.seen.full_handshakes(), 1);
        assert_eq!(stand.running().signatures(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_requests_one_after_the_other() {
    for speaks in ORIGINS {
        let (stand, origin) = stand(speaks).await;
        for version in BOTH {
            let mut client = Client::connect(&stand, version).await;
            for _ in 0..50 {
                client.get("/a").await;
                client.get("/trailers").await;
            }
        }
        assert_eq!(origin.seen.connections(), 1);
        assert_eq!(origin.seen.requests(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_sees_the_host_the_browser_asked_for_and_the_box_speaks_for_itself() {
    for speaks in ORIGINS {
        let (stand, _origin) = stand(speaks).await;
        for version in BOTH {
            let mut client = Client::connect(&stand, version).await;
            let request = client
                .request("GET", CITY, "/head?a=b%20c")
                .header("x-forwarded-for", "10.0.0.9")
                .header("forwarded", "for=10.0.0.9")
                .header("renraku-staff", "\"u-1\"")
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .header("accept-language", "ja")
                .body(full(""))
                .unwrap();
            let answer = client.answer(request).await;
            let seen = answer.text().to_ascii_lowercase();
            let authority = client.authority(CITY);
            assert!(seen.contains("/head?a=b%20c"), "{seen}");
            match speaks {
                Speaks::Http1 => assert!(seen.contains(&format!("host: {authority}")), "{seen}"),
                Speaks::Http2 => assert!(
                    seen.contains(&format!("https://{authority}/head")),
                    "{seen}"
                ),
            }
            assert!(seen.contains("forwarded: for=_"), "{seen}");
            assert!(
                seen.contains(&format!(";proto=https;host=\"{authority}\"")),
                "{seen}"
            );
            assert!(seen.contains("cookie: a=1; b=2"), "{seen}");
            assert!(seen.contains("accept-language: ja"), "{seen}");
            assert!(
                seen.contains("via: ") && seen.contains(" renraku-gateway"),
                "{seen}"
            );
            for absent in ["10.0.0.9", "x-forwarded", "renraku-staff", "127.0.0.1;"] {
                assert!(!seen.contains(absent), "{absent} in {seen}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_fields_of_the_site_do_not_reach_the_client() {
    let (stand, _origin) = stand(Speaks::Http1).await;
    for version in BOTH {
        let mut client = Client::connect(&stand, version).await;
        let answer = client.get("/hop").await;
        assert_eq!(answer.text(), "hop");
        assert!(!answer.headers.contains_key("x-mine"));
        assert!(!answer.headers.contains_key("keep-alive"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_in_both_directions_without_framing_fields() {
    for speaks in ORIGINS {
        let (stand, _origin) = stand(speaks).await;
        for version in BOTH {
            let mut client = Client::connect(&stand, version).await;
            let request = client
                .request("GET", CITY, "/trailers")
                .header("te", "trailers")
                .body(full(""))
                .unwrap();
            let answer = client.answer(request).await;
            assert_eq!(answer.text(), "body");
            let trailers = answer.trailers.expect("trailers");
            assert_eq!(trailers["x-digest"], "abc");
            assert!(!trailers.contains_key("content-length"));

            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "9".parse().unwrap());
            let frames = [
                Ok(Frame::data(Bytes::from_static(b"up"))),
                Ok(Frame::trailers(trailers)),
            ];
            let request = client
                .request("POST", CITY, "/echo")
                .header("te", "trailers")
                .header("trailer", "x-sum")
                .body(StreamBody::new(stream::iter(frames)).boxed())
                .unwrap();
            let answer = client.answer(request).await;
            assert_eq!(answer.text(), "up");
            assert_eq!(answer.trailers.expect("trailers")["x-sum"], "9");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_response_cut_short_the_client_sees_nothing_but_that() {
    for speaks in ORIGINS {
        let (stand, _origin) = stand(speaks).await;
        for version in BOTH {
            let mut client = Client::connect(&stand, version).await;
            let answer = client.get("/cut").await;
            assert_eq!(answer.status, 502);
            assert!(answer.text().contains(":broken"), "{}", answer.text());
        }
    }
}

/// Resident memory of this process (box, origin and client together), in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_waits_for_its_slow_reader_outside_of_the_process() {
    const SIZE: u64 = 45 * 1024 * 1024;
    for speaks in ORIGINS {
        let (stand, _origin) = stand(speaks).await;
        for version in BOTH {
            let mut client = Client::connect(&stand, version).await;
            let path = format!("/big?{SIZE}");
            let request = client.request("GET", CITY, &path).body(full("")).unwrap();
            let before = resident();
            let mut body = client.send(request).await.unwrap().into_body();
            let grown = resident().saturating_sub(before);
            assert!(
                grown < 30 * 1024 * 1024,
                "{grown} bytes were taken into memory"
            );
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame.unwrap().data_ref().map_or(0, Bytes::len) as u64;
            }
            assert_eq!(bytes, SIZE);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_end_ends_at_the_bound_and_the_site_hears_nothing_of_it() {
    let (stand, origin) = stand(Speaks::Http1).await;
    for version in BOTH {
        let mut client = Client::connect(&stand, version).await;
        let sent = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&sent);
        let frames = stream::unfold((), move |()| {
            counting.fetch_add(64 * 1024, Ordering::SeqCst);
            async { Some((Ok(Frame::data(Bytes::from(vec![0; 64 * 1024]))), ())) }
        });
        let request = client
            .request("POST", CITY, "/swallow")
            .body(StreamBody::new(frames).boxed())
            .unwrap();
        if let Ok(response) = client.send(request).await {
            assert_eq!(response.status(), 413);
        }
        // Some more is read and forgotten, so that a client that does end sees the answer.
        let sent = sent.load(Ordering::SeqCst);
        assert!(sent < 270 * 1024 * 1024, "{sent} bytes were accepted");
    }
    assert_eq!(origin.seen.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_box_answer_on_their_host_and_on_the_reserved_path() {
    let (stand, origin) = stand(Speaks::Http1).await;
    for version in BOTH {
        let mut console = Client::connect_as(&stand, version, CONSOLE).await;
        let request = console
            .request("POST", CONSOLE, "/setup")
            .body(full("12345"))
            .unwrap();
        let answer = console.answer(request).await;
        assert_eq!(answer.text(), format!("box POST {CONSOLE} /setup 5 nobody"));
        assert!(!answer.headers.contains_key("cache-status"));

        let mut client = Client::connect(&stand, version).await;
        let answer = client.get("/.well-known/renraku-gateway/notes").await;
        let expected = format!("box GET {CITY} /.well-known/renraku-gateway/notes 0 nobody");
        assert_eq!(answer.text(), expected);
    }
    assert_eq!(origin.seen.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staff_member_is_known_from_what_the_city_says_and_the_browser_is_not_told() {
    let (stand, _origin) = stand(Speaks::Http2).await;
    for version in BOTH {
        let mut client = Client::connect(&stand, version).await;
        let answer = client.get("/sign-in").await;
        assert!(!answer.headers.contains_key("renraku-staff"));
        assert_eq!(answer.header("set-cookie"), "sid=s3cret; HttpOnly");
        let request = client
            .request("GET", CITY, "/.well-known/renraku-gateway/notes")
            .header("cookie", "x=1; sid=s3cret")
            .body(full(""))
            .unwrap();
        let answer = client.answer(request).await;
        assert!(answer.text().ends_with(" u-7"), "{}", answer.text());
        stand.staff.forget_user("u-7");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_box_itself_asks_for_the_body_that_a_client_holds_back() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (stand, origin) = stand(Speaks::Http1).await;
    let mut tls = crate::client::tls(&stand, CITY, &[b"http/1.1"]).await;
    let head = |length: u64| {
        format!(
            "POST /swallow HTTP/1.1\r\nHost: {CITY}:{}\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n",
            stand.https.port()
        )
    };
    tls.write_all(head(5).as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let read = tls.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(
        origin.seen.requests(),
        0,
        "the site is not asked before the body was seen"
    );
    tls.write_all(b"hello").await.unwrap();
    let read = tls.read(&mut buffer).await.unwrap();
    let answer = String::from_utf8_lossy(&buffer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n5"), "{answer}");

    // What is too large to be looked into is not asked for.
    let mut tls = crate::client::tls(&stand, CITY, &[b"http/1.1"]).await;
    tls.write_all(head(51 * 1024 * 1024).as_bytes())
        .await
        .unwrap();
    let read = tls.read(&mut buffer).await.unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 413 "));
}
