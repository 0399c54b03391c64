//! The step *scan upload*: what a client sends is collected and judged before the site sees a byte of it.
//!
//! It does not send anything to the site.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::{
    Cause, Direction, Held, Stopped, Terms, Why,
    gather::{Ungathered, gather},
    kind::{self, Kinds},
    reading::{self, Reading},
};
use crate::{
    body::{Upload, UploadError},
    connection::Connection,
    error::Failure,
    incoming::Incoming,
};

/// So many times the largest body are read of one that is not used.
const LET_GO: u64 = 4;

/// Prepares a request for the site and inspects what it carries.
pub(crate) async fn upload(
    connection: &Connection,
    terms: Terms,
    mut request: Request<Incoming>,
) -> Result<Request<Incoming>, Failure> {
    let headers = request.headers_mut();
    // A part of a file says nothing about the file: the site is asked for all of it (RFC 9110 section 14.2 lets a
    // recipient ignore ranges), and the range is cut here.
    if headers.remove(header::RANGE).is_some() {
        headers.remove(header::IF_RANGE);
    }
    reading::reduce_accept_encoding(headers);
    if request.body().is_end_stream() {
        return Ok(request);
    }
    // Boxed: most requests have no body.
    Box::pin(inspected(connection, terms, request)).await
}

async fn inspected(
    connection: &Connection,
    terms: Terms,
    request: Request<Incoming>,
) -> Result<Request<Incoming>, Failure> {
    let stop = |why: Why| Failure::Content(Stopped::new(Direction::Upload, why));
    let shared = &connection.worker.shared;
    let inspector = shared.inspection.inspector();
    let (mut head, body) = request.into_parts();
    let named = names(&head.headers);
    let interim = body.interim();
    let asks_first = head.headers.remove(header::EXPECT).is_some();
    let bounds = inspector.bounds();
    let (mut incoming, progress) = Upload::new(body, &shared.config.limits, false);
    let reading = match readable(&head.headers, &incoming, bounds.largest) {
        Ok(reading) => reading,
        Err(why) => {
            if !asks_first {
                let_go(&mut incoming, bounds.largest).await;
            }
            return Err(stop(why));
        }
    };
    // The box takes the body before the site has said a word, so it is the box that says "continue"; over HTTP/1.1 hyper
    // says it when the body is first read.
    if let (true, Some(interim)) = (asks_first, &interim) {
        interim.proceed();
    }
    let key = inspector.key(&reading);
    let gathered = gather(&mut incoming, &bounds, &key, inspector.room(), None);
    let gathered = match gathered.await.map_err(Ungathered::why) {
        Ok(gathered) => gathered,
        Err(Ok(why)) => {
            let_go(&mut incoming, bounds.largest).await;
            return Err(stop(why));
        }
        Err(Err(error)) => return Err(upload_failure(progress.failure().unwrap_or(error))),
    };
    let whole = inspector
        .judge(gathered, &reading, named, Direction::Upload, terms)
        .await
        .map_err(Failure::Content)?;
    let held = Held::new(Arc::new(whole));
    if held.has_trailers() {
        head.headers.remove(header::CONTENT_LENGTH);
    } else {
        let length = HeaderValue::from(held.left());
        head.headers.insert(header::CONTENT_LENGTH, length);
    }
    Ok(Request::from_parts(head, Incoming::held(held, interim)))
}

/// How the site will read the body, if it is one that can be inspected as far as its head tells.
fn readable(headers: &HeaderMap, body: &Upload, largest: u64) -> Result<Reading, Why> {
    if headers.contains_key(header::CONTENT_RANGE) {
        // RFC 9110 section 14.5: a partial PUT.
        return Err(Why::Unscannable(Cause::Partial));
    }
    if body.size_hint().lower() > largest {
        return Err(Why::TooLarge);
    }
    Ok(Reading::of(headers)?)
}

/// Reads what is left of a body that will not be used, within bounds: most clients that are told "no" in the middle of
/// sending see a broken connection and not the answer.
async fn let_go(body: &mut Upload, largest: u64) {
    let mut left = largest.saturating_mul(LET_GO);
    if body.size_hint().lower() > left {
        return;
    }
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}

/// What a `Content-Disposition` claims the body to be.
pub(super) fn names(headers: &HeaderMap) -> Kinds {
    headers
        .get_all(header::CONTENT_DISPOSITION)
        .iter()
        .flat_map(|value| match reading::file_names(value.as_bytes()) {
            Some(names) => names,
            // Written as nobody should: then every word of it may be a name.
            None => value
                .as_bytes()
                .split(|byte| b";=\"'".contains(byte))
                .map(<[u8]>::to_vec)
                .collect(),
        })
        .fold(Kinds::NONE, |kinds, name| {
            kinds.and(kind::of_name(&name).into())
        })
}

/// The failure behind a body that ended early.
fn upload_failure(error: UploadError) -> Failure {
    match error {
        UploadError::TooSlow => Failure::TooSlow,
        UploadError::TooLarge => Failure::BodyTooLarge,
        UploadError::Malformed => Failure::Malformed("body"),
        UploadError::Broken => Failure::Gone,
    }
}
