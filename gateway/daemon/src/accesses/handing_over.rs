//! Hands over to the city what it asks for of the log of accesses: only ranges that it names, in pieces, from where it stopped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_accesslog::{Handed, hand_over};
use gateway_city::api::GatewayApi;
use gateway_city::backoff::{Backoff, system_random};
use gateway_city::{CityError, Endpoint, Timeouts};
use gateway_policy::Timestamp;
use rustls::ClientConfig;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::Accesses;
use crate::certificates::{Certificates, chain};

/// How often the city is asked without a hint: one may be lost.
const HOURLY: Duration = Duration::from_secs(3600);
/// After a failure, before the city is asked again.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Bytes of lines and records in one piece; as JSON in JSON it becomes less than twice that.
const PIECE: usize = 96 * 1024;

/// Why it could not be handed over.
#[derive(Debug, thiserror::Error)]
enum HandError {
    #[error(transparent)]
    City(#[from] CityError),
    #[error("the city's answer cannot be read")]
    Answer(#[from] serde_json::Error),
    #[error(transparent)]
    Read(#[from] gateway_accesslog::ReadError),
    #[error("cut short")]
    Interrupted,
}

/// What the city asks for.
#[derive(Debug, Deserialize)]
struct Requests {
    requests: Vec<Request>,
}

#[derive(Debug, Clone, Deserialize)]
struct Request {
    request: String,
    from: i64,
    to: i64,
    /// The entry that is due next, when some were handed over before.
    next: Option<u64>,
}

/// What it says of a piece.
#[derive(Debug, Deserialize)]
struct Taken {
    accepted: bool,
    reason: Option<String>,
}

impl Accesses {
    /// Answers the city's requests while the process lives: at start, when it hints, and hourly.
    pub(crate) async fn answer_requests(
        self: Arc<Self>,
        endpoint: Endpoint,
        certificates: Arc<Certificates>,
        wanted: Arc<Notify>,
    ) {
        let mut book = self.book.subscribe();
        let _ = book.wait_for(Option::is_some).await;
        let mut tls = certificates.city_tls();
        let mut random = system_random();
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        let mut told = String::new();
        loop {
            let config = tls.borrow_and_update().clone();
            let pause = match config {
                None => HOURLY,
                Some(config) => match self.answer_all(&endpoint, config).await {
                    Ok(()) => {
                        backoff.reset();
                        told.clear();
                        HOURLY
                    }
                    Err(error) => {
                        let error = chain(&error);
                        if told != error {
                            tracing::warn!(event = "accesses-asked", %error, "the log of accesses could not be handed over; trying on");
                            told = error;
                        }
                        backoff.delay(random(), None)
                    }
                },
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wanted.notified() => {}
                changed = tls.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
            }
        }
    }

    async fn answer_all(
        &self,
        endpoint: &Endpoint,
        config: Arc<ClientConfig>,
    ) -> Result<(), HandError> {
        if self.book().is_none() {
            return Err(HandError::Interrupted);
        }
        let (_configs, watched) = watch::channel(config);
        let api = GatewayApi::new(endpoint.clone(), watched, Timeouts::default());
        let asked: Requests = serde_json::from_slice(&api.access_log_requests().await?)?;
        for request in asked.requests {
            self.answer(&api, request).await?;
        }
        Ok(())
    }

    /// Hands over one range. What the city refuses it is not shown again; people there look into it.
    async fn answer(&self, api: &GatewayApi, request: Request) -> Result<(), HandError> {
        let book = self.book().ok_or(HandError::Interrupted)?;
        let range = (Timestamp(request.from), Timestamp(request.to));
        let mut resume = request.next;
        loop {
            let from = book.clone();
            let reading = tokio::task::spawn_blocking(move || {
                hand_over(from.dir(), from.key(), range, resume, PIECE)
            });
            let handed = reading.await.map_err(|_| HandError::Interrupted)??;
            let next = handed.next;
            let body = piece(&request.request, handed).to_string();
            let key = gateway_audit::Digest::of(&[body.as_bytes()]).to_string()[..32].to_owned();
            let answer = api.post_access_log(&key, Bytes::from(body)).await?;
            let taken: Taken = serde_json::from_slice(&answer)?;
            if !taken.accepted {
                let reason = taken.reason.as_deref().map_or("unknown", known_reason);
                tracing::error!(
                    event = "accesses-refused",
                    reason,
                    "the city does not accept the log of accesses"
                );
                return Ok(());
            }
            resume = next;
            if resume.is_none() {
                tracing::info!(
                    event = "accesses-asked",
                    "the city has the part of the log of accesses that it asked for"
                );
                return Ok(());
            }
        }
    }
}

fn piece(request: &str, handed: Handed) -> serde_json::Value {
    json!({
        "request": request,
        "log": handed.log.unwrap_or(gateway_audit::Id([0; 16])),
        "previous": handed.previous,
        "last": handed.next.is_none(),
        "lines": handed.lines,
    })
}

/// The city's reasons; anything else it might say is not written to the journal.
fn known_reason(reason: &str) -> &'static str {
    ["chain", "record", "order", "different"]
        .into_iter()
        .find(|known| *known == reason)
        .unwrap_or("unknown")
}
