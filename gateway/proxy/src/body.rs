//! Bodies on their way through: request bodies with their pace, response bodies from wherever they come.
//! Never holds more than one frame, so that a slow reader slows the sender and nothing piles up here.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::mpsc, time::Sleep};

use crate::{
    Limits,
    connection::Busy,
    event_stream::Inspected,
    headers,
    http2::Carrying,
    incoming::Incoming,
    inspect::Held,
    live::{Ended, Watch},
    record,
    upstream::{H1Body, H2Body},
};

/// How long a client that asked first waits for the site's "100 Continue" before its body is sent anyway
/// (RFC 9110 section 10.1.1 leaves the time open).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Why a request body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub(crate) enum UploadError {
    #[error("the client sends too slowly")]
    TooSlow = 1,
    #[error("the request body is too large")]
    TooLarge = 2,
    #[error("the client stopped in the middle of the request body")]
    Broken = 3,
    #[error("the request body is framed wrongly")]
    Malformed = 4,
}

/// What the rest of a request may know about its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Option<Arc<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    finished: AtomicBool,
    failed: AtomicU8,
    proceed: AtomicBool,
    waker: AtomicWaker,
}

impl Progress {
    /// Whether the whole body has been handed on (or there is none).
    pub(crate) fn is_finished(&self) -> bool {
        match &self.0 {
            None => true,
            Some(shared) => shared.finished.load(Ordering::Acquire),
        }
    }

    /// Why the client's body ended early, if it did.
    pub(crate) fn failure(&self) -> Option<UploadError> {
        match self.0.as_ref()?.failed.load(Ordering::Acquire) {
            1 => Some(UploadError::TooSlow),
            2 => Some(UploadError::TooLarge),
            3 => Some(UploadError::Broken),
            4 => Some(UploadError::Malformed),
            _ => None,
        }
    }

    /// The site has said "100 Continue".
    pub(crate) fn proceed(&self) {
        if let Some(shared) = &self.0 {
            shared.proceed.store(true, Ordering::Release);
            shared.waker.wake();
        }
    }
}

/// A request body on its way to the site.
#[derive(Default)]
pub(crate) enum Upload {
    #[default]
    Nothing,
    Streaming(Box<Streaming>),
}

pub(crate) struct Streaming {
    body: Incoming,
    shared: Arc<Shared>,
    left: Option<u64>,
    pace: Pace,
    hold: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// Takes over the client's body. With `hold`, nothing is read before the site says so or a second has passed.
    pub(crate) fn new(body: Incoming, limits: &Limits, hold: bool) -> (Self, Progress) {
        if body.is_end_stream() {
            return (Self::Nothing, Progress(None));
        }
        let shared = Arc::new(Shared::default());
        let streaming = Streaming {
            body,
            shared: Arc::clone(&shared),
            left: limits.body_bytes,
            pace: Pace::new(limits.upload_rate, limits.upload_grace),
            hold: hold.then(|| Box::pin(tokio::time::sleep(CONTINUE_WAIT))),
        };
        (Self::Streaming(Box::new(streaming)), Progress(Some(shared)))
    }

    pub(crate) const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl Streaming {
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &mut self.hold {
            self.shared.waker.register(cx.waker());
            if !self.shared.proceed.load(Ordering::Acquire) && timer.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            self.hold = None;
        }
        Poll::Ready(())
    }

    fn fail(&self, error: UploadError) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.shared.failed.store(error as u8, Ordering::Release);
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Self::Streaming(me) = &mut *self else {
            return Poll::Ready(None);
        };
        if me.poll_held(cx).is_pending() {
            return Poll::Pending;
        }
        match Pin::new(&mut me.body).poll_frame(cx) {
            Poll::Pending => {
                if me.pace.poll_too_slow(cx).is_ready() {
                    return me.fail(UploadError::TooSlow);
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                me.shared.finished.store(true, Ordering::Release);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => me.fail(if error.is_violation() {
                UploadError::Malformed
            } else {
                UploadError::Broken
            }),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    me.pace.progress(data.len());
                    if let Some(left) = &mut me.left {
                        match left.checked_sub(data.len() as u64) {
                            Some(rest) => *left = rest,
                            None => return me.fail(UploadError::TooLarge),
                        }
                    }
                }
                if me.body.is_end_stream() {
                    me.shared.finished.store(true, Ordering::Release);
                }
                Poll::Ready(Some(Ok(headers::trailers(frame))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Streaming(me) => me.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Streaming(me) => me.body.size_hint(),
        }
    }
}

/// Judges how fast a client sends, counting only the time spent waiting for it: a slow site is not the client's fault.
struct Pace {
    rate: u32,
    grace: Duration,
    bytes: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    const fn new(rate: u32, grace: Duration) -> Self {
        Self {
            rate,
            grace,
            bytes: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            timer: None,
        }
    }

    fn progress(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Waiting time that the bytes so far have earned.
    fn allowance(&self) -> Duration {
        self.grace
            + Duration::from_micros(
                self.bytes.saturating_mul(1_000_000) / u64::from(self.rate.max(1)),
            )
    }

    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + self.allowance().saturating_sub(self.waited);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if timer.deadline() != deadline.into() {
            timer.as_mut().reset(deadline.into());
        }
        timer.as_mut().poll(cx)
    }
}

/// Notices that a response body makes no progress although it is being read.
pub(crate) struct Stall {
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(crate) const fn new(patience: Duration) -> Self {
        Self {
            patience,
            timer: None,
        }
    }

    pub(crate) fn progress(&mut self) {
        self.timer = None;
    }

    pub(crate) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        self.timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)))
            .as_mut()
            .poll(cx)
    }
}

