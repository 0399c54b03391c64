//! Follows the city's feed: connects, resumes where it stopped, and hands every event to a sink.
//!
//! It does not keep events or the resume point: the sink does, together, so that a crash can never separate them.
//! It never skips an event it cannot read, because the next one could be a deletion.

mod gathered;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use rustls::ClientConfig;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::{Backoff, Random};
use crate::https::{HttpsConnection, expect_success, next_piece};
use crate::sse::{Frame, Parser};
use crate::wire::Event;
use crate::{CityError, Endpoint, Timeouts};

use gathered::Gathered;

/// One event with the id that resumes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// Opaque; to be kept in the same transaction as the event's effect. `None`: nothing to resume from here.
    pub id: Option<String>,
    /// What happened.
    pub event: Event,
}

/// Whatever a sink failed with; it is logged, and the event comes again after a back-off.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Where events go.
pub trait FeedSink: Send + Sync {
    /// Applies an event and keeps its id, durably, in one step. Must be idempotent: after a cut the city may repeat it.
    fn apply(&self, event: FeedEvent) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Applies events that came together, in their order, as [`FeedSink::apply`] does each. A sink that keeps them in one
    /// transaction is far faster while it catches up.
    fn apply_all(
        &self,
        events: Vec<FeedEvent>,
    ) -> impl Future<Output = Result<(), SinkError>> + Send {
        async move {
            for event in events {
                self.apply(event).await?;
            }
            Ok(())
        }
    }

    /// The id of the last event applied, to resume after it.
    fn resume_from(&self) -> impl Future<Output = Result<Option<String>, SinkError>> + Send;

    /// The city no longer knows our resume point (410): everything derived from the feed is to be forgotten, as the
    /// deletions in between cannot be learnt any more.
    fn start_again(&self) -> impl Future<Output = Result<(), SinkError>> + Send;
}

impl<S: FeedSink> FeedSink for Arc<S> {
    fn apply(&self, event: FeedEvent) -> impl Future<Output = Result<(), SinkError>> + Send {
        (**self).apply(event)
    }

    fn apply_all(
        &self,
        events: Vec<FeedEvent>,
    ) -> impl Future<Output = Result<(), SinkError>> + Send {
        (**self).apply_all(events)
    }

    fn resume_from(&self) -> impl Future<Output = Result<Option<String>, SinkError>> + Send {
        (**self).resume_from()
    }

    fn start_again(&self) -> impl Future<Output = Result<(), SinkError>> + Send {
        (**self).start_again()
    }
}

/// Why the feed is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// DNS, TCP, a cut, a time limit, or no sign of life.
    Network,
    /// The other side did not prove to be the city.
    Untrusted,
    /// By this box's clock the city's certificate is not valid: the clock is the first suspect.
    Clock,
    /// The city answered with this status.
    Refused(u16),
    /// The city refused the certificate, but not as revoked.
    CertificateRefused,
    /// The box could not do its part, for instance the TPM did not sign.
    OwnKey,
    /// What came could not be understood.
    Protocol,
    /// The sink could not keep an event.
    Sink,
    /// The city closed the stream in good order.
    Closed,
}

/// Where the follower stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedState {
    /// On the way, nothing known yet.
    Connecting,
    /// Connected, receiving what happened meanwhile.
    CatchingUp,
    /// Level with the city.
    CaughtUp {
        /// Since when.
        at: OffsetDateTime,
    },
    /// Not connected; retried with back-off.
    Disconnected {
        /// When it was last connected, or when trying began.
        since: OffsetDateTime,
        /// The last reason.
        why: Why,
    },
    /// The city says that the certificate is revoked. Only a slow probe goes on.
    Revoked {
        /// When this was first said.
        since: OffsetDateTime,
    },
    /// The city says that the facility is suspended (Art. 35). Only a slow probe goes on.
    Suspended {
        /// When this was first said.
        since: OffsetDateTime,
    },
}

/// Times and limits of the follower.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// Connection limits.
    pub timeouts: Timeouts,
    /// No byte for this long means that the connection is dead. The city sends a heartbeat every 20 s.
    pub heartbeat: Duration,
    /// Ceiling of the first back-off.
    pub first_delay: Duration,
    /// Ceiling of every back-off.
    pub longest_delay: Duration,
    /// A connection that lived this long clears earlier failures.
    pub steady_after: Duration,
    /// How often to ask again when revoked or suspended.
    pub probe: Duration,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            heartbeat: Duration::from_secs(45),
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(300),
            steady_after: Duration::from_secs(60),
            probe: Duration::from_secs(15 * 60),
        }
    }
}

