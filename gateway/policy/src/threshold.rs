//! The built-in thresholds of every check, and how far a signed policy may move them. Does not know evidence.

use crate::{Check, Grade, Ladder, Wait};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What evidence of one check leads to, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Counted from the newest definite evidence: how long it is believed, and what its silence then leads to.
    pub stale: Ladder,
    /// Counted from when nothing was known, or when a measurement first failed.
    pub unknown: Ladder,
    /// Counted from the beginning of a failure of grade [`Grade::Minor`].
    pub minor: Ladder,
    /// Counted from the beginning of a failure of grade [`Grade::Major`].
    pub major: Ladder,
    /// Counted from the date of the thing, where evidence is a date.
    pub dated: Ladder,
}

/// One of the ladders of [`Thresholds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the fields of `Thresholds`")]
pub enum Part {
    Stale,
    Unknown,
    Minor,
    Major,
    Dated,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Stale,
        Self::Unknown,
        Self::Minor,
        Self::Major,
        Self::Dated,
    ];

    /// The name in the signed policy.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Dated => "dated",
        }
    }
}

impl Thresholds {
    /// One of the ladders.
    #[must_use]
    pub const fn part(&self, part: Part) -> &Ladder {
        match part {
            Part::Stale => &self.stale,
            Part::Unknown => &self.unknown,
            Part::Minor => &self.minor,
            Part::Major => &self.major,
            Part::Dated => &self.dated,
        }
    }

    /// One of the ladders, to be changed by a policy.
    pub(crate) const fn part_mut(&mut self, part: Part) -> &mut Ladder {
        match part {
            Part::Stale => &mut self.stale,
            Part::Unknown => &mut self.unknown,
            Part::Minor => &mut self.minor,
            Part::Major => &mut self.major,
            Part::Dated => &mut self.dated,
        }
    }

    /// The ladder of a failure.
    #[must_use]
    pub const fn failure(&self, grade: Grade) -> &Ladder {
        match grade {
            Grade::Minor => &self.minor,
            Grade::Major => &self.major,
        }
    }
}

const NEVER: Ladder = Ladder {
    warn: Wait::Never,
    restrict: Wait::Never,
    block: Wait::Never,
};

const fn warn(after: i64) -> Ladder {
    Ladder {
        warn: Wait::Seconds(after),
        ..NEVER
    }
}

const fn until_restrict(warned: i64, restricted: i64) -> Ladder {
    Ladder {
        restrict: Wait::Seconds(restricted),
        ..warn(warned)
    }
}

const fn until_block(warned: i64, restricted: i64, blocked: i64) -> Ladder {
    Ladder {
        block: Wait::Seconds(blocked),
        ..until_restrict(warned, restricted)
    }
}

const NOW: Ladder = until_block(0, 0, 0);

