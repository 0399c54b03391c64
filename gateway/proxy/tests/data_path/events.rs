//! Event streams through the box, with the real scanner: each event judged before it is passed on, none held back for another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use test_harness::clamd::{Clamd, eicar};
use tokio::sync::mpsc;

use crate::{
    client::{Client, full},
    origin::{Origin, Reply, Speaks},
    stand::{self, CITY, Setup, Stand},
    websocket::BOTH,
};

/// A site that says on its stream what it is given.
struct Street {
    stand: Stand,
    say: mpsc::UnboundedSender<Vec<u8>>,
    _origin: Origin,
}

type Said = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>>;

async fn site(request: Request<Incoming>, said: Said) -> Reply {
    let frames = futures_util::stream::unfold(said, |said| async move {
        let next = said.lock().await.recv().await?;
        // Nothing is the end of this stream.
        if next.is_empty() {
            return None;
        }
        Some((Ok(Frame::data(Bytes::from(next))), said))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        "text/event-stream; charset=utf-8".parse().unwrap(),
    );
    if request.uri().path() == "/gzip" {
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    }
    response
}

impl Street {
    async fn new(setup: Setup) -> Self {
        let (say, said) = mpsc::unbounded_channel();
        let said = Arc::new(tokio::sync::Mutex::new(said));
        let behaviour = Arc::new(move |request| Box::pin(site(request, Arc::clone(&said))) as _);
        let authority = &setup.authority;
        let origin = Origin::with(authority, authority, Speaks::Http1, behaviour).await;
        Self {
            stand: setup.start(origin.address),
            say,
            _origin: origin,
        }
    }

    fn say(&self, bytes: impl Into<Vec<u8>>) {
        self.say.send(bytes.into()).unwrap();
    }

    async fn listen(&self, version: Version, path: &str) -> Response<Incoming> {
        let mut client = Client::connect(&self.stand, version).await;
        let request = client
            .request("GET", CITY, path)
            .header("accept", "text/event-stream")
            .body(full(""))
            .unwrap();
        client.send(request).await.unwrap()
    }
}

/// What comes within a second.
async fn next(body: &mut Incoming) -> Option<Result<String, hyper::Error>> {
    let frame = tokio::time::timeout(Duration::from_secs(1), body.frame())
        .await
        .ok()??;
    Some(frame.map(|frame| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_heartbeats_pass_as_soon_as_they_are_whole_and_not_before() {
    let street = Street::new(Setup::new()).await;
    for version in BOTH {
        street.say("retry: 1000\n\n");
        let mut body = street.listen(version, "/live").await.into_body();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "retry: 1000\n\n");
        street.say(": heartbeat\n");
        assert_eq!(next(&mut body).await.unwrap().unwrap(), ": heartbeat\n");
        street.say("id: 1\r\ndata: おは");
        assert!(next(&mut body).await.is_none(), "half an event");
        street.say("よう\r\n\r");
        assert_eq!(
            next(&mut body).await.unwrap().unwrap(),
            "id: 1\r\ndata: おはよう\r\n\r"
        );
        street.say("\n");
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "\n");
        let began = Instant::now();
        for number in 0..50 {
            street.say(format!("data: {number}\n\n"));
            assert_eq!(
                next(&mut body).await.unwrap().unwrap(),
                format!("data: {number}\n\n")
            );
        }
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        street.say("data: the rest");
        street.say("");
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "data: the rest");
        let rest = body.collect().await.expect("a clean end").to_bytes();
        assert!(rest.is_empty());
    }
}

/// The test file in one line, and cut into two that a browser would join with a line feed.
fn infected() -> [Vec<u8>; 2] {
    let eicar = String::from_utf8(eicar()).unwrap();
    [
        format!("data: {eicar}\n\n").into_bytes(),
        format!("id: 7\ndata: harmless\ndata: {eicar}\r\n\r\n").into_bytes(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_infected_event_ends_the_stream_and_nothing_of_it_is_passed_on() {
    let street = Street::new(Setup::new()).await;
    for version in BOTH {
        for infected in infected() {
            street.say("data: before\n\n");
            let mut body = street.listen(version, "/live").await.into_body();
            assert_eq!(next(&mut body).await.unwrap().unwrap(), "data: before\n\n");
            for piece in infected.chunks(9) {
                street.say(piece);
            }
            let error = next(&mut body).await.expect("the stream ends");
            assert!(error.is_err(), "and does not look whole");
        }
    }
    // One more to wake the site's streams up, which are gone.
    street.stand.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_end_ends_the_stream() {
    let mut setup = Setup::new();
    setup.limits.event_bytes = 1000;
    let street = Street::new(setup).await;
    for version in BOTH {
        street.say(format!("data: {}\n\n", "x".repeat(900)));
        let mut body = street.listen(version, "/live").await.into_body();
        assert_eq!(next(&mut body).await.unwrap().unwrap().len(), 908);
        street.say(format!("data: {}", "x".repeat(1000)));
        assert!(next(&mut body).await.unwrap().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_event_stream_is_no_event_stream() {
    let street = Street::new(Setup::new()).await;
    // Held like any other body, and no gzip.
    street.say("data: not gzip at all\n\n");
    street.say("");
    let response = street.listen(Version::HTTP_2, "/gzip").await;
    assert_eq!(response.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scanner_an_event_waits_and_the_stream_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut clamd = Clamd::start(directory.path()).unwrap();
    let mut setup = Setup::new();
    let limits = gateway_proxy::InspectionLimits {
        scanner_wait: Duration::from_millis(500),
        ..Default::default()
    };
    setup.inspection = Some(stand::inspection_at(&clamd.socket(), limits));
    let street = Street::new(setup).await;
    street.say("data: before\n\n");
    let mut body = street.listen(Version::HTTP_2, "/live").await.into_body();
    next(&mut body).await.unwrap().unwrap();
    clamd.kill();
    // No text: short texts may pass for a quarter of an hour (compliance, AV-ALIVE).
    street.say("data: \u{1}after\n\n");
    assert!(next(&mut body).await.unwrap().is_err());
}
