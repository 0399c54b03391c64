//! Responses: the header fields every page carries, redirects, and the page for a request that cannot be answered.
//!
//! It knows no page but the one for failures.

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{Message, NoRandomness};

pub(crate) type Page = Response<Bytes>;

/// The style sheet of all pages, which stands in each of them: the reserved path on the notebook's origin has no other.
pub(crate) const STYLE: &str = concat!(
    include_str!("../templates/style.css"),
    include_str!("../templates/reader.css")
);

/// The one script: tells the box when a page is left, for the log of accesses. Without it, the next page tells.
pub(crate) const SCRIPT: &str = include_str!("../templates/left.js");

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("there is no such page")]
    NotFound,
    #[error("the method is not allowed")]
    Method(&'static str),
    #[error("the request cannot be read")]
    BadRequest,
    #[error("the body is too large")]
    TooLarge,
    #[error("the request does not come from a page of this box")]
    NotOurs,
    #[error("only the facility's manager may do this")]
    NotManager,
    #[error("the device is not registered")]
    NotRegistered,
    #[error("the one-time code is not good")]
    CodeRefused,
    #[error("another part of the box cannot answer: {}", .0.code)]
    Desk(Message),
    #[error("the stored notes cannot be read")]
    Store(#[source] gateway_notes::Error),
    #[error("no randomness can be had")]
    Randomness(#[from] NoRandomness),
    #[error("a page cannot be rendered")]
    Render(#[from] askama::Error),
}

impl Fault {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotOurs | Self::NotManager | Self::NotRegistered | Self::CodeRefused => {
                StatusCode::FORBIDDEN
            }
            Self::Store(_) | Self::Desk(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Randomness(_) | Self::Render(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What happened, and the one next step.
    pub(crate) fn words(&self) -> (&str, &str) {
        match self {
            Self::Desk(message) => (&message.sentence, &message.next_step),
            Self::NotFound => (
                "お探しのページはありません。",
                "ホームに戻って、目的のページを選んでください。",
            ),
            Self::Method(_) => (
                "この操作はこのページではできません。",
                "ホームに戻って、目的のページを選んでください。",
            ),
            Self::BadRequest => (
                "送られた内容を読み取れませんでした。",
                "前のページに戻って、もう一度入力してください。",
            ),
            Self::TooLarge => (
                "送られた内容が大きすぎます。",
                "選んだファイルが正しいか確かめて、もう一度お試しください。",
            ),
            Self::NotOurs => (
                "この装置のページからの操作と確認できませんでした。",
                "ブラウザーを最新のものにして、この装置のページを開き直してから、もう一度お試しください。",
            ),
            Self::NotManager => (
                "この操作は事業所管理者だけができます。",
                "事業所管理者が連絡帳にサインインし、「保存した連絡」からこの装置に入ってから操作してください。",
            ),
            Self::NotRegistered => (
                "この端末は、まだこの事業所の端末として登録されていません（規約第29条）。",
                "「端末の登録」を開いて、画面の案内に沿って登録してください。",
            ),
            Self::CodeRefused => (
                "この入口はもう使えません（一度だけ、1分以内に使えます）。",
                "連絡帳の画面に戻って、もう一度「保存した連絡」を開いてください。",
            ),
            Self::Store(gateway_notes::Error::NotRecorded) => (
                "閲覧の記録を残せないため、いまは表示できません。",
                "装置が自動で直しています。数分たってから開き直してください。続くときは、事業所管理者に確認してください。",
            ),
            Self::Store(_) => (
                "保存した連絡をいま読み出せません。",
                "装置が自動で直しています。数分たってから開き直してください。",
            ),
            Self::Randomness(_) | Self::Render(_) => (
                "装置の内部で問題が起きました。",
                "少し待ってからもう一度お試しください。続くときは、下の問い合わせ先に受付番号を伝えてください。",
            ),
        }
    }
}

/// Which referrer a page's links and forms send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Referrer {
    /// None at all.
    No,
    /// To this origin only. With none at all, browsers that lack Sec-Fetch-Site would send their forms with
    /// `Origin: null`, and we could not tell our own pages from others.
    Own,
}

/// The policy for content (CSP): nothing but this style sheet, the script of every page and those of this one, and forms and
/// their one message to this origin.
pub(crate) fn content_policy(scripts: &[&str]) -> String {
    let hash = |text: &str| {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        format!(" 'sha256-{}'", STANDARD.encode(hash))
    };
    let style = hash(STYLE);
    let scripts: String = std::iter::once(&SCRIPT)
        .chain(scripts)
        .map(|script| hash(script))
        .collect();
    format!(
        "default-src 'none'; style-src{style}; script-src{scripts}; connect-src 'self'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'"
    )
}

/// A page's text, in a buffer that holds a usual one from the start: growing would copy it several times.
pub(crate) fn rendered(template: &impl askama::Template) -> Result<String, askama::Error> {
    const USUAL: usize = 64 * 1024;
    let mut body = String::with_capacity(USUAL);
    template.render_into(&mut body)?;
    Ok(body)
}

/// A page of HTML with all header fields.
pub(crate) fn html(
    status: StatusCode,
    policy: &HeaderValue,
    referrer: Referrer,
    body: String,
) -> Page {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    secure(&mut response);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static("ja"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    if referrer == Referrer::Own {
        headers.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("same-origin"),
        );
    }
    response
}

/// A file to be kept.
pub(crate) fn file(name: &str, media_type: &'static str, content: Bytes) -> Result<Page, Fault> {
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
        .map_err(|_| Fault::BadRequest)?;
    let mut response = Response::new(content);
    secure(&mut response);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

/// 303 See Other.
pub(crate) fn see_other(location: &str) -> Result<Page, Fault> {
    let location = HeaderValue::from_str(location).map_err(|_| Fault::BadRequest)?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    secure(&mut response);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// 204 No Content.
pub(crate) fn no_content() -> Page {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    secure(&mut response);
    response
}

fn secure(response: &mut Page) {
    const FIELDS: [(HeaderName, &str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in FIELDS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
}

/// Eight characters that can be read out on the telephone; they find the journal entry.
pub(crate) fn support_code() -> String {
    const LETTERS: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
    let mut bytes = [0_u8; 8];
    // Without randomness all codes are alike, which is no reason to show no page.
    let _ = rand::fill(&mut bytes);
    let mut code = String::with_capacity(9);
    for (n, byte) in bytes.iter().enumerate() {
        if n == 4 {
            code.push('-');
        }
        code.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    code
}
