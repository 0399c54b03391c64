//! Facts about the facility that no check of the ledger covers: its certificate and its standing. Does not measure.

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
