//! A point in time as it is handed in. Does not read any clock.

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01T00:00:00Z (Unix time, without leap seconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// A point that is never reached.
    pub const NEVER: Self = Self(i64::MAX);

    /// The point, or `None` where it is never reached.
    #[must_use]
    pub const fn reached(self) -> Option<Self> {
        if self.0 == i64::MAX { None } else { Some(self) }
    }

    /// Seconds from `self` to `now`; negative when `self` lies in the future.
    #[must_use]
    pub const fn age(self, now: Self) -> i64 {
        now.0.saturating_sub(self.0)
    }

    /// The point `seconds` later.
    #[must_use]
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}
