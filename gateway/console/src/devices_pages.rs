//! The manager's pages about devices: which there are, who waits to be let in, what each proves (第29条).

use std::sync::Arc;

use askama::Template;
use gateway_policy::calendar::Date;
use gateway_policy::{Authority, Check, DeviceId, Timestamp};
use http::{StatusCode, header};

use crate::checks;
use crate::compliance::LineView;
use crate::console::{Console, Verb, get, method};
use crate::form::{self, Fields};
use crate::moment::{day, minute};
use crate::pages::Frame;
use crate::report::{About, Line, Mark};
use crate::response::{Fault, Page, see_other};
use crate::{
    ConsoleRequest, Device, DeviceKind, DevicesDesk, Entry, Message, Night, PairingId, Today,
    Waiting,
};

/// A form with a code, a few checks and buttons.
const LARGEST_FORM: usize = 4 * 1024;
/// A certificate with its chain, as a file and pasted.
const LARGEST_CERTIFICATE: usize = 64 * 1024;

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    waiting: Vec<WaitingView>,
    devices: Vec<DeviceView>,
    revoked: Vec<DeviceView>,
}

#[derive(Template)]
#[template(path = "device_decide.html")]
struct DecidePage<'a> {
    frame: Frame<'a>,
    waiting: WaitingView,
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    device: DeviceView,
    lines: Vec<LineView>,
    declarable: Vec<Declarable>,
}

struct Declarable {
    id: &'static str,
    name: &'static str,
    until: Option<String>,
}

#[derive(Template)]
#[template(path = "device_days.html")]
struct DaysPage<'a> {
    frame: Frame<'a>,
    day: String,
    silent: Vec<TodayView>,
    there: Vec<TodayView>,
    away: Vec<TodayView>,
    nights: Vec<NightView>,
}

struct TodayView {
    id: String,
    name: String,
    seen: String,
    reported: String,
}

struct NightView {
    evening: String,
    left_on: Vec<(String, String, String)>,
}

#[derive(Template)]
#[template(path = "device_certificate.html")]
struct CertificatePage<'a> {
    frame: Frame<'a>,
    failure: Option<Message>,
    kinds: [DeviceKind; 3],
    name: String,
    kind: String,
}

struct WaitingView {
    of_city: bool,
    id: String,
    name: String,
    kind: &'static str,
    peer: String,
    since: String,
    until: String,
}

impl From<Waiting> for WaitingView {
    fn from(waiting: Waiting) -> Self {
        Self {
            of_city: waiting.of_city,
            id: waiting.id.0,
            name: waiting.name,
            kind: waiting.kind.label(),
            peer: waiting.peer.to_string(),
            since: minute(waiting.since),
            until: minute(waiting.until),
        }
    }
}

struct DeviceView {
    id: String,
    name: String,
    /// Without what the box adds to it.
    bare_name: String,
    kind: &'static str,
    manager: bool,
    registered: String,
    revoked: Option<String>,
    seen: String,
    not_after: Option<String>,
    mark: Mark,
    sentence: String,
}

impl From<&Device> for DeviceView {
    fn from(device: &Device) -> Self {
        let worst = device
            .lines
            .iter()
            .max_by_key(|line| (line.effect, line.mark));
        let trouble = |line: &&Line| line.mark.is_trouble();
        Self {
            id: device.id.to_string(),
            name: device.name.clone(),
            bare_name: device
                .name
                .strip_suffix("（市発行）")
                .unwrap_or(&device.name)
                .to_owned(),
            kind: device.kind.label(),
            manager: device.manager,
            registered: day(device.registered),
            revoked: device.revoked.map(minute),
            seen: device
                .seen
                .map_or_else(|| "まだありません".to_owned(), minute),
            not_after: device.not_after.map(day),
            mark: worst.map_or(Mark::Unknown, |line| line.mark),
            sentence: match worst.filter(trouble) {
                Some(line) if line.mark == Mark::Unknown => {
                    format!(
                        "{}がまだ確かめられていません",
                        checks::words(line.check).name
                    )
                }
                Some(line) => checks::words(line.check)
                    .trouble
                    .trim_end_matches('。')
                    .to_owned(),
                None if worst.is_none() => "点検結果はまだありません".to_owned(),
                None => "問題ありません".to_owned(),
            },
        }
    }
}

