//! The WebSocket of open pages: says that a note was written, not what it says.
//!
//! Nothing the page sends is read but its end; messages are counted.

use super::session::{self, SignedIn};
use crate::city::City;
use crate::problem::Problem;
use crate::store::{access, events, people};
use crate::times;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Time between two pings.
const PING: Duration = Duration::from_secs(20);

/// Close code of RFC 6455 section 7.4.1 for a policy: the session has ended.
const POLICY: u16 = 1008;

/// `GET /staff/live`.
///
/// # Errors
/// When the request is not an upgrade or comes from another site's page.
pub async fn follow(
    State(city): State<Arc<City>>,
    who: SignedIn,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    // A WebSocket is not bound by the same-origin policy, so the Origin has to be compared here.
    session::same_origin(&headers, &uri)?;
    let upgrade = upgrade.map_err(|_| {
        Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade-required",
            "このアドレスは直接開けません。",
            "連絡帳のページを開いてください。",
        )
    })?;
    Ok(upgrade
        .max_message_size(4096)
        .on_upgrade(move |socket| converse(city, who, socket)))
}

async fn converse(city: Arc<City>, who: SignedIn, mut socket: WebSocket) {
    let mut new_events = city.store.event_signal();
    let mut access = city.store.access_signal();
    let mut spoken = city.spoken.subscribe();
    let mut after = *new_events.borrow_and_update();
    let mut ping = tokio::time::interval(PING);
    loop {
        tokio::select! {
            changed = new_events.changed() => {
                if changed.is_err() { return }
                let Ok((news, seen)) = news_after(&city, &who, after).await else { return };
                after = seen;
                for item in news {
                    if socket.send(Message::Text(item.to_string().into())).await.is_err() { return }
                }
            }
            _ = access.changed() => {
                if !may_go_on(&city, &who).await {
                    let frame = CloseFrame { code: POLICY, reason: "session ended".into() };
                    // The page may be gone already.
                    let _ = socket.send(Message::Close(Some(frame))).await;
                    return;
                }
            }
            Ok(words) = spoken.recv() => {
                if socket.send(Message::Text(words.into())).await.is_err() { return }
            }
            _ = ping.tick() => if socket.send(Message::Ping(Vec::new().into())).await.is_err() { return },
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => city.stats.heard(message.into_data().len()),
            },
        }
    }
}

/// The notes written after a position that this user may read.
async fn news_after(
    city: &Arc<City>,
    who: &SignedIn,
    after: i64,
) -> Result<(Vec<Value>, i64), Problem> {
    let (facility, user) = (who.facility.id.clone(), who.user.id.clone());
    let found = city
        .store
        .run(move |c| {
            let page = events::after(c, &facility, after, 256)?;
            let seen = page.last().map_or(after, |event| event.seq);
            let mut news = Vec::new();
            for event in page.iter().filter(|event| event.kind == "note") {
                let note: Value = serde_json::from_str(&event.body).unwrap_or_default();
                let person = note["person"].as_str().unwrap_or_default();
                if people::person(c, &user, person)?.is_some() {
                    news.push(json!({ "event": "note", "id": note["id"], "person": person }));
                }
            }
            Ok((news, seen))
        })
        .await?;
    Ok(found)
}

/// Whether session, user and facility are still in force.
async fn may_go_on(city: &Arc<City>, who: &SignedIn) -> bool {
    let who = who.clone();
    city.store
        .run(move |c| {
            let session = access::session(c, &who.token, times::now())?;
            let user = people::user(c, &who.user.id)?;
            let facility = people::facility(c, &who.facility.id)?;
            Ok(session.is_some()
                && user.is_some_and(|user| !user.suspended)
                && facility.is_some_and(|facility| !facility.suspended))
        })
        .await
        .unwrap_or(false)
}
