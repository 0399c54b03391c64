//! Nothing passes unseen (第25条, 第27条): every body is collected, taken apart, scanned, and only then passed on.
//!
//! `upload` and `download` are the two steps of a request's life; this file is what both ask: is this body clean? A body
//! that the present database has found clean before costs a hash. What is found is never shown, and only [`Held`] bodies,
//! which are made here, go on.
//!
//! It does not judge event streams and WebSocket messages on their way; they come to [`Inspection::scan_message`] one by one.

mod cache;
mod download;
mod fingerprint;
mod gather;
mod held;
mod kind;
mod message;
pub mod multipart;
mod range;
mod reading;
mod room;
mod stopped;
mod upload;
mod views;
mod waiting;
pub(crate) mod words;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gateway_antivirus::{Kind, Outcome, Scanner, SealedBody};
use gateway_policy::{Area, Check, Effect, Permit, Refusal, Rule};
use tokio::sync::{Notify, watch};

use crate::StartError;
use cache::Clean;
use fingerprint::{Fingerprint, Key};
use gather::{Bounds, Gathered};
use held::{Storage, Whole};
use kind::Kinds;
use reading::Reading;
use room::Rooms;
use views::Inside;

pub(crate) use download::{Expected, download};
pub(crate) use held::Held;
pub(crate) use room::Room;
pub(crate) use stopped::{Cause, Direction, Stopped, Why};
pub(crate) use upload::upload;
pub(crate) use waiting::{Owner, fetch as fetch_waiting, is_waiting_path};

/// A body of text may be as large as this and pass while the scanner is in doubt (compliance §1.5): sent, and received.
const TEXT_SENT: u64 = 64 * 1024;
const TEXT_RECEIVED: u64 = 1024 * 1024;
/// How long a scan may take while the scanner is in doubt anyway.
const BRIEF: Duration = Duration::from_secs(2);
/// How often a silent scanner is asked whether it is back.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Bodies larger than this are taken apart on another thread.
const ASIDE: u64 = 128 * 1024;

/// Bounds of the inspection.
#[derive(Clone, Debug)]
pub struct InspectionLimits {
    /// Bytes of all bodies that are held at one time.
    pub held_bytes: u64,
    /// Bytes of one body that are kept in memory as they came; what is larger goes to a file without a name.
    pub in_memory: u64,
    /// How long a body waits for others to go before it is refused.
    pub room_wait: Duration,
    /// How long a silent scanner is waited for before its one second chance.
    pub scanner_wait: Duration,
    /// Clean bodies that are remembered, some sixty bytes each.
    pub remembered: usize,
    /// How long a person's download may take before a page tells how far it is.
    pub person_waits: Duration,
    /// How long a finished download is kept for the person who waited.
    pub kept: Duration,
    /// Downloads that may be waited for at one time.
    pub waited_for: usize,
}

impl Default for InspectionLimits {
    fn default() -> Self {
        Self {
            held_bytes: 384 * 1024 * 1024,
            in_memory: 2 * 1024 * 1024,
            room_wait: Duration::from_secs(5),
            scanner_wait: Duration::from_secs(5),
            remembered: 64 * 1024,
            person_waits: Duration::from_secs(3),
            kept: Duration::from_secs(300),
            waited_for: 64,
        }
    }
}

/// Looks into every body. Cloned handles share everything.
#[derive(Clone)]
pub struct Inspection(Arc<Inspector>);

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection").finish_non_exhaustive()
    }
}

impl Inspection {
    /// What the scanner found clean is believed until its database may have changed.
    ///
    /// # Errors
    /// [`StartError::Random`].
    pub fn new(scanner: Scanner, limits: InspectionLimits) -> Result<Self, StartError> {
        Ok(Self(Arc::new(Inspector {
            key: Key::new()?,
            clean: Clean::new(limits.remembered),
            rooms: Rooms::new(limits.held_bytes, limits.room_wait),
            waiting: waiting::Downloads::new(limits.waited_for, limits.kept),
            trouble: Arc::default(),
            database: scanner.database_serial(),
            scanner,
            permitted: AtomicU16::new(0),
            limits,
        })))
    }

    /// Lets these kinds of files pass from now on, and no others, as the city's policy says. The scanner's own signatures
    /// for kinds ([`gateway_antivirus::signatures`]) have to be made for the same policy.
    pub fn permit(&self, kinds: &[Kind]) {
        let kinds: Kinds = kinds.iter().copied().collect();
        self.0.permitted.store(kinds.bits(), Ordering::Relaxed);
    }

    /// Told whenever the scanner did not answer, so that whoever watches over it need not wait for the next canary.
    #[must_use]
    pub fn trouble(&self) -> Arc<Notify> {
        Arc::clone(&self.0.trouble)
    }

