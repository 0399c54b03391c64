//! Randomness, keyed hashes and codes. It keeps nothing.

use aws_lc_rs::{constant_time, digest, hmac, rand};
use zeroize::Zeroizing;

use crate::Error;

/// A keyed hash.
pub(crate) type Tag = [u8; 32];

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(bytes)
}

/// `count` random bytes as lower-case hexadecimal digits.
pub(crate) fn token<const N: usize>() -> Result<Zeroizing<String>, Error> {
    Ok(Zeroizing::new(hex(&*Zeroizing::new(random::<N>()?))))
}

/// Eight decimal digits, each of the hundred million as likely as any other.
pub(crate) fn code() -> Result<Zeroizing<String>, Error> {
    const CODES: u32 = 100_000_000;
    // The largest multiple that fits: what lies above it would make some codes likelier.
    const LIMIT: u32 = u32::MAX - u32::MAX % CODES;
    loop {
        let number = u32::from_be_bytes(random()?);
        if number < LIMIT {
            return Ok(Zeroizing::new(format!("{:08}", number % CODES)));
        }
    }
}

/// Letters and digits that nobody takes for one another; 32 of them, so that five random bits choose one.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789-";

/// A password to be copied or typed once: four groups of five, 99 bits.
pub(crate) fn password() -> Result<Zeroizing<String>, Error> {
    let mut password = Zeroizing::new(String::with_capacity(24));
    while password.len() < 23 {
        if password.len() % 6 == 5 {
            password.push('-');
            continue;
        }
        let byte = random::<1>()?[0];
        let letter = LETTERS[usize::from(byte & 31)];
        if letter != b'-' {
            password.push(char::from(letter));
        }
    }
    Ok(password)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(crate) fn sha256(bytes: &[u8]) -> Tag {
    let mut tag = [0; 32];
    tag.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    tag
}

/// Hashes secrets and identifiers, each kind apart, under a key of this box.
pub(crate) struct Hasher(hmac::Key);

impl Hasher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A hasher whose key nobody knows and that ends with the process.
    pub(crate) fn ephemeral() -> Result<Self, Error> {
        Ok(Self::new(&Zeroizing::new(random()?)))
    }

    pub(crate) fn tag(&self, kind: &'static str, value: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(kind.as_bytes());
        context.update(&[0]);
        context.update(value);
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

/// Equal, in a time that does not tell where they differ.
pub(crate) fn equal(left: &Tag, right: &Tag) -> bool {
    constant_time::verify_slices_are_equal(left, right).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_eight_digits_and_a_password_four_groups() {
        for _ in 0..200 {
            let code = code().unwrap();
            assert!(code.len() == 8 && code.bytes().all(|digit| digit.is_ascii_digit()));
            let password = password().unwrap();
            let groups: Vec<&str> = password.split('-').collect();
            assert!(
                groups.len() == 4 && groups.iter().all(|group| group.len() == 5),
                "{groups:?}"
            );
        }
    }

    #[test]
    fn the_same_value_of_two_kinds_has_two_tags() {
        let hasher = Hasher::ephemeral().unwrap();
        assert_ne!(hasher.tag("node", b"x"), hasher.tag("hardware", b"x"));
        assert!(equal(&hasher.tag("node", b"x"), &hasher.tag("node", b"x")));
    }
}
