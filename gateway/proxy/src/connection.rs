//! One connection from a client: TLS, the protocol spoken on it, its timers, its end.
//! Does not look at what is asked: every request goes to `handler`.

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use gateway_policy::{Asked, DeviceId};
use http::{Request, Response};
use hyper::{server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;

use crate::{
    Limits,
    body::Reply,
    caller::{Caller, Calling},
    drain::Phase,
    handler, http2,
    incoming::Incoming,
    listener::Slot,
    live::{Registered, Watch},
    pulse::{Expired, Felt, Pulse},
    route::Route,
    wire::{self, Deferred, Guarded},
    worker::Worker,
};

/// How long a connection that is cut may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is encrypted before it is written. Measured: with more, a body of a megabyte costs more, because the kernel sets a timer
/// to pace what it is given at once.
const WRITES: usize = 32 * 1024;

/// How a client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The plain listener: redirects, the PAC file, CONNECT.
    Plain,
    /// The HTTPS listener.
    Tls,
    /// Inside a CONNECT tunnel.
    Tunnel,
}

/// What the requests of one connection share.
pub(crate) struct Connection {
    pub(crate) worker: Arc<Worker>,
    pub(crate) door: Door,
    pub(crate) peer: IpAddr,
    pub(crate) sni: Option<Box<str>>,
    /// An obfuscated node (RFC 7239 section 6.3): the same for the same device until the box restarts, and no address.
    pub(crate) node: Arc<str>,
    /// Whose certificate the client has shown in this connection's own handshake.
    pub(crate) device: Option<DeviceId>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) guard: Option<wire::Watch>,
    route: Mutex<Option<Arc<Route>>>,
    _registered: Option<Registered>,
    /// Held for as long as anything of the connection lives.
    _slot: Arc<Slot>,
}

impl Connection {
    fn new(
        arrival: &Arrival,
        greeting: Greeting,
        pulse: Arc<Pulse>,
        guard: Option<wire::Watch>,
    ) -> Arc<Self> {
        let Greeting { sni, device } = greeting;
        let worker = Arc::clone(&arrival.worker);
        let node = match device {
            Some(device) => worker.shared.nodes.of_device(device),
            None => Arc::clone(&arrival.node),
        };
        let registered = device.map(|device| {
            let revoked = worker.shared.is_revoked(device);
            worker.live.connected(device, Arc::clone(&pulse), revoked)
        });
        Arc::new(Self {
            worker,
            door: arrival.door,
            peer: arrival.peer,
            sni,
            node,
            device,
            pulse,
            guard,
            route: Mutex::new(None),
            _registered: registered,
            _slot: Arc::clone(&arrival.slot),
        })
    }

    /// The same client, for a connection inside this one.
    pub(crate) fn inner_arrival(&self) -> Arrival {
        Arrival {
            worker: Arc::clone(&self.worker),
            door: Door::Tunnel,
            peer: self.peer,
            node: Arc::clone(&self.node),
            slot: Arc::clone(&self._slot),
        }
    }

    /// What watches over a request of this connection once the gate has let it through.
    pub(crate) fn watch(&self, asked: Asked) -> Watch {
        Watch::new(Arc::clone(&self.worker.live), asked, self.device)
    }

    /// The route found for the last request, if `fits`.
    pub(crate) fn known_route(&self, fits: impl FnOnce(&Route) -> bool) -> Option<Arc<Route>> {
        self.route
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(|route| fits(route))
            .cloned()
    }

    pub(crate) fn remember_route(&self, route: Route) -> Arc<Route> {
        let route = Arc::new(route);
        *self.route.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&route));
        route
    }
}

/// A client that has just come in.
pub(crate) struct Arrival {
    pub(crate) worker: Arc<Worker>,
    pub(crate) door: Door,
    pub(crate) peer: IpAddr,
    pub(crate) node: Arc<str>,
    pub(crate) slot: Arc<Slot>,
}

/// What every connection of a worker is built from.
pub(crate) struct Protocols {
    http1: http1::Builder,
    pub(crate) http2: h2::server::Builder,
}

