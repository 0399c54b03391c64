//! Fetches the attachments that the store wants, newest first, has them looked into, and says how far it has got.
//!
//! One at a time and slowly, so that relaying never feels it; only while the notes are level with the city, the scanner
//! is fine and the disk has room. What is wanted, and what becomes of a file, the store decides; whether it is clean, the
//! scanner and the policy for content say (docs/decisions/0017).

mod again;
mod transfer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use gateway_antivirus::{Body, Outcome, Scanner};
use gateway_audit::Content;
use gateway_city::backoff::{Backoff, Random, system_random};
use gateway_city::feed::FeedState;
use gateway_city::{CityError, Endpoint};
use gateway_notes::{Error, Judgement, Refusal, Store, Unjudged, Wanted};
use gateway_policy::content::ContentRefusal;
use gateway_policy::{Check, Effect, Gate};
use gateway_proxy::judge_stored;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::audit::Audit;
use crate::certificates::{Certificates, chain};
use crate::posture::{self, Posture};
use crate::stored_notes::StoredNotes;
use again::Again;
use transfer::{Transfer, TransferError};

/// Attachments that are looked at when one is to be chosen: as many may have failed and wait their turn.
const CHOICE: usize = 32;
/// How often it is looked whether something stands in the way.
const LOOK: Duration = Duration::from_secs(5);
/// How long nothing is done when nothing is wanted and nothing new is heard.
const IDLE: Duration = Duration::from_secs(60);
/// Ceiling of the first wait after a failure, and of every one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Room on the disk that attachments leave free for everything else the box writes.
const KEPT_FREE: u64 = 64 << 20;

/// Why nothing is fetched now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hindrance {
    /// The notes are not level with the city.
    Offline,
    /// Nothing could be looked into: the scanner is not fine, or nobody knows.
    Scanner,
    /// The disk has too little room.
    Disk,
    /// There is no store.
    Store,
}

impl Hindrance {
    /// For programs and the journal.
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Scanner => "scanner",
            Self::Disk => "disk",
            Self::Store => "no-store",
        }
    }
}

/// See the module.
pub(crate) struct Attachments {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) notes: Arc<StoredNotes>,
    pub(crate) posture: Arc<Posture>,
    pub(crate) feed: watch::Receiver<FeedState>,
    pub(crate) endpoint: Endpoint,
    pub(crate) scanner: Scanner,
    /// Told when the scanner does not answer.
    pub(crate) trouble: Arc<Notify>,
    pub(crate) state_dir: PathBuf,
    /// Told why nothing is fetched, if something is in the way.
    pub(crate) hindered: watch::Sender<Option<Hindrance>>,
    /// The database that the scanner has, by name.
    pub(crate) loaded: watch::Receiver<Option<String>>,
    /// Where it is written what was found in a file.
    pub(crate) audit: Arc<Audit>,
}

/// What the scanner found in a file.
struct Found {
    digest: [u8; 32],
    signature: String,
}

/// What one round did.
enum Did {
    Something,
    Nothing,
    /// It failed; nothing for so long.
    Wait(Duration),
}

/// When what failed may be tried again.
struct Patience {
    all: Backoff,
    each: HashMap<String, (Backoff, Instant)>,
    random: Random,
}

impl Patience {
    fn new() -> Self {
        Self {
            all: Backoff::new(FIRST_RETRY, LAST_RETRY),
            each: HashMap::new(),
            random: system_random(),
        }
    }

    fn is_due(&self, id: &str) -> bool {
        self.each
            .get(id)
            .is_none_or(|(_, at)| *at <= Instant::now())
    }

    fn failed(&mut self, id: &str) {
        let unit = (self.random)();
        let now = Instant::now();
        let (backoff, at) = self
            .each
            .entry(id.to_owned())
            .or_insert_with(|| (Backoff::new(FIRST_RETRY, LAST_RETRY), now));
        *at = now + backoff.delay(unit, None);
    }

    fn worked(&mut self, id: &str) {
        self.each.remove(id);
        self.all.reset();
    }

    /// When the first of those that failed is due.
    fn next(&self) -> Duration {
        let now = Instant::now();
        self.each
            .values()
            .map(|(_, at)| at.saturating_duration_since(now))
            .min()
            .unwrap_or(IDLE)
            .min(IDLE)
    }
}

