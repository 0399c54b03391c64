//! The staff web app below `/staff/`: needs the facility certificate of the facility the user belongs to.
//!
//! Each room checks for itself through [`session::SignedIn`]; this module only lays out the paths.

pub mod api;
pub mod guard;
pub mod live;
pub mod login;
pub mod persons;
pub mod session;
pub mod upload;

use crate::city::City;
use crate::portal;
use crate::problem::Problem;
use crate::tls::Facts;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use std::sync::Arc;

/// The routes below `/staff`.
pub fn routes(city: Arc<City>) -> Router<Arc<City>> {
    Router::new()
        .route("/staff", get(|| async { Redirect::permanent("/staff/") }))
        .route("/staff/", get(persons::list))
        .route("/staff/login", get(login::form).post(login::sign_in))
        .route("/staff/logout", post(login::sign_out))
        .route(
            "/staff/password",
            get(login::password_form).post(login::change_password),
        )
        .route("/staff/notices", get(persons::notices))
        .route("/staff/persons/{id}", get(persons::show))
        .route(
            "/staff/persons/{id}/end",
            get(persons::end_form).post(persons::end),
        )
        .route(
            "/staff/persons/{id}/notes",
            post(upload::post_note).layer(DefaultBodyLimit::max(upload::LARGEST_FORM)),
        )
        .route("/staff/attachments/{id}", get(persons::attachment))
        .route("/staff/stream", get(stream))
        .route("/staff/live", any(live::follow))
        .route(
            "/staff/live.js",
            get(|| portal::script(include_str!("../../templates/live.js"))),
        )
        .route(
            "/staff/api/session",
            get(api::whoami).post(api::sign_in).delete(api::sign_out),
        )
        .route("/staff/api/persons", get(api::persons))
        .route(
            "/staff/api/persons/{id}/notes",
            get(api::notes).post(api::post_note),
        )
        .route_layer(middleware::from_fn_with_state(city, door))
}

/// Everything below `/staff` needs a certificate in force, and a changing request has to come from our own pages.
async fn door(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(problem) = guard::certificate(&city, &facts).await {
        return problem.into_response();
    }
    if !request.method().is_safe()
        && let Err(problem) = session::same_origin(request.headers(), request.uri())
    {
        return problem.into_response();
    }
    next.run(request).await
}

/// The ticks of the line check, for signed-in staff.
async fn stream(
    _who: session::SignedIn,
    query: Result<Query<portal::Ticks>, QueryRejection>,
) -> Result<Response, Problem> {
    portal::stream(query).await
}
