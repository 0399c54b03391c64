//! A file as sealed chunks, each of which says where it belongs and whether it is the last.
//!
//! The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance", CRYPTO 2015, §7): the nonce is a random prefix, the chunk's number and one byte that is 1 for the
//! last. A chunk that is left out, moved, repeated or taken from another file does not open, nor does a file that was
//! cut off. The cipher is AES-256-GCM-SIV (RFC 8452): after a power cut the same chunk may be sealed anew under the same
//! nonce, and then this gives away at most that the bytes are equal.
//!
//! It does not touch the disk and keeps no key.

use aws_lc_rs::aead::{
    AES_256_GCM_SIV, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::rand;
use zeroize::{Zeroize, Zeroizing};

use crate::Error;

/// Readable bytes in each chunk but the last.
pub(crate) const CHUNK: usize = 64 * 1024;
/// What sealing adds to a chunk.
const TAG: usize = MAX_TAG_LEN;
/// Sealed bytes of each chunk but the last.
pub(crate) const SEALED: usize = CHUNK + TAG;

const KEY: usize = 32;
const PREFIX: usize = 7;
const PURPOSE: &[u8] = b"a chunk of an attachment";

/// The key of one file, made for it and used for nothing else, with the prefix of its nonces.
pub(crate) struct FileKey(Zeroizing<[u8; KEY + PREFIX]>);

impl FileKey {
    pub(crate) fn generate() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; KEY + PREFIX]);
        rand::fill(bytes.as_mut_slice()).map_err(|_| Error::Cryptography)?;
        Ok(Self(bytes))
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; KEY + PREFIX]);
        if bytes.len() != key.len() {
            return Err(Error::Damaged);
        }
        key.copy_from_slice(bytes);
        Ok(Self(key))
    }

    /// The bytes, to be sealed under the person's key and nothing else.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub(crate) fn cipher(&self) -> Result<ChunkCipher, Error> {
        let (key, prefix) = self
            .0
            .split_first_chunk::<KEY>()
            .ok_or(Error::Cryptography)?;
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).map_err(|_| Error::Cryptography)?;
        Ok(ChunkCipher {
            key: LessSafeKey::new(key),
            prefix: prefix.try_into().map_err(|_| Error::Cryptography)?,
        })
    }
}

/// Seals and opens the chunks of one file.
pub(crate) struct ChunkCipher {
    key: LessSafeKey,
    prefix: [u8; PREFIX],
}

impl ChunkCipher {
    fn nonce(&self, number: u32, last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..PREFIX].copy_from_slice(&self.prefix);
        nonce[PREFIX..NONCE_LEN - 1].copy_from_slice(&number.to_be_bytes());
        nonce[NONCE_LEN - 1] = u8::from(last);
        Nonce::assume_unique_for_key(nonce)
    }

    pub(crate) fn seal(&self, number: u32, last: bool, plain: &[u8]) -> Result<Vec<u8>, Error> {
        // Of its final size from the start: growing would leave the readable bytes behind.
        let mut sealed = Vec::with_capacity(plain.len() + TAG);
        sealed.extend_from_slice(plain);
        let tag = self.key.seal_in_place_separate_tag(
            self.nonce(number, last),
            Aad::from(PURPOSE),
            &mut sealed,
        );
        let Ok(tag) = tag else {
            sealed.zeroize();
            return Err(Error::Cryptography);
        };
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// The readable bytes of a chunk. `None`: it is not this chunk of this file.
    pub(crate) fn open(
        &self,
        number: u32,
        last: bool,
        sealed: Vec<u8>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = Zeroizing::new(sealed);
        let length = self
            .key
            .open_in_place(
                self.nonce(number, last),
                Aad::from(PURPOSE),
                plain.as_mut_slice(),
            )
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain)
    }
}

/// Where the chunks of a file of `size` readable bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    size: u64,
}

impl Layout {
    /// `None` for a size that no attachment has.
    pub(crate) fn of(size: u64) -> Option<Self> {
        (size <= CHUNK as u64 * u64::from(u32::MAX)).then_some(Self { size })
    }

