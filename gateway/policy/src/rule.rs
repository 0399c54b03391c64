//! The rules: a closed list, each with an id, the article it rests on, and its predicate. Does not know requests.

use crate::evidence::CLOCK_STEP;
use crate::{Antivirus, Certificate, Clock, Snapshot, Standing, Timestamp};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// The canary is scanned every five minutes; one more for the scan itself.
const CANARY_FRESH: i64 = 6 * MINUTE;
/// So long after the last caught canary nothing is forwarded any more.
const CANARY_BLOCK: i64 = 15 * MINUTE;
/// A snapshot is renewed every few seconds; one this old means that measuring has stopped.
const SNAPSHOT_FRESH: i64 = 2 * MINUTE;
/// So long the clock may run without an authenticated comparison.
const CLOCK_FREE_RUN: i64 = 24 * HOUR;
/// So long the city's last word on the facility stands without a warning.
const STANDING_FRESH: i64 = 24 * HOUR;

/// What a verdict does to traffic, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// What one rule says about one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The effect the rule asks for.
    pub effect: Effect,
    /// Since when the fact behind it holds.
    pub since: Timestamp,
}

impl Finding {
    const fn new(effect: Effect, since: Timestamp) -> Self {
        Self { effect, since }
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
    /// The virus scanner does not provably catch anything.
    AvAlive,
    /// The clock cannot be trusted.
    Clock,
}

impl Rule {
    /// All rules. Where two ask for the same effect the earlier one is named, because it is the one to act on first.
    pub const ALL: [Self; 5] = [
        Self::Suspended,
        Self::Cert,
        Self::SnapshotStale,
        Self::AvAlive,
        Self::Clock,
    ];

    /// The id in journal entries, pages and reports. Never changes.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Suspended => "SUSPENDED",
            Self::Cert => "CERT",
            Self::SnapshotStale => "SNAPSHOT-STALE",
            Self::AvAlive => "AV-ALIVE",
            Self::Clock => "CLOCK",
        }
    }

    /// The article of the city's terms of use that the rule rests on; `None` where it rests on none of them.
    #[must_use]
    pub const fn article(self) -> Option<u8> {
        match self {
            Self::Suspended => Some(35),
            Self::Cert => Some(6),
            Self::AvAlive => Some(27),
            Self::SnapshotStale | Self::Clock => None,
        }
    }

    /// What this rule says about the snapshot at `now`.
    #[must_use]
    pub fn judge(self, snapshot: &Snapshot, now: Timestamp) -> Finding {
        match self {
            Self::Suspended => suspended(snapshot, now),
            Self::Cert => cert(snapshot, now),
            Self::SnapshotStale => snapshot_stale(snapshot, now),
            Self::AvAlive => av_alive(snapshot, now),
            Self::Clock => clock(snapshot, now),
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
        Finding::new(Effect::Warn, warn_from)
    } else {
        Finding::new(Effect::Allow, not_before)
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

fn av_alive(snapshot: &Snapshot, now: Timestamp) -> Finding {
    let (caught, failing) = match snapshot.antivirus.believed(now) {
        Ok((Antivirus::Alive, at)) => (at, false),
        // Counted from the last proof, not from the first failure noticed: looking away must not buy time.
        Ok((Antivirus::Failing { since }, _)) => (since, true),
        Err(since) => return Finding::new(Effect::Block, since),
    };
    match caught.age(now) {
        age if age >= CANARY_BLOCK => Finding::new(Effect::Block, caught),
        age if failing || age >= CANARY_FRESH => Finding::new(Effect::Restrict, caught),
        _ => Finding::new(Effect::Allow, caught),
    }
}

fn clock(snapshot: &Snapshot, now: Timestamp) -> Finding {
    match snapshot.clock.believed(now) {
        Ok((Clock::Sane, at)) if at.age(now) < CLOCK_FREE_RUN => Finding::new(Effect::Allow, at),
        Ok((Clock::Sane, at)) => Finding::new(Effect::Restrict, at.plus(CLOCK_FREE_RUN)),
        Ok((Clock::Wrong { since }, _)) => Finding::new(Effect::Restrict, since),
        Err(since) => Finding::new(Effect::Restrict, since),
    }
}
