//! Free TCP ports on the loopback addresses.
//!
//! It cannot keep a port reserved: the process that is given the number binds it a moment later.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::SystemTime;

use crate::{Error, Result};

/// Below Linux's range for outgoing connections (32768 and up), so that no client socket takes a number in between; above
/// 10080 (Amanda), the highest that browsers refuse to open (Fetch standard, "bad port").
const RANGE: std::ops::Range<u16> = 10_100..30_000;

/// Numbers already given out by this process; tests run in parallel threads.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody listens on, neither on 127.0.0.1 nor on ::1.
///
/// # Errors
/// When no free port is found.
pub fn free() -> Result<u16> {
    consecutive(1)
}

/// The first of `count` free ports in a row (swtpm's TCTI insists on two: commands, and control on the next).
///
/// # Errors
/// When no such row is found.
pub fn consecutive(count: u16) -> Result<u16> {
    let mut given = GIVEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut candidate = starting_point();
    for _ in 0..2_000 {
        candidate = if candidate + count < RANGE.end {
            candidate + count
        } else {
            RANGE.start
        };
        let row = candidate..candidate + count;
        if row
            .clone()
            .all(|port| !given.contains(&port) && is_free(port))
        {
            given.extend(row);
            return Ok(candidate);
        }
    }
    Err(Error::new(format!("found no {count} free ports in a row")))
}

/// Two test processes that start together should not walk the range in step.
fn starting_point() -> u16 {
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |passed| passed.subsec_nanos());
    let mixed = (nanos / 64) ^ std::process::id().wrapping_mul(2_654_435_761);
    let span = u32::from(RANGE.end - RANGE.start);
    RANGE.start + u16::try_from(mixed % span).unwrap_or(0)
}

fn is_free(port: u16) -> bool {
    let ipv6_possible = TcpListener::bind(("::1", 0)).is_ok();
    TcpListener::bind(("127.0.0.1", port)).is_ok()
        && (!ipv6_possible || TcpListener::bind(("::1", port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_out_only_once() {
        let first = consecutive(2).unwrap();
        let second = consecutive(2).unwrap();
        assert!(first.abs_diff(second) >= 2);
    }

    #[test]
    fn a_port_in_use_is_not_given_out() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
