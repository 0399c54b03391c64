//! What is remembered of one check of one subject: its newest evidence, and the failures whose deadlines run.
//! Every moment is in the ledger's time (`ledger_time`). Does not persist itself and does not read any clock.

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Newest, What};
use crate::{
    Check, Deadlines, Effect, Grade, Missing, Observation, Observed, Thresholds, Timestamp, Waiver,
};

/// Two passes so far apart clear a failure, so that something that flickers does not.
const CLEARING: i64 = 10 * 60;
/// A failure that comes back so soon resumes its old deadlines.
const RELAPSE: i64 = 7 * 86_400;
/// What claims to be from further ahead was measured under another clock.
pub(crate) const CLOCK_STEP: i64 = 60;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// `None`: never measured.
    newest: Option<Newest>,
    /// While nothing is known: since when.
    unknown_since: Option<Timestamp>,
    /// What silence and ignorance lead to.
    silence: Deadlines,
    /// What the date of the thing leads to, and that date.
    dated: Option<(Timestamp, Deadlines)>,
    /// The newest good evidence.
    proof: Option<Timestamp>,
    minor: Option<Failure>,
    major: Option<Failure>,
    waiver: Option<Waiver>,
}

/// A failure and what it leads to. Stays for [`RELAPSE`] after it was cleared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    began: Timestamp,
    deadlines: Deadlines,
    /// The first of the two passes that clear it.
    first_pass: Option<Timestamp>,
    cleared: Option<Timestamp>,
}

impl Record {
    /// Nothing is known since `now`.
    pub(crate) fn unknown(thresholds: &Thresholds, now: Timestamp) -> Self {
        Self {
            newest: None,
            unknown_since: Some(now),
            silence: thresholds.unknown.from(now),
            dated: None,
            proof: None,
            minor: None,
            major: None,
            waiver: None,
        }
    }

    /// Takes in one piece of evidence. `observed.at` is not after `now`.
    pub(crate) fn observe(&mut self, thresholds: &Thresholds, observed: &Observed, now: Timestamp) {
        let at = observed.at;
        let newest = |what| Newest {
            what,
            at,
            source: observed.source,
            digest: observed.digest,
        };
        let replayed = self.newest.is_some_and(|known| known.at > at);
        match observed.observation {
            // An older report that arrives late gives no credit.
            Observation::Pass | Observation::NotApplicable | Observation::Dated { .. }
                if replayed => {}
            Observation::Dated { since } if since.age(now) < -CLOCK_STEP => {
                self.ignorance(thresholds, at);
                self.newest = Some(newest(What::Unknown(Missing::Error)));
            }
            Observation::Pass => {
                self.dated = None;
                self.definite(thresholds, at);
                self.passed(at, clears_at_once(observed.check));
                self.newest = Some(newest(What::Pass));
            }
            Observation::NotApplicable => {
                self.dated = None;
                self.definite(thresholds, at);
                self.passed(at, clears_at_once(observed.check));
                self.newest = Some(newest(What::NotApplicable));
            }
            Observation::Dated { since } => {
                self.dates_from(thresholds, since);
                self.definite(thresholds, at);
                if thresholds.dated.from(since).effect(now) == Effect::Allow {
                    self.passed(at, true);
                }
                self.newest = Some(newest(What::Dated(since)));
            }
            Observation::Fail { grade, since } => {
                // Since when may be later than the evidence: a program that was there before it was banned.
                let since = since.filter(|since| *since <= now);
                self.fail(thresholds, observed, grade, since, replayed);
            }
            Observation::Unknown(missing) => {
                self.ignorance(thresholds, at);
                if !replayed {
                    self.newest = Some(newest(What::Unknown(missing)));
                }
            }
        }
    }

