//! The file of offline PINs and its keys: encrypted under a key that the TPM seals, replaced as a whole. Whether it is the
//! newest is not told here.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use gateway_provisioning::durable;
use gateway_tpm::{KeyVault, PepperKey, SealedBlob, Secret};
use zeroize::Zeroizing;

use super::{Kept, PinVault, Trouble};

/// Tells the content from whatever else is encrypted on this box.
const PURPOSE: &[u8] = b"renraku-gateway offline PINs v1\0";
const KEY: usize = 32;

/// The keys, opened.
pub(super) struct Keys {
    /// In the TPM.
    pub(super) pepper: PepperKey,
    content: RandomizedNonceKey,
}

/// See the module.
pub(super) struct PinFile {
    directory: PathBuf,
}

impl PinFile {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("pins")
    }

    fn content_key(&self) -> PathBuf {
        self.directory.join("pins-key.sealed")
    }

    fn pepper_key(&self) -> PathBuf {
        self.directory.join("pins-pepper.tpm")
    }

    /// Whether any PIN was ever set.
    pub(super) fn exists(&self) -> io::Result<bool> {
        self.path().try_exists()
    }

    /// Keys and content; `None` when one of them is missing, damaged or of another TPM, which needs new ones.
    pub(super) fn read(&self, vault: &dyn PinVault) -> Result<Option<(Keys, Kept)>, Trouble> {
        let Some(keys) = self.keys(vault)? else {
            return Ok(None);
        };
        let Some(bytes) = durable::read(&self.path())? else {
            return Ok(None);
        };
        let kept = open(&keys.content, bytes);
        if kept.is_none() {
            tracing::error!(
                event = "offline-pins-void",
                "the file of offline PINs is damaged: all of them are void"
            );
        }
        Ok(kept.map(|kept| (keys, kept)))
    }

    fn keys(&self, vault: &dyn PinVault) -> Result<Option<Keys>, Trouble> {
        let pepper = durable::read(&self.pepper_key())?;
        let content = durable::read(&self.content_key())?;
        let (Some(pepper), Some(content)) = (pepper, content) else {
            return Ok(None);
        };
        let opened = SealedBlob::from_bytes(&content)
            .and_then(|blob| vault.unseal(&blob))
            .and_then(|secret| Ok((PepperKey::from_bytes(&pepper)?, secret)));
        match opened {
            Ok((pepper, secret)) => {
                Ok(content_key_of(secret.as_bytes()).map(|content| Keys { pepper, content }))
            }
            // Cleared, exchanged or damaged.
            Err(error) if error.is_permanent() => {
                tracing::warn!(event = "offline-pins-void", %error, "the keys of the offline PINs are lost: all of them are void");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// New keys in place of those that are not there or of no use.
    pub(super) fn make_keys(&self, vault: &dyn PinVault) -> Result<Keys, Trouble> {
        durable::create_directory(&self.directory)?;
        let pepper = vault.generate_pepper_key()?;
        let mut fresh = Zeroizing::new([0; KEY]);
        rand::fill(fresh.as_mut_slice()).map_err(|_| Trouble::System)?;
        let sealed = KeyVault::seal(vault, &Secret::new(fresh.to_vec()))?;
        durable::write(&self.pepper_key(), &pepper.to_bytes())?;
        durable::write(&self.content_key(), &sealed.to_bytes())?;
        let content = content_key_of(fresh.as_slice()).ok_or(Trouble::System)?;
        Ok(Keys { pepper, content })
    }

    /// Replaces the content, durably.
    pub(super) fn write(&self, keys: &Keys, kept: &Kept) -> Result<(), Trouble> {
        let mut sealed = Zeroizing::new(serde_json::to_vec(kept).map_err(|_| Trouble::System)?);
        let nonce = keys
            .content
            .seal_in_place_append_tag(Aad::from(PURPOSE), &mut *sealed)
            .map_err(|_| Trouble::System)?;
        let bytes = [nonce.as_ref(), sealed.as_slice()].concat();
        Ok(durable::write(&self.path(), &bytes)?)
    }
}

fn content_key_of(bytes: &[u8]) -> Option<RandomizedNonceKey> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).ok()
}

fn open(key: &RandomizedNonceKey, bytes: Vec<u8>) -> Option<Kept> {
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut content = Zeroizing::new(sealed.to_vec());
    let plain = key
        .open_in_place(nonce, Aad::from(PURPOSE), content.as_mut_slice())
        .ok()?;
    serde_json::from_slice(plain).ok()
}
