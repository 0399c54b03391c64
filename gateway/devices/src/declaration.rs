//! What a manager declares of a device that cannot report: looked at and found good, for ninety days at most (第28条, 第29条).

use gateway_policy::{Check, DeviceId, Observation, Observed, Source, Timestamp};

use crate::Kind;
use crate::secret::sha256;

/// How long a declaration holds, in days. The manager looks again before it ends.
pub const DECLARATION_DAYS: i64 = 90;

/// A declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Which device.
    pub device: DeviceId,
    /// What was looked at.
    pub check: Check,
    /// When.
    pub at: Timestamp,
    /// Until when it holds.
    pub until: Timestamp,
}

impl Declared {
    /// What it says: pass, from a source that is shown as the manager's word, until it ends; after that nothing.
    ///
    /// `at` is `now`: the policy gives every measurement a life of hours, a declaration has its own, and it is here that it
    /// is kept. When it was declared stays in the digest.
    pub(crate) fn observed(&self, now: Timestamp) -> Observed {
        let holds = self.at <= now && now < self.until;
        let evidence = [
            self.device.0.as_slice(),
            self.check.id().as_bytes(),
            &self.at.0.to_be_bytes(),
        ]
        .concat();
        Observed {
            check: self.check,
            observation: if holds {
                Observation::Pass
            } else {
                Observation::Unknown(gateway_policy::Missing::Stale)
            },
            at: now,
            source: Source::Declared,
            digest: sha256(&evidence),
        }
    }
}

/// What is declared of a kind of device, because nothing on it measures it.
#[must_use]
pub(crate) const fn declarable(kind: Kind) -> &'static [Check] {
    match kind {
        Kind::Windows => &[],
        // Neither has a place where the system remembers sticks, or forbids them.
        Kind::Mac => &[Check::PcUsb],
        Kind::Linux => &[Check::PcUsb, Check::PcLock],
        Kind::Ipad | Kind::Android | Kind::Chromebook => &[
            Check::PcAv,
            Check::PcOs,
            Check::PcSw,
            Check::PcLock,
            Check::PcUsb,
            Check::PcEnc,
        ],
    }
}

/// What does not concern a kind of device: tablets get their protection with their system (PC-AV is declared), send no
/// reports, and are meant to stay on.
pub(crate) const fn inapplicable(kind: Kind) -> &'static [Check] {
    if kind.reports() {
        &[]
    } else {
        &[Check::PcSig, Check::PcRpt, Check::PcOn]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_is_worth_something_until_it_ends() {
        let at = Timestamp(1_800_000_000);
        let until = at.plus(DECLARATION_DAYS * 86_400);
        let declared = Declared {
            device: DeviceId([1; 16]),
            check: Check::PcLock,
            at,
            until,
        };
        assert_eq!(declared.observed(at).observation, Observation::Pass);
        assert_eq!(declared.observed(until.plus(-1)).source, Source::Declared);
        for outside in [until, at.plus(-1)] {
            assert!(matches!(
                declared.observed(outside).observation,
                Observation::Unknown(_)
            ));
        }
    }

    #[test]
    fn each_check_of_a_device_is_reported_declared_or_does_not_concern_it() {
        for kind in Kind::ALL {
            for check in declarable(kind) {
                assert!(!inapplicable(kind).contains(check));
            }
        }
    }
}
