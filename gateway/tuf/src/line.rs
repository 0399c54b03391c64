//! The repository at the city for a process of this box that has no network: through gatewayd's socket.
//!
//! HTTP/1.1 over a UNIX socket, one connection for each file. What comes is believed as much as from anywhere else: for its signatures
//! alone. It retries nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, RANGE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::city::place;
use crate::names::{check_metadata_name, check_target_name};
use crate::transport::{Body, Fetching, Pieces, Transport, TransportError};

/// How long the relay may take to begin an answer: it may have to dial the city first.
const PATIENCE: Duration = Duration::from_secs(90);
/// Bytes of a refusal that are read.
const REFUSAL: usize = 16 * 1024;

/// The relay's socket.
#[derive(Debug)]
pub struct Line {
    socket: PathBuf,
}

impl Line {
    /// A transport through the socket at `path`, which is looked at only when something is fetched.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            socket: path.to_owned(),
        }
    }

    async fn body(&self, path: &str, from: u64) -> Result<Option<Body>, TransportError> {
        let asking = tokio::time::timeout(PATIENCE, self.ask(path, from));
        let elapsed = |_| TransportError::Line(io::ErrorKind::TimedOut.into());
        let (response, connection) = asking.await.map_err(elapsed)??;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(refusal(response).await),
        }
        let (starts_at, total) = place(&response)
            .ok_or_else(|| TransportError::Line(io::ErrorKind::InvalidData.into()))?;
        Ok(Some(Body {
            starts_at,
            total,
            pieces: Box::new(Answer {
                body: response.into_body(),
                _connection: connection,
            }),
        }))
    }

    async fn ask(
        &self,
        path: &str,
        from: u64,
    ) -> Result<(Response<Incoming>, Connection), TransportError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(TransportError::Line)?;
        let broken = |error: hyper::Error| TransportError::Line(io::Error::other(error));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let driven = Connection(tokio::spawn(async move {
            // What ends it is seen by whoever reads the body.
            let _ = connection.await;
        }));
        let mut request = Request::get(path).header(HOST, "localhost");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|_| TransportError::Unsafe(path.to_owned()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok((response, driven))
    }
}

/// A connection that ends with its answer: what nobody reads any more is not sent any more.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The relay's problem+json (RFC 9457) as an error.
async fn refusal(response: Response<Incoming>) -> TransportError {
    let status = response.status();
    let body = Limited::new(response.into_body(), REFUSAL).collect().await;
    let id = body.ok().and_then(|body| {
        let problem: serde_json::Value = serde_json::from_slice(&body.to_bytes()).ok()?;
        let id = problem["id"].as_str()?;
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
        (id.len() <= 40 && id.bytes().all(plain)).then(|| id.to_owned())
    });
    TransportError::Relay {
        id: id.unwrap_or_else(|| status.as_str().to_owned()),
    }
}

impl Transport for Line {
    fn metadata<'a>(&'a self, name: &'a str) -> Fetching<'a, Option<Body>> {
        Box::pin(async move {
            check_metadata_name(name).map_err(|_| TransportError::Unsafe(name.to_owned()))?;
            self.body(&format!("/tuf/metadata/{name}"), 0).await
        })
    }

    fn target<'a>(&'a self, path: &'a str, from: u64) -> Fetching<'a, Option<Body>> {
        Box::pin(async move {
            check_target_name(path).map_err(|_| TransportError::Unsafe(path.to_owned()))?;
            self.body(&format!("/tuf/targets/{path}"), from).await
        })
    }
}

struct Answer {
    body: Incoming,
    _connection: Connection,
}

impl Pieces for Answer {
    fn next(&mut self) -> Fetching<'_, Option<Bytes>> {
        Box::pin(async {
            loop {
                let Some(frame) = self.body.frame().await else {
                    return Ok(None);
                };
                let frame = frame.map_err(|error| TransportError::Line(io::Error::other(error)))?;
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        })
    }
}
