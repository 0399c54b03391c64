//! One dialled HTTPS connection to the city: TCP, TLS 1.3, then HTTP/2 or HTTP/1.1 as ALPN decides.
//!
//! It does not pool, does not retry, follows no redirect and keeps no cookie: those are decisions of its callers.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::CityError;
pub use crate::answer::{date, expect_success, is_temporary, next_piece, read_limited};
pub use crate::observed::ObservedStream;

/// Where something of the city is to be found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Host name: for SNI, for the certificate, for `Host`.
    pub host: String,
    /// Port.
    #[serde(default = "https_port")]
    pub port: u16,
    /// Dial this address and do not ask DNS. For tests, demonstrations, and sites whose DNS is not to be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<SocketAddr>,
}

const fn https_port() -> u16 {
    443
}

impl Endpoint {
    /// The authority as it belongs into `Host`: the port only when it is not 443.
    pub fn authority(&self) -> String {
        if self.port == 443 {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// How long each part of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Name resolution and TCP together.
    pub connect: Duration,
    /// The TLS handshake, which includes a signature of the TPM.
    pub handshake: Duration,
    /// From the end of the request to the head of the response.
    pub response: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(20),
            response: Duration::from_secs(30),
            idle: Duration::from_secs(30),
        }
    }
}

/// A finished handshake, before any HTTP.
#[derive(Debug)]
pub struct Dialled {
    /// The encrypted stream. It remembers the alert that ended it.
    pub stream: ObservedStream,
    /// `tls-exporter` channel binding (RFC 9266 §4): 32 bytes that both ends of this one connection know.
    pub channel_binding: [u8; 32],
    /// True when ALPN chose HTTP/2.
    pub http2: bool,
    /// The server's certificate chain, leaf first.
    pub peer_chain: Vec<rustls::pki_types::CertificateDer<'static>>,
}

/// The RFC 9266 label of the `tls-exporter` channel binding; its context is empty (and present).
pub const CHANNEL_BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Connects and finishes the TLS handshake.
///
/// TCP is dialled on the caller's runtime. The handshake is driven by a thread of tokio's blocking pool, because
/// rustls calls the signing key synchronously while it processes the server's flight: with the key in a TPM that is
/// 2 ms to several 100 ms during which a runtime worker would serve nobody else (measured: a 5 ms timer was late by
/// 726 ms). `Handle::block_on` keeps socket readiness and timers with the runtime, so that this works on
/// the current-thread flavour too, where `block_in_place` would panic. A dial costs one thread hop; dials are rare.
///
/// # Errors
/// All classes of [`CityError`] that can happen before HTTP.
pub async fn dial(
    endpoint: &Endpoint,
    config: Arc<ClientConfig>,
    timeouts: &Timeouts,
) -> Result<Dialled, CityError> {
    let host = &endpoint.host;
    let name = ServerName::try_from(host.clone()).map_err(|_| CityError::Protocol {
        host: host.clone(),
        what: "the configured name is no DNS name",
    })?;
    let tcp = within(host, "accept", timeouts.connect, connect_tcp(endpoint)).await?;
    let limit = timeouts.handshake;
    let runtime = tokio::runtime::Handle::current();
    let handshake = tokio::task::spawn_blocking(move || {
        runtime.block_on(tokio::time::timeout(
            limit,
            TlsConnector::from(config).connect(name, tcp),
        ))
    });
    let stream = match handshake.await {
        Ok(Ok(finished)) => finished.map_err(|error| CityError::from_io(host, error))?,
        Ok(Err(_elapsed)) => {
            return Err(CityError::Timeout {
                host: host.clone(),
                what: "finish the handshake",
                limit,
            });
        }
        Err(join) => {
            return Err(CityError::Broken {
                host: host.clone(),
                source: join.into(),
            });
        }
    };
    let (_, tls) = stream.get_ref();
    let mut channel_binding = [0_u8; 32];
    tls.export_keying_material(&mut channel_binding, CHANNEL_BINDING_LABEL, Some(b""))
        .map_err(|source| CityError::Handshake {
            host: host.clone(),
            source,
        })?;
    let http2 = tls.alpn_protocol() == Some(b"h2");
    let peer_chain = tls
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|c| c.clone().into_owned())
        .collect();
    Ok(Dialled {
        stream: ObservedStream::new(stream),
        channel_binding,
        http2,
        peer_chain,
    })
}

async fn connect_tcp(endpoint: &Endpoint) -> Result<TcpStream, CityError> {
    let host = &endpoint.host;
    let failed = |source| CityError::Connect {
        host: host.clone(),
        port: endpoint.port,
        source,
    };
    let addresses: Vec<SocketAddr> = match endpoint.connect {
        Some(address) => vec![address],
        None => tokio::net::lookup_host((host.as_str(), endpoint.port))
            .await
            .map_err(|source| CityError::Dns {
                host: host.clone(),
                source,
            })?
            .collect(),
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                tcp.set_nodelay(true).map_err(failed)?;
                return Ok(tcp);
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

async fn within<T>(
    host: &str,
    what: &'static str,
    limit: Duration,
    future: impl Future<Output = Result<T, CityError>>,
) -> Result<T, CityError> {
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| {
            Err(CityError::Timeout {
                host: host.to_owned(),
                what,
                limit,
            })
        })
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection to the city that requests can be sent on, one after the other (HTTP/2 may overlap them).
pub struct HttpsConnection {
    endpoint: Endpoint,
    sender: Sender,
    channel_binding: [u8; 32],
    peer_chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    alert: Arc<OnceLock<AlertDescription>>,
    timeouts: Timeouts,
}

impl std::fmt::Debug for HttpsConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let http2 = matches!(self.sender, Sender::Http2(_));
        f.debug_struct("HttpsConnection")
            .field("endpoint", &self.endpoint)
            .field("http2", &http2)
            .finish_non_exhaustive()
    }
}

