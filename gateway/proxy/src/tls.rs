//! TLS on both sides: what the box offers to the LAN, and how it presents itself to the city.
//! Does not hold key material of the facility certificate: that signs inside the TPM, behind [`SigningKey`].

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustls::{
    ClientConfig, NamedGroup, RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme,
    client::{
        ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer},
    server::{ProducesTickets, ResolvesServerCert},
    sign::{CertifiedKey, Signer, SigningKey},
};

use crate::{StartError, config::Protocol, device::AskForCertificate};

/// The certificate and key the box shows to the LAN.
#[derive(Clone)]
pub struct LanCertificate(Arc<CertifiedKey>);

impl fmt::Debug for LanCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanCertificate")
            .field("chain", &self.0.cert.len())
            .finish_non_exhaustive()
    }
}

impl LanCertificate {
    /// Pairs a chain (leaf first) with its private key.
    ///
    /// # Errors
    /// When the key cannot be used, or does not belong to the leaf.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, StartError> {
        CertifiedKey::from_der(chain, key, &provider())
            .map(|certified| Self(Arc::new(certified)))
            .map_err(StartError::LanCertificate)
    }

    /// The same with a key that only signs.
    ///
    /// # Errors
    /// When the key does not belong to the leaf.
    pub fn with_signing_key(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, StartError> {
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(StartError::LanCertificate)?;
        Ok(Self(Arc::new(certified)))
    }
}

/// The facility certificate with the key that signs for it, usually inside a TPM.
#[derive(Clone)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Signs the TLS 1.3 CertificateVerify message; may block.
    pub key: Arc<dyn SigningKey>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes the LAN side's configurations.
#[derive(Debug)]
pub(crate) struct LanTls {
    provider: Arc<CryptoProvider>,
    shown: Mutex<Shown>,
}

/// What the LAN side's configuration is made of.
#[derive(Debug)]
struct Shown {
    certificate: LanCertificate,
    ask: Option<Arc<AskForCertificate>>,
    tickets: Arc<dyn ProducesTickets>,
}

impl LanTls {
    pub(crate) fn new(
        certificate: LanCertificate,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Self, StartError> {
        let provider = provider();
        let shown = Shown {
            certificate,
            ask: AskForCertificate::new(authorities, &provider)?,
            tickets: tickets()?,
        };
        Ok(Self {
            provider,
            shown: Mutex::new(shown),
        })
    }

    /// With another certificate. Clients keep resuming: their sessions do not depend on it.
    pub(crate) fn show(
        &self,
        certificate: &LanCertificate,
    ) -> Result<Arc<ServerConfig>, StartError> {
        self.change(|shown| {
            shown.certificate = certificate.clone();
            Ok(())
        })
    }

    /// Asking for certificates of other authorities. Every client has to introduce itself anew: whoever resumes a session is not
    /// asked, and one from before there was anything to ask for would stay nobody.
    pub(crate) fn ask(
        &self,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Arc<ServerConfig>, StartError> {
        self.change(|shown| {
            let ask = AskForCertificate::new(authorities, &self.provider)?;
            shown.tickets = tickets()?;
            shown.ask = ask;
            Ok(())
        })
    }

    pub(crate) fn config(&self) -> Result<Arc<ServerConfig>, StartError> {
        self.change(|_| Ok(()))
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Shown) -> Result<(), StartError>,
    ) -> Result<Arc<ServerConfig>, StartError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut shown)?;
        self.build(&shown)
    }

    fn build(&self, shown: &Shown) -> Result<Arc<ServerConfig>, StartError> {
        // IPA/CRYPTREC TLS暗号設定ガイドライン「高セキュリティ型」: TLS 1.3, and 1.2 with ECDHE and AEAD, which is all that this
        // provider implements of 1.2.
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(StartError::Tls)?;
        let builder = match &shown.ask {
            None => builder.with_no_client_auth(),
            Some(ask) => builder.with_client_cert_verifier(Arc::<AskForCertificate>::clone(ask)),
        };
        let mut config =
            builder.with_cert_resolver(Arc::new(Always(Arc::clone(&shown.certificate.0))));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Arc::clone(&shown.tickets);
        // One is what a browser uses; each costs an encryption and some eighty bytes on every full handshake.
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}

