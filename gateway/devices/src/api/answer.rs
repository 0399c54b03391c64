//! Answers of the API: JSON, files, and problems (RFC 9457) in the words of the console.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::Error;
use crate::secret::token;

/// An answer, complete.
pub struct ApiResponse {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: Vec<(http::HeaderName, HeaderValue)>,
    /// Body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for ApiResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Codes, passwords and keys go through bodies.
        f.debug_struct("ApiResponse")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl ApiResponse {
    fn new(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: vec![
                (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (
                    header::X_CONTENT_TYPE_OPTIONS,
                    HeaderValue::from_static("nosniff"),
                ),
            ],
            body,
        }
    }

    pub(super) const fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }
}

pub(super) fn json(status: StatusCode, value: &Value) -> ApiResponse {
    ApiResponse::new(status, "application/json", value.to_string().into_bytes())
}

pub(super) fn text(media_type: &'static str, text: String) -> ApiResponse {
    ApiResponse::new(StatusCode::OK, media_type, text.into_bytes())
}

pub(super) fn file(media_type: &'static str, name: &'static str, content: Vec<u8>) -> ApiResponse {
    let mut response = ApiResponse::new(StatusCode::OK, media_type, content);
    let disposition = format!("attachment; filename=\"{name}\"");
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        response.headers.push((header::CONTENT_DISPOSITION, value));
    }
    response
}

/// The script with the box's name written into it.
pub(super) fn script(authority: &str) -> ApiResponse {
    const SCRIPT: &str = include_str!("../../scripts/renraku-device-check.ps1");
    let filled = SCRIPT.replace("@BOX@", &plain(authority));
    // PowerShell 5.1 takes a file without this mark for one in the machine's old code page.
    let mut response = text("text/plain; charset=utf-8", format!("\u{feff}{filled}"));
    response.headers.push((
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"renraku-device-check.ps1\""),
    ));
    response
}

/// osquery's flags, for `osquery.flags` of the machine.
pub(super) fn flags(authority: &str) -> ApiResponse {
    const FLAGS: &str = include_str!("../../scripts/osquery.flags");
    text(
        "text/plain; charset=utf-8",
        FLAGS.replace("@BOX@", &plain(authority)),
    )
}

/// Host and port as they may stand in a script: the data path has checked that they are ours.
fn plain(authority: &str) -> String {
    authority
        .chars()
        .filter(|letter| {
            letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | ':' | '[' | ']')
        })
        .collect()
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    NotFound,
    Method(&'static str),
    MediaType,
    TooLarge,
    Malformed,
    NoSuchPairing,
    NotRegistered,
    Revoked,
    TooMany,
    Replayed,
    Unfit,
    Unavailable,
    Fault,
}

impl Problem {
    const fn words(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not-found",
                "見つかりません",
                "この宛先はありません。",
            ),
            Self::Method(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "使えない方法です",
                "この宛先では使えない方法で要求されました。",
            ),
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media-type",
                "形式が違います",
                "application/json で送ってください。",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "大きすぎます",
                "送られた内容が上限を超えています。",
            ),
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "malformed",
                "内容を読めません",
                "送られた内容が取り決めと違います。",
            ),
            Self::NoSuchPairing => (
                StatusCode::NOT_FOUND,
                "pairing-gone",
                "登録の申し込みがありません",
                "申し込みは10分で終わります。もう一度最初から申し込んでください。",
            ),
            Self::NotRegistered => (
                StatusCode::FORBIDDEN,
                "device-unknown",
                "登録されていない端末です",
                "管理ページの「端末を登録する」から申し込んでください。",
            ),
            Self::Revoked => (
                StatusCode::FORBIDDEN,
                "device-revoked",
                "利用を停止された端末です",
                "事業所管理者に伝えてください。",
            ),
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-pairings",
                "申し込みが多すぎます",
                "10分ほど待ってから、もう一度申し込んでください。",
            ),
            Self::Replayed => (
                StatusCode::CONFLICT,
                "report-replayed",
                "古い報告です",
                "新しい番号を受け取ってから、もう一度送ってください。",
            ),
            Self::Unfit => (
                StatusCode::CONFLICT,
                "device-unfit",
                "この端末は登録できません",
                "証明書または機器の情報が、登録の内容と合いません。事業所管理者に伝えてください。",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "authority-unavailable",
                "いまは証明書を発行できません",
                "安全チップ（TPM）が応答しません。少し待ってから、もう一度試してください。",
            ),
            Self::Fault => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "device-register",
                "端末の登録簿を使えません",
                "事業所管理者に伝えてください。",
            ),
        }
    }

    pub(super) fn response(self) -> ApiResponse {
        let (status, problem, title, detail) = self.words();
        let code = token::<4>()
            .map(|code| code.to_uppercase())
            .unwrap_or_default();
        tracing::info!(
            event = "device-refused",
            code,
            problem,
            "a device's request was refused"
        );
        let body = json!({
            "type": format!("urn:renraku:problem:{problem}"), "title": title, "status": status.as_u16(),
            "detail": detail, "support_code": code,
        });
        let mut response = ApiResponse::new(
            status,
            "application/problem+json",
            body.to_string().into_bytes(),
        );
        match self {
            Self::Method(allowed) => response
                .headers
                .push((header::ALLOW, HeaderValue::from_static(allowed))),
            Self::TooMany => response
                .headers
                .push((header::RETRY_AFTER, HeaderValue::from_static("600"))),
            Self::Unavailable => response
                .headers
                .push((header::RETRY_AFTER, HeaderValue::from_static("30"))),
            _ => {}
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::NoSuchPairing => Self::NoSuchPairing,
            // Known by its certificate, but not in good standing.
            Error::NoSuchDevice => Self::Revoked,
            Error::Unfit(_) | Error::Taken(_) | Error::Full => Self::Unfit,
            Error::TooManyWrongCodes => Self::TooMany,
            Error::Vault(_) | Error::Certificate(_) => {
                tracing::warn!(event = "device-authority", error = %chain(&error), "no device certificate could be made");
                Self::Unavailable
            }
            _ => {
                tracing::error!(event = "device-register", error = %chain(&error), "the device register failed");
                Self::Fault
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
