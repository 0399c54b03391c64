//! Certification requests signed by the TPM: the check that the bytes are a request for the signing key itself, and the key
//! as `rcgen` takes it. It builds no request.

use crate::{KeyBlob, KeyVault};
use der::{Decode, Encode};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use std::{fmt, sync::Arc};
use x509_cert::request::CertReqInfo;

/// A request is a few hundred bytes, with evidence a few thousand.
const MAX_REQUEST: usize = 16 * 1024;

/// Do these bytes parse as a CertificationRequestInfo (RFC 2986 section 4.1) whose public key is `key`'s?
pub(crate) fn requests_certificate_for(key: &KeyBlob, certification_request_info: &[u8]) -> bool {
    if certification_request_info.len() > MAX_REQUEST {
        return false;
    }
    let Ok(info) = CertReqInfo::from_der(certification_request_info) else {
        return false;
    };
    info.public_key
        .to_der()
        .is_ok_and(|spki| spki == key.spki_der())
}

/// A key in the vault, for `rcgen::CertificateParams::serialize_request`. It signs requests for itself and nothing else:
/// self-signed certificates are refused.
#[derive(Clone)]
pub struct CsrSigner {
    vault: Arc<dyn KeyVault>,
    key: KeyBlob,
}

impl CsrSigner {
    /// The key as a request's signer. Signing blocks; see [`KeyVault`].
    #[must_use]
    pub fn new(vault: Arc<dyn KeyVault>, key: KeyBlob) -> Self {
        Self { vault, key }
    }
}

impl fmt::Debug for CsrSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrSigner")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl PublicKeyData for CsrSigner {
    fn der_bytes(&self) -> &[u8] {
        self.key.public_point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for CsrSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // rcgen has no room for a cause; the journal has.
        self.vault.sign_csr(&self.key, message).map_err(|error| {
            tracing::warn!(%error, "the request was not signed");
            rcgen::Error::RemoteKeyError
        })
    }
}
