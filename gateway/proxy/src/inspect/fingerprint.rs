//! What a body is recognised by: a keyed BLAKE3 hash under a secret of this process (decision 0008).
//!
//! It does not say that a body is clean, and a fingerprint means nothing to another process or after a restart.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::StartError;

/// 256 bits; whoever does not know the key cannot even look for two bodies with the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Eight bytes of it, as good as random.
    pub(crate) fn place(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(first)
    }
}

/// The secret.
#[derive(Clone)]
pub(crate) struct Key([u8; 32]);

impl Key {
    pub(crate) fn new() -> Result<Self, StartError> {
        let mut key = [0; 32];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|_| StartError::Random)?;
        Ok(Self(key))
    }

    #[cfg(test)]
    pub(crate) const fn fixed() -> Self {
        Self([3; 32])
    }

    /// The same body read in another way is another body: a key of its own for each way of reading.
    pub(crate) fn for_reading(&self, reading: &[u8]) -> Self {
        Self(*blake3::keyed_hash(&self.0, reading).as_bytes())
    }

    /// Of a body in one piece.
    pub(crate) fn of(&self, body: &[u8]) -> Fingerprint {
        Fingerprint(*blake3::keyed_hash(&self.0, body).as_bytes())
    }

    /// Of a body in many pieces.
    pub(crate) fn begin(&self) -> Hashing {
        Hashing(Box::new(blake3::Hasher::new_keyed(&self.0)))
    }
}

/// A fingerprint that is being taken. Boxed: the state is two kilobytes, and small bodies need none.
pub(crate) struct Hashing(Box<blake3::Hasher>);

impl Hashing {
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub(crate) fn end(&self) -> Fingerprint {
        Fingerprint(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_whole_have_the_same_fingerprint_under_one_key_only() {
        let (key, other) = (Key::new().unwrap(), Key::new().unwrap());
        let body = vec![7; 100_000];
        let mut hashing = key.begin();
        for piece in body.chunks(777) {
            hashing.add(piece);
        }
        assert!(hashing.end() == key.of(&body));
        assert!(other.of(&body) != key.of(&body));
        assert!(key.for_reading(b"gzip").of(&body) != key.of(&body));
    }
}
