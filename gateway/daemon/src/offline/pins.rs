//! Offline PINs: kept as hashes that only this box's TPM can compute, with a count of wrong ones that neither a power cut nor
//! an older copy of the file takes back.
//!
//! It does not know who may read what, which devices are registered, or whether the city is there; whoever asks does.

mod file;
mod hash;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use gateway_audit::{Event, Id, PinChange};
use gateway_policy::offline::{PIN_FAILURES, Pin};
use gateway_policy::{DeviceId, Timestamp};
use gateway_tpm::{CounterVault, KeyVault, PepperVault, VaultError};
use serde::{Deserialize, Serialize};

use crate::audit::loosening::{self, NotWrittenDown};
use crate::posture::Posture;
use file::PinFile;
use hash::{SALT, Tag};

/// Attempts from one device in [`WINDOW`]; also what keeps the TPM's counter from wearing out.
const ATTEMPTS: usize = 10;
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// More than a facility has staff.
const MOST: usize = 1000;

/// What PINs need of the TPM.
pub(crate) trait PinVault: KeyVault + PepperVault + CounterVault {}
impl<T: KeyVault + PepperVault + CounterVault> PinVault for T {}

/// Why nothing could be decided or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The disk.
    #[error("the offline PINs cannot be read or kept")]
    Disk(#[from] std::io::Error),
    /// The TPM.
    #[error("the TPM does not answer for the offline PINs")]
    Vault(#[from] VaultError),
    /// No randomness, or no memory for hashing.
    #[error("the system has no randomness or memory")]
    System,
    /// More PINs than a facility has staff.
    #[error("there are too many offline PINs")]
    TooMany,
    /// The audit log.
    #[error("what would let somebody in is not done")]
    NotWrittenDown(#[from] NotWrittenDown),
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The PIN is this user's.
    Right,
    /// There is no such user, no PIN, a locked PIN, or another one. All alike, in work as well.
    Refused,
    /// Too many attempts from this device; nothing was compared.
    TooMany,
}

/// How a user's own PIN stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PinStanding {
    /// When it was set.
    pub(crate) since: Timestamp,
    /// It was typed wrong too often.
    pub(crate) locked: bool,
    /// What the audit log calls its owner.
    pub(crate) pseudonym: Id,
}

/// What is kept, as a whole.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// What the TPM's counter says when this is in force.
    version: u64,
    /// Attempts that were nobody's: counted, so that they cost what others cost.
    strangers: u64,
    pins: BTreeMap<String, Record>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    salt: [u8; SALT],
    tag: Tag,
    failures: u8,
    since: Timestamp,
    /// What the audit log calls its owner: random, made with the PIN and gone with it.
    #[serde(default = "pseudonym")]
    pseudonym: [u8; 16],
}

/// Drawn anew at each reading until the record is written: for records of before there were pseudonyms.
fn pseudonym() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without randomness it is the same for all, which tells less.
    let _ = rand::fill(&mut bytes);
    bytes
}

impl Record {
    fn event(&self, what: PinChange, device: Option<DeviceId>) -> Event {
        Event::Pin {
            what,
            user: Id(self.pseudonym),
            device,
        }
    }

    const fn is_locked(&self) -> bool {
        self.failures >= PIN_FAILURES
    }
}

/// See the module. Everything blocks on disk, TPM and hashing, one caller after the other.
pub(crate) struct Pins {
    vault: Arc<dyn PinVault>,
    file: PinFile,
    open: Mutex<Option<Open>>,
    recent: Mutex<BTreeMap<DeviceId, VecDeque<Instant>>>,
    /// Has the audit log.
    posture: OnceLock<Arc<Posture>>,
}

/// The file, opened.
struct Open {
    keys: file::Keys,
    kept: Kept,
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pins(..)")
    }
}

impl Pins {
    /// PINs in `directory`; nothing is read yet.
    pub(crate) fn new(directory: &Path, vault: Arc<dyn PinVault>) -> Self {
        Self {
            vault,
            file: PinFile::new(directory),
            open: Mutex::default(),
            recent: Mutex::default(),
            posture: OnceLock::new(),
        }
    }

