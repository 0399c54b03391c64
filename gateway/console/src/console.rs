//! Which request gets which page. The pages' content is in [`crate::setup`] and [`crate::reader`].
//!
//! It keeps no state but the sessions of readers.

use std::net::IpAddr;
use std::sync::Arc;

use askama::Template;
use gateway_notes::Role;
use gateway_policy::Timestamp;
use http::{HeaderValue, Method, StatusCode, header};

use crate::leaving_pages;
use crate::moment::minute;
use crate::pages::{Certificates, Frame, Managed, Plain};
use crate::response::{
    Fault, Page, Referrer, content_policy, html, no_content, rendered, see_other, support_code,
};
use crate::search_pages::Searches;
use crate::sessions::{NoRandomness, Origin, Sessions};
use crate::{
    AccessesDesk, Admission, BreakGlassDesk, ConsoleRequest, Desk, DevicesDesk, LeavingDesk,
    OfflineDesk, RecoveryDesk, RegistersDesk, ReportDesk, SessionId, Staff, ViewId, WaiversDesk,
};

/// The one path prefix on the notebook's origin that is the box's own.
pub const RESERVED_PREFIX: &str = "/.well-known/renraku-gateway/";

/// Where a page says that it is left.
const LEFT: &str = "/left";

/// The cookie of a reader's session. The prefix makes browsers insist on Secure, this host only, and all paths
/// (RFC 6265bis §4.1.3.2).
pub(crate) const COOKIE: &str = "__Host-box";

/// Addresses and the words that differ from city to city.
#[derive(Clone, Debug)]
pub struct Config {
    /// The host name of the box's own pages, without port.
    pub console_host: String,
    /// The host name of the notebook, where staff sign in, without port.
    pub notebook_host: String,
    /// Who answers questions, for example 「高萩市 高齢福祉課」.
    pub support_office: String,
    /// Their telephone number, with extensions.
    pub support_phone: String,
}

/// The parts of the box that have pages of their own. What is absent is not linked and not found.
#[derive(Clone, Default)]
pub struct Desks {
    /// Registered devices and pairing.
    pub devices: Option<Arc<dyn DevicesDesk>>,
    /// Media, training, declarations.
    pub registers: Option<Arc<dyn RegistersDesk>>,
    /// How the checks stand.
    pub report: Option<Arc<dyn ReportDesk>>,
    /// Break-glass.
    pub break_glass: Option<Arc<dyn BreakGlassDesk>>,
    /// The time without the city; without it, sessions that the city opened hold as long as they last.
    pub offline: Option<Arc<dyn OfflineDesk>>,
    /// Exceptions from single checks.
    pub waivers: Option<Arc<dyn WaiversDesk>>,
    /// The end of the box's service.
    pub leaving: Option<Arc<dyn LeavingDesk>>,
    /// The recovery key of the disk.
    pub recovery: Option<Arc<dyn RecoveryDesk>>,
    /// Who looked at whose stored notes.
    pub accesses: Option<Arc<dyn AccessesDesk>>,
}

impl std::fmt::Debug for Desks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desks(..)")
    }
}

/// The box's own pages.
pub struct Console {
    pub(crate) desk: Arc<dyn Desk>,
    pub(crate) desks: Desks,
    pub(crate) config: Config,
    pub(crate) sessions: Sessions,
    pub(crate) searches: Searches,
    policy: HeaderValue,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// Pages over `desk`; nobody is signed in.
    ///
    /// # Errors
    /// [`NoRandomness`] when no key for the sessions can be made.
    pub fn new(desk: Arc<dyn Desk>, config: Config) -> Result<Self, NoRandomness> {
        let policy = HeaderValue::from_str(&content_policy(&[]))
            .expect("a policy of fixed words and base64 is a header value");
        Ok(Self {
            desk,
            desks: Desks::default(),
            config,
            sessions: Sessions::new()?,
            searches: Searches::new()?,
            policy,
        })
    }

    /// With pages for these parts of the box too.
    #[must_use]
    pub fn with(mut self, desks: Desks) -> Self {
        self.desks = desks;
        self
    }

