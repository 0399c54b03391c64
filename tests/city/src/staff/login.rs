//! Signing in and out, and changing one's password.
//!
//! Issues no user ids and resets no forgotten password; at a real city a manager does that on the portal.

use super::guard;
use super::session::{self, SignedIn};
use crate::city::{City, authority_of};
use crate::est::enrol;
use crate::pages::{self, Frame};
use crate::problem::Problem;
use crate::secrets::SaltedHash;
use crate::store::access;
use crate::store::people::{self, User};
use crate::tls::Facts;
use askama::Template;
use axum::Extension;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;
use zeroize::Zeroizing;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    facility: String,
    message: Option<&'static str>,
}

/// Shows the form.
///
/// # Errors
/// When there is no certificate in force.
pub async fn form(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
) -> Result<Response, Problem> {
    let facility = guard::certificate(&city, &facts).await?.facility.clone();
    Ok(pages::page(&login_page(&city, &facility, None).await?))
}

async fn login_page(
    city: &Arc<City>,
    facility: &str,
    message: Option<&'static str>,
) -> Result<LoginPage, Problem> {
    let id = facility.to_owned();
    let facility = city.store.run(move |c| people::facility(c, &id)).await?;
    Ok(LoginPage {
        frame: Frame::open("ログイン"),
        facility: facility.map(|facility| facility.name).unwrap_or_default(),
        message,
    })
}

/// User id and password as they came in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    user_id: String,
    password: String,
}

/// Why a sign-in failed.
pub enum Denied {
    /// Unknown user or wrong password, which are answered alike.
    Wrong,
    /// Anything else.
    Problem(Problem),
}

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<crate::store::StoreError> for Denied {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Problem(error.into())
    }
}

/// Checks user id and password for the facility of the connection's certificate.
///
/// # Errors
/// See [`Denied`].
pub async fn check(city: &Arc<City>, facts: &Facts, claim: Claim) -> Result<User, Denied> {
    let certificate = guard::certificate(city, facts).await?;
    let lengths = (
        claim.user_id.chars().count(),
        claim.password.chars().count(),
    );
    if !(1..=64).contains(&lengths.0) || !(1..=128).contains(&lengths.1) {
        return Err(Denied::Problem(Problem::bad_request(
            "ユーザーIDとパスワードを入力してください。",
        )));
    }
    if city.too_many_wrong(facts.peer.ip()) {
        return Err(Denied::Problem(enrol::too_many()));
    }
    let password = Zeroizing::new(claim.password);
    let id = claim.user_id;
    let (user, hash) = city
        .store
        .run(move |c| Ok((people::user(c, &id)?, people::password(c, &id)?)))
        .await?;
    let hash = hash.unwrap_or_else(SaltedHash::of_nothing);
    let right = tokio::task::spawn_blocking(move || hash.matches(&password))
        .await
        .unwrap_or(false);
    let Some(user) = user.filter(|_| right) else {
        city.count_wrong(facts.peer.ip());
        return Err(Denied::Wrong);
    };
    if user.facility != certificate.facility {
        return Err(Denied::Problem(session::wrong_facility(
            &user,
            &certificate.facility,
        )));
    }
    if user.suspended {
        return Err(Denied::Problem(Problem::new(
            StatusCode::FORBIDDEN,
            "user-suspended",
            "このユーザーIDは停止されています。",
            "事業所管理者にお問い合わせください。",
        )));
    }
    Ok(user)
}

/// Takes the form.
///
/// # Errors
/// When the person is not let in for another reason than a wrong password, which shows the form again.
pub async fn sign_in(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
    uri: Uri,
    form: Result<Form<Claim>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(claim) =
        form.map_err(|_| Problem::bad_request("ユーザーIDとパスワードを入力してください。"))?;
    match check(&city, &facts, claim).await {
        Ok(user) => {
            // Absolute on purpose, as many applications send it: built from the Host the client used.
            let target = format!("https://{}/staff/", authority_of(&headers, &uri));
            session::open(&city, &user, Redirect::to(&target).into_response()).await
        }
        Err(Denied::Wrong) => {
            let facility = facts
                .certificate
                .as_ref()
                .map(|it| it.facility.clone())
                .unwrap_or_default();
            let message = "ユーザーIDまたはパスワードが違います。";
            Ok(pages::page_with(
                StatusCode::FORBIDDEN,
                &login_page(&city, &facility, Some(message)).await?,
            ))
        }
        Err(Denied::Problem(problem)) => Err(problem),
    }
}

/// A form with nothing but its token.
#[derive(Deserialize)]
pub struct Token {
    csrf: String,
}

/// Ends the session.
///
/// # Errors
/// When the form's token is not the session's.
pub async fn sign_out(
    State(city): State<Arc<City>>,
    who: SignedIn,
    form: Result<Form<Token>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(|_| Problem::bad_request("ページを開き直してください。"))?;
    who.check_csrf(&form.csrf)?;
    city.store
        .run(move |c| access::close_session(c, &who.token))
        .await?;
    city.store.access_changed();
    Ok(session::ended(Redirect::to("/staff/login").into_response()))
}

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordPage {
    frame: Frame,
    csrf: String,
    message: Option<&'static str>,
}

/// Shows the form for a new password.
pub async fn password_form(who: SignedIn) -> Response {
    pages::page(&password_page(&who, None))
}

fn password_page(who: &SignedIn, message: Option<&'static str>) -> PasswordPage {
    PasswordPage {
        frame: who.frame("パスワード変更"),
        csrf: who.session.csrf.clone(),
        message,
    }
}

/// Old and new password.
#[derive(Deserialize)]
pub struct NewPassword {
    csrf: String,
    old: String,
    new: String,
}

/// Changes the password, ends every session of the user and opens a fresh one here.
///
/// # Errors
/// When the form is not this session's.
pub async fn change_password(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    who: SignedIn,
    form: Result<Form<NewPassword>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form.map_err(|_| {
        Problem::bad_request("今のパスワードと新しいパスワードを入力してください。")
    })?;
    who.check_csrf(&form.csrf)?;
    if city.too_many_wrong(facts.peer.ip()) {
        return Err(enrol::too_many());
    }
    let (old, new) = (Zeroizing::new(form.old), Zeroizing::new(form.new));
    if !(10..=128).contains(&new.chars().count()) || *new == *old {
        let message = Some("新しいパスワードは、今と違う10文字以上のものにしてください。");
        return Ok(pages::page_with(
            StatusCode::UNPROCESSABLE_ENTITY,
            &password_page(&who, message),
        ));
    }
    let id = who.user.id.clone();
    let hash = city
        .store
        .run(move |c| people::password(c, &id))
        .await?
        .unwrap_or_else(SaltedHash::of_nothing);
    let right = tokio::task::spawn_blocking(move || hash.matches(&old))
        .await
        .unwrap_or(false);
    if !right {
        city.count_wrong(facts.peer.ip());
        let message = Some("今のパスワードが違います。");
        return Ok(pages::page_with(
            StatusCode::FORBIDDEN,
            &password_page(&who, message),
        ));
    }
    let id = who.user.id.clone();
    let hash = SaltedHash::of(&new);
    city.store
        .run(move |c| people::set_password(c, &id, &hash))
        .await?;
    city.store.access_changed();
    session::open(&city, &who.user, Redirect::to("/staff/").into_response()).await
}
