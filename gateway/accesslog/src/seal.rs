//! Seals a record to its place in the chain, and opens it again. Knows no file.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_audit::{Digest, Place, Record};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const KEY: usize = 32;
/// What a record is bound to begins with.
const CONTEXT: &[u8] = b"renraku-gateway access record v1\0";

/// The key cannot be made or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key of the access log cannot be made or used")]
pub struct KeyError;

/// The key of one access log. Only the TPM keeps it.
#[derive(Clone)]
pub struct Key(Arc<LessSafeKey>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A new random key, and its bytes to be sealed to the TPM and nothing else.
    ///
    /// # Errors
    /// [`KeyError`] without randomness.
    pub fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), KeyError> {
        let mut bytes = Zeroizing::new(vec![0; KEY]);
        rand::fill(&mut bytes).map_err(|_| KeyError)?;
        Ok((Self::from_slice(&bytes)?, bytes))
    }

    /// Takes a key over as it was unsealed.
    ///
    /// # Errors
    /// [`KeyError`] unless it has 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, KeyError> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| KeyError)?;
        Ok(Self(Arc::new(LessSafeKey::new(key))))
    }

    /// Seals under a random nonce, good for 2^32 records (NIST SP 800-38D section 8.3). The number alone would be no nonce: a
    /// tail that a power cut took makes a number come again.
    fn seal(&self, place: &Place, kind: &str, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| KeyError)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + MAX_TAG_LEN);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self.0.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound_to(place, kind)),
            &mut sealed[NONCE_LEN..],
        );
        sealed.extend_from_slice(tag.map_err(|_| KeyError)?.as_ref());
        Ok(sealed)
    }

    /// The sealed part of an entry, if it is this key's and stands where it was written.
    pub(crate) fn open(&self, place: &Place, entry: &Value) -> Option<Zeroizing<Vec<u8>>> {
        let kind = entry.get("kind")?.as_str()?;
        let sealed = STANDARD.decode(entry.get("sealed")?.as_str()?).ok()?;
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self
            .0
            .open_in_place(nonce, Aad::from(bound_to(place, kind)), &mut plain)
            .ok()?
            .len();
        plain.truncate(length);
        // What is handed over is checked against this digest; a key that opens another text to it would show here.
        let digest = Digest::of(&[&plain]).to_string();
        (entry.get("digest")?.as_str()? == digest).then_some(plain)
    }
}

/// Number, time, hash of the entry before, and kind: a record copied to another place does not open there.
fn bound_to(place: &Place, kind: &str) -> Vec<u8> {
    [
        CONTEXT,
        &place.number.to_be_bytes(),
        &place.at.0.to_be_bytes(),
        &place.previous.0,
        kind.as_bytes(),
    ]
    .concat()
}

/// A record on its way into the chain.
pub(crate) struct ToSeal<'a> {
    pub(crate) key: &'a Key,
    /// `access` or `over`; readable, so that accesses can be counted without the key.
    pub(crate) kind: &'static str,
    /// JSON, with a random member so that its digest tells nothing to whoever guesses.
    pub(crate) plain: Zeroizing<Vec<u8>>,
    /// Set when it could not be sealed: then its place in the chain says so, and it is not recorded.
    pub(crate) failed: Cell<bool>,
}

impl Record for ToSeal<'_> {
    fn body(&self, place: &Place) -> Value {
        match self.key.seal(place, self.kind, &self.plain) {
            Ok(sealed) => json!({
                "kind": self.kind,
                "digest": Digest::of(&[&self.plain]),
                "sealed": STANDARD.encode(sealed),
            }),
            Err(KeyError) => {
                self.failed.set(true);
                json!({ "kind": "unsealed" })
            }
        }
    }
}

/// A record as it is sealed: its members and sixteen random bytes.
pub(crate) fn plain(record: &impl serde::Serialize) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut salt = [0; 16];
    rand::fill(&mut salt).map_err(|_| KeyError)?;
    let mut value = serde_json::to_value(record).map_err(|_| KeyError)?;
    value["salt"] = gateway_audit::Id(salt).to_string().into();
    Ok(Zeroizing::new(value.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_policy::Timestamp;

    #[test]
    fn a_record_opens_where_it_was_written_and_nowhere_else() {
        let (key, bytes) = Key::generate().unwrap();
        let place = Place {
            number: 7,
            at: Timestamp(1_795_000_000),
            previous: Digest([3; 32]),
        };
        let record = ToSeal {
            key: &key,
            kind: "access",
            plain: plain(&json!({"user": "u"})).unwrap(),
            failed: Cell::new(false),
        };
        let entry = record.body(&place);
        let again = Key::from_slice(&bytes).unwrap();
        assert_eq!(again.open(&place, &entry).as_deref(), Some(&*record.plain));
        for elsewhere in [
            Place { number: 8, ..place },
            Place {
                at: Timestamp(1),
                ..place
            },
            Place {
                previous: Digest([4; 32]),
                ..place
            },
        ] {
            assert!(again.open(&elsewhere, &entry).is_none());
        }
        let mut other = entry.clone();
        other["kind"] = "over".into();
        assert!(again.open(&place, &other).is_none());
        assert!(Key::generate().unwrap().0.open(&place, &entry).is_none());
        assert_eq!(format!("{key:?}"), "Key(..)");
    }
}
