//! How often the root of the keys may be renewed: the memory in which it lives wears with each writing.
//!
//! It only counts. Whoever is not allowed now does it later, together with what has come up meanwhile.

use rusqlite::Connection;

use crate::Error;
use crate::file::{meta, set_meta};
use crate::rekeying::Due;

const RENEWALS: &str = "renewals";
/// So many at once, as when several persons leave on one day.
const MOST: i64 = 24;
/// Afterwards one in an hour: 8,760 a year at worst, which writes each of two indices about as often; TPMs are commonly
/// rated for 100,000.
const SECONDS: i64 = 3600;

/// Of these, what is kept for persons who are gone: notes may be deleted every day, and nobody's leaving waits for them.
const FOR_PERSONS: i64 = 8;

/// Takes one renewal from what is allowed for this reason; false when nothing is left at `now`.
pub(crate) fn take(connection: &Connection, due: Due, now: i64) -> Result<bool, Error> {
    let kept = match due {
        Due::Note => FOR_PERSONS,
        Due::Person => 0,
    };
    let (left, since) = match meta(connection, RENEWALS)?.as_deref() {
        Some(bytes) => read(bytes).ok_or(Error::Damaged)?,
        None => (MOST, now),
    };
    // A clock that was set back gives nothing and takes nothing.
    let earned = now.saturating_sub(since).max(0) / SECONDS;
    let left = left.saturating_add(earned).min(MOST);
    if left <= kept && since <= now {
        return Ok(false);
    }
    let left = (left - 1).max(0);
    let since = if since > now {
        now
    } else {
        since + earned * SECONDS
    };
    let value = [left.to_be_bytes(), since.to_be_bytes()].concat();
    set_meta(connection, RENEWALS, &value)?;
    Ok(true)
}

/// Copies what is left into another database, which takes the place of this one. A damaged one has nothing to tell.
pub(crate) fn carry_over(
    from: &Connection,
) -> impl FnOnce(&Connection) -> Result<(), Error> + use<> {
    let left = meta(from, RENEWALS).ok().flatten();
    move |to| left.map_or(Ok(()), |left| set_meta(to, RENEWALS, &left))
}

fn read(bytes: &[u8]) -> Option<(i64, i64)> {
    let (left, since) = bytes.split_first_chunk::<8>()?;
    Some((
        i64::from_be_bytes(*left),
        i64::from_be_bytes(since.try_into().ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(include_str!("schema.sql"))
            .unwrap();
        connection
    }

    #[test]
    fn a_burst_is_allowed_and_afterwards_one_in_an_hour() {
        let connection = connection();
        let now = 1_800_000_000;
        for _ in 0..MOST {
            assert!(take(&connection, Due::Person, now).unwrap());
        }
        assert!(!take(&connection, Due::Person, now).unwrap());
        assert!(!take(&connection, Due::Person, now + SECONDS - 1).unwrap());
        assert!(take(&connection, Due::Person, now + SECONDS).unwrap());
        assert!(!take(&connection, Due::Person, now + SECONDS).unwrap());
        let later = now + 1000 * SECONDS;
        for _ in 0..MOST {
            assert!(take(&connection, Due::Person, later).unwrap());
        }
        assert!(!take(&connection, Due::Person, later).unwrap());
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_renewals_for_ever() {
        let connection = connection();
        let ahead = 4_000_000_000;
        while take(&connection, Due::Person, ahead).unwrap() {}
        let now = 1_800_000_000;
        assert!(take(&connection, Due::Person, now).unwrap());
        assert!(!take(&connection, Due::Person, now).unwrap());
        assert!(take(&connection, Due::Person, now + SECONDS).unwrap());
    }

    #[test]
    fn notes_that_are_deleted_every_day_leave_renewals_to_persons_who_are_gone() {
        let connection = connection();
        let now = 1_800_000_000;
        let mut taken = 0;
        while take(&connection, Due::Note, now).unwrap() {
            taken += 1;
        }
        assert_eq!(taken, MOST - FOR_PERSONS);
        for _ in 0..FOR_PERSONS {
            assert!(take(&connection, Due::Person, now).unwrap());
        }
        assert!(!take(&connection, Due::Person, now).unwrap());
        let later = now + (FOR_PERSONS + 1) * SECONDS;
        assert!(take(&connection, Due::Note, later).unwrap());
        assert!(!take(&connection, Due::Note, later).unwrap());
    }
}
