//! What a device says of itself, brought into one form whatever said it. Does not judge.
//!
//! Only these things are ever asked for or kept: no user names, no paths of a user's files, no window titles, no addresses.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::Version;

/// Programs in one report; a desktop of a care office has about 150.
pub(crate) const MOST_PROGRAMS: usize = 3_000;

/// Media in one report: Windows remembers every stick that was ever plugged in.
pub(crate) const MOST_MEDIA: usize = 200;

/// A value and when the device looked, in Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact<T> {
    /// What was found.
    pub value: T,
    /// When.
    pub at: i64,
}

/// An operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Platform {
    Windows,
    Macos,
    Debian,
    Ubuntu,
}

impl Platform {
    /// The platform of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "windows" => Some(Self::Windows),
            "macos" | "darwin" => Some(Self::Macos),
            "debian" => Some(Self::Debian),
            "ubuntu" => Some(Self::Ubuntu),
            _ => None,
        }
    }
}

/// Which operating system in which version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Os {
    /// Which.
    pub platform: Platform,
    /// In full: on Windows `10.0.26100.4349`.
    pub version: Version,
}

/// Protection against viruses (第27条).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Antivirus {
    /// It is on.
    On,
    /// It is suspended for a while.
    Snoozed,
    /// Its licence has ended.
    Expired,
    /// It is off, or there is none.
    Off,
}

impl Antivirus {
    /// The better of two products on one device: one that works is enough.
    pub(crate) const fn better(self, other: Self) -> Self {
        if self.rank() <= other.rank() {
            self
        } else {
            other
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::On => 0,
            Self::Snoozed => 1,
            Self::Expired => 2,
            Self::Off => 3,
        }
    }
}

/// The definitions of the protection against viruses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signatures {
    /// The system calls them up to date.
    Current,
    /// The system calls them outdated.
    Outdated,
    /// They were made then, in Unix seconds.
    Built(i64),
    /// There never were any.
    Never,
}

/// After how many seconds without anybody the screen is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// `None`: never.
    pub seconds: Option<u32>,
}

/// Whether the system takes USB storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsbStorage {
    /// It does not.
    pub disabled: bool,
}

/// An installed program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name as the system lists it.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The newest of everything that a device has said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Report {
    /// Operating system.
    pub os: Option<Fact<Os>>,
    /// Protection against viruses.
    pub antivirus: Option<Fact<Antivirus>>,
    /// Its definitions.
    pub signatures: Option<Fact<Signatures>>,
    /// Screen lock.
    pub lock: Option<Fact<Lock>>,
    /// USB storage.
    pub usb: Option<Fact<UsbStorage>>,
    /// Serial numbers of USB storage that was ever plugged in.
    pub media: Option<Fact<Vec<String>>>,
    /// The system's disk is encrypted.
    pub encrypted: Option<Fact<bool>>,
    /// Installed programs.
    pub programs: Option<Fact<Vec<Program>>>,
    /// It has a battery: it can be carried away.
    pub portable: Option<Fact<bool>>,
}

impl Report {
    /// Takes over what `newer` says, fact by fact; what is older than what is known is not believed any more. Answers with
    /// what was taken over.
    pub fn merge(&mut self, newer: Self) -> Self {
        let Self {
            os,
            antivirus,
            signatures,
            lock,
            usb,
            media,
            encrypted,
            programs,
            portable,
        } = newer;
        Self {
            os: take(&mut self.os, os),
            antivirus: take(&mut self.antivirus, antivirus),
            signatures: take(&mut self.signatures, signatures),
            lock: take(&mut self.lock, lock),
            usb: take(&mut self.usb, usb),
            media: take(&mut self.media, media),
            encrypted: take(&mut self.encrypted, encrypted),
            programs: take(&mut self.programs, programs),
            portable: take(&mut self.portable, portable),
        }
    }

    /// Says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn take<T: Clone>(known: &mut Option<Fact<T>>, newer: Option<Fact<T>>) -> Option<Fact<T>> {
    let newer = newer?;
    if known
        .as_ref()
        .is_some_and(|known| known.at.cmp(&newer.at) == Ordering::Greater)
    {
        return None;
    }
    *known = Some(newer.clone());
    Some(newer)
}

/// A text from a device, of bounded length and without control characters.
pub(crate) fn tidy(text: &str, most: usize) -> String {
    text.trim()
        .chars()
        .filter(|letter| !letter.is_control())
        .take(most)
        .collect()
}

/// Sorted, without repetitions, and bounded.
pub(crate) fn programs(all: impl IntoIterator<Item = Program>) -> Vec<Program> {
    let mut all: Vec<Program> = all
        .into_iter()
        .filter(|program| !program.name.is_empty())
        .collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(MOST_PROGRAMS);
    all
}

/// The serial number of a USB storage device from the last part of its instance path in Windows' registry.
///
/// `4C530001230101119203&0` is serial number and port; where the second character is `&` the device has no serial number
/// and Windows made the text up (it then differs from PC to PC).
pub(crate) fn medium_serial(instance: &str) -> Option<String> {
    let instance = tidy(instance, 128);
    let serial = instance
        .rsplit_once('&')
        .map_or(instance.as_str(), |(serial, _)| serial);
    let kept: String = serial
        .chars()
        .filter(char::is_ascii_graphic)
        .map(|letter| letter.to_ascii_uppercase())
        .collect();
    (!kept.is_empty()).then_some(kept)
}

/// Sorted, without repetitions, and bounded.
pub(crate) fn media(all: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = all.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(MOST_MEDIA);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(seconds: u32, at: i64) -> Report {
        Report {
            lock: Some(Fact {
                value: Lock {
                    seconds: Some(seconds),
                },
                at,
            }),
            ..Report::default()
        }
    }

    #[test]
    fn a_late_report_does_not_undo_a_newer_one() {
        let mut known = locked(600, 100);
        assert!(known.merge(locked(900, 99)).is_empty());
        assert_eq!(known, locked(600, 100));
        assert_eq!(known.merge(locked(900, 100)), locked(900, 100));
        assert_eq!(known, locked(900, 100));
    }

    #[test]
    fn a_report_reads_what_it_writes() {
        let mut report = locked(600, 100);
        report.os = Some(Fact {
            value: Os {
                platform: Platform::Windows,
                version: Version::parse("10.0.26100.4349").unwrap(),
            },
            at: 5,
        });
        report.signatures = Some(Fact {
            value: Signatures::Built(7),
            at: 5,
        });
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn a_serial_number_loses_its_port_and_no_more() {
        assert_eq!(
            medium_serial("4c530001230101119203&0").as_deref(),
            Some("4C530001230101119203")
        );
        assert_eq!(medium_serial("7&2f1b2a&0").as_deref(), Some("7&2F1B2A"));
        assert_eq!(medium_serial("&0"), None);
        assert_eq!(medium_serial(""), None);
    }
}
