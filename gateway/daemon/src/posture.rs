//! Keeps the newest evidence and publishes it as one snapshot that the gate judges on every request.
//!
//! Facts are put in by those who measure them; nothing is measured here and nothing is let through here. A snapshot is
//! published at every change and every few seconds, so that its age proves that this is still running. When the gate's
//! verdict on it changes, that is one line in the journal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use gateway_policy::{
    Antivirus, Certificate, Clock, Effect, Evidence, Gate, Rule, Snapshot, Standing, Timestamp,
};

/// How often the snapshot is renewed without a change; well below the age at which the gate calls it stale (2 minutes).
pub(crate) const RENEWAL: Duration = Duration::from_secs(10);

/// The box's clock, the one place where the daemon reads it for decisions.
#[must_use]
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
}

/// The evidence board.
#[derive(Debug)]
pub(crate) struct Posture {
    board: Mutex<Board>,
    published: Arc<ArcSwap<Snapshot>>,
}

#[derive(Debug)]
struct Board {
    facts: Snapshot,
    /// The verdict that the journal was told last.
    told: Option<(Effect, Option<Rule>)>,
}

impl Board {
    /// One line when the gate judges otherwise than before.
    fn tell(&mut self, now: Timestamp) {
        let verdict = Gate::new().verdict(&self.facts, now);
        if self.told.replace((verdict.effect, verdict.rule)) == Some((verdict.effect, verdict.rule))
        {
            return;
        }
        let rule = verdict.rule.map_or("OK", Rule::id);
        let article = verdict.rule.and_then(Rule::article);
        if verdict.effect == Effect::Allow {
            tracing::info!(event = "posture", effect = ?verdict.effect, rule, "the verdict is now");
        } else {
            tracing::warn!(event = "posture", effect = ?verdict.effect, rule, article, since = verdict.since.0, "the verdict is now");
        }
    }
}

impl Posture {
    /// A board on which nothing is known.
    #[must_use]
    pub(crate) fn new() -> Self {
        let nothing = Snapshot::nothing_known(now());
        Self {
            board: Mutex::new(Board {
                facts: nothing,
                told: None,
            }),
            published: Arc::new(ArcSwap::from_pointee(nothing)),
        }
    }

    /// What the data path reads on every request.
    #[must_use]
    pub(crate) fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.published)
    }

    /// The newest snapshot.
    #[must_use]
    pub(crate) fn snapshot(&self) -> Snapshot {
        **self.published.load()
    }

    /// Publishes the facts as they are, stamped with this moment.
    pub(crate) fn renew(&self) {
        self.change(|_, _| ());
    }

    /// The scanner caught its canary and let a clean body pass, or did not.
    pub(crate) fn antivirus(&self, alive: bool) {
        self.change(|facts, now| {
            let value = match (alive, facts.antivirus) {
                (true, _) => Antivirus::Alive,
                // A scanner that never gave a proof stays unknown: starting anew must not buy time either.
                (false, Evidence::Unknown { .. }) => return,
                // Counted from the last proof.
                (
                    false,
                    Evidence::Known {
                        value: Antivirus::Alive,
                        at,
                    },
                ) => Antivirus::Failing { since: at },
                (false, Evidence::Known { value: failing, .. }) => failing,
            };
            facts.antivirus = Evidence::Known { value, at: now };
        });
    }

    /// What is known of the facility certificate.
    pub(crate) fn certificate(&self, value: Certificate) {
        self.change(|facts, now| facts.certificate = Evidence::Known { value, at: now });
    }

    /// Nothing can be said of the facility certificate now: the TPM does not answer for its key.
    pub(crate) fn certificate_unknown(&self) {
        self.change(|facts, now| facts.certificate = Evidence::Unknown { since: now });
    }

    /// What the city says of the facility.
    pub(crate) fn standing(&self, suspended: bool) {
        self.change(|facts, now| {
            let value = match (suspended, facts.standing) {
                (false, _) => Standing::Active,
                (
                    true,
                    Evidence::Known {
                        value: already @ Standing::Suspended { .. },
                        ..
                    },
                ) => already,
                (true, _) => Standing::Suspended { since: now },
            };
            facts.standing = Evidence::Known { value, at: now };
        });
    }

    /// The clock agreed with the city's, or did not.
    pub(crate) fn clock(&self, sane: bool) {
        self.change(|facts, now| {
            let value = match (sane, facts.clock) {
                (true, _) => Clock::Sane,
                (
                    false,
                    Evidence::Known {
                        value: already @ Clock::Wrong { .. },
                        ..
                    },
                ) => already,
                (false, _) => Clock::Wrong { since: now },
            };
            facts.clock = Evidence::Known { value, at: now };
        });
    }

    fn change(&self, edit: impl FnOnce(&mut Snapshot, Timestamp)) {
        let now = now();
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut board.facts, now);
        board.facts.taken = now;
        self.published.store(Arc::new(board.facts));
        board.tell(now);
    }
}

impl Default for Posture {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_again_at_a_failing_scanner_does_not_buy_time() {
        let posture = Posture::new();
        posture.antivirus(true);
        let Evidence::Known { at: proof, .. } = posture.snapshot().antivirus else {
            panic!("it is known")
        };
        posture.antivirus(false);
        posture.antivirus(false);
        assert!(matches!(
            posture.snapshot().antivirus,
            Evidence::Known { value: Antivirus::Failing { since }, .. } if since == proof
        ));
    }

    #[test]
    fn a_scanner_that_never_worked_lets_nothing_be_forwarded() {
        let posture = Posture::new();
        posture.antivirus(false);
        let judged = Rule::AvAlive.judge(&posture.snapshot(), now());
        assert_eq!(judged.effect, Effect::Block);
    }

    #[test]
    fn a_suspension_keeps_its_first_time() {
        let posture = Posture::new();
        posture.standing(true);
        let first = posture.snapshot().standing;
        posture.standing(true);
        let Evidence::Known { value: a, .. } = first else {
            panic!("it is known")
        };
        let Evidence::Known { value: b, .. } = posture.snapshot().standing else {
            panic!("it is known")
        };
        assert_eq!(a, b);
    }
}