impl Protocols {
    pub(crate) fn new(limits: &Limits) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // Idle time and head time are judged by the pulse, with one timer for the connection instead of one per request.
            .header_read_timeout(None)
            .max_headers(limits.header_count)
            .max_buf_size(limits.header_bytes.max(8 * 1024))
            .half_close(false);
        Self {
            http1,
            http2: http2::builder(limits),
        }
    }
}

/// Serves a client that opens with TLS.
///
/// Boxed, because a CONNECT request on such a connection leads back here.
pub(crate) fn serve_tls<T>(arrival: Arrival, io: T) -> Pin<Box<dyn Future<Output = ()> + Send>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(async move {
        let shared = Arc::clone(&arrival.worker.shared);
        let limits = &shared.config.limits;
        // The handshake's state is large and short-lived.
        let handshake = Box::pin(handshake(&arrival, io));
        let Ok(Some((mut tls, greeting))) = tokio::time::timeout(limits.handshake, handshake).await
        else {
            return;
        };
        tls.get_mut().1.set_buffer_limit(Some(WRITES));
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let pulse = Arc::new(Pulse::new());
        let felt = Felt::new(Calling::new(tls), Arc::clone(&pulse));
        if http2 {
            let connection = Connection::new(&arrival, greeting, pulse, None);
            drop(arrival);
            serve_http2(connection, felt).await;
        } else {
            serve_http1(arrival, greeting, pulse, felt).await;
        }
    })
}

/// Serves a client that opens without TLS.
pub(crate) async fn serve_plain<T>(arrival: Arrival, io: T)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let pulse = Arc::new(Pulse::new());
    let felt = Felt::new(io, Arc::clone(&pulse));
    serve_http1(arrival, Greeting::default(), pulse, felt).await;
}

/// What a client has said of itself and of whom it means to speak to.
#[derive(Debug, Default)]
struct Greeting {
    sni: Option<Box<str>>,
    device: Option<DeviceId>,
}

type Accepted<T> = (tokio_rustls::server::TlsStream<T>, Greeting);

async fn handshake<T>(arrival: &Arrival, io: T) -> Option<Accepted<T>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io);
    let started = match acceptor.await {
        Ok(started) => started,
        Err(error) => return handshake_failed(&error),
    };
    let sni = started.client_hello().server_name().map(Box::from);
    // Read for every handshake: a renewed certificate counts from the next one on.
    let config = arrival.worker.shared.lan_tls.load_full();
    match started.into_stream(config).await {
        Ok(tls) => {
            // On a resumed session these are the certificates of the first one, whose key was proven then.
            let device = tls
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| (arrival.worker.shared.identify)(chain));
            Some((tls, Greeting { sni, device }))
        }
        Err(error) => handshake_failed(&error),
    }
}

fn handshake_failed<T>(error: &std::io::Error) -> Option<T> {
    tracing::debug!(target: "renraku::tls", error = %error, "a client's TLS handshake failed");
    None
}

/// Not an `async fn`, nor the other one: that would keep a place for what it is given besides that of the connection made of it,
/// for as long as the connection lives.
fn serve_http1<T>(
    arrival: Arrival,
    greeting: Greeting,
    pulse: Arc<Pulse>,
    io: T,
) -> impl Future<Output = ()> + Send
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (io, watch) = Guarded::new(io);
    let connection = Connection::new(&arrival, greeting, pulse, Some(watch.clone()));
    drop(arrival);
    let worker = Arc::clone(&connection.worker);
    let pulse = Arc::clone(&connection.pulse);
    let mut served = worker
        .protocols
        .http1
        .serve_connection(TokioIo::new(io), Requests(connection))
        .with_upgrades();
    async move {
        attend(&worker, &pulse, true, |action, cx| match action {
            Action::Poll => Pin::new(&mut served).poll(cx).map(drop),
            Action::Finish => {
                Pin::new(&mut served).graceful_shutdown();
                Poll::Pending
            }
            Action::Beat => Poll::Pending,
            Action::Cut => Poll::Ready(()),
        })
        .await;
        if let Some(violation) = watch.violation() {
            tracing::info!(target: "renraku::request", violation = ?violation, "a client broke HTTP/1.1 framing");
        }
    }
}

