//! Refusals: RFC 9457 problem+json for programs, a Japanese page for browsers, both with a support code.
//!
//! Does not decide on a refusal, and never carries what the client sent.

use crate::secrets;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A refusal or failure on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// Last part of `urn:renraku:problem:…`.
    pub kind: &'static str,
    /// What happened, in one Japanese sentence.
    pub title: &'static str,
    /// The one next step, in Japanese.
    pub detail: &'static str,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u64>,
    /// Finds the line in the city's log.
    pub support_code: String,
}

impl Problem {
    /// A new problem with a fresh support code, which is logged here together with the kind.
    #[must_use]
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: &'static str,
    ) -> Self {
        let support_code = secrets::support_code();
        tracing::info!(kind, status = status.as_u16(), support_code, "refused");
        Self {
            status,
            kind,
            title,
            detail,
            retry_after: None,
            support_code,
        }
    }

    /// Asks the client to wait.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The problem as RFC 9457 JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        json!({
            "type": format!("urn:renraku:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "support_code": self.support_code,
        })
        .to_string()
    }

    /// 500; the cause is logged under the support code and not sent.
    #[must_use]
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        let problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "市のシステムで問題が起きました。",
            "しばらくしてから、もう一度お試しください。",
        );
        let causes = std::iter::successors(Some(cause), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ");
        tracing::error!(support_code = problem.support_code, causes, "failed");
        problem
    }

    /// 400.
    #[must_use]
    pub fn bad_request(detail: &'static str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "送られた内容を理解できませんでした。",
            detail,
        )
    }

    /// 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "お探しのページは見つかりませんでした。",
            "アドレスを確かめるか、はじめのページへお戻りください。",
        )
    }

    /// Wording for a plain error status that a library answered with.
    fn of_status(status: StatusCode) -> Self {
        let detail = "送り方を確かめて、もう一度お試しください。";
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => Self::new(
                status,
                "method-not-allowed",
                "この操作はここではできません。",
                detail,
            ),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(
                status,
                "too-large",
                "送られたものが大きすぎます。",
                "ファイルは1件25MBまでです。小さくして、もう一度お試しください。",
            ),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(
                status,
                "unsupported-media-type",
                "この形式では受け取れません。",
                detail,
            ),
            StatusCode::RANGE_NOT_SATISFIABLE => Self::new(
                status,
                "range",
                "求められた範囲がファイルにありません。",
                detail,
            ),
            _ => Self::new(
                status,
                "bad-request",
                "送られた内容を理解できませんでした。",
                detail,
            ),
        }
    }
}

impl From<crate::store::StoreError> for Problem {
    fn from(error: crate::store::StoreError) -> Self {
        Self::internal(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every error a problem body: those of this program have one, those of a library get one here.
#[must_use]
pub fn present(response: Response, wants_page: bool) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    // A page that goes with an error status, such as the sign-in form shown again, says everything already.
    if parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/html"))
    {
        return Response::from_parts(parts, body);
    }
    let problem = parts
        .extensions
        .get::<Problem>()
        .cloned()
        .unwrap_or_else(|| Problem::of_status(status));
    let mut answer = if wants_page {
        crate::portal::problem_page(&problem)
    } else {
        problem.clone().into_response()
    };
    *answer.status_mut() = status;
    for name in [
        header::ALLOW,
        header::WWW_AUTHENTICATE,
        header::RETRY_AFTER,
        header::CONTENT_RANGE,
        header::CONNECTION,
    ] {
        if let Some(value) = parts.headers.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    for name in ["renraku-staff", "set-cookie"] {
        for value in parts.headers.get_all(name) {
            answer.headers_mut().append(name, value.clone());
        }
    }
    answer
}

/// Whether the client would rather read a page than JSON: a browser names text/html.
#[must_use]
pub fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("*/*");
    let position = |wanted: &[&str]| {
        wanted
            .iter()
            .filter_map(|name| accept.find(name))
            .min()
            .unwrap_or(usize::MAX)
    };
    let json = position(&["application/json", "application/problem+json"]);
    // Neither named: `*/*` alone, as curl and old browsers send it, gets the page.
    json == usize::MAX || position(&["text/html", "application/xhtml+xml"]) < json
}
