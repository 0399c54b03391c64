//! Certificates change and the box ends without a request being lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::Version;

use crate::{
    client::{Client, full, read, tls},
    origin::{Origin, Speaks},
    stand::{CITY, CONSOLE, Setup, Stand},
};

const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

async fn stand() -> (Stand, Origin) {
    let mut setup = Setup::new();
    setup.workers = 2;
    let origin = Origin::start(&setup.authority, Speaks::Http1).await;
    let stand = setup.start(origin.address);
    (stand, origin)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_no_connection_is_dropped() {
    let (stand, _origin) = stand().await;
    let stand = Arc::new(stand);
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let mut load = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (stand, stop, served) = (Arc::clone(&stand), Arc::clone(&stop), Arc::clone(&served));
        load.spawn(async move {
            let mut client = Client::connect(&stand, BOTH[number % 2]).await;
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(client.get("/staff").await.status, 200);
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let mut shown = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let next = stand.authority.server(&[CITY, CONSOLE]);
        stand.running().reload_certificates(&next.lan()).unwrap();
        let fresh = tls(&stand, CITY, &[b"h2"]).await;
        let leaf = fresh.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        assert_eq!(
            leaf,
            next.chain[0].to_vec(),
            "the next handshake shows the new one"
        );
        shown.push(leaf);
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    assert!(served.load(Ordering::SeqCst) > 50);
    shown.dedup();
    assert_eq!(shown.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_finishes_what_was_begun_and_takes_nothing_new() {
    for version in BOTH {
        let (mut stand, _origin) = stand().await;
        let mut busy = Client::connect(&stand, version).await;
        let mut idle = Client::connect(&stand, version).await;
        assert_eq!(idle.get("/a").await.status, 200);
        let request = busy
            .request("GET", CITY, "/slow?700")
            .body(full(""))
            .unwrap();
        let answering =
            tokio::spawn(async move { read(busy.send(request).await.unwrap()).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(100)).await;

        let address = stand.https;
        let running = stand.running.take().unwrap();
        let started = Instant::now();
        let draining = tokio::task::spawn_blocking(move || running.drain(Duration::from_secs(5)));
        tokio::time::sleep(Duration::from_millis(200)).await;
        let request = idle.request("GET", CITY, "/b").body(full("")).unwrap();
        assert!(
            idle.send(request).await.is_err(),
            "an idle connection is closed"
        );
        let answer = answering.await.unwrap();
        assert_eq!(answer.text(), "at last");
        draining.await.unwrap();
        let took = started.elapsed();
        assert!(
            took > Duration::from_millis(400) && took < Duration::from_secs(3),
            "{took:?}"
        );
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_cuts_what_does_not_end_in_time() {
    let (mut stand, _origin) = stand().await;
    let mut busy = Client::connect(&stand, Version::HTTP_2).await;
    let request = busy
        .request("GET", CITY, "/slow?10000")
        .body(full(""))
        .unwrap();
    let answering = tokio::spawn(async move { busy.send(request).await.is_err() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let running = stand.running.take().unwrap();
    let started = Instant::now();
    tokio::task::spawn_blocking(move || running.drain(Duration::from_millis(300)))
        .await
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(answering.await.unwrap());
}
