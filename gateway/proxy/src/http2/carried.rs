//! Bytes that an HTTP/2 stream carries after a CONNECT was granted (RFC 9113 section 8.5, RFC 8441 section 5).
//! Does not know what they mean.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use super::stream::poll_room;

/// What is given to the protocol at once.
const CHUNK: usize = 16 * 1024;

/// The promise of a stream, kept when the response that grants it has been sent.
pub(crate) struct Carrying(oneshot::Sender<SendStream<Bytes>>);

impl Carrying {
    pub(super) fn begin(self, send: SendStream<Bytes>) {
        // Nobody waits: then dropping the stream resets it.
        let _ = self.0.send(send);
    }
}

/// Both directions of a stream, as a transport.
pub(crate) struct Carried {
    receive: RecvStream,
    send: SendStream<Bytes>,
    read: Bytes,
}

impl Carried {
    /// The transport that `receive` will be the reading side of, and what must go into the response for it.
    pub(crate) fn promise(
        receive: RecvStream,
    ) -> (Carrying, impl Future<Output = io::Result<Self>> + Send) {
        let (promise, promised) = oneshot::channel();
        let carried = async move {
            let send = promised
                .await
                .map_err(|_| io::ErrorKind::ConnectionAborted)?;
            Ok(Self {
                receive,
                send,
                read: Bytes::new(),
            })
        };
        (Carrying(promise), carried)
    }
}

impl AsyncRead for Carried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        while me.read.is_empty() {
            match ready!(me.receive.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(data)) => me.read = data,
            }
        }
        let length = me.read.len().min(buf.remaining());
        buf.put_slice(&me.read[..length]);
        me.read.advance(length);
        // Only now, so that a reader that does not read stops the sender.
        let _ = me.receive.flow_control().release_capacity(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carried {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wanted = buf.len().min(CHUNK);
        if self.send.capacity() == 0 {
            self.send.reserve_capacity(wanted);
        }
        let Some(room) = ready!(poll_room(&mut self.send, cx)).map_err(io::Error::other)? else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let length = wanted.min(room);
        let data = Bytes::copy_from_slice(&buf[..length]);
        self.send.send_data(data, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            self.send
                .send_data(Bytes::new(), true)
                .map_err(io::Error::other),
        )
    }
}
