//! Which request gets which page. The pages' content is in [`crate::setup`] and [`crate::reader`].
//!
//! It keeps no state but the sessions of readers.

use std::net::IpAddr;
use std::sync::Arc;

use askama::Template;
use gateway_notes::Role;
use gateway_policy::Timestamp;
use http::{HeaderValue, Method, StatusCode, header};

use crate::pages::{Certificates, Frame, Home, Plain};
use crate::response::{Fault, Page, Referrer, content_policy, html, support_code};
use crate::sessions::{NoRandomness, Sessions};
use crate::words::{headline, rows};
use crate::{BreakGlassDesk, ConsoleRequest, Desk, DevicesDesk, RegistersDesk, ReportDesk, Staff};

/// The one path prefix on the notebook's origin that is the box's own.
pub const RESERVED_PREFIX: &str = "/.well-known/renraku-gateway/";

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
        let policy = HeaderValue::from_str(&content_policy())
            .expect("a policy of fixed words and base64 is a header value");
        Ok(Self {
            desk,
            desks: Desks::default(),
            config,
            sessions: Sessions::new()?,
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
    pub async fn respond(&self, request: ConsoleRequest) -> Page {
        let head_only = request.method == Method::HEAD;
        let on_notebook = request.path.starts_with(RESERVED_PREFIX);
        let mut page = match self.route(&request).await {
            Ok(page) => page,
            Err(fault) => self.refuse(&fault, on_notebook),
        };
        if head_only {
            page.body_mut().clear();
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
            return match path {
                "notes" if host != self.config.console_host => self.hand_over(get(request)?),
                _ => Err(Fault::NotFound),
            };
        }
        // A name that is not ours but leads here was made to do so (DNS rebinding); an address cannot be.
        if host != self.config.console_host && host.parse::<IpAddr>().is_err() {
            return Err(Fault::NotFound);
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
            "/notes" => self.persons(get(request)?).await,
            "/notices" => self.notices(get(request)?).await,
            "/sign-out" => match method(request, "POST")? {
                Verb::Read => Err(Fault::Method("POST")),
                Verb::Post => self.sign_out(request),
            },
            path => match path.strip_prefix("/notes/") {
                Some(person) => self.notes(get(request)?, person).await,
                None => Err(Fault::NotFound),
            },
        }
    }

    async fn home(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let now = self.desk.now();
        let (status, setup) = (self.desk.status().await, self.desk.setup().await);
        let stored = match self.desk.store() {
            None => "まだありません".to_owned(),
            Some(store) => match store.status().await {
                Ok(store) => format!("{}名・{}件", store.persons, store.notes),
                // The home page has to come up exactly when something is broken.
                Err(_) => "いま読み出せません".to_owned(),
            },
        };
        let page = Home {
            frame: self.frame("ホーム", "home", request).await,
            headline: headline(setup.ready, &status),
            rows: rows(&status, now),
            stored,
        };
        self.page(&page)
    }

    async fn certificates(&self, request: &ConsoleRequest) -> Result<Page, Fault> {
        let setup = self.desk.setup().await;
        let page = Certificates {
            frame: self.frame("電子証明書", "certificates", request).await,
            certificates: setup.certificates.into_iter().map(Into::into).collect(),
        };
        self.page(&page)
    }

    /// Who reads, if the session on this origin is still good.
    pub(crate) fn reader(&self, request: &ConsoleRequest, now: Timestamp) -> Option<Staff> {
        self.sessions.find(request.cookie(COOKIE)?, now)
    }

    pub(crate) fn is_manager(&self, request: &ConsoleRequest) -> bool {
        self.reader(request, self.desk.now())
            .is_some_and(|staff| staff.role == Role::Manager)
    }

    pub(crate) async fn frame<'a>(
        &'a self,
        title: &'a str,
        here: &'a str,
        request: &ConsoleRequest,
    ) -> Frame<'a> {
        let now = self.desk.now();
        let mut frame = Frame::new(&self.config, title, here, now);
        if let (Some(reader), Some(store)) = (self.reader(request, now), self.desk.store()) {
            // A store in trouble costs the name in the corner, not the page.
            if let Ok(Some(staff)) = store.staff(&reader.user).await {
                frame.reader = Some(staff.display_name.reveal().to_owned());
            }
        }
        frame
    }

    pub(crate) fn page(&self, template: &impl Template) -> Result<Page, Fault> {
        Ok(html(
            StatusCode::OK,
            &self.policy,
            Referrer::No,
            template.render()?,
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
            template.render()?,
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
        let (sentence, next) = fault.words();
        let home = format!("https://{}/", self.config.console_host);
        let page = Plain {
            frame: Frame::new(&self.config, "ご案内", "", self.desk.now()),
            sentence,
            next,
            link: (!on_notebook).then(|| ("/".to_owned(), "ホームに戻る")),
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
enum Verb {
    Read,
    Post,
}

/// The verb, after making sure that what changes something comes from our own pages.
fn method(request: &ConsoleRequest, allowed: &'static str) -> Result<Verb, Fault> {
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

fn get(request: &ConsoleRequest) -> Result<&ConsoleRequest, Fault> {
    match request.method {
        Method::GET | Method::HEAD => Ok(request),
        _ => Err(Fault::Method("GET, HEAD")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::{Answer, BoxStatus, Entry, Message, SetupStatus};
    use bytes::Bytes;

    /// A failure page asks the desk for the time and nothing else.
    struct Clock;

    impl Desk for Clock {
        fn now(&self) -> Timestamp {
            Timestamp(1_800_000_000)
        }
        fn status(&self) -> Answer<'_, BoxStatus> {
            unreachable!()
        }
        fn setup(&self) -> Answer<'_, SetupStatus> {
            unreachable!()
        }
        fn provision(&self, _: Entry, _: Entry) -> Answer<'_, Result<(), Message>> {
            unreachable!()
        }
        fn import(&self, _: Bytes, _: Entry) -> Answer<'_, Result<(), Message>> {
            unreachable!()
        }
        fn is_setup_code(&self, _: Entry) -> Answer<'_, bool> {
            unreachable!()
        }
        fn store(&self) -> Option<gateway_notes::Store> {
            unreachable!()
        }
    }

    #[test]
    fn every_failure_has_a_page_with_a_next_step_and_a_support_code_and_no_detail() {
        let config = Config {
            console_host: "box".into(),
            notebook_host: "notebook".into(),
            support_office: "office".into(),
            support_phone: "phone".into(),
        };
        let console = Console::new(Arc::new(Clock), config).unwrap();
        let faults = [
            (Fault::NotFound, 404),
            (Fault::Method("GET, HEAD"), 405),
            (Fault::BadRequest, 400),
            (Fault::TooLarge, 413),
            (Fault::NotOurs, 403),
            (Fault::NotManager, 403),
            (Fault::CodeRefused, 403),
            (Fault::Store(gateway_notes::Error::Damaged), 503),
            (Fault::Randomness(NoRandomness), 500),
        ];
        for (fault, status) in faults {
            let page = console.refuse(&fault, false);
            assert_eq!(page.status().as_u16(), status);
            let text = std::str::from_utf8(page.body()).unwrap();
            let (sentence, next) = fault.words();
            assert!(text.contains(sentence) && text.contains(next) && text.contains("受付番号"));
            assert!(!text.contains(&fault.to_string()) && !text.contains("authenticated"));
        }
    }
}
