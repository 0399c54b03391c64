//! Sends a permitted request to its site and brings the answer back. Does not decide whether it may.

use std::sync::Arc;

use gateway_policy::Permit;
use http::{HeaderValue, Request, Response, Uri, Version, header, uri::PathAndQuery};

use crate::{
    StaffSessions,
    body::{Progress, Reply, Upload, UploadError},
    connection::Connection,
    error::{Failure, Fault, FaultKind},
    headers,
    http2::Interim,
    incoming::Incoming,
    route::Route,
    upstream::{Lease, Pool, repeatable},
};

/// Relays one request. The permit is spent: it cannot be used for another.
pub(crate) async fn forward(
    permit: Permit,
    connection: &Connection,
    route: &Route,
    site: usize,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    drop(permit);
    let shared = &connection.worker.shared;
    let pool = connection
        .worker
        .pools
        .get(site)
        .ok_or_else(|| Fault::new(FaultKind::Stopping))?;

    let received = request.version();
    let hold = expects_continue(&request);
    let interim = request.body().interim();
    let (mut head, body) = request.into_parts();
    let (upload, progress) = Upload::new(body, &shared.config.limits, hold);
    headers::towards_site(&mut head.headers, route.forwarded.clone(), received);
    let cookie = head.headers.get(header::COOKIE).cloned();
    head.extensions.clear();

    let mut request = Some(Request::from_parts(head, upload));
    let mut response = match send(pool, route, &mut request, &progress, interim.as_ref()).await {
        Ok(response) => response,
        Err(fault) => {
            return Err(match progress.failure() {
                Some(_) => upload_failure(&progress),
                None => fault.into(),
            });
        }
    };
    learn(&shared.staff, pool, cookie.as_ref(), &response);
    headers::towards_client(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

/// Sends the request, once more if that is safe and the site's budget allows.
///
/// The request stays in its place until a connection takes it, so that it is not copied from future to future.
async fn send(
    pool: &Arc<Pool>,
    route: &Route,
    request: &mut Option<Request<Upload>>,
    progress: &Progress,
    interim: Option<&Interim>,
) -> Result<Response<Reply>, Fault> {
    pool.site.budget.deposit();
    let spare = request.as_ref().and_then(repeatable);
    let fault = match attempt(pool, route, request, progress, interim).await {
        Ok(response) => return Ok(response),
        Err(fault) => fault,
    };
    // Untouched, or harmless to repeat: then a connection that was just being closed need not concern anybody.
    if request.is_none() && fault.kind.may_differ_elsewhere() && fault.proven {
        *request = spare;
    }
    if request.is_none() || !fault.kind.may_differ_elsewhere() || !pool.site.budget.withdraw() {
        return Err(fault);
    }
    Box::pin(attempt(pool, route, request, progress, interim)).await
}

/// One attempt. The request is still there afterwards if not a byte of it was sent.
async fn attempt(
    pool: &Arc<Pool>,
    route: &Route,
    request: &mut Option<Request<Upload>>,
    progress: &Progress,
    interim: Option<&Interim>,
) -> Result<Response<Reply>, Fault> {
    let lease = match pool.at_once() {
        Some(lease) => lease,
        None => Box::pin(pool.checkout()).await?,
    };
    if let Some(request) = request {
        address(request, route, &lease);
        if lease.is_http2() {
            progress.proceed();
        } else if interim.is_some() || request.headers().contains_key(header::EXPECT) {
            relay_interim(request, progress, interim);
        }
    }
    lease.exchange(request, progress, pool).await
}

/// Writes the target as the connection's protocol wants it.
fn address(request: &mut Request<Upload>, route: &Route, lease: &Lease) {
    let path = request
        .uri()
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    if lease.is_http2() {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        parts.authority = Some(route.authority.clone());
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        // Towards HTTP/2 the body is sent without waiting; the field would be a promise not kept.
        request.headers_mut().remove(header::EXPECT);
    } else {
        *request.uri_mut() = Uri::from(path);
        *request.version_mut() = Version::HTTP_11;
        headers::for_http1(request.headers_mut(), &route.host);
    }
}

fn expects_continue(request: &Request<Incoming>) -> bool {
    request
        .headers()
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The client's body is asked for when the site asks for it (RFC 9110 section 10.1.1); other interim responses pass, if
/// there is a way for them.
fn relay_interim(request: &mut Request<Upload>, progress: &Progress, interim: Option<&Interim>) {
    let progress = progress.clone();
    let interim = interim.cloned();
    hyper::ext::on_informational(request, move |response| {
        if response.status() == http::StatusCode::CONTINUE {
            progress.proceed();
        } else if let Some(interim) = &interim {
            interim.pass(response.status(), response.headers());
        }
    });
}

/// Takes in what the city says about the session of this response. Nobody but the city is believed.
pub(crate) fn learn(
    staff: &StaffSessions,
    pool: &Pool,
    sent: Option<&HeaderValue>,
    response: &Response<Reply>,
) {
    if !pool.site.is_city() {
        return;
    }
    if let Some(told) = response.headers().get(headers::STAFF) {
        staff.learn(told, sent, response.headers());
    }
}

/// The failure behind a body that ended early.
pub(crate) fn upload_failure(progress: &Progress) -> Failure {
    match progress.failure() {
        Some(UploadError::TooSlow) => Failure::TooSlow,
        Some(UploadError::TooLarge) => Failure::BodyTooLarge,
        Some(UploadError::Malformed) => Failure::Malformed("body"),
        Some(UploadError::Broken) | None => Failure::Gone,
    }
}
