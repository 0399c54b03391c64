//! Who is signed in: the session cookie, bound to the facility whose certificate the connection shows.
//!
//! Does not check passwords; that is `login`.

use super::guard;
use crate::city::{City, ascii, authority_of, facts_of};
use crate::pages::{Frame, Who};
use crate::problem::{self, Problem};
use crate::secrets;
use crate::store::access::{self, SessionRow};
use crate::store::people::{self, Facility, User};
use crate::times;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use std::sync::Arc;

/// Name of the session cookie.
pub const COOKIE: &str = "__Host-renraku";

/// Length of a session in seconds: one working day.
pub const SESSION_SECONDS: i64 = 10 * 3_600;

/// Tells the box about sessions; see `docs/city-interface.md`.
const RENRAKU_STAFF: &str = "renraku-staff";

/// A request by a person who is signed in, at the facility the session was opened at.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The user.
    pub user: User,
    /// The facility.
    pub facility: Facility,
    /// The session.
    pub session: SessionRow,
    /// Hash of the session's cookie.
    pub token: Vec<u8>,
}

impl SignedIn {
    /// The frame of a page for this user.
    #[must_use]
    pub fn frame(&self, title: &str) -> Frame {
        Frame {
            title: title.to_owned(),
            who: Some(Who {
                user_id: self.user.id.clone(),
                name: self.user.name.clone(),
                job: self.user.job.clone(),
                facility: self.facility.name.clone(),
                csrf: self.session.csrf.clone(),
            }),
        }
    }

    /// Compares the token a form carried.
    ///
    /// # Errors
    /// 403 if it is not this session's.
    pub fn check_csrf(&self, sent: &str) -> Result<(), Problem> {
        verify_slices_are_equal(sent.as_bytes(), self.session.csrf.as_bytes()).map_err(|_| {
            Problem::new(
                StatusCode::FORBIDDEN,
                "form-outdated",
                "このページは古くなっています。",
                "ページを開き直してから、もう一度操作してください。",
            )
        })
    }
}

impl FromRequestParts<Arc<City>> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, city: &Arc<City>) -> Result<Self, Response> {
        let facts = facts_of(&parts.extensions).map_err(Problem::into_response)?;
        let certificate = guard::certificate(city, &facts)
            .await
            .map_err(Problem::into_response)?;
        let Some(cookie) = cookie(&parts.headers) else {
            return Err(sign_in_first(parts));
        };
        let token = secrets::sha256(cookie.as_bytes());
        match find(city, token, &certificate.facility).await {
            Ok(Some(signed_in)) => Ok(signed_in),
            Ok(None) => Err(ended(sign_in_first(parts))),
            Err(problem) => Err(ended(problem.into_response())),
        }
    }
}

/// The session behind a cookie, if it is in force for this facility.
async fn find(
    city: &Arc<City>,
    token: Vec<u8>,
    facility: &str,
) -> Result<Option<SignedIn>, Problem> {
    let key = token.clone();
    let found = city
        .store
        .run(move |c| {
            let Some(session) = access::session(c, &key, times::now())? else {
                return Ok(None);
            };
            let user = people::user(c, &session.user)?;
            let facility = people::facility(c, &session.facility)?;
            Ok(user
                .zip(facility)
                .map(|(user, facility)| (session, user, facility)))
        })
        .await?;
    let Some((session, user, its_facility)) = found else {
        return Ok(None);
    };
    if session.facility != facility || user.facility != facility {
        let closed = token.clone();
        city.store
            .run(move |c| access::close_session(c, &closed))
            .await?;
        return Err(wrong_facility(&user, facility));
    }
    if user.suspended {
        return Ok(None);
    }
    Ok(Some(SignedIn {
        user,
        facility: its_facility,
        session,
        token,
    }))
}

/// A user of another facility (Art. 4): refused, and logged by id for the city's own staff to follow up.
#[must_use]
pub fn wrong_facility(user: &User, certificate_of: &str) -> Problem {
    tracing::warn!(
        user = user.id,
        of = user.facility,
        at = certificate_of,
        "user of another facility refused"
    );
    Problem::new(
        StatusCode::FORBIDDEN,
        "wrong-facility",
        "この利用事業所のユーザーIDではありません。",
        "所属する利用事業所からログインしてください。",
    )
}