fn serve_http2<T>(connection: Arc<Connection>, io: T) -> impl Future<Output = ()> + Send
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let worker = Arc::clone(&connection.worker);
    let pulse = Arc::clone(&connection.pulse);
    let (io, handle) = Deferred::new(io);
    let mut driven = wire::drive(handle, http2::serve(connection, io));
    async move {
        attend(&worker, &pulse, false, |action, cx| match action {
            Action::Poll => Pin::new(&mut driven).poll(cx).map(drop),
            Action::Finish => {
                driven.connection().finish();
                Poll::Pending
            }
            Action::Beat if driven.connection().beat(pulse.has_heard()) => Poll::Pending,
            Action::Beat => Poll::Ready(()),
            Action::Cut => {
                driven.connection().cut();
                Pin::new(&mut driven).poll(cx).map(drop)
            }
        })
        .await;
    }
}

/// What a connection is asked to do.
enum Action {
    /// Go on.
    Poll,
    /// Finish what is in flight, take nothing new.
    Finish,
    /// See whether the client still lives; ready if it does not.
    Beat,
    /// End, with all that is in flight; ready if there is nothing to say.
    Cut,
}

/// What happens to a connection from outside of it.
enum Event {
    Draining,
    /// It is time to look at the pulse.
    Beat,
}

/// Drives a connection until it ends, is idle for too long, misbehaves, or the data path ends.
async fn attend(
    worker: &Worker,
    pulse: &Pulse,
    heads: bool,
    mut act: impl FnMut(Action, &mut std::task::Context<'_>) -> Poll<()>,
) {
    let limits = &worker.shared.config.limits;
    let interval = Pulse::interval(limits);
    let mut timer = pin!(tokio::time::sleep(interval));
    let mut draining = pin!(worker.shared.drain.reached(Phase::Draining));
    let mut outside = Caller::new();
    let mut finishing = false;
    let mut drained = false;
    let mut beat = false;
    let mut farewell: Option<Pin<Box<tokio::time::Sleep>>> = None;
    std::future::poll_fn(|cx| {
        if pulse.poll_cut(cx) && farewell.is_none() {
            farewell = Some(Box::pin(tokio::time::sleep(FAREWELL)));
            if act(Action::Cut, cx).is_ready() {
                return Poll::Ready(());
            }
        }
        if let Some(farewell) = &mut farewell {
            if farewell.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            return act(Action::Poll, cx);
        }
        // Both are asked together, and until they are silent: then their calls are what the next look waits for.
        while let Poll::Ready(event) = outside.poll(cx, |cx| {
            if !drained && draining.as_mut().poll(cx).is_ready() {
                drained = true;
                return Poll::Ready(Event::Draining);
            }
            timer.as_mut().poll(cx).map(|()| Event::Beat)
        }) {
            match event {
                Event::Draining if finishing => {}
                Event::Draining => {
                    finishing = true;
                    let _ = act(Action::Finish, cx);
                }
                Event::Beat => {
                    beat = true;
                    timer.as_mut().reset(tokio::time::Instant::now() + interval);
                }
            }
        }
        loop {
            if act(Action::Poll, cx).is_ready() || pulse.has_misbehaved() {
                return Poll::Ready(());
            }
            if !std::mem::take(&mut beat) {
                return Poll::Pending;
            }
            if act(Action::Beat, cx).is_ready() {
                return Poll::Ready(());
            }
            match pulse.judge(limits, heads) {
                None => {}
                Some(Expired::Idle) if !finishing => {
                    finishing = true;
                    let _ = act(Action::Finish, cx);
                }
                Some(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// Hands each request of a connection to the handler.
struct Requests(Arc<Connection>);

impl Service<Request<hyper::body::Incoming>> for Requests {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        // Boxed, so that an idle connection does not carry the space of a busy one.
        Box::pin(handler::handle(
            Arc::clone(&self.0),
            request.map(Incoming::Http1),
        ))
    }
}

/// Counts a request in flight until its response is complete.
pub(crate) struct Busy(Arc<Connection>);

impl Busy {
    pub(crate) fn new(connection: &Arc<Connection>) -> Self {
        connection.pulse.begin();
        Self(Arc::clone(connection))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.pulse.end();
    }
}
