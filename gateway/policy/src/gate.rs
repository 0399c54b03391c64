//! Turns a snapshot into a verdict, and a verdict into a permit or a refusal. Does not write the sentence a person reads.

use crate::{Area, Asked, Effect, Rule, Snapshot, Timestamp};

/// What all rules together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The hardest effect any rule asks for.
    pub effect: Effect,
    /// The rule that asks for it; `None` when everything is in order.
    pub rule: Option<Rule>,
    /// Since when the fact behind it holds; with no rule, when the snapshot was taken.
    pub since: Timestamp,
}

/// The one place where a request is let through or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    // The city's signed policy will tighten thresholds here; until then they are the compiled-in ones.
    _thresholds: (),
}

impl Gate {
    /// A gate with the built-in thresholds.
    #[must_use]
    pub const fn new() -> Self {
        Self { _thresholds: () }
    }

    /// The hardest finding of all rules.
    #[must_use]
    pub fn verdict(&self, snapshot: &Snapshot, now: Timestamp) -> Verdict {
        let mut worst = Verdict {
            effect: Effect::Allow,
            rule: None,
            since: snapshot.taken,
        };
        for rule in Rule::ALL {
            let finding = rule.judge(snapshot, now);
            if finding.effect > worst.effect {
                worst = Verdict {
                    effect: finding.effect,
                    rule: Some(rule),
                    since: finding.since,
                };
            }
        }
        worst
    }

    /// Judges one request.
    ///
    /// To be called for every request, on open connections too, with the newest snapshot.
    ///
    /// # Errors
    /// A [`Refusal`] that names the rule.
    pub fn check(
        &self,
        asked: &Asked,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Permit, Refusal> {
        let verdict = self.verdict(snapshot, now);
        let permitted = match asked.area {
            Area::Public | Area::Box => true,
            Area::Staff => match verdict.effect {
                Effect::Allow | Effect::Warn => true,
                Effect::Restrict => !asked.transfers_file,
                Effect::Block => false,
            },
        };
        match verdict.rule {
            Some(rule) if !permitted => Err(Refusal {
                rule,
                article: rule.article(),
                effect: verdict.effect,
                since: verdict.since,
            }),
            _ => Ok(Permit {
                area: asked.area,
                verdict,
            }),
        }
    }
}

/// Proof that the gate let one request through. Only the gate makes it, and forwarding spends it.
///
/// Neither `Clone` nor constructible elsewhere:
///
/// ```compile_fail
/// let forged = gateway_policy::Permit { area: gateway_policy::Area::Staff, verdict: todo!() };
/// ```
/// ```compile_fail
/// fn twice(permit: gateway_policy::Permit) -> (gateway_policy::Permit, gateway_policy::Permit) {
///     (permit.clone(), permit)
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit is spent by forwarding the request it was given for"]
pub struct Permit {
    area: Area,
    verdict: Verdict,
}

impl Permit {
    /// What it permits.
    #[must_use]
    pub const fn area(&self) -> Area {
        self.area
    }

    /// The verdict it came from, for the journal.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The id of the rule that warns or restricts; `"OK"` when none does.
    #[must_use]
    pub const fn rule_id(&self) -> &'static str {
        match self.verdict.rule {
            Some(rule) => rule.id(),
            None => "OK",
        }
    }
}

/// Why a request was not let through. The sentence for the reader is written where the page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused by {}", rule.id())]
pub struct Refusal {
    /// The rule that refused.
    pub rule: Rule,
    /// The article it rests on, if any.
    pub article: Option<u8>,
    /// What is in force: [`Effect::Restrict`] or [`Effect::Block`].
    pub effect: Effect,
    /// Since when the fact behind it holds.
    pub since: Timestamp,
}