impl Attachments {
    /// Fetches until the process ends.
    pub(crate) async fn run(self) {
        let mut patience = Patience::new();
        let mut transfer = Transfer::new(self.endpoint.clone(), self.certificates.city_tls());
        let news = self.notes.heard();
        let mut told = None;
        let mut loaded = self.loaded.clone();
        let mut again = Again::new();
        loop {
            let hindrance = self.hindrance();
            if told != hindrance {
                match hindrance {
                    Some(why @ (Hindrance::Scanner | Hindrance::Disk)) => {
                        tracing::warn!(
                            event = "attachments",
                            why = why.id(),
                            "no attachments are fetched for now"
                        );
                    }
                    _ => tracing::debug!(event = "attachments", ?hindrance, "fetching attachments"),
                }
                told = hindrance;
            }
            let heard = news.notified();
            let Some(store) = self.notes.store() else {
                self.hindered.send_replace(Some(Hindrance::Store));
                tokio::time::sleep(LOOK).await;
                continue;
            };
            self.hindered.send_replace(hindrance);
            if hindrance.is_some() {
                transfer.hang_up();
                let pause = self.look_again(&store, &mut again).await;
                tokio::time::sleep(pause.min(LOOK)).await;
                continue;
            }
            let did = self.round(&store, &mut transfer, &mut patience).await;
            match did {
                Did::Something => {}
                Did::Wait(pause) => tokio::time::sleep(pause).await,
                Did::Nothing => {
                    transfer.hang_up();
                    let pause = self.look_again(&store, &mut again).await;
                    tokio::select! {
                        () = heard => {}
                        () = tokio::time::sleep(patience.next().min(pause)) => {}
                        Ok(()) = loaded.changed() => {}
                    }
                }
            }
        }
    }

    /// What stands in the way. Unknown is not fine.
    fn hindrance(&self) -> Option<Hindrance> {
        if !matches!(*self.feed.borrow(), FeedState::CaughtUp { .. }) {
            return Some(Hindrance::Offline);
        }
        if !self.scanner_is_fine() {
            return Some(Hindrance::Scanner);
        }
        if !has_room(&self.state_dir, KEPT_FREE) {
            return Some(Hindrance::Disk);
        }
        // Whatever was full, it is not now.
        self.notes.well();
        None
    }

    fn scanner_is_fine(&self) -> bool {
        let now = posture::now();
        let snapshot = self.posture.snapshot();
        let alive = snapshot.own(Check::AvAlive);
        alive.is_some_and(|entry| entry.effect(now) == Effect::Allow)
    }

    /// Looks into what is complete; then fetches one.
    async fn round(&self, store: &Store, transfer: &mut Transfer, patience: &mut Patience) -> Did {
        let done = match self.look_into(store).await {
            Ok(false) => self.fetch_one(store, transfer, patience).await,
            Ok(true) => Ok(Did::Something),
            Err(error) => Err(error),
        };
        done.unwrap_or_else(|error| {
            self.notes.saw(&error);
            tracing::warn!(event = "attachments", error = %chain(&error), "an attachment could not be kept; trying on");
            let unit = (patience.random)();
            Did::Wait(LOOK + patience.all.delay(unit, None))
        })
    }

