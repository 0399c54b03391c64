//! Random tokens, keyed look-up hashes and salted password hashes, all from aws-lc-rs.
//!
//! Does not keep secrets itself: callers store only what these functions return.

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::num::NonZeroU32;

/// PBKDF2 rounds for passwords and access codes. Far below what a public service should use: every end-to-end test
/// signs in, and the data is fictional.
const ROUNDS: NonZeroU32 = NonZeroU32::new(20_000).expect("twenty thousand is not zero");

/// Length in bytes of salts and of stored hashes.
const HASH_BYTES: usize = 32;

/// A salted PBKDF2-HMAC-SHA-256 hash of a password or an access code.
#[derive(Clone)]
pub struct SaltedHash {
    /// Random salt, 32 bytes.
    pub salt: Vec<u8>,
    /// The derived bytes, 32 of them.
    pub hash: Vec<u8>,
}

impl fmt::Debug for SaltedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedHash(…)")
    }
}

impl SaltedHash {
    /// Hashes `secret` under a new random salt.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        let salt = random::<HASH_BYTES>().to_vec();
        let mut hash = vec![0; HASH_BYTES];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            &salt,
            secret.as_bytes(),
            &mut hash,
        );
        Self { salt, hash }
    }

    /// A hash that no secret matches, to spend the same time on an unknown name as on a wrong secret.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self {
            salt: vec![0; HASH_BYTES],
            hash: vec![0; HASH_BYTES],
        }
    }

    /// Whether `secret` is the one that was hashed; constant time in the comparison.
    #[must_use]
    pub fn matches(&self, secret: &str) -> bool {
        pbkdf2::verify(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            &self.salt,
            secret.as_bytes(),
            &self.hash,
        )
        .is_ok()
    }
}

/// The city's key for hashes that must be found again (certificate numbers), kept beside the database.
pub struct LookupKey(hmac::Key);

impl fmt::Debug for LookupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LookupKey(…)")
    }
}

impl LookupKey {
    /// Takes the key's bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The keyed hash under which a certificate number is stored. Hyphens are not part of a number.
    #[must_use]
    pub fn of_number(&self, number: &str) -> Vec<u8> {
        hmac::sign(&self.0, bare(number).as_bytes())
            .as_ref()
            .to_vec()
    }
}

/// A number or an access code without the hyphens it is printed with.
#[must_use]
pub fn bare(written: &str) -> zeroize::Zeroizing<String> {
    zeroize::Zeroizing::new(written.chars().filter(|c| *c != '-').collect())
}

/// `N` bytes from the system's random number generator.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random number generator answers");
    bytes
}

/// A URL-safe token of 32 random bytes.
#[must_use]
pub fn token() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

/// A short code without letters that look alike, which a person can read out over the telephone.
#[must_use]
pub fn support_code() -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let code: String = random::<8>()
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
        .collect();
    format!("{}-{}", &code[..4], &code[4..])
}

/// A new opaque identifier with a letter that says what it names, such as `n-…` for a note.
#[must_use]
pub fn identifier(kind: char) -> String {
    format!("{kind}-{}", hex(&random::<8>()))
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String succeeds");
            text
        })
}
