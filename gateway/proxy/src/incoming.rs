//! A request body as it comes from a client, whichever protocol that speaks. Does not judge its pace or size.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    http2::{Carried, Carrying, Interim},
    inspect::Held,
    wire::Violation,
};

/// What a client sends behind the head of a request.
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(Http2Incoming),
    /// Collected and found clean.
    Held(Box<Held>, Option<Interim>),
}

/// The receiving side of an HTTP/2 stream.
pub(crate) struct Http2Incoming {
    stream: RecvStream,
    /// Bytes still to come, if the request said how many. The `h2` crate holds the client to it.
    left: Option<u64>,
    read: bool,
    interim: Interim,
}

impl Http2Incoming {
    pub(crate) const fn new(stream: RecvStream, length: Option<u64>, interim: Interim) -> Self {
        Self {
            stream,
            left: length,
            read: false,
            interim,
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.read {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Taken when asked for, and asked for only when the site takes it: a slow site slows the client.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // RFC 9113 section 8.1: no error, the sender just does not want to send the rest.
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.read = true,
            }
        }
        Poll::Ready(
            ready!(self.stream.poll_trailers(cx))
                .transpose()
                .map(|trailers| trailers.map(Frame::trailers)),
        )
    }
}

/// Why reading a request body failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncomingError {
    #[error("an HTTP/1 request body broke off")]
    Http1(#[source] hyper::Error),
    #[error("an HTTP/2 request body broke off")]
    Http2(#[source] h2::Error),
    #[error("a request body cannot be read back")]
    Lost(#[source] io::Error),
}

impl IncomingError {
    /// Whether it was the framing that broke.
    pub(crate) fn is_violation(&self) -> bool {
        let error: &(dyn Error + 'static) = match self {
            Self::Http1(error) => error,
            Self::Http2(error) => error,
            Self::Lost(_) => return false,
        };
        Violation::behind(error).is_some()
    }
}

impl Incoming {
    /// The way for interim responses, where there is one: HTTP/1.1 clients get none.
    pub(crate) fn interim(&self) -> Option<Interim> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(body) => Some(body.interim.clone()),
            Self::Held(_, interim) => interim.clone(),
        }
    }

    /// A body that was collected, with the way for interim responses of the request it came with.
    pub(crate) fn held(held: Held, interim: Option<Interim>) -> Self {
        Self::Held(Box::new(held), interim)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(IncomingError::Http1),
            Self::Http2(body) => body.poll_frame(cx).map_err(IncomingError::Http2),
            Self::Held(held, _) => {
                Poll::Ready(held.next().map(|frame| frame.map_err(IncomingError::Lost)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
            Self::Held(held, _) => held.is_at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) if body.stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Held(held, _) => held.size_hint(),
            Self::Http2(body) => body
                .left
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// A transport that was an HTTP connection, or a stream of one.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The client's bytes once its request has been granted to leave HTTP.
pub(crate) type Leaving = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Prepares a request to leave HTTP: the transport to come, and what the response must carry for it.
pub(crate) fn leave(mut request: Request<Incoming>) -> (Leaving, Option<Carrying>) {
    let upgrade = match request.body() {
        Incoming::Http1(_) => Some(hyper::upgrade::on(&mut request)),
        Incoming::Http2(_) | Incoming::Held(..) => None,
    };
    match (request.into_body(), upgrade) {
        (Incoming::Http2(body), _) => {
            let (carrying, carried) = Carried::promise(body.stream);
            let leaving =
                Box::pin(async move { Ok(Box::new(carried.await?) as Box<dyn Transport>) });
            (leaving, Some(carrying))
        }
        (Incoming::Http1(_) | Incoming::Held(..), upgrade) => {
            let leaving = Box::pin(async move {
                let upgrade = upgrade.ok_or(io::ErrorKind::Unsupported)?;
                let upgraded = upgrade.await.map_err(io::Error::other)?;
                Ok(Box::new(hyper_util::rt::TokioIo::new(upgraded)) as Box<dyn Transport>)
            });
            (leaving, None)
        }
    }
}