    /// Answers one request.
    pub async fn respond(&self, mut request: ConsoleRequest) -> Page {
        request.view = ViewId::new();
        let head_only = request.method == Method::HEAD;
        let on_notebook = request.path.starts_with(RESERVED_PREFIX);
        if request.is_navigation()
            && request.path != LEFT
            && let Some(session) = self.session(&request)
        {
            self.desk.moves_on(session);
        }
        let mut page = match self.route(&request).await {
            Ok(page) => page,
            Err(fault) => self.refuse(&fault, on_notebook),
        };
        if head_only {
            page.body_mut().clear();
            page.extensions_mut().remove::<crate::Streamed>();
        }
        page
    }

    /// Ends the sessions of a user whom the city has suspended.
    pub fn forget(&self, user: &str) {
        self.sessions.forget(user);
    }

    async fn route(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let host = request.host_name();
        if let Some(path) = request.path.strip_prefix(RESERVED_PREFIX) {
            // Here on the notebook's origin. Everything else of ours is on another, which its scripts cannot reach.
            if host == self.config.console_host {
                return Err(Fault::NotFound);
            }
            return match path {
                "notes" if self.is_kept_out(request) => self.to_our_pages(get(request)?, "pairing"),
                "notes" => self.hand_over(get(request)?),
                // The ways from a refusal to our own origin, whose name its page does not know.
                "home" => self.to_our_pages(get(request)?, ""),
                "pairing" if self.desks.devices.is_some() => {
                    self.to_our_pages(get(request)?, "pairing")
                }
                "break-glass" if self.desks.break_glass.is_some() => {
                    self.to_our_pages(get(request)?, "break-glass")
                }
                _ => Err(Fault::NotFound),
            };
        }
        // A name that is not ours but leads here was made to do so (DNS rebinding); an address cannot be.
        if host != self.config.console_host && host.parse::<IpAddr>().is_err() {
            return Err(Fault::NotFound);
        }
        if self.has_left() {
            return match request.path.as_str() {
                leaving_pages::PATH => self.leaving_pages(request, leaving_pages::PATH).await,
                _ => see_other(leaving_pages::PATH),
            };
        }
        if self.is_kept_out(request) && !self.is_for_all(request).await {
            return match request.path.as_str() {
                "/" => see_other("/pairing"),
                _ => Err(Fault::NotRegistered),
            };
        }
        match request.path.as_str() {
            "/" => self.home(get(request)?).await,
            "/setup" => match method(request, "GET, HEAD, POST")? {
                Verb::Read => self.setup_page(request, None).await,
                Verb::Post => self.start_setup(request).await,
            },
            "/setup/import" => match method(request, "GET, HEAD, POST")? {
                Verb::Read => self.import_page(request, None).await,
                Verb::Post => self.start_import(request).await,
            },
            "/certificates" => self.certificates(get(request)?).await,
            "/handover" => self.redeem(get(request)?),
            "/search" => self.search_page(request).await,
            "/notices" => self.notices(get(request)?).await,
            "/sign-out" => match method(request, "POST")? {
                Verb::Read => Err(Fault::Method("POST")),
                Verb::Post => self.sign_out(request),
            },
            LEFT => match method(request, "POST")? {
                Verb::Read => Err(Fault::Method("POST")),
                Verb::Post => self.left(request),
            },
            path => match path.strip_prefix("/notes") {
                Some(rest) => self.notes_pages(request, rest).await,
                None => self.managed(request, path).await,
            },
        }
    }

    /// The pages of the parts that a box may have or not.
    async fn managed(&self, request: &ConsoleRequest, path: &str) -> Result<Page, Fault> {
        let first = path.split('/').nth(1).unwrap_or_default();
        match first {
            "pairing" => self.pairing_pages(request, path).await,
            "devices" => self.device_pages(request, path).await,
            "registers" | "media" | "training" | "declarations" => {
                self.register_pages(request, path).await
            }
            "accesses" => self.accesses_page(get(request)?, path).await,
            "report" => self.report_page(get(request)?, path).await,
            "break-glass" => self.break_glass_pages(request, path).await,
            "pin" => self.pin_pages(request, path).await,
            "sign-in" => self.sign_in_pages(request, path).await,
            "leaving" => self.leaving_pages(request, path).await,
            "recovery-key" => self.recovery_pages(request, path).await,
            "exceptions" => self.waiver_pages(request, path).await,
            _ => Err(Fault::NotFound),
        }
    }