/// Follows the feed until dropped.
pub struct Follower<S> {
    endpoint: Endpoint,
    config: watch::Receiver<Arc<ClientConfig>>,
    sink: S,
    settings: FeedSettings,
    random: Random,
    state: watch::Sender<FeedState>,
    since: OffsetDateTime,
}

impl<S> std::fmt::Debug for Follower<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the connection to the city")]
    City(#[from] CityError),
    #[error("an event of the feed could not be understood: {name}")]
    Event { name: String },
    #[error("the feed's framing is broken")]
    Framing(#[from] crate::sse::SseError),
    #[error("the events could not be kept")]
    Sink(#[source] SinkError),
    #[error("the city closed the feed")]
    Closed,
    #[error("the city no longer knows where this box stopped")]
    Gone,
    #[error("the facility certificate changed")]
    NewIdentity,
}

impl<S: FeedSink> Follower<S> {
    /// Makes a follower and the handle its state is watched with. `config` carries the facility certificate; when it
    /// changes (renewal), the follower reconnects with the new one.
    pub fn new(
        endpoint: Endpoint,
        config: watch::Receiver<Arc<ClientConfig>>,
        sink: S,
        settings: FeedSettings,
        random: Random,
    ) -> (Self, watch::Receiver<FeedState>) {
        let (state, watched) = watch::channel(FeedState::Connecting);
        let since = OffsetDateTime::now_utc();
        (
            Self {
                endpoint,
                config,
                sink,
                settings,
                random,
                state,
                since,
            },
            watched,
        )
    }

    /// Follows for ever; drop the future to stop. Cancelling is safe at every point: the sink alone knows how far the
    /// feed was applied.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(self.settings.first_delay, self.settings.longest_delay);
        loop {
            let started = Instant::now();
            let ended = match self.follow_once().await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            if started.elapsed() >= self.settings.steady_after {
                backoff.reset();
            }
            let delay = self.settle(ended, &mut backoff).await;
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                changed = self.config.changed() => {
                    // A new certificate deserves an attempt at once; a dropped sender only means no more changes.
                    if changed.is_err() {
                        tokio::time::sleep(delay).await;
                    }
                }
            }
        }
    }

    /// Publishes the state that follows from `ended` and returns how long to wait.
    async fn settle(&mut self, ended: Ended, backoff: &mut Backoff) -> Duration {
        tracing::info!(reason = %ended, "the feed is not connected");
        let now = OffsetDateTime::now_utc();
        let unit = (self.random)();
        let why = match &ended {
            Ended::NewIdentity => return Duration::ZERO,
            Ended::City(error) if error.is_revoked() => {
                self.publish_refusal(|since| FeedState::Revoked { since }, now);
                return self.settings.probe;
            }
            Ended::City(error) if error.is_suspended() => {
                self.publish_refusal(|since| FeedState::Suspended { since }, now);
                return self
                    .settings
                    .probe
                    .max(error.retry_after().unwrap_or_default());
            }
            Ended::City(error) => why(error),
            Ended::Event { .. } | Ended::Framing(_) => Why::Protocol,
            Ended::Sink(_) => Why::Sink,
            Ended::Closed => Why::Closed,
            Ended::Gone => match self.sink.start_again().await {
                Ok(()) => Why::Refused(StatusCode::GONE.as_u16()),
                Err(_) => Why::Sink,
            },
        };
        self.state.send_replace(FeedState::Disconnected {
            since: self.since,
            why,
        });
        let retry_after = if let Ended::City(error) = &ended {
            error.retry_after()
        } else {
            None
        };
        backoff.delay(unit, retry_after)
    }

    /// Keeps the moment of the first refusal across later probes.
    fn publish_refusal(&self, state: impl Fn(OffsetDateTime) -> FeedState, now: OffsetDateTime) {
        self.state.send_modify(|current| {
            let since = match current {
                FeedState::Revoked { since } | FeedState::Suspended { since } => *since,
                _ => now,
            };
            *current = state(since);
        });
    }

    async fn follow_once(&mut self) -> Result<std::convert::Infallible, Ended> {
        let config = Arc::clone(&self.config.borrow_and_update());
        let mut connection =
            HttpsConnection::connect(&self.endpoint, config, self.settings.timeouts).await?;
        let request = self.request().await?;
        let response = connection.request(request).await?;
        if response.status() == StatusCode::GONE {
            return Err(Ended::Gone);
        }
        let host = self.endpoint.host.clone();
        let response = expect_success(&host, &self.settings.timeouts, response).await?;
        let media_type = response
            .headers()
            .get(CONTENT_TYPE)
            .map_or(&[][..], HeaderValue::as_bytes);
        if !media_type
            .to_ascii_lowercase()
            .starts_with(b"text/event-stream")
        {
            return Err(CityError::Protocol {
                host,
                what: "the feed is no event stream",
            }
            .into());
        }
        self.state.send_replace(FeedState::CatchingUp);
        let mut body = response.into_body();
        let mut parser = Parser::new();
        let mut frames = Vec::new();
        let mut config = self.config.clone();
        let mut config_may_change = true;
        let mut gathered = Gathered::default();
        let mut taking = None;
        let ended = loop {
            tokio::select! {
                taken = in_flight(&mut taking) => taken?,
                piece = next_piece(&host, &mut body, self.settings.heartbeat), if !gathered.is_full() => match piece {
                    Ok(Some(piece)) => {
                        self.since = OffsetDateTime::now_utc();
                        let parsed = parser.push(&piece, &mut frames);
                        let (events, readable) = decode(frames.drain(..));
                        gathered.add(events, piece.len(), Instant::now());
                        if let Err(ended) = readable.and(parsed.map_err(Ended::from)) {
                            break ended;
                        }
                    }
                    Ok(None) => break Ended::Closed,
                    Err(error) => break error.into(),
                },
                changed = config.changed(), if config_may_change => {
                    if changed.is_ok() {
                        break Ended::NewIdentity;
                    }
                    config_may_change = false;
                }
                () = tokio::time::sleep_until(gathered.due()), if taking.is_none() && !gathered.is_empty() => {}
            }
            if taking.is_none() && gathered.is_due(Instant::now()) {
                taking = Some(Box::pin(take(&self.sink, &self.state, gathered.take())));
            }
        };
        // What came before the end is as good as ever.
        if let Some(taking) = taking {
            taking.await?;
        }
        take(&self.sink, &self.state, gathered.take()).await?;
        Err(ended)
    }

    async fn request(&self) -> Result<Request<Full<bytes::Bytes>>, Ended> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = http::Uri::from_static("/gateway/v1/feed");
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        request
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(id) = self.sink.resume_from().await.map_err(Ended::Sink)? {
            let id = HeaderValue::from_str(&id).map_err(|_| Ended::Event {
                name: "id".to_owned(),
            })?;
            request.headers_mut().insert("last-event-id", id);
        }
        Ok(request)
    }
}

