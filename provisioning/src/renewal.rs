//! When a certificate is due for renewal.
//!
//! Pure: it reads no clock and draws no random number.

use time::{Duration, OffsetDateTime};

/// The moment from which a certificate is to be renewed: two thirds of its life, plus up to a twelfth of its life.
///
/// `jitter` in `0.0..1.0` spreads a city's boxes that were all provisioned in the same week; it should depend on the
/// certificate (see [`jitter_of`]), so that a restart does not draw anew.
pub fn due(not_before: OffsetDateTime, not_after: OffsetDateTime, jitter: f64) -> OffsetDateTime {
    let life: Duration = (not_after - not_before).max(Duration::ZERO);
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let spread = (life / 12_i32).whole_seconds();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "whole seconds suffice"
    )]
    let extra = Duration::seconds((spread as f64 * jitter) as i64);
    not_before
        .saturating_add(life * 2_i32 / 3_i32)
        .saturating_add(extra)
}

/// A number in `0.0..1.0` that is always the same for one certificate.
pub fn jitter_of(leaf_der: &[u8]) -> f64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf_der);
    let mut first = [0_u8; 4];
    first.copy_from_slice(&digest.as_ref()[..4]);
    f64::from(u32::from_be_bytes(first)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn renewal_is_due_between_two_thirds_and_three_quarters_of_life(
            begin in 0_i64..4_000_000_000,
            life in 60_i64..1_000_000_000,
            jitter in any::<f64>(),
        ) {
            let not_before = OffsetDateTime::from_unix_timestamp(begin).expect("in range");
            let not_after = not_before + Duration::seconds(life);
            let due = due(not_before, not_after, jitter);
            let elapsed = (due - not_before).whole_seconds();
            prop_assert!(elapsed >= life * 2 / 3 - 1, "{elapsed} of {life}");
            prop_assert!(elapsed <= life * 3 / 4 + 1, "{elapsed} of {life}");
            prop_assert!(due < not_after);
        }

        #[test]
        fn no_validity_makes_it_panic(begin in any::<i32>(), end in any::<i32>(), jitter in any::<f64>()) {
            let at = |seconds: i32| OffsetDateTime::from_unix_timestamp(seconds.into()).expect("in range");
            let _ = due(at(begin), at(end), jitter);
        }

        #[test]
        fn the_jitter_of_a_certificate_never_changes(leaf in prop::collection::vec(any::<u8>(), 0..50)) {
            let jitter = jitter_of(&leaf);
            prop_assert!((0.0..1.0).contains(&jitter));
            prop_assert!((jitter - jitter_of(&leaf)).abs() < f64::EPSILON);
        }
    }
}
