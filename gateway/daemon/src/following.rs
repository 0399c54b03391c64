//! Follows the city's feed into the store whenever there is a certificate and a store, and acts on what it says of both.
//!
//! It does not speak the feed's protocol (the city crate does) and decides nothing about notes (the store does).

use std::sync::Arc;
use std::time::Duration;

use gateway_city::backoff::system_random;
use gateway_city::feed::{FeedEvent, FeedSettings, FeedSink, FeedState, Follower, SinkError, Why};
use gateway_city::wire;
use gateway_console::Console;
use gateway_notes::Store;
use gateway_proxy::StaffSessions;
use tokio::sync::{Notify, watch};

use crate::certificates::{Certificates, chain};
use crate::offline::Pins;
use crate::posture::{self, Posture};
use crate::stored_notes::{FeedIntoStore, Forget, StoredNotes};

/// How often old notes are dropped and the facility's standing is confirmed.
const UPKEEP: Duration = Duration::from_secs(600);

/// How often the feed is asked for while the facility is suspended: two handshakes a minute do not burden the city,
/// and care goes on soon after the suspension has ended.
const PROBE: Duration = Duration::from_secs(30);

/// Ceiling of the feed's back-off. With full jitter, half of it is what recovery takes on average.
const FEED_BACKOFF: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Feed {
    /// Whose certificate is shown; told when the city revokes it.
    pub(crate) certificates: Arc<Certificates>,
    /// The store to fill.
    pub(crate) notes: Arc<StoredNotes>,
    /// Sessions at the notebook, ended for a suspended user.
    pub(crate) staff: Arc<StaffSessions>,
    /// Told of suspensions.
    pub(crate) posture: Arc<Posture>,
    /// Sessions on the box's own pages, ended likewise.
    pub(crate) console: Arc<Console>,
    /// Offline PINs: a suspended user's is destroyed.
    pub(crate) pins: Arc<Pins>,
    /// Told when the city hints that something new is signed.
    pub(crate) hints: Arc<Notify>,
    /// Told when the city asks for a part of the log of accesses.
    pub(crate) wanted: Arc<Notify>,
    /// Where the feed stands, for the pages.
    pub(crate) state: watch::Sender<FeedState>,
}

impl Feed {
    /// Follows whenever there is a certificate to show and a store to fill, and stops when one of them goes: with a
    /// certificate that is revoked or has lost its key there is nothing to ask the city.
    pub(crate) async fn run(self, endpoint: gateway_city::Endpoint) {
        let mut tls = self.certificates.city_tls();
        let mut notes = self.notes.changes();
        loop {
            let (Some(first), Some(store)) = (some(&mut tls).await, some(&mut notes).await) else {
                return std::future::pending().await;
            };
            tokio::select! {
                () = self.follow(endpoint.clone(), first, store) => {}
                () = none(tls.clone()) => {}
                _ = notes.changed() => {}
            }
            self.state.send_replace(FeedState::Connecting);
        }
    }

