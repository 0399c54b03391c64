//! PIN and code: how they are typed, and what is kept of them.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use gateway_policy::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Argon2id (RFC 9106): 64 MiB, three passes, one lane. A PIN has few bits, so each guess at a stolen file is made dear.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// Digits of a PIN.
const SHORTEST: usize = 6;
const LONGEST: usize = 32;
/// Letters of a code: five bits each, none that looks like another.
const LETTERS: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
const CODE: usize = 20;

/// A PIN as it was typed. Wiped when dropped.
pub(crate) struct Pin(Zeroizing<String>);

/// Why a PIN cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PinFault {
    /// Not digits, or not 6 to 32 of them.
    Digits,
    /// All alike or in a row.
    Guessable,
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pin(..)")
    }
}

impl Pin {
    /// Reads digits in either width, with blanks and hyphens between them.
    pub(crate) fn parse(typed: &str) -> Result<Self, PinFault> {
        let mut digits = Zeroizing::new(String::with_capacity(typed.len()));
        for letter in typed.trim().chars().map(narrow) {
            match letter {
                '0'..='9' => digits.push(letter),
                ' ' | '-' => {}
                _ => return Err(PinFault::Digits),
            }
        }
        if (SHORTEST..=LONGEST).contains(&digits.len()) {
            Ok(Self(digits))
        } else {
            Err(PinFault::Digits)
        }
    }

    /// Whether it is worth keeping.
    pub(crate) fn check_strength(&self) -> Result<(), PinFault> {
        let steps = |by: i16| {
            let pairs = self.0.as_bytes().windows(2);
            pairs
                .map(|pair| i16::from(pair[1]) - i16::from(pair[0]))
                .all(|step| step == by)
        };
        if steps(0) || steps(1) || steps(-1) {
            return Err(PinFault::Guessable);
        }
        Ok(())
    }
}

/// What is kept of a PIN.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinHash {
    salt: String,
    hash: String,
    memory_kib: u32,
    passes: u32,
}

impl PinHash {
    /// `None` without randomness or memory.
    pub(crate) fn of(pin: &Pin) -> Option<Self> {
        let mut salt = [0; 16];
        rand::fill(&mut salt).ok()?;
        let hash = stretched(pin, &salt, MEMORY_KIB, PASSES)?;
        Some(Self {
            salt: STANDARD_NO_PAD.encode(salt),
            hash: STANDARD_NO_PAD.encode(*hash),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
        })
    }

    /// In constant time as far as the hash goes.
    pub(crate) fn matches(&self, pin: &Pin) -> bool {
        let decoded = (
            STANDARD_NO_PAD.decode(&self.salt),
            STANDARD_NO_PAD.decode(&self.hash),
        );
        let (Ok(salt), Ok(hash)) = decoded else {
            return false;
        };
        // A file that asks for more than we ever do is not ours.
        if self.memory_kib > MEMORY_KIB || self.passes > PASSES {
            return false;
        }
        stretched(pin, &salt, self.memory_kib, self.passes)
            .is_some_and(|found| constant_time::verify_slices_are_equal(&*found, &hash).is_ok())
    }
}

fn stretched(pin: &Pin, salt: &[u8], memory_kib: u32, passes: u32) -> Option<Zeroizing<[u8; 32]>> {
    let parameters = Params::new(memory_kib, passes, 1, Some(32)).ok()?;
    let mut hash = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(pin.0.as_bytes(), salt, &mut *hash)
        .ok()?;
    Some(hash)
}

/// The code for the safe. Wiped when dropped.
pub(crate) struct Code(Zeroizing<String>);

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(..)")
    }
}

impl Code {
    /// A hundred random bits; `None` without randomness.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = Zeroizing::new([0_u8; CODE]);
        rand::fill(&mut *bytes).ok()?;
        let mut letters = Zeroizing::new(String::with_capacity(CODE));
        for byte in *bytes {
            letters.push(char::from(LETTERS[usize::from(byte % 32)]));
        }
        Some(Self(letters))
    }

    /// Reads it in either width and case, with or without hyphens.
    pub(crate) fn parse(typed: &str) -> Option<Self> {
        let mut letters = Zeroizing::new(String::with_capacity(typed.len()));
        for letter in typed.chars().map(narrow) {
            let letter = letter.to_ascii_uppercase();
            if letter == '-' || letter.is_whitespace() {
                continue;
            }
            let known = u8::try_from(letter).is_ok_and(|letter| LETTERS.contains(&letter));
            if !known {
                return None;
            }
            letters.push(letter);
        }
        (letters.len() == CODE).then_some(Self(letters))
    }

    /// As it is printed: in fours.
    pub(crate) fn shown(&self) -> Zeroizing<String> {
        let mut shown = Zeroizing::new(String::with_capacity(CODE + CODE / 4));
        for (n, letter) in self.0.chars().enumerate() {
            if n > 0 && n % 4 == 0 {
                shown.push('-');
            }
            shown.push(letter);
        }
        shown
    }

    /// What stands for it in records.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut found = [0; 32];
        found.copy_from_slice(digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref());
        found
    }
}

/// What is kept of a code: with a hundred random bits its plain hash tells nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealedCode {
    sha256: String,
    made: i64,
}

impl SealedCode {
    pub(crate) fn of(code: &Code, now: Timestamp) -> Self {
        Self {
            sha256: STANDARD_NO_PAD.encode(code.digest()),
            made: now.0,
        }
    }

    pub(crate) const fn made(&self) -> Timestamp {
        Timestamp(self.made)
    }

    pub(crate) fn matches(&self, code: &Code) -> bool {
        STANDARD_NO_PAD
            .decode(&self.sha256)
            .is_ok_and(|kept| constant_time::verify_slices_are_equal(&code.digest(), &kept).is_ok())
    }
}

/// Full-width letters and digits, and what stands for a hyphen, in their narrow form.
fn narrow(letter: char) -> char {
    match letter {
        '！'..='～' => char::from_u32(u32::from(letter) - 0xfee0).unwrap_or(letter),
        'ー' | '−' | '‐' | '–' => '-',
        '　' => ' ',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_has_enough_digits_and_no_pattern() {
        for wrong in ["", "12345", "abcdef", "12 34 5", &"1".repeat(33)] {
            assert_eq!(Pin::parse(wrong).unwrap_err(), PinFault::Digits, "{wrong}");
        }
        for weak in ["000000", "123456", "987654", "111 111"] {
            let pin = Pin::parse(weak).unwrap();
            assert_eq!(pin.check_strength(), Err(PinFault::Guessable), "{weak}");
        }
        assert!(
            Pin::parse("４８２-９１５")
                .unwrap()
                .check_strength()
                .is_ok()
        );
    }

    #[test]
    fn a_code_is_read_as_it_is_typed() {
        let code = Code::random().unwrap();
        assert_eq!(code.shown().len(), 24);
        let read = Code::parse(&code.shown().to_lowercase().replace('-', "ー")).unwrap();
        assert_eq!(read.digest(), code.digest());
        for wrong in ["", "AAAA", "O0I1-O0I1-O0I1-O0I1-O0I1"] {
            assert!(Code::parse(wrong).is_none());
        }
        assert_eq!(format!("{code:?}"), "Code(..)");
    }

    #[test]
    fn a_file_that_asks_for_more_memory_than_we_do_is_not_believed() {
        let pin = Pin::parse("482915").unwrap();
        let mut hash = PinHash::of(&pin).unwrap();
        assert!(hash.matches(&pin));
        hash.memory_kib = u32::MAX;
        assert!(!hash.matches(&pin));
    }
}
