//! Text about a person, kept out of logs and wiped when dropped.
//!
//! It does not encrypt.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A name, a note's text or the like. `Debug` shows nothing, `Display` does not exist: to show it on a page,
/// call [`Personal::reveal`].
#[derive(Default, PartialEq, Eq, PartialOrd, Ord, Zeroize, ZeroizeOnDrop)]
pub struct Personal(String);

impl Personal {
    /// Takes the text over; the caller's own copies stay the caller's to wipe.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to be given to its reader and to nothing that is kept.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Personal {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Personal(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_text_does_not_show_in_debug_output() {
        let name = Personal::new("山田花子");
        assert_eq!(format!("{name:?}"), "Personal(..)");
        assert_eq!(name.reveal(), "山田花子");
    }
}
