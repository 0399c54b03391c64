//! The keys: one for the store, one for each person, and what is sealed under which.
//!
//! It does not store keys. The store key comes from outside, where it is sealed to the TPM.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};
use zeroize::{Zeroize, Zeroizing};

use crate::Error;

const KEY: usize = 32;

/// The root of all keys of one store. Whoever has it and the files can read them.
pub struct StoreKey(Zeroizing<[u8; KEY]>);

impl StoreKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`Error::Cryptography`] when there is no randomness.
    pub fn generate() -> Result<Self, Error> {
        random().map(Self)
    }

    /// Takes a key over, as it was unsealed; `None` unless it has 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY]);
        (bytes.len() == KEY).then(|| {
            key.copy_from_slice(bytes);
            Self(key)
        })
    }

    /// The bytes, to be sealed and nothing else.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

/// A keyed hash of an id: finds a row without telling whose it is.
pub(crate) type Tag = [u8; 32];

/// What an id names; two things of different kinds with the same id have different tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Person,
    Note,
    Staff,
    Notice,
    Attachment,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Person => b"person",
            Self::Note => b"note",
            Self::Staff => b"staff",
            Self::Notice => b"notice",
            Self::Attachment => b"attachment",
        }
    }
}

/// The keys that follow from the store key.
pub(crate) struct Keyring {
    wrap: Cipher,
    general: Cipher,
    index: hmac::Key,
}

impl Keyring {
    pub(crate) fn new(store: &StoreKey) -> Result<Self, Error> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"gateway-notes").extract(store.as_bytes());
        let derive = |label: &[u8]| {
            let mut key = Zeroizing::new([0; KEY]);
            root.expand(&[label], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(key.as_mut_slice()))
                .map_err(|_| Error::Cryptography)?;
            Ok::<_, Error>(key)
        };
        let wrap = derive(b"wrap person keys")?;
        let general = derive(b"what concerns no person")?;
        let index = derive(b"index")?;
        Ok(Self {
            wrap: Cipher::new(&wrap)?,
            general: Cipher::new(&general)?,
            index: hmac::Key::new(hmac::HMAC_SHA256, index.as_slice()),
        })
    }

    pub(crate) fn tag(&self, kind: Kind, id: &str) -> Tag {
        let mut context = hmac::Context::with_key(&self.index);
        context.update(kind.label());
        context.update(&[0]);
        context.update(id.as_bytes());
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// The cipher for what concerns no person: staff, notices, the facility.
    pub(crate) const fn general(&self) -> &Cipher {
        &self.general
    }

    /// A new key for one person, and the form in which it is stored.
    pub(crate) fn new_person(&self, person: &Tag) -> Result<(Cipher, Vec<u8>), Error> {
        let key = random()?;
        let wrapped = self
            .wrap
            .seal(&identity(b"person key", &[person]), key.as_slice())?;
        Ok((Cipher::new(&key)?, wrapped))
    }

    pub(crate) fn person(&self, person: &Tag, wrapped: &[u8]) -> Result<Cipher, Error> {
        let key = self
            .wrap
            .open(&identity(b"person key", &[person]), wrapped)?;
        let mut bytes = Zeroizing::new([0; KEY]);
        if key.len() != KEY {
            return Err(Error::Damaged);
        }
        bytes.copy_from_slice(&key);
        Cipher::new(&bytes)
    }
}

/// AES-256-GCM under one key. Sealed form: nonce (12 random bytes), ciphertext, tag (16 bytes).
///
/// Random nonces are safe for 2^32 messages under a key (NIST SP 800-38D §8.3); a person has some thousand notes.
/// The cipher's key and those of [`Cipher::derive`] come from the given one by HKDF-Expand under different labels.
pub(crate) struct Cipher {
    sealing: LessSafeKey,
    root: Zeroizing<[u8; KEY]>,
}

impl Cipher {
    pub(crate) fn new(key: &[u8; KEY]) -> Result<Self, Error> {
        let sealing = expand(key, b"seal")?;
        let sealing =
            UnboundKey::new(&AES_256_GCM, sealing.as_slice()).map_err(|_| Error::Cryptography)?;
        Ok(Self {
            sealing: LessSafeKey::new(sealing),
            root: Zeroizing::new(*key),
        })
    }

    /// A cipher for one use of its own under the same key: whoever destroys the key destroys this too. Labels are
    /// constants of this crate; a variable part is separated by a zero byte.
    pub(crate) fn derive(&self, label: &[u8]) -> Result<Self, Error> {
        Self::new(&*self.derive_key(label)?)
    }

