//! A TLS stream that remembers the fatal alert that ended it, also when writing noticed the end first.
//!
//! It does not judge the alert; [`crate::CityError`] names it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How much is read past a failed write in search of the alert: more than a server sends before it judges a
/// certificate, and a bound on what a hostile one can make us read.
const LAST_WORDS: usize = 64 * 1024;

/// A TLS stream that remembers the fatal alert that ended it.
///
/// In TLS 1.3 the server judges the client's certificate after the client believes the handshake finished, so
/// `certificate_revoked` arrives on a later read, where HTTP libraries flatten it into "connection error". A server that
/// closes at once also resets the connection, for our request is still unread: then our next write fails
/// although the alert lies ready to be read. So a write that fails reads what the server said last before it tells.
#[derive(Debug)]
pub struct ObservedStream {
    inner: TlsStream<TcpStream>,
    alert: Arc<OnceLock<AlertDescription>>,
    failed: Option<FailedWrite>,
}

/// Why writing failed, kept while the server's last words are read.
#[derive(Debug)]
struct FailedWrite {
    error: io::Error,
    left: usize,
}

impl ObservedStream {
    pub(crate) fn new(inner: TlsStream<TcpStream>) -> Self {
        Self {
            inner,
            alert: Arc::default(),
            failed: None,
        }
    }

    /// A cell that will hold the alert, for keeping after the stream was given away.
    pub fn alert(&self) -> Arc<OnceLock<AlertDescription>> {
        Arc::clone(&self.alert)
    }

    /// The TLS stream itself.
    pub const fn get_ref(&self) -> &TlsStream<TcpStream> {
        &self.inner
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && let Some(rustls::Error::AlertReceived(alert)) =
                error.get_ref().and_then(|e| e.downcast_ref())
        {
            // Only the first alert counts; later reads repeat it.
            let _ = self.alert.set(*alert);
        }
        result
    }

    /// Runs one write, and when it fails because the connection is gone, reads to its end before it says so.
    fn write_or_listen<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TlsStream<TcpStream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failed.is_none() {
            match ready!(write(Pin::new(&mut self.inner), cx)) {
                Err(error) if is_gone(&error) => {
                    self.failed = Some(FailedWrite {
                        error,
                        left: LAST_WORDS,
                    });
                }
                result => return Poll::Ready(self.note(result)),
            }
        }
        ready!(self.poll_last_words(cx));
        match self.failed.take() {
            Some(failed) => Poll::Ready(Err(failed.error)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Reads until the alert, the end, or the bound. The other side is gone, so the end is near: what it sent has
    /// arrived, and the reset makes every read return.
    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 1024];
        while let Some(failed) = self.failed.as_mut().filter(|failed| failed.left > 0) {
            let mut buf = ReadBuf::new(&mut scratch);
            let result = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf));
            let read = buf.filled().len();
            failed.left = failed.left.saturating_sub(read);
            if self.note(result).is_err() || read == 0 {
                break;
            }
        }
        Poll::Ready(())
    }
}

/// Whether the transport itself has ended, so that reading ends too.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
    )
}

impl AsyncRead for ObservedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        Poll::Ready(self.note(result))
    }
}

impl AsyncWrite for ObservedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_or_listen(cx, |inner, cx| inner.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_or_listen(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        Poll::Ready(self.note(result))
    }
}
