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
pub struct TimeFloor {
    floor: Timestamp,
    /// The last authenticated time that agreed with the clock, if one did.
    agreed: Option<Timestamp>,
}

impl TimeFloor {
    /// A floor that was kept; nothing has been compared yet.
    #[must_use]
    pub const fn kept(floor: Timestamp) -> Self {
        Self {
            floor,
            agreed: None,
        }
    }

    /// What to keep.
    #[must_use]
    pub const fn floor(&self) -> Timestamp {
        self.floor
    }

    /// Takes in authenticated time; returns whether the floor rose.
    pub fn compare(&mut self, clock: Timestamp, authenticated: Timestamp) -> bool {
        self.agreed = match agreement(clock, authenticated) {
            Agreement::Agrees => Some(clock),
            Agreement::Differs => None,
        };
        let rises = authenticated > self.floor;
        if rises {
            self.floor = authenticated;
        }
        rises
    }

    /// The evidence at `clock`. `differs` says that the last comparison found the clock wrong.
    #[must_use]
    pub fn observed(&self, clock: Timestamp, differs: bool) -> Observed {
        let mut raw = Raw::default();
        raw.note("floor", Some(&self.floor.0.to_string()));
        raw.note("differs", Some(if differs { "yes" } else { "no" }));
        raw.note(
            "agreed",
            self.agreed.map(|agreed| agreed.0.to_string()).as_deref(),
        );
        let behind = clock.plus(CLOCK_TOLERANCE) < self.floor;
        let observation = match self.agreed {
            _ if behind || differs => Observation::Fail {
                grade: Grade::Major,
                since: None,
            },
            Some(agreed) => Observation::Dated { since: agreed },
            // The floor alone says how old the last word about the time is.
            None => Observation::Dated { since: self.floor },
        };
        raw.observed(Check::Clock, observation, clock)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failed(observed: &Observed) -> bool {
        matches!(observed.observation, Observation::Fail { .. })
    }

    #[test]
    fn a_clock_turned_back_behind_what_the_city_said_is_wrong_without_asking_the_city() {
        let mut floor = TimeFloor::kept(Timestamp(0));
        assert!(floor.compare(Timestamp(10_000), Timestamp(10_010)));
        let kept = TimeFloor::kept(floor.floor());
        assert!(failed(&kept.observed(Timestamp(9_000), false)));
        assert!(!failed(&kept.observed(Timestamp(10_020), false)));
    }

    #[test]
    fn a_clock_far_ahead_does_not_raise_the_floor() {
        let mut floor = TimeFloor::kept(Timestamp(10_000));
        let far = Timestamp(3_800_000_000);
        floor.compare(far, Timestamp(10_100));
        assert_eq!(floor.floor(), Timestamp(10_100));
        assert!(failed(&floor.observed(far, true)));
        floor.compare(Timestamp(10_200), Timestamp(10_205));
        assert!(!failed(&floor.observed(Timestamp(10_200), false)));
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
            }
        }
    }
}
