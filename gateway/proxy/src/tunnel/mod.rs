//! Connections that leave HTTP: WebSockets to a site, and CONNECT, whose TLS ends here like any other.
//! What a WebSocket carries is `relay`'s business.

mod relay;
mod side;

use std::sync::Arc;

use aws_lc_rs::{digest, rand::SecureRandom};
use base64::Engine as _;
use gateway_policy::{Asked, Permit};
use h2::ext::Protocol;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};

use crate::{
    body::{Reply, Upload},
    connection::{self, Connection, Door},
    error::{Failure, Fault, FaultKind},
    forward, headers,
    incoming::{Incoming, leave},
    route::{Route, authority_of},
};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request opens a WebSocket: RFC 6455 in HTTP/1.1, RFC 8441 in HTTP/2.
pub(crate) fn is_websocket<B>(request: &Request<B>) -> bool {
    if request.version() == Version::HTTP_2 {
        return request.method() == Method::CONNECT
            && request
                .extensions()
                .get::<Protocol>()
                .is_some_and(|protocol| protocol.as_str() == "websocket");
    }
    let mut upgrades = request.headers().get_all(header::UPGRADE).iter();
    request.method() == Method::GET
        && upgrades
            .next()
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && upgrades.next().is_none()
        && request
            .headers()
            .get_all(header::CONNECTION)
            .iter()
            .any(|value| {
                value
                    .as_bytes()
                    .split(|byte| *byte == b',')
                    .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
            })
}

/// Opens a WebSocket to a site, over an HTTP/1.1 connection of its own.
pub(crate) async fn websocket(
    permit: Permit,
    asked: Asked,
    connection: &Arc<Connection>,
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
    let http2 = request.version() == Version::HTTP_2;
    let handshake = Handshake::prepare(request.headers(), http2)?;
    let cookie = request.headers().get(header::COOKIE).cloned();
    let outgoing = handshake.request(&request, route);
    let (client, carrying) = leave(request);

    let mut sender = pool.checkout_for_upgrade().await?;
    let limit = shared.config.limits.first_byte;
    let answered = tokio::time::timeout(limit, sender.send_request(outgoing)).await;
    let mut response = match answered {
        Err(_) => return Err(Fault::first_byte_timeout().into()),
        Ok(Err(error)) => return Err(Fault::exchange(&error).into()),
        Ok(Ok(response)) => response,
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The site says no, or asks to sign in: an ordinary response.
        let mut response = response.map(Reply::detached);
        forward::learn(&shared.staff, pool, cookie.as_ref(), &response);
        headers::towards_client(response.headers_mut());
        return Ok(response);
    }
    if !handshake.is_accepted(response.headers())
        || response
            .headers()
            .contains_key(header::SEC_WEBSOCKET_EXTENSIONS)
    {
        return Err(Fault::new(FaultKind::Protocol).into());
    }
    let city = hyper::upgrade::on(&mut response);
    let mut answer = response.map(|_| Reply::carrying(carrying));
    forward::learn(&shared.staff, pool, cookie.as_ref(), &answer);
    headers::towards_client(answer.headers_mut());
    if http2 {
        // RFC 8441 section 5: in HTTP/2 it is a success, and the key is not used.
        *answer.status_mut() = StatusCode::OK;
        answer.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
    } else {
        answer.headers_mut().insert(header::UPGRADE, WEBSOCKET);
        answer.headers_mut().insert(header::CONNECTION, UPGRADE);
        if let Some(guard) = &connection.guard {
            guard.opaque();
        }
    }
    tokio::spawn(relay::relay(Arc::clone(connection), asked, client, city));
    Ok(answer)
}

/// One side of RFC 6455's opening handshake: the client's when it spoke HTTP/1.1, our own when it spoke HTTP/2.
struct Handshake {
    key: HeaderValue,
    /// The answer to check, when the key is ours; a client checks its own.
    expected: Option<String>,
}

impl Handshake {
    fn prepare(headers: &HeaderMap, http2: bool) -> Result<Self, Failure> {
        if !http2 {
            let key = headers
                .get(header::SEC_WEBSOCKET_KEY)
                .cloned()
                .ok_or(Failure::Malformed("no-websocket-key"))?;
            return Ok(Self {
                key,
                expected: None,
            });
        }
        let mut nonce = [0; 16];
        aws_lc_rs::rand::SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Fault::new(FaultKind::Stopping))?;
        let base64 = &base64::engine::general_purpose::STANDARD;
        let key = base64.encode(nonce);
        let mut accept = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        accept.update(key.as_bytes());
        accept.update(GUID);
        Ok(Self {
            expected: Some(base64.encode(accept.finish())),
            key: HeaderValue::try_from(key).map_err(|_| Fault::new(FaultKind::Stopping))?,
        })
    }

    fn request(&self, request: &Request<Incoming>, route: &Route) -> Request<Upload> {
        let mut outgoing = Request::new(Upload::Nothing);
        let path = request.uri().path_and_query().cloned();
        *outgoing.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        let fields = outgoing.headers_mut();
        fields.clone_from(request.headers());
        headers::towards_site(fields, route.forwarded.clone(), request.version());
        fields.insert(header::HOST, route.host.clone());
        // Compressed or otherwise dressed up, messages could not be looked into.
        fields.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        fields.insert(header::UPGRADE, WEBSOCKET);
        fields.insert(header::CONNECTION, UPGRADE);
        fields.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
        fields
            .entry(header::SEC_WEBSOCKET_VERSION)
            .or_insert(HeaderValue::from_static("13"));
        outgoing
    }

    fn is_accepted(&self, headers: &HeaderMap) -> bool {
        self.expected.as_ref().is_none_or(|expected| {
            headers
                .get(header::SEC_WEBSOCKET_ACCEPT)
                .is_some_and(|accept| accept.as_bytes() == expected.as_bytes())
        })
    }
}

/// Answers CONNECT: to the city's hosts with a tunnel whose TLS ends here, to anything else not at all.
pub(crate) fn accept(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Failure> {
    let shared = &connection.worker.shared;
    let (_, authority) = authority_of(&request)?;
    let port = authority.port_u16().ok_or(Failure::Malformed("no-port"))?;
    let config = &shared.config;
    let known = shared.routes.target(authority.host()).is_some()
        && (port == config.https_port || config.connect_ports.contains(&port));
    if !known || connection.door == Door::Tunnel || request.extensions().get::<Protocol>().is_some()
    {
        return Err(Failure::NotRelayed);
    }
    if let Some(guard) = &connection.guard {
        guard.opaque();
    }
    let (client, carrying) = leave(request);
    let outer = Arc::clone(connection);
    tokio::spawn(async move {
        let _busy = connection::Busy::new(&outer);
        if let Ok(inner) = client.await {
            connection::serve_tls(outer.inner_arrival(), inner).await;
        }
    });
    Ok(Response::new(Reply::carrying(carrying)))
}
