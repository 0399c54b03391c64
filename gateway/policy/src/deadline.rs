//! Waits, ladders of them, and the points in time they lead to. Does not know checks or evidence.

use serde::{Deserialize, Serialize};

use crate::calendar::{Date, is_support_day};
use crate::{Effect, Timestamp};

/// How long something may last before the next effect sets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The effect never sets in.
    Never,
    /// So many seconds.
    Seconds(i64),
    /// Until the end of the n-th Japanese working day after the day it began (`calendar`).
    BusinessDays(u8),
}

impl Wait {
    /// When the effect sets in for what began at `from`; [`Timestamp::NEVER`] when it does not.
    #[must_use]
    pub fn after(self, from: Timestamp) -> Timestamp {
        match self {
            Self::Never => Timestamp::NEVER,
            Self::Seconds(seconds) => from.plus(seconds),
            Self::BusinessDays(days) => {
                let mut date = Date::in_japan(from);
                let mut left = days;
                while left > 0 {
                    date = date.tomorrow();
                    if is_support_day(date) {
                        left -= 1;
                    }
                }
                date.tomorrow().midnight_in_japan()
            }
        }
    }
}

/// The waits before a warning, a restriction and a block, each counted from the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Until the manager is warned.
    pub warn: Wait,
    /// Until no file passes.
    pub restrict: Wait,
    /// Until nothing passes.
    pub block: Wait,
}

impl Ladder {
    /// The rung that leads to `effect`; none leads to [`Effect::Allow`].
    #[must_use]
    pub const fn rung(&self, effect: Effect) -> Wait {
        match effect {
            Effect::Allow => Wait::Never,
            Effect::Warn => self.warn,
            Effect::Restrict => self.restrict,
            Effect::Block => self.block,
        }
    }

    /// The deadlines of what began at `from`.
    #[must_use]
    pub fn from(&self, from: Timestamp) -> Deadlines {
        Deadlines([
            self.warn.after(from),
            self.restrict.after(from),
            self.block.after(from),
        ])
    }
}

/// When a warning, a restriction and a block set in. Only ever moved earlier, except by new good evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines([Timestamp; 3]);

/// The effects with a deadline, mildest first.
const RUNGS: [Effect; 3] = [Effect::Warn, Effect::Restrict, Effect::Block];

impl Deadlines {
    /// Nothing ever sets in.
    pub const NEVER: Self = Self([Timestamp::NEVER; 3]);

    /// What is in force at `now`.
    #[must_use]
    pub fn effect(&self, now: Timestamp) -> Effect {
        let [warn, restrict, block] = self.0;
        if block <= now {
            Effect::Block
        } else if restrict <= now {
            Effect::Restrict
        } else if warn <= now {
            Effect::Warn
        } else {
            Effect::Allow
        }
    }

    /// When the next harder effect sets in, and which, if ever. Of two at the same moment the harder.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<(Effect, Timestamp)> {
        let in_force = self.effect(now);
        RUNGS
            .into_iter()
            .rev()
            .filter(|rung| *rung > in_force)
            .map(|rung| (rung, self.at(rung)))
            .filter(|(_, at)| *at < Timestamp::NEVER)
            .min_by_key(|(_, at)| *at)
    }

    /// Whether something harder than `effect` ever sets in.
    pub(crate) fn leads_beyond(&self, effect: Effect) -> bool {
        let mut harder = RUNGS.into_iter().filter(|rung| *rung > effect);
        harder.any(|rung| self.at(rung) < Timestamp::NEVER)
    }

    /// When the first effect sets in.
    #[must_use]
    pub fn first(&self) -> Timestamp {
        let [warn, restrict, block] = self.0;
        warn.min(restrict).min(block)
    }

    /// When `effect` sets in; [`Timestamp::NEVER`] for [`Effect::Allow`].
    #[must_use]
    pub const fn at(&self, effect: Effect) -> Timestamp {
        match effect {
            Effect::Allow => Timestamp::NEVER,
            Effect::Warn => self.0[0],
            Effect::Restrict => self.0[1],
            Effect::Block => self.0[2],
        }
    }

    /// The earlier of both, rung by rung.
    #[must_use]
    pub fn tightened(&self, other: &Self) -> Self {
        let mut both = self.0;
        for (mine, theirs) in both.iter_mut().zip(other.0) {
            *mine = (*mine).min(theirs);
        }
        Self(both)
    }

    /// The same with the deadline of one effect put off.
    pub(crate) const fn postponed(mut self, effect: Effect, until: Timestamp) -> Self {
        match effect {
            Effect::Allow => {}
            Effect::Warn => self.0[0] = until,
            Effect::Restrict => self.0[1] = until,
            Effect::Block => self.0[2] = until,
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_business_days_skip_weekends_holidays_and_new_year() {
        let day = |year, month, day| Date { year, month, day }.midnight_in_japan();
        // Friday 20 November 2026; Monday is a holiday. Tuesday, Wednesday, Thursday; over at midnight.
        let friday = day(2026, 11, 20).plus(15 * 3600);
        assert_eq!(Wait::BusinessDays(3).after(friday), day(2026, 11, 27));
        // 28 December 2026 is the last working day; 4 to 6 January count.
        let last = day(2026, 12, 28).plus(9 * 3600);
        assert_eq!(Wait::BusinessDays(3).after(last), day(2027, 1, 7));
    }

    #[test]
    fn deadlines_lead_from_effect_to_effect() {
        let ladder = Ladder {
            warn: Wait::Seconds(10),
            restrict: Wait::Seconds(20),
            block: Wait::Never,
        };
        let deadlines = ladder.from(Timestamp(100));
        let at = |now| {
            (
                deadlines.effect(Timestamp(now)),
                deadlines.next(Timestamp(now)),
            )
        };
        assert_eq!(
            at(109),
            (Effect::Allow, Some((Effect::Warn, Timestamp(110))))
        );
        assert_eq!(
            at(110),
            (Effect::Warn, Some((Effect::Restrict, Timestamp(120))))
        );
        assert_eq!(at(120), (Effect::Restrict, None));
    }
}
