//! The name of what the antivirus found, and nothing else. Knows no database.

use serde::{Serialize, Serializer};

/// The name of a signature, as the antivirus's database has it: 1 to 64 ASCII letters, digits and `.+_-`. What else a
/// database might say is left out, so that nothing but such a name fits in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    bytes: [u8; 64],
    length: u8,
}

impl Signature {
    /// Takes a name over; `None` when nothing of it may stand in the log.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let mut bytes = [0; 64];
        let mut length = 0_u8;
        let fits =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'_' | b'-');
        for (place, byte) in bytes.iter_mut().zip(name.bytes().filter(fits)) {
            *place = byte;
            length += 1;
        }
        (length > 0).then_some(Self { bytes, length })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_databases_name_and_nothing_else_fits_in() {
        let kept = |name: &str| Signature::of(name).map(|name| name.as_str().to_owned());
        assert_eq!(
            kept("Win.Test.EICAR_HDB-1").as_deref(),
            Some("Win.Test.EICAR_HDB-1")
        );
        assert_eq!(kept("山田 太郎\n\"x\"").as_deref(), Some("x"));
        assert_eq!(kept("山田"), None);
        assert_eq!(kept(&"a".repeat(200)).map(|name| name.len()), Some(64));
    }
}
