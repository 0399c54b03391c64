//! Signing keys: made here, kept as PKCS#8 encrypted under a passphrase (RFC 5958, scrypt, AES-256), used and forgotten.
//!
//! It keeps no passphrase and writes no key in the clear. `openssl pkey -in FILE` opens the same files.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use gateway_tuf::form::canonical;
use pkcs8::der::pem::encode_string;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo, SecretDocument};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::ReleaseError;

const PEM_LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// DER in front of the point of a P-256 public key (RFC 5480 §2.1.1.1).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256: what smart cards and key services speak.
    #[default]
    P256,
    /// Ed25519.
    Ed25519,
}

/// A passphrase, erased when it is dropped.
pub struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// Takes a passphrase of at least twelve characters.
    ///
    /// # Errors
    /// [`ReleaseError::ShortPassphrase`].
    pub fn new(text: Zeroizing<String>) -> Result<Self, ReleaseError> {
        if text.chars().count() < 12 {
            return Err(ReleaseError::ShortPassphrase);
        }
        Ok(Self(text))
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What trying one passphrase costs: scrypt with N = 2^`log_n`, r = 8 and `p` (RFC 7914).
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    log_n: u8,
    p: u32,
}

impl Cost {
    /// For keys that protect something: 16 MiB five times over. More memory at once would be better still, but OpenSSL refuses
    /// to open a file that takes more than 32 MiB, and a key must outlive this tool.
    pub const KEEPING: Self = Self { log_n: 14, p: 5 };
    /// For keys that protect nothing: those of a reference city.
    pub const TESTING: Self = Self { log_n: 8, p: 1 };
}

/// A public key as TUF metadata holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// `ecdsa` or `ed25519`.
    pub keytype: String,
    /// `ecdsa-sha2-nistp256` or `ed25519`.
    pub scheme: String,
    /// The key.
    pub keyval: KeyValue,
}

/// See [`PublicKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// PEM for ECDSA, hexadecimal for Ed25519.
    pub public: String,
}

impl PublicKey {
    /// The key's id: SHA-256 of its canonical form, hexadecimal, as securesystemslib makes it.
    #[must_use]
    pub fn id(&self) -> String {
        let value = json!({
            "keytype": self.keytype,
            "scheme": self.scheme,
            "keyval": { "public": self.keyval.public },
        });
        let canonical = canonical(&value).unwrap_or_default();
        sha256(&canonical)
    }

    /// Reads the `.pub` file beside a key.
    ///
    /// # Errors
    /// When it is not there or not a public key.
    pub fn read(path: &Path) -> Result<Self, ReleaseError> {
        let text =
            std::fs::read(path).map_err(|error| ReleaseError::File(path.to_owned(), error))?;
        serde_json::from_slice(&text).map_err(|_| ReleaseError::NoKey(path.to_owned()))
    }

    /// Writes the file that is given to whoever plans the roles. It is no secret.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ReleaseError> {
        let text = serde_json::to_string_pretty(self).map_err(|_| ReleaseError::Cryptography)?;
        std::fs::write(path, text + "\n")
            .map_err(|error| ReleaseError::File(path.to_owned(), error))
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key that signs, in memory for as long as it is used.
pub struct SecretKey {
    pair: Pair,
    document: SecretDocument,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", &self.public().id()[..8])
    }
}

