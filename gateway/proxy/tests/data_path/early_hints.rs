//! Interim responses of the site on their way to the client (RFC 8297, RFC 9110 section 15.2).

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use tokio::io::AsyncWriteExt;

use crate::{
    client::{Client, raw, tls},
    stand::{CITY, Setup, Stand},
    upstream::{read_head, scripted},
};

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A site that answers every request with `interim`, waits, and then with `ok`.
async fn site(interim: String, wait: Duration) -> Stand {
    let mut setup = Setup::new();
    setup.limits.upstream_warm = false;
    let address = scripted(&setup, move |_, mut tls| {
        let interim = interim.clone();
        async move {
            while read_head(&mut tls).await.is_ok() {
                let _ = tls.write_all(interim.as_bytes()).await;
                tokio::time::sleep(wait).await;
                let _ = tls.write_all(FINAL.as_bytes()).await;
            }
        }
    })
    .await;
    setup.start(address)
}

struct Exchange {
    answer: h2::client::ResponseFuture,
    _client: h2::client::SendRequest<Bytes>,
}

impl Exchange {
    async fn begin(stand: &Stand) -> Self {
        let io = tls(stand, CITY, &[b"h2"]).await;
        let (client, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = Request::get(format!("https://{CITY}:{}/", stand.https.port()))
            .body(())
            .unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        Self {
            answer,
            _client: client,
        }
    }

    async fn interim(&mut self) -> Option<Response<()>> {
        poll_fn(|cx| self.answer.poll_informational(cx))
            .await
            .map(Result::unwrap)
    }

    async fn end(self) -> (HeaderMap, Bytes) {
        let (head, mut body) = self.answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        (head.headers, body.data().await.unwrap().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn early_hints_reach_an_http2_client_before_the_final_response() {
    let stand = site(HINT.to_owned(), Duration::from_secs(1)).await;
    let mut exchange = Exchange::begin(&stand).await;
    let early = tokio::time::timeout(Duration::from_millis(700), exchange.interim());
    let early = early.await.unwrap().unwrap();
    assert_eq!(early.status(), StatusCode::EARLY_HINTS);
    assert_eq!(
        early.headers()["link"],
        "</style.css>; rel=preload; as=style"
    );
    let (headers, body) = exchange.end().await;
    assert_eq!(body, "ok");
    assert!(headers.contains_key("date"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_interim_responses_pass_in_order_and_without_what_is_not_the_clients() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\nLink: </1>\r\nConnection: x-mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
        Renraku-Staff: ?0\r\nAlt-Svc: h3=\":443\"\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\nLink: </2>\r\n\r\n";
    let stand = site(interim.to_owned(), Duration::from_millis(50)).await;
    let mut exchange = Exchange::begin(&stand).await;
    let processing = exchange.interim().await.unwrap();
    assert_eq!(processing.status(), StatusCode::PROCESSING);
    for link in ["</1>", "</2>"] {
        let early = exchange.interim().await.unwrap();
        assert_eq!(early.status(), StatusCode::EARLY_HINTS);
        assert_eq!(early.headers().len(), 1, "{:?}", early.headers());
        assert_eq!(early.headers()["link"], link);
    }
    assert_eq!(exchange.end().await.1, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_interim_responses_ends_at_the_box() {
    let stand = site(HINT.repeat(200), Duration::ZERO).await;
    let mut exchange = Exchange::begin(&stand).await;
    let mut passed = 0;
    while exchange.interim().await.is_some() {
        passed += 1;
    }
    assert_eq!(passed, 16);
    assert_eq!(exchange.end().await.1, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continue_the_client_did_not_ask_for_ends_at_the_box() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".to_owned();
    let stand = site(interim, Duration::from_millis(50)).await;
    let mut exchange = Exchange::begin(&stand).await;
    assert!(exchange.interim().await.is_none());
    assert_eq!(exchange.end().await.1, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http1_client_gets_the_final_response_only() {
    let stand = site(HINT.to_owned(), Duration::from_millis(50)).await;
    let mut client = Client::connect(&stand, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.text(), "ok");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {CITY}:{}\r\nConnection: close\r\n\r\n",
        stand.https.port()
    );
    let answer = raw(&stand, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains("103"), "{answer}");
}
