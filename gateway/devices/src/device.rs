//! One registered device. Nothing here is shown in a log but its pseudonym.

use std::fmt;

use gateway_policy::{DeviceId, Timestamp};

/// What kind of device it is: it decides how a certificate gets there and which checks there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Windows,
    Mac,
    Linux,
    Ipad,
    Android,
    Chromebook,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Windows,
        Self::Mac,
        Self::Linux,
        Self::Ipad,
        Self::Android,
        Self::Chromebook,
    ];

    /// The word in the API and in the register.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Windows => "windows",
            Self::Mac => "macos",
            Self::Linux => "linux",
            Self::Ipad => "ipad",
            Self::Android => "android",
            Self::Chromebook => "chromebook",
        }
    }

    /// The kind of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// A program on it can report; the others are declared by the manager.
    #[must_use]
    pub const fn reports(self) -> bool {
        matches!(self, Self::Windows | Self::Mac | Self::Linux)
    }
}

/// What the manager calls a device: 1 to 40 characters without controls. It may name a person, so it is in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Takes a name, trimmed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = (1..=40).contains(&text.chars().count());
        let visible = !text.chars().any(|letter| {
            letter.is_control()
                // Marks that turn the direction of writing could make one name look like another.
                || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        });
        (fits && visible).then(|| Self(text.to_owned()))
    }

    /// For the pages of the facility and nowhere else.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name(..)")
    }
}

/// Who issued the certificate a device came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This box.
    Box,
    /// The city: shown as 「市発行」.
    City,
}

/// Why a device was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokedFor {
    /// By the manager: lost, stolen, lent, unclear.
    Manager,
    /// Taken out of the register. It stays behind so that the same hardware finds its old pseudonym, and with it its
    /// deadlines.
    Forgotten,
}

impl RevokedFor {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Forgotten => "forgotten",
        }
    }
}

/// One registered device.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Its pseudonym.
    pub id: DeviceId,
    /// What it is called.
    pub name: Name,
    /// Which kind.
    pub kind: Kind,
    /// Who issued its newest certificate.
    pub origin: Origin,
    /// Break-glass may be opened from it.
    pub manager: bool,
    /// When it was approved.
    pub registered: Timestamp,
    /// The user id of the manager who approved it.
    pub approved_by: String,
    /// Since when it is cut off, and why.
    pub revoked: Option<(Timestamp, RevokedFor)>,
    /// When it was last seen; written now and then, see [`crate::Presence`].
    pub last_seen: Option<Timestamp>,
    /// When its newest certificate ends.
    pub not_after: Option<Timestamp>,
    /// Its hardware is pinned.
    pub pinned: bool,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_visible_and_not_in_debug_output() {
        assert_eq!(Name::parse("  事務室1 ").unwrap().as_str(), "事務室1");
        for wrong in ["", "   ", "a\nb", "PC\u{202e}1", &"あ".repeat(41)] {
            assert!(Name::parse(wrong).is_none(), "{wrong:?}");
        }
        assert!(!format!("{:?}", Name::parse("山田のPC")).contains("山田"));
    }

    #[test]
    fn every_kind_is_found_by_its_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.word()), Some(kind));
        }
        assert_eq!(Kind::parse("toaster"), None);
    }
}
