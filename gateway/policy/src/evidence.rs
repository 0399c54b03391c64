//! What has been measured, each fact known or unknown, and since when. Does not measure.

use crate::Timestamp;

/// How far evidence may lie in the future before it is disbelieved, in seconds.
///
/// The clock is corrected in small steps; a fact from further ahead was recorded under another clock.
pub(crate) const CLOCK_STEP: i64 = 60;

/// A fact with its time, or the honest statement that it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence<T> {
    /// Measured.
    Known {
        /// What was seen.
        value: T,
        /// When it was seen.
        at: Timestamp,
    },
    /// Never measured, or the measurement failed.
    Unknown {
        /// Since when nothing is known.
        since: Timestamp,
    },
}

impl<T: Copy> Evidence<T> {
    /// The fact, unless it is unknown or claims to come from the future.
    pub(crate) fn believed(self, now: Timestamp) -> Result<(T, Timestamp), Timestamp> {
        match self {
            Self::Known { value, at } if at.age(now) >= -CLOCK_STEP => Ok((value, at)),
            Self::Known { .. } => Err(now),
            Self::Unknown { since } => Err(since),
        }
    }
}

/// Whether the virus scanner is provably catching something.
///
/// As evidence, `at` is the time of the canary scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Antivirus {
    /// The canary was caught and a clean body passed.
    Alive,
    /// The newest canary scan failed.
    Failing {
        /// When the canary was last caught; of a scanner that never caught it, when it was first tried.
        since: Timestamp,
    },
}

/// Whether the clock can be trusted.
///
/// As evidence, `at` is the last time it was compared with an authenticated source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It agreed with an authenticated source.
    Sane,
    /// It was found behind a time that had already been seen, or far from the source.
    Wrong {
        /// Since when.
        since: Timestamp,
    },
}

/// The state of the facility certificate (電子証明書) that the box presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// There is none: the box has not been provisioned, or has been decommissioned.
    Absent,
    /// There is one and its key loads.
    Held {
        /// Begin of its validity.
        not_before: Timestamp,
        /// End of its validity, inclusive (RFC 5280 §4.1.2.5).
        not_after: Timestamp,
    },
    /// The city has revoked it.
    Revoked {
        /// When the box learnt of it.
        since: Timestamp,
    },
    /// The certificate is there but the TPM no longer loads its key.
    KeyLost {
        /// When that was found.
        since: Timestamp,
    },
}

/// Whether the city lets this facility take part.
///
/// As evidence, `at` is the last time the city said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In good standing.
    Active,
    /// Suspended (第35条第2項).
    Suspended {
        /// When the box learnt of it.
        since: Timestamp,
    },
}

/// All evidence at one moment. Small and `Copy`, so that judging allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When the snapshot was put together; an old one proves nothing.
    pub taken: Timestamp,
    /// The virus scanner (第27条).
    pub antivirus: Evidence<Antivirus>,
    /// The box's clock.
    pub clock: Evidence<Clock>,
    /// The facility certificate (第6条).
    pub certificate: Evidence<Certificate>,
    /// The facility's standing with the city (第35条).
    pub standing: Evidence<Standing>,
}

impl Snapshot {
    /// The snapshot of a box that has measured nothing yet.
    #[must_use]
    pub const fn nothing_known(taken: Timestamp) -> Self {
        Self {
            taken,
            antivirus: Evidence::Unknown { since: taken },
            clock: Evidence::Unknown { since: taken },
            certificate: Evidence::Unknown { since: taken },
            standing: Evidence::Unknown { since: taken },
        }
    }
}
