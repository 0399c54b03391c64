//! The connections of one worker to one site: idle ones, shared ones, and the requests that wait for one.
//! Does not dial: it orders from the dialling thread, as few as will do.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Context,
    time::{Duration, Instant},
};

use http::Request;
use tokio::sync::oneshot;

use super::{Dialler, H1, H2, Lease, SiteState, Upstreams, dial::Dialled};
use crate::{
    Limits,
    body::Upload,
    config::Protocol,
    error::{Fault, FaultKind},
};

/// HTTP/1.1 connections that may be under construction at once.
const DIALS: usize = 16;
/// How long a connection that came back whole is taken for open without asking it.
const GLANCED: Duration = Duration::from_millis(2);

pub(crate) struct Pool {
    pub(crate) site: Arc<SiteState>,
    upstreams: Arc<Upstreams>,
    open: Arc<AtomicUsize>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The most recently used one is last, and used first; the others grow old and are closed.
    #[allow(
        clippy::vec_box,
        reason = "a connection is some two kilobytes; it is handed from owner to owner, not moved"
    )]
    idle: Vec<Box<H1>>,
    shared: Vec<Arc<H2>>,
    waiting: VecDeque<oneshot::Sender<Result<Lease, Fault>>>,
    dialling: usize,
    /// What the site spoke last time; unknown until the first connection stands.
    speaks_http2: Option<bool>,
    /// The identity under which a connection stood last.
    stood: Option<u64>,
}

