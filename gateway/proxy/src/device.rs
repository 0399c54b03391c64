//! Which device is at the other end: the certificate it may show, and the name under which the city sees it.
//! Does not know any device and trusts none: that is [`DeviceTrust::identify`], and the gate judges the answer on every request.

use std::{fmt, net::IpAddr, sync::Arc};

use gateway_policy::DeviceId;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::StartError;

/// The longest chain a device may show, certificates and bytes. It stays in memory for as long as the connection, and travels
/// in the session ticket.
const CHAIN_LENGTH: usize = 4;
const CHAIN_BYTES: usize = 16 * 1024;

/// Tells which device a certificate belongs to. Called once per connection, on a data thread, with what the device has
/// shown (leaf first) and proven to hold the key of. The certificates are unchecked in every other respect: they may be
/// expired, made by anybody, or come out of the session ticket of an earlier connection.
pub type Identify = Arc<dyn Fn(&[CertificateDer<'static>]) -> Option<DeviceId> + Send + Sync>;

/// Is told that a device has sent a request, and whether a person caused it (opened a page, sent something) as opposed to a
/// page left open. Called for every request, on a data thread.
pub type Seen = Arc<dyn Fn(DeviceId, bool) + Send + Sync>;

/// How devices are told apart.
#[derive(Clone)]
pub struct DeviceTrust {
    /// The authorities whose certificates are asked for. Browsers that hold none of them are not bothered; while there is
    /// no authority nobody is asked at all. These are hints: trust is decided by `identify`.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Recognises a device. A revoked one is to be recognised too, so that the gate can say so.
    pub identify: Identify,
    /// Is told of every request of a recognised device.
    pub seen: Seen,
}

impl DeviceTrust {
    /// No device has a certificate.
    #[must_use]
    pub fn nobody() -> Self {
        Self {
            authorities: Vec::new(),
            identify: Arc::new(|_| None),
            seen: Arc::new(|_, _| ()),
        }
    }
}

impl fmt::Debug for DeviceTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceTrust")
            .field("authorities", &self.authorities.len())
            .finish_non_exhaustive()
    }
}

/// Asks for a certificate and takes any whose key the client holds, or none.
///
/// A handshake that fails shows the person in front of the browser nothing but an error of the browser's own. So an expired,
/// foreign or revoked certificate passes here, counts for nothing, and the page says what to do.
#[derive(Debug)]
pub(crate) struct AskForCertificate {
    authorities: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AskForCertificate {
    /// Nothing to ask for: `None`.
    ///
    /// # Errors
    /// [`StartError::TrustAnchor`] when an authority's certificate cannot be read.
    pub(crate) fn new(
        authorities: &[CertificateDer<'static>],
        provider: &CryptoProvider,
    ) -> Result<Option<Arc<Self>>, StartError> {
        let mut store = RootCertStore::empty();
        for authority in authorities {
            store
                .add(authority.clone())
                .map_err(StartError::TrustAnchor)?;
        }
        Ok((!store.is_empty()).then(|| {
            Arc::new(Self {
                authorities: store.subjects(),
                algorithms: provider.signature_verification_algorithms,
            })
        }))
    }
}

impl ClientCertVerifier for AskForCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bytes = intermediates
            .iter()
            .fold(end_entity.len(), |sum, next| sum.saturating_add(next.len()));
        if intermediates.len() >= CHAIN_LENGTH || bytes > CHAIN_BYTES {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Makes obfuscated nodes (RFC 7239 section 6.3) with a key that does not outlive the process.
pub(crate) struct NodeNames {
    key: aws_lc_rs::hmac::Key,
}

impl NodeNames {
    pub(crate) fn new() -> Result<Self, StartError> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        Ok(Self {
            key: aws_lc_rs::hmac::Key::generate(aws_lc_rs::hmac::HMAC_SHA256, &random)
                .map_err(|_| StartError::Random)?,
        })
    }

    /// For a device that is known by nothing but its address.
    pub(crate) fn of_address(&self, peer: IpAddr) -> Arc<str> {
        match peer {
            IpAddr::V4(v4) => self.name(b'4', &v4.octets()),
            IpAddr::V6(v6) => self.name(b'6', &v6.octets()),
        }
    }

    /// For a registered device, wherever it comes from.
    pub(crate) fn of_device(&self, device: DeviceId) -> Arc<str> {
        self.name(b'd', &device.0)
    }

    fn name(&self, kind: u8, of: &[u8]) -> Arc<str> {
        use base64::Engine as _;
        let mut context = aws_lc_rs::hmac::Context::with_key(&self.key);
        context.update(&[kind]);
        context.update(of);
        // 72 bits, in characters that RFC 7239 allows in an obfuscated node.
        let encoded =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..9]);
        Arc::from(format!("_{encoded}"))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn a_device_and_an_address_with_the_same_bytes_have_different_names() {
        let names = NodeNames::new().unwrap();
        let bytes = [7; 16];
        assert_ne!(
            names.of_device(DeviceId(bytes)),
            names.of_address(Ipv6Addr::from(bytes).into())
        );
        assert_eq!(
            names.of_device(DeviceId(bytes)),
            names.of_device(DeviceId(bytes))
        );
    }

    #[test]
    fn without_an_authority_nobody_is_asked() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        assert!(AskForCertificate::new(&[], &provider).unwrap().is_none());
        let rubbish = CertificateDer::from(b"rubbish".to_vec());
        assert!(AskForCertificate::new(&[rubbish], &provider).is_err());
    }
}
