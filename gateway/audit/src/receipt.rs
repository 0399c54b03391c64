//! The city's countersignature under a checkpoint: when it saw it, signed with a key that its own authority certifies for
//! time stamping. It fetches nothing.

use gateway_policy::Timestamp;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::{Digest, SignedCheckpoint};

const PREFIX: &[u8] = b"renraku-gateway audit receipt v1\0";

/// id-kp-timeStamping (RFC 5280 section 4.2.1.12), "binding the hash of an object to a time": what a receipt does. No
/// other certificate of the city carries it, so neither a web server's key nor a facility's can make a receipt.
pub const TIMESTAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// What the city signs: its time, then checkpoint and signature, each behind its length.
#[must_use]
pub fn receipt_message(at: Timestamp, signed: &SignedCheckpoint) -> Vec<u8> {
    let mut message = PREFIX.to_vec();
    message.extend(at.0.to_be_bytes());
    for part in [&signed.checkpoint, &signed.signature] {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        message.extend(length.to_be_bytes());
        message.extend(part);
    }
    message
}

/// A countersignature with the certificates that speak for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The city's time.
    pub at: Timestamp,
    /// Over [`receipt_message`]; ECDSA-Sig-Value, DER.
    pub signature: Vec<u8>,
    /// The signing certificate, then what leads to the root, DER.
    pub chain: Vec<Vec<u8>>,
}

/// Why a countersignature is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// There is no certificate with it, or one that cannot be read.
    #[error("the certificate with the countersignature cannot be read")]
    Certificate,
    /// Its certificate does not lead to the city's root, or is not for this purpose.
    #[error("the certificate with the countersignature is not the city's for this purpose")]
    Untrusted(#[source] webpki::Error),
    /// The signature is not by that certificate's key over this checkpoint.
    #[error("the countersignature does not fit the checkpoint")]
    Signature(#[source] webpki::Error),
    /// A time before 1970.
    #[error("the countersignature has an impossible time")]
    Time,
}

impl Receipt {
    /// Whether the city, known by its root certificates, has countersigned this checkpoint. The certificate must have been
    /// valid at the receipt's own time: a receipt outlives the certificate it was made with.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn check(
        &self,
        signed: &SignedCheckpoint,
        roots: &[CertificateDer<'_>],
    ) -> Result<(), ReceiptError> {
        let (leaf, others) = self.chain.split_first().ok_or(ReceiptError::Certificate)?;
        let leaf = CertificateDer::from(leaf.as_slice());
        let others: Vec<_> = others
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let certificate = EndEntityCert::try_from(&leaf).map_err(|_| ReceiptError::Certificate)?;
        let seconds = u64::try_from(self.at.0).map_err(|_| ReceiptError::Time)?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let verify = |issuers: &[CertificateDer<'_>], others: &[CertificateDer<'_>], usage| {
            let anchors: Vec<_> = issuers
                .iter()
                .filter_map(|issuer| anchor_from_trusted_cert(issuer).ok())
                .collect();
            let algorithms = default_provider().signature_verification_algorithms;
            certificate
                .verify_for_usage(algorithms.all, &anchors, others, at, usage, None, None)
                .map(drop)
                .map_err(ReceiptError::Untrusted)
        };
        // An authority between root and signer need not name the purpose; the signer itself must. webpki knows only one rule
        // for the whole path, hence a second look at the signer below its issuer alone.
        verify(roots, &others, KeyUsage::required_if_present(TIMESTAMPING))?;
        let issuers: Vec<_> = others.iter().chain(roots).cloned().collect();
        verify(&issuers, &[], KeyUsage::required(TIMESTAMPING))?;
        certificate
            .verify_signature(
                webpki::aws_lc_rs::ECDSA_P256_SHA256,
                &receipt_message(self.at, signed),
                &self.signature,
            )
            .map_err(ReceiptError::Signature)
    }

    /// The name under which the log mentions it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let length = u64::try_from(self.signature.len()).unwrap_or(u64::MAX);
        Digest::of(&[
            &self.at.0.to_be_bytes(),
            &length.to_be_bytes(),
            &self.signature,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        KeyUsagePurpose, SigningKey as _,
    };

    fn authority(by: Option<&Issuer<'_, KeyPair>>) -> (Vec<u8>, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = match by {
            None => params.self_signed(&key).unwrap(),
            Some(by) => params.signed_by(&key, by).unwrap(),
        };
        (certificate.der().to_vec(), Issuer::new(params, key))
    }

    fn receipt(usage: Vec<ExtendedKeyUsagePurpose>) -> (Receipt, SignedCheckpoint, Vec<u8>) {
        let (root, root_issuer) = authority(None);
        let (between, issuer) = authority(Some(&root_issuer));
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = usage;
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let signed = SignedCheckpoint {
            checkpoint: vec![1, 2, 3],
            signature: vec![4, 5],
        };
        let at = Timestamp(time::OffsetDateTime::now_utc().unix_timestamp());
        let receipt = Receipt {
            at,
            signature: key.sign(&receipt_message(at, &signed)).unwrap(),
            chain: vec![leaf.der().to_vec(), between],
        };
        (receipt, signed, root)
    }

    fn check(
        receipt: &Receipt,
        signed: &SignedCheckpoint,
        root: &[u8],
    ) -> Result<(), ReceiptError> {
        receipt.check(signed, &[CertificateDer::from(root.to_vec())])
    }

    #[test]
    fn a_receipt_below_an_authority_without_purposes_is_believed() {
        let (receipt, signed, root) = receipt(vec![ExtendedKeyUsagePurpose::TimeStamping]);
        check(&receipt, &signed, &root).unwrap();
    }

    #[test]
    fn a_key_that_is_not_for_time_stamping_makes_no_receipt() {
        for usage in [
            vec![],
            vec![ExtendedKeyUsagePurpose::ServerAuth],
            vec![ExtendedKeyUsagePurpose::ClientAuth],
        ] {
            let (receipt, signed, root) = receipt(usage);
            let outcome = check(&receipt, &signed, &root);
            assert!(
                matches!(outcome, Err(ReceiptError::Untrusted(_))),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn a_receipt_is_for_one_checkpoint_one_time_and_one_city() {
        let (good, signed, root) = receipt(vec![ExtendedKeyUsagePurpose::TimeStamping]);
        let (_, _, other_root) = receipt(vec![ExtendedKeyUsagePurpose::TimeStamping]);
        assert!(matches!(
            check(&good, &signed, &other_root),
            Err(ReceiptError::Untrusted(_))
        ));
        let mut other = signed.clone();
        other.checkpoint[0] ^= 1;
        assert!(matches!(
            check(&good, &other, &root),
            Err(ReceiptError::Signature(_))
        ));
        let mut later = good.clone();
        later.at = later.at.plus(1);
        assert!(matches!(
            check(&later, &signed, &root),
            Err(ReceiptError::Signature(_))
        ));
        let mut alone = good;
        alone.chain.clear();
        assert!(matches!(
            check(&alone, &signed, &root),
            Err(ReceiptError::Certificate)
        ));
    }
}