    /// How many chunks; an empty file has one, so that its end is sealed too.
    pub(crate) fn chunks(self) -> u32 {
        u32::try_from(self.size.div_ceil(CHUNK as u64).max(1)).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_last(self, number: u32) -> bool {
        number + 1 == self.chunks()
    }

    /// Readable bytes in this chunk.
    pub(crate) fn length(self, number: u32) -> usize {
        let before = u64::from(number) * CHUNK as u64;
        usize::try_from(self.size.saturating_sub(before).min(CHUNK as u64)).unwrap_or(CHUNK)
    }

    /// Place and length of this chunk in the sealed file.
    pub(crate) fn sealed(self, number: u32) -> (u64, usize) {
        (u64::from(number) * SEALED as u64, self.length(number) + TAG)
    }

    /// How many whole chunks, the last one never among them, a file of `length` sealed bytes begins with.
    pub(crate) fn whole_chunks(self, length: u64) -> u32 {
        let whole = length / SEALED as u64;
        u32::try_from(whole)
            .unwrap_or(u32::MAX)
            .min(self.chunks() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Seals `plain` whole.
    fn sealed(key: &FileKey, plain: &[u8]) -> Vec<Vec<u8>> {
        let (cipher, layout) = (
            key.cipher().unwrap(),
            Layout::of(plain.len() as u64).unwrap(),
        );
        (0..layout.chunks())
            .map(|number| {
                let from = number as usize * CHUNK;
                let plain = &plain[from..from + layout.length(number)];
                cipher.seal(number, layout.is_last(number), plain).unwrap()
            })
            .collect()
    }

    /// What a reader gets that knows the size.
    fn opened(key: &FileKey, size: u64, chunks: &[Vec<u8>]) -> Option<Vec<u8>> {
        let (cipher, layout) = (key.cipher().unwrap(), Layout::of(size)?);
        let mut plain = Vec::new();
        for number in 0..layout.chunks() {
            let chunk = chunks.get(number as usize)?.clone();
            plain.extend_from_slice(&cipher.open(number, layout.is_last(number), chunk)?);
        }
        (plain.len() as u64 == size).then_some(plain)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn what_was_sealed_opens_whatever_its_size(size in 0..4 * CHUNK, byte: u8) {
            let key = FileKey::generate().unwrap();
            let plain = vec![byte; size];
            let chunks = sealed(&key, &plain);
            prop_assert_eq!(opened(&key, size as u64, &chunks), Some(plain));
        }

        #[test]
        fn a_chunk_moved_repeated_or_left_out_does_not_open(
            size in CHUNK + 1..5 * CHUNK, one in 0_usize..5, other in 0_usize..5,
        ) {
            let key = FileKey::generate().unwrap();
            let whole = sealed(&key, &vec![7; size]);
            let (one, other) = (one % whole.len(), other % whole.len());
            prop_assume!(one != other);
            let mut moved = whole.clone();
            moved.swap(one, other);
            prop_assert_eq!(opened(&key, size as u64, &moved), None);
            let mut repeated = whole.clone();
            repeated[one] = whole[other].clone();
            prop_assert_eq!(opened(&key, size as u64, &repeated), None);
            let mut left_out = whole.clone();
            left_out.remove(one);
            prop_assert_eq!(opened(&key, size as u64, &left_out), None);
        }

        #[test]
        fn a_file_that_was_cut_off_or_grown_does_not_open(chunks in 2_usize..5, fewer in 1_usize..4) {
            let key = FileKey::generate().unwrap();
            let size = chunks * CHUNK;
            let whole = sealed(&key, &vec![7; size]);
            let left = chunks.saturating_sub(fewer).max(1);
            // Even to a reader who is told the smaller size.
            prop_assert_eq!(opened(&key, (left * CHUNK) as u64, &whole), None);
            prop_assert_eq!(opened(&key, (size + 1) as u64, &whole), None);
        }

        #[test]
        fn every_changed_byte_is_noticed(size in 0..2 * CHUNK, at: usize, bit in 0..8) {
            let key = FileKey::generate().unwrap();
            let mut chunks = sealed(&key, &vec![1; size]);
            let all: usize = chunks.iter().map(Vec::len).sum();
            let mut at = at % all;
            for chunk in &mut chunks {
                if at < chunk.len() {
                    chunk[at] ^= 1_u8 << bit;
                    break;
                }
                at -= chunk.len();
            }
            prop_assert_eq!(opened(&key, size as u64, &chunks), None);
        }

        #[test]
        fn the_layout_covers_the_file_without_gaps(size in 0..u64::from(u32::MAX)) {
            let layout = Layout::of(size).unwrap();
            let last = layout.chunks() - 1;
            let readable = u64::from(last) * CHUNK as u64 + layout.length(last) as u64;
            prop_assert_eq!(readable, size);
            let (at, length) = layout.sealed(last);
            prop_assert_eq!(layout.whole_chunks(at + length as u64), last);
        }
    }

    #[test]
    fn a_chunk_of_another_file_does_not_open() {
        let (one, other) = (FileKey::generate().unwrap(), FileKey::generate().unwrap());
        let chunks = sealed(&one, b"a file");
        assert_eq!(opened(&other, 6, &chunks), None);
    }

    #[test]
    fn the_same_chunk_sealed_again_is_the_same() {
        let key = FileKey::generate().unwrap();
        let cipher = key.cipher().unwrap();
        let again = |plain: &[u8]| cipher.seal(3, false, plain).unwrap();
        assert_eq!(
            again(b"before the power cut"),
            again(b"before the power cut")
        );
        assert_ne!(again(b"one"), again(b"two"));
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert!(FileKey::from_slice(&[0; KEY]).is_err());
        assert!(FileKey::from_slice(&[0; KEY + PREFIX]).is_ok());
    }
}
