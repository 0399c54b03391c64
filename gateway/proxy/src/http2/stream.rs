//! One HTTP/2 stream: a request to the handler, interim responses, the response, its body. Does not look at what is asked.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;

use crate::{
    body::Reply,
    connection::Connection,
    handler, headers,
    incoming::{Http2Incoming, Incoming},
};

/// Interim responses passed on for one request. They are not held back by flow control, so there must be an end.
const INTERIM: u8 = 16;

/// A response may wait for the client's flow control with this much (one frame), so that small ones need not ask first.
const UNASKED: usize = 16 * 1024;

/// The way back of one stream, before its final response.
#[derive(Clone)]
pub(crate) struct Interim(Arc<Mutex<Way>>);

struct Way {
    respond: SendResponse<Bytes>,
    left: u8,
}

impl Interim {
    fn new(respond: SendResponse<Bytes>) -> Self {
        Self(Arc::new(Mutex::new(Way {
            respond,
            left: INTERIM,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Way> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes an interim response on (RFC 9110 section 15.2), except those that concern one connection.
    pub(crate) fn pass(&self, status: StatusCode, fields: &HeaderMap) {
        if !status.is_informational()
            || matches!(
                status,
                StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS
            )
        {
            return;
        }
        let mut way = self.lock();
        let Some(left) = way.left.checked_sub(1) else {
            return;
        };
        way.left = left;
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = fields.clone();
        headers::interim(response.headers_mut());
        // An error means that the client has given up, which the stream notices by itself.
        let _ = way.respond.send_informational(response);
    }

    /// Tells a client that waits for it that its body is wanted (RFC 9110 section 10.1.1).
    pub(crate) fn proceed(&self) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        let _ = self.lock().respond.send_informational(response);
    }

    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.lock().respond.poll_reset(cx).map(drop)
    }

    fn reset(&self, reason: Reason) {
        self.lock().respond.send_reset(reason);
    }

    fn send(
        &self,
        response: Response<()>,
        end_of_stream: bool,
    ) -> Result<SendStream<Bytes>, h2::Error> {
        let mut way = self.lock();
        way.left = 0;
        way.respond.send_response(response, end_of_stream)
    }
}

/// Answers one request. Ends early, and drops what was begun, when the client takes the request back.
pub(super) async fn serve(
    connection: Arc<Connection>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let way = Interim::new(respond);
    let connecting = request.method() == Method::CONNECT;
    let Some(length) = content_length(request.headers()) else {
        return way.reset(Reason::PROTOCOL_ERROR);
    };
    if connecting && length.is_some_and(|length| length != 0) {
        // RFC 9113 section 8.5: what follows is the tunnel.
        return way.reset(Reason::PROTOCOL_ERROR);
    }
    let (head, mut stream) = request.into_parts();
    if length == Some(0) && !connecting && !ends_empty(&mut stream).await {
        return way.reset(Reason::PROTOCOL_ERROR);
    }
    let request = Request::from_parts(head, stream)
        .map(|stream| Incoming::Http2(Http2Incoming::new(stream, length, Interim::clone(&way))));
    let handled = {
        // A box of its own: the exchange stays small to move, and the body is sent without the handler's space.
        let mut handled = Box::pin(handler::handle(connection, request));
        poll_fn(|cx| match handled.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
            Poll::Pending => way.poll_reset(cx).map(|()| None),
        })
        .await
    };
    if let Some(response) = handled {
        answer(&way, response).await;
    }
}

/// Waits until a request that says it has no content has really ended without any (RFC 9113 section 8.1.1). Such a request is
/// whole for an HTTP/1.1 site as soon as its head is: were it sent at once, it would be there before its contradiction.
async fn ends_empty(stream: &mut RecvStream) -> bool {
    while !stream.is_end_stream() {
        match stream.data().await {
            None => return true,
            Some(Ok(data)) if data.is_empty() => {}
            Some(_) => return false,
        }
    }
    true
}

/// Sends the response. An error means that the client has given up.
async fn answer(way: &Interim, response: Response<Reply>) {
    let (mut head, mut reply) = response.into_parts();
    head.headers.entry(header::DATE).or_insert_with(date_of_now);
    let carried = reply.take_carrying();
    let end = carried.is_none() && reply.is_end_stream();
    if let (false, None, Some(length)) = (end, &carried, reply.size_hint().exact()) {
        head.headers
            .entry(header::CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    let Ok(send) = way.send(Response::from_parts(head, ()), end) else {
        return way.reset(Reason::INTERNAL_ERROR);
    };
    if let Some(carried) = carried {
        carried.begin(send);
    } else if !end {
        Outgoing {
            send,
            part: None,
            reply,
        }
        .await;
    }
}

/// RFC 9110 section 6.6.1 wants it added to a response without one.
fn date_of_now() -> HeaderValue {
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    HeaderValue::try_from(now).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The length a request claims: `None` if it cannot be said, `Some(None)` if it says none.
fn content_length(headers: &HeaderMap) -> Option<Option<u64>> {
    let mut claimed = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let text = value.to_str().ok()?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let length = text.parse().ok()?;
        if claimed.is_some_and(|claimed| claimed != length) {
            return None;
        }
        claimed = Some(length);
    }
    Some(claimed)
}

/// A response body on its way into a stream.
struct Outgoing {
    send: SendStream<Bytes>,
    /// What waits for the client's flow control, and whether it is the last.
    part: Option<(Bytes, bool)>,
    reply: Reply,
}

impl Outgoing {
    /// Takes one frame of the body; ready when the body is through.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        let frame = match ready!(Pin::new(&mut self.reply).poll_frame(cx)) {
            None => {
                self.send.send_data(Bytes::new(), true)?;
                return Poll::Ready(Ok(true));
            }
            Some(Err(_)) => {
                // The site broke off; the client must know that this is not the whole.
                self.send.send_reset(Reason::INTERNAL_ERROR);
                return Poll::Ready(Ok(true));
            }
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                let last = self.reply.is_end_stream();
                if data.is_empty() || (last && data.len() <= UNASKED) {
                    self.send.send_data(data, last)?;
                    return Poll::Ready(Ok(last));
                }
                // One byte: what is in hand is asked for by `send_data`, and nothing is set aside for what may never come.
                self.send.reserve_capacity(1);
                self.part = Some((data, last));
                Poll::Ready(Ok(false))
            }
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else {
                    return Poll::Ready(Ok(false));
                };
                self.send.reserve_capacity(0);
                self.send.send_trailers(trailers)?;
                Poll::Ready(Ok(true))
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if self.part.is_some() {
                if ready!(poll_room(&mut self.send, cx)?).is_none() {
                    return Poll::Ready(Ok(()));
                }
                if let Some((data, last)) = self.part.take() {
                    self.send.send_data(data, last)?;
                    if last {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            match self.poll_take(cx)? {
                Poll::Ready(true) => return Poll::Ready(Ok(())),
                Poll::Ready(false) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Future for Outgoing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        if me.poll_send(cx).is_ready() {
            return Poll::Ready(());
        }
        me.send.poll_reset(cx).map(drop)
    }
}

/// Waits until the client takes at least one byte: how many, or `None` if it takes no more.
pub(super) fn poll_room(
    send: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<usize>, h2::Error>> {
    loop {
        let room = send.capacity();
        if room > 0 {
            return Poll::Ready(Ok(Some(room)));
        }
        match ready!(send.poll_capacity(cx)) {
            None => return Poll::Ready(Ok(None)),
            Some(capacity) => {
                capacity?;
            }
        }
    }
}
