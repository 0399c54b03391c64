//! A point in time as it is handed in. Does not read any clock.

/// Seconds since 1970-01-01T00:00:00Z (Unix time, without leap seconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
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
