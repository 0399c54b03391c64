//! One attachment over the line: asked for by range, received at a bounded pace, sealed as it comes.
//!
//! It keeps one connection for as long as there is something to fetch. It decides nothing about trying again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_city::https::{expect_success, next_piece};
use gateway_city::{CityError, Endpoint, HttpsConnection, Timeouts};
use gateway_notes::{Error, Incoming, Wanted};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::certificates::CityTls;

/// Bytes a second, at most: of a facility's line (50 Mbit/s) a sixth, so that whoever works in the notebook meanwhile
/// does not feel it.
const RATE: u64 = 1 << 20;

/// Why an attachment was not fetched now.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    /// The city, or the line.
    #[error("the city did not hand an attachment over")]
    City(#[from] CityError),
    /// The store, or the disk.
    #[error("an attachment could not be stored")]
    Store(#[from] Error),
    /// The city does not have it.
    #[error("the city does not have the attachment")]
    Absent,
    /// What came is not what the feed announced.
    #[error("the attachment is not what the feed announced")]
    Wrong,
}

/// An answer whose body has not been read.
pub(super) struct Answer {
    body: hyper::body::Incoming,
    /// All of it is coming, whatever was asked for.
    pub(super) from_the_beginning: bool,
}

/// See the module.
pub(super) struct Transfer {
    endpoint: Endpoint,
    tls: watch::Receiver<CityTls>,
    connection: Option<HttpsConnection>,
}

impl Transfer {
    pub(super) const fn new(endpoint: Endpoint, tls: watch::Receiver<CityTls>) -> Self {
        Self {
            endpoint,
            tls,
            connection: None,
        }
    }

    /// Lets the connection go.
    pub(super) fn hang_up(&mut self) {
        self.connection = None;
    }

    async fn connection(&mut self) -> Result<&mut HttpsConnection, CityError> {
        let renewed = self.tls.has_changed().unwrap_or(false);
        let usable = self
            .connection
            .take()
            .filter(|connection| !connection.is_closed() && !renewed);
        let connection = match usable {
            Some(connection) => connection,
            None => {
                let tls = self.tls.borrow_and_update().clone();
                let tls = tls.ok_or(CityError::Protocol {
                    host: self.endpoint.host.clone(),
                    what: "without a certificate to show",
                })?;
                HttpsConnection::connect(&self.endpoint, Arc::clone(&tls), Timeouts::default())
                    .await?
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Asks for what is still missing of an attachment.
    pub(super) async fn ask(
        &mut self,
        wanted: &Wanted,
        have: u64,
    ) -> Result<Answer, TransferError> {
        let mut request = Request::get(format!("/gateway/v1/attachments/{}", segment(&wanted.id)))
            .header(header::ACCEPT_ENCODING, "identity");
        if have > 0 {
            request = request
                .header(header::RANGE, format!("bytes={have}-"))
                .header(header::IF_RANGE, format!("\"{}\"", wanted.sha256));
        }
        let request = request
            .body(Full::new(Bytes::new()))
            .map_err(|_| TransferError::Absent)?;
        let host = self.endpoint.host.clone();
        let response = self.connection().await?.request(request).await;
        let checked = match response {
            Ok(response) => expect_success(&host, &Timeouts::default(), response).await,
            Err(error) => Err(error),
        };
        let response = match checked {
            Ok(response) => response,
            Err(error) => {
                self.hang_up();
                return Err(refused(error));
            }
        };
        // Packed bytes are not the file whose digest the feed announced, nor is one of another size.
        let length = response.headers().get(header::CONTENT_LENGTH);
        let other_size = response.status() == StatusCode::OK
            && length.is_some_and(|length| length.as_bytes() != wanted.size.to_string().as_bytes());
        if other_size || response.headers().contains_key(header::CONTENT_ENCODING) {
            self.hang_up();
            return Err(TransferError::Wrong);
        }
        let from_the_beginning = match response.status() {
            StatusCode::OK => true,
            StatusCode::PARTIAL_CONTENT if have > 0 && continues(&response, have, wanted.size) => {
                false
            }
            _ => {
                self.hang_up();
                return Err(TransferError::City(CityError::Protocol {
                    host,
                    what: "an answer to another range",
                }));
            }
        };
        Ok(Answer {
            body: response.into_body(),
            from_the_beginning,
        })
    }

    /// Receives until the end, not faster than is fair; stops, as if cut, once `stop` says so.
    pub(super) async fn receive(
        &mut self,
        answer: Answer,
        mut incoming: Incoming,
        stop: impl Fn() -> bool,
    ) -> Result<Incoming, TransferError> {
        let mut body = answer.body;
        let (begin, mut received) = (Instant::now(), 0_u64);
        let host = self.endpoint.host.clone();
        loop {
            let piece = match next_piece(&host, &mut body, Timeouts::default().idle).await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(incoming),
                Err(error) => {
                    self.hang_up();
                    return Err(error.into());
                }
            };
            received += piece.len() as u64;
            let written = tokio::task::spawn_blocking(move || {
                let written = incoming.write(&piece);
                (incoming, written)
            });
            let (back, written) = written.await.map_err(|_| Error::Closed)?;
            incoming = back;
            match written {
                Ok(()) => {}
                Err(Error::AttachmentTooLong) => {
                    self.hang_up();
                    return Err(TransferError::Wrong);
                }
                Err(error) => {
                    self.hang_up();
                    return Err(error.into());
                }
            }
            if stop() {
                self.hang_up();
                return Ok(incoming);
            }
            let fair = begin + Duration::from_micros(received.saturating_mul(1_000_000) / RATE);
            tokio::time::sleep_until(fair).await;
        }
    }
}

/// What a refusal means for this attachment.
fn refused(error: CityError) -> TransferError {
    match &error {
        CityError::Refused { status, .. }
            if matches!(*status, StatusCode::NOT_FOUND | StatusCode::GONE) =>
        {
            TransferError::Absent
        }
        // We have more than the city says there is.
        CityError::Refused { status, .. } if *status == StatusCode::RANGE_NOT_SATISFIABLE => {
            TransferError::Wrong
        }
        _ => TransferError::City(error),
    }
}

/// Whether `Content-Range` (RFC 9110 section 14.4) says that the answer goes on where we stopped.
fn continues<B>(response: &Response<B>, have: u64, size: u64) -> bool {
    let last = size.saturating_sub(1);
    response
        .headers()
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|range| range == format!("bytes {have}-{last}/{size}"))
}

/// An id as one path segment (RFC 3986 section 3.3).
fn segment(id: &str) -> String {
    id.bytes().fold(String::new(), |path, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path + &char::from(byte).to_string()
        } else {
            path + &format!("%{byte:02X}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_goes_on_where_we_stopped_is_taken() {
        let answer = |range: &str| {
            Response::builder()
                .header(header::CONTENT_RANGE, range)
                .body(())
                .unwrap()
        };
        assert!(continues(&answer("bytes 10-99/100"), 10, 100));
        for other in [
            "bytes 9-99/100",
            "bytes 10-98/100",
            "bytes 10-99/*",
            "10-99/100",
        ] {
            assert!(!continues(&answer(other), 10, 100), "{other}");
        }
        assert!(!continues(&Response::new(()), 10, 100));
    }

    #[test]
    fn an_id_stays_within_its_segment() {
        assert_eq!(segment("a-1_2.~"), "a-1_2.~");
        assert_eq!(segment("../x y"), "..%2Fx%20y");
    }
}