impl SecretKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`ReleaseError::Cryptography`] without randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self, ReleaseError> {
        let random = SystemRandom::new();
        let document = match algorithm {
            Algorithm::P256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            }
            // Version 1, without the public key: what every other program reads.
            Algorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&random),
        }
        .map_err(|_| ReleaseError::Cryptography)?;
        let document =
            SecretDocument::try_from(document.as_ref()).map_err(|_| ReleaseError::Cryptography)?;
        Self::from_document(document).ok_or(ReleaseError::Cryptography)
    }

    fn from_document(document: SecretDocument) -> Option<Self> {
        let der = document.as_bytes();
        let pair = if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
        {
            Pair::P256(pair)
        } else {
            Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?)
        };
        Some(Self { pair, document })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let (keytype, scheme, public) = match &self.pair {
            Pair::P256(pair) => {
                let mut der = P256_SPKI.to_vec();
                der.extend_from_slice(pair.public_key().as_ref());
                let pem = encode_string("PUBLIC KEY", LineEnding::LF, &der);
                ("ecdsa", "ecdsa-sha2-nistp256", pem.unwrap_or_default())
            }
            Pair::Ed25519(pair) => ("ed25519", "ed25519", hex(pair.public_key().as_ref())),
        };
        PublicKey {
            keytype: keytype.to_owned(),
            scheme: scheme.to_owned(),
            keyval: KeyValue { public },
        }
    }

    /// Signs, in hexadecimal as TUF writes signatures.
    ///
    /// # Errors
    /// [`ReleaseError::Cryptography`] without randomness.
    pub fn sign(&self, bytes: &[u8]) -> Result<String, ReleaseError> {
        match &self.pair {
            Pair::P256(pair) => pair
                .sign(&SystemRandom::new(), bytes)
                .map(|signature| hex(signature.as_ref()))
                .map_err(|_| ReleaseError::Cryptography),
            Pair::Ed25519(pair) => Ok(hex(pair.sign(bytes).as_ref())),
        }
    }

    /// Writes the key, encrypted, readable by its owner only. Never over an existing file.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn write(
        &self,
        path: &Path,
        passphrase: &Passphrase,
        cost: Cost,
    ) -> Result<(), ReleaseError> {
        let pem = self.encrypted(passphrase, cost)?;
        let failed = |error: std::io::Error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                ReleaseError::Exists(path.to_owned())
            } else {
                ReleaseError::File(path.to_owned(), error)
            }
        };
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        file.write_all(pem.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    fn encrypted(
        &self,
        passphrase: &Passphrase,
        cost: Cost,
    ) -> Result<Zeroizing<String>, ReleaseError> {
        let failed = |_| ReleaseError::Cryptography;
        let mut salt = [0; 16];
        let mut iv = [0; 16];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| ReleaseError::Cryptography)?;
        aws_lc_rs::rand::fill(&mut iv).map_err(|_| ReleaseError::Cryptography)?;
        let parameters = scrypt::Params::new(cost.log_n, 8, cost.p, 32)
            .ok()
            .and_then(|kdf| pbes2::Parameters::scrypt_aes256cbc(kdf, &salt, &iv).ok())
            .ok_or(ReleaseError::Cryptography)?;
        let encrypted = PrivateKeyInfo::try_from(self.document.as_bytes())
            .map_err(failed)?
            .encrypt_with_params(parameters, passphrase.as_bytes())
            .map_err(failed)?;
        encrypted
            .to_pem(PEM_LABEL, LineEnding::LF)
            .map_err(|_| ReleaseError::Cryptography)
    }

    /// Opens a key file.
    ///
    /// # Errors
    /// [`ReleaseError::NoKey`], [`ReleaseError::WrongPassphrase`].
    pub fn read(path: &Path, passphrase: &Passphrase) -> Result<Self, ReleaseError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ReleaseError::File(path.to_owned(), error))?;
        let no_key = || ReleaseError::NoKey(path.to_owned());
        let (label, document) = SecretDocument::from_pem(&text).map_err(|_| no_key())?;
        if label != PEM_LABEL {
            return Err(no_key());
        }
        let document = EncryptedPrivateKeyInfo::try_from(document.as_bytes())
            .map_err(|_| no_key())?
            .decrypt(passphrase.as_bytes())
            .map_err(|_| ReleaseError::WrongPassphrase(path.to_owned()))?;
        Self::from_document(document).ok_or_else(no_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
    }

    #[test]
    fn a_key_comes_back_with_its_passphrase_only() {
        let folder = tempfile::tempdir().unwrap();
        for algorithm in [Algorithm::P256, Algorithm::Ed25519] {
            let path = folder.path().join(format!("{algorithm:?}.pem"));
            let key = SecretKey::generate(algorithm).unwrap();
            let right = passphrase("correct horse battery");
            key.write(&path, &right, Cost::TESTING).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
            let again = SecretKey::read(&path, &right).unwrap();
            assert_eq!(again.public(), key.public());
            let wrong = SecretKey::read(&path, &passphrase("incorrect horse")).unwrap_err();
            assert!(matches!(wrong, ReleaseError::WrongPassphrase(_)));
        }
    }

    #[test]
    fn a_key_is_never_written_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = SecretKey::generate(Algorithm::P256).unwrap();
        let phrase = passphrase("correct horse battery");
        key.write(&path, &phrase, Cost::TESTING).unwrap();
        let again = key.write(&path, &phrase, Cost::TESTING).unwrap_err();
        assert!(matches!(again, ReleaseError::Exists(_)));
    }

    #[test]
    fn a_short_passphrase_is_refused() {
        let short = Passphrase::new(Zeroizing::new("elevenchars".to_owned()));
        assert!(matches!(short, Err(ReleaseError::ShortPassphrase)));
    }

    #[test]
    fn neither_key_nor_passphrase_show_in_debug_output() {
        let key = SecretKey::generate(Algorithm::Ed25519).unwrap();
        assert!(format!("{key:?}").len() < 24);
        let phrase = passphrase("correct horse battery");
        assert_eq!(format!("{phrase:?}"), "Passphrase(…)");
    }
}