/// Why a response body ended early. The server side then cuts the connection or the stream, so that the client knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplyError {
    #[error("the site cut the response short")]
    Cut(#[source] hyper::Error),
    #[error("the site stopped in the middle of the response")]
    Stalled,
    #[error("the response cannot be read back")]
    Lost(#[source] io::Error),
    #[error("the gate has turned")]
    Ended,
    #[error("a part of the response may not be passed on")]
    Stopped,
}

/// A body of known length that one of the box's own pages makes while it is sent.
pub(crate) struct Pieces {
    left: u64,
    coming: mpsc::Receiver<Bytes>,
}

impl Pieces {
    pub(crate) const fn new(length: u64, coming: mpsc::Receiver<Bytes>) -> Self {
        Self {
            left: length,
            coming,
        }
    }

    /// Whoever makes it may stop; the client then sees that it was cut.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        match std::task::ready!(self.coming.poll_recv(cx)) {
            Some(piece) if piece.len() as u64 <= self.left => {
                self.left -= piece.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            _ => Poll::Ready(Some(Err(ReplyError::Stopped))),
        }
    }
}

/// A response body on its way to the client, and with it the mark that its connection is busy.
pub(crate) struct Reply {
    source: Source,
    watch: Option<Watch>,
    _busy: Option<Busy>,
}

enum Source {
    Whole(Option<Bytes>),
    /// Collected and found clean.
    Held(Box<Held>),
    H1(Box<H1Body>),
    H2(Box<H2Body>),
    Detached(Box<hyper::body::Incoming>),
    /// Collected and found clean, event by event.
    Events(Option<Inspected>),
    /// Made by one of the box's own pages while it is sent.
    Pieces(Pieces),
    Carrying(Option<Carrying>),
}

impl Reply {
    const fn from(source: Source) -> Self {
        Self {
            source,
            watch: None,
            _busy: None,
        }
    }

    pub(crate) const fn empty() -> Self {
        Self::from(Source::Whole(None))
    }

    pub(crate) fn whole(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::from(Source::Whole((!body.is_empty()).then_some(body)))
    }

    /// A body that was inspected.
    pub(crate) fn held(held: Held) -> Self {
        if held.is_at_end() {
            return Self::empty();
        }
        Self::from(Source::Held(Box::new(held)))
    }

    pub(crate) fn h1(body: H1Body) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self::from(Source::H1(Box::new(body)))
    }

    pub(crate) fn h2(body: H2Body) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self::from(Source::H2(Box::new(body)))
    }

    /// The body of a response whose connection is driven elsewhere.
    pub(crate) fn detached(body: hyper::body::Incoming) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self::from(Source::Detached(Box::new(body)))
    }

    /// An event stream that is inspected on its way.
    pub(crate) const fn events(events: Inspected) -> Self {
        Self::from(Source::Events(Some(events)))
    }

    /// A body of one of the box's own pages that comes in pieces.
    pub(crate) const fn pieces(pieces: Pieces) -> Self {
        Self::from(Source::Pieces(pieces))
    }

    /// What an HTTP/2 stream is promised to, once the response is sent; without it, nothing.
    pub(crate) const fn carrying(carrying: Option<Carrying>) -> Self {
        Self::from(Source::Carrying(carrying))
    }

    pub(crate) const fn take_carrying(&mut self) -> Option<Carrying> {
        match &mut self.source {
            Source::Carrying(carrying) => carrying.take(),
            _ => None,
        }
    }

    /// Ends the body when `watch` says so.
    pub(crate) fn watched(mut self, watch: Watch) -> Self {
        if !self.is_end_stream() {
            self.watch = Some(watch);
        }
        self
    }

    /// Keeps `busy` until the body has been sent or dropped.
    pub(crate) fn with(mut self, busy: Busy) -> Self {
        self._busy = Some(busy);
        self
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let me = &mut *self;
        if let Some(why) = me.watch.as_ref().and_then(Watch::has_ended) {
            return me.end(why);
        }
        let polled = me.source.poll_frame(cx);
        // What does not end with this frame has to be watched; what does is gone before the gate could say anything.
        if !matches!(polled, Poll::Ready(None | Some(Err(_))))
            && !me.source.is_end_stream()
            && let Some(watch) = &mut me.watch
            && let Poll::Ready(why) = watch.poll_ended(cx)
        {
            return me.end(why);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Reply {
    fn end(&mut self, why: Ended) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        self.watch = None;
        self.source = Source::Whole(None);
        record::ended("response", why);
        Poll::Ready(Some(Err(ReplyError::Ended)))
    }
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        match self {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Held(held) => {
                Poll::Ready(held.next().map(|frame| frame.map_err(ReplyError::Lost)))
            }
            Self::H1(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::H2(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Detached(body) => Pin::new(&mut **body)
                .poll_frame(cx)
                .map_ok(headers::trailers)
                .map_err(ReplyError::Cut),
            Self::Events(events) => {
                let polled = match events {
                    Some(events) => events.as_mut().poll_next(cx),
                    None => Poll::Ready(None),
                };
                if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
                    *events = None;
                }
                polled
            }
            Self::Pieces(pieces) => pieces.poll_next(cx),
            Self::Carrying(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Held(held) => held.is_at_end(),
            Self::H1(body) => body.is_end_stream(),
            Self::H2(body) => body.is_end_stream(),
            Self::Detached(body) => body.is_end_stream(),
            Self::Events(events) => events.is_none(),
            Self::Pieces(pieces) => pieces.left == 0,
            Self::Carrying(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Self::Held(held) => held.size_hint(),
            Self::H1(body) => body.size_hint(),
            Self::H2(body) => body.size_hint(),
            Self::Detached(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
            Self::Pieces(pieces) => SizeHint::with_exact(pieces.left),
            Self::Carrying(_) => SizeHint::with_exact(0),
        }
    }
}
