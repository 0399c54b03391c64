//! The city as one value: configuration, authority, store, failure and counters, and the way of a request into it.
//!
//! Which page or interface answers is decided by host name only; the rooms themselves know nothing of each other.

use crate::ca::{Ca, CaError};
use crate::failure::{Failure, HalfBody, Mode};
use crate::files::Delivery;
use crate::problem::{self, Problem};
use crate::secrets::{self, LookupKey};
use crate::stats::Stats;
use crate::store::{Store, StoreError};
use crate::tls::Facts;
use crate::tuf::Tuf;
use crate::{est, gatewayapi, pages, portal};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use axum::response::{IntoResponse as _, Response};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, watch};

/// Host of the public portal and the staff pages.
pub const RENRAKU: &str = "renraku.takahagi.localhost";
/// Host of the enrolment server.
pub const EST: &str = "est.takahagi.localhost";
/// Host of the gateway interface.
pub const GATEWAY: &str = "gw.takahagi.localhost";
/// The name of a box's own pages, which a certificate for a facility's network may carry.
pub const BOX: &str = "box.takahagi.localhost";

/// Wrong answers from one address within a minute before it has to wait.
const WRONG_PER_MINUTE: usize = 60;

/// Why the city cannot start.
#[derive(Debug, thiserror::Error)]
pub enum CityError {
    /// The directory cannot be used.
    #[error("the city's directory {0} cannot be used")]
    Directory(PathBuf, #[source] std::io::Error),
    /// The authority cannot be opened.
    #[error("the certification authority could not be opened")]
    Ca(#[from] CaError),
    /// The database cannot be opened.
    #[error("the database could not be opened")]
    Store(#[from] StoreError),
    /// The signed repository cannot be opened.
    #[error("the signed repository could not be opened")]
    Tuf(#[from] gateway_release::ReleaseError),
}

/// What can be chosen when a city is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Validity of facility certificates.
    pub facility_validity: Duration,
    /// A further name for the enrolment host, for clients that cannot resolve `*.localhost`.
    pub est_alias: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            facility_validity: Duration::from_secs(365 * 86_400),
            est_alias: None,
        }
    }
}

/// Everything the rooms share.
pub struct City {
    /// The certification authority.
    pub ca: Ca,
    /// The database.
    pub store: Store,
    /// Key for hashes of certificate numbers.
    pub lookup: LookupKey,
    /// The signed repository: releases, policy, antivirus databases.
    pub tuf: Tuf,
    /// How the city fails at the moment.
    pub failure: watch::Sender<Failure>,
    /// Feeds say everything but that they are level, until this is over.
    pub never_level: watch::Sender<bool>,
    /// Counters.
    pub stats: Stats,
    /// How single attachments are handed out, by their ids.
    pub deliveries: Mutex<HashMap<String, Delivery>>,
    /// What every open page is told over its WebSocket because a test says so.
    pub spoken: broadcast::Sender<String>,
    /// Where uploads rest until they are complete.
    pub incoming: PathBuf,
    /// Where the control port writes files that tests ask for.
    pub dir: PathBuf,
    /// What the command line says.
    pub settings: Settings,
    wrong: Mutex<HashMap<IpAddr, Vec<Instant>>>,
    rooms: OnceLock<Rooms>,
}

impl std::fmt::Debug for City {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("City(…)")
    }
}

struct Rooms {
    renraku: Router,
    est: Router,
    gateway: Router,
}

impl City {
    /// Opens the city in `dir`, making everything it needs on the first start.
    ///
    /// # Errors
    /// When the directory, the authority or the database cannot be used.
    pub fn open(dir: &Path, settings: Settings) -> Result<Arc<Self>, CityError> {
        let unusable = |error| CityError::Directory(dir.to_owned(), error);
        let incoming = dir.join("incoming");
        std::fs::create_dir_all(&incoming).map_err(unusable)?;
        let city = Arc::new(Self {
            ca: Ca::open(dir)?,
            store: Store::open(dir)?,
            lookup: LookupKey::new(&lookup_key(dir).map_err(unusable)?),
            tuf: Tuf::open(dir)?,
            failure: watch::Sender::new(Failure::default()),
            never_level: watch::Sender::new(false),
            stats: Stats::default(),
            deliveries: Mutex::default(),
            spoken: broadcast::Sender::new(16),
            incoming,
            dir: dir.to_owned(),
            settings,
            wrong: Mutex::default(),
            rooms: OnceLock::new(),
        });
        let rooms = Rooms {
            renraku: portal::routes(Arc::clone(&city)),
            est: est::routes(Arc::clone(&city)),
            gateway: gatewayapi::routes(Arc::clone(&city)),
        };
        let set = city.rooms.set(rooms);
        debug_assert!(set.is_ok(), "rooms are set once, here");
        Ok(city)
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Body>) -> Response {
        let forwarded = request
            .headers()
            .get(header::FORWARDED)
            .and_then(|value| value.to_str().ok());
        self.stats
            .request(request.version(), request.method(), forwarded);
        let response = self.fail_or_answer(request).await;
        self.stats.answer(response.status().as_u16());
        response
    }

