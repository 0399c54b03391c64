//! The JSON interface of the staff app, for programs that act for a person who signs in.
//!
//! The same door, sessions and permissions as the pages; no attachments are taken here.

use super::login::{self, Claim, Denied};
use super::persons::readable;
use super::session::{self, SignedIn};
use super::upload;
use crate::city::City;
use crate::gatewayapi::json_only;
use crate::problem::Problem;
use crate::store::{access, people};
use crate::times;
use crate::tls::Facts;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

/// Notes in one answer.
const MOST: u32 = 500;

fn parsed<Form: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<Form, Problem> {
    json_only(headers)?;
    serde_json::from_slice(body)
        .map_err(|_| Problem::bad_request("決められた形のJSONを送ってください。"))
}

/// Who is signed in.
pub async fn whoami(who: SignedIn) -> Json<Value> {
    Json(described(&who.user, who.session.until))
}

fn described(user: &people::User, until: i64) -> Value {
    json!({
        "user_id": user.id, "name": user.name, "role": user.role, "facility": user.facility,
        "until": times::rfc3339(until),
    })
}

/// Signs in.
///
/// # Errors
/// 403 for a wrong user id or password, for a user of another facility and for a suspended one.
pub async fn sign_in(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let claim: Claim = parsed(&headers, &body)?;
    let user = login::check(&city, &facts, claim)
        .await
        .map_err(|denied| match denied {
            Denied::Problem(problem) => problem,
            Denied::Wrong => Problem::new(
                StatusCode::FORBIDDEN,
                "sign-in-failed",
                "ユーザーIDまたはパスワードが違います。",
                "確かめて、もう一度入力してください。",
            ),
        })?;
    let body = described(&user, times::now() + session::SESSION_SECONDS);
    session::open(
        &city,
        &user,
        (StatusCode::CREATED, Json(body)).into_response(),
    )
    .await
}

/// Signs out.
///
/// # Errors
/// When the database fails.
pub async fn sign_out(State(city): State<Arc<City>>, who: SignedIn) -> Result<Response, Problem> {
    city.store
        .run(move |c| access::close_session(c, &who.token))
        .await?;
    city.store.access_changed();
    Ok(session::ended(StatusCode::NO_CONTENT.into_response()))
}

/// The persons the user may read.
///
/// # Errors
/// When the database fails.
pub async fn persons(State(city): State<Arc<City>>, who: SignedIn) -> Result<Json<Value>, Problem> {
    let persons = city
        .store
        .run(move |c| people::persons(c, &who.user.id))
        .await?;
    let persons: Vec<Value> = persons
        .into_iter()
        .map(|person| {
            json!({
                "id": person.id, "display_name": person.name, "reading": person.reading, "notes": person.notes,
                "newest": person.newest.map(times::rfc3339),
            })
        })
        .collect();
    Ok(Json(json!({ "persons": persons })))
}

/// A person's notes, newest first.
///
/// # Errors
/// 404 for a person the user may not read.
pub async fn notes(
    State(city): State<Arc<City>>,
    who: SignedIn,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    readable(&city, &who, &id).await?;
    let notes = city.store.run(move |c| people::notes(c, &id, MOST)).await?;
    Ok(Json(
        json!({ "notes": notes.iter().map(people::Note::to_json).collect::<Vec<_>>() }),
    ))
}

/// A note to be written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNote {
    text: String,
}

/// Writes a note.
///
/// # Errors
/// 404 for a person the user may not read, 400 for a text that is empty or too long.
pub async fn post_note(
    State(city): State<Arc<City>>,
    who: SignedIn,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let new: NewNote = parsed(&headers, &body)?;
    readable(&city, &who, &id).await?;
    let note = upload::store_text(&city, &who, &id, &new.text).await?;
    Ok((StatusCode::CREATED, Json(note.to_json())).into_response())
}
