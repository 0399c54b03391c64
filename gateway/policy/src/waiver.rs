//! Exceptions from single checks: who may make them, for how long, for what reason. Does not lower anything itself.

use serde::{Deserialize, Serialize};

use crate::{Check, Timestamp};

const DAY: i64 = 86_400;
/// The longest reason, in bytes.
const REASON_BYTES: usize = 400;

/// Who made an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authority {
    /// The city, by its signed policy.
    City,
    /// The facility's manager, on the box.
    Manager,
}

impl Authority {
    /// The longest exception it may make from a check, in seconds; `None` where it may make none.
    ///
    /// Nobody may except what proves that scanning and booting can be trusted, nor let a database grow older than the
    /// bounds of its age allow.
    #[must_use]
    pub const fn may_waive(self, check: Check) -> Option<i64> {
        match (self, check) {
            (
                _,
                Check::AvAlive
                | Check::AvDb
                | Check::AvSelf
                | Check::AvConf
                | Check::Boot
                | Check::Clock
                | Check::Log,
            ) => None,
            (Self::City, _) => Some(90 * DAY),
            (Self::Manager, Check::PcSw | Check::PcLock | Check::PcOn | Check::PcEnc) => {
                Some(30 * DAY)
            }
            (Self::Manager, _) => None,
        }
    }
}

/// An exception. While it runs the check warns at the most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Who made it.
    pub by: Authority,
    /// Until when it runs.
    pub until: Timestamp,
    /// Why; shown in reports, so it must not name a person.
    pub reason: String,
}

/// Why an exception was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaiverError {
    /// Not by this authority, or by none.
    #[error("{} cannot be waived by this authority", .0.id())]
    NotWaivable(Check),
    /// It would last longer than it may.
    #[error("a waiver of {} lasts {longest} seconds at the most", .check.id())]
    TooLong {
        /// Which check.
        check: Check,
        /// The longest, in seconds.
        longest: i64,
    },
    /// An exception needs a reason of 1 to 400 bytes.
    #[error("a waiver needs a reason of 1 to {REASON_BYTES} bytes")]
    Reason,
    /// The device or check is not known here.
    #[error("there is no such subject")]
    NoSubject,
}

impl Waiver {
    /// Whether it may be made.
    ///
    /// # Errors
    /// [`WaiverError`] says what is wrong with it.
    pub fn permitted(&self, check: Check, now: Timestamp) -> Result<(), WaiverError> {
        let Some(longest) = self.by.may_waive(check) else {
            return Err(WaiverError::NotWaivable(check));
        };
        if now.age(self.until) > longest {
            return Err(WaiverError::TooLong { check, longest });
        }
        if self.reason.is_empty() || self.reason.len() > REASON_BYTES {
            return Err(WaiverError::Reason);
        }
        Ok(())
    }
}
