//! Without the city: which sessions still hold, what a reader is told when the box is locked, and the way in with an offline
//! PIN.
//!
//! It compares no PIN and measures no time; the desk does. A PIN opens the stored notes and nothing that a manager may do.

use askama::Template;
use gateway_policy::offline::{Locked, OfflineRules, PIN_SESSION, Pin, Reading};
use gateway_policy::{DeviceId, Timestamp};
use http::StatusCode;

use crate::console::{COOKIE, Console, get};
use crate::devices_pages::{posted, status};
use crate::form;
use crate::moment::minute;
use crate::pages::{Frame, Plain};
use crate::response::{Fault, Page, see_other};
use crate::sessions::Origin;
use crate::{Admission, Answer, ConsoleRequest, Message, Staff};

/// The longest user id that is looked at.
const LONGEST_USER: usize = 128;
const LARGEST_FORM: usize = 4 * 1024;

/// The box without its city, as the pages see it.
pub trait OfflineDesk: Send + Sync + 'static {
    /// The box is level with the city at this moment. Must not wait.
    fn linked(&self) -> bool;

    /// Whether stored notes may be read now, by whomever; since when the city is away, and until when. Must not wait.
    ///
    /// # Errors
    /// [`Locked`].
    fn reading(&self) -> Result<Reading, Locked>;

    /// What the policy permits while the city is away. Must not wait.
    fn rules(&self) -> OfflineRules;

    /// How a user's own PIN stands; `None`: none is set.
    fn pin(&self, user: String) -> Answer<'_, Result<Option<PinState>, Message>>;

    /// Sets a user's PIN in place of the one before.
    fn set_pin(&self, user: String, pin: Pin) -> Answer<'_, Result<(), Message>>;

    /// Destroys a user's PIN.
    fn remove_pin(&self, user: String) -> Answer<'_, Result<(), Message>>;

    /// Who this is, if the PIN is right and nothing stands against it. `None` for every other reason, in the same time.
    fn sign_in(
        &self,
        user: String,
        pin: Pin,
        device: DeviceId,
    ) -> Answer<'_, Result<Option<Staff>, Message>>;
}

/// How somebody's own PIN stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinState {
    /// When it was set.
    pub since: Timestamp,
    /// It was typed wrong too often; signing in at the city opens it again.
    pub locked: bool,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    since: Option<String>,
    until: Option<String>,
    hours: i64,
    user: String,
}

impl Console {
    /// Who is signed in on this origin, and how, whatever that is still good for.
    pub(crate) fn signed_in(
        &self,
        request: &ConsoleRequest,
        now: Timestamp,
    ) -> Option<(Staff, Origin)> {
        if self.is_kept_out(request) {
            return None;
        }
        let token = request.cookie(COOKIE)?;
        let (staff, origin) = self.sessions.find(token, now)?;
        match origin {
            Origin::City => Some((staff, origin)),
            // The city is there again: it is the one to sign in at. For good, or the PIN would hold in the next outage too.
            Origin::Pin(_) if self.linked() => {
                self.sessions.end(token);
                None
            }
            Origin::Pin(device) => (request.device == Some(device)).then_some((staff, origin)),
        }
    }

    /// Whether stored notes may be read in a session that came about like this.
    pub(crate) fn holds(&self, origin: Origin) -> bool {
        match (&self.desks.offline, origin) {
            (None, Origin::City) => true,
            (None, Origin::Pin(_)) => false,
            (Some(offline), Origin::City) => offline.linked() || offline.rules().sessions,
            (Some(offline), Origin::Pin(_)) => offline.rules().pin,
        }
    }

    pub(crate) fn linked(&self) -> bool {
        self.desks
            .offline
            .as_ref()
            .is_none_or(|offline| offline.linked())
    }

    /// Until when stored notes can be read without the city; `None` beside it.
    pub(crate) fn readable_until(&self) -> Option<String> {
        match self.desks.offline.as_ref()?.reading() {
            Ok(Reading::Offline { until, .. }) => Some(minute(until)),
            Ok(Reading::Linked) | Err(_) => None,
        }
    }

    /// Why nobody can read now, and what to do.
    pub(crate) fn locked_words(&self) -> (&'static str, &'static str) {
        let locked = self
            .desks
            .offline
            .as_ref()
            .and_then(|offline| offline.reading().err());
        match locked {
            Some(Locked::SwitchedOff) => (
                "市の方針により、保存した連絡は使われていません。",
                "連絡帳を開いて読んでください。つながらない間の急ぎの連絡は、電話でしてください。",
            ),
            Some(Locked::TooLong { .. }) => (
                "市の連絡帳と長い時間つながっていないため、保存した連絡は読めません。",
                "つながると自動で読めるようになります。それまでの急ぎの連絡は、電話でしてください。",
            ),
            Some(Locked::Refused) => (
                "市がこの事業所の利用を止めているか、電子証明書を失効させているため、保存した連絡は読めません。",
                "事業所管理者に確認してください。急ぎの連絡は、電話でしてください。",
            ),
            Some(Locked::NeverHeard | Locked::NoTrustedTime) => (
                "市の連絡帳につながらず、どれだけの時間つながっていないかを確かめられないため、保存した連絡は読めません。",
                "つながると自動で読めるようになります。それまでの急ぎの連絡は、電話でしてください。",
            ),
            None => (
                "保存した連絡をいま読み出せません。",
                "数分たってから開き直してください。",
            ),
        }
    }

