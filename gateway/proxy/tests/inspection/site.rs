//! A site that counts what reaches it and answers with what it is told to.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::{
    client::{Answer, Client, full},
    origin::{Origin, Speaks, text},
    stand::{CITY, Setup, Stand},
};

pub const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// What a path answers.
#[derive(Clone, Default)]
pub struct Content {
    pub status: Option<StatusCode>,
    pub fields: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// Sent in pieces of this size, without a length.
    pub piece: Option<usize>,
    /// Between two pieces.
    pub pause: Duration,
}

impl Content {
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }
}

#[derive(Default)]
struct State {
    content: Mutex<HashMap<String, Content>>,
    received: AtomicU64,
    fields: Mutex<HeaderMap>,
}

/// The box between a client and a site.
pub struct Site {
    pub stand: Stand,
    origin: Origin,
    state: Arc<State>,
}

impl Site {
    pub async fn start() -> Self {
        Self::with(Setup::new(), Speaks::Http1).await
    }

    pub async fn with(setup: Setup, speaks: Speaks) -> Self {
        let state = Arc::new(State::default());
        let answering = Arc::clone(&state);
        let behaviour = Arc::new(move |request: http::Request<hyper::body::Incoming>| {
            let state = Arc::clone(&answering);
            Box::pin(async move {
                let (head, mut body) = request.into_parts();
                *state.fields.lock().unwrap() = head.headers;
                while let Some(Ok(frame)) = body.frame().await {
                    let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                    state.received.fetch_add(length, Ordering::SeqCst);
                }
                let content = state.content.lock().unwrap().get(head.uri.path()).cloned();
                content.map_or_else(|| text("taken"), answer)
            }) as _
        });
        let origin = Origin::with(&setup.authority, &setup.authority, speaks, behaviour).await;
        let stand = setup.start(origin.address);
        Self {
            stand,
            origin,
            state,
        }
    }

    pub fn serve(&self, path: &str, content: Content) {
        let mut served = self.state.content.lock().unwrap();
        served.insert(path.to_owned(), content);
    }

    /// Bytes of bodies that reached the site.
    pub fn received(&self) -> u64 {
        self.state.received.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.origin.seen.requests()
    }

    /// A field of the last request.
    pub fn field(&self, name: &str) -> Option<String> {
        let fields = self.state.fields.lock().unwrap();
        fields
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    pub async fn client(&self, version: Version) -> Client {
        Client::connect(&self.stand, version).await
    }

    pub async fn get(&self, version: Version, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask(version, "GET", path, fields, Bytes::new()).await
    }

    pub async fn post(
        &self,
        version: Version,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.ask(version, "POST", "/notes", fields, body.into())
            .await
    }

    pub async fn ask(
        &self,
        version: Version,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut client = self.client(version).await;
        let mut request = client.request(method, CITY, path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        client.answer(request.body(full(body)).unwrap()).await
    }
}

fn answer(content: Content) -> crate::origin::Reply {
    let mut response = match content.piece {
        None => text(content.body),
        Some(size) => {
            let pause = content.pause;
            let frames = stream::unfold(content.body, move |mut left| async move {
                if left.is_empty() {
                    return None;
                }
                tokio::time::sleep(pause).await;
                let piece = left.split_to(size.min(left.len()));
                Some((Ok::<_, io::Error>(Frame::data(piece)), left))
            });
            Response::new(BodyExt::boxed(StreamBody::new(frames)))
        }
    };
    if let Some(status) = content.status {
        *response.status_mut() = status;
    }
    for (name, value) in content.fields {
        let value = HeaderValue::try_from(value).unwrap();
        response
            .headers_mut()
            .append(HeaderName::from_static(name), value);
    }
    response
}

/// The type of a problem document's problem.
pub fn problem(answer: &Answer) -> String {
    let document: serde_json::Value =
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    assert_eq!(document["support_code"].as_str().unwrap().len(), 8);
    let kind = document["type"].as_str().unwrap();
    kind.trim_start_matches("urn:renraku:problem:").to_owned()
}
