//! Gathers what an HTTP/2 connection writes during one poll into one write of the transport.
//!
//! It does not delay anything beyond the poll in which it was written, and it is of no use to HTTP/1, where
//! hyper gathers by itself.
//!
//! Why: `h2` keeps one DATA frame of 256 bytes or more in its encoder and flushes before it takes the next
//! (`CHAIN_THRESHOLD`), which makes about one system call, and one TLS record, per small response. [`Deferred`]
//! swallows those flushes; [`Driven`] polls the connection and then writes what has gathered.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

/// Bytes that may wait for the transport; a connection that has this much waiting is told to wait.
const CAPACITY: usize = 64 * 1024;

/// Bytes reserved at the first write after an idle time: room for a dozen small responses.
const FIRST_RESERVE: usize = 16 * 1024;

/// The transport and what waits to be written to it.
#[derive(Debug)]
struct Gathered<T> {
    io: T,
    waiting: Vec<u8>,
    /// How much of `waiting` the transport has taken.
    taken: usize,
    /// The transport holds bytes that its own flush has not confirmed (TLS keeps a record back while the socket is full).
    unflushed: bool,
}

impl<T: Write + Unpin> Gathered<T> {
    fn room(&self) -> usize {
        CAPACITY - (self.waiting.len() - self.taken)
    }

    /// Waits until at least one byte fits.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.room() == 0 {
            ready!(self.poll_some(cx))?;
        }
        Poll::Ready(Ok(self.room()))
    }

    /// Appends what the caller has made sure fits.
    fn keep(&mut self, bytes: &[u8]) {
        if self.taken > 0 && self.waiting.len() + bytes.len() > CAPACITY {
            self.waiting.drain(..self.taken);
            self.taken = 0;
        }
        if self.waiting.capacity() == 0 {
            self.waiting.reserve(FIRST_RESERVE.max(bytes.len()));
        }
        self.waiting.extend_from_slice(bytes);
    }

    /// One write to the transport.
    fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let rest = &self.waiting[self.taken..];
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.taken += written;
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }

    /// Hands everything to the transport and flushes it; an empty buffer costs nothing.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.waiting.len() {
            ready!(self.poll_some(cx))?;
        }
        if self.waiting.capacity() > 0 {
            // An idle connection keeps no buffer: hundreds of them wait in a facility for most of the day.
            self.waiting = Vec::new();
            self.taken = 0;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// The transport as both sides hold it.
///
/// Connection and driver live in one task, so the lock is never contended; it is there because `tokio::spawn`
/// and `hyper::upgrade` ask for `Send`, and costs two atomic operations.
#[derive(Debug)]
struct Shared<T>(Arc<Mutex<Gathered<T>>>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Gathered<T>> {
        // A panic of the transport while locked leaves bytes and positions consistent: nothing is done in between.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// An HTTP/2 connection's transport whose writes gather until [`Driven`] lets them go.
///
/// At most 64 KiB gather; beyond that a write waits for the transport, so that back-pressure reaches the streams.
#[derive(Debug)]
pub struct Deferred<T>(Shared<T>);

impl<T> Deferred<T> {
    /// Wraps `io`; give a clone of the handle to [`drive`] together with the connection built on this.
    pub fn new(io: T) -> (Self, Handle<T>) {
        let gathered = Arc::new(Mutex::new(Gathered {
            io,
            waiting: Vec::new(),
            taken: 0,
            unflushed: false,
        }));
        (
            Self(Shared(Arc::clone(&gathered))),
            Handle(Shared(gathered)),
        )
    }
}

/// The driver's end of a [`Deferred`] transport.
#[derive(Debug)]
pub struct Handle<T>(Shared<T>);

impl<T: Read + Unpin> Read for Deferred<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Deferred<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = self.0.lock();
        let room = ready!(gathered.poll_room(cx))?;
        let fits = buf.len().min(room);
        gathered.keep(&buf[..fits]);
        Poll::Ready(Ok(fits))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = self.0.lock();
        let mut room = ready!(gathered.poll_room(cx))?;
        let mut kept = 0;
        for buf in bufs {
            let fits = buf.len().min(room);
            gathered.keep(&buf[..fits]);
            kept += fits;
            room -= fits;
            if room == 0 {
                break;
            }
        }
        Poll::Ready(Ok(kept))
    }

    fn is_write_vectored(&self) -> bool {
        // Whatever the transport does: gathering takes all slices at once.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.0.lock();
        ready!(gathered.poll_drain(cx))?;
        Pin::new(&mut gathered.io).poll_shutdown(cx)
    }
}

/// Drives an HTTP/2 connection over the [`Deferred`] transport that `handle` belongs to.
pub fn drive<T, C>(handle: Handle<T>, connection: C) -> Driven<T, C>
where
    T: Write + Unpin,
    C: Future + Unpin,
{
    Driven {
        connection,
        handle,
        outcome: None,
    }
}

/// A connection that writes once at the end of each poll.
///
/// Resolves, when the connection has ended and everything is written, to what the connection resolved to; or to the
/// transport's error. Dropping it drops the connection and what waited.
#[derive(Debug)]
#[must_use = "a connection does nothing unless polled"]
pub struct Driven<T, C: Future> {
    connection: C,
    handle: Handle<T>,
    /// What the connection resolved to, while the rest is being written.
    outcome: Option<C::Output>,
}

impl<T, C: Future + Unpin> Driven<T, C> {
    /// The connection, for `graceful_shutdown`; poll this future again afterwards.
    pub fn connection(&mut self) -> Pin<&mut C> {
        Pin::new(&mut self.connection)
    }
}

// Neither the connection (which is `Unpin`) nor its outcome is ever pinned in place.
impl<T, C: Future + Unpin> Unpin for Driven<T, C> {}

impl<T, C> Future for Driven<T, C>
where
    T: Write + Unpin,
    C: Future + Unpin,
{
    type Output = io::Result<C::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.outcome.is_none()
            && let Poll::Ready(outcome) = Pin::new(&mut this.connection).poll(cx)
        {
            this.outcome = Some(outcome);
        }
        match this.handle.0.lock().poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => match this.outcome.take() {
                Some(outcome) => Poll::Ready(Ok(outcome)),
                None => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
