//! The rules: a closed list, each with an id, what it rests on, and its predicate. Does not know requests.

use serde::{Deserialize, Serialize};

use crate::evidence::CLOCK_STEP;
use crate::{Certificate, Check, Entry, Remedy, Snapshot, Standing, Timestamp};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// A snapshot is renewed every few seconds; one this old means that measuring has stopped.
const SNAPSHOT_FRESH: i64 = 2 * MINUTE;
/// So long the city's last word on the facility stands without a warning.
const STANDING_FRESH: i64 = 24 * HOUR;

/// What a verdict does to traffic, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Everything passes.
    Allow,
    /// Everything passes; the manager is told.
    Warn,
    /// Reading and entering text pass; no file is transferred.
    Restrict,
    /// Nothing is forwarded.
    Block,
}

impl Effect {
    /// The word in the journal and in reports. Never changes.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Restrict => "restrict",
            Self::Block => "block",
        }
    }
}

/// What one rule says about one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The effect the rule asks for.
    pub effect: Effect,
    /// Since when the fact behind it holds.
    pub since: Timestamp,
    /// When a harder effect sets in, if ever.
    pub deadline: Option<Timestamp>,
}

impl Finding {
    pub(crate) const fn new(effect: Effect, since: Timestamp) -> Self {
        Self {
            effect,
            since,
            deadline: None,
        }
    }

    /// What an entry says at `time` in the ledger's time, told by the box's clock, which shows `now`.
    pub(crate) fn of(entry: &Entry, time: Timestamp, now: Timestamp) -> Self {
        let by_clock = |at: Timestamp| at.plus(time.age(now));
        Self {
            effect: entry.effect(time),
            since: by_clock(entry.since(time)),
            deadline: entry.deadline(time).map(by_clock),
        }
    }

    const fn until(effect: Effect, since: Timestamp, deadline: Timestamp) -> Self {
        Self {
            effect,
            since,
            deadline: Some(deadline),
        }
    }
}

/// Every rule there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The facility is suspended, or the city has not been heard on it.
    Suspended,
    /// The facility certificate is absent, out of its validity, revoked, or without its key.
    Cert,
    /// Evidence is no longer being gathered.
    SnapshotStale,
    /// The device was revoked.
    DeviceRevoked,
    /// The device is not registered.
    Device,
    /// One of the checks.
    Check(Check),
}

impl Rule {
    /// All rules. Where two ask for the same effect the earlier one is named, because it is the one to act on first.
    pub const ALL: [Self; 5 + Check::ALL.len()] = {
        let mut all = [Self::Suspended; 5 + Check::ALL.len()];
        all[1] = Self::Cert;
        all[2] = Self::SnapshotStale;
        all[3] = Self::DeviceRevoked;
        all[4] = Self::Device;
        let mut place = 0;
        while place < Check::ALL.len() {
            all[5 + place] = Self::Check(Check::ALL[place]);
            place += 1;
        }
        all
    };

    /// The id in journal entries, pages and reports. Never changes.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Suspended => "SUSPENDED",
            Self::Cert => "CERT",
            Self::SnapshotStale => "SNAPSHOT-STALE",
            Self::DeviceRevoked => "DEVICE-REVOKED",
            Self::Device => "DEVICE",
            Self::Check(check) => check.id(),
        }
    }

    /// The article of the city's terms of use that the rule rests on; `None` where it rests on none of them.
    #[must_use]
    pub const fn article(self) -> Option<u8> {
        match self {
            Self::Suspended => Some(35),
            Self::Cert => Some(6),
            Self::DeviceRevoked | Self::Device => Some(29),
            Self::Check(check) => check.article(),
            Self::SnapshotStale => None,
        }
    }

    /// Who can set it right.
    #[must_use]
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::SnapshotStale => Remedy::Itself,
            Self::Suspended => Remedy::City,
            Self::Cert | Self::DeviceRevoked | Self::Device => Remedy::Manager,
            Self::Check(check) => check.remedy(),
        }
    }

    /// Whether an emergency declared by the manager turns its block into a restriction.
    ///
    /// Never that of boot integrity, certificate, suspension, revoked and unknown devices, or of evidence that is no
    /// longer gathered. (A malware verdict is no rule of the gate; `content` never asks.)
    #[must_use]
    pub const fn yields_to_break_glass(self) -> bool {
        match self {
            Self::Suspended
            | Self::Cert
            | Self::SnapshotStale
            | Self::DeviceRevoked
            | Self::Device
            | Self::Check(Check::Boot) => false,
            Self::Check(_) => true,
        }
    }

    /// What this rule says about the box at `now`; of rules about devices nothing, for they need one.
    #[must_use]
    pub fn judge(self, snapshot: &Snapshot, now: Timestamp) -> Finding {
        match self {
            Self::Suspended => suspended(snapshot, now),
            Self::Cert => cert(snapshot, now),
            Self::SnapshotStale => snapshot_stale(snapshot, now),
            Self::DeviceRevoked | Self::Device => Finding::new(Effect::Allow, snapshot.taken),
            Self::Check(check) => {
                let time = snapshot.time(now);
                match snapshot.own(check) {
                    Some(entry) => Finding::of(entry, time, now),
                    None => Finding::new(Effect::Allow, snapshot.taken),
                }
            }
        }
    }
}

fn suspended(snapshot: &Snapshot, now: Timestamp) -> Finding {
    match snapshot.standing.believed(now) {
        Ok((Standing::Active, at)) if at.age(now) < STANDING_FRESH => {
            Finding::new(Effect::Allow, at)
        }
        // The city judges every request itself, so its silence here is no reason to stop care.
        Ok((Standing::Active, at)) => Finding::new(Effect::Warn, at.plus(STANDING_FRESH)),
        Ok((Standing::Suspended { since }, _)) => Finding::new(Effect::Block, since),
        Err(since) => Finding::new(Effect::Restrict, since),
    }
}

fn cert(snapshot: &Snapshot, now: Timestamp) -> Finding {
    match snapshot.certificate.believed(now) {
        Ok((
            Certificate::Held {
                not_before,
                not_after,
            },
            _,
        )) => held(not_before, not_after, now),
        Ok((Certificate::Absent, at)) => Finding::new(Effect::Block, at),
        Ok((Certificate::Revoked { since } | Certificate::KeyLost { since }, _)) => {
            Finding::new(Effect::Block, since)
        }
        Err(since) => Finding::new(Effect::Block, since),
    }
}

fn held(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Finding {
    if now > not_after {
        return Finding::new(Effect::Block, not_after);
    }
    if now.plus(CLOCK_STEP) < not_before {
        return Finding::new(Effect::Block, now);
    }
    // Renewal begins with a third of the life left. With a sixth left it has been failing for as long as remains.
    let sixth = not_before.age(not_after) / 6;
    let warn_from = not_after.plus(-sixth);
    if now >= warn_from {
        Finding::until(Effect::Warn, warn_from, not_after)
    } else {
        Finding::until(Effect::Allow, not_before, warn_from)
    }
}

fn snapshot_stale(snapshot: &Snapshot, now: Timestamp) -> Finding {
    let age = snapshot.taken.age(now);
    if (-CLOCK_STEP..SNAPSHOT_FRESH).contains(&age) {
        Finding::new(Effect::Allow, snapshot.taken)
    } else {
        Finding::new(Effect::Block, snapshot.taken)
    }
}
