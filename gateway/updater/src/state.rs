//! What the updater knows of its own work, and how that changes. Pure: nothing is read, written or measured here.
//!
//! The floor is the version below which nothing is installed again. It rises in one place only, [`State::blessed`], and never sinks.
//! A version that failed is kept until a newer one is begun or a person says `retry`.

use std::cmp::Ordering;

use gateway_policy::Timestamp;
use gateway_policy::version::compare;
use serde::{Deserialize, Serialize};

use crate::slot::{KernelName, Slot};

/// A system in one slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its version.
    pub version: String,
    /// The root hash of its image, lower-case hexadecimal.
    pub root_hash: String,
    /// The slot.
    pub slot: Slot,
}

/// A system on its way into the other slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// What it is.
    pub system: System,
    /// SHA-256 of its kernel, lower-case hexadecimal.
    pub kernel: String,
}

/// How far an update is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", content = "candidate", rename_all = "kebab-case")]
pub enum Phase {
    /// None is under way.
    Idle,
    /// The other slot is being written; it has no kernel.
    Fetching(Candidate),
    /// The other slot is whole and verified and its kernel has one attempt; the restart is due.
    Written(Candidate),
    /// It runs, and nobody knows yet whether it is good.
    Trying(Candidate),
    /// It runs and is good; its kernel is about to lose its counter.
    Healthy(Candidate),
}

/// Why a version failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It was started and the old one came back: it stopped by itself, hung, was refused by the firmware, or lost its power before it was
    /// known to be good.
    NoVerdict,
    /// It ran, and its health check failed.
    Unhealthy,
}

/// A version that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// Which.
    pub version: String,
    /// Its root hash.
    pub root_hash: String,
    /// Why.
    pub why: Why,
    /// When that was seen, in seconds since 1970.
    pub at: i64,
}

/// A version that was found to be good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Good {
    /// What was running then.
    pub system: System,
    /// When, in seconds since 1970.
    pub at: i64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The floor; `None` until the first version was found to be good.
    floor: Option<String>,
    /// How far an update is.
    work: Phase,
    /// The newest version that failed and that nothing has replaced since.
    failed: Option<Failed>,
    /// The newest version that was found to be good.
    good: Option<Good>,
}

/// A step that does not follow from where things are: a fault of the program, or a record of another box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} does not follow from where the update is")]
pub struct Disorder(&'static str);

/// What [`State::started`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing that changes anything.
    Nothing,
    /// The new version runs for the first time.
    FirstStart,
    /// The old version is back.
    CameBack,
    /// What was written is not there any more, or was cut while it was being blessed: it is begun again.
    BeginAgain,
}

impl Default for State {
    fn default() -> Self {
        Self {
            floor: None,
            work: Phase::Idle,
            failed: None,
            good: None,
        }
    }
}

impl State {
    /// The version below which nothing is installed.
    #[must_use]
    pub fn floor(&self) -> Option<&str> {
        self.floor.as_deref()
    }

    /// How far an update is.
    #[must_use]
    pub const fn phase(&self) -> &Phase {
        &self.work
    }

    /// The version that failed.
    #[must_use]
    pub const fn failed(&self) -> Option<&Failed> {
        self.failed.as_ref()
    }

    /// The newest version that was found to be good.
    #[must_use]
    pub const fn good(&self) -> Option<&Good> {
        self.good.as_ref()
    }

    /// The system under way, in whatever phase.
    #[must_use]
    pub const fn candidate(&self) -> Option<&Candidate> {
        match &self.work {
            Phase::Idle => None,
            Phase::Fetching(it) | Phase::Written(it) | Phase::Trying(it) | Phase::Healthy(it) => {
                Some(it)
            }
        }
    }

    /// True when this very system failed and nobody has said `retry`.
    #[must_use]
    pub fn has_failed(&self, version: &str, root_hash: &str) -> bool {
        self.failed
            .as_ref()
            .is_some_and(|failed| failed.version == version && failed.root_hash == root_hash)
    }

    /// Begins to write a candidate into the other slot, in place of one that waits there.
    ///
    /// # Errors
    /// While a candidate runs that nobody has judged.
    pub fn begin(&mut self, candidate: Candidate) -> Result<(), Disorder> {
        if matches!(self.work, Phase::Trying(_) | Phase::Healthy(_)) {
            return Err(Disorder("beginning"));
        }
        let newer = |failed: &Failed| {
            compare(&candidate.system.version, &failed.version) == Ordering::Greater
        };
        if self.failed.as_ref().is_some_and(newer) {
            self.failed = None;
        }
        self.work = Phase::Fetching(candidate);
        Ok(())
    }

