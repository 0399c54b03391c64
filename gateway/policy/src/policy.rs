//! The thresholds and permissions in force: the built-in ones, or those of the city's signed policy.
//! Does not verify signatures; the signed channel has done so before [`Policy::parse`] sees the bytes.

mod devices;
mod document;

use std::collections::BTreeMap;

use crate::{Check, Thresholds, Timestamp, Waiver, built_in};

pub use devices::{DeviceLists, LeastSystem, OperatingSystem, PROGRAM_BYTES, PROGRAMS, SYSTEMS};
pub use document::{POLICY_BYTES, PolicyContext, PolicyError, PolicyFault, VersionFloor};

/// What is in force. One for all subjects of a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The city's version; 0 for the built-in policy. Never goes down on one box.
    pub version: u64,
    /// Until when it is in force; the built-in policy always is.
    pub expires: Option<Timestamp>,
    pub(crate) thresholds: [Thresholds; Check::ALL.len()],
    /// Exceptions the city makes for this facility.
    pub waivers: Vec<(Check, Waiver)>,
    /// Bounds of the store of recent notes; `None`: the configuration's.
    pub store: StoreBounds,
    /// Which files may pass (第25条).
    pub downloads: Downloads,
    /// When updates may be installed, in the facility's time; empty: the built-in window.
    pub windows: Vec<Window>,
    /// What devices are held against (第26条).
    pub devices: DeviceLists,
    /// The terms of use in force, as the city numbers them.
    pub terms_version: Option<String>,
    /// Texts that the city words itself, by their id.
    pub texts: BTreeMap<String, String>,
    /// The telephone number of whoever answers questions (第12条).
    pub phone: Option<String>,
}

/// Bounds of the store of recent notes that the city may tighten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreBounds {
    /// Notes older than this many days are forgotten; 0 switches the store off.
    pub days: Option<u32>,
    /// The most bytes, attachments among them.
    pub bytes: Option<u64>,
    /// The most notes.
    pub notes: Option<u64>,
    /// For how many hours without the city stored notes stay readable.
    pub offline_hours: Option<u32>,
    /// Whether attachments are stored.
    pub attachments: Option<bool>,
    /// For how many days it is kept who looked at whose notes.
    pub access_log_days: Option<u32>,
    /// The largest attachment, in bytes.
    pub attachment_bytes: Option<u64>,
    /// Attachments of notes older than this many days are not stored.
    pub attachment_days: Option<u32>,
    /// Media types of attachments; `image/*` stands for all pictures. An empty list: none.
    pub attachment_types: Option<Vec<String>>,
    /// Whether sessions that the city opened go on while it is away.
    pub offline_sessions: Option<bool>,
    /// Whether staff may sign in with a PIN while the city is away.
    pub offline_pin: Option<bool>,
}

/// Which files may pass although their kind is held back (第25条).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downloads {
    /// Programs.
    pub executables: bool,
    /// Scripts.
    pub scripts: bool,
    /// Office documents with macros.
    pub macros: bool,
    /// Single files by their SHA-256, sorted.
    pub listed: Vec<[u8; 32]>,
    /// Seconds for which text passes unscanned while a scanner that has just worked is down, 0 to 900.
    pub text_seconds: i64,
}

/// The largest attachment that any policy may have stored, in bytes: what the scanner takes.
pub const ATTACHMENT_BYTES: u64 = 50 << 20;

/// For how many days accesses to stored notes are kept, when the city says nothing.
pub const ACCESS_LOG_DAYS: u32 = 400;

/// What the city may say: not so short that a misuse is forgotten before anybody asks, nor without end.
pub const ACCESS_LOG_BOUNDS: std::ops::RangeInclusive<u32> = 30..=1830;

/// The longest time for which text passes unscanned (§1.5 of the compliance research), in seconds.
pub const TEXT_SECONDS: i64 = 15 * 60;

/// A weekly time in which updates may be installed, in Japan's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Days of the week, Sunday first.
    pub days: [bool; 7],
    /// Minute of the day at which it opens, 0 to 1439.
    pub from: u16,
    /// Minute of the day at which it closes; not after `from`: on the next day.
    pub to: u16,
}

impl Policy {
    /// What holds without a word of the city.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            version: 0,
            expires: None,
            thresholds: Check::ALL.map(built_in),
            waivers: Vec::new(),
            store: StoreBounds::default(),
            downloads: Downloads {
                text_seconds: TEXT_SECONDS,
                ..Downloads::default()
            },
            windows: Vec::new(),
            devices: DeviceLists::default(),
            terms_version: None,
            texts: BTreeMap::new(),
            phone: None,
        }
    }

    /// The thresholds of one check.
    #[must_use]
    pub const fn thresholds(&self, check: Check) -> &Thresholds {
        &self.thresholds[check as usize]
    }

    /// Whether it has come to its end.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::built_in()
    }
}