/// What each check leads to when no signed policy says otherwise. docs/compliance.md shows the same as a table.
#[must_use]
pub const fn built_in(check: Check) -> Thresholds {
    let silent = NEVER;
    match check {
        // The canary is scanned every five minutes; one more for the scan itself. A scanner without a proof blocks.
        Check::AvAlive => Thresholds {
            stale: until_block(6 * MINUTE, 6 * MINUTE, 15 * MINUTE),
            unknown: NOW,
            minor: until_block(0, 0, 15 * MINUTE),
            major: until_block(0, 0, 15 * MINUTE),
            dated: NOW,
        },
        Check::AvDb => Thresholds {
            stale: until_block(26 * HOUR, 3 * DAY, 7 * DAY),
            unknown: until_block(0, HOUR, DAY),
            minor: warn(0),
            major: until_block(0, HOUR, DAY),
            dated: until_block(26 * HOUR, 3 * DAY, 7 * DAY),
        },
        Check::AvSelf => Thresholds {
            stale: until_block(26 * HOUR, 27 * HOUR, 50 * HOUR),
            unknown: until_block(0, 15 * MINUTE, HOUR),
            minor: until_block(0, 0, 15 * MINUTE),
            major: until_block(0, 0, 15 * MINUTE),
            dated: NOW,
        },
        Check::AvConf => Thresholds {
            stale: until_block(26 * HOUR, 27 * HOUR, 50 * HOUR),
            unknown: until_block(0, 15 * MINUTE, HOUR),
            minor: NOW,
            major: NOW,
            dated: NOW,
        },
        Check::Boot => Thresholds {
            stale: until_block(26 * HOUR, 2 * DAY, 3 * DAY),
            unknown: until_block(0, DAY, DAY),
            minor: NOW,
            major: NOW,
            dated: NOW,
        },
        Check::Upd => Thresholds {
            stale: until_block(3 * DAY, 14 * DAY, 45 * DAY),
            unknown: until_block(0, 14 * DAY, 45 * DAY),
            minor: warn(3 * DAY),
            major: until_block(3 * DAY, 14 * DAY, 45 * DAY),
            dated: until_block(3 * DAY, 14 * DAY, 45 * DAY),
        },
        Check::Sbom => Thresholds {
            stale: warn(26 * HOUR),
            unknown: warn(0),
            minor: warn(0),
            major: warn(0),
            dated: warn(0),
        },
        Check::UsbBox => Thresholds {
            stale: warn(26 * HOUR),
            unknown: until_restrict(0, 14 * DAY),
            minor: warn(0),
            major: NOW,
            dated: NOW,
        },
        Check::Clock => Thresholds {
            stale: until_restrict(DAY, DAY),
            unknown: until_restrict(0, 0),
            minor: until_restrict(0, 0),
            major: until_restrict(0, 0),
            dated: until_restrict(DAY, DAY),
        },
        Check::Log => Thresholds {
            stale: until_restrict(26 * HOUR, 2 * DAY),
            unknown: until_restrict(0, DAY),
            minor: warn(DAY),
            major: until_restrict(0, 0),
            dated: warn(DAY),
        },
        Check::PcRpt => Thresholds {
            stale: until_block(DAY, 25 * HOUR, 14 * DAY),
            unknown: until_block(0, HOUR, 14 * DAY),
            minor: warn(0),
            major: until_block(0, HOUR, 14 * DAY),
            dated: until_block(DAY, 25 * HOUR, 14 * DAY),
        },
        Check::PcAv => Thresholds {
            minor: warn(0),
            major: until_block(0, 30 * MINUTE, DAY),
            dated: NOW,
            ..of_a_device()
        },
        Check::PcSig => Thresholds {
            minor: warn(0),
            // The PC's own flag goes up at about three days.
            major: until_block(0, 4 * DAY, 11 * DAY),
            dated: until_block(3 * DAY, 7 * DAY, 14 * DAY),
            ..of_a_device()
        },
        Check::PcOs => Thresholds {
            minor: warn(14 * DAY),
            major: until_block(14 * DAY, 30 * DAY, 60 * DAY),
            dated: until_block(14 * DAY, 30 * DAY, 60 * DAY),
            ..of_a_device()
        },
        Check::PcSw => Thresholds {
            minor: warn(0),
            major: until_restrict(0, DAY),
            dated: warn(0),
            ..of_a_device()
        },
        Check::PcLock | Check::PcEnc => Thresholds {
            minor: warn(0),
            major: until_restrict(0, 30 * DAY),
            dated: warn(0),
            ..of_a_device()
        },
        // What people do or forget never stops care (§4.1 of the compliance research: human processes never block).
        Check::PcOn => Thresholds {
            stale: warn(2 * DAY),
            unknown: warn(0),
            minor: warn(0),
            major: warn(0),
            dated: warn(0),
        },
        Check::PcUsb => Thresholds {
            minor: warn(0),
            major: Ladder {
                restrict: Wait::BusinessDays(3),
                ..warn(0)
            },
            dated: warn(0),
            ..of_a_device()
        },
        Check::Media | Check::Decl => Thresholds {
            stale: silent,
            unknown: warn(0),
            minor: warn(0),
            major: warn(0),
            dated: warn(90 * DAY),
        },
        Check::Training => Thresholds {
            stale: silent,
            unknown: warn(0),
            minor: warn(0),
            major: warn(0),
            dated: warn(365 * DAY),
        },
    }
}

