//! What the log's state means for the compliance check LOG. It measures and judges nothing: the policy does.

use gateway_policy::{Check, Grade, Observation, Observed, Source, Timestamp};

use crate::{Digest, Status};

/// The evidence for LOG. `refused`: since when the city does not accept the checkpoints.
///
/// Broken, or refused by the city (which then knows more than the disk says): the greater kind of failure. Not writable: the
/// lesser. Otherwise it dates from the city's last countersignature, before the first from the log's beginning.
#[must_use]
pub fn observe(status: &Status, refused: Option<Timestamp>, now: Timestamp) -> Observed {
    let fail = |grade, since| Observation::Fail {
        grade,
        since: Some(since),
    };
    let observation = match (status.broken, refused, status.unwritable) {
        (Some(since), _, _) | (None, Some(since), _) => fail(Grade::Major, since),
        (None, None, Some(since)) => fail(Grade::Minor, since),
        (None, None, None) => Observation::Dated {
            since: status.acknowledged.unwrap_or(status.opened).min(now),
        },
    };
    let (count, head) = status.written;
    Observed {
        check: Check::Log,
        observation,
        at: now,
        source: Source::Measured,
        digest: Digest::of(&[&status.log.0, &count.to_be_bytes(), &head.0]).0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Id;

    const T: Timestamp = Timestamp(1_795_000_000);

    fn status() -> Status {
        Status {
            log: Id([1; 16]),
            opened: T,
            written: (1, Digest::ZERO),
            critical: 0,
            broken: None,
            unwritable: None,
            accesses: None,
            checkpoint: None,
            acknowledged: None,
            lost: 0,
        }
    }

    fn seen(status: &Status, refused: Option<Timestamp>, now: Timestamp) -> Observation {
        observe(status, refused, now).observation
    }

    #[test]
    fn a_log_dates_from_the_citys_last_word_and_before_that_from_its_own_beginning() {
        let dated = |since| Observation::Dated { since };
        assert_eq!(seen(&status(), None, T.plus(9)), dated(T));
        let heard = Status {
            acknowledged: Some(T.plus(5)),
            ..status()
        };
        assert_eq!(seen(&heard, None, T.plus(9)), dated(T.plus(5)));
        // A city whose clock is ahead does not make the log younger than now.
        assert_eq!(seen(&heard, None, T.plus(3)), dated(T.plus(3)));
    }

    #[test]
    fn a_broken_chain_and_a_refusal_of_the_city_are_the_greater_failure() {
        let major = Observation::Fail {
            grade: Grade::Major,
            since: Some(T),
        };
        assert_eq!(
            seen(
                &Status {
                    broken: Some(T),
                    ..status()
                },
                None,
                T
            ),
            major
        );
        assert_eq!(seen(&status(), Some(T), T), major);
        let full = Status {
            unwritable: Some(T),
            ..status()
        };
        assert_eq!(
            seen(&full, None, T),
            Observation::Fail {
                grade: Grade::Minor,
                since: Some(T)
            }
        );
    }
}
