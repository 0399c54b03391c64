//! TLS 1.3 client configurations towards the city.
//!
//! It does not read files and holds no key: anchors and the signing key are handed in. There is no fallback to TLS 1.2
//! and no system trust store: the one anchor is the city's, shipped with the box.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, RootCertStore};

/// A TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The anchor file is not PEM.
    #[error("could not read the trust anchor as PEM")]
    AnchorPem(#[source] rustls::pki_types::pem::Error),
    /// A certificate in the anchor file cannot serve as an anchor.
    #[error("could not use a certificate as trust anchor")]
    Anchor(#[source] rustls::Error),
    /// The anchor file holds no certificate.
    #[error("the trust anchor file holds no certificate")]
    NoAnchor,
    /// Certificate and key do not belong together, or TLS 1.3 is not available.
    #[error("could not set up the client side of TLS")]
    Client(#[source] rustls::Error),
}

/// The certificates in a PEM file, in order.
///
/// # Errors
/// When the text is not PEM.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(TlsSetupError::AnchorPem)
}

/// Trust anchors from a PEM file.
///
/// # Errors
/// When there is none, or one cannot be used.
pub fn anchors_from_pem(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_from_pem(pem)? {
        roots.add(certificate).map_err(TlsSetupError::Anchor)?;
    }
    if roots.is_empty() {
        return Err(TlsSetupError::NoAnchor);
    }
    Ok(Arc::new(roots))
}

/// A facility certificate's chain (leaf first) with the key that signs for it.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// Leaf first, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// Usually the TPM's.
    pub key: Arc<dyn SigningKey>,
}

/// A TLS 1.3 configuration offering HTTP/2 and HTTP/1.1.
///
/// Sessions are resumed inside one configuration only, so a new identity always needs a new configuration: a resumed
/// session would go on with the old one.
///
/// # Errors
/// When the identity's key and certificate do not belong together.
pub fn client_config(
    anchors: Arc<RootCertStore>,
    identity: Option<ClientIdentity>,
) -> Result<Arc<ClientConfig>, TlsSetupError> {
    client_config_at(anchors, identity, Arc::new(DefaultTimeProvider))
}

/// As [`client_config`], with certificates judged by the given clock.
///
/// # Errors
/// As [`client_config`].
pub fn client_config_at(
    anchors: Arc<RootCertStore>,
    identity: Option<ClientIdentity>,
    clock: Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsSetupError::Client)?
        .with_root_certificates(anchors);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certified = CertifiedKey::new(identity.chain, identity.key);
            certified.keys_match().map_err(TlsSetupError::Client)?;
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(certified));
            builder.with_client_cert_resolver(resolver)
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