/// Opens a session; the answer carries the cookie and tells the box whose it is.
///
/// # Errors
/// When the database fails.
pub async fn open(
    city: &Arc<City>,
    user: &User,
    mut response: Response,
) -> Result<Response, Problem> {
    let cookie = secrets::token();
    let token = secrets::sha256(cookie.as_bytes());
    let now = times::now();
    let until = now + SESSION_SECONDS;
    let session = SessionRow {
        user: user.id.clone(),
        facility: user.facility.clone(),
        csrf: secrets::token(),
        until,
    };
    city.store
        .run(move |c| access::open_session(c, &token, &session, now))
        .await?;
    let headers = response.headers_mut();
    let written = format!(
        "{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={SESSION_SECONDS}"
    );
    headers.append(header::SET_COOKIE, ascii(&written));
    let staff = format!(
        "\"{}\"; role={}; cookie=\"{COOKIE}\"; until={until}",
        user.id, user.role
    );
    headers.insert(RENRAKU_STAFF, ascii(&staff));
    Ok(response)
}

/// Marks an answer: the session has ended, forget the cookie.
#[must_use]
pub fn ended(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let gone = HeaderValue::from_static(
        "__Host-renraku=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0",
    );
    headers.append(header::SET_COOKIE, gone);
    headers.insert(RENRAKU_STAFF, HeaderValue::from_static("?0"));
    response
}

/// The session cookie's value. Two cookies of that name are none.
fn cookie(headers: &HeaderMap) -> Option<String> {
    let mut values = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value.to_owned());
    let only = values.next();
    if values.next().is_some() { None } else { only }
}

fn sign_in_first(parts: &Parts) -> Response {
    let page = parts.method == Method::GET
        && !parts.uri.path().starts_with("/staff/api/")
        && !parts.headers.contains_key(header::UPGRADE)
        && problem::wants_page(&parts.headers);
    if page {
        return Redirect::to("/staff/login").into_response();
    }
    let problem = Problem::new(
        StatusCode::UNAUTHORIZED,
        "sign-in-required",
        "ログインしていないか、時間が切れています。",
        "ログインし直してください。",
    );
    let mut response = problem.into_response();
    // RFC 9110 section 15.5.2 wants a challenge; the scheme names what is missing.
    let challenge = HeaderValue::from_static(
        "Cookie realm=\"renraku\", form-action=\"/staff/login\", cookie-name=\"__Host-renraku\"",
    );
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// Refuses a request that another site's page caused.
///
/// # Errors
/// 403.
pub fn same_origin(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let own = format!("https://{}", authority_of(headers, uri));
    let origin = headers
        .get(header::ORIGIN)
        .map(|value| value.as_bytes() == own.as_bytes());
    let fetch = headers
        .get("sec-fetch-site")
        .map(|value| matches!(value.as_bytes(), b"same-origin" | b"none"));
    if origin.unwrap_or(true) && fetch.unwrap_or(true) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "cross-origin",
        "ほかのサイトからの操作は受け付けられません。",
        "連絡帳のページを開いて操作してください。",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookies: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, ascii(cookie));
        }
        headers
    }

    #[test]
    fn the_session_cookie_is_found_among_others_and_in_split_fields() {
        assert_eq!(
            cookie(&with(&["a=b; __Host-renraku=x", "c=d"])).as_deref(),
            Some("x")
        );
        assert_eq!(cookie(&with(&["renraku=x"])), None);
    }

    #[test]
    fn two_session_cookies_are_none() {
        assert_eq!(cookie(&with(&["__Host-renraku=x; __Host-renraku=y"])), None);
    }

    #[test]
    fn a_form_on_another_site_is_refused() {
        let uri = Uri::from_static("/staff/login");
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, ascii("renraku.takahagi.localhost:9443"));
        assert!(same_origin(&headers, &uri).is_ok());
        headers.insert(
            header::ORIGIN,
            ascii("https://renraku.takahagi.localhost:9443"),
        );
        assert!(same_origin(&headers, &uri).is_ok());
        headers.insert(header::ORIGIN, ascii("https://elsewhere.example"));
        assert!(same_origin(&headers, &uri).is_err());
    }
}
