//! The clock of the city, and times as the pages (Japan Standard Time) and the interface (RFC 3339) write them.
//!
//! Keeps no time of its own and no time zone but Japan's, which has had no summer time since 1951.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// Japan Standard Time, UTC+9.
pub const JST: UtcOffset = match UtcOffset::from_hms(9, 0, 0) {
    Ok(offset) => offset,
    Err(_) => UtcOffset::UTC,
};

/// Unix seconds now.
#[must_use]
pub fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn in_japan(unix: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(unix)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .to_offset(JST)
}

/// RFC 3339 in Japan Standard Time.
#[must_use]
pub fn rfc3339(unix: i64) -> String {
    in_japan(unix).format(&Rfc3339).unwrap_or_default()
}

/// As a page shows it: `11月22日 14:05`.
#[must_use]
pub fn shown(unix: i64) -> String {
    in_japan(unix)
        .format(format_description!(
            "[month padding:none]月[day padding:none]日 [hour]:[minute]"
        ))
        .unwrap_or_default()
}

/// A date as a page shows it: `2026年11月22日`.
#[must_use]
pub fn shown_date(unix: i64) -> String {
    in_japan(unix)
        .format(format_description!(
            "[year]年[month padding:none]月[day padding:none]日"
        ))
        .unwrap_or_default()
}
