//! The life of a request, from its head to its record, as `docs/life-of-a-request.md` tells it.
//! Does not know how any step is done.

use std::{convert::Infallible, pin::pin, sync::Arc};

use gateway_policy::{Area, Asked, Permit};
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;

use crate::{
    LocalPieces, LocalRequest, StaffSession,
    body::{Reply, Upload},
    connection::{Busy, Connection, Door},
    error::{Failure, Fault, FaultKind},
    forward::{self, forward},
    headers,
    incoming::Incoming,
    inspect::{self, Expected, Terms},
    pac,
    pages::{self, Wants},
    record::{self, SupportCode},
    route::{Route, Target, authority_of},
    tunnel, wire,
};

/// Answers one request. Every failure ends as a page or a problem document with a support code.
pub(crate) async fn handle(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let busy = Busy::new(&connection);
    let unanswered = Unanswered(&connection);
    let wants = Wants::of(request.headers(), request.version());
    let answered = match connection.door {
        Door::Plain => plain(&connection, request),
        Door::Tls | Door::Tunnel => live(&connection, request).await,
    };
    let response = answered.unwrap_or_else(|failure| {
        let code = SupportCode::new();
        record::failed(&failure, code);
        if let Failure::Content(stopped) = &failure {
            let inspection = &connection.worker.shared.inspection;
            inspection.stopped(stopped, connection.device);
        }
        let shared = &connection.worker.shared;
        let snapshot = shared.snapshot.load();
        let phone = snapshot.policy().phone.as_deref();
        pages::failure(&failure, &wants, code, (&shared.config.support, phone))
    });
    unanswered.answered();
    Ok(response.map(|body| body.with(busy)))
}

/// Where programs on devices report, at the box's own name.
const OF_AGENTS: &str = "/device/";

/// One request to the notebook, or to the box itself.
async fn live(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    let shared = &connection.worker.shared;
    check_head(connection, &request)?;
    if request.method() == Method::CONNECT && !tunnel::is_websocket(&request) {
        return tunnel::accept(connection, request);
    }
    let route = route(connection, &request)?;

    let now = (shared.clock)();
    let staff = shared.staff.identify(request.headers(), now);
    let asked = shared.routes.classify(route.target, &request);
    if let Some(device) = connection.device {
        // What an agent sends by itself is nobody's doing, though it sends.
        let by_program =
            matches!(route.target, Target::Console) && request.uri().path().starts_with(OF_AGENTS);
        let by_person = headers::is_by_person(request.method(), request.headers());
        (shared.seen)(device, by_person && !by_program);
    }
    let permit = connection.worker.judge(&asked, connection.device)?;
    record::permitted(&permit, &asked);

    if headers::is_for_us(request.method(), request.headers()) {
        return Ok(pages::options());
    }
    match (permit.area(), route.target) {
        (Area::Box, Target::Site(_)) if inspect::is_waiting_path(request.uri().path()) => {
            waited_for(permit, connection, staff.as_ref(), &request)
        }
        (Area::Box, _) | (_, Target::Console) => {
            Box::pin(local(permit, connection, &route, staff, request)).await
        }
        (_, Target::Site(site)) if tunnel::is_websocket(&request) => {
            // Boxed, like the box's own pages: what is rare must not make every request's future larger.
            let expected = expected(&permit, connection, staff.as_ref(), &request);
            let answered = tunnel::websocket(permit, asked, connection, &route, site, request);
            let response = Box::pin(answered).await?;
            // The site may have said no, with an ordinary response.
            inspect::download(connection, expected, response).await
        }
        (_, Target::Site(site)) => {
            // What the gate has let through it may still end, as long as it is under way.
            let mut watch = connection.watch(asked);
            let mut relayed = pin!(relay(permit, connection, &route, staff, site, request));
            let response = watch.over(relayed.as_mut()).await??;
            Ok(response.map(|body| body.watched(watch)))
        }
    }
}

/// One request to a site and its response: nothing passes either way that was not inspected.
async fn relay(
    permit: Permit,
    connection: &Connection,
    route: &Route,
    staff: Option<StaffSession>,
    site: usize,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    let expected = expected(&permit, connection, staff.as_ref(), &request);
    let request = inspect::upload(connection, Terms::of(&permit), request).await?;
    let response = forward(permit, connection, route, site, request).await?;
    inspect::download(connection, expected, response).await
}

fn expected(
    permit: &Permit,
    connection: &Connection,
    staff: Option<&StaffSession>,
    request: &Request<Incoming>,
) -> Expected {
    let user = staff.map(|staff| staff.user.as_str());
    Expected::of(permit, connection, user, request)
}

/// A file that somebody waited for while it was inspected. It was fetched under a permit that is long spent.
fn waited_for(
    permit: Permit,
    connection: &Connection,
    staff: Option<&StaffSession>,
    request: &Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    drop(permit);
    let asked = Asked {
        area: Area::Staff,
        writes: false,
        transfers_file: true,
    };
    drop(connection.worker.judge(&asked, connection.device)?);
    let user = staff.map(|staff| staff.user.as_str());
    let owner = inspect::Owner::of(connection, user, request.headers());
    inspect::fetch_waiting(connection, &owner, request.uri().path())
}