    async fn fail_or_answer(&self, request: Request<Body>) -> Response {
        let host = host_of(&request).unwrap_or_default();
        let failure = self.failure.borrow().clone();
        if !failure.meets(&host, request.uri().path()) {
            return self.route(&host, request).await;
        }
        match failure.mode {
            Mode::None | Mode::Down => self.route(&host, request).await,
            Mode::Slow => {
                tokio::time::sleep(Duration::from_millis(failure.delay_ms.unwrap_or(2_000))).await;
                self.route(&host, request).await
            }
            Mode::Hang => std::future::pending().await,
            Mode::ServerError => {
                let wants_page = host == RENRAKU && problem::wants_page(request.headers());
                let problem = Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "ただいまご利用いただけません。",
                    "しばらくしてから、もう一度お試しください。",
                );
                problem::present(problem.retry_after(5).into_response(), wants_page)
            }
            Mode::CutMidBody => self
                .route(&host, request)
                .await
                .map(|body| Body::new(HalfBody::new(body))),
        }
    }

    async fn route(&self, host: &str, request: Request<Body>) -> Response {
        let rooms = self
            .rooms
            .get()
            .expect("rooms are set before the first request can come in");
        let room = match host {
            // RFC 9112 section 3.2: 400 for a request without a Host, or with more than one.
            "" => {
                let problem = Problem::bad_request("Hostが1つだけ付いた要求を送ってください。");
                return problem::present(problem.into_response(), false);
            }
            RENRAKU => &rooms.renraku,
            EST => &rooms.est,
            alias if self.settings.est_alias.as_deref() == Some(alias) => &rooms.est,
            GATEWAY => &rooms.gateway,
            // RFC 9110 section 15.5.20.
            _ => {
                let problem = Problem::new(
                    StatusCode::MISDIRECTED_REQUEST,
                    "misdirected",
                    "この名前のサイトはここにはありません。",
                    "アドレスを確かめて、もう一度お試しください。",
                );
                return problem::present(problem.into_response(), false);
            }
        };
        let path = request.uri().path();
        let json_only = host != RENRAKU || path.starts_with("/staff/api/");
        let wants_page = !json_only && problem::wants_page(request.headers());
        let room = TowerToHyperService::new(room.clone());
        let response = match room.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let response = problem::present(response, wants_page);
        if host == RENRAKU {
            pages::harden(response)
        } else {
            response
        }
    }

    /// Counts a wrong answer (code or password) from an address.
    pub fn count_wrong(&self, from: IpAddr) {
        let mut wrong = self
            .wrong
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        wrong.entry(from).or_default().push(Instant::now());
    }

    /// Whether an address gave too many wrong answers within the last minute.
    #[must_use]
    pub fn too_many_wrong(&self, from: IpAddr) -> bool {
        let mut wrong = self
            .wrong
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        wrong.retain(|_, times| {
            times.retain(|time| time.elapsed() < Duration::from_secs(60));
            !times.is_empty()
        });
        wrong
            .get(&from)
            .is_some_and(|times| times.len() >= WRONG_PER_MINUTE)
    }
}

/// The host a request names, lower case and without port; `None` if it names none, several or nonsense.
fn host_of(request: &Request<Body>) -> Option<String> {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return None;
    }
    let field = match field {
        Some(value) => Some(value.to_str().ok()?),
        None => None,
    };
    // RFC 9113 section 8.3.1 for HTTP/2, RFC 9112 section 3.2.2 for the absolute form: the target's authority wins.
    let written = match request.uri().authority() {
        Some(authority) => {
            if request.version() == Version::HTTP_2
                && field.is_some_and(|host| host != authority.as_str())
            {
                return None;
            }
            authority.as_str()
        }
        None => field?,
    };
    let authority: http::uri::Authority = written.parse().ok()?;
    if authority.as_str().contains('@') {
        return None;
    }
    Some(authority.host().trim_end_matches('.').to_ascii_lowercase())
}

/// The authority (host and port) as the client wrote it, for absolute links and redirects.
#[must_use]
pub fn authority_of(headers: &HeaderMap, uri: &http::Uri) -> String {
    uri.authority()
        .map(|authority| authority.as_str().to_owned())
        .or_else(|| {
            headers
                .get(header::HOST)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        })
        .unwrap_or_else(|| RENRAKU.to_owned())
}

/// The facts of the connection a request came in on.
///
/// # Errors
/// When the request did not come through the TLS listener, which cannot happen.
pub fn facts_of(extensions: &http::Extensions) -> Result<Arc<Facts>, Problem> {
    extensions
        .get::<Arc<Facts>>()
        .cloned()
        .ok_or_else(|| Problem::internal(&NoFacts))
}

#[derive(Debug, thiserror::Error)]
#[error("a request came in beside the listener")]
struct NoFacts;

/// A header value of ASCII text that this program made.
#[must_use]
pub fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn lookup_key(dir: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = dir.join("lookup.key");
    match std::fs::read(&path) {
        Ok(key) if key.len() == 32 => return Ok(key),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = secrets::random::<32>();
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?
        .write_all(&key)?;
    Ok(key.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(uri: &str, hosts: &[&str]) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        host_of(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn the_host_is_read_without_port_and_in_lower_case() {
        assert_eq!(
            named("/", &["Renraku.Takahagi.localhost:9443"]).as_deref(),
            Some(RENRAKU)
        );
        assert_eq!(
            named("https://gw.takahagi.localhost:1/x", &["other"]).as_deref(),
            Some(GATEWAY)
        );
    }

    #[test]
    fn two_hosts_or_none_or_a_user_in_the_host_is_no_host() {
        assert_eq!(named("/", &[]), None);
        assert_eq!(named("/", &["a", "b"]), None);
        assert_eq!(named("/", &["someone@renraku.takahagi.localhost"]), None);
    }
}
