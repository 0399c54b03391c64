//! Enrolment over Secure Transport (RFC 7030, 8951, 9908) on its own host name.
//!
//! Server-side key generation and CMC are not offered. The optional attestation evidence is recorded, not judged.

pub mod csr;
pub mod enrol;
pub mod pkcs12;
pub mod pkcs7;

use crate::city::{self, City, ascii};
use crate::problem::Problem;
use crate::secrets;
use crate::staff::guard;
use crate::times;
use crate::tls::Facts;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use csr::{Csr, CsrError, Purpose};
use enrol::{Credentials, Outcome, WantedKey};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Largest request body; a PKCS#10 with evidence is about 4 kB.
const LARGEST: usize = 32 * 1024;

/// The names a certificate for a facility's network may carry.
pub const LAN_NAMES: [&str; 2] = [city::RENRAKU, city::BOX];

const CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";

/// The routes of the enrolment host.
pub fn routes(city: Arc<City>) -> Router {
    Router::new()
        .route("/.well-known/est/cacerts", get(authorities))
        .route("/.well-known/est/lan/cacerts", get(authorities))
        .route("/.well-known/est/csrattrs", get(attributes))
        .route("/.well-known/est/lan/csrattrs", get(attributes))
        .route("/.well-known/est/nonce", get(nonce))
        .route("/.well-known/est/simpleenroll", post(enroll))
        .route("/.well-known/est/simplereenroll", post(reenroll))
        .route("/.well-known/est/lan/simpleenroll", post(enroll_lan))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(middleware::from_fn(tls13_only))
        .with_state(city)
}

/// The interface promises TLS 1.3 for enrolment, where the channel binding of RFC 9266 is always available.
async fn tls13_only(
    Extension(facts): Extension<Arc<Facts>>,
    request: Request,
    next: Next,
) -> Response {
    if facts.tls13 {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::FORBIDDEN,
        "tls-version",
        "この接続は古い方式のため受け付けられません。",
        "TLS 1.3で接続してください。",
    )
    .into_response()
}

async fn authorities(State(city): State<Arc<City>>) -> Result<Response, Problem> {
    let chain =
        [city.ca.root(), city.ca.server_ca(), city.ca.facility_ca()].map(AsRef::<[u8]>::as_ref);
    certificates(&chain)
}

async fn attributes() -> Response {
    (
        [(header::CONTENT_TYPE, "application/csrattrs")],
        pkcs7::request_attributes(),
    )
        .into_response()
}

async fn nonce() -> Response {
    let body = serde_json::json!({
        "nonce": STANDARD.encode(secrets::random::<32>()),
        "expiry": times::rfc3339(times::now() + 300),
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn enroll(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Some(credentials) = basic(&headers) else {
        return Ok(challenge(enrol::unauthorised()));
    };
    let csr = read(&headers, &body, &facts, Purpose::Client)?;
    if !csr.dns_names.is_empty() {
        return Err(enrol::foreign_name());
    }
    let wanted = WantedKey {
        spki_der: csr.spki_der,
        spki: csr.spki,
        uris: csr.uris,
        evidence: csr.evidence,
        origin: "number",
    };
    let outcome = match enrol::with_number(&city, facts.peer.ip(), &credentials, wanted).await {
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => {
            return Ok(challenge(problem));
        }
        other => other?,
    };
    match outcome {
        Outcome::Certificate(der) => with_authority(&city, &der),
        Outcome::Waiting => Ok((
            StatusCode::ACCEPTED,
            [(
                header::RETRY_AFTER,
                ascii(&enrol::APPROVAL_RETRY.to_string()),
            )],
        )
            .into_response()),
    }
}

async fn reenroll(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let old = guard::certificate(&city, &facts).await?;
    let csr = read(&headers, &body, &facts, Purpose::Client)?;
    let own = format!("urn:renraku:facility:{}", old.facility);
    if !csr.dns_names.is_empty() || csr.uris.iter().any(|uri| *uri != own) {
        return Err(enrol::foreign_name());
    }
    let der = enrol::renew(&city, old, &csr).await?;
    with_authority(&city, &der)
}

async fn enroll_lan(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let holder = guard::certificate(&city, &facts).await?;
    let csr = read(&headers, &body, &facts, Purpose::Server)?;
    let der = enrol::lan(&city, holder, &csr, &LAN_NAMES).await?;
    certificates(&[&der, city.ca.server_ca()])
}

fn with_authority(city: &City, der: &[u8]) -> Result<Response, Problem> {
    certificates(&[der, city.ca.facility_ca()])
}

fn certificates(chain: &[&[u8]]) -> Result<Response, Problem> {
    let body = pkcs7::certs_only(chain).map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, CERTS_ONLY)], body).into_response())
}

/// The user id and password of RFC 7617: number and access code.
fn basic(headers: &HeaderMap) -> Option<Credentials> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, packed) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = Zeroizing::new(STANDARD.decode(packed.trim()).ok()?);
    let (number, code) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    Some(Credentials {
        number: Zeroizing::new(number.to_owned()),
        code: Zeroizing::new(code.to_owned()),
    })
}

fn challenge(problem: Problem) -> Response {
    let mut response = problem.into_response();
    let value = HeaderValue::from_static("Basic realm=\"EST\", charset=\"UTF-8\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, value);
    response
}

/// Reads the request and, if it carries one, compares its channel binding with this connection's.
fn read(headers: &HeaderMap, body: &[u8], facts: &Facts, purpose: Purpose) -> Result<Csr, Problem> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if media_type.split(';').next().map(str::trim) != Some("application/pkcs10") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "この形式では受け取れません。",
            "application/pkcs10で送ってください。",
        ));
    }
    let csr = Csr::read(body, purpose).map_err(|error| {
        tracing::info!(%error, "request refused");
        enrol::refused(match error {
            CsrError::NotBase64 | CsrError::NotPkcs10 => {
                "base64で書かれたPKCS#10の申請を送ってください。"
            }
            CsrError::KeyKind => "鍵はECDSA P-256、署名はSHA-256にしてください。",
            CsrError::Signature => "申請の署名が正しくありません。",
            CsrError::ForeignAttribute | CsrError::ForeignExtension | CsrError::ForeignName => {
                "申請に、入れられない項目が含まれています。"
            }
        })
    })?;
    if let Some(sent) = &csr.challenge {
        let expected = facts.exporter.map(|binding| STANDARD.encode(binding));
        if expected.as_deref() != Some(sent) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "channel-binding",
                "申請が、この接続で作られたものではありません。",
                "接続をやり直して、申請を作り直してください。",
            ));
        }
    }
    Ok(csr)
}
