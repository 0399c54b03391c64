//! What every page has in common: the frame around it, its headers, and how it is rendered.
//!
//! Knows no page in particular.

use crate::problem::Problem;
use crate::store::people::Notice;
use crate::times;
use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};

/// Nothing from elsewhere, no inline script or style, no framing.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Who is signed in, for the frame.
#[derive(Debug, Clone)]
pub struct Who {
    /// User id.
    pub user_id: String,
    /// Display name.
    pub name: String,
    /// Profession.
    pub job: String,
    /// Facility name.
    pub facility: String,
    /// Token for the sign-out form.
    pub csrf: String,
}

/// The frame around a page.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Title.
    pub title: String,
    /// Who is signed in.
    pub who: Option<Who>,
}

impl Frame {
    /// A frame of a page that needs no sign-in.
    #[must_use]
    pub fn open(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            who: None,
        }
    }
}

/// A notice as a page shows it.
#[derive(Debug)]
pub struct ShownNotice {
    /// Notice id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Text.
    pub text: String,
    /// Date of publication.
    pub date: String,
}

impl From<Notice> for ShownNotice {
    fn from(notice: Notice) -> Self {
        Self {
            date: times::shown_date(notice.time),
            id: notice.id,
            title: notice.title,
            text: notice.text,
        }
    }
}

/// Renders a page.
#[must_use]
pub fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => Problem::internal(&error).into_response(),
    }
}

/// Renders a page that goes with an error status.
#[must_use]
pub fn page_with(status: StatusCode, template: &impl Template) -> Response {
    let mut response = page(template);
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    response
}

/// Puts the security headers on an answer of the notebook's host.
#[must_use]
pub fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