    pub(crate) fn inspector(&self) -> &Arc<Inspector> {
        &self.0
    }
}

/// What the scanner's state allows for one request, while it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing: without a verdict nothing passes.
    None,
    /// Short texts pass: the scanner has been failing for less than a quarter of an hour, or the public portal is asked for.
    TextPasses,
}

impl Doubt {
    pub(crate) fn of(permit: &Permit) -> Self {
        let verdict = permit.verdict();
        let failing = verdict.rule == Some(Rule::Check(Check::AvAlive));
        match (permit.area(), verdict.effect) {
            // Open to everybody whatever the verdict (第17条).
            (Area::Public, _) => Self::TextPasses,
            (_, Effect::Restrict) if failing => Self::TextPasses,
            _ => Self::None,
        }
    }
}

/// The refusal that a restricting verdict means for a file on its way down, which the gate could not see.
pub(crate) fn files_are_refused(permit: &Permit) -> Option<Refusal> {
    let verdict = permit.verdict();
    let rule = verdict.rule?;
    (permit.area() == Area::Staff && verdict.effect == Effect::Restrict).then_some(Refusal {
        rule,
        article: rule.article(),
        effect: verdict.effect,
        since: verdict.since,
        deadline: verdict.deadline,
    })
}

pub(crate) struct Inspector {
    scanner: Scanner,
    database: watch::Receiver<u64>,
    limits: InspectionLimits,
    /// [`Kinds`] that pass although Article 25 would stop them.
    permitted: AtomicU16,
    key: Key,
    clean: Clean,
    rooms: Rooms,
    waiting: waiting::Downloads,
    trouble: Arc<Notify>,
}

impl Inspector {
    fn bounds(&self) -> Bounds {
        Bounds {
            largest: self.scanner.largest(),
            in_memory: self.limits.in_memory,
        }
    }

    fn room(&self) -> Room {
        self.rooms.none()
    }

    /// The key for bodies that are read in this way.
    fn key(&self, reading: &Reading) -> Key {
        if reading.is_plain() {
            self.key.clone()
        } else {
            self.key.for_reading(&reading.label())
        }
    }

    /// Judges a collected body. `named` is what its name claims it to be.
    async fn judge(
        &self,
        gathered: Gathered,
        reading: &Reading,
        named: Kinds,
        direction: Direction,
        doubt: Doubt,
    ) -> Result<Whole, Stopped> {
        let Gathered { whole, fingerprint } = gathered;
        let database = *self.database.borrow();
        if let Some(kinds) = self.clean.get(fingerprint, database) {
            return self.decide(kinds.and(named), direction).map(|()| whole);
        }
        if whole.length == 0 {
            return Ok(whole);
        }
        // Boxed: what is seldom must not make every request's future larger.
        Box::pin(self.examine(whole, fingerprint, reading, named, direction, doubt)).await
    }

    fn decide(&self, kinds: Kinds, direction: Direction) -> Result<(), Stopped> {
        let permitted = Kinds::from_bits(self.permitted.load(Ordering::Relaxed));
        match kinds.without(permitted).iter().next() {
            None => Ok(()),
            Some(kind) => Err(Stopped::new(direction, Why::Forbidden(kind))),
        }
    }

    /// Judges a body that is not known.
    async fn examine(
        &self,
        whole: Whole,
        fingerprint: Fingerprint,
        reading: &Reading,
        named: Kinds,
        direction: Direction,
        doubt: Doubt,
    ) -> Result<Whole, Stopped> {
        let stop = |why: Why| Stopped::new(direction, why);
        let began = Instant::now();
        let database = *self.database.borrow();
        let lost = |_| stop(Why::NoRoom);
        let start = whole.start(kind::ENOUGH).map_err(lost)?;
        let mut kinds = Kinds::from(kind::of_content(&start));
        let mut room = self.room();
        let inside = if views::is_worth_opening(reading, &start) {
            room.hold(whole.length * 2)
                .await
                .map_err(|_| stop(Why::NoRoom))?;
            self.open(&whole, reading).await.map_err(|why| stop(why))?
        } else {
            Inside::default()
        };
        let whole = seal(whole).map_err(|_| stop(Why::NoRoom))?;
        let text = doubt == Doubt::TextPasses
            && inside.views.is_empty()
            && reading.is_plain()
            && is_short_text(&whole, direction);
        if let Storage::Sealed(sealed) = &whole.storage {
            match self.scan(sealed, text).await {
                Outcome::Clean => {}
                Outcome::Unavailable(_) if text => {
                    tracing::info!(target: "renraku::content", outcome = "text-passes", ?direction, bytes = whole.length, check = "AV-ALIVE", "a text passed while the scanner does not answer");
                    return self.decide(kinds.and(named), direction).map(|()| whole);
                }
                other => return Err(stopped(other, direction)),
            }
        }
        kinds = kinds.and(inside.kinds);
        for view in &inside.views {
            kinds = kinds.and(self.view(view, database, direction).await?);
        }
        self.clean.insert(fingerprint, database, kinds);
        tracing::debug!(
            target: "renraku::content",
            outcome = "clean",
            ?direction,
            bytes = whole.length,
            inside = inside.views.len(),
            micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        );
        self.decide(kinds.and(named), direction).map(|()| whole)
    }

