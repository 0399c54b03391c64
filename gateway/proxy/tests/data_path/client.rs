//! A client of the box: hyper over rustls, and plain sockets where the bytes matter.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::stand::{CITY, Stand};

pub type Body = BoxBody<Bytes, std::io::Error>;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub enum Client {
    Http1(http1::SendRequest<Body>, u16),
    Http2(http2::SendRequest<Body>, u16),
}

pub fn config(stand: &Stand, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(stand.authority.der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

pub async fn tls(stand: &Stand, sni: &str, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(stand.https).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let connector = TlsConnector::from(config(stand, alpn));
    connector.connect(name, tcp).await.unwrap()
}

impl Client {
    pub async fn connect(stand: &Stand, version: Version) -> Self {
        Self::connect_as(stand, version, CITY).await
    }

    pub async fn connect_as(stand: &Stand, version: Version, sni: &str) -> Self {
        let alpn: &[u8] = if version == Version::HTTP_2 {
            b"h2"
        } else {
            b"http/1.1"
        };
        let tls = tls(stand, sni, &[alpn]).await;
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(alpn));
        Self::over(tls, version, stand.https).await
    }

    pub async fn over<T>(io: T, version: Version, address: SocketAddr) -> Self
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        if version == Version::HTTP_2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(1 << 20)
                .handshake(TokioIo::new(io))
                .await
                .unwrap();
            tokio::spawn(connection);
            Self::Http2(sender, address.port())
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            Self::Http1(sender, address.port())
        }
    }

    pub fn authority(&self, host: &str) -> String {
        match self {
            Self::Http1(_, port) | Self::Http2(_, port) => format!("{host}:{port}"),
        }
    }

    /// A request as this client's protocol writes it.
    pub fn request(&self, method: &str, host: &str, path: &str) -> http::request::Builder {
        let authority = self.authority(host);
        match self {
            Self::Http1(..) => Request::builder()
                .method(method)
                .uri(path)
                .header("host", authority),
            Self::Http2(..) => Request::builder()
                .method(method)
                .uri(format!("https://{authority}{path}")),
        }
    }

    pub async fn send(
        &mut self,
        request: Request<Body>,
    ) -> hyper::Result<http::Response<hyper::body::Incoming>> {
        match self {
            Self::Http1(sender, _) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender, _) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub async fn answer(&mut self, request: Request<Body>) -> Answer {
        read(self.send(request).await.unwrap()).await.unwrap()
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.request("GET", CITY, path).body(full("")).unwrap();
        self.answer(request).await
    }

    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = self.request("POST", CITY, path).body(full(body)).unwrap();
        self.answer(request).await
    }
}

pub async fn read(response: http::Response<hyper::body::Incoming>) -> hyper::Result<Answer> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: collected.to_bytes(),
        trailers,
    })
}

/// Writes bytes over TLS as HTTP/1.1 and reads until the box closes, or for two seconds.
pub async fn raw(stand: &Stand, bytes: &[u8]) -> String {
    let mut tls = tls(stand, CITY, &[b"http/1.1"]).await;
    tls.write_all(bytes).await.unwrap();
    tls.flush().await.unwrap();
    until_closed(&mut tls).await
}

pub async fn until_closed(io: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), reading).await;
    String::from_utf8_lossy(&answer).into_owned()
}
