//! One refresh, from the stored root to the list of targets (TUF specification §5.3 to §5.6).
//!
//! Signatures, thresholds and pins are checked by the core. This module decides the order, what is stored when, and what an
//! earlier acceptance forbids. It keeps nothing in memory between two refreshes: a restart is the ordinary case.

use std::sync::Arc;

use gateway_policy::Timestamp as Moment;
use sigstore_tuf::metadata::{Metadata, RoleKeys, Root, Snapshot, Timestamp};
use sigstore_tuf::{Error, TrustedMetadataSet};
use tokio::sync::Mutex;

use crate::clock::{TOLERANCE, moment};
use crate::form::ISSUED;
use crate::pace::{Pace, read};
use crate::trusted::Trusted;
use crate::{Refused, Store, Transport};

/// Bounds of size and time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one root.
    pub root: u64,
    /// Bytes of the timestamp.
    pub timestamp: u64,
    /// Bytes of the snapshot.
    pub snapshot: u64,
    /// Bytes of one targets file.
    pub targets: u64,
    /// Bytes of one target.
    pub target: u64,
    /// New roots in one refresh.
    pub roots: u32,
    /// Roles visited in search of one target.
    pub roles: usize,
    /// How slow it may be.
    pub pace: Pace,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            root: 512 * 1024,
            timestamp: 16 * 1024,
            snapshot: 2 * 1024 * 1024,
            targets: 5 * 1024 * 1024,
            // A whole image of the box's system.
            target: 4 * 1024 * 1024 * 1024,
            roots: 64,
            roles: 32,
            pace: Pace::default(),
        }
    }
}

/// Which role may name which target, beyond what the delegations say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duties {
    /// The city's: `policy/…` is named by `policy`, `antivirus/…` by `antivirus`, `releases/…` by `releases`, nothing else
    /// exists. Not even the targets role, which could delegate otherwise, may name a target itself: a holder of
    /// its keys alone must not be able to hand out a policy.
    City,
    /// Whoever the delegations allow. For repositories that are not the city's: the conformance suite's.
    AsDelegated,
}

impl Duties {
    /// Whose duty a target is.
    pub(crate) fn of(self, target: &str) -> Option<&str> {
        match self {
            Self::City => Some(target.split('/').next().unwrap_or_default()),
            Self::AsDelegated => None,
        }
    }
}

/// The client of one repository.
#[derive(Debug)]
pub struct Client {
    store: Store,
    shipped_root: Vec<u8>,
    transport: Arc<dyn Transport>,
    limits: Limits,
    duties: Duties,
    /// One refresh at a time: two would overtake each other in the store.
    turn: Mutex<()>,
}

impl Client {
    /// A client that starts from the stored root, or from `shipped_root` when nothing was ever stored.
    #[must_use]
    pub fn new(
        store: Store,
        shipped_root: Vec<u8>,
        transport: Arc<dyn Transport>,
        limits: Limits,
        duties: Duties,
    ) -> Self {
        Self {
            store,
            shipped_root,
            transport,
            limits,
            duties,
            turn: Mutex::new(()),
        }
    }

    /// Brings everything up to the repository's newest state.
    ///
    /// `now` comes from the caller and is kept nowhere, so that a clock that was wrong once does no lasting harm.
    ///
    /// # Errors
    /// [`Refused`]: what was accepted before the fault is stored, as the specification wants it; the rest stays.
    pub async fn refresh(&self, now: Moment) -> Result<Trusted, Refused> {
        let _turn = self.turn.lock().await;
        let mut set = self.stored_root()?;
        let believed_at_first = set.root().clone();
        self.walk_roots(&mut set).await?;
        set.check_root_expired(moment(now))
            .map_err(|error| Refused::by_the_core("root.json", error))?;
        let floor = self.floor(&mut set, &believed_at_first)?;
        check_clock(&set, now)?;
        self.timestamp(&mut set, now).await?;
        self.snapshot(&mut set, floor.as_ref(), now).await?;
        self.targets(&mut set, now).await?;
        Ok(Trusted::new(
            set,
            self.store.clone(),
            Arc::clone(&self.transport),
            self.limits,
            self.duties,
            now,
        ))
    }

    /// The root to start from, stored before anything follows from it.
    fn stored_root(&self) -> Result<TrustedMetadataSet, Refused> {
        if let Some(bytes) = self.store.read("root.json")? {
            return TrustedMetadataSet::from_root(&bytes).map_err(|_| torn("root.json"));
        }
        let set = TrustedMetadataSet::from_root(&self.shipped_root)
            .map_err(|error| Refused::by_the_core("the shipped root", error))?;
        // Without a root but with something below it, the root was lost, and with it the way it came by.
        for file in ["timestamp.json", "snapshot.json", "targets.json"] {
            if self.store.read(file)?.is_some() {
                return Err(torn("root.json"));
            }
        }
        self.store.put("root.json", &self.shipped_root)?;
        Ok(set)
    }

