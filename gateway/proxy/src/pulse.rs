//! The signs of life of one client connection: what it waits for, and since when. Does not own a timer and closes nothing.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Limits;

/// The time over which stream resets are counted.
const RESET_WINDOW: Duration = Duration::from_secs(10);

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Nothing was asked for a while; it may end politely.
    Idle,
    /// A request head was begun and not finished.
    HeadTooSlow,
    /// The client does not take its response.
    WriteStalled,
}

/// Times are milliseconds since `born`, plus one; zero means "not now".
#[derive(Debug)]
pub(crate) struct Pulse {
    born: Instant,
    in_flight: AtomicU32,
    idle_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
    resets: AtomicU32,
    resets_since: AtomicU64,
    misbehaved: AtomicBool,
    cut: AtomicBool,
    heard: AtomicBool,
    driver: AtomicWaker,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            born: Instant::now(),
            in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            resets: AtomicU32::new(0),
            resets_since: AtomicU64::new(0),
            misbehaved: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            driver: AtomicWaker::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).map_or(u64::MAX, |ms| ms.saturating_add(1))
    }

    /// A request head is complete.
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    /// A response is complete, or its request was given up.
    pub(crate) fn end(&self) {
        if self.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.idle_since.store(self.now(), Relaxed);
        }
    }

    /// A client took back a request before it was answered. Too many of them are an attack (CVE-2023-44487).
    pub(crate) fn reset(&self, limit: u32) {
        let now = self.now();
        let window = u64::try_from(RESET_WINDOW.as_millis()).unwrap_or(u64::MAX);
        if now.saturating_sub(self.resets_since.load(Relaxed)) > window {
            self.resets_since.store(now, Relaxed);
            self.resets.store(0, Relaxed);
        }
        if self.resets.fetch_add(1, Relaxed) >= limit {
            self.misbehaved.store(true, Relaxed);
        }
    }

    /// Whether the client deserves no answer any more.
    pub(crate) fn has_misbehaved(&self) -> bool {
        self.misbehaved.load(Relaxed)
    }

    /// Ends the connection, with all that is in flight on it. From any thread.
    pub(crate) fn cut(&self) {
        self.cut.store(true, SeqCst);
        self.driver.wake();
    }

    /// Whether the connection must end now.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(SeqCst)
    }

    /// Like [`Pulse::is_cut`]; if not, whoever drives the connection is woken when it must.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> bool {
        self.driver.register(cx.waker());
        self.is_cut()
    }

    /// Whether anything was read since this was last asked.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard.swap(false, Relaxed)
    }

    fn read(&self) {
        self.heard.store(true, Relaxed);
        if self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    fn blocked(&self) {
        if self.blocked_since.load(Relaxed) == 0 {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    fn wrote(&self) {
        if self.blocked_since.load(Relaxed) != 0 {
            self.blocked_since.store(0, Relaxed);
        }
    }

    /// Whether something has lasted too long. With `heads`, a begun request head counts (HTTP/2 has other frames too).
    pub(crate) fn judge(&self, limits: &Limits, heads: bool) -> Option<Expired> {
        let now = self.now();
        let longer = |since: u64, limit: Duration| {
            since != 0 && u128::from(now.saturating_sub(since)) >= limit.as_millis()
        };
        if longer(self.blocked_since.load(Relaxed), limits.write_stall) {
            return Some(Expired::WriteStalled);
        }
        if self.in_flight.load(Relaxed) > 0 {
            return None;
        }
        if heads && longer(self.head_since.load(Relaxed), limits.header_read) {
            return Some(Expired::HeadTooSlow);
        }
        longer(self.idle_since.load(Relaxed), limits.keep_alive).then_some(Expired::Idle)
    }

    /// How often to judge: often enough that nothing lasts twice its limit.
    pub(crate) fn interval(limits: &Limits) -> Duration {
        limits
            .header_read
            .min(limits.keep_alive)
            .min(limits.write_stall)
    }
}

/// A transport whose reads and writes are felt in the pulse.
pub(crate) struct Felt<T> {
    io: T,
    pulse: Arc<Pulse>,
}

impl<T> Felt<T> {
    pub(crate) const fn new(io: T, pulse: Arc<Pulse>) -> Self {
        Self { io, pulse }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Felt<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.read();
        }
        polled
    }
}

impl<T> Felt<T> {
    fn felt<R>(&self, polled: Poll<R>) -> Poll<R> {
        match polled {
            Poll::Pending => self.pulse.blocked(),
            Poll::Ready(_) => self.pulse.wrote(),
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Felt<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.felt(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.felt(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.felt(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.felt(polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_resets_without_end_is_cut() {
        let pulse = Pulse::new();
        for _ in 0..10 {
            pulse.reset(10);
        }
        assert!(!pulse.has_misbehaved());
        pulse.reset(10);
        assert!(pulse.has_misbehaved());
    }

    #[test]
    fn a_connection_with_a_request_is_not_idle() {
        let limits = Limits {
            keep_alive: Duration::ZERO,
            ..Limits::default()
        };
        let pulse = Pulse::new();
        assert_eq!(pulse.judge(&limits, true), Some(Expired::Idle));
        pulse.begin();
        assert_eq!(pulse.judge(&limits, true), None);
        pulse.end();
        assert_eq!(pulse.judge(&limits, true), Some(Expired::Idle));
    }

    #[test]
    fn a_head_that_does_not_end_is_noticed_for_http1_only() {
        let limits = Limits {
            header_read: Duration::ZERO,
            ..Limits::default()
        };
        let pulse = Pulse::new();
        pulse.read();
        assert_eq!(pulse.judge(&limits, true), Some(Expired::HeadTooSlow));
        assert_eq!(pulse.judge(&limits, false), None);
    }
}
