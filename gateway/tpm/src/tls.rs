//! The TPM key as a rustls client key: TLS 1.3 client authentication and nothing else. It chooses no protocol version; build
//! the `ClientConfig` with TLS 1.3 only, because a TLS 1.2 handshake would be refused at its signature.

use crate::{KeyBlob, KeyVault, VaultError};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    pki_types::SubjectPublicKeyInfoDer,
    sign::{Signer, SigningKey},
};
use std::{fmt, sync::Arc};

/// RFC 8446 section 4.4.3: 64 octets 0x20, the context string, a zero octet, then the transcript hash.
const PADDING: [u8; 64] = [0x20; 64];
const CONTEXT: &[u8] = b"TLS 1.3, client CertificateVerify\0";
/// SHA-256 to SHA-512; TLS 1.3 defines no shorter and no longer transcript hash.
const TRANSCRIPT_HASH: std::ops::RangeInclusive<usize> = 32..=64;

/// Is this the content covered by a TLS 1.3 *client's* CertificateVerify?
pub(crate) fn is_client_certificate_verify(message: &[u8]) -> bool {
    message
        .strip_prefix(&PADDING)
        .and_then(|rest| rest.strip_prefix(CONTEXT))
        .is_some_and(|hash| TRANSCRIPT_HASH.contains(&hash.len()))
}

/// The vault's key for `rustls::sign::CertifiedKey`.
///
/// Signing blocks the calling thread until the TPM has signed. On a worker of a multi-thread tokio runtime the signer
/// hands its other tasks over first (`block_in_place`), so timers and connections go on; on a current-thread runtime give
/// handshakes a thread of their own.
#[must_use]
pub fn rustls_key(vault: Arc<dyn KeyVault>, key: KeyBlob) -> Arc<dyn SigningKey> {
    let spki = key.spki_der().into();
    Arc::new(TlsKey { vault, key, spki })
}

#[derive(Clone)]
struct TlsKey {
    vault: Arc<dyn KeyVault>,
    key: KeyBlob,
    spki: Arc<[u8]>,
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsKey(..)")
    }
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(&self.spki[..]))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let sign = || self.vault.sign_tls13(&self.key, message);
        let on_a_worker = tokio::runtime::Handle::try_current().is_ok_and(|runtime| {
            runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
        });
        let signature = if on_a_worker {
            tokio::task::block_in_place(sign)
        } else {
            sign()
        };
        signature.map_err(into_rustls)
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// The vault's error as rustls carries it; downcast [`rustls::OtherError`] to get it back.
fn into_rustls(error: VaultError) -> rustls::Error {
    rustls::Error::Other(rustls::OtherError(Arc::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(context: &[u8], hash: usize) -> Vec<u8> {
        [&PADDING[..], context, &vec![7; hash]].concat()
    }

    #[test]
    fn only_a_client_certificate_verify_of_tls_1_3_is_recognised() {
        assert!(is_client_certificate_verify(&message(CONTEXT, 32)));
        assert!(is_client_certificate_verify(&message(CONTEXT, 48)));
        assert!(!is_client_certificate_verify(&message(CONTEXT, 31)));
        assert!(!is_client_certificate_verify(&message(CONTEXT, 65)));
        assert!(!is_client_certificate_verify(&message(
            b"TLS 1.3, server CertificateVerify\0",
            32
        )));
        assert!(!is_client_certificate_verify(&message(CONTEXT, 32)[1..]));
        assert!(!is_client_certificate_verify(b""));
        assert!(!is_client_certificate_verify(&[1; 4000]));
    }
}
