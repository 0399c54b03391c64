//! Reads within bounds of size and time, which is what stops endless data and slow retrieval (TUF specification §1.5.2).
//!
//! It does not know what it reads.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::transport::{Body, Fetching};
use crate::{Refused, TransportError};

/// How slow a repository may be.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two pieces.
    pub idle: Duration,
    /// For any file, however small.
    pub grace: Duration,
    /// Bytes per second on the average, beyond `grace`.
    pub slowest: u64,
}

impl Default for Pace {
    fn default() -> Self {
        // A facility may sit behind a bad mobile connection; 8 KiB/s brings 100 MB in three and a half hours.
        Self {
            idle: Duration::from_secs(20),
            grace: Duration::from_secs(60),
            slowest: 8 * 1024,
        }
    }
}

/// The time one file has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    idle: Duration,
    until: Instant,
}

impl Allowance {
    /// For a file of at most `length` bytes, beginning now.
    pub(crate) fn new(pace: &Pace, length: u64) -> Self {
        let at_slowest = Duration::from_secs(length / pace.slowest.max(1));
        Self {
            idle: pace.idle,
            until: Instant::now() + pace.grace + at_slowest,
        }
    }

    /// Waits for an answer or a piece.
    pub(crate) async fn wait<T>(
        &self,
        file: &str,
        fetching: Fetching<'_, T>,
    ) -> Result<Result<T, TransportError>, Refused> {
        let until = self.until.min(Instant::now() + self.idle);
        timeout_at(until, fetching)
            .await
            .map_err(|_| Refused::SlowRetrieval {
                file: file.to_owned(),
            })
    }

    /// The next piece of `body`.
    pub(crate) async fn next(
        &self,
        file: &str,
        body: &mut Body,
    ) -> Result<Result<Option<Bytes>, TransportError>, Refused> {
        self.wait(file, body.pieces.next()).await
    }
}

/// Reads a whole small file of at most `limit` bytes.
pub(crate) async fn read(
    file: &str,
    opening: Fetching<'_, Option<Body>>,
    limit: u64,
    pace: &Pace,
) -> Result<Option<Vec<u8>>, Refused> {
    let allowance = Allowance::new(pace, limit);
    let failed = |source| Refused::unreachable(file, source);
    let Some(mut body) = allowance.wait(file, opening).await?.map_err(failed)? else {
        return Ok(None);
    };
    let mut out = Vec::new();
    while let Some(piece) = allowance.next(file, &mut body).await?.map_err(failed)? {
        if (out.len() + piece.len()) as u64 > limit {
            return Err(Refused::EndlessData {
                file: file.to_owned(),
                limit,
            });
        }
        out.extend_from_slice(&piece);
    }
    Ok(Some(out))
}
