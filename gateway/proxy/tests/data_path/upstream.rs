//! The city's side: failures told apart, retries, resumption, identities.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::Version;
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    sign::{Signer, SigningKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    client::{Answer, Client, full},
    origin::{self, Origin, Speaks, text},
    stand::{Authority, CITY, Setup, Stand, nobody},
};

const ORIGINS: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

async fn get(stand: &Stand, path: &str) -> Answer {
    Client::connect(stand, Version::HTTP_2)
        .await
        .get(path)
        .await
}

fn problem(answer: &Answer) -> String {
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    problem["type"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned()
}

fn proxy_error(answer: &Answer) -> String {
    let field = answer.header("proxy-status");
    let error = field
        .split("error=")
        .nth(1)
        .unwrap_or_else(|| panic!("{field}"));
    error.split(';').next().unwrap().to_owned()
}

/// A server that speaks TLS and then does what it is told with the bytes.
pub async fn scripted<F, Fut>(setup: &Setup, script: F) -> SocketAddr
where
    F: Fn(usize, tokio_rustls::server::TlsStream<tokio::net::TcpStream>) -> Fut
        + Send
        + Sync
        + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(origin::tls(
        &setup.authority,
        &setup.authority,
        Speaks::Http1,
    ));
    let script = Arc::new(script);
    tokio::spawn(async move {
        for number in 0.. {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
            tokio::spawn(async move {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    script(number, tls).await;
                }
            });
        }
    });
    address
}