    /// The candidate is on the disk, whole, verified and startable.
    ///
    /// # Errors
    /// When none was being fetched.
    pub fn written(&mut self) -> Result<(), Disorder> {
        let Phase::Fetching(candidate) = &self.work else {
            return Err(Disorder("writing"));
        };
        self.work = Phase::Written(candidate.clone());
        Ok(())
    }

    /// The candidate was taken back before anybody started it.
    ///
    /// # Errors
    /// When it runs.
    pub fn withdrawn(&mut self) -> Result<(), Disorder> {
        if matches!(self.work, Phase::Trying(_) | Phase::Healthy(_)) {
            return Err(Disorder("taking back"));
        }
        self.work = Phase::Idle;
        Ok(())
    }

    /// Compares what is recorded with what runs and with the candidate's kernel, `kernel`, as it lies there whole; `None` when it does not.
    pub fn started(
        &mut self,
        running: &System,
        kernel: Option<&KernelName>,
        at: Timestamp,
    ) -> Found {
        let Some(candidate) = self.candidate().cloned() else {
            return Found::Nothing;
        };
        if candidate.system == *running {
            if matches!(self.work, Phase::Fetching(_) | Phase::Written(_)) {
                self.work = Phase::Trying(candidate);
                return Found::FirstStart;
            }
            return Found::Nothing;
        }
        let given_up = kernel.is_some_and(KernelName::is_given_up);
        match self.work {
            Phase::Fetching(_) | Phase::Written(_) if given_up => self.fail(Why::NoVerdict, at),
            Phase::Trying(_) => self.fail(Why::NoVerdict, at),
            Phase::Written(_) if kernel.is_some() => return Found::Nothing,
            Phase::Fetching(_) => return Found::Nothing,
            // Its health had been seen to be good: the cut came while its kernel lost its counter.
            Phase::Written(_) | Phase::Healthy(_) => {
                self.work = Phase::Idle;
                return Found::BeginAgain;
            }
            Phase::Idle => return Found::Nothing,
        }
        Found::CameBack
    }

    /// The candidate runs and is good.
    ///
    /// # Errors
    /// When none is being tried.
    pub fn healthy(&mut self) -> Result<(), Disorder> {
        match &self.work {
            Phase::Trying(candidate) => self.work = Phase::Healthy(candidate.clone()),
            Phase::Healthy(_) => {}
            _ => return Err(Disorder("a verdict")),
        }
        Ok(())
    }

    /// The candidate runs and is not good.
    ///
    /// # Errors
    /// When none is being tried.
    pub fn unhealthy(&mut self, at: Timestamp) -> Result<(), Disorder> {
        if !matches!(self.work, Phase::Trying(_)) {
            return Err(Disorder("a verdict"));
        }
        self.fail(Why::Unhealthy, at);
        Ok(())
    }

    /// `running` has a kernel without a counter, read back after it was on the medium: the floor rises to it.
    ///
    /// Without an update under way this is the system that the box came with, or one whose blessing was cut before it was recorded.
    ///
    /// # Errors
    /// When another candidate runs, or this one was not found to be good.
    pub fn blessed(&mut self, running: &System, at: Timestamp) -> Result<(), Disorder> {
        match &self.work {
            Phase::Healthy(candidate) if candidate.system == *running => self.work = Phase::Idle,
            Phase::Trying(_) | Phase::Healthy(_) => return Err(Disorder("a blessing")),
            _ => {}
        }
        let rises = |floor: &String| compare(&running.version, floor) == Ordering::Greater;
        if self.floor.as_ref().is_none_or(rises) {
            self.floor = Some(running.version.clone());
        }
        if self.has_failed(&running.version, &running.root_hash) {
            self.failed = None;
        }
        if self
            .good
            .as_ref()
            .is_none_or(|good| good.system != *running)
        {
            self.good = Some(Good {
                system: running.clone(),
                at: at.0,
            });
        }
        Ok(())
    }

    /// A person wants the version that failed to be tried once more. True when there was one.
    pub fn retry(&mut self) -> bool {
        self.failed.take().is_some()
    }

    fn fail(&mut self, why: Why, at: Timestamp) {
        if let Some(candidate) = self.candidate().cloned() {
            self.failed = Some(Failed {
                version: candidate.system.version,
                root_hash: candidate.system.root_hash,
                why,
                at: at.0,
            });
        }
        self.work = Phase::Idle;
    }
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
