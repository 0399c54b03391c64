//! Compares the box's clock with the city's, and keeps the latest moment that the city has vouched for (check CLOCK).
//!
//! It does not set the clock. The floor is a file; a part that seals it to the TPM is still to come.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_city::{Endpoint, HttpsConnection, Timeouts, https};
use gateway_policy::{Observation, Subject, Timestamp};
use gateway_posture::TimeFloor;
use gateway_provisioning::durable;
use http::Request;
use http_body_util::Full;
use rustls::ClientConfig;

use crate::posture::{self, Posture};
use crate::steps::Steps;

/// How often the clock is compared; the gate lets it run free for a day.
const INTERVAL: Duration = Duration::from_secs(6 * 3600);
const RETRY: Duration = Duration::from_secs(15);

/// The floor's file in the state directory: seconds since 1970, as text.
const NAME: &str = "time-floor";

/// Compares on and on, over TLS with the city's trust anchor.
pub(crate) async fn compare(
    state_dir: PathBuf,
    est: Endpoint,
    config: Arc<ClientConfig>,
    posture: Arc<Posture>,
    mut steps: Steps,
) {
    let mut floor = read(&state_dir);
    loop {
        let observed = match city_time(&est, Arc::clone(&config)).await {
            Some(theirs) => {
                let before = floor.floor();
                let observed = floor.compare(posture::now(), theirs);
                if floor.floor() > before {
                    keep(&state_dir, &floor);
                }
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

/// A floor that cannot be read is none: it only ever tightens what the comparison with the city says.
fn read(state_dir: &Path) -> TimeFloor {
    let kept = durable::read(&state_dir.join(NAME)).ok().flatten();
    let seconds = kept
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.trim().parse().ok());
    TimeFloor::kept(Timestamp(seconds.unwrap_or(0)))
}

fn keep(state_dir: &Path, floor: &TimeFloor) {
    let text = format!("{}\n", floor.floor().0);
    if let Err(error) = durable::write(&state_dir.join(NAME), text.as_bytes()) {
        tracing::warn!(event = "posture", check = "CLOCK", %error, "the time floor is not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_outlives_a_restart_and_a_damaged_file_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(read(directory.path()).floor(), Timestamp(0));
        keep(directory.path(), &TimeFloor::kept(Timestamp(1_800_000_000)));
        assert_eq!(read(directory.path()).floor(), Timestamp(1_800_000_000));
        std::fs::write(directory.path().join(NAME), "\u{0}1e9").expect("written");
        assert_eq!(read(directory.path()).floor(), Timestamp(0));
    }
}