    fn fail(
        &mut self,
        thresholds: &Thresholds,
        observed: &Observed,
        grade: Grade,
        since: Option<Timestamp>,
        replayed: bool,
    ) {
        let Observed { check, at, .. } = *observed;
        let began = match (check, self.proof) {
            // A scanner that never gave a proof stays unknown: being seen to fail must not buy time.
            (Check::AvAlive, None) => return self.ignorance(thresholds, at),
            // Counted from the last proof, not from the first failure noticed: looking away must not buy time either.
            (Check::AvAlive, Some(proof)) => proof.min(at),
            _ => since.unwrap_or(at),
        };
        if proves_by_doing(check) {
            // Its silence goes on: failing is never better than saying nothing.
            self.unknown_since = None;
        } else if !replayed {
            self.definite(thresholds, at);
        }
        let begin = |slot: &mut Option<Failure>, grade| {
            let deadlines = thresholds.failure(grade).from(began);
            Failure::begin_or_resume(slot, began, deadlines, at, since.is_some());
        };
        // What is greatly wrong is at least a little wrong.
        begin(&mut self.minor, Grade::Minor);
        match grade {
            Grade::Minor => Self::pass(&mut self.major, at, clears_at_once(check)),
            Grade::Major => begin(&mut self.major, Grade::Major),
        }
        if !replayed {
            self.newest = Some(Newest {
                what: What::Fail(grade),
                at,
                source: observed.source,
                digest: observed.digest,
            });
        }
    }

    /// Something definite was seen at `at`: silence counts from then.
    fn definite(&mut self, thresholds: &Thresholds, at: Timestamp) {
        self.unknown_since = None;
        self.silence = thresholds.stale.from(at);
    }

    fn passed(&mut self, at: Timestamp, at_once: bool) {
        self.proof = self.proof.max(Some(at));
        Self::pass(&mut self.minor, at, at_once);
        Self::pass(&mut self.major, at, at_once);
    }

    fn pass(slot: &mut Option<Failure>, at: Timestamp, at_once: bool) {
        if at_once {
            // What proves itself by working has no relapse: each failure is judged for itself.
            *slot = None;
        } else if let Some(failure) = slot {
            failure.pass(at);
        }
    }

    /// Nothing could be found out at `at`; that is never better than silence.
    fn ignorance(&mut self, thresholds: &Thresholds, at: Timestamp) {
        let stale_from = self.silence.first();
        let since = *self.unknown_since.get_or_insert(at.min(stale_from));
        self.silence = self.silence.tightened(&thresholds.unknown.from(since));
    }

    fn dates_from(&mut self, thresholds: &Thresholds, since: Timestamp) {
        let deadlines = thresholds.dated.from(since);
        self.dated = match self.dated {
            Some((known, old)) if known == since => Some((since, old.tightened(&deadlines))),
            _ => Some((since, deadlines)),
        };
    }

    /// Evidence of an earlier run or boot proves nothing about this one.
    pub(crate) fn forget_proof(&mut self, thresholds: &Thresholds, now: Timestamp) {
        self.ignorance(thresholds, now);
        self.proof = None;
        self.newest = self.newest.map(|newest| Newest {
            what: What::Unknown(Missing::Stale),
            ..newest
        });
    }

    /// New thresholds: whatever they shorten is shortened; what already runs is never made longer.
    pub(crate) fn tighten(&mut self, thresholds: &Thresholds) {
        let silence = match (self.unknown_since, self.newest) {
            (Some(since), _) => thresholds.unknown.from(since),
            (None, Some(newest)) => thresholds.stale.from(newest.at),
            (None, None) => Deadlines::NEVER,
        };
        self.silence = self.silence.tightened(&silence);
        if let Some((since, deadlines)) = &mut self.dated {
            *deadlines = deadlines.tightened(&thresholds.dated.from(*since));
        }
        for (failure, grade) in [
            (&mut self.minor, Grade::Minor),
            (&mut self.major, Grade::Major),
        ] {
            if let Some(failure) = failure {
                let deadlines = thresholds.failure(grade).from(failure.began);
                failure.deadlines = failure.deadlines.tightened(&deadlines);
            }
        }
    }

