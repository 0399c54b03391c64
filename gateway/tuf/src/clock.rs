//! Which time the checks of expiry are made with.
//!
//! It reads no clock and keeps no time: a value that was wrong once is gone with the refresh it was used in.

use gateway_policy::Timestamp;

use crate::Refused;

/// How far two honest clocks may be apart, in seconds.
pub const TOLERANCE: i64 = 15 * 60;

/// The time to check expiry with: the later of the box's clock and what the city said over TLS.
///
/// The later one, because a city's server that somebody has broken into could otherwise hold the box in the past and with it
/// keep files valid that have expired. A box that is ahead of the city is not believed either: it would call
/// everything expired, and one of the two is wrong.
///
/// # Errors
/// [`Refused::WrongClock`] when the box is ahead of the city by more than [`TOLERANCE`].
pub fn agreed_time(own: Timestamp, city: Option<Timestamp>) -> Result<Timestamp, Refused> {
    match city {
        Some(city) if own.0.saturating_sub(city.0) > TOLERANCE => Err(Refused::WrongClock {
            clock: own.0,
            signed: city.0,
        }),
        Some(city) => Ok(Timestamp(own.0.max(city.0))),
        None => Ok(own),
    }
}

/// Seconds since 1970 as the core counts them, held within what it can express.
pub(crate) fn moment(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(at.0).unwrap_or(if at.0 < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_lies_about_the_past_does_not_turn_the_clock_back() {
        let own = Timestamp(1_800_000_000);
        assert!(agreed_time(own, Some(Timestamp(1_700_000_000))).is_err());
        assert_eq!(agreed_time(own, Some(Timestamp(own.0 - 60))).unwrap(), own);
    }

    #[test]
    fn a_box_that_runs_behind_takes_the_citys_time() {
        let city = Timestamp(1_800_000_000);
        assert_eq!(agreed_time(Timestamp(0), Some(city)).unwrap(), city);
    }

    #[test]
    fn a_clock_beyond_what_can_be_expressed_is_held_at_the_end() {
        assert_eq!(moment(Timestamp(i64::MAX)), jiff::Timestamp::MAX);
        assert_eq!(moment(Timestamp(i64::MIN)), jiff::Timestamp::MIN);
    }
}