    /// What happens is written down in this one's audit log.
    pub(crate) fn writing_down(self, posture: &Arc<Posture>) -> Self {
        let _ = self.posture.set(Arc::clone(posture));
        self
    }

    /// Before it takes effect; then it is done or refused.
    fn first_written(&self, event: Event) -> Result<(), Trouble> {
        match self.posture.get() {
            Some(posture) => Ok(loosening::before_blocking(posture, event)?),
            None => Ok(()),
        }
    }

    /// After it took effect.
    fn written(&self, event: Event) {
        if let Some(posture) = self.posture.get() {
            posture.record(event);
        }
    }

    /// Sets a user's PIN, in place of the one before.
    ///
    /// # Errors
    /// [`Trouble`]; the one before is then still there.
    pub(crate) fn set(&self, user: &str, pin: &Pin, now: Timestamp) -> Result<(), Trouble> {
        self.with(|this, open| {
            if open.kept.pins.len() >= MOST && !open.kept.pins.contains_key(user) {
                return Err(Trouble::TooMany);
            }
            let salt = hash::salt()?;
            let tag = hash::tag(&*this.vault, &open.keys.pepper, user, pin, &salt)?;
            let record = Record {
                salt,
                tag,
                failures: 0,
                since: now,
                pseudonym: match open.kept.pins.get(user) {
                    Some(before) => before.pseudonym,
                    None => pseudonym(),
                },
            };
            this.first_written(record.event(PinChange::Set, None))?;
            let not_done = record.event(PinChange::Refused, None);
            let before = open.kept.pins.insert(user.to_owned(), record);
            this.commit(open, |kept| {
                this.written(not_done);
                match before {
                    Some(before) => kept.pins.insert(user.to_owned(), before).map_or((), drop),
                    None => kept.pins.remove(user).map_or((), drop),
                }
            })
        })
    }

    /// Destroys a user's PIN, if there is one; answers whether there was.
    ///
    /// # Errors
    /// [`Trouble`]; it may then still be there.
    pub(crate) fn remove(&self, user: &str) -> Result<bool, Trouble> {
        // Most users have none, and the TPM need not be there to say so.
        if !self.file.exists()? {
            return Ok(false);
        }
        self.with(|this, open| {
            let Some(before) = open.kept.pins.remove(user) else {
                return Ok(false);
            };
            let removed = before.event(PinChange::Removed, None);
            this.commit(open, |kept| {
                kept.pins.insert(user.to_owned(), before);
            })?;
            this.written(removed);
            Ok(true)
        })
    }

    /// The user has signed in at the city: wrong PINs are forgiven.
    ///
    /// # Errors
    /// [`Trouble`]; it stays locked then, until the next sign-in.
    pub(crate) fn forgive(&self, user: &str) -> Result<(), Trouble> {
        if !self.file.exists()? {
            return Ok(());
        }
        self.with(|this, open| {
            let Some(record) = open.kept.pins.get_mut(user) else {
                return Ok(());
            };
            if record.is_locked() {
                this.first_written(record.event(PinChange::Unlocked, None))?;
            }
            let failures = std::mem::take(&mut record.failures);
            if failures == 0 {
                return Ok(());
            }
            this.commit(open, |kept| {
                if let Some(record) = kept.pins.get_mut(user) {
                    if failures >= PIN_FAILURES {
                        this.written(record.event(PinChange::Refused, None));
                    }
                    record.failures = failures;
                }
            })
        })
    }

