//! One's own offline PIN: set, changed and removed while the city is there. It keeps no PIN and decides only what a person is
//! told of one that is too easy to guess.

use askama::Template;
use gateway_policy::offline::{Pin, PinFault};
use http::StatusCode;

use crate::console::{Console, get};
use crate::devices_pages::{posted, status};
use crate::form;
use crate::moment::minute;
use crate::pages::{Frame, Plain};
use crate::response::{Fault, Page, see_other};
use crate::sessions::Origin;
use crate::{ConsoleRequest, Message, Staff};

const LARGEST_FORM: usize = 4 * 1024;

#[derive(Template)]
#[template(path = "pin.html")]
struct PinPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    since: Option<String>,
    locked: bool,
    hours: u32,
}

impl Console {
    pub(crate) async fn pin_pages(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        if self.desks.offline.is_none() {
            return Err(Fault::NotFound);
        }
        match path {
            "/pin" if get(request).is_ok() => self.pin_page(request, None).await,
            "/pin" => self.choose_pin(posted(request)?).await,
            "/pin/remove" => self.remove_pin(posted(request)?).await,
            _ => Err(Fault::NotFound),
        }
    }

    /// Whether there is any use in a link to one's own PIN.
    pub(crate) fn offers_own_pin(&self, request: &ConsoleRequest) -> bool {
        let permitted = self
            .desks
            .offline
            .as_ref()
            .is_some_and(|offline| offline.linked() && offline.rules().pin);
        permitted && self.registered(request).is_some()
    }

    /// Whose PIN it is: whoever the city has signed in, on a registered device, while the city is there.
    fn owner(&self, request: &ConsoleRequest) -> Option<Staff> {
        match self.signed_in(request, self.desk.now())? {
            (staff, Origin::City) if self.offers_own_pin(request) => Some(staff),
            _ => None,
        }
    }

    /// Why there is no PIN of one's own to be set here and now.
    fn no_owner(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let offline = self.desks.offline.as_ref();
        let (sentence, next) = if offline.is_some_and(|offline| !offline.linked()) {
            (
                "PINの設定は、市の連絡帳につながっている間だけできます。",
                "つながってから、もう一度開いてください。",
            )
        } else if offline.is_some_and(|offline| !offline.rules().pin) {
            (
                "PINでのサインインは、この事業所では使われていません。",
                "使うかどうかは市の方針で決まります。必要なときは、事業所管理者に相談してください。",
            )
        } else if self.registered(request).is_none() {
            (
                "PINの設定は、事業所に登録された端末でできます。",
                "登録された端末から開いてください。",
            )
        } else {
            (
                "PINの設定には、先に連絡帳へのサインインが必要です。",
                "連絡帳にサインインし、「保存した連絡」を開いてから、もう一度開いてください。",
            )
        };
        let page = Plain {
            frame: self.bare_frame("停電・通信障害のときのPIN", "pin"),
            sentence,
            next,
            link: Some((self.notebook(request), "連絡帳を開く")),
            support_code: None,
        };
        self.plain(StatusCode::FORBIDDEN, page, false)
    }

    async fn pin_page(
        &self,
        request: &ConsoleRequest,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let Some(staff) = self.owner(request) else {
            return self.no_owner(request);
        };
        let offline = self.desks.offline.as_ref().ok_or(Fault::NotFound)?;
        let state = offline.pin(staff.user).await.map_err(Fault::Desk)?;
        let page = PinPage {
            frame: self
                .frame("停電・通信障害のときのPIN", "pin", request)
                .await,
            since: state.map(|state| minute(state.since)),
            locked: state.is_some_and(|state| state.locked),
            hours: offline.rules().hours,
            failure,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn choose_pin(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let Some(staff) = self.owner(request) else {
            return self.no_owner(request);
        };
        if request.body.len() > LARGEST_FORM {
            return Err(Fault::TooLarge);
        }
        let (Some(typed), Some(again)) = (
            form::field(&request.body, "pin"),
            form::field(&request.body, "pin_again"),
        ) else {
            return Err(Fault::BadRequest);
        };
        let pin = match (Pin::chosen(&typed), Pin::typed(&again)) {
            (Err(fault), _) => return self.pin_page(request, Some(refusal(fault))).await,
            (Ok(pin), Ok(again)) if pin.is_same_as(&again) => pin,
            _ => return self.pin_page(request, Some(unlike())).await,
        };
        let offline = self.desks.offline.as_ref().ok_or(Fault::NotFound)?;
        match offline.set_pin(staff.user, pin).await {
            Ok(()) => see_other("/pin"),
            Err(failure) => self.pin_page(request, Some(failure)).await,
        }
    }

    async fn remove_pin(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let Some(staff) = self.owner(request) else {
            return self.no_owner(request);
        };
        let offline = self.desks.offline.as_ref().ok_or(Fault::NotFound)?;
        match offline.remove_pin(staff.user).await {
            Ok(()) => see_other("/pin"),
            Err(failure) => self.pin_page(request, Some(failure)).await,
        }
    }
}

fn unlike() -> Message {
    Message {
        sentence: "2つの欄のPINが同じではありません。".into(),
        next_step: "もう一度、同じPINを2つの欄に入力してください。".into(),
        code: "C-PIN-AGAIN".into(),
    }
}

fn refusal(fault: PinFault) -> Message {
    let sentence = match fault {
        PinFault::NotDigits => "PINに数字でない文字があります。",
        PinFault::Length => "PINは6桁から12桁の数字です。",
        PinFault::FewDigits => {
            "同じ数字ばかりのPIN（000000など）は、推測されやすいため使えません。"
        }
        PinFault::InOrder => "順番に並んだPIN（123456など）は、推測されやすいため使えません。",
        PinFault::Repeated => {
            "繰り返しのPIN（123123、112233など）は、推測されやすいため使えません。"
        }
        PinFault::Date => "誕生日などの日付に見えるPINは、推測されやすいため使えません。",
        PinFault::WellKnown => "よく使われるPINは、推測されやすいため使えません。",
    };
    Message {
        sentence: sentence.into(),
        next_step: "意味のない6桁以上の数字を選んで、もう一度入力してください。".into(),
        code: "C-PIN-WEAK".into(),
    }
}
