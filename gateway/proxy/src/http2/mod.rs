//! An HTTP/2 connection from a client, with all its streams in one task. Does not look at what is asked.
//!
//! The `h2` crate speaks the protocol: frames, flow control, the rules of RFC 9113 about malformed messages. Here its
//! streams become requests for `handler`, and responses become frames. It is used without hyper's server around it,
//! because that has no way to send interim responses and gives each stream a task of its own.

mod carried;
mod stream;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, stream::FuturesUnordered};
use h2::{
    Ping, PingPong, Reason,
    server::{Builder, Handshake},
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Limits, bell::Bell, connection::Connection};

pub(crate) use carried::{Carried, Carrying};
pub(crate) use stream::Interim;

/// How long a client may be silent before it is asked for a sign of life, and how long it may take to give one.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How often streams and connection are served in turn before other connections of the thread are.
const ROUNDS: usize = 8;

/// What every connection is opened with.
pub(crate) fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_list_bytes)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(1024))
        .max_send_buffer_size(256 * 1024)
        .enable_connect_protocol();
    builder
}

/// One request and its response.
type Exchange = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection being served. Resolves when it has ended, for whatever reason.
pub(crate) struct Served<T> {
    connection: Arc<Connection>,
    state: State<T>,
    streams: FuturesUnordered<Exchange>,
    stream_bell: Arc<Bell>,
    protocol_bell: Arc<Bell>,
    finishing: bool,
}

enum State<T> {
    Opening(Box<Handshake<T, Bytes>>),
    Open(Box<Open<T>>),
}

struct Open<T> {
    protocol: h2::server::Connection<T, Bytes>,
    pings: Option<Pings>,
}

/// Serves a client that has agreed on HTTP/2.
pub(crate) fn serve<T>(connection: Arc<Connection>, io: T) -> Served<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opening = connection.worker.protocols.http2.handshake(io);
    Served {
        connection,
        state: State::Opening(Box::new(opening)),
        streams: FuturesUnordered::new(),
        stream_bell: Arc::default(),
        protocol_bell: Arc::default(),
        finishing: false,
    }
}

impl<T> Served<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Finishes what is in flight and takes nothing new (GOAWAY).
    pub(crate) fn finish(&mut self) {
        self.finishing = true;
        if let State::Open(open) = &mut self.state {
            open.protocol.graceful_shutdown();
        }
    }

    /// Ends all streams and the connection (GOAWAY, then close).
    pub(crate) fn cut(&mut self) {
        match &mut self.state {
            // Nothing is agreed yet, so there is nothing to say.
            State::Opening(_) => {}
            State::Open(open) => open.protocol.abrupt_shutdown(Reason::NO_ERROR),
        }
        self.streams.clear();
    }

    /// Looks, now and then, whether the client still lives; `heard` says whether anything came from it since the last time.
    /// Whether it does.
    pub(crate) fn beat(&mut self, heard: bool) -> bool {
        match &mut self.state {
            State::Opening(_) => true,
            State::Open(open) => open.pings.as_mut().is_none_or(|pings| pings.beat(heard)),
        }
    }

    /// Polls what is left of the requests in flight that something happened for.
    fn poll_streams(&mut self) {
        let bell = Arc::clone(&self.stream_bell);
        bell.listen(
            |cx| {
                while let Poll::Ready(Some(())) = Pin::new(&mut self.streams).poll_next(cx) {}
            },
        );
    }

    /// Reads and writes frames, and begins what is newly asked. Ready when the connection has ended.
    fn poll_protocol(&mut self) -> Poll<()> {
        let bell = Arc::clone(&self.protocol_bell);
        bell.listen(|cx| self.poll_frames(cx))
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Opening(opening) => match Pin::new(&mut **opening).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return ended(&error),
                    Poll::Ready(Ok(mut protocol)) => {
                        let pings = protocol.ping_pong().map(Pings::new);
                        if self.finishing {
                            protocol.graceful_shutdown();
                        }
                        self.state = State::Open(Box::new(Open { protocol, pings }));
                    }
                },
                State::Open(open) => match open.protocol.poll_accept(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Ready(Some(Err(error))) => return ended(&error),
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let connection = Arc::clone(&self.connection);
                        let exchange = Box::pin(stream::serve(connection, request, respond));
                        self.streams.push(exchange);
                        self.stream_bell.ring();
                    }
                },
            }
        }
    }
}

fn ended(error: &h2::Error) -> Poll<()> {
    tracing::debug!(target: "renraku::request", error = %error, "a client's HTTP/2 connection ended");
    Poll::Ready(())
}

// Nothing in it is pinned in place: transports are `Unpin`, exchanges are boxed.
impl<T> Unpin for Served<T> {}

impl<T> Future for Served<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.stream_bell.attach(cx);
        me.protocol_bell.attach(cx);
        // Streams first: what they have to say is then written by the same poll of the protocol.
        me.poll_streams();
        for _ in 0..ROUNDS {
            if me.poll_protocol().is_ready() {
                // What is left belongs to a client that is gone.
                me.streams.clear();
                return Poll::Ready(());
            }
            if !me.stream_bell.has_rung() {
                break;
            }
            me.poll_streams();
            if !me.protocol_bell.has_rung() {
                break;
            }
            if !tokio::task::coop::has_budget_remaining() {
                break;
            }
        }
        me.stream_bell.detach();
        me.protocol_bell.detach();
        Poll::Pending
    }
}

/// Signs of life asked of a client (RFC 9113 section 6.7).
struct Pings {
    pings: PingPong,
    asked: Option<Instant>,
    heard: Instant,
}

impl Pings {
    fn new(pings: PingPong) -> Self {
        Self {
            pings,
            asked: None,
            heard: Instant::now(),
        }
    }

    fn beat(&mut self, heard: bool) -> bool {
        let now = Instant::now();
        let mut cx = Context::from_waker(Waker::noop());
        if self.asked.is_some() && self.pings.poll_pong(&mut cx).is_ready() {
            self.asked = None;
        }
        if heard {
            self.heard = now;
            return true;
        }
        match self.asked {
            Some(asked) => now.duration_since(asked.max(self.heard)) < PING_TIMEOUT,
            None => {
                if now.duration_since(self.heard) >= PING_EVERY
                    && self.pings.send_ping(Ping::opaque()).is_ok()
                {
                    self.asked = Some(now);
                }
                true
            }
        }
    }
}
