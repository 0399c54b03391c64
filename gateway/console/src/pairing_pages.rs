//! The pages of a device that is not registered yet: it asks to be let in, shows its code, and fetches its certificate.

use std::sync::Arc;

use askama::Template;
use http::{HeaderValue, StatusCode, header};

use crate::console::{Console, Verb, get, method};
use crate::devices_pages::{posted, status, within};
use crate::form::Fields;
use crate::moment::minute;
use crate::pages::Frame;
use crate::response::{Fault, Page, file, see_other};
use crate::{Admission, ConsoleRequest, DeviceKind, DevicesDesk, Entry, Message, Pairing};

/// The cookie that ties a device's browser to its pairing; see `COOKIE` in the console for the prefix.
const TICKET: &str = "__Host-pairing";
/// While a manager is waited for, the page reloads itself, in seconds.
const REFRESH: u32 = 4;

#[derive(Template)]
#[template(path = "pairing.html")]
struct PairingPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    stage: Stage,
    form: Fields,
    kinds: [DeviceKind; 6],
    notebook: String,
}

enum Stage {
    /// Asked for name and kind. The sentence says why it begins again.
    Form {
        revoked: bool,
    },
    Waiting {
        code: String,
        until: String,
    },
    Approved {
        password: String,
        until: String,
        kind: DeviceKind,
    },
    Registered,
}

impl Console {
    pub(crate) async fn pairing_pages(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        let desk = self.desks.devices.clone().ok_or(Fault::NotFound)?;
        match path {
            "/pairing" => match method(request, "GET, HEAD, POST")? {
                Verb::Read => self.pairing_page(request, &desk).await,
                Verb::Post => self.start_pairing(request, &desk).await,
            },
            "/pairing/certificate" => {
                let token = token(get(request)?).ok_or(Fault::NotFound)?;
                let certificate = desk.certificate_file(token).await.map_err(Fault::Desk)?;
                file(
                    &certificate.name,
                    certificate.media_type,
                    certificate.content,
                )
            }
            "/pairing/again" => {
                posted(request)?;
                let mut page = see_other("/pairing")?;
                set_ticket(&mut page, "", "; Max-Age=0")?;
                Ok(page)
            }
            _ => Err(Fault::NotFound),
        }
    }

    async fn pairing_page(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn DevicesDesk>,
    ) -> Result<Page, Fault> {
        let pairing = match token(request) {
            Some(token) => Some(desk.pairing(token).await),
            None => None,
        };
        let admission = self.admission(request);
        let revoked = admission == Admission::Revoked;
        let registered = matches!(admission, Admission::Registered { .. });
        let (stage, failure) = match pairing {
            _ if registered => (Stage::Registered, None),
            Some(Pairing::Waiting { code, until, .. }) => (
                Stage::Waiting {
                    code: in_two(code.as_str()),
                    until: minute(until),
                },
                None,
            ),
            Some(Pairing::Approved {
                password,
                until,
                kind,
            }) => (
                Stage::Approved {
                    password: password.as_str().to_owned(),
                    until: minute(until),
                    kind,
                },
                None,
            ),
            Some(Pairing::Refused) => (Stage::Form { revoked }, Some(refused())),
            Some(Pairing::Gone) => (Stage::Form { revoked }, Some(gone())),
            None => (Stage::Form { revoked }, None),
        };
        self.show_pairing(request, stage, failure, Fields::empty(), StatusCode::OK)
            .await
    }

    async fn show_pairing(
        &self,
        request: &ConsoleRequest,
        stage: Stage,
        failure: Option<Message>,
        form: Fields,
        status: StatusCode,
    ) -> Result<Page, Fault> {
        let mut frame = self.frame("端末の登録", "pairing", request).await;
        frame.refresh = matches!(stage, Stage::Waiting { .. }).then_some(REFRESH);
        let page = PairingPage {
            frame,
            failure,
            stage,
            form,
            kinds: DeviceKind::ALL,
            notebook: self.notebook(request),
        };
        self.form_page(status, &page)
    }

    async fn start_pairing(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn DevicesDesk>,
    ) -> Result<Page, Fault> {
        within(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let chosen = fields.value("kind");
        let kind = DeviceKind::ALL
            .into_iter()
            .find(|kind| kind.label() == chosen);
        let started = match kind {
            Some(kind) => {
                let name = fields.value("name").trim().to_owned();
                desk.start_pairing(name, kind, request.peer).await
            }
            None => Err(no_kind()),
        };
        match started {
            Ok(ticket) => {
                let mut page = see_other("/pairing")?;
                set_ticket(&mut page, ticket.token.as_str(), "")?;
                Ok(page)
            }
            Err(failure) => {
                let revoked = self.admission(request) == Admission::Revoked;
                let (stage, failure) = (Stage::Form { revoked }, Some(failure));
                let status = status(&failure);
                self.show_pairing(request, stage, failure, fields, status)
                    .await
            }
        }
    }
}

fn token(request: &ConsoleRequest) -> Option<Entry> {
    let token = request.cookie(TICKET).filter(|token| !token.is_empty())?;
    Some(Entry::new(zeroize::Zeroizing::new(token.to_owned())))
}

fn set_ticket(page: &mut Page, token: &str, more: &str) -> Result<(), Fault> {
    let cookie = format!("{TICKET}={token}; Path=/; Secure; HttpOnly; SameSite=Lax{more}");
    let mut cookie = HeaderValue::from_str(&cookie).map_err(|_| Fault::BadRequest)?;
    cookie.set_sensitive(true);
    page.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(())
}

/// Eight digits are read out in two fours.
fn in_two(code: &str) -> String {
    match code.split_at_checked(code.len() / 2) {
        Some((first, second)) if code.len() == 8 => format!("{first} {second}"),
        _ => code.to_owned(),
    }
}

fn refused() -> Message {
    Message {
        sentence: "事業所管理者が、この端末の登録を承認しませんでした。".into(),
        next_step: "事業所管理者に確かめてから、もう一度登録を始めてください。".into(),
        code: "D-REFUSED".into(),
    }
}

fn gone() -> Message {
    Message {
        sentence: "前の登録の手続きは、時間が過ぎたため終わりました。".into(),
        next_step: "事業所管理者が近くにいるときに、もう一度登録を始めてください。".into(),
        code: "D-GONE".into(),
    }
}

fn no_kind() -> Message {
    Message {
        sentence: "端末の種類が選ばれていません。".into(),
        next_step: "端末の種類を選んでから、登録を始めてください。".into(),
        code: "D-KIND".into(),
    }
}
