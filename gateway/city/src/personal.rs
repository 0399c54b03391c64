//! A wrapper for personal data that cannot be logged by accident.
//!
//! It does not encrypt, and it does not wipe memory: it only makes every look at the value explicit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Personal data (a name, a note's text). `Debug` and `Display` are redacted, so a `Personal` value can sit in any
/// structure that is logged; reading it takes [`Personal::reveal`].
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Personal<T>(T);

impl<T> Personal<T> {
    /// Wraps a value that concerns a person.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for showing it to somebody permitted to see it. Never for a log field.
    pub const fn reveal(&self) -> &T {
        &self.0
    }

    /// Gives the value up, for instance to store it encrypted.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Personal(redacted)")
    }
}

impl<T> fmt::Display for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_display_show_the_value() {
        let name = Personal::new("山田 花子".to_owned());
        assert!(!format!("{name:?} {name}").contains("山田"));
    }

    #[test]
    fn json_is_that_of_the_value_itself() {
        let name = Personal::new("山田 花子".to_owned());
        let json = serde_json::to_string(&name).expect("a string serialises");
        assert_eq!(json, "\"山田 花子\"");
        let back: Personal<String> = serde_json::from_str(&json).expect("and parses");
        assert_eq!(back.reveal(), "山田 花子");
    }
}
