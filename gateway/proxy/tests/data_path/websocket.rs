//! WebSockets, over HTTP/1.1 and over HTTP/2, to a site that speaks RFC 6455.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::Engine as _;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    client::{Client, full, tls},
    origin::{Origin, Reply, Speaks, text},
    stand::{CITY, Setup, Stand, now},
};

/// Echoes every message.
async fn echoing(mut request: Request<Incoming>) -> Reply {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return text("not a websocket");
    };
    if request.uri().path() == "/forbidden" {
        let mut response = text("sign in first");
        *response.status_mut() = http::StatusCode::UNAUTHORIZED;
        return response;
    }
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let empty = http_body_util::Full::default().map_err(|never| match never {});
    Response::builder()
        .status(101)
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-accept", accept)
        .body(empty.boxed())
        .unwrap()
}

async fn stand() -> (Stand, Origin) {
    let mut setup = Setup::new();
    setup.limits.tunnel_check = Duration::from_millis(100);
    let behaviour = Arc::new(|request| Box::pin(echoing(request)) as _);
    let origin = Origin::with(&setup.authority, &setup.authority, Speaks::Http1, behaviour).await;
    (setup.start(origin.address), origin)
}

pub type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

pub async fn open(stand: &Stand, version: Version, path: &str) -> Result<Socket, http::StatusCode> {
    let io = open_raw(stand, version, path).await?;
    let usual = Some(WebSocketConfig::default());
    Ok(WebSocketStream::from_raw_socket(io, Role::Client, usual).await)
}

/// The transport after the opening handshake.
pub async fn open_raw(
    stand: &Stand,
    version: Version,
    path: &str,
) -> Result<TokioIo<hyper::upgrade::Upgraded>, http::StatusCode> {
    let upgraded = match version {
        Version::HTTP_2 => {
            let tls = tls(stand, CITY, &[b"h2"]).await;
            let executor = hyper_util::rt::TokioExecutor::new();
            let (mut sender, mut connection) = hyper::client::conn::http2::Builder::new(executor)
                .handshake(TokioIo::new(tls))
                .await
                .unwrap();
            let allowed = Arc::new(AtomicBool::new(false));
            let telling = Arc::clone(&allowed);
            tokio::spawn(std::future::poll_fn(move |cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                telling.store(
                    connection.is_extended_connect_protocol_enabled(),
                    Ordering::SeqCst,
                );
                polled
            }));
            sender.ready().await.unwrap();
            // The server's SETTINGS, which allow it, come with its first flight.
            for _ in 0..100 {
                if allowed.load(Ordering::SeqCst) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let request = Request::builder()
                .method("CONNECT")
                .uri(format!("https://{CITY}:{}{path}", stand.https.port()))
                .extension(hyper::ext::Protocol::from_static("websocket"))
                .header("sec-websocket-version", "13")
                .header("sec-websocket-extensions", "permessage-deflate")
                .body(full(""))
                .unwrap();
            let mut response = sender.send_request(request).await.unwrap();
            if response.status() != 200 {
                return Err(response.status());
            }
            assert!(!response.headers().contains_key("sec-websocket-accept"));
            hyper::upgrade::on(&mut response).await.unwrap()
        }
        _ => {
            let mut client = Client::connect(stand, version).await;
            let key = base64::engine::general_purpose::STANDARD.encode([7; 16]);
            let request = client
                .request("GET", CITY, path)
                .header("upgrade", "websocket")
                .header("connection", "keep-alive, Upgrade")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", &key)
                .header("sec-websocket-extensions", "permessage-deflate")
                .body(full(""))
                .unwrap();
            let mut response = client.send(request).await.unwrap();
            if response.status() != 101 {
                return Err(response.status());
            }
            let accept = response.headers()["sec-websocket-accept"].to_str().unwrap();
            assert_eq!(accept, derive_accept_key(key.as_bytes()));
            hyper::upgrade::on(&mut response).await.unwrap()
        }
    };
    Ok(TokioIo::new(upgraded))
}

pub const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_both_ways_over_both_protocols() {
    let (stand, _origin) = stand().await;
    for version in BOTH {
        let mut socket = open(&stand, version, "/staff/live").await.unwrap();
        for text in ["おはようございます", "second", &"x".repeat(200_000)] {
            socket.send(Message::text(text)).await.unwrap();
            let echo = socket.next().await.unwrap().unwrap();
            assert_eq!(echo.into_text().unwrap().as_str(), text);
        }
        // The site may answer the close and end the stream before this call has returned.
        let _ = socket.close(None).await;
        while let Some(Ok(_)) = socket.next().await {}
    }
    stand.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_says_no_is_relayed_as_it_is() {
    let (stand, _origin) = stand().await;
    for version in BOTH {
        let refused = open(&stand, version, "/forbidden").await;
        assert_eq!(refused.err().unwrap(), 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_socket_ends_when_the_gate_turns() {
    let (stand, _origin) = stand().await;
    for version in BOTH {
        let mut socket = open(&stand, version, "/staff/live").await.unwrap();
        socket.send(Message::text("a")).await.unwrap();
        socket.next().await.unwrap().unwrap();
        let well = stand.snapshot.load_full();
        stand
            .snapshot
            .store(Arc::new(gateway_policy::Snapshot::nothing_known(now())));
        let ended = async { while let Some(Ok(_)) = socket.next().await {} };
        tokio::time::timeout(Duration::from_secs(3), ended)
            .await
            .expect("the socket ends");
        assert_eq!(
            open(&stand, version, "/staff/live").await.err().unwrap(),
            403
        );
        stand.snapshot.store(well);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_socket_ends_when_the_box_drains() {
    for version in BOTH {
        let (mut stand, _origin) = stand().await;
        let mut socket = open(&stand, version, "/staff/live").await.unwrap();
        socket.send(Message::text("a")).await.unwrap();
        socket.next().await.unwrap().unwrap();
        let running = stand.running.take().unwrap();
        let started = std::time::Instant::now();
        let draining = tokio::task::spawn_blocking(move || running.drain(Duration::from_secs(5)));
        let ended = async { while let Some(Ok(_)) = socket.next().await {} };
        tokio::time::timeout(Duration::from_secs(3), ended)
            .await
            .expect("the socket ends");
        draining.await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(4));
    }
}
