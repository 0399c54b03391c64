//! CLOCK: does the clock agree with time that somebody trusted has signed, and does it never run back behind it? Does not set the
//! clock and does not ask anybody for the time.

use gateway_policy::{Check, Grade, Observation, Observed, Timestamp};

use crate::evidence::Raw;

/// How far the box's clock may be from authenticated time, in seconds. Certificates and the store's age bounds are judged by it.
pub const CLOCK_TOLERANCE: i64 = 300;

/// How the clock stands beside authenticated time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Within the tolerance.
    Agrees,
    /// Too fast or too slow.
    Differs,
}

/// Compares the clock with a time that came over an authenticated connection just now.
#[must_use]
pub const fn agreement(clock: Timestamp, authenticated: Timestamp) -> Agreement {
    if authenticated.age(clock).saturating_abs() <= CLOCK_TOLERANCE {
        Agreement::Agrees
    } else {
        Agreement::Differs
    }
}

/// The latest moment that is known to have passed, from authenticated time alone: whoever turns the clock back is below it.
///
/// Our own clock never raises it, or one wrong setting (the year 2090) would condemn every right one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeFloor(Timestamp);

impl TimeFloor {
    /// A floor that was kept.
    #[must_use]
    pub const fn kept(floor: Timestamp) -> Self {
        Self(floor)
    }

    /// What to keep.
    #[must_use]
    pub const fn floor(&self) -> Timestamp {
        self.0
    }

    /// Takes in a time that came over an authenticated connection just now, and says how the clock stands beside it.
    pub fn compare(&mut self, clock: Timestamp, authenticated: Timestamp) -> Observed {
        self.0 = self.0.max(authenticated);
        let mut raw = self.raw();
        raw.note("authenticated", Some(&authenticated.0.to_string()));
        raw.note("clock", Some(&clock.0.to_string()));
        let observation = match agreement(clock, authenticated) {
            Agreement::Agrees => Observation::Pass,
            Agreement::Differs => WRONG,
        };
        raw.observed(Check::Clock, observation, clock)
    }

    /// Without asking anybody: `None` while nothing speaks against the clock, which is no proof that it is right.
    #[must_use]
    pub fn look(&self, clock: Timestamp) -> Option<Observed> {
        if clock.plus(CLOCK_TOLERANCE) >= self.0 {
            return None;
        }
        let mut raw = self.raw();
        raw.note("clock", Some(&clock.0.to_string()));
        Some(raw.observed(Check::Clock, WRONG, clock))
    }

    fn raw(&self) -> Raw {
        let mut raw = Raw::default();
        raw.note("floor", Some(&self.0.0.to_string()));
        raw
    }
}

const WRONG: Observation = Observation::Fail {
    grade: Grade::Major,
    since: None,
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clock_turned_back_behind_what_the_city_said_is_wrong_without_asking_the_city() {
        let mut floor = TimeFloor::kept(Timestamp(0));
        let compared = floor.compare(Timestamp(10_000), Timestamp(10_010));
        assert_eq!(compared.observation, Observation::Pass);
        let kept = TimeFloor::kept(floor.floor());
        let looked = |clock| {
            kept.look(Timestamp(clock))
                .map(|observed| observed.observation)
        };
        assert_eq!(looked(9_000), Some(WRONG));
        assert_eq!(looked(10_020), None);
        assert_eq!(looked(9_800), None, "within the tolerance");
    }

    #[test]
    fn a_clock_far_ahead_does_not_raise_the_floor() {
        let mut floor = TimeFloor::kept(Timestamp(10_000));
        let far = Timestamp(3_800_000_000);
        assert_eq!(floor.compare(far, Timestamp(10_100)).observation, WRONG);
        assert_eq!(floor.floor(), Timestamp(10_100));
        let right = floor.compare(Timestamp(10_200), Timestamp(10_205));
        assert_eq!(right.observation, Observation::Pass);
    }

    proptest! {
        #[test]
        fn the_floor_never_sinks(times in proptest::collection::vec((0_i64..1 << 40, 0_i64..1 << 40), 1..40)) {
            let mut floor = TimeFloor::kept(Timestamp(0));
            for (clock, authenticated) in times {
                let before = floor.floor();
                floor.compare(Timestamp(clock), Timestamp(authenticated));
                prop_assert!(floor.floor() >= before);
                prop_assert!(floor.floor() >= Timestamp(authenticated));
                prop_assert!(floor.look(floor.floor()).is_none());
            }
        }
    }
}
