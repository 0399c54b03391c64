//! The pages of break-glass: what it lowers and never lowers, opening, closing, and what is written about it afterwards.
//!
//! It decides only who may try: the PIN from a device that is registered as the manager's, the code from the safe from any
//! device that may see these pages. Whether PIN and code are good is the desk's.

use std::sync::Arc;

use askama::Template;
use http::StatusCode;
use zeroize::Zeroizing;

use crate::console::{Console, get};
use crate::devices_pages::{posted, status};
use crate::form::{self, Fields};
use crate::moment::{day, minute, remaining};
use crate::pages::Frame;
use crate::response::{Fault, Page, see_other};
use crate::{
    Actor, Admission, BreakGlass, BreakGlassDesk, ConsoleRequest, Entry, Key, Message, Opening,
    Reason,
};

type DeskRef<'a> = &'a Arc<dyn BreakGlassDesk>;

#[derive(Template)]
#[template(path = "break_glass.html")]
struct BreakGlassPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    open: Option<OpeningView>,
    locked: Option<String>,
    would_help: bool,
    may_pin: bool,
    pin_set: bool,
    sealed_code: Option<String>,
    online: bool,
    manager: bool,
    uses_left: u32,
    reasons: [Reason; 4],
    past: Vec<OpeningView>,
}

#[derive(Template)]
#[template(path = "sealed_code.html")]
struct SealedCodePage<'a> {
    frame: Frame<'a>,
    code: Zeroizing<String>,
    made: String,
}

struct OpeningView {
    id: u64,
    since: String,
    until: String,
    left: String,
    at_most: String,
    reason: &'static str,
    by: &'static str,
    review: Option<String>,
    review_by: String,
}

impl Console {
    pub(crate) async fn break_glass_pages(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        let desk = &self.desks.break_glass.clone().ok_or(Fault::NotFound)?;
        match path {
            "/break-glass" => self.break_glass_page(get(request)?, desk, None).await,
            "/break-glass/open" => self.open_break_glass(posted(request)?, desk).await,
            "/break-glass/close" => self.close_break_glass(posted(request)?, desk).await,
            "/break-glass/pin" => self.set_pin(posted(request)?, desk).await,
            "/break-glass/code" => self.make_sealed_code(posted(request)?, desk).await,
            "/break-glass/review" => self.review_opening(posted(request)?, desk).await,
            _ => Err(Fault::NotFound),
        }
    }

    /// The PIN counts from a device that is the manager's. Where devices need not be registered, the manager has to be
    /// signed in instead: a PIN alone opens nothing.
    fn may_pin(&self, request: &ConsoleRequest) -> bool {
        match self.admission(request) {
            Admission::Registered { manager } => manager,
            Admission::Tolerated => self.is_manager(request),
            Admission::Unknown | Admission::Revoked => false,
        }
    }

    fn actor(&self, request: &ConsoleRequest) -> Actor {
        Actor {
            user: self
                .reader(request, self.desk.now())
                .map(|staff| staff.user),
            device: request.device,
        }
    }

    async fn break_glass_page(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let BreakGlass {
            pin_set,
            sealed_code,
            locked_until,
            online,
            would_help,
            open,
            uses_left,
            past,
        } = desk.state();
        let now = self.desk.now();
        let view = |opening: Opening| OpeningView {
            id: opening.id,
            since: minute(opening.since),
            until: minute(opening.until),
            left: remaining(now.age(opening.until)),
            at_most: minute(opening.at_most),
            reason: opening.reason.label(),
            by: if opening.by_sealed_code {
                "金庫のコード"
            } else {
                "管理者の暗証番号"
            },
            review: opening.review,
            review_by: day(opening.review_by),
        };
        let manager = self.is_manager(request);
        let page = BreakGlassPage {
            frame: self.frame("非常時の解除", "break-glass", request).await,
            failure,
            open: open.map(view),
            locked: locked_until.filter(|until| *until > now).map(minute),
            would_help,
            may_pin: self.may_pin(request),
            pin_set,
            sealed_code: sealed_code.map(day),
            online,
            manager,
            uses_left,
            reasons: Reason::ALL,
            past: if manager {
                past.into_iter().map(view).collect()
            } else {
                Vec::new()
            },
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn answer(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
        done: Result<(), Message>,
    ) -> Result<Page, Fault> {
        match done {
            Ok(()) => see_other("/break-glass"),
            Err(failure) => self.break_glass_page(request, desk, Some(failure)).await,
        }
    }

    async fn open_break_glass(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
    ) -> Result<Page, Fault> {
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let typed = |name| form::field(&request.body, name).map(Entry::new);
        let key = match (typed("pin"), typed("code")) {
            (Some(_), None) if !self.may_pin(request) => return Err(Fault::NotManager),
            (Some(pin), None) => Key::Pin(pin),
            (None, Some(code)) => Key::SealedCode(code),
            _ => return Err(Fault::BadRequest),
        };
        let Some(reason) = Reason::parse(fields.value("reason")) else {
            let told = told(
                "理由が選ばれていません。",
                "理由を選んでから、もう一度入力してください。",
                "B-REASON",
            );
            return self.break_glass_page(request, desk, Some(told)).await;
        };
        let done = desk.open(key, reason, self.actor(request)).await;
        self.answer(request, desk, done).await
    }

    async fn close_break_glass(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
    ) -> Result<Page, Fault> {
        // Closing only makes things stricter: whoever may see the page may do it.
        let done = desk.close(self.actor(request)).await;
        self.answer(request, desk, done).await
    }

    async fn set_pin(&self, request: &ConsoleRequest, desk: DeskRef<'_>) -> Result<Page, Fault> {
        self.manager(request)?;
        if !self.may_pin(request) {
            return Err(Fault::NotManager);
        }
        let typed = |name| form::field(&request.body, name).ok_or(Fault::BadRequest);
        let (pin, again) = (typed("pin")?, typed("pin_again")?);
        let done = if pin == again {
            desk.set_pin(Entry::new(pin), self.actor(request)).await
        } else {
            Err(told(
                "2回入力した暗証番号が一致しません。",
                "同じ暗証番号を2回入力してください。",
                "B-TWICE",
            ))
        };
        self.answer(request, desk, done).await
    }

    async fn make_sealed_code(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
    ) -> Result<Page, Fault> {
        self.manager(request)?;
        match desk.make_sealed_code(self.actor(request)).await {
            Ok(code) => {
                let page = SealedCodePage {
                    frame: self
                        .frame("金庫に入れるコード", "break-glass", request)
                        .await,
                    code: Zeroizing::new(code.as_str().to_owned()),
                    made: day(self.desk.now()),
                };
                self.form_page(StatusCode::OK, &page)
            }
            Err(failure) => self.break_glass_page(request, desk, Some(failure)).await,
        }
    }

    async fn review_opening(
        &self,
        request: &ConsoleRequest,
        desk: DeskRef<'_>,
    ) -> Result<Page, Fault> {
        self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let opening = fields
            .value("opening")
            .parse()
            .map_err(|_| Fault::BadRequest)?;
        let text = fields.value("text").trim().to_owned();
        let done = desk.review(opening, text, self.actor(request)).await;
        self.answer(request, desk, done).await
    }
}

/// A refusal that the page itself decides.
pub(crate) fn told(sentence: &str, next_step: &str, code: &str) -> Message {
    Message {
        sentence: sentence.into(),
        next_step: next_step.into(),
        code: code.into(),
    }
}
