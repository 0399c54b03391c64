//! The feed: server-sent events from the event log, resumable, with a heartbeat.
//!
//! Does not decide what a facility may hold; the log has one row per facility that may.

use crate::city::City;
use crate::problem::Problem;
use crate::staff::guard;
use crate::store::events::{self, Event};
use crate::tls::Facts;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Time between two signs of life on a quiet feed.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Events per page read from the log.
const PAGE: u32 = 256;

/// An event id: the log's name and the position in it, of fixed width so that ids also rise as text.
fn event_id(epoch: &str, seq: i64) -> String {
    format!("{epoch}.{seq:016x}")
}

/// The position an id stands for; `None` if it is of another log or not an id.
fn position(epoch: &str, id: &str) -> Option<i64> {
    let (log, seq) = id.split_once('.')?;
    if log != epoch || seq.len() != 16 {
        return None;
    }
    i64::from_str_radix(seq, 16).ok()
}

/// `GET /gateway/v1/feed`.
///
/// # Errors
/// 403 without a certificate in force, 410 for an id that can no longer be resumed from.
pub async fn follow(
    State(city): State<Arc<City>>,
    Extension(facts): Extension<Arc<Facts>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let facility = guard::certificate(&city, &facts).await?.facility.clone();
    let (epoch, horizon, newest) = city
        .store
        .run(|c| Ok((events::epoch(c)?, events::horizon(c)?, events::newest(c)?)))
        .await?;
    let after = match headers.get("last-event-id") {
        None => 0,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|id| position(&epoch, id))
            .filter(|seq| (horizon..=newest).contains(seq))
            .ok_or_else(start_again)?,
    };
    let (sender, receiver) = mpsc::channel(16);
    let feed = Feed {
        city,
        facts,
        facility,
        epoch,
        sender,
    };
    tokio::spawn(feed.run(after));
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver
            .recv()
            .await
            .map(|chunk: Bytes| (Ok::<_, std::convert::Infallible>(chunk), receiver))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

fn start_again() -> Problem {
    Problem::new(
        StatusCode::GONE,
        "feed-gone",
        "この続きからは送れません。",
        "保存したものを消して、はじめから受け取り直してください。",
    )
}

struct Feed {
    city: Arc<City>,
    facts: Arc<Facts>,
    facility: String,
    epoch: String,
    sender: mpsc::Sender<Bytes>,
}

impl Feed {
    /// Sends what is new until the box goes away or loses its right.
    async fn run(self, mut after: i64) {
        let _open = self.city.stats.feed();
        let mut new_events = self.city.store.event_signal();
        let mut access = self.city.store.access_signal();
        let mut never_level = self.city.never_level.subscribe();
        let mut caught_up = false;
        loop {
            new_events.mark_unchanged();
            let Ok(seen) = self.send_after(after).await else {
                return;
            };
            after = seen;
            let held = *never_level.borrow_and_update();
            if !caught_up && !held {
                caught_up = true;
                let line = format!(
                    "id: {}\nevent: caught-up\ndata: {{}}\n\n",
                    event_id(&self.epoch, after)
                );
                if self.sender.send(Bytes::from(line)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = new_events.changed() => if changed.is_err() { return },
                _ = access.changed() => {
                    // What was to be said about it (`facility` suspended) is sent before the feed ends.
                    let last = self.send_after(after).await;
                    if guard::certificate(&self.city, &self.facts).await.is_err() {
                        return;
                    }
                    let Ok(seen) = last else { return };
                    after = seen;
                }
                () = tokio::time::sleep(HEARTBEAT) => {
                    let standing = guard::certificate(&self.city, &self.facts).await;
                    let heartbeat = Bytes::from_static(b": heartbeat\n\n");
                    if standing.is_err() || self.sender.send(heartbeat).await.is_err() {
                        return;
                    }
                }
                Ok(()) = never_level.changed() => {}
                () = self.sender.closed() => return,
            }
        }
    }

    /// Sends all events after a position; returns the position reached.
    async fn send_after(&self, mut after: i64) -> Result<i64, ()> {
        loop {
            let facility = self.facility.clone();
            let page = self
                .city
                .store
                .run(move |c| events::after(c, &facility, after, PAGE))
                .await
                .map_err(drop)?;
            let Some(last) = page.last() else {
                return Ok(after);
            };
            after = last.seq;
            let text = page
                .iter()
                .fold(String::new(), |text, event| self.written(text, event));
            self.sender.send(Bytes::from(text)).await.map_err(drop)?;
        }
    }

    fn written(&self, mut text: String, event: &Event) -> String {
        // JSON from serde has no line breaks, so one data line holds it.
        write!(
            text,
            "id: {}\nevent: {}\ndata: {}\n\n",
            event_id(&self.epoch, event.seq),
            event.kind,
            event.body
        )
        .expect("writing to a String succeeds");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_as_text_and_are_understood_again() {
        assert!(event_id("ab", 9) < event_id("ab", 10));
        assert!(event_id("ab", 255) < event_id("ab", 256));
        assert_eq!(position("ab", &event_id("ab", 77)), Some(77));
    }

    #[test]
    fn an_id_of_another_log_is_not_understood() {
        assert_eq!(position("ab", &event_id("cd", 77)), None);
        assert_eq!(position("ab", "77"), None);
        assert_eq!(position("ab", "ab.-0000000000000001"), None);
    }
}
