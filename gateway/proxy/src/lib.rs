//! The data path: takes requests from the LAN, asks the gate, relays them to the city, and answers itself where it must.
//!
//! It does not decide who may pass (that is `gateway-policy`), holds no notes, and knows no particular city: any HTTPS
//! site can stand upstream. `docs/life-of-a-request.md` tells how a request goes through; `handler` is that text in code.
//!
//! Threads: each worker has a runtime and connections of its own and shares nothing that is written per request. One
//! more thread dials, because a TPM blocks while it signs.
#![forbid(unsafe_code)]

mod bell;
mod body;
mod caller;
mod config;
mod connection;
mod device;
mod drain;
mod error;
mod event_stream;
mod forward;
mod handler;
mod headers;
mod http2;
mod incoming;
pub mod inspect;
mod limits;
mod listener;
mod live;
pub mod messages;
mod pac;
mod pages;
mod pulse;
mod record;
mod refusals;
mod route;
mod staff;
mod tls;
mod tunnel;
mod upstream;
pub mod wire;
mod worker;

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gateway_policy::{DeviceId, Gate, Snapshot, Timestamp};
use http::{HeaderMap, Method, Uri};
use rustls::pki_types::CertificateDer;

pub use config::{Owner, Protocol, ProxyConfig, RESERVED_PREFIX, Site, Support, Upstream};
pub use device::{DeviceTrust, Identify, Seen};
pub use error::StartError;
pub use gateway_city::wire::Role;
pub use inspect::{Inspection, InspectionLimits, StopReason, StoppedBody, Witness, judge_stored};
pub use limits::Limits;
pub use listener::Listeners;
pub use staff::{StaffSession, StaffSessions};
pub use tls::{Identity, LanCertificate};

/// A request for the box's own pages, read completely.
#[derive(Clone)]
pub struct LocalRequest {
    /// Method.
    pub method: Method,
    /// Target: path and query; over HTTP/2 scheme and authority too.
    pub uri: Uri,
    /// The host asked for, lower case, without port.
    pub host: String,
    /// Header fields as received, cookies included.
    pub headers: HeaderMap,
    /// Body, at most [`Limits::local_body_bytes`].
    pub body: Bytes,
    /// The client's address.
    pub peer: IpAddr,
    /// The device it came from, if it has shown a certificate that is known. The gate has judged it; a revoked one comes as
    /// far as this too.
    pub device: Option<DeviceId>,
    /// Who asks, if the city has said so of one of the cookies.
    pub staff: Option<StaffSession>,
}

impl fmt::Debug for LocalRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bodies carry access codes, headers carry cookies, paths name persons.
        f.debug_struct("LocalRequest")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// What a page answers.
pub type LocalResponse = Pin<Box<dyn Future<Output = http::Response<Bytes>> + Send>>;

/// The body of a page that is made while it is sent: put into the response's extensions, it takes the place of the body.
#[derive(Clone)]
pub struct LocalPieces(Arc<Mutex<Option<body::Pieces>>>);

impl LocalPieces {
    /// A body of `length` bytes. When `coming` ends before, the client sees that it was cut.
    #[must_use]
    pub fn new(length: u64, coming: tokio::sync::mpsc::Receiver<Bytes>) -> Self {
        Self(Arc::new(Mutex::new(Some(body::Pieces::new(
            length, coming,
        )))))
    }

    pub(crate) fn take(&self) -> Option<body::Pieces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for LocalPieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalPieces(..)")
    }
}

/// The box's own pages: everything on the console hosts, and what lies below [`RESERVED_PREFIX`] elsewhere.
pub trait LocalPages: Send + Sync + 'static {
    /// Answers one request. Runs on a data thread: work that blocks belongs on another.
    fn respond(&self, request: LocalRequest) -> LocalResponse;
}

/// What the data path needs from the rest of the box.
#[derive(Clone)]
pub struct Dependencies {
    /// Judges every request.
    pub gate: Gate,
    /// What it judges by; read anew for every request.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The box's own pages.
    pub pages: Arc<dyn LocalPages>,
    /// Sessions learnt from the city.
    pub staff: Arc<StaffSessions>,
    /// What the LAN sees.
    pub lan_certificate: LanCertificate,
    /// How the LAN's devices are told apart.
    pub devices: DeviceTrust,
    /// What the city sees; without one, only what needs no certificate can be relayed.
    pub identity: Option<Identity>,
    /// Looks into every body on its way.
    pub inspection: Inspection,
}

