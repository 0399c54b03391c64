//! One HTTP/1.1 connection to a site, driven inside the task of the request that uses it: no task switch per request.
//! Does not decide which connection is used.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio_rustls::client::TlsStream;

use super::{Pool, Rehome, deadline::Deadline};
use crate::{
    bell::Bell,
    body::{ReplyError, Stall, Upload},
    caller::Calling,
    error::Fault,
    headers,
};

type Io = TokioIo<Calling<TlsStream<Rehome>>>;

/// A connection and the right to use it.
pub(crate) struct H1 {
    sender: SendRequest<Upload>,
    connection: Connection<Io, Upload>,
    /// What the connection and those who use it say to each other during one turn concerns nobody else.
    bell: Arc<Bell>,
    ended: bool,
    /// For the head of a response.
    deadline: Deadline,
    pub(crate) born: Instant,
    pub(crate) idle_since: Instant,
    pub(crate) generation: u64,
    pub(crate) served: u32,
    _open: Open,
}

/// Counts an open connection for as long as it exists.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl H1 {
    pub(crate) async fn start(
        stream: TlsStream<Rehome>,
        generation: u64,
        open: &Arc<AtomicUsize>,
    ) -> Result<Self, Fault> {
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(Calling::new(stream)))
            .await
            .map_err(|error| Fault::exchange(&error))?;
        open.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        Ok(Self {
            sender,
            connection,
            bell: Arc::default(),
            ended: false,
            deadline: Deadline::new(),
            born: now,
            idle_since: now,
            generation,
            served: 0,
            _open: Open(Arc::clone(open)),
        })
    }

    /// Lets the connection notice that the site has closed it; whether it can take a request.
    pub(crate) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.ended && !self.sender.is_closed()
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        self.bell.attach(cx);
        self.turn();
        self.bell.detach();
    }

    /// While the bell is attended.
    fn turn(&mut self) {
        let connection = &mut self.connection;
        if !self.ended
            && self
                .bell
                .listen(|cx| Pin::new(connection).poll(cx).is_ready())
        {
            self.ended = true;
        }
    }

    /// Sends the request and waits for the head of the response, at most `first_byte` after the request has been sent.
    pub(crate) async fn exchange(
        mut self: Box<Self>,
        request: &mut Option<Request<Upload>>,
        upload: &Progress,
        first_byte: Duration,
        pool: &Arc<Pool>,
    ) -> Result<Response<H1Body>, Fault> {
        let outgoing = request.take().unwrap_or_default();
        let answered = {
            let Self {
                sender,
                connection,
                bell,
                ended,
                deadline,
                ..
            } = &mut *self;
            let mut response = pin!(sender.try_send_request(outgoing));
            deadline.set(first_byte);
            // The answer comes out of the connection, which is driven here and nowhere else: it is looked at behind each turn,
            // and a call of its own would only have this task come once more.
            std::future::poll_fn(|cx| {
                let mut unheard = Context::from_waker(Waker::noop());
                bell.attach(cx);
                if let Poll::Ready(answer) = response.as_mut().poll(&mut unheard) {
                    bell.leave();
                    return Poll::Ready(Some(answer));
                }
                if !*ended && bell.listen(|cx| Pin::new(&mut *connection).poll(cx).is_ready()) {
                    *ended = true;
                }
                if let Poll::Ready(answer) = response.as_mut().poll(&mut unheard) {
                    bell.leave();
                    return Poll::Ready(Some(answer));
                }
                bell.detach();
                while deadline.poll(cx).is_ready() {
                    if upload.is_finished() {
                        return Poll::Ready(None);
                    }
                    // Still sending: the upload has its own clock.
                    deadline.set(first_byte);
                }
                Poll::Pending
            })
            .await
        };
        match answered {
            None => Err(Fault::first_byte_timeout()),
            Some(Err(mut error)) => {
                *request = error.take_message();
                Err(Fault::exchange(error.error()))
            }
            Some(Ok(response)) => Ok(self.answered(response, upload, pool)),
        }
    }

    fn answered(
        mut self: Box<Self>,
        response: Response<Incoming>,
        upload: &Progress,
        pool: &Arc<Pool>,
    ) -> Response<H1Body> {
        self.served += 1;
        let (head, body) = response.into_parts();
        let mut body = H1Body {
            body,
            connection: Some(self),
            pool: Arc::clone(pool),
            stall: Stall::new(pool.limits().read_stall),
        };
        if !upload.is_finished() {
            // The site answers while it is still being sent the request. The response's reader must not be what keeps the
            // upload moving, so this connection gets a task, and is not used again.
            if let Some(connection) = body.connection.take() {
                tokio::spawn(connection.run());
            }
        } else if body.body.is_end_stream() {
            body.release();
        }
        Response::from_parts(head, body)
    }

    async fn run(mut self: Box<Self>) {
        std::future::poll_fn(|cx| {
            self.drive(cx);
            if self.ended {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Turns the connection into one that can leave HTTP; it is driven by a task and never returns to the pool.
    pub(crate) fn upgradeable(self: Box<Self>) -> SendRequest<Upload> {
        let Self {
            sender,
            connection,
            _open,
            ..
        } = *self;
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
            drop(_open);
        });
        sender
    }
}

/// Whether the body of a request has been sent.
pub(crate) use crate::body::Progress;

/// A response body that drives its connection, and returns it when the last byte has been read.
pub(crate) struct H1Body {
    body: Incoming,
    connection: Option<Box<H1>>,
    pool: Arc<Pool>,
    stall: Stall,
}

impl H1Body {
    fn release(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            // Once more, so that hyper sees the end of the message and is ready for the next.
            let mut cx = Context::from_waker(Waker::noop());
            connection.drive(&mut cx);
            connection.deadline.leave();
            if !connection.ended && connection.sender.is_ready() {
                self.pool.give_back(connection);
            }
        }
    }
}

impl Body for H1Body {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let me = &mut *self;
        let polled = match &mut me.connection {
            // Driven by a task of its own, which calls.
            None => Pin::new(&mut me.body).poll_frame(cx),
            Some(connection) => {
                let mut unheard = Context::from_waker(Waker::noop());
                // Asking for more rings; that is heard by the turn that follows.
                connection.bell.attach(cx);
                let mut polled = Pin::new(&mut me.body).poll_frame(&mut unheard);
                if polled.is_pending() {
                    connection.turn();
                    polled = Pin::new(&mut me.body).poll_frame(&mut unheard);
                }
                if polled.is_pending() {
                    connection.bell.detach();
                } else {
                    // That there is room for more is heard when more is asked for.
                    connection.bell.leave();
                }
                polled
            }
        };
        match polled {
            Poll::Pending => me
                .stall
                .poll_stalled(cx)
                .map(|()| Some(Err(ReplyError::Stalled))),
            Poll::Ready(None) => {
                me.release();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                me.connection = None;
                Poll::Ready(Some(Err(ReplyError::Cut(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                me.stall.progress();
                let frame = headers::trailers(frame);
                // Not on None: with a Content-Length nobody asks again.
                if me.body.is_end_stream() {
                    me.release();
                }
                Poll::Ready(Some(Ok(frame)))
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