    /// How the user's own PIN stands; `None`: there is none.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(crate) fn standing(&self, user: &str) -> Result<Option<PinStanding>, Trouble> {
        if !self.file.exists()? {
            return Ok(None);
        }
        self.with(|_, open| {
            Ok(open.kept.pins.get(user).map(|record| PinStanding {
                since: record.since,
                locked: record.is_locked(),
                pseudonym: Id(record.pseudonym),
            }))
        })
    }

    /// Compares a PIN. The attempt is counted, durably, before it is looked at; a right one gives back what it was counted.
    ///
    /// # Errors
    /// [`Trouble`]: nothing was compared, or nobody is told what came out.
    pub(crate) fn attempt(
        &self,
        user: &str,
        pin: &Pin,
        device: DeviceId,
    ) -> Result<Attempt, Trouble> {
        if !self.is_within_limits(device) {
            return Ok(Attempt::TooMany);
        }
        self.with(|this, open| {
            let record = open.kept.pins.get_mut(user).filter(|one| !one.is_locked());
            let known = match record {
                Some(record) => {
                    record.failures += 1;
                    Some((record.salt, record.tag))
                }
                None => {
                    open.kept.strangers = open.kept.strangers.wrapping_add(1);
                    None
                }
            };
            // Nothing is taken back when it fails: an attempt that may be on the disk is one.
            this.commit(open, |_| ())?;
            let (salt, tag) = match known {
                Some(known) => known,
                None => (hash::salt()?, hash::nobody()?),
            };
            let found = hash::tag(&*this.vault, &open.keys.pepper, user, pin, &salt)?;
            let same = hash::same(&found, &tag);
            if !(same && known.is_some()) {
                let record = open.kept.pins.get(user).filter(|_| known.is_some());
                if let Some(locked) = record.filter(|record| record.is_locked()) {
                    this.written(locked.event(PinChange::Locked, Some(device)));
                }
                return Ok(Attempt::Refused);
            }
            if let Some(record) = open.kept.pins.get_mut(user) {
                record.failures = record.failures.saturating_sub(1);
            }
            this.commit(open, |_| ())?;
            Ok(Attempt::Right)
        })
    }

    fn is_within_limits(&self, device: DeviceId) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, times| {
            times.retain(|at| at.elapsed() < WINDOW);
            !times.is_empty()
        });
        let times = recent.entry(device).or_default();
        if times.len() >= ATTEMPTS {
            return false;
        }
        times.push_back(Instant::now());
        true
    }

    /// One after the other, on what is in force: opened when it is not, and level with the TPM's counter.
    fn with<T>(
        &self,
        work: impl FnOnce(&Self, &mut Open) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // A panic half-way leaves what the next one reads anew.
        let mut taken = match open.take() {
            Some(taken) => taken,
            None => self.read()?,
        };
        // A commit that was cut between the file and the counter is completed.
        self.vault.count_to(taken.kept.version)?;
        let done = work(self, &mut taken);
        *open = Some(taken);
        done
    }

    fn read(&self) -> Result<Open, Trouble> {
        let count = self.vault.count()?;
        let empty = || Kept {
            version: count,
            strangers: 0,
            pins: BTreeMap::new(),
        };
        if let Some((keys, kept)) = self.file.read(&*self.vault)? {
            // Written and not yet counted is the one difference that a power cut makes.
            if kept.version == count || count.checked_add(1) == Some(kept.version) {
                return Ok(Open { keys, kept });
            }
            tracing::error!(
                event = "offline-pins-void",
                kept = kept.version,
                count,
                "the file of offline PINs is an older copy, or of another TPM: all of them are void"
            );
            return Ok(Open {
                keys,
                kept: empty(),
            });
        }
        let keys = self.file.make_keys(&*self.vault)?;
        Ok(Open {
            keys,
            kept: empty(),
        })
    }

    /// Puts what is in memory in force: the file first, then the counter. When this returns, no copy of before opens again.
    fn commit(&self, open: &mut Open, undo: impl FnOnce(&mut Kept)) -> Result<(), Trouble> {
        let next = open.kept.version.checked_add(1).ok_or(Trouble::TooMany)?;
        let before = std::mem::replace(&mut open.kept.version, next);
        if let Err(error) = self.file.write(&open.keys, &open.kept) {
            open.kept.version = before;
            undo(&mut open.kept);
            return Err(error);
        }
        Ok(self.vault.count_to(next)?)
    }
}

#[cfg(test)]
mod tests;