impl fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependencies").finish_non_exhaustive()
    }
}

/// The data path, before it runs.
#[derive(Debug)]
pub struct Proxy;

impl Proxy {
    /// Starts all threads and takes connections from `listeners`.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs.
    pub fn start(
        config: ProxyConfig,
        listeners: &Listeners,
        dependencies: Dependencies,
    ) -> Result<Running, StartError> {
        let Dependencies {
            gate,
            snapshot,
            clock,
            pages,
            staff,
            lan_certificate,
            devices,
            identity,
            inspection,
        } = dependencies;
        if config
            .proxy_authority
            .parse::<http::uri::Authority>()
            .is_err()
        {
            return Err(StartError::Header(config.proxy_authority));
        }
        let lan = tls::LanTls::new(lan_certificate, &devices.authorities)?;
        let lan_tls = ArcSwap::new(lan.config()?);
        let (upstreams, dial_thread) = upstream::Upstreams::new(&config, identity)?;
        let workers = config.workers.get();
        inspection.attach(Arc::clone(&snapshot), Arc::clone(&clock));
        let shared = Arc::new(worker::Shared {
            routes: route::Routes::new(&config)?,
            pac: pac::file(&config),
            config,
            gate,
            snapshot,
            clock,
            pages,
            staff,
            inspection,
            lan_tls,
            upstreams: Arc::new(upstreams),
            slots: Arc::default(),
            nodes: device::NodeNames::new()?,
            identify: devices.identify,
            seen: devices.seen,
            live: (0..workers).map(|_| Arc::default()).collect(),
            drain: drain::Drain::new(),
        });
        let mut running = Running {
            shared,
            lan,
            threads: Vec::with_capacity(workers + 1),
        };
        running.threads.push(dial_thread);
        for number in 0..workers {
            let listeners = listeners.duplicate()?;
            let thread = worker::Worker::start(number, Arc::clone(&running.shared), listeners)?;
            running.threads.push(thread);
        }
        Ok(running)
    }
}

/// The data path at work. Dropping it cuts all connections; [`Running::drain`] ends it politely.
pub struct Running {
    shared: Arc<worker::Shared>,
    lan: tls::LanTls,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Shows another certificate to the LAN, from the next handshake on. Open connections are not touched.
    ///
    /// # Errors
    /// [`StartError`]; then the old certificate stays.
    pub fn reload_certificates(&self, certificate: &LanCertificate) -> Result<(), StartError> {
        self.shared.lan_tls.store(self.lan.show(certificate)?);
        Ok(())
    }

    /// Asks devices for certificates of these authorities from the next handshake on; see [`DeviceTrust::authorities`]. Open
    /// connections are not touched, and no session is resumed across the change.
    ///
    /// # Errors
    /// [`StartError`]; then the old ones stay.
    pub fn set_device_authorities(
        &self,
        authorities: &[CertificateDer<'static>],
    ) -> Result<(), StartError> {
        self.shared.lan_tls.store(self.lan.ask(authorities)?);
        Ok(())
    }

    /// Ends everything that is open for a device: connections, tunnels, uploads and downloads in flight. It may come back at
    /// once; what it is told then is the gate's business. A device that a snapshot shows as revoked is cut without this.
    pub fn cut(&self, device: DeviceId) {
        for live in &self.shared.live {
            live.cut(device);
        }
    }

    /// Shows another certificate to the city, or none. No connection or session made under the old one is used for a new
    /// request; requests in flight finish.
    ///
    /// # Errors
    /// [`StartError`]; then the old identity stays.
    pub fn set_identity(&self, identity: Option<Identity>) -> Result<(), StartError> {
        self.shared.upstreams.set_identity(identity)
    }

    /// Signatures made with the facility key since the start.
    #[must_use]
    pub fn signatures(&self) -> u64 {
        self.shared.upstreams.signatures()
    }

    /// Open connections from the LAN.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.slots.open()
    }

    /// Stops accepting, lets every connection finish what it is at (`GOAWAY`, `Connection: close`), and cuts what is left after
    /// `deadline`. Blocks until all threads have ended.
    pub fn drain(mut self, deadline: Duration) {
        let until = Instant::now() + deadline;
        self.shared.drain.enter(drain::Phase::Draining);
        while self.shared.slots.open() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.end();
    }

    fn end(&mut self) {
        self.shared.drain.enter(drain::Phase::Cut);
        // The dialling thread, first in the list, ends with the last reference to it, which this holds.
        for worker in self.threads.drain(..).skip(1) {
            let _ = worker.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
