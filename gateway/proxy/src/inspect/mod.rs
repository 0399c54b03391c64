//! Nothing passes unseen (第25条, 第27条): every body is collected, taken apart, scanned, and only then passed on.
//!
//! `upload` and `download` are the two steps of a request's life; this file is what both ask: is this body clean? A body
//! that the present database has found clean before costs a hash. What is found is never shown, and only `Held` bodies,
//! which are made here, go on.
//!
//! It does not judge event streams and WebSocket messages on their way; they come to `Inspector::message` one by one.

mod cache;
mod download;
mod fingerprint;
mod gather;
mod held;
mod judge;
mod kind;
mod message;
pub mod multipart;
mod range;
mod reading;
mod room;
mod stopped;
mod stored;
mod together;
mod upload;
mod views;
mod waiting;
pub(crate) mod words;

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use gateway_antivirus::Scanner;
use gateway_policy::{Area, DeviceId, Effect, Permit, Refusal, Snapshot, Timestamp, Verdict};
use tokio::sync::{Notify, watch};

use crate::StartError;
use cache::Clean;
use fingerprint::Key;
use gather::Bounds;
use held::{Storage, Whole};
use reading::Reading;
use room::Rooms;

pub(crate) use download::{Expected, download};
pub(crate) use held::Held;
pub(crate) use room::Room;
pub(crate) use stopped::{Cause, Direction, Stopped, Why};
pub use stopped::{StopReason, StoppedBody, Witness};
pub use stored::judge_stored;
pub(crate) use upload::upload;
pub(crate) use waiting::{Owner, fetch as fetch_waiting, is_waiting_path};

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

/// The time.
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

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
            scans: together::Scans::default(),
            rooms: Rooms::new(limits.held_bytes, limits.room_wait),
            waiting: waiting::Downloads::new(limits.waited_for, limits.kept),
            trouble: Arc::default(),
            database: scanner.database_serial(),
            scanner,
            evidence: OnceLock::new(),
            witness: OnceLock::new(),
            silent: AtomicBool::new(false),
            limits,
        })))
    }

    /// Told whenever the scanner did not answer, so that whoever watches over it need not wait for the next canary.
    #[must_use]
    pub fn trouble(&self) -> Arc<Notify> {
        Arc::clone(&self.0.trouble)
    }

    /// Has every body that is stopped told to `witness`, which must not block. Once; a second witness is not taken.
    pub fn witnessed_by(&self, witness: Witness) {
        let _ = self.0.witness.set(witness);
    }

    /// A body was stopped, on a connection of this device.
    pub(crate) fn stopped(&self, stopped: &Stopped, device: Option<DeviceId>) {
        if let Some(witness) = self.0.witness.get() {
            witness(&stopped.told(device));
        }
    }

    /// From where the policy and the scanner's last proof are read.
    pub(crate) fn attach(&self, snapshot: Arc<ArcSwap<Snapshot>>, clock: Clock) {
        let _ = self.0.evidence.set((snapshot, clock));
    }

    pub(crate) fn inspector(&self) -> &Arc<Inspector> {
        &self.0
    }
}

/// What a body was let through for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    area: Area,
    verdict: Verdict,
}

impl Terms {
    pub(crate) const fn of(permit: &Permit) -> Self {
        Self {
            area: permit.area(),
            verdict: permit.verdict(),
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
    evidence: OnceLock<(Arc<ArcSwap<Snapshot>>, Clock)>,
    witness: OnceLock<Witness>,
    /// The scanner did not answer when it was last asked.
    silent: AtomicBool,
    key: Key,
    clean: Clean,
    scans: together::Scans,
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
}
