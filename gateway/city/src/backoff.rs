//! When to try again: exponential back-off with full jitter, and `Retry-After` obeyed.
//!
//! Pure: it neither sleeps nor draws random numbers; the caller brings a number in `0.0..1.0`.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// A source of numbers in `0.0..1.0`. Injected, so that tests and simulations are repeatable.
pub type Random = Box<dyn FnMut() -> f64 + Send + Sync>;

/// The longest `Retry-After` that is obeyed to the letter. A wrong value must not silence the box for a year.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(6 * 3600);

/// Exponential back-off with full jitter: the n-th delay is drawn evenly from zero to `first × 2ⁿ`, capped.
///
/// Full jitter keeps the boxes of a whole city, all cut off at the same moment, from returning at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts without a failure.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// Forgets past failures, after something worked for a while.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts one more failure and returns how long to wait. `unit` is a number in `0.0..1.0`; `retry_after` what the
    /// other side asked for: it is a floor, on top of which the jitter is added.
    pub fn delay(&mut self, unit: f64, retry_after: Option<Duration>) -> Duration {
        let ceiling = self
            .first
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let unit = if unit.is_finite() {
            unit.clamp(0.0, 1.0)
        } else {
            1.0
        };
        let jitter = ceiling.mul_f64(unit);
        retry_after.map_or(jitter, |floor| {
            floor.min(LONGEST_RETRY_AFTER).saturating_add(jitter)
        })
    }
}

/// Random numbers from the TLS library's generator.
pub fn system_random() -> Random {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Box::new(move || {
        let mut bytes = [0_u8; 4];
        // A generator that fails costs only jitter; half the interval is as good a guess as any.
        if provider.secure_random.fill(&mut bytes).is_err() {
            return 0.5;
        }
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    })
}

const IMF_FIXDATE: &[BorrowedFormatItem<'static>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// Parses an HTTP date in the one form senders may use (RFC 9110 §5.6.7, IMF-fixdate).
pub fn parse_http_date(value: &str) -> Option<OffsetDateTime> {
    time::PrimitiveDateTime::parse(value.trim(), IMF_FIXDATE)
        .ok()
        .map(time::PrimitiveDateTime::assume_utc)
}

/// Parses `Retry-After` (RFC 9110 §10.2.3): seconds, or a date seen from `now`.
pub fn parse_retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let at = parse_http_date(value)?;
    Some(Duration::try_from(at - now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_ceiling_doubles_from_one_second_to_five_minutes() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        let delays: Vec<u64> = (0..11)
            .map(|_| backoff.delay(1.0, None).as_secs())
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.delay(1.0, None).as_secs(), 1);
    }

    #[test]
    fn retry_after_is_a_floor_in_seconds_or_as_a_date() {
        let now = datetime!(2026-11-22 12:00 UTC);
        assert_eq!(
            parse_retry_after("120", now),
            Some(Duration::from_secs(120))
        );
        assert_eq!(
            parse_retry_after("Sun, 22 Nov 2026 12:01:00 GMT", now),
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            parse_retry_after("Sun, 22 Nov 2026 11:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(parse_retry_after("soon", now), None);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        assert!(backoff.delay(0.0, Some(Duration::from_secs(120))) >= Duration::from_secs(120));
        assert!(backoff.delay(0.0, Some(Duration::from_secs(u64::MAX))) <= LONGEST_RETRY_AFTER);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_longer_than_the_longest(units in prop::collection::vec(any::<f64>(), 1..80)) {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
            for unit in units {
                prop_assert!(backoff.delay(unit, None) <= Duration::from_secs(300));
            }
        }

        #[test]
        fn no_retry_after_value_panics(value in ".{0,40}") {
            let _ = parse_retry_after(&value, OffsetDateTime::UNIX_EPOCH);
        }
    }
}
