//! One HTTP/2 connection to a site, shared by the requests of a worker. Does not decide which connection is used.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_rustls::client::TlsStream;

use super::Rehome;
use crate::{
    Limits,
    body::{Progress, ReplyError, Stall, Upload},
    caller::Calling,
    error::Fault,
    headers,
};

/// How often a connection with open streams is checked for life, and how long the answer may take.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that many requests use at once.
pub(crate) struct H2 {
    sender: SendRequest<Upload>,
    in_flight: AtomicUsize,
    /// Streams the site allows, as last told.
    room: AtomicUsize,
    ended: AtomicBool,
    served: AtomicBool,
    pub(crate) born: Instant,
    pub(crate) generation: u64,
}

impl H2 {
    pub(crate) async fn start(
        stream: TlsStream<Rehome>,
        generation: u64,
        limits: &Limits,
    ) -> Result<Arc<Self>, Fault> {
        let (sender, mut connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_header_list_size(limits.header_list_bytes)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(Calling::new(stream)))
            .await
            .map_err(|error| Fault::exchange(&error))?;
        let h2 = Arc::new(Self {
            sender,
            in_flight: AtomicUsize::new(0),
            room: AtomicUsize::new(connection.current_max_send_streams()),
            ended: AtomicBool::new(false),
            served: AtomicBool::new(false),
            born: Instant::now(),
            generation,
        });
        let weak = Arc::downgrade(&h2);
        tokio::spawn(async move {
            let ended = std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                if let (Poll::Pending, Some(h2)) = (&polled, weak.upgrade()) {
                    h2.room
                        .store(connection.current_max_send_streams(), Ordering::Relaxed);
                }
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(target: "renraku::upstream", error = %error, "an HTTP/2 connection to a site ended");
            }
            if let Some(h2) = weak.upgrade() {
                h2.ended.store(true, Ordering::Relaxed);
            }
        });
        Ok(h2)
    }

    /// Whether it can take another request.
    pub(crate) fn is_usable(&self) -> bool {
        !self.ended.load(Ordering::Relaxed) && !self.sender.is_closed()
    }

    /// Whether the site allows one more stream now.
    pub(crate) fn has_room(&self) -> bool {
        self.load() < self.room.load(Ordering::Relaxed)
    }

    /// Requests in flight.
    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether a request was ever answered here.
    pub(crate) fn is_proven(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Sends the request and waits for the head of the response.
    pub(crate) async fn exchange(
        self: Arc<Self>,
        request: &mut Option<Request<Upload>>,
        upload: &Progress,
        limits: &Limits,
    ) -> Result<Response<H2Body>, Fault> {
        let outgoing = request.take().unwrap_or_default();
        let mut sender = self.sender.clone();
        let stream = Stream::new(self);
        let mut answer = std::pin::pin!(sender.try_send_request(outgoing));
        let answer = loop {
            match tokio::time::timeout(limits.first_byte, answer.as_mut()).await {
                Ok(answer) => break answer,
                Err(_) if upload.is_finished() => {
                    return Err(Fault::first_byte_timeout());
                }
                // Still sending: the upload has its own clock.
                Err(_) => {}
            }
        };
        match answer {
            Err(mut error) => {
                *request = error.take_message();
                Err(Fault::exchange(error.error()))
            }
            Ok(response) => {
                stream.0.served.store(true, Ordering::Relaxed);
                Ok(response.map(|body| H2Body {
                    body,
                    stall: Stall::new(limits.read_stall),
                    _stream: stream,
                }))
            }
        }
    }
}

/// Counts a request in flight.
struct Stream(Arc<H2>);

impl Stream {
    fn new(h2: Arc<H2>) -> Self {
        h2.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(h2)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response body from a shared connection.
pub(crate) struct H2Body {
    body: Incoming,
    stall: Stall,
    _stream: Stream,
}

impl Body for H2Body {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let me = &mut *self;
        match Pin::new(&mut me.body).poll_frame(cx) {
            Poll::Pending => me
                .stall
                .poll_stalled(cx)
                .map(|()| Some(Err(ReplyError::Stalled))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(ReplyError::Cut(error)))),
            Poll::Ready(Some(Ok(frame))) => {
                me.stall.progress();
                Poll::Ready(Some(Ok(headers::trailers(frame))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
