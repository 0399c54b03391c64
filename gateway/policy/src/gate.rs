//! Turns a snapshot into a verdict, and a verdict into a permit or a refusal. Does not write the sentence a person reads.

use std::sync::Arc;

use crate::ledger::just_back;
use crate::recent::Recent;
use crate::snapshot::{BOX_CHECKS, DEVICE_CHECKS, FACILITY_CHECKS};
use crate::{Area, Asked, DeviceEntry, DeviceId, Effect, Finding, Rule, Snapshot, Timestamp};

/// What rules together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The hardest effect any rule asks for.
    pub effect: Effect,
    /// The rule that asks for it; `None` when everything is in order.
    pub rule: Option<Rule>,
    /// Since when the fact behind it holds; with no rule, when the snapshot was taken.
    pub since: Timestamp,
    /// When a harder effect sets in by the same rule, if ever.
    pub deadline: Option<Timestamp>,
    /// An emergency has turned a block into this restriction, until then.
    pub break_glass: Option<Timestamp>,
}

impl Verdict {
    const fn clear(snapshot: &Snapshot) -> Self {
        Self {
            effect: Effect::Allow,
            rule: None,
            since: snapshot.taken,
            deadline: None,
            break_glass: None,
        }
    }

    fn hear(&mut self, rule: Rule, finding: Finding, break_glass: Option<Timestamp>) {
        let lowered =
            break_glass.filter(|_| finding.effect == Effect::Block && rule.yields_to_break_glass());
        let effect = match lowered {
            Some(_) => Effect::Restrict,
            None => finding.effect,
        };
        if effect > self.effect {
            *self = Self {
                effect,
                rule: Some(rule),
                since: finding.since,
                deadline: finding.deadline,
                break_glass: lowered,
            };
        }
    }

    /// The harder of both; of equals the first.
    fn or_harder(self, other: Self) -> Self {
        if other.effect > self.effect {
            other
        } else {
            self
        }
    }
}

impl From<Option<DeviceId>> for Device {
    fn from(shown: Option<DeviceId>) -> Self {
        shown.map_or(Self::Unknown, Self::Registered)
    }
}

/// Who asks, as far as the box can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// A device that has proven with a certificate of the box's or the city's that it is this one.
    Registered(DeviceId),
    /// Any other.
    Unknown,
}

/// What the box does about devices that are not registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownDevices {
    /// They reach the public portal and the box's pages only (第29条).
    #[default]
    Refuse,
    /// As long as no device is registered they are let through with a warning, for somebody has to sign in who registers
    /// the first one; from then on they are refused.
    RefuseOnceOneIsRegistered,
    /// They are let through with a warning: while a facility's devices are being registered.
    Warn,
}

/// What concerns every request alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    own: Verdict,
    facility: Verdict,
}

/// The one place where a request is let through or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    unknown_devices: UnknownDevices,
}

