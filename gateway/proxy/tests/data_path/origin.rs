//! A small real origin: TLS with client certificates, HTTP/1.1 and HTTP/2, and a few paths that behave in exact ways.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    RootCertStore, ServerConfig,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::stand::{Authority, CITY};

pub type Reply = Response<BoxBody<Bytes, io::Error>>;
type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Behaviour = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

#[derive(Debug, Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub full_handshakes: AtomicUsize,
    pub requests: AtomicUsize,
}

impl Seen {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn full_handshakes(&self) -> usize {
        self.full_handshakes.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

pub struct Origin {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
}

impl Origin {
    /// Requires a certificate of `authority` and shows one.
    pub async fn start(authority: &Authority, speaks: Speaks) -> Self {
        Self::with(
            authority,
            authority,
            speaks,
            Arc::new(|request| Box::pin(usual(request))),
        )
        .await
    }

    /// The usual origin at a given address.
    pub async fn at(authority: &Authority, speaks: Speaks, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let behaviour = Arc::new(|request| Box::pin(usual(request)) as Answering);
        Self::on(listener, authority, authority, speaks, behaviour)
    }

    /// Shows a certificate of `shows`, requires one of `requires`.
    pub async fn with(
        shows: &Authority,
        requires: &Authority,
        speaks: Speaks,
        behaviour: Behaviour,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::on(listener, shows, requires, speaks, behaviour)
    }

    fn on(
        listener: TcpListener,
        shows: &Authority,
        requires: &Authority,
        speaks: Speaks,
        behaviour: Behaviour,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(tls(shows, requires, speaks));
        let seen = Arc::new(Seen::default());
        let counting = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            // Dropped with this task, so that the end of an origin is the end of its connections.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((tcp, _)) = listener.accept().await else {
                    return;
                };
                counting.connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&counting));
                let behaviour = Arc::clone(&behaviour);
                connections.spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    if tls.get_ref().1.handshake_kind() != Some(rustls::HandshakeKind::Resumed) {
                        seen.full_handshakes.fetch_add(1, Ordering::SeqCst);
                    }
                    let service = service_fn(move |request| {
                        seen.requests.fetch_add(1, Ordering::SeqCst);
                        let answer = behaviour(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let io = TokioIo::new(tls);
                    match speaks {
                        Speaks::Http1 => {
                            let served = http1::Builder::new()
                                .serve_connection(io, service)
                                .with_upgrades();
                            let _ = served.await;
                        }
                        Speaks::Http2 => {
                            let served = http2::Builder::new(TokioExecutor::new())
                                .serve_connection(io, service);
                            let _ = served.await;
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen,
            serving,
        }
    }
}

pub fn tls(shows: &Authority, requires: &Authority, speaks: Speaks) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(requires.der()).unwrap();
    let verifier: Arc<dyn ClientCertVerifier> =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let pair = shows.server(&[CITY]);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(pair.chain, pair.key)
        .unwrap();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    config.alpn_protocols = vec![match speaks {
        Speaks::Http1 => b"http/1.1".to_vec(),
        Speaks::Http2 => b"h2".to_vec(),
    }];
    Arc::new(config)
}

pub fn text(text: impl Into<Bytes>) -> Reply {
    let body = Full::new(text.into()).map_err(|never| match never {});
    Response::new(BodyExt::boxed(body))
}

fn streamed<S>(frames: S) -> Reply
where
    S: futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send + Sync + 'static,
{
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

/// The usual paths.
pub async fn usual(request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/head" => {
            let mut lines = vec![format!(
                "{} {} {:?}",
                request.method(),
                request.uri(),
                request.version()
            )];
            for (name, value) in request.headers() {
                lines.push(format!("{name}: {}", value.to_str().unwrap_or("?")));
            }
            text(lines.join("\n"))
        }
        "/echo" => {
            let (head, body) = request.into_parts();
            let mut response = Response::new(body.map_err(io::Error::other).boxed());
            if let Some(trailer) = head.headers.get(header::TRAILER) {
                response
                    .headers_mut()
                    .insert(header::TRAILER, trailer.clone());
            }
            response
        }
        "/swallow" => {
            let mut body = request.into_body();
            let mut bytes = 0_u64;
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len) as u64,
                    Err(error) => return text(format!("broken: {error}")),
                }
            }
            text(bytes.to_string())
        }
        "/big" => {
            let left: u64 = request.uri().query().unwrap().parse().unwrap();
            let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
            streamed(stream::unfold(left, move |left| {
                let take = left.min(64 * 1024);
                let data = chunk.slice(..usize::try_from(take).unwrap());
                async move { (left > 0).then(|| (Ok(Frame::data(data)), left - take)) }
            }))
        }
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-digest", "abc".parse().unwrap());
            trailers.insert("content-length", "7".parse().unwrap());
            let frames = [
                Ok(Frame::data(Bytes::from_static(b"body"))),
                Ok(Frame::trailers(trailers)),
            ];
            let mut response = streamed(stream::iter(frames));
            let names = "x-digest, content-length".parse().unwrap();
            response.headers_mut().insert(header::TRAILER, names);
            response
        }
        "/cut" => streamed(stream::unfold(0, |step| async move {
            match step {
                0 => Some((Ok(Frame::data(Bytes::from_static(b"half"))), 1)),
                _ => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Some((Err(io::Error::other("cut")), 2))
                }
            }
        })),
        "/slow" => {
            let millis = request.uri().query().unwrap().parse().unwrap();
            tokio::time::sleep(Duration::from_millis(millis)).await;
            text("at last")
        }
        "/sign-in" => {
            let mut response = text("welcome");
            let headers = response.headers_mut();
            headers.insert("set-cookie", "sid=s3cret; HttpOnly".parse().unwrap());
            let told = "\"u-7\"; role=staff; cookie=\"sid\"; until=1900000000";
            headers.insert("renraku-staff", told.parse().unwrap());
            response
        }
        "/hop" => {
            let mut response = text("hop");
            let headers = response.headers_mut();
            headers.insert("connection", "x-mine".parse().unwrap());
            headers.insert("x-mine", "1".parse().unwrap());
            headers.insert("keep-alive", "timeout=5".parse().unwrap());
            response
        }
        "/none" => {
            let mut response = text("");
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        _ => text(format!("{} {}", request.method(), request.uri().path())),
    }
}
