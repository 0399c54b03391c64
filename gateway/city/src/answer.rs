//! Reads the city's answers: what a status means, and bodies within bounds of size and time.
//!
//! It does not decide whether to try again.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use time::OffsetDateTime;

use crate::backoff::{parse_http_date, parse_retry_after};
use crate::error::Revocation;
use crate::wire::{MAX_PROBLEM, Problem, problem_type};
use crate::{CityError, Timeouts};

/// Passes 2xx on and turns every other answer into [`CityError::Refused`] or [`CityError::Revoked`], with the problem
/// document and `Retry-After` read.
///
/// # Errors
/// When the status is not 2xx.
pub async fn expect_success(
    host: &str,
    timeouts: &Timeouts,
    response: Response<Incoming>,
) -> Result<Response<Incoming>, CityError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let text = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let now = OffsetDateTime::now_utc();
    // A date is best read against the sender's own clock.
    let retry_after = text(RETRY_AFTER).and_then(|value| {
        parse_retry_after(value, text(DATE).and_then(parse_http_date).unwrap_or(now))
    });
    let media_type = text(CONTENT_TYPE).unwrap_or_default();
    let problem = read_limited(host, body, MAX_PROBLEM, timeouts.idle)
        .await
        .ok()
        .and_then(|body| Problem::parse(media_type, &body));
    if problem
        .as_ref()
        .is_some_and(|problem| problem.kind == problem_type::CERTIFICATE_REVOKED)
    {
        return Err(CityError::Revoked {
            by: Revocation::Problem,
        });
    }
    let problem = problem.map(Box::new);
    Err(CityError::Refused {
        host: host.to_owned(),
        status: parts.status,
        problem,
        retry_after,
    })
}

/// Reads a body of at most `limit` bytes, with at most `idle` between two pieces.
///
/// # Errors
/// When it is longer, breaks off, or stalls.
pub async fn read_limited(
    host: &str,
    mut body: Incoming,
    limit: usize,
    idle: Duration,
) -> Result<Bytes, CityError> {
    let too_large = || CityError::TooLarge {
        host: host.to_owned(),
        limit,
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut out = BytesMut::new();
    while let Some(piece) = next_piece(host, &mut body, idle).await? {
        if out.len() + piece.len() > limit {
            return Err(too_large());
        }
        out.extend_from_slice(&piece);
    }
    Ok(out.freeze())
}

/// The next piece of a body; `None` at its end. Trailers are skipped.
///
/// # Errors
/// When the body breaks off or nothing comes for `idle`.
pub async fn next_piece(
    host: &str,
    body: &mut Incoming,
    idle: Duration,
) -> Result<Option<Bytes>, CityError> {
    loop {
        let frame = tokio::time::timeout(idle, body.frame())
            .await
            .map_err(|_| CityError::Timeout {
                host: host.to_owned(),
                what: "send on",
                limit: idle,
            })?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(CityError::Broken {
                    host: host.to_owned(),
                    source: error.into(),
                });
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The `Date` of a response: what the other side believes the time is.
pub fn date<B>(response: &Response<B>) -> Option<OffsetDateTime> {
    response
        .headers()
        .get(DATE)?
        .to_str()
        .ok()
        .and_then(parse_http_date)
}

/// True for statuses that a later attempt may turn into success.
pub fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}