    /// Whether there was anything to look into and something came of it.
    async fn look_into(&self, store: &Store) -> Result<bool, Error> {
        self.name_database(store).await?;
        let mut judged = false;
        for unjudged in store.unjudged_attachments(1).await? {
            let attempt = unjudged.attempt;
            match self.judge(unjudged).await {
                Some((judgement, found)) => {
                    if let Some(Found { digest, signature }) = found {
                        self.audit
                            .erases(Content::Infected, digest, &signature)
                            .await;
                    }
                    judged |= store.judge_attachment(attempt, judgement).await?;
                }
                // The scanner did not answer. The hindrance will say so, or it was a moment's.
                None => {
                    self.trouble.notify_one();
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        Ok(judged)
    }

    /// With what was found, if anything was. `None` when it cannot be said now.
    async fn judge(&self, unjudged: Unjudged) -> Option<(Judgement, Option<Found>)> {
        let largest = self.scanner.largest();
        let read = tokio::task::spawn_blocking(move || {
            let mut body = Body::new(largest).ok()?;
            let mut digest = Context::new(&SHA256);
            let mut held = Ok(());
            let whole = unjudged.read(|bytes| {
                digest.update(bytes);
                if held.is_ok() {
                    held = body.append(bytes);
                }
            });
            let digest = digest.finish();
            Some((unjudged, whole, held, body, digest))
        });
        let (unjudged, whole, held, body, digest) = read.await.ok()??;
        match whole {
            Ok(()) => {}
            Err(Error::AttachmentLost) => return Some((Judgement::Lost, None)),
            Err(_) => return None,
        }
        let digest: [u8; 32] = digest.as_ref().try_into().ok()?;
        if !is_digest(&unjudged.sha256, &digest) {
            tracing::warn!(
                event = "attachments",
                "the city sent an attachment that is not what its feed announced"
            );
            return Some((Judgement::Wrong, None));
        }
        match held {
            Ok(()) => {}
            Err(gateway_antivirus::BodyError::TooLarge { .. }) => {
                return Some((Judgement::Refused(Refusal::Unscannable), None));
            }
            Err(_) => return None,
        }
        let file = body.seal().ok()?;
        let outcome = self.scanner.scan(&file).await;
        let now = posture::now();
        let snapshot = self.posture.snapshot();
        let verdict = Gate::new().box_verdict(&snapshot, now);
        let judged = judge_stored(
            &file,
            &outcome,
            (&unjudged.extension, &digest),
            (snapshot.policy(), &verdict),
            now,
        );
        let refusal = match judged {
            Ok(()) => return Some((Judgement::Readable, None)),
            Err(ContentRefusal::Unavailable) => return None,
            Err(refusal) => refusal,
        };
        tracing::warn!(
            target: "renraku::content", outcome = refusal.id(), article = refusal.article(), bytes = file.len(),
            "an attachment of a stored note is refused and erased",
        );
        let found = match outcome {
            Outcome::Infected(signature) => Some(Found { digest, signature }),
            _ => None,
        };
        let refused = match refusal {
            ContentRefusal::Infected => Refusal::Infected,
            ContentRefusal::Kind(_) => Refusal::Kind,
            ContentRefusal::Unscannable | ContentRefusal::Unavailable => Refusal::Unscannable,
        };
        Some((Judgement::Refused(refused), found))
    }

    async fn fetch_one(
        &self,
        store: &Store,
        transfer: &mut Transfer,
        patience: &mut Patience,
    ) -> Result<Did, Error> {
        let wanted = store.wanted_attachments(posture::now().0, CHOICE).await?;
        let Some(wanted) = wanted
            .into_iter()
            .find(|wanted| patience.is_due(&wanted.id))
        else {
            return Ok(Did::Nothing);
        };
        if !has_room(&self.state_dir, KEPT_FREE.saturating_add(wanted.size)) {
            // It alone would be too much; smaller ones may follow.
            patience.failed(&wanted.id);
            return Ok(Did::Something);
        }
        let id = &wanted.id;
        match self.take(store, transfer, &wanted).await {
            Ok(()) => patience.worked(id),
            Err(TransferError::Store(error)) => return Err(error),
            Err(TransferError::Absent) => patience.worked(id),
            Err(TransferError::Wrong) => patience.failed(id),
            Err(TransferError::City(error)) => {
                tracing::debug!(event = "attachments", error = %chain(&error), "an attachment was not fetched; trying on");
                patience.failed(id);
                if ends_all(&error) {
                    let unit = (patience.random)();
                    return Ok(Did::Wait(patience.all.delay(unit, error.retry_after())));
                }
            }
        }
        Ok(Did::Something)
    }

    /// Fetches one, or the rest of one, and has the store know what came of it.
    async fn take(
        &self,
        store: &Store,
        transfer: &mut Transfer,
        wanted: &Wanted,
    ) -> Result<(), TransferError> {
        let now = posture::now().0;
        let Some((mut attempt, mut incoming)) = store.begin_attachment(wanted.attempt, now).await?
        else {
            return Ok(());
        };
        let answer = match transfer.ask(wanted, incoming.have()).await {
            Ok(answer) => answer,
            Err(error) => return Err(give_up(store, attempt, error).await),
        };
        if answer.from_the_beginning && incoming.have() > 0 {
            drop(incoming);
            let Some(again) = store.restart_attachment(attempt, now).await? else {
                return Ok(());
            };
            (attempt, incoming) = again;
        }
        let received = transfer
            .receive(answer, incoming, || self.hindrance().is_some())
            .await;
        let whole = match received {
            Ok(whole) => whole,
            Err(error) => return Err(give_up(store, attempt, error).await),
        };
        let finished = tokio::task::spawn_blocking(move || whole.finish());
        if finished.await.map_err(|_| Error::Closed)?? {
            store.attachment_fetched(attempt).await?;
            Ok(())
        } else {
            Err(TransferError::City(CityError::Protocol {
                host: self.endpoint.host.clone(),
                what: "an attachment ended early",
            }))
        }
    }
}

/// Has the store know of what will not be put right by asking again.
async fn give_up(
    store: &Store,
    attempt: gateway_notes::Attempt,
    error: TransferError,
) -> TransferError {
    let known = match &error {
        TransferError::Absent => {
            tracing::info!(
                event = "attachments",
                "the city does not have an attachment any more"
            );
            store.refuse_attachment(attempt, Refusal::Absent).await
        }
        TransferError::Wrong => store.judge_attachment(attempt, Judgement::Wrong).await,
        TransferError::City(_) | TransferError::Store(_) => Ok(true),
    };
    known.map_or_else(TransferError::Store, |_| error)
}

/// Failures that the next attachment would meet too.
fn ends_all(error: &CityError) -> bool {
    match error {
        CityError::Broken { .. }
        | CityError::Protocol { .. }
        | CityError::Timeout {
            what: "send on", ..
        } => false,
        CityError::Refused { status, .. } => {
            *status == http::StatusCode::FORBIDDEN
                || *status == http::StatusCode::TOO_MANY_REQUESTS
                || *status == http::StatusCode::SERVICE_UNAVAILABLE
        }
        _ => true,
    }
}

fn is_digest(hex: &str, digest: &[u8; 32]) -> bool {
    let shown = digest.iter().fold(String::with_capacity(64), |text, byte| {
        text + &format!("{byte:02x}")
    });
    hex.eq_ignore_ascii_case(&shown)
}

/// Whether more than `bytes` are free on the disk that holds `path`. One that does not say has.
fn has_room(path: &std::path::Path, bytes: u64) -> bool {
    nix::sys::statvfs::statvfs(path).map_or(true, |disk| {
        disk.blocks_available().saturating_mul(disk.fragment_size()) > bytes
    })
}
