//! Stands below hyper's HTTP/1 server connection and lets through only what [`Framing`] understands.
//!
//! It does not parse twice what hyper parses (fields become a request only there) and it does not judge what a
//! request asks for. The transport is a tokio one: `TokioIo::new(Guarded::new(stream).0)` goes to hyper.
//!
//! Heads are held back until they are whole and sound; content passes as it comes. So nothing of a bad head is ever
//! seen by hyper or a handler, and the guard answers it itself, in its turn: when hyper has written all earlier
//! responses. It learns that with a *bait*: one byte of a next head. With it in its buffer hyper reads again only
//! when it waits for that head, which is when every earlier response is in its write buffer; and it flushes the
//! transport only when that buffer is empty.
//!
//! Content whose framing breaks ends with an error for its reader, from which [`Violation::behind`] recovers the rule;
//! the handler answers that request, and hyper closes the connection behind the response.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Framing, Progress, Refusal, Verdict, Violation};

/// Bytes read and thrown away behind a refusal, so that the client gets to read it (RFC 9112 §9.6).
const LINGER: usize = 256 * 1024;

/// A byte that may begin a request line.
const BAIT: &[u8] = b"X";

/// An HTTP/1 server connection's transport that refuses doubtful framing.
#[derive(Debug)]
pub struct Guarded<T> {
    io: T,
    framing: Framing,
    /// Bytes that were read and are not, or not wholly, handed on. Empty, without memory, most of the time.
    held: Vec<u8>,
    /// Bytes at the start of `held` that hyper has already (a bait that was a real byte).
    given: usize,
    /// Bytes at the start of `held` that may be handed on.
    cleared: usize,
    phase: Phase,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Phase {
    Relaying,
    /// Behind a request that may switch protocols; hyper has, when `baited`, the first byte behind it.
    Undecided {
        baited: bool,
    },
    /// Waiting for hyper to come for the next head, which will be answered with a refusal.
    Refusing {
        violation: Violation,
        baited: bool,
    },
    /// Hyper waits for a head; the refusal goes out when hyper's own writes are out.
    Armed(Violation),
    Answering {
        response: Vec<u8>,
        written: usize,
    },
    /// The refusal is written; so many bytes were thrown away since.
    Lingering(usize),
    /// Content is broken; every further read fails.
    Failed(Violation),
    Closed,
}

#[derive(Debug, Default)]
struct Shared {
    opaque: AtomicBool,
    violation: OnceLock<Violation>,
}

/// What the handler and the logs share with a [`Guarded`] transport.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Shared>);

impl Watch {
    /// From now on the bytes are not HTTP: to be called before a `101` or a `2xx` to CONNECT is returned.
    pub fn opaque(&self) {
        self.0.opaque.store(true, Ordering::Release);
    }

    /// The rule that a client broke on this connection, if one did.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.0.violation.get().copied()
    }
}

impl<T> Guarded<T> {
    /// Guards `io`, a connection from its first byte.
    pub fn new(io: T) -> (Self, Watch) {
        let shared = Arc::new(Shared::default());
        let guarded = Self {
            io,
            framing: Framing::new(),
            held: Vec::new(),
            given: 0,
            cleared: 0,
            phase: Phase::Relaying,
            shared: Arc::clone(&shared),
        };
        (guarded, Watch(shared))
    }

    /// The transport.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Hands on what of `held` may be; whether there was anything.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.given >= self.cleared {
            return false;
        }
        let length = (self.cleared - self.given).min(buf.remaining());
        buf.put_slice(&self.held[self.given..self.given + length]);
        self.given += length;
        if self.given == self.cleared {
            self.held.drain(..self.cleared);
            (self.given, self.cleared) = (0, 0);
            if self.held.is_empty() {
                self.held = Vec::new();
            }
        }
        true
    }

    /// Judges all of `held`.
    fn judge_held(&mut self) {
        let progress = self.framing.push(&self.held);
        self.cleared = progress.released;
        self.settle(progress.verdict);
        if self.cleared == self.given && self.cleared > 0 {
            self.held.drain(..self.cleared);
            (self.given, self.cleared) = (0, 0);
        }
    }

    /// Draws the consequence of a verdict, which takes effect once what is cleared has been handed on.
    fn settle(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::More => {}
            Verdict::MaySwitch => self.phase = Phase::Undecided { baited: false },
            Verdict::Refused(refusal) => {
                let violation = refusal.violation();
                let _ = self.shared.violation.set(violation);
                self.phase = match refusal {
                    Refusal::Head(_) => Phase::Refusing {
                        violation,
                        baited: false,
                    },
                    Refusal::Body(_) => Phase::Failed(violation),
                };
            }
        }
    }

    /// Judges what a read added to `buf` behind `before`, and takes back what must wait.
    fn judge_read(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = &buf.filled()[before..];
        if self.held.is_empty() {
            // The common case: whole requests and pieces of content stay where they are.
            let Progress { released, verdict } = self.framing.push(read);
            if !matches!(verdict, Verdict::Refused(_)) {
                self.held.extend_from_slice(&read[released..]);
            }
            buf.set_filled(before + released);
            self.settle(verdict);
        } else {
            self.held.extend_from_slice(read);
            buf.set_filled(before);
            self.judge_held();
        }
    }
}