    /// TUF specification §5.3: one root after the other, each signed by the one before and by itself.
    async fn walk_roots(&self, set: &mut TrustedMetadataSet) -> Result<(), Refused> {
        for _ in 0..self.limits.roots {
            let file = format!("{}.root.json", set.root().version.saturating_add(1));
            let Some(bytes) = self.metadata(&file, self.limits.root).await? else {
                return Ok(());
            };
            set.update_root(&bytes)
                .map_err(|error| Refused::by_the_core(&file, error))?;
            // §5.3.8: before anything else follows.
            self.store.put("root.json", &bytes)?;
        }
        Err(Refused::TooManyRoots {
            limit: self.limits.roots,
        })
    }

    /// Loads what was accepted before, as the floor below which nothing is accepted again.
    ///
    /// Expired files are floors too. A file whose keys the root has replaced since is no floor any more (§5.3.11: that is
    /// how a city recovers from a stolen key). A file that cannot be understood, or whose signature by a
    /// key that still counts is wrong, is damage and stops everything.
    ///
    /// The stored snapshot counts even when it is not the one that the stored timestamp names, as it is after a refused
    /// or interrupted refresh. The core's own updater drops it then, and a second attempt with a snapshot that takes a role back
    /// succeeds (seen in 0.15.1).
    fn floor(
        &self,
        set: &mut TrustedMetadataSet,
        before: &Root,
    ) -> Result<Option<Snapshot>, Refused> {
        let root = set.root().clone();
        if let Some(bytes) =
            self.accepted::<Timestamp>("timestamp", &root, before, Metadata::from_slice)?
        {
            set.update_timestamp(&bytes, jiff::Timestamp::MIN)
                .map_err(|_| torn("timestamp.json"))?;
        }
        let Some(bytes) =
            self.accepted::<Snapshot>("snapshot", &root, before, Metadata::from_slice)?
        else {
            return Ok(None);
        };
        if set.timestamp().is_some() {
            // Refused when the timestamp names another one; it stays a floor all the same.
            let _ = set.update_snapshot(&bytes, jiff::Timestamp::MIN);
        }
        let stored = Metadata::<Snapshot>::from_slice(&bytes).map_err(|_| torn("snapshot.json"))?;
        Ok(Some(stored.into_signed()))
    }

