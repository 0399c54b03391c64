//! What one check of one subject comes to, as the gate reads it: small, `Copy`, and a function of time alone.
//! Does not change anything and does not know how it came about.

use serde::{Deserialize, Serialize};

use crate::{Deadlines, Effect, Grade, Missing, Source, Timestamp};

/// Where a check stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Compliant,
    /// Not as it should be; the same failure leads to a harder effect later.
    Grace,
    /// Not as it should be, and the hardest that this failure leads to is in force. Silence may lead further still; then
    /// [`Entry::deadline`] tells of it.
    Failing,
    /// Nothing is known.
    Unknown(Missing),
    /// Does not concern this subject.
    NotApplicable,
    /// Excepted for a time, with a reason.
    Waived,
}

impl State {
    /// The word in the journal, reports and the status to the city. Never changes.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Compliant => "compliant",
            Self::Grace => "grace",
            Self::Failing => "failing",
            Self::Unknown(Missing::Never) => "unknown-never",
            Self::Unknown(Missing::Stale) => "unknown-stale",
            Self::Unknown(Missing::Error) => "unknown-error",
            Self::NotApplicable => "not-applicable",
            Self::Waived => "waived",
        }
    }
}

/// The newest evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Newest {
    pub(crate) what: What,
    pub(crate) at: Timestamp,
    pub(crate) source: Source,
    #[serde(with = "digest")]
    pub(crate) digest: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    Pass,
    NotApplicable,
    Dated(Timestamp),
    Fail(Grade),
    Unknown(Missing),
}

/// One check of one subject. All moments are in the ledger's time; see [`crate::Snapshot::time`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(crate) deadlines: Deadlines,
    /// What the failure and the date of the thing lead to by themselves, silence aside.
    pub(crate) of_failure: Deadlines,
    pub(crate) newest: Option<Newest>,
    pub(crate) failing_since: Option<Timestamp>,
    pub(crate) unknown_since: Option<Timestamp>,
    pub(crate) stale_from: Timestamp,
    pub(crate) overdue_from: Timestamp,
    pub(crate) proof: Option<Timestamp>,
    pub(crate) waived_until: Option<Timestamp>,
    pub(crate) warn_only_until: Option<Timestamp>,
}

impl Entry {
    /// What it does to traffic at `now`.
    #[must_use]
    pub fn effect(&self, now: Timestamp) -> Effect {
        let effect = self.deadlines.effect(now);
        if effect > Effect::Warn && self.only_warns(now) {
            Effect::Warn
        } else {
            effect
        }
    }

    fn only_warns(&self, now: Timestamp) -> bool {
        let runs = |until: Option<Timestamp>| until.is_some_and(|until| now < until);
        runs(self.waived_until) || runs(self.warn_only_until)
    }

    /// Where it stands at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        if self.waived_until.is_some_and(|until| now < until) {
            return State::Waived;
        }
        let bad = self.failing_since.is_some() || self.overdue_from <= now;
        if bad {
            let in_force = self.deadlines.effect(now);
            return if self.of_failure.leads_beyond(in_force) {
                State::Grace
            } else {
                State::Failing
            };
        }
        match self.newest.map(|newest| newest.what) {
            None => State::Unknown(Missing::Never),
            Some(What::Unknown(missing)) => State::Unknown(missing),
            Some(_) if self.stale_from <= now => State::Unknown(Missing::Stale),
            Some(What::NotApplicable) => State::NotApplicable,
            Some(What::Pass | What::Dated(_) | What::Fail(_)) => State::Compliant,
        }
    }

    /// Since when it stands so; while all is well, since the evidence was taken.
    #[must_use]
    pub fn since(&self, now: Timestamp) -> Timestamp {
        if let Some(since) = self.failing_since {
            return since;
        }
        if self.overdue_from <= now {
            return self.overdue_from;
        }
        match (self.unknown_since, self.newest) {
            (Some(since), _) => since,
            (None, _) if self.stale_from <= now => self.stale_from,
            (None, newest) => newest.map_or(now, |newest| newest.at),
        }
    }

    /// When a harder effect than that of `now` sets in, if ever.
    #[must_use]
    pub fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        self.next(now).map(|(_, at)| at)
    }

    /// The same, and which effect it is.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<(Effect, Timestamp)> {
        if self.only_warns(now) {
            let ends = self.waived_until.max(self.warn_only_until)?;
            if ends == Timestamp::NEVER {
                return None;
            }
            let then = self.deadlines.effect(ends);
            return (then > Effect::Warn).then_some((then, ends));
        }
        self.deadlines.next(now)
    }

    /// Until when an exception was made, if one was.
    #[must_use]
    pub const fn waived_until(&self) -> Option<Timestamp> {
        self.waived_until
    }

    /// When there was good evidence last.
    #[must_use]
    pub const fn proof(&self) -> Option<Timestamp> {
        self.proof
    }

    /// The date of the thing, where the newest evidence is a date.
    #[must_use]
    pub fn dated(&self) -> Option<Timestamp> {
        match self.newest?.what {
            What::Dated(since) => Some(since),
            _ => None,
        }
    }

    /// How bad the newest evidence is, where it is a failure.
    #[must_use]
    pub fn grade(&self) -> Option<Grade> {
        match self.newest?.what {
            What::Fail(grade) => Some(grade),
            _ => None,
        }
    }

    /// When, by whom and with which digest the newest evidence was given.
    #[must_use]
    pub fn evidence(&self) -> Option<(Timestamp, Source, [u8; 32])> {
        self.newest
            .map(|newest| (newest.at, newest.source, newest.digest))
    }

    /// Nothing was ever measured.
    #[must_use]
    pub const fn is_never_measured(&self) -> bool {
        self.newest.is_none()
    }
}

mod digest {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(digest: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&crate::hex::encode(digest))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        crate::hex::decode(&text).ok_or_else(|| D::Error::custom("no SHA-256"))
    }
}
