//! The TPM's key in real TLS 1.3 handshakes over TCP, with client authentication that the server checks.

mod support;

use gateway_tpm::{Config, CsrSigner, KeyBlob, KeyVault, TpmVault, VaultError, rustls_key};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{Bench, tap::Tap};

/// A city with its authority: it says "hello" to clients that hold a certificate of it.
struct City {
    authority: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    address: SocketAddr,
}

impl City {
    fn new(versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut params = CertificateParams::new(vec![]).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("key");
        let root = params.self_signed(&key).expect("root").der().clone();
        let authority = Issuer::new(params, key);

        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params
            .signed_by(&key, &authority)
            .expect("certificate")
            .der()
            .clone();
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).expect("root");
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .expect("verifier");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .expect("config");
        config.send_tls13_tickets = 0;
        let address = serve(Arc::new(config));
        Self {
            authority,
            root,
            address,
        }
    }

    /// Issues a certificate for the TPM's key from a request that the TPM signed.
    fn client(&self, vault: &Arc<dyn KeyVault>, key: &KeyBlob) -> Arc<ClientConfig> {
        let mut params = CertificateParams::new(vec![]).expect("params");
        params
            .distinguished_name
            .push(DnType::CommonName, "facility-0001");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let signer = CsrSigner::new(Arc::clone(vault), key.clone());
        params
            .serialize_request(&signer)
            .expect("a request signed by the TPM");
        let certificate = params
            .signed_by(&signer, &self.authority)
            .expect("certificate")
            .der()
            .clone();

        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("root");
        let certified = CertifiedKey::new(
            vec![certificate],
            rustls_key(Arc::clone(vault), key.clone()),
        );
        certified
            .keys_match()
            .expect("the certificate is for this key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}

fn serve(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let tls = ServerConnection::new(config).expect("connection");
                let mut stream = rustls::StreamOwned::new(tls, tcp);
                // Completes the handshake, the client's certificate and signature included, before anything is sent.
                while stream.conn.is_handshaking() {
                    if stream.conn.complete_io(&mut stream.sock).is_err() {
                        return;
                    }
                }
                let known = stream.conn.peer_certificates().is_some();
                let _ = stream.write_all(if known { b"hello" } else { b"who??" });
                stream.conn.send_close_notify();
                let _ = stream.flush();
                let _ = stream.sock.read(&mut [0]);
            });
        }
    });
    address
}

/// One handshake; `Ok` when the server has accepted our certificate.
fn handshake(city: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<()> {
    let tcp = TcpStream::connect(city)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = ClientConnection::new(Arc::clone(config), name).expect("connection");
    let mut stream = rustls::StreamOwned::new(tls, tcp);
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting)?;
    assert_eq!(&greeting, b"hello");
    Ok(())
}

#[test]
fn no_handshake_is_lost_while_the_tpm_loses_power_three_times_under_eight_clients() {
    let mut bench = Bench::new();
    let city = City::new(&[&TLS13]);
    let vault = bench.vault();
    let shared: Arc<dyn KeyVault> = Arc::new(vault.clone());
    let key = vault.generate().expect("generate");
    let config = city.client(&shared, &key);
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        handshake(city.address, &config).expect("no handshake is lost");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for down in [150, 150, 1000] {
            let reached = done.load(Ordering::Relaxed) + 40;
            while done.load(Ordering::Relaxed) < reached
                && clients.iter().all(|client| !client.is_finished())
            {
                thread::sleep(Duration::from_millis(5));
            }
            bench.tpm.kill();
            thread::sleep(Duration::from_millis(down));
            bench.tpm.restart().expect("restart");
        }
        let reached = done.load(Ordering::Relaxed) + 40;
        while done.load(Ordering::Relaxed) < reached
            && clients.iter().all(|client| !client.is_finished())
        {
            thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let health = vault.health().expect("health");
    assert!(done.load(Ordering::Relaxed) >= 160);
    assert!(health.rebuilds >= 3, "{health:?}");
    println!(
        "{} handshakes, none lost; {health:?}",
        done.load(Ordering::Relaxed)
    );
}

#[test]
fn a_handshake_fails_within_the_deadline_when_the_tpm_is_gone() {
    let mut bench = Bench::new();
    let city = City::new(&[&TLS13]);
    let vault = TpmVault::open(Config {
        sign_deadline: Duration::from_millis(500),
        ..bench.config()
    })
    .expect("open");
    let vault: Arc<dyn KeyVault> = Arc::new(vault);
    let config = city.client(&vault, &vault.generate().expect("generate"));
    handshake(city.address, &config).expect("with the TPM");
    bench.tpm.kill();
    let start = Instant::now();
    let error = handshake(city.address, &config).expect_err("without the TPM");
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::Other(other)) = cause else {
        panic!("{error:?}")
    };
    assert!(
        matches!(other.0.downcast_ref(), Some(VaultError::Unavailable)),
        "{other:?}"
    );
    bench.tpm.restart().expect("restart");
    handshake(city.address, &config).expect("with the TPM again");
}

#[test]
fn a_tls_1_2_handshake_gets_no_signature() {
    let bench = Bench::new();
    let city = City::new(&[&TLS12]);
    let vault: Arc<dyn KeyVault> = Arc::new(bench.vault());
    let config = city.client(&vault, &vault.generate().expect("generate"));
    let before = vault.health().expect("health").signatures;
    let error = handshake(city.address, &config).expect_err("TLS 1.2");
    assert!(
        error.to_string().contains("not something this key signs"),
        "{error}"
    );
    assert_eq!(vault.health().expect("health").signatures, before);
}

/// 100 ms per command is what a real TPM takes to sign.
#[test]
fn a_slow_tpm_does_not_delay_the_timers_of_a_tokio_runtime() {
    let bench = Bench::new();
    let tap = Tap::before(bench.tpm.port());
    let city = City::new(&[&TLS13]);
    let vault = TpmVault::open(Config {
        tcti: tap.tcti(),
        ..bench.config()
    })
    .expect("open");
    let vault: Arc<dyn KeyVault> = Arc::new(vault);
    let config = city.client(&vault, &vault.generate().expect("generate"));
    handshake(city.address, &config).expect("the key is loaded");
    tap.state().delay = Duration::from_millis(100);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let mut lateness = runtime.block_on(async move {
        let stop = Arc::new(AtomicBool::new(false));
        let timer = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move {
                let mut lateness = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    lateness.push(start.elapsed().saturating_sub(Duration::from_millis(5)));
                }
                lateness
            }
        });
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (config, address) = (Arc::clone(&config), city.address);
                tokio::spawn(async move {
                    let tcp = tokio::net::TcpStream::connect(address)
                        .await
                        .expect("connect");
                    let name = ServerName::try_from("localhost").expect("a name");
                    let connector = tokio_rustls::TlsConnector::from(config);
                    let mut tls = connector.connect(name, tcp).await.expect("handshake");
                    let mut greeting = [0; 5];
                    tokio::io::AsyncReadExt::read_exact(&mut tls, &mut greeting)
                        .await
                        .expect("hello");
                })
            })
            .collect();
        for client in clients {
            client.await.expect("no panic");
        }
        stop.store(true, Ordering::Relaxed);
        timer.await.expect("no panic")
    });
    lateness.sort();
    let p95 = lateness[lateness.len() * 95 / 100];
    assert!(
        lateness.len() > 40,
        "the timer ran beside 800 ms of signing: {} times",
        lateness.len()
    );
    assert!(
        p95 < Duration::from_millis(40),
        "p95 {p95:?} of {}",
        lateness.len()
    );
}