    /// A PIN can be tried from where the request comes from.
    fn takes_pins(&self, request: &ConsoleRequest) -> bool {
        let offered = self
            .desks
            .offline
            .as_ref()
            .is_some_and(|offline| !offline.linked() && offline.rules().pin);
        offered && self.registered(request).is_some()
    }

    /// Instead of "sign in first": the way to the page for the PIN, where there is one.
    pub(crate) fn way_to_pin(&self, request: &ConsoleRequest) -> Option<Result<Page, Fault>> {
        self.takes_pins(request).then(|| {
            let (host, port) = (&self.config.console_host, request.port_suffix());
            see_other(&format!("https://{host}{port}/sign-in"))
        })
    }

    /// The registered device that the request comes from.
    pub(crate) fn registered(&self, request: &ConsoleRequest) -> Option<DeviceId> {
        match self.admission(request) {
            Admission::Registered { .. } => request.device,
            Admission::Tolerated | Admission::Unknown | Admission::Revoked => None,
        }
    }

    pub(crate) async fn sign_in_pages(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        if path != "/sign-in" || self.desks.offline.is_none() {
            return Err(Fault::NotFound);
        }
        if get(request).is_ok() {
            return self.sign_in_page(request, None, String::new()).await;
        }
        self.sign_in_with_pin(posted(request)?).await
    }

    async fn sign_in_page(
        &self,
        request: &ConsoleRequest,
        failure: Option<Message>,
        user: String,
    ) -> Result<Page, Fault> {
        let offline = self.desks.offline.as_ref().ok_or(Fault::NotFound)?;
        if let Some(page) = self.no_pin_here(request, offline.rules()) {
            return page;
        }
        let (since, until) = match offline.reading() {
            Ok(Reading::Offline { since, until }) => (Some(minute(since)), Some(minute(until))),
            Ok(Reading::Linked) => (None, None),
            Err(_) => return Err(Fault::Store(gateway_notes::Error::Locked)),
        };
        let page = SignInPage {
            frame: self.bare_frame("PINでサインイン", "notes"),
            hours: PIN_SESSION / 3600,
            since,
            until,
            user,
            failure,
        };
        self.form_page(status(&page.failure), &page)
    }

    /// Why the form is not shown, where it would be of no use.
    fn no_pin_here(
        &self,
        request: &ConsoleRequest,
        rules: OfflineRules,
    ) -> Option<Result<Page, Fault>> {
        let (sentence, next, link) = if self.linked() {
            (
                "市の連絡帳につながっています。",
                "いつもどおり、連絡帳にサインインしてください。PINは、つながらない間だけ使います。",
                (self.notebook(request), "連絡帳を開く"),
            )
        } else if !rules.pin {
            (
                "PINでのサインインは、この事業所では使われていません。",
                "つながらなくなる前にサインインしていた端末では、保存した連絡を読めます。急ぎの連絡は電話でしてください。",
                ("/".to_owned(), "ホームに戻る"),
            )
        } else if self.registered(request).is_none() {
            (
                "この端末では、PINでサインインできません。",
                "事業所に登録された端末から開いてください。急ぎの連絡は電話でしてください。",
                ("/".to_owned(), "ホームに戻る"),
            )
        } else {
            return None;
        };
        let page = Plain {
            frame: self.bare_frame("PINでサインイン", "notes"),
            sentence,
            next,
            link: Some(link),
            support_code: None,
        };
        Some(self.plain(StatusCode::FORBIDDEN, page, false))
    }

    async fn sign_in_with_pin(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let offline = self.desks.offline.as_ref().ok_or(Fault::NotFound)?;
        if request.body.len() > LARGEST_FORM {
            return Err(Fault::TooLarge);
        }
        let (Some(user), Some(typed)) = (
            form::field(&request.body, "user"),
            form::field(&request.body, "pin"),
        ) else {
            return Err(Fault::BadRequest);
        };
        let user = user.trim().to_owned();
        if user.len() > LONGEST_USER {
            return Err(Fault::BadRequest);
        }
        let allowed = self.takes_pins(request) && offline.reading().is_ok();
        let (true, Some(device)) = (allowed, self.registered(request)) else {
            return self.sign_in_page(request, None, user).await;
        };
        let Ok(pin) = Pin::typed(&typed) else {
            let failure = Message {
                sentence: "PINは6桁から12桁の数字です。".into(),
                next_step: "数字だけをもう一度入力してください。".into(),
                code: "C-PIN-FORM".into(),
            };
            return self.sign_in_page(request, Some(failure), user).await;
        };
        match offline.sign_in(user.clone(), pin, device).await {
            Ok(Some(staff)) => {
                let now = self.desk.now();
                let token = self.sessions.open(staff, Origin::Pin(device), now)?;
                self.opened("/notes", &token)
            }
            // One answer for a wrong PIN, none, a locked one, and a user who does not exist.
            Ok(None) => {
                let failure = Message {
                    sentence: "サインインできませんでした。利用者IDかPINが違うか、PINが使えなくなっています。".into(),
                    next_step: "確かめてもう一度入力してください。5回まちがえたPINは、次に連絡帳にサインインするまで使えません。".into(),
                    code: "C-PIN".into(),
                };
                self.sign_in_page(request, Some(failure), user).await
            }
            Err(failure) => self.sign_in_page(request, Some(failure), user).await,
        }
    }
}
