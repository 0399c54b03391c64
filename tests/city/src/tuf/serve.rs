//! `/tuf/metadata/…` and `/tuf/targets/…` on the gateway's host.
//!
//! A facility that is suspended still gets what keeps its box safe: updates and antivirus databases are not care data.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use gateway_tuf::check_target_name;
use serde_json::Value;

use super::Misbehaviour;
use crate::city::City;
use crate::failure::Cut;
use crate::files;
use crate::problem::Problem;
use crate::staff::guard;
use crate::store::access::{self, Standing};
use crate::store::people::Attachment;
use crate::times;
use crate::tls::Facts;

/// Targets beyond this many bytes break off when the city misbehaves so.
const LARGE: u64 = 64 * 1024;

/// The routes of the repository.
pub fn routes(city: Arc<City>) -> Router {
    Router::new()
        .route("/tuf/metadata/{file}", get(metadata))
        .route("/tuf/targets/{role}/{file}", get(target_of_role))
        .route(
            "/tuf/targets/{role}/{release}/{file}",
            get(target_of_release),
        )
        .with_state(city)
}

async fn metadata(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    Path(file): Path<String>,
) -> Result<Response, Problem> {
    admit(&city, &facts).await?;
    check_target_name(&file).map_err(|_| Problem::not_found())?;
    city.tuf
        .keep_valid()
        .map_err(|error| Problem::internal(&error))?;
    let path = city.tuf.directory().join("metadata").join(&file);
    let bytes = read(path).await?;
    if file != "timestamp.json" {
        return Ok(json(Body::from(bytes)));
    }
    Ok(json(match city.tuf.misbehaviour() {
        Misbehaviour::Slow => drip(bytes),
        Misbehaviour::Endless => endless(bytes),
        Misbehaviour::Rollback => Body::from(read(city.dir.join("tuf-past.json")).await?),
        Misbehaviour::WrongSigner => Body::from(resigned(&bytes)),
        _ => Body::from(bytes),
    }))
}

fn json(body: Body) -> Response {
    let head = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (head, body).into_response()
}

async fn target_of_role(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    Path((role, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    target(&city, &facts, &format!("{role}/{file}"), &headers).await
}

async fn target_of_release(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    Path((role, release, file)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    target(&city, &facts, &format!("{role}/{release}/{file}"), &headers).await
}

async fn target(
    city: &Arc<City>,
    facts: &Facts,
    name: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    admit(city, facts).await?;
    check_target_name(name).map_err(|_| Problem::not_found())?;
    let path = city.tuf.directory().join("targets").join(name);
    let size = tokio::fs::metadata(&path)
        .await
        .ok()
        .filter(std::fs::Metadata::is_file)
        .ok_or_else(Problem::not_found)?
        .len();
    let file = name.rsplit('/').next().unwrap_or_default();
    let described = Attachment {
        id: String::new(),
        name: file.to_owned(),
        media_type: "application/octet-stream".to_owned(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        sha256: file.split('.').next().unwrap_or_default().to_owned(),
    };
    match city.tuf.misbehaviour() {
        Misbehaviour::WrongTarget => {
            let mut bytes = read(path).await?.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            Ok(bytes.into_response())
        }
        Misbehaviour::Broken if size > LARGE => {
            Ok(files::send(&described, &path, headers).await?.map(broken))
        }
        _ => files::send(&described, &path, headers).await,
    }
}

/// A facility certificate of this city, in force or of a facility that is suspended.
async fn admit(city: &Arc<City>, facts: &Facts) -> Result<(), Problem> {
    if let Some(certificate) = &facts.certificate {
        let serial = certificate.serial.clone();
        let now = times::now();
        let standing = city
            .store
            .run(move |c| access::standing(c, &serial, now))
            .await?;
        if matches!(standing, Standing::FacilitySuspended) {
            return Ok(());
        }
    }
    guard::certificate(city, facts).await.map(|_| ())
}

async fn read(path: PathBuf) -> Result<Bytes, Problem> {
    match tokio::fs::read(&path).await {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(_) => Err(Problem::not_found()),
    }
}

fn drip(bytes: Bytes) -> Body {
    Body::from_stream(futures_util::stream::unfold(bytes, |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let piece = rest.split_to(1);
        Some((Ok::<_, std::io::Error>(piece), rest))
    }))
}

fn endless(bytes: Bytes) -> Body {
    Body::from_stream(futures_util::stream::unfold(bytes, |piece| async move {
        let blank = Bytes::from_static(&[b' '; 4096]);
        Some((Ok::<_, std::io::Error>(piece), blank))
    }))
}

/// The first of a body's pieces, and then the connection breaks; a moment later, or nothing of it would have left the house.
fn broken(body: Body) -> Body {
    let pieces = body.into_data_stream();
    Body::from_stream(futures_util::stream::unfold(
        Some(pieces),
        |pieces| async move {
            let Some(mut pieces) = pieces else {
                tokio::time::sleep(Duration::from_millis(300)).await;
                return Some((Err(Cut), None));
            };
            let piece = futures_util::StreamExt::next(&mut pieces).await?.ok()?;
            Some((Ok(piece), None))
        },
    ))
}

/// The same file with the first signature's last digit changed.
fn resigned(bytes: &[u8]) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(bytes).unwrap_or_default();
    if let Some(signature) = file["signatures"][0]["sig"].as_str() {
        let (rest, last) = signature.split_at(signature.len().saturating_sub(1));
        file["signatures"][0]["sig"] =
            format!("{rest}{}", if last == "0" { '1' } else { '0' }).into();
    }
    serde_json::to_vec(&file).unwrap_or_default()
}
