//! The keys: one for each person, one for what concerns no person, one for tags; all wrapped under the root of today.
//!
//! It does not store keys. The root comes from outside ([`crate::KeyRoots`]) and is never on the disk.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};
use zeroize::{Zeroize, Zeroizing};

use crate::{Error, Root};

pub(crate) const KEY: usize = 32;

/// The bytes of a [`Tag`].
pub(crate) const TAG: usize = 16;

/// A keyed hash of an id: finds a row without telling whose it is.
///
/// HMAC-SHA-256 cut to 128 bits, which its use allows (RFC 2104 section 5: no fewer than half). Nobody who lacks the key can
/// look for ids with the same tag, and among a million two meet by chance with a probability of 2^-89. Each note's tag and
/// its person's stand in several indices: with half the bytes a sync touches half the pages.
pub(crate) type Tag = [u8; TAG];

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

/// What wraps keys: derived from one root.
pub(crate) struct Wrapping {
    generation: u64,
    cipher: Cipher,
}

impl Wrapping {
    pub(crate) fn of(root: &Root) -> Result<Self, Error> {
        Ok(Self {
            generation: root.generation(),
            cipher: Cipher::new(&*expand(root.key(), b"gateway-notes: wrap keys")?)?,
        })
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    fn wrap(&self, identity: &[u8], key: &[u8; KEY]) -> Result<Vec<u8>, Error> {
        self.cipher.seal(identity, key)
    }

    fn unwrap(&self, identity: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY]>, Error> {
        let key = self.cipher.open(identity, wrapped)?;
        let mut bytes = Zeroizing::new([0; KEY]);
        if key.len() != KEY {
            return Err(Error::Damaged);
        }
        bytes.copy_from_slice(&key);
        Ok(bytes)
    }

    /// The same key, wrapped under `new` instead.
    pub(crate) fn rewrap_person(
        &self,
        new: &Self,
        person: &Tag,
        wrapped: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let identity = identity(PERSON_KEY, &[person]);
        new.wrap(&identity, &*self.unwrap(&identity, wrapped)?)
    }
}

const PERSON_KEY: &[u8] = b"person key";
const GENERAL_KEY: &[u8] = b"general key";
const INDEX_KEY: &[u8] = b"index key";

/// The keys of one database in the form in which they are stored.
pub(crate) struct WrappedKeys {
    pub(crate) general: Vec<u8>,
    pub(crate) index: Vec<u8>,
}

/// The keys of one database.
pub(crate) struct Keyring {
    wrapping: Arc<Wrapping>,
    general_key: Zeroizing<[u8; KEY]>,
    general: Cipher,
    index_key: Zeroizing<[u8; KEY]>,
    index: hmac::Key,
}

impl Keyring {
    /// New random keys.
    pub(crate) fn generate(wrapping: Arc<Wrapping>) -> Result<Self, Error> {
        Self::of(wrapping, random()?, random()?)
    }

    /// For a database that is filled beside this one: the same tags, all else of its own.
    pub(crate) fn beside(&self) -> Result<Self, Error> {
        Self::of(
            Arc::clone(&self.wrapping),
            random()?,
            self.index_key.clone(),
        )
    }

    /// The keys as [`Keyring::wrapped`] gave them.
    pub(crate) fn open(wrapping: Arc<Wrapping>, keys: &WrappedKeys) -> Result<Self, Error> {
        let general = wrapping.unwrap(GENERAL_KEY, &keys.general)?;
        let index = wrapping.unwrap(INDEX_KEY, &keys.index)?;
        Self::of(wrapping, general, index)
    }

    fn of(
        wrapping: Arc<Wrapping>,
        general_key: Zeroizing<[u8; KEY]>,
        index_key: Zeroizing<[u8; KEY]>,
    ) -> Result<Self, Error> {
        Ok(Self {
            wrapping,
            general: Cipher::new(&general_key)?,
            index: hmac::Key::new(hmac::HMAC_SHA256, index_key.as_slice()),
            general_key,
            index_key,
        })
    }

