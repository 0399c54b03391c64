//! Wraps a private key from outside for `TPM2_Import` (the PKCS#12 path), so that it crosses the bus only encrypted; it
//! does not read PKCS#12 and does not talk to the TPM.

use crate::{VaultError, fault::Fault, template};
use aes::Aes128;
use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsBigEndian, EcPrivateKeyBin},
    rand,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use cfb_mode::cipher::{AsyncStreamCipher, KeyIvInit};
use std::fmt;
use tss_esapi::{
    structures::{Data, EccParameter, EccPoint, Private, Public},
    traits::Marshall,
};
use zeroize::Zeroizing;

/// A P-256 private key on its way into the TPM. Wiped when dropped; it cannot be cloned or printed.
pub struct ImportKey {
    scalar: Zeroizing<[u8; 32]>,
    point: [u8; 65],
}

impl ImportKey {
    /// From the private scalar (big-endian) and the uncompressed public point.
    ///
    /// # Errors
    ///
    /// [`VaultError::MalformedImport`] when they are not a P-256 key pair that belongs together.
    pub fn new(scalar: Zeroizing<[u8; 32]>, point: [u8; 65]) -> Result<Self, VaultError> {
        EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            scalar.as_slice(),
            &point,
        )
        .map_err(|_| VaultError::MalformedImport)?;
        Ok(Self { scalar, point })
    }

    /// From an unencrypted PKCS#8 (RFC 5958) or SEC 1 (RFC 5915) private key, DER.
    ///
    /// # Errors
    ///
    /// [`VaultError::MalformedImport`] when it is not a P-256 key; RSA keys are not imported.
    pub fn from_private_key_der(der: &[u8]) -> Result<Self, VaultError> {
        let malformed = |_| VaultError::MalformedImport;
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map_err(malformed)?;
        let point = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| VaultError::MalformedImport)?;
        let bytes: EcPrivateKeyBin<'_> = pair
            .private_key()
            .as_be_bytes()
            .map_err(|_| VaultError::MalformedImport)?;
        let mut scalar = Zeroizing::new([0; 32]);
        // The encoding keeps leading zeros, so the length is always that of the field.
        if bytes.as_ref().len() != scalar.len() {
            return Err(VaultError::MalformedImport);
        }
        scalar.copy_from_slice(bytes.as_ref());
        Self::new(scalar, point)
    }
}

impl fmt::Debug for ImportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportKey(..)")
    }
}

/// The parameters of one `TPM2_Import`.
pub(crate) struct Wrapped {
    /// Must travel as the first, encrypted parameter of a salted session.
    pub(crate) encryption_key: Data,
    pub(crate) public: Public,
    pub(crate) duplicate: Private,
}

/// Builds the inner duplication wrapper (TPM 2.0 Part 1 section 23.3.2).
pub(crate) fn wrap(key: &ImportKey) -> Result<Wrapped, Fault> {
    let failed = || Fault::tss("import a key");
    let coordinate = |at: usize| EccParameter::try_from(key.point[at..at + 32].to_vec());
    let point = EccPoint::new(
        coordinate(1).map_err(failed())?,
        coordinate(33).map_err(failed())?,
    );
    let public = template::imported_key(point).map_err(failed())?;
    let marshalled = public.marshall().map_err(failed())?;
    let name = [&[0x00, 0x0b], digest(&SHA256, &marshalled).as_ref()].concat();

    let mut wrapping_key = Zeroizing::new([0; 16]);
    rand::fill(wrapping_key.as_mut_slice()).map_err(|_| VaultError::MalformedImport)?;
    let duplicate = inner_wrapper(&key.scalar, &name, &wrapping_key);
    Ok(Wrapped {
        encryption_key: Data::try_from(wrapping_key.to_vec()).map_err(failed())?,
        public,
        duplicate: Private::try_from(duplicate).map_err(failed())?,
    })
}

/// `CFB(key, 0, TPM2B(SHA-256(sensitive ‖ name)) ‖ sensitive)`, with `sensitive` a TPM2B_SENSITIVE of an ECC key.
fn inner_wrapper(scalar: &[u8; 32], name: &[u8], key: &[u8; 16]) -> Vec<u8> {
    // TPMT_SENSITIVE (Part 2 section 12.3.2.4): type ECC, empty authValue, empty seedValue, the scalar as TPM2B.
    const HEAD: [u8; 10] = [0, 40, 0x00, 0x23, 0, 0, 0, 0, 0, 32];
    let mut hashed = Zeroizing::new([0; 42 + 34]);
    hashed[..10].copy_from_slice(&HEAD);
    hashed[10..42].copy_from_slice(scalar);
    hashed[42..].copy_from_slice(name);
    let mut wrapper = vec![0; 34 + 42];
    wrapper[1] = 32;
    wrapper[2..34].copy_from_slice(digest(&SHA256, hashed.as_slice()).as_ref());
    wrapper[34..].copy_from_slice(&hashed[..42]);
    // Encrypted in place: the clear text exists once, in this buffer, and is overwritten.
    cfb_mode::Encryptor::<Aes128>::new(key.into(), &[0; 16].into()).encrypt(&mut wrapper);
    wrapper
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pkcs8_key_gives_the_scalar_and_point_it_holds() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("generate");
        let der = pair.to_pkcs8v1().expect("encode");
        let key = ImportKey::from_private_key_der(der.as_ref()).expect("P-256");
        assert_eq!(key.point.as_slice(), pair.public_key().as_ref());
        ImportKey::new(key.scalar.clone(), key.point).expect("belongs together");
    }

    #[test]
    fn a_point_of_another_key_and_rubbish_are_refused() {
        let point = |pair: EcdsaKeyPair| -> [u8; 65] {
            pair.public_key().as_ref().try_into().expect("65 bytes")
        };
        let other =
            point(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("generate"));
        ImportKey::new(Zeroizing::new([3; 32]), other).expect_err("another key's point");
        ImportKey::new(Zeroizing::new([0; 32]), [4; 65]).expect_err("zero");
        ImportKey::from_private_key_der(b"not a key").expect_err("rubbish");
    }

    #[test]
    fn the_printed_form_shows_nothing() {
        let key = ImportKey {
            scalar: Zeroizing::new([3; 32]),
            point: [4; 65],
        };
        assert_eq!(format!("{key:?}"), "ImportKey(..)");
    }
}