pub async fn read_head(tls: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tls.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_down_is_left_alone_after_three_attempts_and_found_again() {
    let mut setup = Setup::new();
    setup.limits.connect = Duration::from_millis(500);
    setup.limits.upstream_warm = false;
    let address = nobody();
    let stand = setup.start(address);
    for _ in 0..3 {
        let answer = get(&stand, "/staff").await;
        assert_eq!(answer.status, 502);
        assert_eq!(proxy_error(&answer), "connection_refused");
        assert_eq!(problem(&answer), "unreachable");
    }
    let answer = get(&stand, "/staff").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "10");
    assert_eq!(proxy_error(&answer), "destination_unavailable");

    let _origin = Origin::at(&stand.authority, Speaks::Http1, address).await;
    let started = Instant::now();
    while get(&stand, "/staff").await.status != 200 {
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "not found again"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_accepts_and_says_nothing_is_a_timeout() {
    let mut setup = Setup::new();
    setup.limits.upstream_handshake = Duration::from_millis(300);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stand = setup.start(listener.local_addr().unwrap());
    let answer = get(&stand, "/staff").await;
    assert_eq!(answer.status, 504);
    assert_eq!(proxy_error(&answer), "connection_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_does_not_answer_in_time_is_a_timeout() {
    for speaks in ORIGINS {
        let mut setup = Setup::new();
        setup.limits.first_byte = Duration::from_millis(300);
        let origin = Origin::start(&setup.authority, speaks).await;
        let stand = setup.start(origin.address);
        let answer = get(&stand, "/slow?3000").await;
        assert_eq!(answer.status, 504);
        assert_eq!(proxy_error(&answer), "http_response_timeout");
        assert_eq!(get(&stand, "/slow?10").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_with_a_foreign_certificate_is_not_trusted() {
    let setup = Setup::new();
    let foreign = Authority::new("foreign");
    let behaviour = Arc::new(|_| Box::pin(async { text("stolen") }) as _);
    let origin = Origin::with(&foreign, &setup.authority, Speaks::Http1, behaviour).await;
    let stand = setup.start(origin.address);
    let answer = get(&stand, "/staff").await;
    assert_eq!(answer.status, 502);
    assert_eq!(proxy_error(&answer), "tls_certificate_error");
    assert_eq!(problem(&answer), "wrong-authority");
    assert_eq!(origin.seen.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_site_refuses_is_named_as_the_reason() {
    for speaks in ORIGINS {
        let setup = Setup::new();
        let others = Authority::new("others");
        let behaviour = Arc::new(|_| Box::pin(async { text("?") }) as _);
        let origin = Origin::with(&setup.authority, &others, speaks, behaviour).await;
        let stand = setup.start(origin.address);
        let answer = get(&stand, "/staff").await;
        assert_eq!(answer.status, 502);
        assert_eq!(proxy_error(&answer), "tls_alert_received");
        assert_eq!(problem(&answer), "certificate-refused");
    }
}

/// A key whose signatures can be made to fail, and which counts them.
#[derive(Debug)]
struct Token {
    key: Arc<dyn SigningKey>,
    broken: AtomicBool,
}

impl SigningKey for Token {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        if self.broken.load(Ordering::SeqCst) {
            return Some(Box::new(Broken));
        }
        self.key.choose_scheme(offered)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct Broken;

impl Signer for Broken {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Err(rustls::Error::General("the token is gone".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_sign_is_told_apart_from_a_city_that_is_down() {
    let mut setup = Setup::new();
    setup.identity = false;
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = setup.start(origin.address);
    let mut identity = stand.facility.identity();
    identity.key = Arc::new(Token {
        key: identity.key,
        broken: AtomicBool::new(true),
    });
    stand.running().set_identity(Some(identity)).unwrap();
    let answer = get(&stand, "/staff").await;
    assert_eq!(answer.status, 503);
    assert_eq!(problem(&answer), "key-unavailable");
    assert_eq!(stand.running().signatures(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_cost_one_signature() {
    let setup = Setup::new();
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = Arc::new(setup.start(origin.address));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let stand = Arc::clone(&stand);
        clients.spawn(async move {
            let mut client = Client::connect(&stand, Version::HTTP_11).await;
            for _ in 0..3 {
                assert_eq!(client.get("/slow?100").await.status, 200);
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert!(
        origin.seen.connections() > 20,
        "{}",
        origin.seen.connections()
    );
    assert_eq!(origin.seen.full_handshakes(), 1);
    assert_eq!(stand.running().signatures(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_one_connection_to_a_site_that_speaks_http2() {
    let setup = Setup::new();
    let origin = Origin::start(&setup.authority, Speaks::Http2).await;
    let stand = Arc::new(setup.start(origin.address));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let stand = Arc::clone(&stand);
        clients.spawn(async move {
            let mut client = Client::connect(&stand, Version::HTTP_2).await;
            assert_eq!(client.get("/slow?100").await.status, 200);
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert!(origin.seen.connections() <= 2);
    assert_eq!(stand.running().signatures(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_identity_is_used_at_once_and_no_session_of_the_old_one_is_resumed() {
    for speaks in ORIGINS {
        let setup = Setup::new();
        let origin = Origin::start(&setup.authority, speaks).await;
        let stand = setup.start(origin.address);
        let mut client = Client::connect(&stand, Version::HTTP_2).await;
        assert_eq!(client.get("/staff").await.status, 200);
        assert_eq!(origin.seen.full_handshakes(), 1);
        let renewed = stand.authority.client("facility 17, renewed");
        stand
            .running()
            .set_identity(Some(renewed.identity()))
            .unwrap();
        assert_eq!(client.get("/staff").await.status, 200);
        assert_eq!(origin.seen.full_handshakes(), 2);
        assert_eq!(origin.seen.connections(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_identity_the_city_is_asked_without_a_certificate() {
    let mut setup = Setup::new();
    setup.identity = false;
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = setup.start(origin.address);
    let answer = get(&stand, "/public/").await;
    // This origin insists on one.
    assert_eq!(problem(&answer), "certificate-refused");
    stand
        .running()
        .set_identity(Some(stand.facility.identity()))
        .unwrap();
    assert_eq!(get(&stand, "/public/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_meets_a_connection_just_being_closed_is_sent_once_more() {
    let setup = Setup::new();
    let served = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&served);
    // Answers one request per connection and closes when it sees the second.
    let address = scripted(&setup, move |_, mut tls| {
        let counting = Arc::clone(&counting);
        async move {
            if read_head(&mut tls).await.is_ok() {
                counting.fetch_add(1, Ordering::SeqCst);
                let _ = tls
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
                let _ = tls.read_u8().await;
            }
        }
    })
    .await;
    let stand = setup.start(address);
    let mut client = Client::connect(&stand, Version::HTTP_11).await;
    for _ in 0..5 {
        assert_eq!(client.get("/staff").await.text(), "ok");
    }
    assert_eq!(served.load(Ordering::SeqCst), 5);

    // What may have had an effect is never repeated.
    let answer = client.post("/staff", "x").await;
    assert_eq!(answer.status, 502);
    assert_eq!(proxy_error(&answer), "connection_terminated");
    assert_eq!(served.load(Ordering::SeqCst), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_end_when_the_budget_is_spent() {
    let setup = Setup::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&connections);
    let address = scripted(&setup, move |_, mut tls| {
        counting.fetch_add(1, Ordering::SeqCst);
        async move {
            let _ = read_head(&mut tls).await;
            let _ = tls
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
            let _ = tls.read_u8().await;
        }
    })
    .await;
    let stand = setup.start(address);
    let mut client = Client::connect(&stand, Version::HTTP_11).await;
    let mut failed = 0;
    for _ in 0..60 {
        if client.get("/staff").await.status == 502 {
            failed += 1;
        }
    }
    assert!(failed > 10, "{failed} of 60 failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_does_not_speak_http_is_reported_as_such() {
    let setup = Setup::new();
    let address = scripted(&setup, |_, mut tls| async move {
        let _ = read_head(&mut tls).await;
        let _ = tls.write_all(b"220 mail.example ESMTP\r\n").await;
        let _ = tls.read_u8().await;
    })
    .await;
    let stand = setup.start(address);
    let answer = get(&stand, "/staff").await;
    assert_eq!(answer.status, 502);
    assert_eq!(proxy_error(&answer), "http_protocol_error");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interim_response_does_not_stand_for_the_final_one() {
    let setup = Setup::new();
    let address = scripted(&setup, |_, mut tls| async move {
        let _ = read_head(&mut tls).await;
        let _ = tls
            .write_all(
                b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            )
            .await;
        let _ = tls.read_u8().await;
    })
    .await;
    let stand = setup.start(address);
    let answer = get(&stand, "/staff").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok"));
    assert!(!answer.headers.contains_key("link"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_given_up_before_the_client_sees_any_of_it() {
    for speaks in ORIGINS {
        let mut setup = Setup::new();
        setup.limits.read_stall = Duration::from_millis(300);
        let behaviour = Arc::new(|_| {
            Box::pin(async {
                use futures_util::StreamExt;
                use http_body_util::BodyExt;
                let first = Ok(hyper::body::Frame::data(bytes::Bytes::from_static(b"one")));
                let frames =
                    futures_util::stream::iter([first]).chain(futures_util::stream::pending());
                http::Response::new(BodyExt::boxed(http_body_util::StreamBody::new(frames)))
            }) as _
        });
        let origin = Origin::with(&setup.authority, &setup.authority, speaks, behaviour).await;
        let stand = setup.start(origin.address);
        let mut client = Client::connect(&stand, Version::HTTP_11).await;
        let started = Instant::now();
        let answer = client.get("/").await;
        assert_eq!(answer.status, 504);
        assert!(!answer.text().contains("one"));
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_may_wait_are_told_so_at_once() {
    let mut setup = Setup::new();
    setup.limits.upstream_connections = 2;
    setup.limits.upstream_waiting = 3;
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = setup.start(origin.address);
    // All handshakes first, on both sides: on a busy machine they take longer than a slow answer, and who waits for a
    // connection being dialled counts as waiting too.
    let mut connected = Vec::new();
    for _ in 0..10 {
        connected.push(Client::connect(&stand, Version::HTTP_2).await);
    }
    while origin.seen.connections() < 2 {
        let (one, other) = connected.split_at_mut(1);
        let both = tokio::join!(one[0].get("/slow?100"), other[0].get("/slow?100"));
        assert_eq!(
            (both.0.status, both.1.status),
            (http::StatusCode::OK, http::StatusCode::OK)
        );
    }
    let mut clients = tokio::task::JoinSet::new();
    for mut client in connected {
        clients.spawn(async move { client.get("/slow?500").await });
    }
    let (mut served, mut busy) = (0, 0);
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        match answer.status.as_u16() {
            200 => served += 1,
            503 => {
                assert_eq!(proxy_error(&answer), "connection_limit_reached");
                busy += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!((served, busy), (5, 5));
    assert!(origin.seen.connections() <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_finds_a_connection_that_stands_already() {
    for speaks in ORIGINS {
        let setup = Setup::new();
        let origin = Origin::start(&setup.authority, speaks).await;
        let stand = setup.start(origin.address);
        let started = Instant::now();
        while origin.seen.full_handshakes() == 0 {
            assert!(
                started.elapsed() < Duration::from_secs(3),
                "nothing was dialled"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(get(&stand, "/staff").await.status, 200);
        assert_eq!(origin.seen.connections(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_has_come_far_enough_is_answered_by_the_box() {
    let setup = Setup::new();
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = setup.start(origin.address);
    let mut client = Client::connect(&stand, Version::HTTP_11).await;
    for (hops, reached) in [("0", false), ("3", true)] {
        let request = client
            .request("OPTIONS", CITY, "/head")
            .header("max-forwards", hops)
            .body(full(""))
            .unwrap();
        let answer = client.answer(request).await;
        assert_eq!(answer.text().contains("max-forwards: 2"), reached);
        assert_eq!(answer.headers.contains_key("allow"), !reached);
    }
}
