//! The bounds on time, size and number that clients run into.

use std::time::Duration;

use http::{StatusCode, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{Client, full, tls, until_closed},
    origin::{Origin, Speaks},
    stand::{CITY, CONSOLE, Setup, Stand},
};

const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

async fn stand_with(change: impl FnOnce(&mut Setup)) -> (Stand, Origin) {
    let mut setup = Setup::new();
    change(&mut setup);
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = setup.start(origin.address);
    (stand, origin)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_refused_by_its_own_status() {
    let (stand, origin) = stand_with(|setup| {
        setup.limits.uri_bytes = 1000;
        setup.limits.body_bytes = Some(1000);
    })
    .await;
    for version in BOTH {
        let mut client = Client::connect(&stand, version).await;
        let long = format!("/{}", "a".repeat(1000));
        assert_eq!(client.get(&long).await.status, StatusCode::URI_TOO_LONG);

        let mut client = Client::connect(&stand, version).await;
        let request = client
            .request("GET", CITY, "/")
            .header("x-large", "b".repeat(40 * 1024))
            .body(full(""))
            .unwrap();
        let status = client.send(request).await.map(|response| response.status());
        assert_eq!(status.unwrap(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

        let mut client = Client::connect(&stand, version).await;
        let mut request = client.request("GET", CITY, "/");
        for number in 0..120 {
            request = request.header(format!("x-{number}"), "c");
        }
        let status = client
            .send(request.body(full("")).unwrap())
            .await
            .unwrap()
            .status();
        assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

        let mut client = Client::connect(&stand, version).await;
        let answer = client.post("/swallow", vec![0; 2000]).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(origin.seen.requests() % 2, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_to_the_box_itself_is_refused() {
    let (stand, _origin) = stand_with(|_| {}).await;
    for version in BOTH {
        let mut client = Client::connect_as(&stand, version, CONSOLE).await;
        let request = client
            .request("POST", CONSOLE, "/import")
            .body(full(vec![0; 1024 * 1024]))
            .unwrap();
        assert_eq!(client.answer(request).await.status, 200);
        let request = client
            .request("POST", CONSOLE, "/import")
            .body(full(vec![0; 1024 * 1024 + 1]))
            .unwrap();
        let status = client.send(request).await.unwrap().status();
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_in_is_given_up() {
    let (stand, _origin) = stand_with(|setup| {
        setup.limits.header_read = Duration::from_millis(400);
    })
    .await;
    let mut slow = tls(&stand, CITY, &[b"http/1.1"]).await;
    let started = std::time::Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
        if slow.write_all(&[*byte]).await.is_err() || started.elapsed() > Duration::from_secs(5) {
            break;
        }
        let mut byte = [0];
        let pause = tokio::time::timeout(Duration::from_millis(50), slow.read(&mut byte));
        if matches!(pause.await, Ok(Ok(0) | Err(_))) {
            break;
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    stand.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_its_handshake_is_given_up() {
    let (stand, _origin) = stand_with(|setup| {
        setup.limits.handshake = Duration::from_millis(300);
    })
    .await;
    let mut silent = TcpStream::connect(stand.https).await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(until_closed(&mut silent).await, "");
    assert!(started.elapsed() < Duration::from_millis(1500));
    stand.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let (stand, _origin) = stand_with(|setup| {
        setup.limits.keep_alive = Duration::from_millis(400);
    })
    .await;
    for version in BOTH {
        let mut client = Client::connect(&stand, version).await;
        assert_eq!(client.get("/slow?1500").await.text(), "at last");
        stand.quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_trickles_in_is_given_up_with_408() {
    let (stand, _origin) = stand_with(|setup| {
        setup.limits.upload_grace = Duration::from_millis(500);
        setup.limits.upload_rate = 1000;
    })
    .await;
    let mut slow = tls(&stand, CITY, &[b"http/1.1"]).await;
    let head = format!(
        "POST /swallow HTTP/1.1\r\nHost: {CITY}:{}\r\nContent-Length: 1000\r\n\r\n",
        stand.https.port()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(slow);
    tokio::spawn(async move {
        while writing.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let answer = until_closed(&mut reading).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_upload_is_never_too_slow() {
    let (stand, _origin) = stand_with(|setup| {
        setup.limits.upload_grace = Duration::from_millis(200);
        setup.limits.upload_rate = 1000;
    })
    .await;
    let mut steady = tls(&stand, CITY, &[b"http/1.1"]).await;
    let head = format!(
        "POST /swallow HTTP/1.1\r\nHost: {CITY}:{}\r\nContent-Length: 4000\r\nConnection: close\r\n\r\n",
        stand.https.port()
    );
    steady.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..20 {
        steady.write_all(&[b'a'; 200]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = until_closed(&mut steady).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("4000"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off() {
    let (stand, _origin) = stand_with(|setup| {
        setup.limits.write_stall = Duration::from_millis(500);
    })
    .await;
    let mut deaf = tls(&stand, CITY, &[b"http/1.1"]).await;
    let head = format!(
        "GET /big?41943040 HTTP/1.1\r\nHost: {CITY}:{}\r\n\r\n",
        stand.https.port()
    );
    deaf.write_all(head.as_bytes()).await.unwrap();
    deaf.flush().await.unwrap();
    stand.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_allowed_are_closed() {
    let (stand, _origin) = stand_with(|setup| setup.limits.connections_per_client = 3).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&stand, Version::HTTP_11).await;
        assert_eq!(client.get("/").await.status, 200);
        clients.push(client);
    }
    let mut fourth = TcpStream::connect(stand.https).await.unwrap();
    assert_eq!(fourth.read(&mut [0]).await.unwrap_or(0), 0);
    drop(clients);
    stand.quiet().await;
    let mut client = Client::connect(&stand, Version::HTTP_11).await;
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_resetting_streams_is_cut_off() {
    let (stand, origin) = stand_with(|setup| setup.limits.stream_resets = 20).await;
    let mut client = Client::connect(&stand, Version::HTTP_2).await;
    for _ in 0..200 {
        let request = client
            .request("GET", CITY, "/slow?2000")
            .body(full(""))
            .unwrap();
        let sent = client.send(request);
        if matches!(
            tokio::time::timeout(Duration::from_millis(5), sent).await,
            Ok(Err(_))
        ) {
            break;
        }
    }
    stand.quiet().await;
    assert!(origin.seen.requests() < 100, "{}", origin.seen.requests());
}
