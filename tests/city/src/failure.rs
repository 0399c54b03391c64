//! The ways in which a test can make the city fail.
//!
//! Only the control port sets them; nothing here fails by chance.

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use std::pin::Pin;
use std::task::{Context, Poll};

/// How the city fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It does not.
    #[default]
    None,
    /// The listener is closed and every open connection cut.
    Down,
    /// Every answer waits for the delay.
    Slow,
    /// Every answer is 503 with Retry-After.
    #[serde(rename = "5xx")]
    ServerError,
    /// Every answer ends with a cut connection after half of its body.
    CutMidBody,
    /// No request is ever answered.
    Hang,
}

/// A mode with its particulars.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The mode.
    pub mode: Mode,
    /// Milliseconds that `slow` waits; 2,000 if not given.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// Fail only requests whose path begins with this. Not for `down`.
    #[serde(default)]
    pub path: Option<String>,
    /// Fail only requests for this host name, without a port. Not for `down`.
    #[serde(default)]
    pub host: Option<String>,
}

impl Failure {
    /// Whether a request is meant.
    #[must_use]
    pub fn meets(&self, host: &str, path: &str) -> bool {
        self.host.as_deref().is_none_or(|wanted| wanted == host)
            && self
                .path
                .as_deref()
                .is_none_or(|prefix| path.starts_with(prefix))
    }
}

/// A body that breaks off after half of its bytes (after the first half of the first chunk if the length is unknown).
#[derive(Debug)]
pub struct HalfBody {
    inner: Body,
    left: Option<u64>,
    announced: SizeHint,
}

impl HalfBody {
    /// Wraps a body.
    #[must_use]
    pub fn new(inner: Body) -> Self {
        let announced = inner.size_hint();
        Self {
            left: announced.exact().map(|all| all / 2),
            inner,
            announced,
        }
    }
}

/// The error with which a cut body ends; it makes the server drop the connection.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub struct Cut;

impl HttpBody for HalfBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.left == Some(0) {
            return Poll::Ready(Some(Err(Cut)));
        }
        let Some(Ok(frame)) = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context))
        else {
            return Poll::Ready(Some(Err(Cut)));
        };
        let Ok(mut data) = frame.into_data() else {
            return Poll::Ready(Some(Err(Cut)));
        };
        let left = self.left.unwrap_or(data.len() as u64 / 2);
        data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.left = Some(left - data.len() as u64);
        if data.is_empty() {
            return Poll::Ready(Some(Err(Cut)));
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_cut_body_gives_half_and_then_an_error() {
        let mut body = HalfBody::new(Body::from("0123456789"));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&first[..], b"01234");
        assert!(body.frame().await.unwrap().is_err());
    }

    #[test]
    fn a_failure_can_be_limited_to_a_path_and_a_host() {
        let failure: Failure = serde_json::from_str(
            r#"{"mode":"5xx","path":"/gateway/","host":"gw.takahagi.localhost"}"#,
        )
        .unwrap();
        assert!(failure.meets("gw.takahagi.localhost", "/gateway/v1/feed"));
        assert!(!failure.meets("gw.takahagi.localhost", "/"));
        assert!(!failure.meets("renraku.takahagi.localhost", "/gateway/v1/feed"));
    }
}