fn tickets() -> Result<Arc<dyn ProducesTickets>, StartError> {
    rustls::crypto::aws_lc_rs::Ticketer::new().map_err(StartError::Tickets)
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// One way of presenting the box to its sites: configuration, tickets, and what the signer did.
///
/// A new identity makes a new one, so that no ticket obtained under the old certificate is ever offered again.
pub(crate) struct Credentials {
    pub(crate) generation: u64,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) signing: Arc<Signing>,
    auto: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Credentials {
    pub(crate) fn new(
        generation: u64,
        roots: Arc<RootCertStore>,
        identity: Option<Identity>,
        signatures: Arc<AtomicU64>,
    ) -> Result<Self, StartError> {
        let tickets = Arc::new(Tickets::default());
        let signing = Arc::new(Signing {
            signatures,
            failed: AtomicBool::new(false),
        });
        // The city is spoken to in TLS 1.3 only: the TPM signs nothing else.
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(StartError::Tls)?
            .with_root_certificates(roots);
        let mut auto = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                let key = Arc::new(WatchedKey {
                    key,
                    signing: Arc::clone(&signing),
                });
                builder.with_client_cert_resolver(Arc::new(Present(Arc::new(CertifiedKey::new(
                    chain, key,
                )))))
            }
        };
        auto.resumption = Resumption::store(Arc::clone(&tickets) as Arc<dyn ClientSessionStore>);
        auto.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut http1 = auto.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http2 = auto.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            generation,
            tickets,
            signing,
            auto: Arc::new(auto),
            http1: Arc::new(http1),
            http2: Arc::new(http2),
        })
    }

    pub(crate) fn config(&self, protocol: Protocol) -> Arc<ClientConfig> {
        Arc::clone(match protocol {
            Protocol::Auto => &self.auto,
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        })
    }
}

/// What the facility key was asked to do.
#[derive(Debug)]
pub(crate) struct Signing {
    signatures: Arc<AtomicU64>,
    failed: AtomicBool,
}

impl Signing {
    /// Whether the newest signature failed; a handshake that broke then broke because of the key.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Present(Arc<CertifiedKey>);

impl ResolvesClientCert for Present {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // The issuers the server hints at are ignored: a facility has one certificate, and a server that
        // does not want it says so.
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct WatchedKey {
    key: Arc<dyn SigningKey>,
    signing: Arc<Signing>,
}

impl SigningKey for WatchedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        Some(Box::new(WatchedSigner {
            signer,
            signing: Arc::clone(&self.signing),
        }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct WatchedSigner {
    signer: Box<dyn Signer>,
    signing: Arc<Signing>,
}

impl Signer for WatchedSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signed = self.signer.sign(message);
        self.signing
            .failed
            .store(signed.is_err(), Ordering::Relaxed);
        if signed.is_ok() {
            self.signing.signatures.fetch_add(1, Ordering::Relaxed);
        }
        signed
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}

/// TLS 1.3 tickets by server name. Each is used once (RFC 8446 appendix C.4); the newest goes first.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<HashMap<ServerName<'static>, Kept>>);

#[derive(Default)]
struct Kept {
    tickets: VecDeque<Tls13ClientSessionValue>,
    group: Option<NamedGroup>,
}

impl Tickets {
    const PER_SERVER: usize = 64;

    /// Whether the next handshake with this server can do without a signature.
    pub(crate) fn available(&self, server: &ServerName<'static>) -> bool {
        self.with(|kept| kept.get(server).is_some_and(|k| !k.tickets.is_empty()))
    }

    fn with<R>(&self, f: impl FnOnce(&mut HashMap<ServerName<'static>, Kept>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.with(|kept| kept.entry(server_name).or_default().group = Some(group));
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(|kept| kept.get(&server_name.to_owned()).and_then(|k| k.group))
    }

    // TLS 1.2 is not spoken upstream.
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        value: Tls13ClientSessionValue,
    ) {
        self.with(|kept| {
            let tickets = &mut kept.entry(server_name).or_default().tickets;
            if tickets.len() == Self::PER_SERVER {
                tickets.pop_front();
            }
            tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        self.with(|kept| kept.get_mut(server_name).and_then(|k| k.tickets.pop_back()))
    }
}