    async fn follow(
        &self,
        endpoint: gateway_city::Endpoint,
        first: Arc<rustls::ClientConfig>,
        store: Store,
    ) {
        // A restart must not end a suspension (第35条) before the city was heard.
        if store.status().await.is_ok_and(|status| status.suspended) {
            self.posture.standing(true);
        }
        let mut tls = self.certificates.city_tls();
        let (config, configs) = watch::channel(first);
        let console = Arc::clone(&self.console);
        let forget = Forget(Box::new(move |user| console.forget(user)));
        let sink = Hinting {
            hints: Arc::clone(&self.hints),
            wanted: Arc::clone(&self.wanted),
            pins: Arc::clone(&self.pins),
            notes: Arc::clone(&self.notes),
            sink: FeedIntoStore::new(
                store.clone(),
                Arc::clone(&self.staff),
                Arc::clone(&self.posture),
                forget,
            ),
        };
        let settings = FeedSettings {
            longest_delay: FEED_BACKOFF,
            probe: PROBE,
            ..FeedSettings::default()
        };
        let (follower, mut state) =
            Follower::new(endpoint, configs, sink, settings, system_random());
        let passing_on = async {
            while tls.changed().await.is_ok() {
                if let Some(next) = tls.borrow_and_update().clone() {
                    config.send_replace(next);
                }
            }
        };
        let acting = async {
            loop {
                let now = state.borrow_and_update().clone();
                let before = self.state.send_replace(now.clone());
                self.act(&before, &now).await;
                if state.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(follower.run(), passing_on, acting, self.keep_up(&store));
    }

    /// What a quiet feed does not do: a connection that stands is the city's word that nothing has changed, and notes
    /// grow too old without any event.
    async fn keep_up(&self, store: &Store) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            if let Err(error) = store.tidy(posture::now().0).await {
                tracing::error!(event = "store", error = %chain(&error), "old notes could not be dropped");
            }
            let level = matches!(*self.state.borrow(), FeedState::CaughtUp { .. });
            if level && let Ok(status) = store.status().await {
                self.posture.standing(status.suspended);
            }
        }
    }

    async fn act(&self, before: &FeedState, now: &FeedState) {
        match now {
            FeedState::Revoked { .. } => self.certificates.revoked().await,
            FeedState::Suspended { .. } => self.posture.standing(true),
            FeedState::CaughtUp { .. } => tracing::info!(event = "feed", "level with the city"),
            FeedState::Disconnected { why, .. } => {
                let same = matches!(before, FeedState::Disconnected { why: old, .. } if old == why);
                if !same {
                    tracing::warn!(event = "feed", ?why, "not connected to the city");
                }
                if *why == Why::OwnKey {
                    self.certificates.check_key(true).await;
                }
            }
            FeedState::Connecting | FeedState::CatchingUp => {}
        }
    }
}

/// Passes hints on to the signed channel, suspensions to the offline PINs, and everything to the store.
struct Hinting {
    hints: Arc<Notify>,
    wanted: Arc<Notify>,
    pins: Arc<Pins>,
    notes: Arc<StoredNotes>,
    sink: FeedIntoStore,
}

impl FeedSink for Hinting {
    async fn apply(&self, event: FeedEvent) -> Result<(), SinkError> {
        self.apply_all(vec![event]).await
    }

    async fn apply_all(&self, events: Vec<FeedEvent>) -> Result<(), SinkError> {
        for event in &events {
            if let wire::Event::Hint(hint) = &event.event {
                match hint.what {
                    wire::HintKind::AccessLog => self.wanted.notify_one(),
                    // What else is hinted at does not matter: everything is looked at together.
                    _ => self.hints.notify_one(),
                }
            }
            if let wire::Event::Staff(staff) = &event.event
                && staff.suspended
            {
                // Before the event is kept, or a crash in between would leave it for ever; it comes again until this is done.
                let (pins, user) = (Arc::clone(&self.pins), staff.id.clone());
                tokio::task::spawn_blocking(move || pins.remove(&user)).await??;
            }
        }
        let count = events.len();
        let done = self.sink.apply_all(events).await;
        self.notes.took(count, &done);
        done
    }

    async fn resume_from(&self) -> Result<Option<String>, SinkError> {
        self.sink.resume_from().await
    }

    async fn start_again(&self) -> Result<(), SinkError> {
        self.sink.start_again().await
    }
}

/// Waits until there is something; `None` when nothing can come any more.
async fn some<T: Clone>(watched: &mut watch::Receiver<Option<T>>) -> Option<T> {
    loop {
        if let Some(value) = watched.borrow_and_update().clone() {
            return Some(value);
        }
        watched.changed().await.ok()?;
    }
}

/// Waits until there is nothing.
async fn none<T>(mut watched: watch::Receiver<Option<T>>) {
    let _ = watched.wait_for(Option::is_none).await;
}