    /// The stored file of an online role when it still counts; see [`Self::floor`].
    fn accepted<R: sigstore_tuf::metadata::Role>(
        &self,
        role: &str,
        root: &Root,
        before: &Root,
        parse: impl Fn(&[u8]) -> sigstore_tuf::Result<Metadata<R>>,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let file = format!("{role}.json");
        let replaced = role_keys(root, role) != role_keys(before, role);
        let bytes = match self.store.read(&file) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => bytes,
            Err(_) if replaced => Vec::new(),
            Err(refused) => return Err(refused),
        };
        let Ok(metadata) = parse(&bytes) else {
            if replaced {
                // The city has given the role new keys: what the old ones signed is void, readable or not.
                self.store.remove(&file)?;
                return Ok(None);
            }
            return Err(torn(&file));
        };
        let Some(keys) = root.role(role) else {
            return Err(Refused::Malformed {
                file: "root.json".to_owned(),
                source: None,
            });
        };
        if metadata.verify_threshold(&root.keys, keys, role).is_ok() {
            return Ok(Some(bytes));
        }
        let by_keys_that_count = metadata
            .signatures()
            .iter()
            .filter(|signature| keys.keyids.contains(&signature.keyid))
            .count();
        if by_keys_that_count >= keys.threshold {
            return Err(torn(&file));
        }
        Ok(None)
    }

    async fn timestamp(&self, set: &mut TrustedMetadataSet, now: Moment) -> Result<(), Refused> {
        let file = "timestamp.json";
        let bytes = self.required(file, self.limits.timestamp).await?;
        let mut next = set.clone();
        match next.update_timestamp(&bytes, moment(now)) {
            Ok(()) => {
                check_issued(&next, now)?;
                self.store.put(file, &bytes)?;
                *set = next;
            }
            // §5.4.2: the same version is no news, whatever it says; the one accepted first stays.
            Err(Error::EqualVersion { .. }) => {}
            Err(error) => return Err(Refused::by_the_core(file, error)),
        }
        set.check_timestamp_expired(moment(now))
            .map_err(|error| Refused::by_the_core(file, error))
    }

    async fn snapshot(
        &self,
        set: &mut TrustedMetadataSet,
        floor: Option<&Snapshot>,
        now: Moment,
    ) -> Result<(), Refused> {
        let pinned = set
            .timestamp()
            .and_then(Timestamp::snapshot_meta)
            .map(|pin| pin.version)
            .ok_or_else(|| mixed("snapshot.json"))?;
        if set.snapshot().map(|held| held.version) == Some(pinned) {
            return set
                .check_snapshot_expired(moment(now))
                .map_err(|error| Refused::by_the_core("snapshot.json", error));
        }
        let file = versioned(set, pinned, "snapshot");
        let bytes = self.required(&file, self.limits.snapshot).await?;
        let mut next = set.clone();
        let outcome = next.update_snapshot(&bytes, moment(now));
        // Named as what it is, whichever check saw it first; the core calls a removal a mismatch.
        if matches!(outcome, Ok(()) | Err(Error::IntegrityMismatch(_)))
            && let (Some(floor), Ok(offered)) = (floor, Metadata::<Snapshot>::from_slice(&bytes))
        {
            never_backwards(floor, offered.signed())?;
        }
        outcome.map_err(|error| Refused::by_the_core(&file, error))?;
        self.store.put("snapshot.json", &bytes)?;
        *set = next;
        Ok(())
    }

    async fn targets(&self, set: &mut TrustedMetadataSet, now: Moment) -> Result<(), Refused> {
        let pinned = set
            .snapshot()
            .and_then(|snapshot| snapshot.meta.get("targets.json"))
            .map(|pin| pin.version)
            .ok_or_else(|| mixed("targets.json"))?;
        if let Some(stored) = self.store.read("targets.json")? {
            Metadata::<sigstore_tuf::Targets>::from_slice(&stored)
                .map_err(|_| torn("targets.json"))?;
            // One that the snapshot no longer names is only out of date.
            if set.update_targets(&stored, moment(now)).is_ok() {
                return Ok(());
            }
        }
        let file = versioned(set, pinned, "targets");
        let bytes = self.required(&file, self.limits.targets).await?;
        set.update_targets(&bytes, moment(now))
            .map_err(|error| Refused::by_the_core(&file, error))?;
        self.store.put("targets.json", &bytes)
    }

    async fn required(&self, file: &str, limit: u64) -> Result<Vec<u8>, Refused> {
        self.metadata(file, limit)
            .await?
            .ok_or_else(|| Refused::MissingFile {
                file: file.to_owned(),
            })
    }

    async fn metadata(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>, Refused> {
        let opening = self.transport.metadata(file);
        read(file, opening, limit, &self.limits.pace).await
    }
}

pub(crate) fn torn(file: &str) -> Refused {
    Refused::TornStore {
        file: file.to_owned(),
        source: None,
    }
}

pub(crate) fn mixed(file: &str) -> Refused {
    Refused::MixAndMatch {
        file: file.to_owned(),
    }
}

/// The name under which a version of a file is published (TUF specification §6.2).
pub(crate) fn versioned(set: &TrustedMetadataSet, version: u64, encoded_role: &str) -> String {
    if set.root().consistent_snapshot {
        format!("{version}.{encoded_role}.json")
    } else {
        format!("{encoded_role}.json")
    }
}

/// A role's keys themselves, not only their ids, and its threshold.
fn role_keys<'a>(
    root: &'a Root,
    role: &str,
) -> Option<(&'a RoleKeys, Vec<Option<&'a sigstore_tuf::Key>>)> {
    let keys = root.role(role)?;
    let of = keys.keyids.iter().map(|id| root.keys.get(id)).collect();
    Some((keys, of))
}

/// §5.5.5: no role's version goes down, and no role goes away.
fn never_backwards(floor: &Snapshot, offered: &Snapshot) -> Result<(), Refused> {
    for (file, accepted) in &floor.meta {
        let version = offered.meta.get(file).map_or(0, |meta| meta.version);
        if version < accepted.version {
            return Err(Refused::Rollback {
                file: file.clone(),
                accepted: accepted.version,
                offered: version,
            });
        }
    }
    Ok(())
}

/// When the timestamp says it was made, in seconds since 1970; `None` in repositories that do not say.
fn issued(set: &TrustedMetadataSet) -> Option<i64> {
    let text = set.timestamp()?.extra.get(ISSUED)?.as_str()?;
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_second)
}

/// A clock before the last signed timestamp runs behind: expired files would look fresh to it.
fn check_clock(set: &TrustedMetadataSet, now: Moment) -> Result<(), Refused> {
    match issued(set) {
        Some(signed) if now.0.saturating_add(TOLERANCE) < signed => Err(Refused::WrongClock {
            clock: now.0,
            signed,
        }),
        _ => Ok(()),
    }
}

/// The same before a new timestamp is stored: one from the future, once stored, would lock out every right clock.
fn check_issued(next: &TrustedMetadataSet, now: Moment) -> Result<(), Refused> {
    check_clock(next, now)
}