impl Console {
    pub(crate) async fn device_pages(
        &self,
        request: &ConsoleRequest,
        path: &str,
    ) -> Result<Page, Fault> {
        let desk = self.desks.devices.clone().ok_or(Fault::NotFound)?;
        self.manager(request)?;
        match path {
            "/devices" => self.devices_page(get(request)?, &desk, None).await,
            "/devices/pairing" => self.find_pairing(posted(request)?, &desk).await,
            "/devices/decision" => self.decide(posted(request)?, &desk).await,
            "/devices/days" => self.days_page(get(request)?, &desk).await,
            "/devices/certificate" => match method(request, "GET, HEAD, POST")? {
                Verb::Read => self.certificate_page(request, None, "", "").await,
                Verb::Post => self.take_certificate(request, &desk).await,
            },
            _ => {
                let id = path.strip_prefix("/devices/").and_then(DeviceId::parse);
                let id = id.ok_or(Fault::NotFound)?;
                match method(request, "GET, HEAD, POST")? {
                    Verb::Read => self.device_page(request, &desk, id, None).await,
                    Verb::Post => self.change_device(request, &desk, id).await,
                }
            }
        }
    }

    async fn devices_page(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn DevicesDesk>,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let all = desk.devices().await.map_err(Fault::Desk)?;
        let (revoked, mut devices): (Vec<_>, Vec<_>) = all
            .registered
            .iter()
            .partition(|device| device.revoked.is_some());
        devices.sort_by_key(|device| {
            let worst = device
                .lines
                .iter()
                .map(|line| (line.effect, line.mark))
                .max();
            (std::cmp::Reverse(worst), device.name.clone())
        });
        let page = DevicesPage {
            frame: self.frame("端末", "devices", request).await,
            waiting: all.waiting.into_iter().map(Into::into).collect(),
            devices: devices.into_iter().map(Into::into).collect(),
            revoked: revoked.into_iter().map(Into::into).collect(),
            failure,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn days_page(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn DevicesDesk>,
    ) -> Result<Page, Fault> {
        let days = desk.days().await.map_err(Fault::Desk)?;
        let now = self.desk.now();
        let morning = Date::in_japan(now).midnight_in_japan();
        let today = |at: Option<Timestamp>| at.is_some_and(|at| at >= morning);
        let (on, away): (Vec<_>, Vec<_>) = days
            .today
            .into_iter()
            .partition(|device| today(device.seen));
        let (silent, there): (Vec<_>, Vec<_>) = on
            .into_iter()
            .partition(|device| device.owes_report && !today(device.reported));
        let views = |devices: Vec<Today>| devices.into_iter().map(Into::into).collect();
        let page = DaysPage {
            frame: self.frame("きょうの端末", "devices", request).await,
            day: day(now),
            silent: views(silent),
            there: views(there),
            away: views(away),
            nights: days.nights.into_iter().map(Into::into).collect(),
        };
        self.page(&page)
    }

    async fn certificate_page(
        &self,
        request: &ConsoleRequest,
        failure: Option<Message>,
        name: &str,
        kind: &str,
    ) -> Result<Page, Fault> {
        let page = CertificatePage {
            frame: self.frame("市発行の証明書", "devices", request).await,
            kinds: [DeviceKind::Windows, DeviceKind::Mac, DeviceKind::Linux],
            name: name.to_owned(),
            kind: kind.to_owned(),
            failure,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn take_certificate(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn DevicesDesk>,
    ) -> Result<Page, Fault> {
        if request.body.len() > LARGEST_CERTIFICATE {
            return Err(Fault::TooLarge);
        }
        let manager = self.manager(request)?;
        let boundary = request
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(form::boundary)
            .ok_or(Fault::BadRequest)?;
        let text = |name| {
            let part = form::part(&request.body, boundary, name)?;
            Some(std::str::from_utf8(&part).ok()?.trim().to_owned())
        };
        let (name, chosen) = (
            text("name").unwrap_or_default(),
            text("kind").unwrap_or_default(),
        );
        let kind = DeviceKind::ALL
            .into_iter()
            .find(|kind| kind.label() == chosen);
        let certificate = [text("file"), text("pem")]
            .into_iter()
            .flatten()
            .find(|text| !text.is_empty());
        let (Some(kind), Some(certificate)) = (kind, certificate) else {
            return self
                .certificate_page(request, Some(no_certificate()), &name, &chosen)
                .await;
        };
        let peer = request.peer;
        let opened = desk.start_with_certificate(name.clone(), kind, certificate, peer, manager);
        match opened.await {
            Ok(waiting) => {
                let page = DecidePage {
                    frame: self.frame("端末の承認", "devices", request).await,
                    waiting: waiting.into(),
                };
                self.form_page(StatusCode::OK, &page)
            }
            Err(failure) => {
                self.certificate_page(request, Some(failure), &name, &chosen)
                    .await
            }
        }
    }

    async fn find_pairing(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn DevicesDesk>,
    ) -> Result<Page, Fault> {
        let manager = self.manager(request)?;
        let code = form::field(&request.body, "code").ok_or(Fault::BadRequest)?;
        match desk.pairing_of(Entry::new(code), manager).await {
            Ok(waiting) => {
                let page = DecidePage {
                    frame: self.frame("端末の承認", "devices", request).await,
                    waiting: waiting.into(),
                };
                self.form_page(StatusCode::OK, &page)
            }
            Err(failure) => self.devices_page(request, desk, Some(failure)).await,
        }
    }

    async fn decide(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn DevicesDesk>,
    ) -> Result<Page, Fault> {
        let manager = self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let pairing = PairingId(fields.value("pairing").to_owned());
        let done = match fields.value("decision") {
            "approve" => {
                let flagged = fields.has("manager", "yes");
                desk.approve(pairing, flagged, manager).await
            }
            "refuse" => desk.refuse(pairing, manager).await,
            _ => return Err(Fault::BadRequest),
        };
        match done {
            Ok(()) => see_other("/devices"),
            Err(failure) => self.devices_page(request, desk, Some(failure)).await,
        }
    }

    async fn device_page(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn DevicesDesk>,
        id: DeviceId,
        failure: Option<Message>,
    ) -> Result<Page, Fault> {
        let detail = desk.device(id).await.map_err(Fault::Desk)?;
        let detail = detail.ok_or(Fault::NotFound)?;
        let now = self.desk.now();
        let mut lines: Vec<&Line> = detail.device.lines.iter().collect();
        lines.sort_by_key(|line| std::cmp::Reverse((line.effect, line.mark)));
        let page = DevicePage {
            frame: self.frame("端末の詳細", "devices", request).await,
            lines: lines.into_iter().map(|line| own_line(line, now)).collect(),
            declarable: detail.declarable.into_iter().map(declarable).collect(),
            device: (&detail.device).into(),
            failure,
        };
        self.form_page(status(&page.failure), &page)
    }

    async fn change_device(
        &self,
        request: &ConsoleRequest,
        desk: &Arc<dyn DevicesDesk>,
        id: DeviceId,
    ) -> Result<Page, Fault> {
        within(request)?;
        let manager = self.manager(request)?;
        let fields = Fields::read(&request.body).ok_or(Fault::BadRequest)?;
        let done = match fields.value("action") {
            "revoke" => desk.revoke(id, manager).await,
            "rename" => {
                desk.rename(id, fields.value("name").to_owned(), manager)
                    .await
            }
            "forget" => match desk.forget(id, manager).await {
                Ok(()) => return see_other("/devices"),
                Err(failure) => Err(failure),
            },
            "reactivate" => desk.reactivate(id, manager).await,
            "manager" => desk.set_manager(id, true, manager).await,
            "no-manager" => desk.set_manager(id, false, manager).await,
            "declare" => {
                let checks: Option<Vec<Check>> = fields.values("check").map(Check::parse).collect();
                let checks = checks.ok_or(Fault::BadRequest)?;
                if checks.is_empty() {
                    return self
                        .device_page(request, desk, id, Some(nothing_chosen()))
                        .await;
                }
                desk.declare(id, checks, manager).await
            }
            _ => return Err(Fault::BadRequest),
        };
        match done {
            Ok(()) => see_other(&format!("/devices/{id}")),
            Err(failure) => self.device_page(request, desk, id, Some(failure)).await,
        }
    }
}

/// On the device's own page a link to it leads nowhere new; where the manager may make an exception, it leads there.
fn own_line(line: &Line, now: Timestamp) -> LineView {
    let mut view = LineView::new(line, now);
    if view
        .link
        .as_ref()
        .is_some_and(|(address, _)| address.starts_with("/devices/"))
    {
        view.link = None;
        view.text.push_str(match (line.mark, line.check) {
            (Mark::Unknown, Check::PcRpt) | (Mark::Warn | Mark::Fail, _) => {
                checks::words(line.check).action
            }
            _ => "点検結果が届くか、申告すると分かります。",
        });
        if let About::Device { id, .. } = &line.about
            && matches!(line.mark, Mark::Warn | Mark::Fail)
            && line.waived_until.is_none()
            && Authority::Manager.may_waive(line.check).is_some()
        {
            let address = format!("/exceptions/new?device={id}&check={}", line.check.id());
            view.link = Some((address, "すぐに直せないとき：例外を登録する"));
        }
    }
    view
}

fn declarable((check, until): (Check, Option<Timestamp>)) -> Declarable {
    Declarable {
        id: check.id(),
        name: checks::words(check).name,
        until: until.map(day),
    }
}

impl From<Today> for TodayView {
    fn from(device: Today) -> Self {
        let never = || "まだありません".to_owned();
        Self {
            id: device.id.to_string(),
            name: device.name,
            seen: device.seen.map_or_else(never, minute),
            reported: if device.owes_report {
                device.reported.map_or_else(never, minute)
            } else {
                "不要（申告で確かめます）".to_owned()
            },
        }
    }
}

impl From<Night> for NightView {
    fn from(night: Night) -> Self {
        Self {
            evening: day(night.evening),
            left_on: night
                .left_on
                .into_iter()
                .map(|(name, first, last)| (name, minute(first), minute(last)))
                .collect(),
        }
    }
}

fn no_certificate() -> Message {
    Message {
        sentence: "種類か証明書が選ばれていません。".into(),
        next_step: "種類を選び、証明書のファイルを選ぶか、内容を貼り付けてください。".into(),
        code: "C-NO-CERTIFICATE".into(),
    }
}

fn nothing_chosen() -> Message {
    Message {
        sentence: "申告する項目が選ばれていません。".into(),
        next_step: "確かめた項目に印を付けてから、申告してください。".into(),
        code: "C-NO-CHECK".into(),
    }
}

/// The status of a page that says what went wrong with a form, or of one that does not.
pub(crate) const fn status(failure: &Option<Message>) -> StatusCode {
    match failure {
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
        None => StatusCode::OK,
    }
}

/// A POST of one of our own pages, of ordinary size.
pub(crate) fn posted(request: &ConsoleRequest) -> Result<&ConsoleRequest, Fault> {
    match method(request, "POST")? {
        Verb::Read => Err(Fault::Method("POST")),
        Verb::Post => within(request).map(|()| request),
    }
}

/// The form is of ordinary size.
pub(crate) fn within(request: &ConsoleRequest) -> Result<(), Fault> {
    if request.body.len() > LARGEST_FORM {
        return Err(Fault::TooLarge);
    }
    Ok(())
}
