//! Where the bytes of a release's images come from, as far as the writer must know; and how fast they may come.
//!
//! A source is believed in nothing: whoever takes from it checks each block against the index.

use std::time::Duration;

use bytes::Bytes;

use crate::UpdateError;
use crate::index::Image;

/// The images of one release.
pub trait Source {
    /// The bytes of an image on their way.
    type Pieces: Pieces;

    /// Opens an image from the offset `from` on.
    ///
    /// # Errors
    /// When it is not to be had.
    fn open(
        &self,
        image: Image,
        from: u64,
    ) -> impl Future<Output = Result<Self::Pieces, UpdateError>>;
}

/// Bytes in the order they come.
pub trait Pieces {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When it does not come.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, UpdateError>>;
}

/// A token bucket: how fast an update may come, so that the facility's line stays free for its work.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Bytes per second; `None` for no bound.
    rate: Option<u64>,
    /// Bytes that may come at once.
    burst: u64,
    /// Bytes that may come now.
    level: f64,
    /// When `level` was right, counted from any beginning.
    at: Duration,
}

impl Bucket {
    /// A full bucket for `rate` bytes per second, with a second's worth of burst.
    #[must_use]
    pub const fn new(rate: Option<u64>) -> Self {
        let burst = match rate {
            Some(rate) => rate,
            None => 0,
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "bytes of one second are far below 2^52"
        )]
        let level = burst as f64;
        Self {
            rate,
            burst,
            level,
            at: Duration::ZERO,
        }
    }

    /// Takes `bytes` at the moment `now`; returns how long to wait before more may come.
    #[expect(
        clippy::cast_precision_loss,
        reason = "pieces and rates are far below 2^52"
    )]
    pub fn take(&mut self, bytes: usize, now: Duration) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let rate = rate.max(1) as f64;
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * rate).min(self.burst as f64) - bytes as f64;
        self.at = now;
        Duration::try_from_secs_f64(-self.level / rate).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn over_any_time_no_more_comes_than_the_rate_allows(
            pieces in proptest::collection::vec(1usize..300_000, 1..50), rate in 16_384u64..4_000_000,
        ) {
            let mut bucket = Bucket::new(Some(rate));
            let mut now = Duration::ZERO;
            let mut sum = 0;
            for piece in pieces {
                sum += piece as u64;
                now += bucket.take(piece, now);
                let allowed = rate as f64 * (now.as_secs_f64() + 1.0) + 1.0;
                prop_assert!(sum as f64 <= allowed, "{sum} in {now:?}");
            }
        }
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        assert_eq!(
            Bucket::new(None).take(usize::MAX, Duration::ZERO),
            Duration::ZERO
        );
    }
}
