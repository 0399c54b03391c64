//! The ledger's own time: the box's clock, but never running back, so that a clock set back gives no credit.
//! Does not read the clock; whether the clock is right is the check CLOCK's business.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::record::CLOCK_STEP;

/// A jump forward of more than this while the clock is known to be behind is a correction, not time that passed.
const JUMP: i64 = 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LedgerTime {
    /// The latest moment seen, in the ledger's time.
    latest: Timestamp,
    /// The clock when it was last looked at.
    clock: Timestamp,
    /// By how much the clock was set back, in seconds; added to it until an authenticated source sets it right.
    behind: i64,
}

/// What looking at the clock has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    Normally,
    /// The clock now shows a time that was seen before.
    Backwards,
}

impl LedgerTime {
    pub(crate) const fn new(clock: Timestamp) -> Self {
        Self {
            latest: clock,
            clock,
            behind: 0,
        }
    }

    /// Takes in what the clock shows.
    pub(crate) fn pass(&mut self, clock: Timestamp) -> Passed {
        let corrected = self.clock.age(clock) > JUMP || clock >= self.latest;
        self.clock = clock;
        if self.behind > 0 && corrected {
            self.behind = clock.age(self.latest).max(0);
        }
        let missing = self.of(clock).age(self.latest);
        let backwards = missing > CLOCK_STEP;
        if backwards {
            self.behind = self.behind.saturating_add(missing);
        }
        self.latest = self.latest.max(self.of(clock));
        if backwards {
            Passed::Backwards
        } else {
            Passed::Normally
        }
    }

    /// An authenticated source says that the clock is right. Answers whether the ledger's time was ahead of it.
    pub(crate) fn authenticated(&mut self, clock: Timestamp) -> bool {
        let ahead = self.latest > clock.plus(CLOCK_STEP);
        *self = Self::new(clock);
        ahead
    }

    /// The ledger's time of what the clock calls `clock`.
    pub(crate) const fn of(&self, clock: Timestamp) -> Timestamp {
        clock.plus(self.behind)
    }

    /// The ledger's time now; never before what was seen already.
    pub(crate) fn now(&self, clock: Timestamp) -> Timestamp {
        self.of(clock).max(self.latest)
    }

    pub(crate) const fn latest(&self) -> Timestamp {
        self.latest
    }

    pub(crate) const fn behind(&self) -> i64 {
        self.behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_does_not_set_time_back() {
        let mut time = LedgerTime::new(Timestamp(10_000));
        assert_eq!(time.pass(Timestamp(10_050)), Passed::Normally);
        // A few seconds are the ordinary life of a clock.
        assert_eq!(time.pass(Timestamp(10_048)), Passed::Normally);
        assert_eq!(time.pass(Timestamp(5_000)), Passed::Backwards);
        assert_eq!(time.of(Timestamp(5_000)), Timestamp(10_050));
        assert_eq!(time.pass(Timestamp(5_010)), Passed::Normally);
        assert_eq!(time.of(Timestamp(5_010)), Timestamp(10_060));
    }

    #[test]
    fn many_small_steps_back_do_not_add_up() {
        let mut time = LedgerTime::new(Timestamp(10_000));
        for step in 1..100 {
            time.pass(Timestamp(10_000 - 50 * step));
        }
        assert!(time.of(Timestamp(10_000 - 50 * 99)) >= Timestamp(10_000 - CLOCK_STEP));
    }

    #[test]
    fn a_clock_that_is_set_right_again_does_not_jump_ahead() {
        let mut time = LedgerTime::new(Timestamp(1_000_000));
        time.pass(Timestamp(0));
        assert_eq!(time.of(Timestamp(0)), Timestamp(1_000_000));
        time.pass(Timestamp(1_000_100));
        assert_eq!(time.of(Timestamp(1_000_100)), Timestamp(1_000_100));
    }
}
