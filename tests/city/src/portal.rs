//! stub
use crate::city::City;
use crate::problem::Problem;
use axum::Router;
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
/// stub
pub fn routes(city: Arc<City>) -> Router {
    Router::new().with_state(city)
}
/// stub
pub fn problem_page(problem: &Problem) -> Response {
    problem.clone().into_response()
}
