//! Spares what has nothing to say the trouble of being asked: it is polled again only when it has called.
//!
//! A task is polled for one reason and asks everything it waits for, each time; most of that has not changed. Does not wait
//! for anything itself.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

/// The way from what is waited for to the task that waits.
#[derive(Debug)]
struct Call {
    made: AtomicBool,
    task: Mutex<Waker>,
}

impl Call {
    fn task(&self) -> MutexGuard<'_, Waker> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.made.store(true, Release);
        // Cloned, so that nothing of a task runs under the lock.
        let task = self.task().clone();
        task.wake();
    }
}

/// Stands between a task and one thing it waits for.
#[derive(Debug)]
pub(crate) struct Caller {
    call: Arc<Call>,
    /// The waker that leads to `call`.
    waker: Waker,
    /// The task that `call` leads to.
    known: Waker,
    /// It was asked and had nothing to say.
    silent: bool,
}

impl Caller {
    pub(crate) fn new() -> Self {
        let call = Arc::new(Call {
            made: AtomicBool::new(false),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            waker: Waker::from(Arc::clone(&call)),
            call,
            known: Waker::noop().clone(),
            silent: false,
        }
    }

    /// Asks with `poll`, unless that had nothing to say before and has not called since.
    ///
    /// It must always be the same thing that is asked, and nothing but a call may make it ready.
    pub(crate) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        if !self.known.will_wake(cx.waker()) {
            self.lead_to(cx.waker().clone());
        }
        // Looked at behind the lock: a call before it has left its mark, one after it finds this task.
        if self.silent && !self.call.made.load(Acquire) {
            return Poll::Pending;
        }
        // Read and written in one, so that what is asked now is at least as new as the call that is struck off.
        self.call.made.swap(false, AcqRel);
        let polled = poll(&mut Context::from_waker(&self.waker));
        self.silent = polled.is_pending();
        polled
    }

    /// What is waited for has been changed from outside: it is asked again without a call.
    pub(crate) fn ask_again(&mut self) {
        self.silent = false;
    }

    /// Nobody waits for now. A task that is kept as a waker keeps its memory.
    pub(crate) fn leave(&mut self) {
        self.lead_to(Waker::noop().clone());
    }

    fn lead_to(&mut self, task: Waker) {
        self.known = task.clone();
        let before = std::mem::replace(&mut *self.call.task(), task);
        drop(before);
    }
}

/// A transport that is not asked for bytes again before it has called.
#[derive(Debug)]
pub(crate) struct Calling<T> {
    io: T,
    caller: Caller,
    /// Came behind bytes, which are handed on first.
    error: Option<io::Error>,
}

impl<T> Calling<T> {
    pub(crate) fn new(io: T) -> Self {
        Self {
            io,
            caller: Caller::new(),
            error: None,
        }
    }
}

impl<T: AsyncBufRead + Unpin> Calling<T> {
    /// Copies what is there at once; the number of bytes, 0 at the end.
    fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let io = &mut self.io;
        let copied = ready!(self.caller.poll(cx, |cx| {
            let there = ready!(Pin::new(&mut *io).poll_fill_buf(cx))?;
            let length = there.len().min(buf.remaining());
            buf.put_slice(&there[..length]);
            Poll::Ready(Ok::<_, io::Error>(length))
        }))?;
        Pin::new(&mut self.io).consume(copied);
        Poll::Ready(Ok(copied))
    }
}

/// Reads until nothing is there, so that the next one who asks need not.
impl<T: AsyncBufRead + Unpin> AsyncRead for Calling<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            match self.poll_some(cx, buf) {
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if buf.filled().len() > before => break,
                Poll::Ready(Err(error)) if buf.filled().len() > before => {
                    self.error = Some(error);
                    break;
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Calling<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
