//! The repository at the city, over the mutual TLS of everything else.
//!
//! It retries nothing: whoever reads knows where to go on. That the city's server is the city's says nothing about the files;
//! they are believed for their signatures alone.

use std::sync::Arc;

use bytes::Bytes;
use gateway_city::https::{HttpsConnection, date, expect_success, next_piece};
use gateway_city::{CityError, Endpoint, Timeouts};
use gateway_policy::Timestamp;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio::sync::{Mutex, watch};

use crate::names::{check_metadata_name, check_target_name};
use crate::transport::{Body, Fetching, Pieces, Transport, TransportError};

/// The repository below `/tuf/` of the gateway API's host.
#[derive(Debug)]
pub struct City {
    endpoint: Endpoint,
    config: watch::Receiver<Option<Arc<ClientConfig>>>,
    timeouts: Timeouts,
    kept: Mutex<Option<HttpsConnection>>,
}

impl City {
    /// A transport that dials on first use, with the newest facility certificate.
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        config: watch::Receiver<Option<Arc<ClientConfig>>>,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            endpoint,
            config,
            timeouts,
            kept: Mutex::new(None),
        }
    }

    /// The time at the city, as its server says it over TLS; see [`crate::agreed_time`] for how far that is believed.
    ///
    /// # Errors
    /// When the city cannot be asked.
    pub async fn time(&self) -> Result<Option<Timestamp>, TransportError> {
        let response = self.ask("/tuf/metadata/timestamp.json", 0).await?;
        Ok(date(&response).map(|date| Timestamp(date.unix_timestamp())))
    }

    async fn body(&self, path: &str, from: u64) -> Result<Option<Body>, TransportError> {
        let response = self.ask(path, from).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let host = &self.endpoint.host;
        let response = expect_success(host, &self.timeouts, response)
            .await
            .map_err(TransportError::City)?;
        let (starts_at, total) = place(&response).ok_or_else(|| {
            TransportError::City(CityError::Protocol {
                host: host.clone(),
                what: "a part without its place",
            })
        })?;
        Ok(Some(Body {
            starts_at,
            total,
            pieces: Box::new(Answer {
                host: host.clone(),
                timeouts: self.timeouts,
                body: response.into_body(),
            }),
        }))
    }

    /// Asks on the kept connection, or on a new one when it has gone meanwhile.
    async fn ask(&self, path: &str, from: u64) -> Result<Response<Incoming>, TransportError> {
        let mut request = Request::get(path)
            .body(Full::new(Bytes::new()))
            .map_err(|_| TransportError::Unsafe(path.to_owned()))?;
        if from > 0
            && let Ok(value) = HeaderValue::from_str(&format!("bytes={from}-"))
        {
            request.headers_mut().insert(RANGE, value);
        }
        let mut kept = self.kept.lock().await;
        if let Some(mut connection) = kept.take_if(|kept| !kept.is_closed())
            && let Ok(response) = connection.request(request.clone()).await
        {
            *kept = Some(connection);
            return Ok(response);
        }
        let config = self
            .config
            .borrow()
            .clone()
            .ok_or(TransportError::NoCertificate)?;
        let mut connection = HttpsConnection::connect(&self.endpoint, config, self.timeouts)
            .await
            .map_err(TransportError::City)?;
        let response = connection
            .request(request)
            .await
            .map_err(TransportError::City)?;
        *kept = Some(connection);
        Ok(response)
    }

    /// Lets the connection go, so that the next refresh dials with the newest certificate.
    pub async fn hang_up(&self) {
        self.kept.lock().await.take();
    }
}

/// The offset that an answer begins at, and the whole length where it is said: a 206 says both in `Content-Range` (RFC 9110 §14.4:
/// `bytes 7-9/10`), a whole answer its length.
pub(crate) fn place(response: &Response<Incoming>) -> Option<(u64, Option<u64>)> {
    let header = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok()
    };
    if response.status() == StatusCode::PARTIAL_CONTENT {
        return header(CONTENT_RANGE).and_then(part);
    }
    let length = header(CONTENT_LENGTH).and_then(|text| text.parse().ok());
    Some((0, length))
}

fn part(content_range: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()))
}

impl Transport for City {
    fn metadata<'a>(&'a self, name: &'a str) -> Fetching<'a, Option<Body>> {
        Box::pin(async move {
            check_metadata_name(name).map_err(|_| TransportError::Unsafe(name.to_owned()))?;
            self.body(&format!("/tuf/metadata/{name}"), 0).await
        })
    }

    fn target<'a>(&'a self, path: &'a str, from: u64) -> Fetching<'a, Option<Body>> {
        Box::pin(async move {
            check_target_name(path).map_err(|_| TransportError::Unsafe(path.to_owned()))?;
            self.body(&format!("/tuf/targets/{path}"), from).await
        })
    }
}

struct Answer {
    host: String,
    timeouts: Timeouts,
    body: Incoming,
}

impl Pieces for Answer {
    fn next(&mut self) -> Fetching<'_, Option<Bytes>> {
        Box::pin(async {
            next_piece(&self.host, &mut self.body, self.timeouts.idle)
                .await
                .map_err(TransportError::City)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_part_is_read() {
        assert_eq!(part("bytes 7-9/10"), Some((7, Some(10))));
        assert_eq!(part("bytes 0-0/*"), Some((0, None)));
        for wrong in ["bytes */10", "7-9/10", "bytes -9/10", ""] {
            assert_eq!(part(wrong), None, "{wrong}");
        }
    }
}
