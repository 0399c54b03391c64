//! The interface for boxes: feed, attachments, status, incidents, decommission.
//!
//! Takes no personal data from a box; reports are stored as they came, after a check of their form.

use crate::audit;
use crate::city::City;
use crate::feed;
use crate::files;
use crate::problem::Problem;
use crate::secrets;
use crate::staff::guard;
use crate::store::audit as kept;
use crate::store::reports::{self, Filed};
use crate::store::{access, people};
use crate::times;
use crate::tls::Facts;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Largest report in bytes.
const LARGEST: usize = 256 * 1024;

/// Seconds until the next status report.
const STATUS_INTERVAL: u64 = 300;

/// The routes of the gateway host.
pub fn routes(city: Arc<City>) -> Router {
    Router::new()
        .route("/gateway/v1/feed", get(feed::follow))
        .route("/gateway/v1/attachments/{id}", get(attachment))
        .route("/gateway/v1/status", post(status))
        .route("/gateway/v1/incidents", post(incident))
        .route("/gateway/v1/decommission", post(decommission))
        .merge(crate::accesslog::routes())
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(Arc::clone(&city))
        .merge(crate::tuf::serve::routes(city))
}

async fn attachment(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let facility = guard::certificate(&city, &facts).await?.facility.clone();
    let found = city
        .store
        .run(move |c| people::attachment_for_facility(c, &facility, &id))
        .await?;
    let file = found.ok_or_else(Problem::not_found)?;
    let path = city.store.attachment_path(&file.id);
    let mut response = files::send(&file, &path, &headers).await?;
    files::dress(&city, &file.id, &mut response);
    Ok(response)
}

/// Text that is checked on the way in and then thrown away: a report is stored as it came.
macro_rules! checked {
    ($(#[doc = $doc:literal])* $name:ident, $fits:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        struct $name;

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let fits: fn(&str) -> bool = $fits;
                let text = String::deserialize(deserializer)?;
                if fits(&text) { Ok(Self) } else { Err(serde::de::Error::custom("does not fit")) }
            }
        }
    };
}

checked!(
    /// An RFC 3339 time.
    Stamp,
    |text| time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
);
checked!(
    /// A SHA-256 in lower-case hexadecimal.
    Digest,
    |text| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
);
checked!(
    /// A version or an identifier: too short and too plain for personal data.
    Word,
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+_-".contains(&byte))
);
checked!(
    /// A device's pseudonym.
    Device,
    |text| text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
);
checked!(
    /// A short description.
    Summary,
    |text| (1..=1000).contains(&text.chars().count())
);

/// A member that may be absent but not null.
pub(crate) fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Checks in one report: those of the box, and nine for each of some hundred devices.
const MOST_CHECKS: usize = 1000;

fn few<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<CheckReport>, D::Error> {
    let checks = Vec::deserialize(deserializer)?;
    if checks.len() <= MOST_CHECKS {
        Ok(checks)
    } else {
        Err(serde::de::Error::custom("too many checks"))
    }
}