    /// The keys as they are stored under `wrapping`.
    pub(crate) fn wrapped(&self, wrapping: &Wrapping) -> Result<WrappedKeys, Error> {
        Ok(WrappedKeys {
            general: wrapping.wrap(GENERAL_KEY, &self.general_key)?,
            index: wrapping.wrap(INDEX_KEY, &self.index_key)?,
        })
    }

    pub(crate) const fn wrapping(&self) -> &Arc<Wrapping> {
        &self.wrapping
    }

    /// From now on keys are wrapped under this root.
    pub(crate) fn now_under(&mut self, wrapping: Arc<Wrapping>) {
        self.wrapping = wrapping;
    }

    pub(crate) fn tag(&self, kind: Kind, id: &str) -> Tag {
        let mut context = hmac::Context::with_key(&self.index);
        context.update(kind.label());
        context.update(&[0]);
        context.update(id.as_bytes());
        let mut tag = [0; TAG];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG]);
        tag
    }

    /// The cipher for what concerns no person: staff, notices, the facility.
    pub(crate) const fn general(&self) -> &Cipher {
        &self.general
    }

    /// A new key for one person, and the form in which it is stored.
    pub(crate) fn new_person(&self, person: &Tag) -> Result<(Cipher, Vec<u8>), Error> {
        let key = random()?;
        let wrapped = self.wrapping.wrap(&identity(PERSON_KEY, &[person]), &key)?;
        Ok((Cipher::new(&key)?, wrapped))
    }

    pub(crate) fn person(&self, person: &Tag, wrapped: &[u8]) -> Result<Cipher, Error> {
        let identity = identity(PERSON_KEY, &[person]);
        Cipher::new(&*self.wrapping.unwrap(&identity, wrapped)?)
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
        #[cfg(test)]
        OPENED.with(|opened| opened.set(opened.get() + 1));
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

#[cfg(test)]
thread_local! {
    /// How often this thread has opened something; for tests that compare work.
    pub(crate) static OPENED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
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

    fn keyring() -> Keyring {
        Keyring::generate(wrapping(1)).unwrap()
    }

    fn wrapping(generation: u64) -> Arc<Wrapping> {
        Arc::new(Wrapping::of(&Root::new(generation, &random().unwrap())).unwrap())
    }

    #[test]
    fn a_row_cannot_stand_in_for_another() {
        let keys = keyring();
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
        let keys = keyring();
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
        let keys = keyring();
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
        let one = keyring();
        let two = keyring();
        assert_ne!(one.tag(Kind::Person, "1"), one.tag(Kind::Note, "1"));
        assert_ne!(one.tag(Kind::Person, "1"), two.tag(Kind::Person, "1"));
    }

    #[test]
    fn keys_moved_to_a_new_root_open_under_it_and_no_more_under_the_old() {
        let mut keys = keyring();
        let tag = keys.tag(Kind::Person, "p");
        let (cipher, wrapped) = keys.new_person(&tag).unwrap();
        let sealed = cipher.seal(b"x", b"text").unwrap();
        let (old, new) = (Arc::clone(keys.wrapping()), wrapping(2));
        let moved = old.rewrap_person(&new, &tag, &wrapped).unwrap();
        let stored = keys.wrapped(&new).unwrap();
        assert!(keys.person(&tag, &moved).is_err());
        keys.now_under(Arc::clone(&new));
        assert!(keys.person(&tag, &wrapped).is_err());
        let reopened = Keyring::open(new, &stored).unwrap();
        assert_eq!(reopened.tag(Kind::Person, "p"), tag);
        let cipher = reopened.person(&tag, &moved).unwrap();
        assert_eq!(cipher.open(b"x", &sealed).unwrap().as_slice(), b"text");
        assert!(matches!(Keyring::open(old, &stored), Err(Error::Damaged)));
    }
}
