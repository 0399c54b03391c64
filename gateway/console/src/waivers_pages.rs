//! The manager's pages about exceptions: which run, which have ended, and the form for one more. They decide nothing: from which
//! check, for how long and for what reason is judged behind [`WaiversDesk`].

use std::sync::Arc;

use askama::Template;
use gateway_policy::calendar::Date;
use gateway_policy::{Check, DeviceId, Timestamp};

use crate::checks;
use crate::console::{Console, Verb, get, method};
use crate::devices_pages::{posted, status, within};
use crate::form::{self, Fields};
use crate::moment::{day, iso, minute, parse_iso, remaining};
use crate::pages::Frame;
use crate::response::{Fault, Page, see_other};
use crate::words::{Headline, Light};
use crate::{ConsoleRequest, Message, NewWaiver, Possible, Waiver, WaiversDesk};

/// An exception that ends within so many seconds is told beforehand.
const SOON: i64 = 3 * DAY;
/// One that has ended is told for so long, while what it was for is still not in order.
const ENDED: i64 = 7 * DAY;
const DAY: i64 = 86_400;

#[derive(Template)]
#[template(path = "exceptions.html")]
struct ExceptionsPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    running: Vec<ExceptionView>,
    ended: Vec<ExceptionView>,
    possible: Vec<PossibleView>,
}

#[derive(Template)]
#[template(path = "exception_new.html")]
struct ExceptionPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    wanted: PossibleView,
    reason: String,
    until: String,
    earliest: String,
    latest: String,
    longest_day: String,
}

/// One exception, in words; in the report too.
pub(crate) struct ExceptionView {
    pub(crate) device: String,
    pub(crate) name: String,
    pub(crate) check: &'static str,
    pub(crate) id: &'static str,
    pub(crate) by: &'static str,
    pub(crate) by_manager: bool,
    pub(crate) reason: String,
    pub(crate) until: String,
    pub(crate) left: String,
    pub(crate) in_order: bool,
}

impl ExceptionView {
    pub(crate) fn new(waiver: Waiver, now: Timestamp) -> Self {
        Self {
            device: waiver.device.map(|id| id.to_string()).unwrap_or_default(),
            name: waiver.name,
            check: checks::words(waiver.check).name,
            id: waiver.check.id(),
            by: if waiver.by_city {
                "市"
            } else {
                "事業所管理者"
            },
            by_manager: !waiver.by_city,
            reason: waiver.reason,
            until: minute(waiver.until),
            left: remaining(now.age(waiver.until)),
            in_order: waiver.in_order,
        }
    }
}

struct PossibleView {
    device: String,
    name: String,
    check: &'static str,
    trouble: &'static str,
    id: &'static str,
    days: i64,
}

impl From<&Possible> for PossibleView {
    fn from(possible: &Possible) -> Self {
        let words = checks::words(possible.check);
        Self {
            device: possible.device.to_string(),
            name: possible.name.clone(),
            check: words.name,
            trouble: words.trouble,
            id: possible.check.id(),
            days: possible.longest / DAY,
        }
    }
}

/// What the form says of whose check is meant.
fn meant(fields: &Fields) -> Option<(DeviceId, Check)> {
    Some((
        DeviceId::parse(fields.value("device"))?,
        Check::parse(fields.value("check"))?,
    ))
}

impl Console {
    pub(crate) async fn waiver_pages(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        let desk = &self.desks.waivers.clone().ok_or(Fault::NotFound)?;
        self.manager(request)?;
        match path {
            "/exceptions" => self.exceptions_page(get(request)?, desk, None).await,
            "/exceptions/end" => self.end_exception(posted(request)?, desk).await,
            "/exceptions/new" => match method(request, "GET, HEAD, POST")? {
                Verb::Read => {
                    let query = request.query.as_deref().unwrap_or_default();
                    let fields = Fields::read(query.as_bytes()).ok_or(Fault::BadRequest)?;
                    self.exception_page(request, desk, &fields, None).await
                }
                Verb::Post => self.make_exception(request, desk).await,
            },
            _ => Err(Fault::NotFound),
        }
    }

