//! Emergencies that the facility's manager declares: they turn a block into a restriction for some hours, so that care
//! goes on. Does not check who the manager is; whoever calls [`BreakGlass::open`] has.
//!
//! Precedent: the emergency access procedure that 45 CFR 164.312(a)(2)(ii) requires. It works without the city; the
//! city is told afterwards.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// How long one declaration lasts.
const LASTS: i64 = 4 * HOUR;
/// How long an emergency may be drawn out by renewing it, from its beginning.
const LONGEST: i64 = 12 * HOUR;
/// How many emergencies there may be in [`PERIOD`] without the city's countersignature.
const USES: usize = 3;
const PERIOD: i64 = 30 * DAY;
/// When the review is due after the end.
const REVIEW: i64 = 7 * DAY;
/// Records kept; the audit log keeps all.
const KEPT: usize = 32;
/// The most sealed codes a box knows.
const CODES: usize = 4;

/// Why an emergency is declared: a closed list, so that nothing personal is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A person's state changed suddenly.
    Emergency,
    /// Notes are needed for a visit or a handover at once.
    Handover,
    /// A hospital or an ambulance asks.
    Transfer,
    /// A disaster.
    Disaster,
}

/// Who declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opener {
    /// The manager, with certificate and PIN.
    Manager,
    /// Whoever has opened the sealed envelope in the office safe. SHA-256 of the code; each serves once.
    SealedCode([u8; 32]),
}

/// One emergency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emergency {
    /// Its number on this box, from 1.
    pub number: u64,
    /// When it was declared.
    pub opened: Timestamp,
    /// When it ends or ended.
    pub until: Timestamp,
    /// Why.
    pub reason: Reason,
    /// It was declared with the sealed code, not by the manager.
    pub by_code: bool,
    /// When it was reviewed.
    pub reviewed: Option<Timestamp>,
    /// The city has countersigned it: it no longer counts against the three.
    pub countersigned: bool,
}

impl Emergency {
    /// How far it may be drawn out in all.
    #[must_use]
    pub const fn at_most(&self) -> Timestamp {
        self.opened.plus(LONGEST)
    }

    /// By when it must be reviewed.
    #[must_use]
    pub const fn review_due(&self) -> Timestamp {
        self.until.plus(REVIEW)
    }
}

/// The record of emergencies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    emergencies: Vec<Emergency>,
    /// SHA-256 of the sealed codes that were not used yet.
    sealed: Vec<[u8; 32]>,
}

/// Why an emergency was not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BreakGlassError {
    /// One runs already; it can be renewed.
    #[error("an emergency runs already")]
    AlreadyOpen,
    /// None runs, so none can be renewed or closed.
    #[error("no emergency runs")]
    NotOpen,
    /// Twelve hours are over.
    #[error("an emergency lasts twelve hours at the most")]
    TooLong,
    /// Three were declared in thirty days; the city must countersign one first.
    #[error("three emergencies in thirty days need the city's countersignature")]
    UsedUp {
        /// When the next may be declared without it.
        again: Timestamp,
    },
    /// The last one was not reviewed in time.
    #[error("the last emergency has not been reviewed")]
    ReviewOverdue,
    /// The sealed code is wrong or was used.
    #[error("the sealed code is not valid")]
    Code,
}

