//! What a failed connection is called, against a scripted TLS server: a real city cannot be made to have these faults.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_city::https::{HttpsConnection, dial};
use gateway_city::{CityError, Endpoint, Revocation, Timeouts, tls};
use http::Request;
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig,
};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

const HOST: &str = "gw.city.example";

struct Authority(CertifiedIssuer<'static, KeyPair>);

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Authority(
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"),
    )
}

impl Authority {
    fn leaf(
        &self,
        name: &str,
        days: (i64, i64),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let now = OffsetDateTime::now_utc();
        params.not_before = now + time::Duration::days(days.0);
        params.not_after = now + time::Duration::days(days.1);
        let certificate = params
            .signed_by(&key, &self.0)
            .expect("signed")
            .der()
            .clone();
        (
            certificate,
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
    }

    fn client(&self, with_certificate: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an anchor");
        let identity = with_certificate.then(|| {
            let (certificate, key) = self.leaf("box", (-1, 30));
            let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&key).expect("P-256");
            tls::ClientIdentity {
                chain: vec![certificate],
                key,
            }
        });
        tls::client_config(Arc::new(roots), identity).expect("a configuration")
    }
}

/// Judges every client certificate the same way.
#[derive(Debug)]
struct Verdict(CertificateError);

impl ClientCertVerifier for Verdict {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Err(rustls::Error::InvalidCertificate(self.0.clone()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("never reached".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("never reached".into()))
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// What the server does once the handshake is done.
#[derive(Clone, Copy)]
enum Then {
    Answer(&'static [u8]),
    Silence,
    Cut,
}

async fn serve(
    leaf: (CertificateDer<'static>, PrivateKeyDer<'static>),
    verdict: Option<CertificateError>,
    alpn: &[u8],
    versions: &[&'static rustls::SupportedProtocolVersion],
    then: Then,
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions");
    let builder = match verdict {
        Some(error) => builder.with_client_cert_verifier(Arc::new(Verdict(error))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(vec![leaf.0], leaf.1)
        .expect("a pair");
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await?;
                match then {
                    Then::Answer(bytes) => stream.write_all(bytes).await?,
                    Then::Silence => std::future::pending().await,
                    Then::Cut => {}
                }
                stream.shutdown().await
            });
        }
    });
    address
}

fn timeouts() -> Timeouts {
    let short = Duration::from_millis(800);
    Timeouts {
        connect: short,
        handshake: Duration::from_secs(5),
        response: short,
        idle: short,
    }
}

fn at(address: SocketAddr) -> Endpoint {
    Endpoint {
        host: HOST.into(),
        port: address.port(),
        connect: Some(address),
    }
}

async fn ask(address: SocketAddr, config: Arc<ClientConfig>) -> Result<bytes::Bytes, CityError> {
    let endpoint = at(address);
    let mut connection = HttpsConnection::connect(&endpoint, config, timeouts()).await?;
    let request = Request::get("/").body(Full::default()).expect("a request");
    connection
        .fetch(request, 100)
        .await
        .map(http::Response::into_body)
}

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const HELLO: Then = Then::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");

#[tokio::test]
async fn a_sound_server_is_understood_over_http1() {
    let city = authority();
    let address = serve(city.leaf(HOST, (-1, 30)), None, b"http/1.1", TLS13, HELLO).await;
    assert_eq!(
        &ask(address, city.client(false)).await.unwrap()[..],
        b"hello"
    );
}

#[tokio::test]
async fn another_authority_or_another_name_is_not_the_city() {
    let (city, other) = (authority(), authority());
    for leaf in [
        other.leaf(HOST, (-1, 30)),
        city.leaf("portal.city.example", (-1, 30)),
    ] {
        let address = serve(leaf, None, b"http/1.1", TLS13, HELLO).await;
        let error = ask(address, city.client(false)).await.unwrap_err();
        assert!(matches!(error, CityError::Untrusted { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_from_the_future_or_the_past_tells_the_times() {
    let city = authority();
    let address = serve(city.leaf(HOST, (5, 30)), None, b"http/1.1", TLS13, HELLO).await;
    let error = ask(address, city.client(false)).await.unwrap_err();
    assert!(
        matches!(
            error,
            CityError::NotValidYet {
                clock: Some(_),
                not_before: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
    let address = serve(city.leaf(HOST, (-30, -5)), None, b"http/1.1", TLS13, HELLO).await;
    let error = ask(address, city.client(false)).await.unwrap_err();
    assert!(
        matches!(
            error,
            CityError::Expired {
                clock: Some(_),
                not_after: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_revocation_alert_is_seen_over_both_http_versions_although_it_comes_after_the_handshake()
{
    let city = authority();
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let verdict = Some(CertificateError::Revoked);
        let address = serve(city.leaf(HOST, (-1, 30)), verdict, alpn, TLS13, HELLO).await;
        let error = ask(address, city.client(true)).await.unwrap_err();
        let CityError::Revoked {
            by: Revocation::Alert(alert),
        } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(alert, rustls::AlertDescription::CertificateRevoked);
    }
}

/// The server closes with our bytes unread, which resets the connection: writing notices first, reading never happens.
#[tokio::test]
async fn a_revocation_alert_is_seen_although_a_write_fails_before_anything_is_read() {
    let city = authority();
    let verdict = Some(CertificateError::Revoked);
    let address = serve(
        city.leaf(HOST, (-1, 30)),
        verdict,
        b"http/1.1",
        TLS13,
        HELLO,
    )
    .await;
    let endpoint = at(address);
    let mut dialled = dial(&endpoint, city.client(true), &timeouts())
        .await
        .expect("the client believes the handshake done");
    let alert = dialled.stream.alert();
    let failed = async {
        loop {
            if let Err(error) = dialled.stream.write_all(b"GET / HTTP/1.1\r\n").await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(60), failed)
        .await
        .expect("a closed connection fails a write");
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        ),
        "{error:?}"
    );
    assert_eq!(
        alert.get(),
        Some(&rustls::AlertDescription::CertificateRevoked)
    );
}

#[tokio::test]
async fn an_unknown_issuer_is_a_refusal_but_no_revocation() {
    let city = authority();
    let verdict = Some(CertificateError::UnknownIssuer);
    let address = serve(
        city.leaf(HOST, (-1, 30)),
        verdict,
        b"http/1.1",
        TLS13,
        HELLO,
    )
    .await;
    let error = ask(address, city.client(true)).await.unwrap_err();
    assert!(
        matches!(error, CityError::CertificateRefused { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_with_only_tls12_is_refused() {
    let city = authority();
    let tls12 = &[&rustls::version::TLS12];
    let address = serve(city.leaf(HOST, (-1, 30)), None, b"http/1.1", tls12, HELLO).await;
    let error = ask(address, city.client(false)).await.unwrap_err();
    assert!(matches!(error, CityError::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn silence_cuts_nonsense_and_long_answers_have_names() {
    let city = authority();
    let long = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf";
    type Expected = fn(&CityError) -> bool;
    let cases: [(Then, Expected); 5] = [
        (Then::Silence, |error| {
            matches!(error, CityError::Timeout { what: "answer", .. })
        }),
        (Then::Cut, CityError::is_network),
        (Then::Answer(b"SSH-2.0-nonsense\r\n\r\n"), |error| {
            matches!(error, CityError::Protocol { .. })
        }),
        (Then::Answer(long), |error| {
            matches!(error, CityError::TooLarge { .. })
        }),
        (Then::Answer(half), CityError::is_network),
    ];
    for (then, expected) in cases {
        let address = serve(city.leaf(HOST, (-1, 30)), None, b"http/1.1", TLS13, then).await;
        let error = ask(address, city.client(false)).await.unwrap_err();
        assert!(expected(&error), "{error:?}");
    }
}

#[tokio::test]
async fn nobody_listening_is_a_failed_connection() {
    let city = authority();
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let error = ask(address, city.client(false)).await.unwrap_err();
    assert!(
        matches!(&error, CityError::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    );
}

#[tokio::test]
async fn a_server_that_never_greets_runs_into_the_time_limit() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = at(address);
    let limits = Timeouts {
        handshake: Duration::from_millis(200),
        ..timeouts()
    };
    let error = HttpsConnection::connect(&endpoint, authority().client(false), limits)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            CityError::Timeout {
                what: "finish the handshake",
                ..
            }
        ),
        "{error:?}"
    );
}