/// One request on the plain listener: there is nothing here but the way to the other.
fn plain(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    let shared = &connection.worker.shared;
    check_head(connection, &request)?;
    if request.method() == Method::CONNECT {
        return tunnel::accept(connection, request);
    }
    let (_, authority) = authority_of(&request)?;
    if request.uri().path() == pac::PATH && request.uri().authority().is_none() {
        let mut response = Response::new(Reply::whole(shared.pac.clone()));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static(pac::MEDIA_TYPE),
        );
        return Ok(response);
    }
    if shared.routes.target(authority.host()).is_none() {
        return Err(match request.uri().authority() {
            // A browser that was told to send everything through the box.
            Some(_) => Failure::NotRelayed,
            None => Failure::Misdirected,
        });
    }
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let location = match shared.config.https_port {
        443 => format!("https://{}{path}", authority.host()),
        port => format!("https://{}:{port}{path}", authority.host()),
    };
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let location = http::HeaderValue::try_from(location).map_err(|_| Failure::Malformed("path"))?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// What can be refused before anything else is known.
fn check_head(connection: &Connection, request: &Request<Incoming>) -> Result<(), Failure> {
    let limits = &connection.worker.shared.config.limits;
    if request.method() == Method::TRACE {
        // It would echo the session cookie (RFC 9110 section 9.3.8 advises against it).
        return Err(Failure::Method);
    }
    let uri = request.uri();
    if uri.path() == "*" && request.method() != Method::OPTIONS {
        // RFC 9113 section 8.3.1; over HTTP/1.1 the guard has refused it already.
        return Err(Failure::Malformed("path"));
    }
    if request.version() == Version::HTTP_2 && wire::has_padded_value(request.headers()) {
        return Err(Failure::Malformed("field-value"));
    }
    if uri.path_and_query().map_or(0, |path| path.as_str().len()) > limits.uri_bytes {
        return Err(Failure::UriTooLong);
    }
    if request.headers().len() > limits.header_count {
        return Err(Failure::HeaderTooLarge);
    }
    if request.headers().contains_key(header::UPGRADE)
        && request.version() < Version::HTTP_2
        && !tunnel::is_websocket(request)
    {
        // h2c above all: a request hidden behind such an upgrade would escape the gate.
        return Err(Failure::Upgrade);
    }
    if headers::is_loop(request.headers()) {
        return Err(Failure::Upstream(Fault::new(FaultKind::Loop)));
    }
    Ok(())
}

/// The route of this request; usually that of the one before.
fn route(connection: &Connection, request: &Request<Incoming>) -> Result<Arc<Route>, Failure> {
    let known = connection.known_route(|route| {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        match (request.uri().authority(), hosts.next()) {
            (Some(authority), None) => {
                request.version() == Version::HTTP_2 && authority == &route.authority
            }
            (None, Some(host)) => host == route.host && hosts.next().is_none(),
            _ => false,
        }
    });
    if let Some(route) = known {
        return Ok(route);
    }
    let routes = &connection.worker.shared.routes;
    let found = Route::find(routes, request, connection.sni.as_deref(), &connection.node)?;
    Ok(connection.remember_route(found))
}

/// Lets the box's own pages answer. They decide themselves who may read what.
async fn local(
    permit: Permit,
    connection: &Connection,
    route: &Route,
    staff: Option<StaffSession>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    // Spent here: the box's pages are what it was given for.
    drop(permit);
    let shared = &connection.worker.shared;
    let (head, body) = request.into_parts();
    let mut limits = shared.config.limits.clone();
    limits.body_bytes = Some(limits.local_body_bytes as u64);
    let (upload, progress) = Upload::new(body, &limits, false);
    let body = match upload.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Err(forward::upload_failure(&progress)),
    };
    let local = LocalRequest {
        method: head.method,
        uri: head.uri,
        host: route.authority.host().to_ascii_lowercase(),
        headers: head.headers,
        body,
        peer: connection.peer,
        device: connection.device,
        staff,
    };
    let mut response = shared.pages.respond(local).await;
    let pieces = response.extensions_mut().remove::<LocalPieces>();
    let mut response = response.map(|body| match pieces.and_then(|pieces| pieces.take()) {
        Some(pieces) => Reply::pieces(pieces),
        None => Reply::whole(body),
    });
    if head.version == Version::HTTP_2 {
        headers::for_http2(response.headers_mut());
    }
    Ok(response)
}

/// Notices that a client took its request back.
struct Unanswered<'a>(&'a Connection);

impl Unanswered<'_> {
    fn answered(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let limit = self.0.worker.shared.config.limits.stream_resets;
        self.0.pulse.reset(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_a_request_stays_small() {
        // It is allocated, filled and freed for every request; large arms belong into boxes of their own.
        assert!(size(handle) <= 4608, "{}", size(handle));
    }
}
