//! What a body is recognised by: a universal hash of each block under a secret of this process, and a keyed BLAKE3 hash over
//! all of those (decision 0008).
//!
//! It does not say that a body is clean, and a fingerprint means nothing to another process or after a restart.

use std::sync::Arc;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

use crate::StartError;

/// What is hashed at once. Short, because what arrives in other pieces is copied together as far as it fills a block.
const BLOCK: usize = 4096;
/// The bytes of a block's tag.
const TAG: usize = 16;

/// 256 bits; whoever does not know the key cannot even look for two bodies with the same one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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
pub(crate) struct Key {
    blocks: Arc<LessSafeKey>,
    whole: [u8; 32],
}

impl Key {
    pub(crate) fn new() -> Result<Self, StartError> {
        let random = SystemRandom::new();
        let (mut blocks, mut whole) = ([0; 32], [0; 32]);
        for key in [&mut blocks, &mut whole] {
            random.fill(key).map_err(|_| StartError::Random)?;
        }
        Self::of_secrets(&blocks, whole).ok_or(StartError::Random)
    }

    fn of_secrets(blocks: &[u8; 32], whole: [u8; 32]) -> Option<Self> {
        let blocks = UnboundKey::new(&AES_256_GCM, blocks).ok()?;
        Some(Self {
            blocks: Arc::new(LessSafeKey::new(blocks)),
            whole,
        })
    }

    #[cfg(test)]
    pub(crate) fn fixed() -> Self {
        Self::of_secrets(&[4; 32], [3; 32]).unwrap()
    }

    /// The same body read in another way is another body: a key of its own for each way of reading.
    pub(crate) fn for_reading(&self, reading: &[u8]) -> Self {
        Self {
            blocks: Arc::clone(&self.blocks),
            whole: *blake3::keyed_hash(&self.whole, reading).as_bytes(),
        }
    }

    /// GMAC with a nonce that never changes, which makes it a universal hash and nothing more: whoever saw tags could compute
    /// the key. Nobody does, they are only ever hashed.
    fn block(&self, block: &[u8]) -> [u8; TAG] {
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let sealed = self
            .blocks
            .seal_in_place_separate_tag(nonce, Aad::from(block), &mut []);
        let mut tag = [0; TAG];
        tag.copy_from_slice(
            sealed
                .expect("a block is shorter than what AES-GCM authenticates")
                .as_ref(),
        );
        tag
    }

    /// Of a body in one piece.
    pub(crate) fn of(&self, body: &[u8]) -> Fingerprint {
        if body.len() <= BLOCK {
            let mut short = [0; TAG + 8];
            short[..TAG].copy_from_slice(&self.block(body));
            short[TAG..].copy_from_slice(&(body.len() as u64).to_le_bytes());
            return Fingerprint(*blake3::keyed_hash(&self.whole, &short).as_bytes());
        }
        let mut hashing = self.begin();
        hashing.add(body);
        hashing.end()
    }

    /// Of a body in many pieces.
    pub(crate) fn begin(&self) -> Hashing {
        Hashing(Box::new(State {
            key: self.clone(),
            tags: blake3::Hasher::new_keyed(&self.whole),
            length: 0,
            begun: [0; BLOCK],
            filled: 0,
        }))
    }
}

/// A fingerprint that is being taken. Boxed: the state is some kilobytes, and small bodies need none.
pub(crate) struct Hashing(Box<State>);

struct State {
    key: Key,
    tags: blake3::Hasher,
    length: u64,
    /// A block that is not there as a whole, or may be the last.
    begun: [u8; BLOCK],
    filled: usize,
}

impl Hashing {
    pub(crate) fn add(&mut self, mut piece: &[u8]) {
        let state = &mut *self.0;
        state.length += piece.len() as u64;
        if state.filled > 0 {
            let (now, later) = piece.split_at(piece.len().min(BLOCK - state.filled));
            state.begun[state.filled..][..now.len()].copy_from_slice(now);
            state.filled += now.len();
            piece = later;
            if state.filled < BLOCK {
                return;
            }
            state.tags.update(&state.key.block(&state.begun));
            state.filled = 0;
        }
        let (blocks, rest) = piece.as_chunks::<BLOCK>();
        for block in blocks {
            state.tags.update(&state.key.block(block));
        }
        state.begun[..rest.len()].copy_from_slice(rest);
        state.filled = rest.len();
    }

    pub(crate) fn end(&self) -> Fingerprint {
        let state = &*self.0;
        let mut tags = state.tags.clone();
        // A body of whole blocks has no last one that is shorter; but one without any has that.
        if state.filled > 0 || state.length == 0 {
            tags.update(&state.key.block(&state.begun[..state.filled]));
        }
        tags.update(&state.length.to_le_bytes());
        Fingerprint(*tags.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_whole_have_the_same_fingerprint_under_one_key_only() {
        let (key, other) = (Key::new().unwrap(), Key::new().unwrap());
        let long: Vec<u8> = (0_u32..25_000).flat_map(u32::to_le_bytes).collect();
        for length in [0, 1, 777, 4_095, 4_096, 4_097, 8_192, 12_000, 100_000] {
            let body = &long[..length];
            for size in [1, 777, 4_096, 5_000, 100_000] {
                let mut hashing = key.begin();
                for piece in body.chunks(size) {
                    hashing.add(piece);
                }
                assert!(hashing.end() == key.of(body), "{length} in {size}");
            }
            assert!(other.of(body) != key.of(body));
            assert!(key.for_reading(b"gzip").of(body) != key.of(body));
        }
    }

    #[test]
    fn every_byte_its_place_and_the_length_count() {
        let key = Key::fixed();
        let body = vec![0; 3 * BLOCK];
        let print = key.of(&body);
        for place in [0, 15, 16, BLOCK - 1, BLOCK, 2 * BLOCK, 3 * BLOCK - 1] {
            let mut other = body.clone();
            other[place] = 1;
            assert!(key.of(&other) != print, "{place}");
            let mut swapped = other.clone();
            swapped.rotate_left(BLOCK);
            assert!(key.of(&swapped) != key.of(&other), "{place}");
        }
        for length in [0, 1, BLOCK, 2 * BLOCK, 3 * BLOCK - 1] {
            assert!(key.of(&body[..length]) != print);
        }
    }
}
