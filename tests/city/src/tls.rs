//! The listener: TLS with an optional client certificate, and what is known of each connection.
//!
//! Revocation is not judged here: a resumed session brings its certificate back without asking anyone, so that question
//! belongs to every request.

use crate::ca::Ca;
use crate::city::City;
use crate::linger::Lingering;
use crate::secrets::{hex, sha256};
use axum::body::Body;
use der::{Decode as _, Encode as _};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Time for a handshake, and for the headers of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// RFC 9266 section 2: the label of the `tls-exporter` channel binding.
const CHANNEL_BINDING: &[u8] = b"EXPORTER-Channel-Binding";

/// Why the listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate or the client verifier was refused by rustls.
    #[error("TLS could not be set up")]
    Setup(#[from] rustls::Error),
    /// The client certificate verifier could not be built.
    #[error("the verifier for facility certificates could not be built")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The authority failed.
    #[error("the city's own certificate could not be made")]
    Ca(#[from] crate::ca::CaError),
}

/// What is known of one connection.
#[derive(Debug)]
pub struct Facts {
    /// The other end.
    pub peer: SocketAddr,
    /// The verified facility certificate, also when the session was resumed.
    pub certificate: Option<ClientCertificate>,
    /// `tls-exporter` channel binding of this very connection, 32 bytes.
    pub exporter: Option<[u8; 32]>,
    /// Whether the session was resumed.
    pub resumed: bool,
    /// Whether this is TLS 1.3.
    pub tls13: bool,
}

/// A client certificate that the facility CA signed.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// Facility id from the SAN URI.
    pub facility: String,
    /// Subject name.
    pub subject: x509_cert::name::Name,
    /// SHA-256 of the public key.
    pub spki: Vec<u8>,
}

impl ClientCertificate {
    /// Reads a certificate that the handshake has verified; `None` if it is not one of ours in form.
    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
        let body = parsed.tbs_certificate;
        let facility = crate::est::csr::facility_uri(body.extensions.as_deref()?)?;
        Some(Self {
            serial: hex(body.serial_number.as_bytes()),
            facility,
            subject: body.subject,
            spki: sha256(&body.subject_public_key_info.to_der().ok()?),
        })
    }
}

/// Builds the server configuration: TLS 1.3 and 1.2, HTTP/2 and HTTP/1.1, tickets, optional client certificate.
///
/// # Errors
/// When rustls refuses the parts.
pub fn server_config(ca: &Ca, names: &[String]) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut trusted = RootCertStore::empty();
    // The facility CA itself is the anchor, so that a certificate of the server CA can never pass as a client's.
    trusted.add(ca.facility_ca().clone())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let (chain, key) = ca.own_server(names)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 2;
    Ok(Arc::new(config))
}

/// Accepts connections on `address` until the city shuts down; closes the listener while the city is told to be down.
///
/// # Errors
/// When the port cannot be bound again after an outage.
pub async fn serve(
    city: Arc<City>,
    config: Arc<ServerConfig>,
    first: TcpListener,
) -> io::Result<()> {
    let address = first.local_addr()?;
    let acceptor = TlsAcceptor::from(config);
    let mut listener = Some(first);
    let mut failure = city.failure.subscribe();
    loop {
        let down = failure.borrow_and_update().mode == crate::failure::Mode::Down;
        match (&listener, down) {
            (Some(_), true) => listener = None,
            (None, false) => listener = Some(TcpListener::bind(address).await?),
            _ => {}
        }
        tokio::select! {
            changed = failure.changed() => if changed.is_err() { return Ok(()) },
            accepted = accept(listener.as_ref()) => match accepted {
                Ok((stream, peer)) => {
                    tokio::spawn(connection(Arc::clone(&city), acceptor.clone(), stream, peer));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// One connection from its first byte to its last, cut when the city goes down.
async fn connection(city: Arc<City>, acceptor: TlsAcceptor, stream: TcpStream, peer: SocketAddr) {
    let _open = city.stats.connection();
    let mut failure = city.failure.subscribe();
    let cut = failure.wait_for(|failure| failure.mode == crate::failure::Mode::Down);
    tokio::select! {
        _ = cut => {}
        () = converse(&city, acceptor, stream, peer) => {}
    }
}

async fn converse(city: &Arc<City>, acceptor: TlsAcceptor, stream: TcpStream, peer: SocketAddr) {
    // Without this the small frames of a feed wait for the acknowledgement of the last one.
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            city.stats.handshake_failed();
            tracing::info!(%error, "handshake failed");
            return;
        }
        Err(_) => return city.stats.handshake_failed(),
    };
    let facts = Arc::new(facts(tls.get_ref().1, peer));
    city.stats.handshake(
        facts.resumed,
        facts.certificate.as_ref().map(|it| it.serial.as_str()),
    );
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Arc::clone(&facts));
        let city = Arc::clone(city);
        async move {
            Ok::<_, std::convert::Infallible>(
                city.answer(request.map(|body| Body::new(Lingering::new(Body::new(body)))))
                    .await,
            )
        }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(64 * 1024)
        .enable_connect_protocol();
    if let Err(error) = builder
        .serve_connection_with_upgrades(TokioIo::new(tls), service)
        .await
    {
        tracing::debug!(error, "connection ended");
    }
}

fn facts(tls: &ServerConnection, peer: SocketAddr) -> Facts {
    let certificate = tls
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(ClientCertificate::read);
    Facts {
        peer,
        certificate,
        // RFC 9266 section 2: a zero-length context, not an absent one, although TLS 1.3 treats both alike.
        exporter: tls
            .export_keying_material([0; 32], CHANNEL_BINDING, Some(b""))
            .ok(),
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        tls13: tls.protocol_version() == Some(ProtocolVersion::TLSv1_3),
    }
}
