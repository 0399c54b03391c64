//! The rest of the gateway API: attachments, and what the box reports.
//!
//! It does not retry and does not choose idempotency keys: a caller that repeats a report repeats its key.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RANGE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::sync::{Mutex, watch};

use crate::https::{HttpsConnection, expect_success, next_piece};
use crate::{CityError, Endpoint, Timeouts};

/// The longest answer to a report, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// What the city asks for of the log of accesses, and where it is handed over.
const ACCESS_LOG: &str = "/gateway/v1/access-log";

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A client of the gateway API that keeps one connection open between calls.
#[derive(Debug)]
pub struct GatewayApi {
    endpoint: Endpoint,
    config: watch::Receiver<Arc<ClientConfig>>,
    timeouts: Timeouts,
    kept: Mutex<Option<(Arc<ClientConfig>, HttpsConnection)>>,
}

/// An attachment on its way.
#[derive(Debug)]
pub struct AttachmentBody {
    host: String,
    body: Incoming,
    timeouts: Timeouts,
    left: u64,
    limit: u64,
    /// `Content-Length` of this answer, when stated.
    pub length: Option<u64>,
    /// True when the city honoured the range (206).
    pub partial: bool,
}

impl AttachmentBody {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the body breaks off, stalls, or exceeds the limit given to [`GatewayApi::attachment`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, CityError> {
        let piece = next_piece(&self.host, &mut self.body, self.timeouts.idle).await?;
        if let Some(piece) = &piece {
            self.left =
                self.left
                    .checked_sub(piece.len() as u64)
                    .ok_or_else(|| CityError::TooLarge {
                        host: self.host.clone(),
                        limit: usize::try_from(self.limit).unwrap_or(usize::MAX),
                    })?;
        }
        Ok(piece)
    }
}

impl GatewayApi {
    /// A client that dials on first use. When `config` changes (renewal), the next call dials anew.
    pub fn new(
        endpoint: Endpoint,
        config: watch::Receiver<Arc<ClientConfig>>,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            endpoint,
            config,
            timeouts,
            kept: Mutex::new(None),
        }
    }

    /// Asks for an attachment, or the given byte range of it, of at most `limit` bytes.
    ///
    /// # Errors
    /// When the city refuses or cannot be reached.
    pub async fn attachment(
        &self,
        id: &str,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<AttachmentBody, CityError> {
        let mut request = self.build(
            Method::GET,
            &format!("/gateway/v1/attachments/{}", segment(id)),
            Bytes::new(),
        )?;
        if let Some(range) = range.filter(|range| !range.is_empty()) {
            let value = format!("bytes={}-{}", range.start, range.end - 1);
            request.headers_mut().insert(
                RANGE,
                HeaderValue::from_str(&value).map_err(|_| self.wrong("range"))?,
            );
        }
        let response = self.send(request).await?;
        let length = response
            .headers()
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok());
        if length.is_some_and(|length: u64| length > limit) {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            return Err(CityError::TooLarge {
                host: self.endpoint.host.clone(),
                limit,
            });
        }
        Ok(AttachmentBody {
            host: self.endpoint.host.clone(),
            partial: response.status() == StatusCode::PARTIAL_CONTENT,
            body: response.into_body(),
            timeouts: self.timeouts,
            left: limit,
            limit,
            length,
        })
    }

    /// `POST /gateway/v1/status`; returns the city's answer.
    ///
    /// # Errors
    /// When the city refuses or cannot be reached.
    pub async fn post_status(
        &self,
        idempotency_key: &str,
        body: Bytes,
    ) -> Result<Bytes, CityError> {
        self.post("/gateway/v1/status", idempotency_key, body).await
    }

    /// `POST /gateway/v1/incidents`; returns the city's answer.
    ///
    /// # Errors
    /// When the city refuses or cannot be reached.
    pub async fn post_incident(
        &self,
        idempotency_key: &str,
        body: Bytes,
    ) -> Result<Bytes, CityError> {
        self.post("/gateway/v1/incidents", idempotency_key, body)
            .await
    }

    /// `GET /gateway/v1/access-log`: what the city asks for of the log of accesses.
    ///
    /// # Errors
    /// When the city refuses or cannot be reached.
    pub async fn access_log_requests(&self) -> Result<Bytes, CityError> {
        let request = self.build(Method::GET, ACCESS_LOG, Bytes::new())?;
        let response = self.send(request).await?;
        let host = &self.endpoint.host;
        let body = response.into_body();
        crate::https::read_limited(host, body, MAX_ANSWER, self.timeouts.idle).await
    }

    /// `POST /gateway/v1/access-log`: hands over a piece of it; returns the city's answer.
    ///
    /// # Errors
    /// When the city refuses or cannot be reached.
    pub async fn post_access_log(
        &self,
        idempotency_key: &str,
        body: Bytes,
    ) -> Result<Bytes, CityError> {
        self.post(ACCESS_LOG, idempotency_key, body).await
    }

    /// `POST /gateway/v1/decommission`: revokes the certificate that this client presents.
    ///
    /// # Errors
    /// When the city refuses or cannot be reached.
    pub async fn decommission(
        &self,
        idempotency_key: &str,
        body: Bytes,
    ) -> Result<Bytes, CityError> {
        self.post("/gateway/v1/decommission", idempotency_key, body)
            .await
    }

    async fn post(
        &self,
        path: &str,
        idempotency_key: &str,
        body: Bytes,
    ) -> Result<Bytes, CityError> {
        let mut request = self.build(Method::POST, path, body)?;
        let key =
            HeaderValue::from_str(idempotency_key).map_err(|_| self.wrong("idempotency key"))?;
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = self.send(request).await?;
        crate::https::read_limited(
            &self.endpoint.host,
            response.into_body(),
            MAX_ANSWER,
            self.timeouts.idle,
        )
        .await
    }

    fn build(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, CityError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::try_from(path).map_err(|_| self.wrong("path"))?;
        Ok(request)
    }

    fn wrong(&self, what: &'static str) -> CityError {
        CityError::Protocol {
            host: self.endpoint.host.clone(),
            what,
        }
    }

    /// Sends on the kept connection when it is open and of the current identity, else on a new one. When the kept one
    /// turns out to have been closed meanwhile, dials once more: a GET may be repeated, and every POST here carries an
    /// idempotency key.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, CityError> {
        let config = Arc::clone(&self.config.borrow());
        let kept = self.kept.lock().await.take();
        if let Some((of, mut connection)) = kept
            && Arc::ptr_eq(&of, &config)
            && !connection.is_closed()
        {
            match connection.request(request.clone()).await {
                Err(CityError::Broken { .. }) => {}
                result => return self.keep(config, connection, result?).await,
            }
        }
        let mut connection =
            HttpsConnection::connect(&self.endpoint, Arc::clone(&config), self.timeouts).await?;
        let response = connection.request(request).await?;
        self.keep(config, connection, response).await
    }

    async fn keep(
        &self,
        config: Arc<ClientConfig>,
        connection: HttpsConnection,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, CityError> {
        *self.kept.lock().await = Some((config, connection));
        expect_success(&self.endpoint.host, &self.timeouts, response).await
    }
}

/// Percent-encodes everything that is not unreserved (RFC 3986 §2.3), so that an id stays one path segment.
fn segment(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_id_cannot_leave_its_path_segment() {
        assert_eq!(segment("a-1_~.b"), "a-1_~.b");
        assert_eq!(segment("../x?y#z/é"), "..%2Fx%3Fy%23z%2F%C3%A9");
    }
}
