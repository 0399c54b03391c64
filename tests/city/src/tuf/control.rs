//! The tests' hand on the signed repository: publish, and misbehave.
//!
//! A hint on the feed is not sent here: `/control/hint` does that, so that a test decides whether there is one.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_release::{AntivirusRelease, Canary, ReleaseError, SoftwareRelease};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Misbehaviour, NewDatabase};
use crate::city::City;
use crate::problem::Problem;

type Answer = Result<Json<Value>, Problem>;
type Town = State<Arc<City>>;

/// The control routes of the repository.
pub fn routes(city: Arc<City>) -> Router {
    Router::new()
        .route("/control/tuf", post(misbehave))
        .route("/control/tuf-policy", post(policy))
        .route("/control/tuf-antivirus", post(antivirus))
        .route("/control/tuf-release", post(release))
        .route("/control/tuf-image", post(image))
        .route("/control/tuf-root", post(root))
        .with_state(city)
}

/// What this hand cannot do is the test's fault; the reason is in the city's log.
fn refused(error: &ReleaseError) -> Problem {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, cause, "not published");
    Problem::bad_request("配信ディレクトリーに加えられません。")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    mode: Misbehaviour,
}

async fn misbehave(State(city): Town, Json(how): Json<How>) -> Answer {
    city.tuf
        .misbehave(how.mode)
        .map_err(|error| refused(&error))?;
    Ok(Json(json!({ "done": true })))
}

/// The body is the policy itself.
async fn policy(State(city): Town, Json(policy): Json<Value>) -> Answer {
    let bytes = serde_json::to_vec_pretty(&policy).unwrap_or_default();
    city.tuf
        .publish_policy(&bytes)
        .map_err(|error| refused(&error))?;
    Ok(Json(json!({ "done": true })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    name: String,
    base64: String,
}

fn contents(files: Vec<Content>) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    let decoded = |file: Content| Some((file.name, STANDARD.decode(file.base64).ok()?));
    files
        .into_iter()
        .map(decoded)
        .collect::<Option<_>>()
        .ok_or_else(|| Problem::bad_request("base64ではありません。"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Database {
    serial: u64,
    built_at: String,
    expires: String,
    canary: Canary,
    files: Vec<Content>,
}

async fn antivirus(State(city): Town, Json(new): Json<Database>) -> Answer {
    let database = NewDatabase {
        release: AntivirusRelease {
            serial: new.serial,
            built_at: new.built_at,
            expires: new.expires,
            files: Vec::new(),
            canary: new.canary,
        },
        files: contents(new.files)?,
    };
    let release = city
        .tuf
        .publish_database(&database)
        .map_err(|error| refused(&error))?;
    Ok(Json(json!(release)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    version: String,
    hardware: String,
    files: Vec<Content>,
}

async fn release(State(city): Town, Json(new): Json<Release>) -> Answer {
    let files = contents(new.files)?;
    city.tuf
        .publish_release(&new.version, &new.hardware, &files)
        .map_err(|error| refused(&error))?;
    Ok(Json(json!({ "done": true })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    version: String,
    hardware: String,
    root_hash: String,
    folder: PathBuf,
}

/// A release whose image lies in a folder of this machine.
async fn image(State(city): Town, Json(new): Json<Image>) -> Answer {
    let release = SoftwareRelease {
        root_hash: Some(new.root_hash),
        ..SoftwareRelease::new(&new.version, &new.hardware)
    };
    let published =
        tokio::task::spawn_blocking(move || city.tuf.publish_image(&new.folder, &release));
    published
        .await
        .map_err(|_| Problem::bad_request("配信の作業が途中で終わりました。"))?
        .map_err(|error| refused(&error))?;
    Ok(Json(json!({ "done": true })))
}

/// A new root with the same keys.
async fn root(State(city): Town, Json(_nothing): Json<Value>) -> Answer {
    city.tuf.renew_root().map_err(|error| refused(&error))?;
    Ok(Json(json!({ "done": true })))
}
