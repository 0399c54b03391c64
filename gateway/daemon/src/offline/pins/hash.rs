//! From a PIN to what is kept of it: Argon2id, then HMAC by the TPM. A thief of the disk has nothing to try PINs against.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest, rand};
use gateway_policy::offline::Pin;
use gateway_tpm::{PepperKey, PepperVault, Secret};
use zeroize::Zeroizing;

use super::Trouble;

/// Argon2id (RFC 9106): 64 MiB, three passes, one lane; for whoever can use the TPM and not read this box's memory.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;

/// Bytes of a salt.
pub(super) const SALT: usize = 16;

/// What is kept of a PIN.
pub(super) type Tag = [u8; 32];

/// A fresh salt.
pub(super) fn salt() -> Result<[u8; SALT], Trouble> {
    let mut salt = [0; SALT];
    rand::fill(&mut salt).map_err(|_| Trouble::System)?;
    Ok(salt)
}

/// What no PIN gives.
pub(super) fn nobody() -> Result<Tag, Trouble> {
    let mut tag = [0; 32];
    rand::fill(&mut tag).map_err(|_| Trouble::System)?;
    Ok(tag)
}

/// The tag of this user's PIN: bound to the user, so that nobody's is another's.
pub(super) fn tag(
    vault: &(impl PepperVault + ?Sized),
    key: &PepperKey,
    user: &str,
    pin: &Pin,
    salt: &[u8; SALT],
) -> Result<Tag, Trouble> {
    let parameters = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).map_err(|_| Trouble::System)?;
    let mut stretched = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(pin.as_bytes(), salt, stretched.as_mut_slice())
        .map_err(|_| Trouble::System)?;
    let user = digest::digest(&digest::SHA256, user.as_bytes());
    let message = Secret::new([user.as_ref(), stretched.as_slice()].concat());
    let peppered = vault.pepper(key, &message)?;
    peppered.as_bytes().try_into().map_err(|_| Trouble::System)
}

/// In constant time.
pub(super) fn same(one: &Tag, other: &Tag) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}