/// What comes with a PC's report. When reports end, PC-RPT acts first; a source that cannot say one thing for two weeks
/// counts as failing.
const fn of_a_device() -> Thresholds {
    Thresholds {
        stale: until_block(2 * DAY, 8 * DAY, 15 * DAY),
        unknown: until_restrict(0, 14 * DAY),
        minor: NEVER,
        major: NEVER,
        dated: NEVER,
    }
}

/// The shortest and longest wait that a signed policy may set on one rung; `None` where it may set none at all.
///
/// A rung that is not there cannot be added and one that is there cannot be taken away, so no policy turns a warning
/// about people into a block, or a block into nothing. The loosest is twice the built-in wait (AV-DB: block after 14
/// days), and the built-in wait itself for what proves that scanning and booting can be trusted. The tightest is a
/// seventh, so that a faulty policy does not shut every facility at once; only the text exception of the AV-ALIVE
/// window may be taken away altogether.
#[must_use]
pub fn bounds(check: Check, part: Part, effect: crate::Effect) -> Option<(i64, i64)> {
    let built_in = match built_in(check).part(part).rung(effect) {
        Wait::Never => return None,
        Wait::Seconds(seconds) => seconds,
        // In days, as the policy then counts them too.
        Wait::BusinessDays(days) => i64::from(days),
    };
    let loosest = match check {
        Check::AvAlive | Check::AvSelf | Check::AvConf | Check::Boot | Check::UsbBox => built_in,
        _ => built_in * 2,
    };
    Some((built_in / 7, loosest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, SubjectKind, Timestamp};

    #[test]
    fn every_ladder_grows_harder_with_time() {
        for check in Check::ALL {
            for part in Part::ALL {
                let deadlines = built_in(check).part(part).from(Timestamp(0));
                let [warn, restrict, block] =
                    [Effect::Warn, Effect::Restrict, Effect::Block].map(|e| deadlines.at(e));
                assert!(warn <= restrict && restrict <= block, "{check:?} {part:?}");
            }
        }
    }

    #[test]
    fn a_greater_fault_is_never_treated_milder_than_a_lesser_one() {
        for check in Check::ALL {
            let at = |grade| built_in(check).failure(grade).from(Timestamp(0));
            assert_eq!(
                at(Grade::Major).tightened(&at(Grade::Minor)),
                at(Grade::Major),
                "{check:?}"
            );
        }
    }

    #[test]
    fn every_check_says_something_when_nothing_is_known() {
        for check in Check::ALL {
            assert!(
                built_in(check)
                    .unknown
                    .from(Timestamp(0))
                    .effect(Timestamp(0))
                    >= Effect::Warn
            );
        }
    }

    #[test]
    fn what_people_do_or_forget_only_ever_warns() {
        for check in Check::ALL {
            let human = check.subject() == SubjectKind::Facility || check == Check::PcOn;
            for part in Part::ALL {
                let hardest = built_in(check)
                    .part(part)
                    .from(Timestamp(0))
                    .effect(Timestamp(i64::MAX - 1));
                assert!(
                    !human || hardest <= Effect::Warn || part == Part::Stale,
                    "{check:?}"
                );
                assert!(!human || hardest <= Effect::Warn, "{check:?}");
            }
        }
    }

    #[test]
    fn an_antivirus_database_may_be_fourteen_days_old_at_the_most() {
        assert_eq!(
            bounds(Check::AvDb, Part::Dated, Effect::Block),
            Some((DAY, 14 * DAY))
        );
        assert_eq!(
            bounds(Check::Boot, Part::Major, Effect::Block),
            Some((0, 0))
        );
        assert_eq!(bounds(Check::Sbom, Part::Major, Effect::Block), None);
    }
}