impl Gate {
    /// A gate that refuses unknown devices. Its thresholds come with each snapshot.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            unknown_devices: UnknownDevices::Refuse,
        }
    }

    /// The same with another answer to unknown devices.
    #[must_use]
    pub const fn with_unknown_devices(self, unknown_devices: UnknownDevices) -> Self {
        Self { unknown_devices }
    }

    /// The hardest finding about the box itself: what its home page shows.
    #[must_use]
    pub fn box_verdict(&self, snapshot: &Snapshot, now: Timestamp) -> Verdict {
        let mut worst = Verdict::clear(snapshot);
        let break_glass = snapshot.break_glass(now);
        for rule in [Rule::Suspended, Rule::Cert, Rule::SnapshotStale] {
            worst.hear(rule, rule.judge(snapshot, now), None);
        }
        for check in BOX_CHECKS {
            let rule = Rule::Check(check);
            worst.hear(rule, rule.judge(snapshot, now), break_glass);
        }
        worst
    }

    /// The hardest finding about one device, the box aside.
    #[must_use]
    pub fn device_verdict(&self, device: Device, snapshot: &Snapshot, now: Timestamp) -> Verdict {
        let mut worst = Verdict::clear(snapshot);
        let known = match device {
            Device::Registered(id) => snapshot.device(id),
            Device::Unknown => None,
        };
        let Some(entry) = known else {
            // Also one whose certificate is good but that is in the register no longer.
            let effect = match self.unknown_devices {
                UnknownDevices::Refuse => Effect::Block,
                UnknownDevices::RefuseOnceOneIsRegistered
                    if snapshot
                        .devices()
                        .iter()
                        .any(|known| known.revoked.is_none()) =>
                {
                    Effect::Block
                }
                UnknownDevices::RefuseOnceOneIsRegistered | UnknownDevices::Warn => Effect::Warn,
            };
            worst.hear(Rule::Device, Finding::new(effect, snapshot.taken), None);
            return worst;
        };
        if let Some(since) = entry.revoked {
            worst.hear(
                Rule::DeviceRevoked,
                Finding::new(Effect::Block, since),
                None,
            );
            return worst;
        }
        hear_device(&mut worst, entry, snapshot, now);
        worst
    }

    /// The hardest finding about the facility's registers and declarations; never more than a warning.
    #[must_use]
    pub fn facility_verdict(&self, snapshot: &Snapshot, now: Timestamp) -> Verdict {
        let mut worst = Verdict::clear(snapshot);
        for check in FACILITY_CHECKS {
            let rule = Rule::Check(check);
            let mut finding = rule.judge(snapshot, now);
            finding.effect = finding.effect.min(Effect::Warn);
            worst.hear(rule, finding, None);
        }
        worst
    }

    /// All together: what a request from this device meets.
    ///
    /// Where two say the same, the one to act on first is named: at a warning that is what is wrong with the device,
    /// because whoever sits there can mend it; otherwise the box, without which mending the device helps nothing.
    #[must_use]
    pub fn verdict(&self, device: Device, snapshot: &Snapshot, now: Timestamp) -> Verdict {
        self.together(self.shared(snapshot, now), device, snapshot, now)
    }

    /// What the box and the facility come to, whoever asks.
    pub(crate) fn shared(&self, snapshot: &Snapshot, now: Timestamp) -> Shared {
        Shared {
            own: self.box_verdict(snapshot, now),
            facility: self.facility_verdict(snapshot, now),
        }
    }

    fn together(
        &self,
        shared: Shared,
        device: Device,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Verdict {
        let Shared { own, facility } = shared;
        let theirs = self.device_verdict(device, snapshot, now);
        let worst = if own.effect <= Effect::Warn {
            theirs.or_harder(own)
        } else {
            own.or_harder(theirs)
        };
        worst.or_harder(facility)
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
        device: Device,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Permit, Refusal> {
        self.decide(asked, self.verdict(device, snapshot, now))
    }

    /// The same as [`Gate::check`], with what concerns everybody taken from the request before where it was judged in the
    /// same second by the same snapshot.
    ///
    /// # Errors
    /// A [`Refusal`] that names the rule.
    pub fn check_recent(
        &self,
        recent: &mut Recent,
        asked: &Asked,
        device: Device,
        snapshot: &Arc<Snapshot>,
        now: Timestamp,
    ) -> Result<Permit, Refusal> {
        let shared = recent.shared(self, snapshot, now);
        self.decide(asked, self.together(shared, device, snapshot, now))
    }

    fn decide(&self, asked: &Asked, verdict: Verdict) -> Result<Permit, Refusal> {
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
                deadline: verdict.deadline,
            }),
            _ => Ok(Permit {
                area: asked.area,
                verdict,
            }),
        }
    }
}

fn hear_device(worst: &mut Verdict, device: &DeviceEntry, snapshot: &Snapshot, now: Timestamp) {
    let time = snapshot.time(now);
    let break_glass = snapshot.break_glass(now);
    let absence = just_back(device.seen, time);
    // The report first: where none arrives, all the rest is unknown for that reason.
    let all = DEVICE_CHECKS.into_iter().zip(&device.checks);
    for (check, entry) in all.rev() {
        let entry = entry.caught_up(absence);
        let finding = Finding::of(&entry, time, now);
        worst.hear(Rule::Check(check), finding, break_glass);
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

    /// The verdict it came from: for the journal, and for what a body may do ([`crate::content`]).
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
    /// The rule that refused. [`Rule::remedy`] says who can set it right.
    pub rule: Rule,
    /// The article it rests on, if any.
    pub article: Option<u8>,
    /// What is in force: [`Effect::Restrict`] or [`Effect::Block`].
    pub effect: Effect,
    /// Since when the fact behind it holds.
    pub since: Timestamp,
    /// When a harder effect sets in, if ever.
    pub deadline: Option<Timestamp>,
}
