//! Waves: the signed schedule says which part of all boxes takes a release from when on. Pure.
//!
//! A box's place is computed from its id and the version, so that each release has other boxes first and nobody has to keep a list. What this box
//! is allowed to install is decided elsewhere.

use aws_lc_rs::digest::{Context, SHA256};
use gateway_policy::Timestamp;

/// From `not_before` on, the boxes with a place below `per_mille` take the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wave {
    /// The wave's beginning.
    pub not_before: Timestamp,
    /// Of a thousand boxes, how many have taken part when the wave has begun; 0 to 1000.
    pub per_mille: u16,
}

/// When a box may take a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligible {
    /// Since ever: there is no schedule.
    Always,
    /// From this moment on.
    From(Timestamp),
    /// In no wave so far; a later manifest may have one.
    Never,
}

/// A box's place among a thousand for one version: the first 8 bytes of SHA-256(id ‖ version), big-endian, scaled to 0..1000.
#[must_use]
pub fn place(box_id: &str, version: &str) -> u16 {
    let mut context = Context::new(&SHA256);
    context.update(box_id.as_bytes());
    context.update(version.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&context.finish().as_ref()[..8]);
    let scaled = (u128::from(u64::from_be_bytes(first)) * 1000) >> 64;
    // Below 1000, since the first factor is below 2^64.
    u16::try_from(scaled).unwrap_or(999)
}

/// When the box at `place` may take a release with this schedule: the earliest wave that reaches its place.
#[must_use]
pub fn eligible(schedule: &[Wave], place: u16) -> Eligible {
    if schedule.is_empty() {
        return Eligible::Always;
    }
    let reached = schedule.iter().filter(|wave| place < wave.per_mille);
    let earliest = reached.map(|wave| wave.not_before).min();
    earliest.map_or(Eligible::Never, Eligible::From)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wave(at: i64, per_mille: u16) -> Wave {
        Wave {
            not_before: Timestamp(at),
            per_mille,
        }
    }

    #[test]
    fn a_box_takes_part_from_the_first_wave_that_reaches_it() {
        let schedule = [wave(300, 1000), wave(100, 10), wave(200, 200)];
        for (place, at) in [
            (0, 100),
            (9, 100),
            (10, 200),
            (199, 200),
            (200, 300),
            (999, 300),
        ] {
            assert_eq!(
                eligible(&schedule, place),
                Eligible::From(Timestamp(at)),
                "{place}"
            );
        }
        assert_eq!(eligible(&[wave(0, 500)], 500), Eligible::Never);
        assert_eq!(eligible(&[], 999), Eligible::Always);
    }

    #[test]
    fn the_places_are_spread_evenly_and_differ_between_versions() {
        let places = |version: &str| -> Vec<u16> {
            (0..10_000)
                .map(|n| place(&format!("box-{n}"), version))
                .collect()
        };
        let (one, two) = (places("1.0"), places("1.1"));
        assert!(one.iter().all(|place| *place < 1000));
        let early = one.iter().filter(|place| **place < 100).count();
        assert!((900..1100).contains(&early), "{early}");
        let same = one.iter().zip(&two).filter(|(a, b)| a == b).count();
        assert!(same < 50, "{same}");
        // Computed once with Python's hashlib.
        assert_eq!(place("box-1", "1.0"), 983);
    }

    proptest! {
        #[test]
        fn whoever_comes_earlier_in_the_row_never_waits_longer(
            waves in proptest::collection::vec((0i64..1000, 0u16..=1000), 1..6), a in 0u16..1000, b in 0u16..1000,
        ) {
            let schedule: Vec<Wave> = waves.into_iter().map(|(at, n)| wave(at, n)).collect();
            let at = |place| match eligible(&schedule, place) {
                Eligible::Always => i64::MIN,
                Eligible::From(at) => at.0,
                Eligible::Never => i64::MAX,
            };
            prop_assert!(at(a.min(b)) <= at(a.max(b)));
        }
    }
}