impl HttpsConnection {
    /// Dials `endpoint`; see [`dial`] for what runs where.
    ///
    /// # Errors
    /// All classes of [`CityError`] that can happen before a response.
    pub async fn connect(
        endpoint: &Endpoint,
        config: Arc<ClientConfig>,
        timeouts: Timeouts,
    ) -> Result<Self, CityError> {
        let Dialled {
            stream,
            channel_binding,
            http2,
            peer_chain,
        } = dial(endpoint, config, &timeouts).await?;
        let alert = stream.alert();
        let io = TokioIo::new(stream);
        let broken = |error: hyper::Error| classify(&endpoint.host, &alert, error);
        let sender = if http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .handshake(io)
                .await
                .map_err(broken)?;
            // The driver ends by itself when the sender and all bodies are dropped; errors reach the requests.
            tokio::spawn(async move { drop(connection.await) });
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(broken)?;
            tokio::spawn(async move { drop(connection.await) });
            Sender::Http1(sender)
        };
        Ok(Self {
            endpoint: endpoint.clone(),
            sender,
            channel_binding,
            peer_chain,
            alert,
            timeouts,
        })
    }

    /// The `tls-exporter` channel binding of this connection (RFC 9266).
    pub const fn channel_binding(&self) -> &[u8; 32] {
        &self.channel_binding
    }

    /// The server's certificate chain, leaf first.
    pub fn peer_chain(&self) -> &[rustls::pki_types::CertificateDer<'static>] {
        &self.peer_chain
    }

    /// The endpoint dialled.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// True when no further request can be sent.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and waits for the head of the response, whatever its status. `request`'s URI is a path with
    /// query; authority and `Host` are filled in here.
    ///
    /// # Errors
    /// Everything but a refusal: see [`expect_success`] for those.
    pub async fn request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, CityError> {
        let host = self.endpoint.host.clone();
        let limit = self.timeouts.response;
        let request = self.addressed(request)?;
        let alert = Arc::clone(&self.alert);
        let answer = async {
            let result = match &mut self.sender {
                Sender::Http1(sender) => match sender.ready().await {
                    Ok(()) => sender.send_request(request).await,
                    Err(error) => Err(error),
                },
                Sender::Http2(sender) => match sender.ready().await {
                    Ok(()) => sender.send_request(request).await,
                    Err(error) => Err(error),
                },
            };
            result.map_err(|error| classify(&host, &alert, error))
        };
        within(&host, "answer", limit, answer).await
    }

    fn addressed(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Request<Full<Bytes>>, CityError> {
        let wrong = |what| CityError::Protocol {
            host: self.endpoint.host.clone(),
            what,
        };
        let authority = self.endpoint.authority();
        match self.sender {
            Sender::Http1(_) => {
                let value = HeaderValue::from_str(&authority)
                    .map_err(|_| wrong("the configured host is no host"))?;
                request.headers_mut().insert(HOST, value);
            }
            Sender::Http2(_) => {
                let mut parts = std::mem::take(request.uri_mut()).into_parts();
                parts.scheme = Some(Scheme::HTTPS);
                parts.authority = Some(
                    Authority::try_from(authority)
                        .map_err(|_| wrong("the configured host is no host"))?,
                );
                *request.uri_mut() =
                    Uri::from_parts(parts).map_err(|_| wrong("no path to ask for"))?;
            }
        }
        Ok(request)
    }

    /// Sends a request, and reads a successful answer's body up to `limit` bytes.
    ///
    /// # Errors
    /// As [`expect_success`] and [`read_limited`].
    pub async fn fetch(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Response<Bytes>, CityError> {
        let response = self.request(request).await?;
        let response = expect_success(&self.endpoint.host, &self.timeouts, response).await?;
        let (parts, body) = response.into_parts();
        let body = read_limited(&self.endpoint.host, body, limit, self.timeouts.idle).await;
        // The verdict on a client certificate can arrive after the head of the response.
        let body = body.map_err(|error| self.reclassify(error))?;
        Ok(Response::from_parts(parts, body))
    }

    fn reclassify(&self, error: CityError) -> CityError {
        match (&error, self.alert.get()) {
            (CityError::Broken { .. }, Some(alert)) => {
                CityError::from_alert(&self.endpoint.host, *alert)
            }
            _ => error,
        }
    }
}

fn classify(host: &str, alert: &OnceLock<AlertDescription>, error: hyper::Error) -> CityError {
    match alert.get() {
        Some(alert) => CityError::from_alert(host, *alert),
        None if error.is_parse() => CityError::Protocol {
            host: host.to_owned(),
            what: "not HTTP",
        },
        None => CityError::Broken {
            host: host.to_owned(),
            source: error.into(),
        },
    }
}