    /// The clock had run ahead and was set right: nothing began later than now, and nothing lasts longer than from now.
    pub(crate) fn clamp(&mut self, thresholds: &Thresholds, now: Timestamp) {
        if let Some(newest) = &mut self.newest
            && newest.at > now
        {
            newest.at = now;
            self.silence = self.silence.tightened(&thresholds.stale.from(now));
        }
        if let Some(since) = &mut self.unknown_since {
            *since = (*since).min(now);
            self.silence = self.silence.tightened(&thresholds.unknown.from(*since));
        }
        self.proof = self.proof.map(|proof| proof.min(now));
        for (failure, grade) in [
            (&mut self.minor, Grade::Minor),
            (&mut self.major, Grade::Major),
        ] {
            if let Some(failure) = failure {
                failure.began = failure.began.min(now);
                failure.first_pass = None;
                failure.cleared = failure.cleared.map(|cleared| cleared.min(now));
                let deadlines = thresholds.failure(grade).from(failure.began);
                failure.deadlines = failure.deadlines.tightened(&deadlines);
            }
        }
    }

    pub(crate) fn waive(&mut self, waiver: Option<Waiver>) {
        self.waiver = waiver;
    }

    /// What the gate and the pages read.
    pub(crate) fn entry(&self, warn_only_until: Option<Timestamp>) -> Entry {
        let failing = |slot: &Option<Failure>| {
            slot.clone()
                .filter(|failure| failure.cleared.is_none())
                .map(|failure| (failure.began, failure.deadlines))
        };
        let (minor, major) = (failing(&self.minor), failing(&self.major));
        let mut of_failure = Deadlines::NEVER;
        for (_, others) in [self.dated, minor, major].into_iter().flatten() {
            of_failure = of_failure.tightened(&others);
        }
        Entry {
            deadlines: self.silence.tightened(&of_failure),
            of_failure,
            newest: self.newest,
            failing_since: major.or(minor).map(|(began, _)| began),
            unknown_since: self.unknown_since,
            stale_from: self.silence.first(),
            overdue_from: self
                .dated
                .map_or(Timestamp::NEVER, |(_, deadlines)| deadlines.first()),
            proof: self.proof,
            waived_until: self.waiver.as_ref().map(|waiver| waiver.until),
            warn_only_until,
        }
    }

    pub(crate) const fn waiver(&self) -> Option<&Waiver> {
        self.waiver.as_ref()
    }
}

impl Failure {
    fn begin_or_resume(
        slot: &mut Option<Self>,
        began: Timestamp,
        deadlines: Deadlines,
        at: Timestamp,
        dated_by_source: bool,
    ) {
        if let Some(failure) = slot
            && failure.is_the_same(began, at, dated_by_source)
        {
            failure.began = failure.began.min(began);
            failure.deadlines = failure.deadlines.tightened(&deadlines);
            failure.first_pass = None;
            failure.cleared = None;
        } else {
            *slot = Some(Self {
                began,
                deadlines,
                first_pass: None,
                cleared: None,
            });
        }
    }

    /// Whether what fails now is the failure that is known: it still lasts, or it is a relapse. Where the source says
    /// since when, what began after the old one was cleared is another fact (the next release, not the last one again).
    fn is_the_same(&self, began: Timestamp, at: Timestamp, dated_by_source: bool) -> bool {
        match self.cleared {
            None => true,
            Some(cleared) if dated_by_source && began > cleared => false,
            Some(cleared) => cleared.age(at) <= RELAPSE,
        }
    }

    fn pass(&mut self, at: Timestamp) {
        if self.cleared.is_some() {
            return;
        }
        match self.first_pass {
            None => self.first_pass = Some(at),
            Some(first) if first.age(at) >= CLEARING => self.cleared = Some(at),
            Some(_) => {}
        }
    }
}

/// Checks of which every measurement is a proof of this very moment, so that a failed one is silence too.
const fn proves_by_doing(check: Check) -> bool {
    matches!(
        check,
        Check::AvAlive | Check::AvSelf | Check::AvConf | Check::Boot
    )
}

/// Checks that one pass clears: the box proves by doing, or a signed version or an arriving report is itself the fact.
///
/// Staff need not wait ten more minutes for a scanner that has just caught its canary; it is proven again every five
/// minutes, and every failure of it restricts at once.
#[must_use]
pub(crate) const fn clears_at_once(check: Check) -> bool {
    matches!(
        check,
        Check::AvAlive | Check::AvSelf | Check::Clock | Check::Upd | Check::PcRpt
    )
}