    async fn exceptions_page(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn WaiversDesk>,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let all = desk.waivers().await.map_err(Fault::Desk)?;
        let now = self.desk.now();
        let (running, ended): (Vec<_>, Vec<_>) =
            all.made.into_iter().partition(|waiver| waiver.runs);
        let view = |waiver| ExceptionView::new(waiver, now);
        let page = ExceptionsPage {
            frame: self.frame("例外", "devices", request).await,
            running: running.into_iter().map(view).collect(),
            ended: ended.into_iter().map(view).collect(),
            possible: all.possible.iter().map(Into::into).collect(),
            failure,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn exception_page(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn WaiversDesk>,
        fields: &Fields,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let (device, check) = meant(fields).ok_or(Fault::BadRequest)?;
        let all = desk.waivers().await.map_err(Fault::Desk)?;
        let found = all
            .possible
            .iter()
            .find(|possible| (possible.device, possible.check) == (device, check));
        let Some(possible) = found else {
            return self
                .exceptions_page(request, desk, failure.or_else(|| Some(not_possible())))
                .await;
        };
        let now = self.desk.now();
        let latest = last_day(now, possible.longest);
        let typed = fields.value("until");
        let page = ExceptionPage {
            frame: self.frame("例外を登録する", "devices", request).await,
            reason: fields.value("reason").to_owned(),
            until: if typed.is_empty() {
                iso(last_day(now, possible.longest.min(14 * DAY)))
            } else {
                typed.to_owned()
            },
            earliest: iso(Date::in_japan(now)),
            latest: iso(latest),
            longest_day: day(latest.midnight_in_japan()),
            wanted: possible.into(),
            failure,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn make_exception(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn WaiversDesk>,
    ) -> Result<Page, Fault> {
        within(request)?;
        let manager = self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let (device, check) = meant(&fields).ok_or(Fault::BadRequest)?;
        let done = match parse_iso(fields.value("until")) {
            None => Err(no_day()),
            Some(last) => {
                let wish = NewWaiver {
                    device,
                    check,
                    // The whole of that day.
                    until: last.midnight_in_japan().plus(DAY - 1),
                    reason: fields.value("reason").trim().to_owned(),
                };
                desk.make(wish, manager).await
            }
        };
        match done {
            Ok(()) => see_other("/exceptions"),
            Err(failure) => {
                self.exception_page(request, desk, &fields, Some(failure))
                    .await
            }
        }
    }

    async fn end_exception(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn WaiversDesk>,
    ) -> Result<Page, Fault> {
        let manager = self.manager(request)?;
        let body = &request.body;
        let value = |name| form::field(body, name).ok_or(Fault::BadRequest);
        let device = DeviceId::parse(&value("device")?).ok_or(Fault::BadRequest)?;
        let check = Check::parse(&value("check")?).ok_or(Fault::BadRequest)?;
        match desk.withdraw(device, check, manager).await {
            Ok(()) => see_other("/exceptions"),
            Err(failure) => self.exceptions_page(request, desk, Some(failure)).await,
        }
    }

    /// All exceptions, for the report.
    pub(crate) async fn exceptions(&self, now: Timestamp) -> Vec<ExceptionView> {
        let Some(desk) = &self.desks.waivers else {
            return Vec::new();
        };
        let all = desk.waivers().await.unwrap_or_default();
        let recent = |waiver: &Waiver| waiver.runs || waiver.until.age(now) < 31 * DAY;
        all.made
            .into_iter()
            .filter(recent)
            .map(|waiver| ExceptionView::new(waiver, now))
            .collect()
    }

    /// An exception that ends soon, or has ended while what it was for is still not in order.
    pub(crate) async fn ending_exception(&self, now: Timestamp) -> Option<Headline> {
        let all = self.desks.waivers.as_ref()?.waivers().await.ok()?;
        let about = |waiver: &Waiver| {
            let check = checks::words(waiver.check).name;
            format!("{}の「{check}」の例外", waiver.name)
        };
        let mut theirs = all
            .made
            .iter()
            .filter(|waiver| !waiver.by_city && !waiver.in_order);
        let ended = |waiver: &&Waiver| !waiver.runs && waiver.until.age(now) < ENDED;
        let soon = |waiver: &&Waiver| waiver.runs && now.age(waiver.until) < SOON;
        let (sentence, deadline) = match theirs.clone().find(ended) {
            Some(waiver) => (
                format!("{}が{}に終わりました。", about(waiver), day(waiver.until)),
                None,
            ),
            None => {
                let waiver = theirs.find(soon)?;
                (
                    format!("{}がまもなく終わります。", about(waiver)),
                    Some(minute(waiver.until)),
                )
            }
        };
        Some(Headline {
            light: Light::Amber,
            sentence,
            next: "この端末を直してください。直せないときは、例外をもう一度登録してください。"
                .into(),
            link: Some(("/exceptions".into(), "例外を見る")),
            deadline,
        })
    }
}

/// The last whole day within so many seconds.
fn last_day(now: Timestamp, longest: i64) -> Date {
    let end = now.plus(longest);
    let last = Date::in_japan(end);
    Date::in_japan(last.midnight_in_japan().plus(-1))
}

fn no_day() -> Message {
    Message {
        sentence: "いつまでの例外かを読み取れません。".into(),
        next_step: "日付を選び直してください。".into(),
        code: "W-DAY".into(),
    }
}

fn not_possible() -> Message {
    Message {
        sentence: "この項目は、事業所では例外にできません。".into(),
        next_step: "端末を直すか、下の問い合わせ先に電話してください。".into(),
        code: "W-NOT".into(),
    }
}