async fn take<S: FeedSink>(
    sink: &S,
    state: &watch::Sender<FeedState>,
    events: Vec<FeedEvent>,
) -> Result<(), Ended> {
    if events.is_empty() {
        return Ok(());
    }
    let caught_up = events.iter().any(|event| event.event == Event::CaughtUp);
    sink.apply_all(events).await.map_err(Ended::Sink)?;
    if caught_up {
        state.send_replace(FeedState::CaughtUp {
            at: OffsetDateTime::now_utc(),
        });
    }
    Ok(())
}

/// Waits for what the sink is taking, for ever when that is nothing.
async fn in_flight<F: Future<Output = Result<(), Ended>>>(
    taking: &mut Option<Pin<Box<F>>>,
) -> Result<(), Ended> {
    let Some(running) = taking else {
        return std::future::pending().await;
    };
    let done = running.as_mut().await;
    *taking = None;
    done
}

/// The events of these frames up to the first that cannot be understood, which is never skipped.
fn decode(frames: impl Iterator<Item = Frame>) -> (Vec<FeedEvent>, Result<(), Ended>) {
    let mut events = Vec::new();
    for frame in frames {
        let Frame::Event { name, data, id } = frame else {
            continue;
        };
        if id
            .as_deref()
            .is_some_and(|id| id.len() > 256 || HeaderValue::from_str(id).is_err())
        {
            return (events, Err(Ended::Event { name }));
        }
        // serde's message may quote the data, which is personal: only the name goes further.
        match Event::decode(&name, &data) {
            Ok(event) => events.push(FeedEvent { id, event }),
            Err(_) => return (events, Err(Ended::Event { name })),
        }
    }
    (events, Ok(()))
}

const fn why(error: &CityError) -> Why {
    match error {
        CityError::Dns { .. }
        | CityError::Connect { .. }
        | CityError::Broken { .. }
        | CityError::Timeout { .. } => Why::Network,
        CityError::Untrusted { .. } => Why::Untrusted,
        CityError::NotValidYet { .. } | CityError::Expired { .. } => Why::Clock,
        CityError::Refused { status, .. } => Why::Refused(status.as_u16()),
        CityError::Revoked { .. } | CityError::CertificateRefused { .. } => Why::CertificateRefused,
        CityError::Handshake { .. } => Why::OwnKey,
        CityError::TooLarge { .. } | CityError::Protocol { .. } => Why::Protocol,
    }
}