    /// What the device may see that the request comes from.
    pub(crate) fn admission(&self, request: &ConsoleRequest) -> Admission {
        self.desks
            .devices
            .as_ref()
            .map_or(Admission::Tolerated, |devices| {
                devices.admission(request.device)
            })
    }

    /// An unknown device, or one that was cut off (第29条).
    pub(crate) fn is_kept_out(&self, request: &ConsoleRequest) -> bool {
        matches!(
            self.admission(request),
            Admission::Unknown | Admission::Revoked
        )
    }

    /// What a device may see that is not registered: how to be, what is public, and the setting up of a box that has
    /// nothing to protect yet.
    async fn is_for_all(&self, request: &ConsoleRequest) -> bool {
        match request.path.as_str() {
            "/notices" => true,
            "/" | "/setup" | "/setup/import" | leaving_pages::PATH => {
                !self.desk.setup().await.ready
            }
            path => path == "/pairing" || path.starts_with("/pairing/"),
        }
    }

    fn to_our_pages(&self, request: &ConsoleRequest, page: &str) -> Result<Page, Fault> {
        let (host, port) = (&self.config.console_host, request.port_suffix());
        see_other(&format!("https://{host}{port}/{page}"))
    }

    async fn certificates(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let setup = self.desk.setup().await;
        let page = Certificates {
            frame: self.frame("電子証明書", "certificates", request).await,
            certificates: setup.certificates.into_iter().map(Into::into).collect(),
            leaving: self.desks.leaving.is_some() && self.is_manager(request),
            recovery: self.has_recovery_key() && self.is_manager(request),
        };
        self.page(&page)
    }

    /// Who reads, if the session on this origin is still good.
    pub(crate) fn reader(&self, request: &ConsoleRequest, now: Timestamp) -> Option<Staff> {
        let (staff, origin) = self.signed_in(request, now)?;
        self.holds(origin).then_some(staff)
    }

    /// The session that the request belongs to, if it is still good.
    pub(crate) fn session(&self, request: &ConsoleRequest) -> Option<SessionId> {
        self.reader(request, self.desk.now())?;
        Some(self.sessions.id(request.cookie(COOKIE)?))
    }

    /// A page was left. The answer is for nobody.
    fn left(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let view = ViewId::parse(&request.body).ok_or(Fault::BadRequest)?;
        if let Some(session) = self.session(request) {
            self.desk.left(session, view);
        }
        Ok(no_content())
    }

    pub(crate) fn is_manager(&self, request: &ConsoleRequest) -> bool {
        self.manager(request).is_ok()
    }

    /// The manager who is signed in.
    pub(crate) fn manager(&self, request: &ConsoleRequest) -> Result<Staff, Fault> {
        match self.signed_in(request, self.desk.now()) {
            Some((staff, Origin::City)) if staff.role == Role::Manager => Ok(staff),
            // A PIN is for reading.
            _ => Err(Fault::NotManager),
        }
    }