    /// As [`Cipher::derive`], the bare key: for what has a construction of its own, such as a stream of chunks.
    pub(crate) fn derive_key(&self, label: &[u8]) -> Result<Zeroizing<[u8; KEY]>, Error> {
        expand(&self.root, &[b"derive\0", label].concat())
    }

    pub(crate) fn seal(&self, identity: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| Error::Cryptography)?;
        // Of its final size from the start: growing would leave the readable bytes behind.
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + MAX_TAG_LEN);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self.sealing.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(identity),
            &mut sealed[NONCE_LEN..],
        );
        let Ok(tag) = tag else {
            sealed.zeroize();
            return Err(Error::Cryptography);
        };
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    pub(crate) fn open(&self, identity: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (nonce, ciphertext) = sealed
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(Error::Damaged)?;
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self
            .sealing
            .open_in_place(nonce, Aad::from(identity), plain.as_mut_slice())
            .map_err(|_| Error::Damaged)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// What a sealed row is bound to, so that no row can stand in for another: its kind and the tags it belongs to.
pub(crate) fn identity(kind: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut identity = kind.to_vec();
    for part in parts {
        identity.push(0);
        identity.extend_from_slice(part);
    }
    identity
}

/// HKDF-Expand (RFC 5869 section 2.3); every key here is uniformly random, so nothing needs to be extracted first.
fn expand(key: &[u8; KEY], label: &[u8]) -> Result<Zeroizing<[u8; KEY]>, Error> {
    let mut derived = Zeroizing::new([0; KEY]);
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, key)
        .expand(&[label], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(derived.as_mut_slice()))
        .map_err(|_| Error::Cryptography)?;
    Ok(derived)
}

pub(crate) fn random() -> Result<Zeroizing<[u8; KEY]>, Error> {
    let mut bytes = Zeroizing::new([0; KEY]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| Error::Cryptography)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_cannot_stand_in_for_another() {
        let keys = Keyring::new(&StoreKey::generate().unwrap()).unwrap();
        let tag = keys.tag(Kind::Person, "p1");
        let (cipher, wrapped) = keys.new_person(&tag).unwrap();
        let sealed = cipher.seal(b"note 1", b"text").unwrap();
        let reopened = keys.person(&tag, &wrapped).unwrap();
        assert_eq!(
            reopened.open(b"note 1", &sealed).unwrap().as_slice(),
            b"text"
        );
        assert!(reopened.open(b"note 2", &sealed).is_err());
        assert!(
            keys.person(&keys.tag(Kind::Person, "p2"), &wrapped)
                .is_err()
        );
        assert!(keys.general().open(b"note 1", &sealed).is_err());
    }

    #[test]
    fn derived_ciphers_are_the_same_each_time_and_different_from_each_other() {
        let keys = Keyring::new(&StoreKey::generate().unwrap()).unwrap();
        let tag = keys.tag(Kind::Person, "p");
        let (cipher, wrapped) = keys.new_person(&tag).unwrap();
        let sealed = cipher.derive(b"search").unwrap().seal(b"x", b"text");
        let sealed = sealed.unwrap();
        let reopened = keys.person(&tag, &wrapped).unwrap();
        let again = reopened.derive(b"search").unwrap();
        assert_eq!(again.open(b"x", &sealed).unwrap().as_slice(), b"text");
        assert!(reopened.open(b"x", &sealed).is_err());
        let other = reopened.derive(b"files").unwrap();
        assert!(other.open(b"x", &sealed).is_err());
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let keys = Keyring::new(&StoreKey::generate().unwrap()).unwrap();
        let sealed = keys.general().seal(b"x", b"text").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.general().open(b"x", &changed).is_err());
        }
        assert!(keys.general().open(b"x", &sealed[..11]).is_err());
        assert!(keys.general().open(b"x", &[]).is_err());
    }

    #[test]
    fn tags_differ_by_kind_and_by_store() {
        let one = Keyring::new(&StoreKey::generate().unwrap()).unwrap();
        let two = Keyring::new(&StoreKey::generate().unwrap()).unwrap();
        assert_ne!(one.tag(Kind::Person, "1"), one.tag(Kind::Note, "1"));
        assert_ne!(one.tag(Kind::Person, "1"), two.tag(Kind::Person, "1"));
    }

    #[test]
    fn a_store_key_has_thirty_two_bytes_and_does_not_show() {
        assert!(StoreKey::from_slice(&[7; 31]).is_none());
        let key = StoreKey::from_slice(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "StoreKey(..)");
        assert_eq!(key.as_bytes(), [7; 32]);
    }
}
