//! Compares the box's clock with the city's (check CLOCK), and tells the city's time to whoever keeps the floor below which
//! no clock is believed.
//!
//! It does not set the clock. The floor is kept by [`Offline`], sealed to the TPM, and goes on with the TPM's own clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_city::{Endpoint, HttpsConnection, Timeouts, https};
use gateway_policy::{Observation, Subject, Timestamp};
use gateway_posture::TimeFloor;
use http::Request;
use http_body_util::Full;
use rustls::ClientConfig;

use crate::offline::Offline;
use crate::posture::{self, Posture};
use crate::steps::Steps;

/// How often the clock is compared; the gate lets it run free for a day.
const INTERVAL: Duration = Duration::from_secs(6 * 3600);
const RETRY: Duration = Duration::from_secs(15);

/// Compares on and on, over TLS with the city's trust anchor, once it is known below which time no clock is believed.
pub(crate) async fn compare(
    offline: Arc<Offline>,
    est: Endpoint,
    config: Arc<ClientConfig>,
    posture: Arc<Posture>,
    mut steps: Steps,
) {
    offline.taken_up().await;
    loop {
        let theirs = city_time(&est, Arc::clone(&config)).await;
        let mut floor = TimeFloor::kept(offline.floor());
        let observed = match theirs {
            Some(theirs) => {
                // Signed by nobody, but told over a channel that only the city can answer on.
                let observed = floor.compare(posture::now(), theirs);
                offline.city_time(theirs).await;
                Some(observed)
            }
            // Without the city only a clock behind the floor is known to be wrong.
            None => floor.look(posture::now()),
        };
        let agrees = observed.is_some_and(|observed| observed.observation == Observation::Pass);
        if let Some(observed) = observed {
            if !agrees {
                tracing::error!(
                    event = "posture",
                    check = "CLOCK",
                    floor = floor.floor().0,
                    "the clock is wrong"
                );
            }
            posture.observe(Subject::Box, observed);
        }
        steps.sleep(if agrees { INTERVAL } else { RETRY }).await;
    }
}

async fn city_time(est: &Endpoint, config: Arc<ClientConfig>) -> Option<Timestamp> {
    let mut connection = HttpsConnection::connect(est, config, Timeouts::default())
        .await
        .ok()?;
    let request = Request::get("/.well-known/est/cacerts")
        .body(Full::new(Bytes::new()))
        .ok()?;
    let response = connection.fetch(request, 64 * 1024).await.ok()?;
    https::date(&response).map(|date| Timestamp(date.unix_timestamp()))
}
