//! Whether a release is installed, restarted into, waited for or refused. Pure: everything it looks at comes in.
//!
//! Signatures are not its business: what comes in as a [`Manifest`] was checked.

use std::cmp::Ordering;

use gateway_policy::Timestamp;
use gateway_policy::version::compare;

use crate::hex;
use crate::manifest::Manifest;
use crate::schedule::{Eligible, eligible, place};
use crate::state::{Phase, State, System};
use crate::window::Window;

/// What this box is.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What runs.
    pub running: &'a System,
    /// The hardware's id, as releases name it.
    pub hardware: &'a str,
    /// What the box is called in the waves.
    pub box_id: &'a str,
    /// When it may be restarted; `None` for always.
    pub window: Option<&'a Window>,
    /// Now.
    pub now: Timestamp,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The release runs already.
    Level,
    /// It is installed now.
    Install,
    /// It is installed, and the box is restarted into it now.
    Restart,
    /// Neither, until a moment that is known, or not.
    Wait(Reason, Option<Timestamp>),
    /// Not at all.
    Refuse(Unfit),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The box's wave.
    Wave,
    /// The facility's window.
    Window,
    /// A system runs that was not judged yet.
    Trial,
}

/// Why a release is refused although it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// For other hardware.
    #[error("the release is for other hardware")]
    Hardware,
    /// Below the version that was good here.
    #[error("the release is below a version that was good here")]
    BelowFloor,
    /// Older than what runs.
    #[error("the release is older than what runs")]
    Older,
    /// The same version as what runs, with another content.
    #[error("the release has the version of what runs, and another content")]
    SameVersion,
    /// It failed here.
    #[error("the release has failed here")]
    FailedBefore,
}

/// Decides about a release.
#[must_use]
pub fn decide(manifest: &Manifest, state: &State, facts: &Facts<'_>) -> Decision {
    use Decision::{Install, Level, Refuse, Restart, Wait};
    let root_hash = hex::of(&manifest.root_hash);
    if manifest.hardware != facts.hardware {
        return Refuse(Unfit::Hardware);
    }
    match compare(&manifest.version, &facts.running.version) {
        Ordering::Equal if root_hash == facts.running.root_hash => return Level,
        Ordering::Equal => return Refuse(Unfit::SameVersion),
        Ordering::Less => return Refuse(Unfit::Older),
        Ordering::Greater => {}
    }
    let is_below = |floor: &str| compare(&manifest.version, floor) == Ordering::Less;
    if state.floor().is_some_and(is_below) {
        return Refuse(Unfit::BelowFloor);
    }
    if state.has_failed(&manifest.version, &root_hash) {
        return Refuse(Unfit::FailedBefore);
    }
    let it_waits = match state.phase() {
        Phase::Trying(_) | Phase::Healthy(_) => return Wait(Reason::Trial, None),
        Phase::Written(it) => {
            it.system.version == manifest.version && it.system.root_hash == root_hash
        }
        Phase::Idle | Phase::Fetching(_) => false,
    };
    match eligible(&manifest.schedule, place(facts.box_id, &manifest.version)) {
        Eligible::Never => return Wait(Reason::Wave, None),
        Eligible::From(at) if facts.now < at => return Wait(Reason::Wave, Some(at)),
        _ => {}
    }
    let overdue = manifest.deadline.is_some_and(|at| facts.now >= at);
    if let Some(window) = facts.window
        && !overdue
        && !window.is_open(facts.now)
    {
        let opens = window.next(facts.now);
        let opens = manifest.deadline.map_or(opens, |at| opens.min(at));
        return Wait(Reason::Window, Some(opens));
    }
    if it_waits { Restart } else { Install }
}

#[cfg(test)]
#[path = "decide/tests.rs"]
mod tests;