impl BreakGlass {
    /// Declares an emergency. Answers until when it lasts.
    ///
    /// # Errors
    /// [`BreakGlassError`] says why not.
    pub fn open(
        &mut self,
        opener: Opener,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Timestamp, BreakGlassError> {
        if self.open_until(now).is_some() {
            return Err(BreakGlassError::AlreadyOpen);
        }
        self.may_open(now)?;
        if let Opener::SealedCode(digest) = opener {
            let place = self.sealed.iter().position(|sealed| *sealed == digest);
            self.sealed.remove(place.ok_or(BreakGlassError::Code)?);
        }
        if self.emergencies.len() >= KEPT {
            self.emergencies.remove(0);
        }
        let until = now.plus(LASTS);
        let number = self.emergencies.last().map_or(0, |last| last.number) + 1;
        self.emergencies.push(Emergency {
            number,
            opened: now,
            until,
            reason,
            by_code: matches!(opener, Opener::SealedCode(_)),
            reviewed: None,
            countersigned: false,
        });
        Ok(until)
    }

    fn may_open(&self, now: Timestamp) -> Result<(), BreakGlassError> {
        let past_uses = self.counted(now).count().checked_sub(USES);
        if let Some(oldest) = past_uses.and_then(|past| self.counted(now).nth(past)) {
            let again = oldest.opened.plus(PERIOD);
            return Err(BreakGlassError::UsedUp { again });
        }
        let overdue = |past: &Emergency| past.reviewed.is_none() && past.review_due() < now;
        if self.emergencies.iter().any(overdue) {
            return Err(BreakGlassError::ReviewOverdue);
        }
        Ok(())
    }

    /// Draws the running emergency out by four hours, to twelve at the most.
    ///
    /// # Errors
    /// [`BreakGlassError::NotOpen`] and [`BreakGlassError::TooLong`].
    pub fn renew(&mut self, now: Timestamp) -> Result<Timestamp, BreakGlassError> {
        let running = self.running(now).ok_or(BreakGlassError::NotOpen)?;
        let longest = running.opened.plus(LONGEST);
        let until = now.plus(LASTS).min(longest);
        if until <= running.until {
            return Err(BreakGlassError::TooLong);
        }
        running.until = until;
        Ok(until)
    }

    /// Ends the running emergency early.
    ///
    /// # Errors
    /// [`BreakGlassError::NotOpen`].
    pub fn close(&mut self, now: Timestamp) -> Result<(), BreakGlassError> {
        self.running(now).ok_or(BreakGlassError::NotOpen)?.until = now;
        Ok(())
    }

    /// The manager has reviewed an emergency that is over. Answers whether there is one of this number.
    pub fn review(&mut self, number: u64, now: Timestamp) -> bool {
        let found = self
            .emergencies
            .iter_mut()
            .find(|past| past.number == number && past.until <= now);
        found.map(|past| past.reviewed.get_or_insert(now)).is_some()
    }

    /// The city has countersigned an emergency. Answers whether there is one of this number.
    pub fn countersign(&mut self, number: u64) -> bool {
        let found = self
            .emergencies
            .iter_mut()
            .find(|past| past.number == number);
        found.map(|past| past.countersigned = true).is_some()
    }

    /// How many may still be declared now without the city's countersignature.
    #[must_use]
    pub fn uses_left(&self, now: Timestamp) -> usize {
        USES.saturating_sub(self.counted(now).count())
    }

    fn counted(&self, now: Timestamp) -> impl Iterator<Item = &Emergency> {
        let counts = move |past: &&Emergency| !past.countersigned && past.opened.age(now) < PERIOD;
        self.emergencies.iter().filter(counts)
    }

    /// Puts a sealed code in force, given as its SHA-256. The oldest gives way.
    pub fn seal_code(&mut self, digest: [u8; 32]) {
        if self.sealed.len() >= CODES {
            self.sealed.remove(0);
        }
        self.sealed.push(digest);
    }

    /// How many sealed codes can still be used.
    #[must_use]
    pub const fn sealed_codes(&self) -> usize {
        self.sealed.len()
    }

    /// Until when the running emergency lasts; `None` when none runs.
    #[must_use]
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.emergencies.last()?;
        (last.opened <= now && now < last.until).then_some(last.until)
    }

    /// All that are remembered, oldest first.
    #[must_use]
    pub fn emergencies(&self) -> &[Emergency] {
        &self.emergencies
    }

    /// Those that are over and were not reviewed.
    pub fn unreviewed(&self, now: Timestamp) -> impl Iterator<Item = &Emergency> {
        self.emergencies
            .iter()
            .filter(move |past| past.until <= now && past.reviewed.is_none())
    }

    fn running(&mut self, now: Timestamp) -> Option<&mut Emergency> {
        self.emergencies
            .last_mut()
            .filter(|last| last.opened <= now && now < last.until)
    }

    /// The clock had run ahead: nothing was opened later than now, and nothing lasts longer than from now.
    pub(crate) fn clamp(&mut self, now: Timestamp) {
        for past in &mut self.emergencies {
            past.opened = past.opened.min(now);
            past.until = past.until.min(past.opened.plus(LONGEST));
        }
    }
}