impl<T: AsyncRead + Unpin> Guarded<T> {
    /// Reads into `buf` past the parser: whether anything came (`false` is the end of the stream).
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        Poll::Ready(Ok(buf.filled().len() > before))
    }

    /// The bytes of a tunnel.
    fn poll_opaque(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.cleared = self.held.len();
        if self.hand_on(buf) {
            return Poll::Ready(Ok(()));
        }
        self.held = Vec::new();
        (self.given, self.cleared) = (0, 0);
        Pin::new(&mut self.io).poll_read(cx, buf)
    }

    /// Requests and their content.
    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Step>> {
        let before = buf.filled().len();
        if !ready!(self.poll_raw(cx, buf))? {
            return Poll::Ready(Ok(Step::Done));
        }
        self.judge_read(buf, before);
        if buf.filled().len() > before {
            Poll::Ready(Ok(Step::Done))
        } else {
            Poll::Ready(Ok(Step::Again))
        }
    }

    /// Bytes behind a request that may switch protocols: one is handed out to learn what hyper takes it for.
    ///
    /// The parser is asked only when hyper comes back for more of a head: the request was not granted.
    fn poll_undecided(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        baited: bool,
    ) -> Poll<io::Result<Step>> {
        if baited {
            self.framing.resume();
            self.phase = Phase::Relaying;
            self.judge_held();
            return Poll::Ready(Ok(Step::Again));
        }
        if self.held.is_empty() {
            let before = buf.filled().len();
            if !ready!(self.poll_raw(cx, buf))? {
                return Poll::Ready(Ok(Step::Done));
            }
            self.held.extend_from_slice(&buf.filled()[before..]);
            buf.set_filled(before);
        }
        buf.put_slice(&self.held[..1]);
        self.given = 1;
        self.phase = Phase::Undecided { baited: true };
        Poll::Ready(Ok(Step::Done))
    }

    /// Throws away what the client still sends, so that closing does not tear the refusal from its hands.
    fn poll_linger(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        while let Phase::Lingering(dropped) = self.phase {
            let more = ready!(self.poll_raw(cx, buf)).unwrap_or(false);
            let dropped = dropped + buf.filled().len() - before;
            buf.set_filled(before);
            self.phase = if more && dropped < LINGER {
                Phase::Lingering(dropped)
            } else {
                Phase::Closed
            };
        }
        Poll::Ready(Ok(()))
    }
}

/// What a phase did with a read.
enum Step {
    /// There is something for hyper (or the end).
    Done,
    /// Another phase, or another read, has to be tried.
    Again,
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.shared.opaque.load(Ordering::Acquire) {
            return this.poll_opaque(cx, buf);
        }
        loop {
            if this.hand_on(buf) {
                return Poll::Ready(Ok(()));
            }
            let step = match this.phase {
                Phase::Relaying => ready!(this.poll_relay(cx, buf))?,
                Phase::Undecided { baited } => ready!(this.poll_undecided(cx, buf, baited))?,
                Phase::Refusing {
                    violation,
                    baited: false,
                } => {
                    this.held = Vec::new();
                    (this.given, this.cleared) = (0, 0);
                    this.phase = Phase::Refusing {
                        violation,
                        baited: true,
                    };
                    buf.put_slice(BAIT);
                    Step::Done
                }
                Phase::Refusing {
                    violation,
                    baited: true,
                } => {
                    this.phase = Phase::Armed(violation);
                    // Hyper flushes next, in the same poll; the wake-up comes from there.
                    return Poll::Pending;
                }
                Phase::Armed(_) | Phase::Answering { .. } => return Poll::Pending,
                Phase::Lingering(_) => return this.poll_linger(cx, buf),
                Phase::Failed(violation) => return Poll::Ready(Err(violation.into())),
                Phase::Closed => return Poll::Ready(Ok(())),
            };
            if matches!(step, Step::Done) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Guarded<T> {
    /// Writes the refusal, ends the sending side, and lets hyper go.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Phase::Armed(violation) = self.phase {
            self.phase = Phase::Answering {
                response: refusal(violation),
                written: 0,
            };
        }
        let Phase::Answering { response, written } = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        while *written < response.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &response[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => *written += length,
            }
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        self.phase = Phase::Lingering(0);
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.phase {
            Phase::Armed(_) | Phase::Answering { .. } => {
                let answered = ready!(this.poll_answer(cx));
                if answered.is_err() {
                    this.phase = Phase::Closed;
                }
                Poll::Ready(answered)
            }
            Phase::Lingering(_) | Phase::Closed => Poll::Ready(Ok(())),
            _ => Pin::new(&mut this.io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// The answer to a broken head, as RFC 9457 problem details: whoever sends one is a program.
fn refusal(violation: Violation) -> Vec<u8> {
    let (status, reason) = match violation.status() {
        414 => (414, "URI Too Long"),
        431 => (431, "Request Header Fields Too Large"),
        505 => (505, "HTTP Version Not Supported"),
        _ => (400, "Bad Request"),
    };
    // The wordings are constants without quotes that JSON would need escaped.
    let detail = violation.to_string().replace('"', "'");
    let section = violation.section();
    let body = format!(
        r#"{{"title":"{reason}","status":{status},"detail":"{detail}","section":"{section}"}}"#
    );
    let date = httpdate::fmt_http_date(SystemTime::now());
    format!(
        "HTTP/1.1 {status} {reason}\r\ndate: {date}\r\nconnection: close\r\ncache-control: no-store\r\n\
         content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests;