    async fn open(&self, whole: &Whole, reading: &Reading) -> Result<Inside, Why> {
        let body = whole.contiguous().map_err(|_| Why::NoRoom)?;
        let largest = self.scanner.largest();
        if whole.length <= ASIDE {
            return Ok(views::open(body, reading, largest)?);
        }
        let reading = reading.clone();
        let opened = tokio::task::spawn_blocking(move || views::open(body, &reading, largest));
        match opened.await {
            Ok(inside) => Ok(inside?),
            Err(_) => Err(Why::NoRoom),
        }
    }

    /// Judges one body inside another.
    async fn view(
        &self,
        view: &Bytes,
        database: u64,
        direction: Direction,
    ) -> Result<Kinds, Stopped> {
        let fingerprint = self.key.of(view);
        if let Some(kinds) = self.clean.get(fingerprint, database) {
            return Ok(kinds);
        }
        let sealed =
            SealedBody::from_bytes(view).map_err(|_| Stopped::new(direction, Why::NoRoom))?;
        match self.scan(&sealed, false).await {
            Outcome::Clean => {}
            other => return Err(stopped(other, direction)),
        }
        let kinds = Kinds::from(kind::of_content(view));
        // A view in JSON of its own is opened where it is found; as a body it would be opened anew.
        if !views::is_worth_opening(&Reading::default(), view) {
            self.clean.insert(fingerprint, database, kinds);
        }
        Ok(kinds)
    }

    /// Asks the scanner; if it does not answer, waits for it and asks once more. In doubt only briefly.
    async fn scan(&self, body: &SealedBody, in_doubt: bool) -> Outcome {
        if in_doubt {
            let scan = tokio::time::timeout(BRIEF, self.scanner.scan(body)).await;
            return scan.unwrap_or(Outcome::Unavailable(
                gateway_antivirus::Unavailable::TimedOut,
            ));
        }
        let first = self.scanner.scan(body).await;
        if !matches!(first, Outcome::Unavailable(_)) {
            return first;
        }
        self.trouble.notify_one();
        let back = tokio::time::timeout(self.limits.scanner_wait, self.until_it_answers());
        match back.await {
            Ok(()) => self.scanner.scan(body).await,
            Err(_) => first,
        }
    }

    async fn until_it_answers(&self) {
        loop {
            tokio::time::sleep(ASK_AGAIN).await;
            if self.scanner.ping().await.is_ok() {
                return;
            }
        }
    }
}

fn stopped(outcome: Outcome, direction: Direction) -> Stopped {
    match outcome {
        Outcome::Infected(signature) => Stopped::infected(direction, signature),
        Outcome::Forbidden(kind) => Stopped::new(direction, Why::Forbidden(kind)),
        Outcome::Unscannable(why) => Stopped::new(direction, why.into()),
        Outcome::Unavailable(why) => Stopped::new(direction, why.into()),
        // Not reached: whoever asks has taken the clean ones out. Were it, nothing would pass.
        Outcome::Clean => Stopped::new(direction, Why::Unscannable(Cause::Unreadable)),
    }
}

/// Puts a body where the scanner can read it and nobody can change it. What was scanned is then what goes on.
fn seal(whole: Whole) -> Result<Whole, gateway_antivirus::BodyError> {
    let mut body = match &whole.storage {
        Storage::Sealed(_) => return Ok(whole),
        _ => gateway_antivirus::Body::new(whole.length)?,
    };
    match &whole.storage {
        Storage::One(bytes) => body.append(bytes)?,
        Storage::Pieces(pieces) => {
            for piece in pieces {
                body.append(piece)?;
            }
        }
        Storage::Nothing | Storage::Sealed(_) => {}
    }
    Ok(Whole {
        storage: Storage::Sealed(body.seal()?),
        ..whole
    })
}

/// UTF-8 without control characters, and short.
fn is_short_text(whole: &Whole, direction: Direction) -> bool {
    let limit = match direction {
        Direction::Upload => TEXT_SENT,
        Direction::Download => TEXT_RECEIVED,
    };
    whole.length <= limit
        && whole.contiguous().is_ok_and(|body| {
            let control =
                |byte: &u8| *byte < b' ' && !b"\t\n\r\x0c".contains(byte) || *byte == 0x7f;
            !body.iter().any(control) && std::str::from_utf8(&body).is_ok()
        })
}
