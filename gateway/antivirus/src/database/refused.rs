//! Why a release was not taken. Each reason has a name that support staff and tests can rely on.
//!
//! It says nothing to staff of the facility.

use std::io;

use super::manifest::ManifestError;
use super::store::StoreError;

/// Why a release is not in use.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The directory of the release cannot be read.
    #[error("the release cannot be read")]
    Unreadable(#[source] io::Error),
    /// The manifest is wrong.
    #[error("the manifest is wrong")]
    Manifest(#[from] ManifestError),
    /// No longer to be taken.
    #[error("the release has expired")]
    Expired,
    /// Built later than now: this box's clock is wrong, or the release.
    #[error("the release was built in the future")]
    FromTheFuture,
    /// An older serial than one that was in use.
    #[error("the release has serial {offered}, but {floor} was in use already")]
    Rollback {
        /// Its serial.
        offered: u64,
        /// The highest that was ever in use.
        floor: u64,
    },
    /// It has the serial of the release in use and other content.
    #[error("another release with serial {0} is in use")]
    Conflict(u64),
    /// From another source, and older than what is in use.
    #[error("the release is older than the database in use")]
    Older,
    /// This very release is in use.
    #[error("the release is in use already")]
    InUse,
    /// A file of the release is not what the manifest says.
    #[error("{0} is not what the manifest says")]
    Digest(String),
    /// Not enough room to have it beside the one in use.
    #[error("{needed} bytes are needed on the disk, {free} are free")]
    NoSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The box's own disk.
    #[error("the database directory")]
    Store(#[from] StoreError),
    /// The program that loads it could not be run.
    #[error("the test load could not be run")]
    TestLoad(#[source] io::Error),
    /// The samples for the test load are not there.
    #[error("the test files are missing")]
    NoSamples(#[source] io::Error),
    /// clamd would not load it. The engine's words.
    #[error("it does not load: {0}")]
    DoesNotLoad(String),
    /// Loading it takes more memory than this box gives.
    #[error("it does not fit into memory: {0}")]
    NoMemory(String),
    /// Loading it or scanning the samples takes too long.
    #[error("the test load took too long")]
    TooSlow,
    /// It loads, but does not find what it must.
    #[error("it does not find {0}")]
    Misses(String),
    /// It finds something in a clean file.
    #[error("it takes {file} for {signature}")]
    FalseAlarm {
        /// The clean file.
        file: String,
        /// What it is taken for.
        signature: String,
    },
    /// clamd did not find the new canary in time. The one before is in use again, or not.
    #[error("the scanner did not load it; the one before is back: {back}")]
    NotProven {
        /// Whether the old canary was found afterwards.
        back: bool,
    },
}

impl Refused {
    /// The reason's name in the journal.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Manifest(_) => "manifest",
            Self::Expired => "expired",
            Self::FromTheFuture => "future",
            Self::Rollback { .. } => "rollback",
            Self::Conflict(_) => "conflict",
            Self::Older => "older",
            Self::InUse => "in-use",
            Self::Digest(_) => "digest",
            Self::NoSpace { .. } => "no-space",
            Self::Store(_) => "store",
            Self::TestLoad(_) => "test-load",
            Self::NoSamples(_) => "no-samples",
            Self::DoesNotLoad(_) => "does-not-load",
            Self::NoMemory(_) => "no-memory",
            Self::TooSlow => "too-slow",
            Self::Misses(_) => "misses",
            Self::FalseAlarm { .. } => "false-alarm",
            Self::NotProven { .. } => "not-proven",
        }
    }

    /// Whether asking again with the same release may help.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreadable(_)
                | Self::NoSpace { .. }
                | Self::Store(_)
                | Self::TestLoad(_)
                | Self::NoSamples(_)
                | Self::NoMemory(_)
                | Self::TooSlow
                | Self::NotProven { .. }
                | Self::FromTheFuture
        )
    }
}
