//! The step *scan upload*: what a client sends is collected and judged before the site sees a byte of it.
//!
//! It does not send anything to the site.

use std::sync::Arc;

use http::{HeaderValue, Request, header};
use http_body::Body as _;

use super::{
    Cause, Direction, Held, Stopped, Terms, Why,
    gather::gather,
    kind::{self, Kinds},
    reading::{self, Reading},
};
use crate::{
    body::{Upload, UploadError},
    connection::Connection,
    error::Failure,
    incoming::Incoming,
};

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
    let reading = Reading::of(&head.headers).map_err(|why| stop(why.into()))?;
    if head.headers.contains_key(header::CONTENT_RANGE) {
        // RFC 9110 section 14.5: a partial PUT.
        return Err(stop(Why::Unscannable(Cause::Partial)));
    }
    let named = names(&head.headers);
    let interim = body.interim();
    // The box takes the body before the site has said a word, so it is the box that says "continue"; over HTTP/1.1 hyper
    // says it when the body is first read.
    if head.headers.remove(header::EXPECT).is_some()
        && let Some(interim) = &interim
    {
        interim.proceed();
    }
    let (incoming, progress) = Upload::new(body, &shared.config.limits, false);
    let key = inspector.key(&reading);
    let gathered = gather(incoming, &inspector.bounds(), &key, inspector.room(), None).await;
    let gathered = gathered.map_err(|failed| match failed.why() {
        Ok(why) => stop(why),
        Err(error) => upload_failure(progress.failure().unwrap_or(error)),
    })?;
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

/// What a `Content-Disposition` claims the body to be.
pub(super) fn names(headers: &http::HeaderMap) -> Kinds {
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