impl Pool {
    pub(crate) fn new(site: Arc<SiteState>, upstreams: Arc<Upstreams>) -> Arc<Self> {
        Arc::new(Self {
            site,
            upstreams,
            open: Arc::new(AtomicUsize::new(0)),
            inner: Mutex::new(Inner::default()),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.site.limits
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is there and free.
    pub(crate) fn at_once(&self) -> Option<Lease> {
        self.take(&mut self.inner())
    }

    /// A connection to send one request on, as soon as there is one.
    pub(crate) async fn checkout(self: &Arc<Self>) -> Result<Lease, Fault> {
        let waiting = {
            let mut inner = self.inner();
            if let Some(lease) = self.take(&mut inner) {
                return Ok(lease);
            }
            if inner.waiting.len() >= self.limits().upstream_waiting {
                return Err(Fault::new(FaultKind::Busy));
            }
            let (give, take) = oneshot::channel();
            inner.waiting.push_back(give);
            if let Err(fault) = self.order(&mut inner) {
                inner.waiting.pop_back();
                return Err(fault);
            }
            take
        };
        let limits = self.limits();
        let patience = limits.connect + limits.upstream_handshake;
        match tokio::time::timeout(patience, waiting).await {
            Err(_) => Err(Fault::new(FaultKind::ConnectTimeout)),
            Ok(Err(_)) => Err(Fault::new(FaultKind::Stopping)),
            Ok(Ok(lease)) => lease,
        }
    }

    /// A connection of its own, for a request that will leave HTTP/1.1.
    pub(crate) async fn checkout_for_upgrade(
        self: &Arc<Self>,
    ) -> Result<hyper::client::conn::http1::SendRequest<Upload>, Fault> {
        if !self.site.breaker.allows(Instant::now()) {
            return Err(Fault::new(FaultKind::BreakerOpen));
        }
        let dialled = self.dial(Protocol::Http1).await?;
        match self.settle(dialled).await? {
            Lease::H1(h1) => Ok(h1.upgradeable()),
            Lease::H2(_) => Err(Fault::new(FaultKind::Protocol)),
        }
    }

    fn take(&self, inner: &mut Inner) -> Option<Lease> {
        let now = Instant::now();
        let generation = self.upstreams.generation(&self.site);
        if !inner.shared.is_empty() {
            let age = self.limits().upstream_age;
            inner.shared.retain(|h2| {
                h2.is_usable()
                    && h2.generation == generation
                    && now.saturating_duration_since(h2.born) < age
            });
            let best = inner.shared.iter().min_by_key(|h2| h2.load());
            // With no further connection allowed, the HTTP/2 layer queues what the site has no room for.
            let full = inner.shared.len() >= self.limits().upstream_multiplexed;
            if let Some(h2) = best.filter(|h2| full || h2.has_room()) {
                return Some(Lease::H2(Arc::clone(h2)));
            }
        }
        // The waker of this task is not wanted here: whoever uses the connection polls it again.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Some(mut h1) = inner.idle.pop() {
            // What has just been used was looked at then; should the site have closed it since, the request notices before a byte
            // of it is sent, and goes to another.
            let looked_at = now.saturating_duration_since(h1.idle_since) < GLANCED;
            if self.is_fresh(&h1, generation, now) && (looked_at || h1.is_usable(&mut cx)) {
                return Some(Lease::H1(h1));
            }
        }
        None
    }

    fn is_fresh(&self, h1: &H1, generation: u64, now: Instant) -> bool {
        h1.generation == generation
            && now.saturating_duration_since(h1.idle_since) < self.limits().upstream_idle
            && now.saturating_duration_since(h1.born) < self.limits().upstream_age
    }

    /// Takes a connection back after a complete response.
    pub(crate) fn give_back(self: &Arc<Self>, mut h1: Box<H1>) {
        let now = Instant::now();
        h1.idle_since = now;
        if !self.is_fresh(&h1, self.upstreams.generation(&self.site), now) {
            return;
        }
        let mut inner = self.inner();
        self.hand_over(&mut inner, h1);
    }

    fn hand_over(&self, inner: &mut Inner, h1: Box<H1>) {
        let mut lease = Lease::H1(h1);
        while let Some(waiting) = inner.waiting.pop_front() {
            match waiting.send(Ok(lease)) {
                Ok(()) => return,
                Err(Ok(back)) => lease = back,
                Err(Err(_)) => return,
            }
        }
        if let Lease::H1(h1) = lease {
            inner.idle.push(h1);
        }
    }

    /// Orders what the waiting requests need: one connection while it is not known what the site speaks, or when it
    /// multiplexes; otherwise one for each, within bounds.
    fn order(self: &Arc<Self>, inner: &mut Inner) -> Result<(), Fault> {
        inner.waiting.retain(|waiting| !waiting.is_closed());
        let open = self.open.load(Ordering::Relaxed);
        let (wanted, room) = match inner.speaks_http2 {
            None => (1, 1),
            Some(true) => (
                1,
                self.limits()
                    .upstream_multiplexed
                    .saturating_sub(inner.shared.len()),
            ),
            Some(false) => (
                inner.waiting.len().min(DIALS),
                self.limits()
                    .upstream_connections
                    .saturating_sub(open + inner.dialling),
            ),
        };
        let more = wanted.saturating_sub(inner.dialling).min(room);
        self.start_dialling(inner, more)
    }

    fn start_dialling(self: &Arc<Self>, inner: &mut Inner, more: usize) -> Result<(), Fault> {
        let open = self.open.load(Ordering::Relaxed);
        for ordered in 0..more {
            if !self.site.breaker.allows(Instant::now()) {
                if ordered == 0 && inner.dialling == 0 && open == 0 && inner.shared.is_empty() {
                    return Err(Fault::new(FaultKind::BreakerOpen));
                }
                break;
            }
            inner.dialling += 1;
            let pool = Arc::clone(self);
            tokio::spawn(async move { pool.fulfil().await });
        }
        Ok(())
    }

    async fn fulfil(self: Arc<Self>) {
        let settled = loop {
            match self.dial(self.site.protocol).await {
                // The identity changed meanwhile: nobody is to be served under the old one.
                Ok(dialled) if dialled.generation != self.upstreams.generation(&self.site) => {}
                Ok(dialled) => break self.settle(dialled).await,
                Err(fault) => break Err(fault),
            }
        };
        let mut inner = self.inner();
        inner.dialling -= 1;
        match settled {
            Ok(Lease::H1(h1)) => {
                inner.speaks_http2 = Some(false);
                inner.stood = Some(h1.generation);
                self.hand_over(&mut inner, h1);
            }
            Ok(Lease::H2(h2)) => {
                inner.speaks_http2 = Some(true);
                inner.stood = Some(h2.generation);
                inner.shared.push(Arc::clone(&h2));
                while h2.has_room() {
                    let Some(waiting) = inner.waiting.pop_front() else {
                        break;
                    };
                    let _ = waiting.send(Ok(Lease::H2(Arc::clone(&h2))));
                }
            }
            Err(fault) => {
                inner.speaks_http2 = None;
                // Those who wait would only fail one after the other. Others may still be served by connections that exist.
                if inner.dialling == 0 {
                    for waiting in inner.waiting.drain(..) {
                        let _ = waiting.send(Err(fault.clone()));
                    }
                }
                return;
            }
        }
        if !inner.waiting.is_empty() {
            let _ = self.order(&mut inner);
        }
    }

    async fn dial(&self, protocol: Protocol) -> Result<Dialled, Fault> {
        let credentials = self.upstreams.credentials(&self.site);
        let dialler: &Dialler = &self.upstreams.dialler;
        let dialled = dialler
            .dial(Arc::clone(&self.site), credentials, protocol)
            .await;
        match &dialled {
            Ok(_) => {
                if self.site.breaker.succeeded() {
                    tracing::info!(
                        target: "renraku::upstream",
                        host = %self.site.upstream.host,
                        "a site can be reached again"
                    );
                }
            }
            Err(fault) if fault.kind.is_stopping() => {}
            Err(fault) => {
                // Once per outage: an outage lasts hours, and is probed every few seconds.
                if self.site.breaker.failed(Instant::now()) {
                    tracing::warn!(
                        target: "renraku::upstream",
                        host = %self.site.upstream.host,
                        fault = fault.kind.token(),
                        error = fault.detail(),
                        "cannot connect to a site"
                    );
                }
            }
        }
        dialled
    }

    /// Moves a dialled connection to this worker.
    async fn settle(&self, mut dialled: Dialled) -> Result<Lease, Fault> {
        dialled
            .stream
            .get_mut()
            .0
            .attach()
            .map_err(|error| Fault::io(&error))?;
        if dialled.http2 {
            H2::start(*dialled.stream, dialled.generation, self.limits())
                .await
                .map(Lease::H2)
        } else {
            H1::start(*dialled.stream, dialled.generation, &self.open)
                .await
                .map(|h1| Lease::H1(Box::new(h1)))
        }
    }

    /// Closes what has been idle or alive for too long, or was closed by the site, and keeps one connection warm.
    pub(crate) fn tidy(self: &Arc<Self>) {
        let generation = self.upstreams.generation(&self.site);
        let now = Instant::now();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut inner = self.inner();
        inner
            .idle
            .retain_mut(|h1| self.is_fresh(h1, generation, now) && h1.is_usable(&mut cx));
        let age = self.limits().upstream_age;
        inner
            .shared
            .retain(|h2| h2.is_usable() && h2.generation == generation && h2.born.elapsed() < age);
        // A connection that broke instead of coming back leaves its place to whoever waits.
        inner.waiting.retain(|waiting| !waiting.is_closed());
        if !inner.waiting.is_empty() {
            let _ = self.order(&mut inner);
        } else if self.limits().upstream_warm && self.is_cold(&inner, generation) {
            let _ = self.start_dialling(&mut inner, 1);
        }
    }

    /// Whether the next request would have to wait for a handshake, and perhaps for a signature.
    ///
    /// A site that speaks HTTP/1.1 closes idle connections after a minute or so; to renew those all night would only be a burden,
    /// since its tickets make the next one cheap. So only the first connection under an identity is made in advance.
    fn is_cold(&self, inner: &Inner, generation: u64) -> bool {
        let none = inner.dialling == 0 && inner.idle.is_empty() && inner.shared.is_empty();
        none && (inner.stood != Some(generation) || inner.speaks_http2 == Some(true))
            && self.open.load(Ordering::Relaxed) == 0
    }

    /// Drops every idle connection.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        inner.idle.clear();
        inner.shared.clear();
    }
}

/// A request that can be sent twice: no body, and a method that may be repeated (RFC 9110 section 9.2.2).
pub(crate) fn repeatable(request: &Request<Upload>) -> Option<Request<Upload>> {
    if !request.body().is_nothing() || !request.method().is_idempotent() {
        return None;
    }
    let mut copy = Request::new(Upload::Nothing);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
