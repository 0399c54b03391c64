//! Times as people in Japan read them. Keeps no clock.

use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// UTC+9; Japan has no summer time.
const JST: UtcOffset = match UtcOffset::from_hms(9, 0, 0) {
    Ok(offset) => offset,
    Err(_) => UtcOffset::UTC,
};

/// `2026-11-22 14:05`, Japan Standard Time; a dash for no time.
pub(crate) fn shown(unix: Option<i64>) -> String {
    unix.and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok())
        .and_then(|at| {
            at.to_offset(JST)
                .format(format_description!("[year]-[month]-[day] [hour]:[minute]"))
                .ok()
        })
        .unwrap_or_else(|| "–".to_owned())
}