/// One check in a status report.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the fields are there to be checked by serde; the report is stored as it came"
)]
struct CheckReport {
    id: Word,
    #[serde(default, deserialize_with = "present")]
    device: Option<Device>,
    state: CheckState,
    since: Stamp,
    #[serde(default, deserialize_with = "present")]
    evidence: Option<Digest>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CheckState {
    Ok,
    Warn,
    Grace,
    Restrict,
    Block,
    Unknown,
    NotApplicable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the fields are there to be checked by serde; the report is stored as it came"
)]
struct StatusReport {
    version: Word,
    slot: Slot,
    #[serde(default, deserialize_with = "present")]
    root_hash: Option<Digest>,
    #[serde(deserialize_with = "few")]
    checks: Vec<CheckReport>,
    #[serde(default, deserialize_with = "present")]
    checkpoint: Option<audit::Handed>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Slot {
    A,
    B,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the fields are there to be checked by serde; the report is stored as it came"
)]
struct IncidentReport {
    id: Word,
    kind: IncidentKind,
    at: Stamp,
    summary: Summary,
    #[serde(default, deserialize_with = "present")]
    evidence: Option<Digest>,
    #[serde(default, deserialize_with = "present")]
    signature: Option<Word>,
    #[serde(default, deserialize_with = "present")]
    direction: Option<Direction>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Upload,
    Download,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum IncidentKind {
    Malware,
    LostDevice,
    Tampering,
    BreakGlass,
    Misuse,
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the field is there to be checked by serde; the report is stored as it came"
)]
struct Decommission {
    reason: Reason,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reason {
    Leaving,
    Replaced,
    Disposed,
}

async fn status(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let certificate = guard::certificate(&city, &facts).await?;
    let (facility, serial) = (certificate.facility.clone(), certificate.serial.clone());
    let mut receipt =
        json!({ "receipt": secrets::identifier('r'), "next_report_seconds": STATUS_INTERVAL });
    if let Ok(StatusReport {
        checkpoint: Some(handed),
        ..
    }) = serde_json::from_slice(&body)
        && json_only(&headers).is_ok()
        && idempotency_key(&headers).is_ok()
    {
        receipt["audit"] = judge(&city, facility, serial, handed).await?;
    }
    file::<StatusReport>(&city, &facts, &headers, &body, ("status", receipt)).await
}

/// Accepts a checkpoint and countersigns it, or refuses it. The report itself is filed all the same.
async fn judge(
    city: &Arc<City>,
    facility: String,
    serial: String,
    handed: audit::Handed,
) -> Result<Value, Problem> {
    let now = times::now();
    let read = handed.read(&facility);
    let (id, keep) = (facility.clone(), read.clone());
    let judged = city
        .store
        .run(move |c| match keep {
            Ok(checkpoint) => kept::accept(c, &id, &serial, &checkpoint, now),
            Err(refusal) => {
                kept::raise(c, &id, refusal, handed.message(), now)?;
                Ok(Err(refusal))
            }
        })
        .await?;
    match (judged, read) {
        (Ok(()), Ok(checkpoint)) => audit::countersign(&city.ca, &checkpoint, now)
            .map_err(|error| Problem::internal(&error)),
        (Err(refusal), _) | (Ok(()), Err(refusal)) => {
            tracing::error!(
                facility,
                reason = refusal.word(),
                "the audit log of a box is not what the city has seen"
            );
            Ok(json!({ "accepted": false, "reason": refusal.word() }))
        }
    }
}

async fn incident(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let receipt =
        json!({ "receipt": secrets::identifier('i'), "received": times::rfc3339(times::now()) });
    file::<IncidentReport>(&city, &facts, &headers, &body, ("incident", receipt)).await
}

/// Revokes the certificate presented. Asking twice cannot be answered twice: the second time the door is shut, and
/// `certificate-revoked` is the proof.
async fn decommission(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let certificate = guard::certificate(&city, &facts).await?;
    let now = times::now();
    let receipt = json!({ "receipt": secrets::identifier('d'), "serial": certificate.serial, "revoked": times::rfc3339(now) });
    let response =
        file::<Decommission>(&city, &facts, &headers, &body, ("decommission", receipt)).await?;
    let serial = certificate.serial.clone();
    tracing::info!(serial, facility = certificate.facility, "decommissioned");
    city.store
        .run(move |c| access::revoke(c, &serial, now))
        .await?;
    city.store.access_changed();
    Ok(response)
}

/// Checks a report's form and files it under its idempotency key.
pub(crate) async fn file<Form: serde::de::DeserializeOwned>(
    city: &Arc<City>,
    facts: &Facts,
    headers: &HeaderMap,
    body: &[u8],
    (kind, receipt): (&'static str, Value),
) -> Result<Response, Problem> {
    let facility = guard::certificate(city, facts).await?.facility.clone();
    json_only(headers)?;
    let key = idempotency_key(headers)?;
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|text| serde_json::from_str::<Form>(text).is_ok());
    let body = text
        .ok_or_else(|| Problem::bad_request("決められた形のJSONを送ってください。"))?
        .to_owned();
    let answer = receipt.to_string();
    let fresh = answer.clone();
    let filed = city
        .store
        .run(move |c| reports::file(c, &facility, kind, &key, (&body, &answer), times::now()))
        .await?;
    let answer = match filed {
        Filed::Now => fresh,
        Filed::Before(answer) => answer,
        Filed::KeyReused => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "idempotency-key-reused",
                "このキーでは、別の報告を受け取っています。",
                "新しいIdempotency-Keyで送ってください。",
            ));
        }
    };
    Ok((
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        answer,
    )
        .into_response())
}

/// Refuses anything but JSON.
///
/// # Errors
/// 415.
pub fn json_only(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if media_type.split(';').next().map(str::trim) == Some("application/json") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "この形式では受け取れません。",
        "application/jsonで送ってください。",
    ))
}

/// A key of 8 to 64 letters, digits, hyphens and underscores.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok())
        .filter(|key| (8..=64).contains(&key.len()))
        .filter(|key| {
            key.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
        .map(str::to_owned)
        .ok_or_else(|| Problem::bad_request("Idempotency-Keyを8〜64文字の英数字で付けてください。"))
}