    /// A frame without a name in the corner.
    pub(crate) fn bare_frame<'a>(&'a self, title: &'a str, here: &'a str) -> Frame<'a> {
        let mut frame = Frame::new(&self.config, title, here, self.desk.now());
        let open = self.desks.break_glass.as_ref().map(|desk| desk.state());
        frame.break_glass = open
            .and_then(|state| state.open)
            .map(|opening| minute(opening.until));
        frame
    }

    pub(crate) async fn frame<'a>(
        &'a self,
        title: &'a str,
        here: &'a str,
        request: &ConsoleRequest,
    ) -> Frame<'a> {
        // A store in trouble costs the name in the corner, not the page.
        let name = match (self.reader(request, self.desk.now()), self.desk.store()) {
            (Some(reader), Some(store)) => store.staff(&reader.user).await.ok().flatten(),
            _ => None,
        };
        self.frame_for(title, here, request, name).await
    }

    /// A frame for somebody whom the store has just been asked about.
    pub(crate) async fn frame_for<'a>(
        &'a self,
        title: &'a str,
        here: &'a str,
        request: &ConsoleRequest,
        staff: Option<gateway_notes::Staff>,
    ) -> Frame<'a> {
        let mut frame = self.bare_frame(title, here);
        frame.admitted = !self.is_kept_out(request) || !self.desk.setup().await.ready;
        if self.is_manager(request) {
            frame.managed = Managed {
                devices: self.desks.devices.is_some(),
                registers: self.desks.registers.is_some(),
                report: self.desks.report.is_some(),
                accesses: self.desks.accesses.is_some(),
                break_glass: self.desks.break_glass.is_some(),
            };
        }
        if self.reader(request, self.desk.now()).is_some() && self.desk.store().is_some() {
            frame.own_pin = self.offers_own_pin(request);
            frame.view = Some(request.view);
            frame.reader = staff.map(|staff| staff.display_name.reveal().to_owned());
        }
        frame
    }

    pub(crate) fn page(&self, template: &impl Template) -> Result<Page, Fault> {
        Ok(html(
            StatusCode::OK,
            &self.policy,
            Referrer::No,
            rendered(template)?,
        ))
    }

    /// A page with a form that others may not send in our name.
    pub(crate) fn form_page(
        &self,
        status: StatusCode,
        template: &impl Template,
    ) -> Result<Page, Fault> {
        Ok(html(
            status,
            &self.policy,
            Referrer::Own,
            rendered(template)?,
        ))
    }

    pub(crate) fn plain(
        &self,
        status: StatusCode,
        mut page: Plain<'_>,
        on_notebook: bool,
    ) -> Result<Page, Fault> {
        page.frame.navigation = !on_notebook;
        Ok(html(status, &self.policy, Referrer::No, page.render()?))
    }

    fn refuse(&self, fault: &Fault, on_notebook: bool) -> Page {
        let code = support_code();
        let status = fault.status();
        if status.is_server_error() {
            tracing::error!(support_code = code, error = %fault, cause = cause(fault), "a page of the console failed");
        } else {
            tracing::info!(support_code = code, status = status.as_u16(), reason = %fault, "a request to the console was refused");
        }
        let (sentence, next) = match fault {
            Fault::Store(gateway_notes::Error::Locked) => self.locked_words(),
            _ => fault.words(),
        };
        let home = format!("https://{}/", self.config.console_host);
        let page = Plain {
            frame: self.bare_frame("ご案内", ""),
            sentence,
            next,
            link: match fault {
                _ if on_notebook => None,
                Fault::NotRegistered => Some(("/pairing".to_owned(), "この端末を登録する")),
                _ => Some(("/".to_owned(), "ホームに戻る")),
            },
            support_code: Some(code),
        };
        let rendered = self.plain(status, page, on_notebook);
        let mut response = rendered.unwrap_or_else(|_| {
            // Rendering fails only for lack of memory; then a bare link has to do.
            html(
                status,
                &self.policy,
                Referrer::No,
                format!("<a href=\"{home}\">{home}</a>"),
            )
        });
        if let Fault::Method(allowed) = fault {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

fn cause(fault: &Fault) -> String {
    std::error::Error::source(fault)
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// What a request wants to do.
pub(crate) enum Verb {
    Read,
    Post,
}

/// The verb, after making sure that what changes something comes from our own pages.
pub(crate) fn method(request: &ConsoleRequest, allowed: &'static str) -> Result<Verb, Fault> {
    match request.method {
        Method::GET | Method::HEAD => Ok(Verb::Read),
        Method::POST if allowed.ends_with("POST") => {
            if request.is_from_our_own_page() {
                Ok(Verb::Post)
            } else {
                Err(Fault::NotOurs)
            }
        }
        _ => Err(Fault::Method(allowed)),
    }
}

pub(crate) fn get(request: &ConsoleRequest) -> Result<&ConsoleRequest, Fault> {
    match request.method {
        Method::GET | Method::HEAD => Ok(request),
        _ => Err(Fault::Method("GET, HEAD")),
    }
}

#[cfg(test)]
mod tests;
