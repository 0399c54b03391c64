//! Hands the city's repository on to `gateway-update`, which runs as root and therefore has no network.
//!
//! HTTP/1.1 on a UNIX socket, mode 0660: `GET /tuf/metadata/NAME` and `GET /tuf/targets/PATH`, with `Range: bytes=N-`. It checks names and nothing
//! else, keeps nothing, and believes nothing: whoever asks verifies for itself (docs/decisions/0022).

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gateway_city::{Endpoint, Timeouts};
use gateway_tuf::{
    City, Pieces, Transport, TransportError, check_metadata_name, check_target_name,
};
use http::header::{ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::certificates::{CityTls, chain};
use crate::control;
use crate::signed_channel::Newest;

/// The socket's name in the runtime directory.
const SOCKET: &str = "channel.sock";
/// The name of the file that tells the updater of a release.
const NEWS: &str = "newest-release";
/// Connections at one time; `gateway-update` uses one.
const AT_ONCE: usize = 2;
/// For the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// For whoever asks, to take a piece. Its bandwidth limit pauses for seconds, not minutes.
const TAKEN: Duration = Duration::from_secs(120);

/// What makes a copy of the repository for one connection.
type Source = Arc<dyn Fn() -> Arc<dyn Transport> + Send + Sync>;

/// Starts answering; the box works without.
pub(super) fn start(
    state_dir: &Path,
    endpoint: Endpoint,
    tls: watch::Receiver<CityTls>,
    tasks: &mut JoinSet<()>,
) {
    let socket = control::socket(state_dir, SOCKET);
    // One for each connection: an image that takes hours must not hold up the daemon's own looks.
    let source: Source = Arc::new(move || {
        let city = City::new(endpoint.clone(), tls.clone(), Timeouts::default());
        Arc::new(city)
    });
    match control::open(&socket) {
        Ok(listener) => drop(tasks.spawn(serve(listener, source))),
        Err(error) => {
            tracing::warn!(event = "control", %error, socket = %socket.display(), "gateway-update cannot be answered");
        }
    }
}

/// Writes the newest release's version beside the socket whenever there is another: gateway-update.path waits for that, so that a
/// release is looked at when it is out and not at the timer's next hour. What the file says is believed by nobody.
pub(super) fn announce(
    state_dir: &Path,
    mut release: watch::Receiver<Option<Newest>>,
    tasks: &mut JoinSet<()>,
) {
    let file = control::socket(state_dir, NEWS);
    tasks.spawn(async move {
        while release.changed().await.is_ok() {
            let version = release.borrow_and_update().as_ref().map(|newest| newest.version.clone());
            if let Some(version) = version
                && let Err(error) = std::fs::write(&file, version)
            {
                tracing::warn!(event = "signed-channel", %error, file = %file.display(), "the updater is not told of a release");
            }
        }
        std::future::pending::<()>().await;
    });
}

async fn serve(listener: UnixListener, source: Source) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let copy = source();
                tokio::spawn(async move {
                    let _place = place;
                    connection(stream, copy).await;
                });
            }
            Err(error) => {
                tracing::warn!(event = "control", %error, "the relay of the signed channel");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// One request; the connection ends with its answer.
async fn connection(stream: UnixStream, copy: Arc<dyn Transport>) {
    let answering = service_fn(move |request| {
        let copy = Arc::clone(&copy);
        async move { Ok::<_, Infallible>(answer(&request, copy).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), answering);
    // Whoever hangs up early has what it wanted.
    let _ = served.await;
}

/// Which file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked<'a> {
    Metadata(&'a str),
    Target(&'a str),
}

impl<'a> Asked<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        if let Some(name) = path.strip_prefix("/tuf/metadata/") {
            return check_metadata_name(name)
                .ok()
                .map(|()| Self::Metadata(name));
        }
        let name = path.strip_prefix("/tuf/targets/")?;
        check_target_name(name).ok().map(|()| Self::Target(name))
    }

    async fn open(
        self,
        copy: &dyn Transport,
        from: u64,
    ) -> Result<Option<gateway_tuf::Body>, TransportError> {
        match self {
            Self::Metadata(name) => copy.metadata(name).await,
            Self::Target(name) => copy.target(name, from).await,
        }
    }
}

async fn answer(request: &Request<Incoming>, copy: Arc<dyn Transport>) -> Response<Stream> {
    if request.method() != Method::GET {
        let mut refused = problem(StatusCode::METHOD_NOT_ALLOWED, "RELAY-METHOD");
        let headers = refused.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    let uri = request.uri();
    let asked = Asked::parse(uri.path()).filter(|_| uri.query().is_none());
    let Some(asked) = asked else {
        return problem(StatusCode::BAD_REQUEST, "RELAY-NAME");
    };
    let Some(from) = offset(request.headers().get(RANGE)) else {
        return problem(StatusCode::BAD_REQUEST, "RELAY-RANGE");
    };
    match open(asked, copy.as_ref(), from).await {
        Ok(Some(body)) => whole_or_part(body),
        Ok(None) => problem(StatusCode::NOT_FOUND, "RELAY-MISSING"),
        Err(error) => {
            let (status, id) = match error {
                TransportError::NoCertificate => {
                    (StatusCode::SERVICE_UNAVAILABLE, "RELAY-CERTIFICATE")
                }
                _ => (StatusCode::BAD_GATEWAY, "RELAY-AWAY"),
            };
            let error = chain(&error);
            tracing::warn!(
                event = "signed-channel-away",
                reason = id,
                error,
                "the updater was not answered"
            );
            problem(status, id)
        }
    }
}

/// A part is handed on only where its end is known, which the answer must say (RFC 9110 §14.4).
async fn open(
    asked: Asked<'_>,
    copy: &dyn Transport,
    from: u64,
) -> Result<Option<gateway_tuf::Body>, TransportError> {
    let body = asked.open(copy, from).await?;
    match body {
        Some(body)
            if body.starts_at > 0 && body.total.is_none_or(|total| total <= body.starts_at) =>
        {
            asked.open(copy, 0).await
        }
        body => Ok(body),
    }
}

/// `bytes=N-`, the one form that `gateway-update` uses; 0 without the header.
fn offset(range: Option<&HeaderValue>) -> Option<u64> {
    let Some(range) = range else { return Some(0) };
    let digits = range
        .to_str()
        .ok()?
        .strip_prefix("bytes=")?
        .strip_suffix('-')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

fn whole_or_part(body: gateway_tuf::Body) -> Response<Stream> {
    let from = body.starts_at;
    let mut response = Response::new(Stream::of(body.pieces));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(total) = body.total
        && total >= from
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(total - from));
        if from > 0
            && let Ok(place) = HeaderValue::try_from(format!("bytes {from}-{}/{total}", total - 1))
        {
            headers.insert(CONTENT_RANGE, place);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
    }
    response
}

/// A refusal (RFC 9457). Only `gateway-update` reads it.
fn problem(status: StatusCode, id: &'static str) -> Response<Stream> {
    let document = serde_json::json!({
        "type": format!("urn:renraku:problem:{}", id.to_ascii_lowercase()),
        "title": "更新を取り次げません",
        "status": status.as_u16(),
        "id": id,
    });
    let mut response = Response::new(Stream::once(Bytes::from(document.to_string())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A body on its way from the copy to whoever asked, a few pieces at a time.
struct Stream(mpsc::Receiver<Result<Bytes, io::Error>>);

impl Stream {
    fn of(mut pieces: Box<dyn Pieces>) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let next = match pieces.next().await {
                    Ok(Some(piece)) => Ok(piece),
                    Ok(None) => return,
                    Err(error) => Err(io::Error::other(error)),
                };
                let ends = next.is_err();
                let sent = tokio::time::timeout(TAKEN, sender.send(next)).await;
                if ends || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Self(receiver)
    }

    fn once(bytes: Bytes) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        // There is room for one.
        let _ = sender.try_send(Ok(bytes));
        Self(receiver)
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let next = self.0.poll_recv(context);
        next.map(|next| next.map(|piece| piece.map(Frame::data)))
    }
}

#[cfg(test)]
#[path = "relay/tests.rs"]
mod tests;
