//! The public portal (Art. 17): open to everyone, with or without a certificate.
//!
//! Shows nothing that only members may see, and mounts the staff pages below `/staff/`, which look after themselves.

use crate::city::{City, ascii, authority_of};
use crate::est::enrol::Credentials;
use crate::est::pkcs12;
use crate::pages::{self, Frame, ShownNotice};
use crate::problem::Problem;
use crate::staff;
use crate::store::people::{self, Facility};
use crate::times;
use crate::tls::Facts;
use askama::Template;
use axum::body::Body;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// The routes of the notebook's host.
pub fn routes(city: Arc<City>) -> Router {
    Router::new()
        .route("/", get(home))
        .route(
            "/first-certificate",
            get(first_certificate).post(give_certificate),
        )
        .route("/line-check", get(line_check))
        .route("/line-check/stream", get(stream))
        .route(
            "/line-check.js",
            get(|| script(include_str!("../templates/line_check.js"))),
        )
        .route(
            "/style.css",
            get(|| {
                fixed(
                    "text/css; charset=utf-8",
                    include_str!("../templates/style.css"),
                )
            }),
        )
        .route(
            "/icon.svg",
            get(|| fixed("image/svg+xml", include_str!("../templates/icon.svg"))),
        )
        .merge(staff::routes(Arc::clone(&city)))
        .with_state(city)
}

/// A file that is part of the program.
pub async fn fixed(media_type: &'static str, text: &'static str) -> Response {
    (
        [
            (header::CONTENT_TYPE, media_type),
            (header::CACHE_CONTROL, "public, max-age=3600"),
        ],
        text,
    )
        .into_response()
}

/// A script that is part of the program.
pub async fn script(text: &'static str) -> Response {
    fixed("text/javascript; charset=utf-8", text).await
}

#[derive(Template)]
#[template(path = "portal.html")]
struct Home {
    frame: Frame,
    authority: String,
    notices: Vec<ShownNotice>,
    facilities: Vec<Facility>,
}

async fn home(
    State(city): State<Arc<City>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let (notices, facilities) = city
        .store
        .run(|c| {
            Ok((
                people::notices(c, times::now(), false)?,
                people::public_facilities(c)?,
            ))
        })
        .await?;
    Ok(pages::page(&Home {
        frame: Frame::open("ポータルサイト"),
        authority: authority_of(&headers, &uri),
        notices: notices.into_iter().map(ShownNotice::from).collect(),
        facilities,
    }))
}

#[derive(Template)]
#[template(path = "first_certificate.html")]
struct FirstCertificate {
    frame: Frame,
}

async fn first_certificate() -> Response {
    pages::page(&FirstCertificate {
        frame: Frame::open("初回の証明書設定"),
    })
}

#[derive(Deserialize)]
struct Application {
    number: String,
    code: String,
    password: String,
}

/// Hands out a PKCS#12 file with a key made here, as some cities do.
async fn give_certificate(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    uri: Uri,
    form: Result<Form<Application>, FormRejection>,
) -> Result<Response, Problem> {
    staff::session::same_origin(&headers, &uri)?;
    let Form(form) = form.map_err(|_| {
        Problem::bad_request("番号、アクセスコード、パスワードを入力してください。")
    })?;
    let credentials = Credentials {
        number: Zeroizing::new(form.number),
        code: Zeroizing::new(form.code),
    };
    let password = Zeroizing::new(form.password);
    if !(8..=64).contains(&password.chars().count()) {
        return Err(Problem::bad_request(
            "ファイルのパスワードは8文字以上にしてください。",
        ));
    }
    let file = match pkcs12::for_number(&city, facts.peer.ip(), &credentials, &password).await {
        // Here there is no authentication scheme to challenge for, so 401 would be wrong (RFC 9110 section 15.5.2).
        Err(mut problem) if problem.status == http::StatusCode::UNAUTHORIZED => {
            problem.status = http::StatusCode::FORBIDDEN;
            return Err(problem);
        }
        other => other?,
    };
    let headers = [
        (header::CONTENT_TYPE, "application/x-pkcs12"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"facility.p12\"",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, file).into_response())
}

#[derive(Template)]
#[template(path = "line_check.html")]
struct LineCheck {
    frame: Frame,
}

async fn line_check() -> Response {
    pages::page(&LineCheck {
        frame: Frame::open("回線確認"),
    })
}

/// How a stream of ticks is to be: how many, how far apart, how large.
#[derive(Deserialize)]
pub struct Ticks {
    #[serde(default)]
    count: Option<u32>,
    #[serde(default)]
    interval_ms: Option<u64>,
    #[serde(default)]
    bytes: Option<u32>,
}

/// Server-sent ticks, a slow answer of unknown length: at most 1,000, at most 10 s apart, at most 64 kB each.
///
/// # Errors
/// 400 for a query that is none.
pub async fn stream(query: Result<Query<Ticks>, QueryRejection>) -> Result<Response, Problem> {
    let Query(ticks) = query
        .map_err(|_| Problem::bad_request("count、interval_ms、bytesは数字で指定してください。"))?;
    let count = ticks.count.unwrap_or(5).min(1_000);
    let pause = Duration::from_millis(ticks.interval_ms.unwrap_or(200).min(10_000));
    let padding = ".".repeat(usize::try_from(ticks.bytes.unwrap_or(0).min(65_536)).unwrap_or(0));
    let stream = futures_util::stream::unfold(0, move |sent| {
        let padding = padding.clone();
        async move {
            if sent > count {
                return None;
            }
            let text = if sent == count {
                "event: end\ndata: end\n\n".to_owned()
            } else {
                if sent > 0 {
                    tokio::time::sleep(pause).await;
                }
                format!("event: tick\ndata: {}{padding}\n\n", sent + 1)
            };
            Some((Ok::<_, std::convert::Infallible>(text), sent + 1))
        }
    });
    let mut response = Body::from_stream(stream).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, ascii("no-store"));
    Ok(response)
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    frame: Frame,
    kind: &'a str,
    title: &'a str,
    detail: &'a str,
    support_code: &'a str,
}

/// A problem as a page.
#[must_use]
pub fn problem_page(problem: &Problem) -> Response {
    let template = ProblemPage {
        frame: Frame::open(problem.title),
        kind: problem.kind,
        title: problem.title,
        detail: problem.detail,
        support_code: &problem.support_code,
    };
    // Not `pages::page`: its own failure would be presented by this function again.
    let html = template
        .render()
        .unwrap_or_else(|_| problem.title.to_owned());
    axum::response::Html(html).into_response()
}
