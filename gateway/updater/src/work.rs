//! The commands of `gateway-update`, from a configuration to an outcome.
//!
//! It prints nothing and ends no process; `main` does. One process at a time does any of it: the record's lock says so.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use der::DecodePem as _;
use gateway_policy::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use x509_cert::Certificate;

use crate::UpdateError;
use crate::channel::Channel;
use crate::config::{Config, Partitions};
use crate::decide::{Decision, Facts, Reason, decide};
use crate::device::Partition;
use crate::folder::Directory;
use crate::health::{self, Missing};
use crate::hex;
use crate::install::{Judged, Machine, Parts, Trust};
use crate::manifest::Manifest;
use crate::record::Record;
use crate::running;
use crate::schedule::{Eligible, eligible, place};
use crate::source::Bucket;
use crate::state::{Found, Phase, State, System};
use crate::writer::{Origin, Pair};

/// Below the state directory.
const RECORD: &str = "record";
const LOCK: &str = "lock";

/// The box as the commands work on it.
pub type Box = Machine<Partition, Directory, Directory>;

/// What `check` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Nothing was ever released.
    Nothing,
    /// What runs is the newest release.
    Level,
    /// Neither installed nor restarted yet.
    Waits(Reason, Option<Timestamp>),
    /// Installed, and the restart was asked for. Where the bytes came from; `None` when it had been installed before.
    Restarts(System, Option<Origin>),
    /// Installed; the restart waits.
    Installed(System, Origin, Option<Timestamp>),
}

/// What `status` shows.
#[derive(Clone, Debug)]
pub struct Status {
    /// What runs.
    pub running: System,
    /// What the updater knows of its own work.
    pub state: State,
}

/// Opens the box: lock, record, partitions, kernels; and clears up after the last run.
///
/// # Errors
/// What is not as it should be.
pub fn open(config: &Config, now: Timestamp) -> Result<(Box, Flock<File>, Found), UpdateError> {
    let lock = locked(config)?;
    let running = running::recognise(config)?;
    let (active, other) = (running.slot, running.slot.other());
    let record = directory(&config.state.join(RECORD))?;
    let mut machine = Machine {
        active: pair(config, config.partitions_of(active), false)?,
        other: pair(config, config.partitions_of(other), true)?,
        esp: Directory::open(&config.kernels).map_err(UpdateError::Esp)?,
        record: Record::open(record)?,
        running,
    };
    let found = machine.start(now)?;
    Ok((machine, lock, found))
}

/// Looks at the channel, and installs and restarts when that is due.
///
/// # Errors
/// Why a release was refused or could not be installed.
pub async fn check(
    config: &Config,
    medium: Option<&Path>,
    clock: &dyn Fn() -> Timestamp,
) -> Result<Checked, UpdateError> {
    let now = clock();
    let (mut machine, _lock, found) = open(config, now)?;
    tell_found(found, &machine.running);
    let mut channel = Channel::refresh(config, medium, now).await?;
    let Some(manifest) = channel.manifest().await? else {
        return Ok(Checked::Nothing);
    };
    let box_id = running::box_id(&config.box_id)?;
    let running = machine.running.clone();
    let facts = |now| Facts {
        running: &running,
        hardware: &config.hardware,
        box_id: &box_id,
        window: config.window.as_ref(),
        now,
    };
    tell_wave(&eligible(
        &manifest.schedule,
        place(&box_id, &manifest.version),
    ));
    let decision = decide(&manifest, machine.record.state(), &facts(now));
    if is_taken_back(machine.record.state(), &manifest, decision) {
        machine.withdraw()?;
        tracing::warn!(
            event = "update",
            reason = "UPD-WITHDRAWN",
            "an installed release was taken back before it was started"
        );
    }
    match decision {
        Decision::Level => return Ok(Checked::Level),
        Decision::Wait(reason, until) => return Ok(Checked::Waits(reason, until)),
        Decision::Refuse(unfit) => return Err(unfit.into()),
        Decision::Restart => return restart(config, &machine, None),
        Decision::Install => {}
    }
    let other = machine.running.slot.other();
    let fetched = channel.fetch(&manifest, other).await?;
    let parts = Parts {
        index: &fetched.index,
        lengths: fetched.lengths,
        kernel: &fetched.kernel,
    };
    let prepared = machine.prepare(
        &manifest,
        parts,
        &trust(config, config.partitions_of(other))?,
    )?;
    let mut bucket = Bucket::new(config.bytes_per_second);
    let origin = machine
        .install(&prepared, &fetched.images, &mut bucket)
        .await?;
    // Writing may have taken hours: whether the box may be restarted is asked again.
    match decide(&manifest, machine.record.state(), &facts(clock())) {
        Decision::Restart => restart(config, &machine, Some(origin)),
        Decision::Wait(_, until) => match machine.record.state().candidate() {
            Some(candidate) => Ok(Checked::Installed(candidate.system.clone(), origin, until)),
            None => Ok(Checked::Level),
        },
        Decision::Refuse(unfit) => Err(unfit.into()),
        Decision::Level | Decision::Install => Ok(Checked::Level),
    }
}

/// Judges what runs, and goes back to the old system when a new one is not good.
///
/// # Errors
/// What disk and record say.
pub async fn health(
    config: &Config,
    clock: &dyn Fn() -> Timestamp,
) -> Result<(Judged, Option<Missing>), UpdateError> {
    let (machine, _lock, found) = open(config, clock())?;
    tell_found(found, &machine.running);
    judge(config, machine, clock).await
}

/// Judges a new version that runs and that nobody has judged: its judge has died. `None` when there is no such version.
///
/// Without it a box would run an unjudged version until its next restart, and take no other release meanwhile.
///
/// # Errors
/// As [`health()`].
pub async fn overdue_verdict(
    config: &Config,
    clock: &dyn Fn() -> Timestamp,
) -> Result<Option<(Judged, Option<Missing>)>, UpdateError> {
    let (machine, _lock, found) = open(config, clock())?;
    tell_found(found, &machine.running);
    if !matches!(
        machine.record.state().phase(),
        Phase::Trying(_) | Phase::Healthy(_)
    ) {
        return Ok(None);
    }
    tracing::warn!(
        event = "update",
        reason = "UPD-UNJUDGED",
        "a new version runs that was not judged when it started; it is now"
    );
    judge(config, machine, clock).await.map(Some)
}

/// Asks gatewayd, records the verdict and acts on it.
async fn judge(
    config: &Config,
    mut machine: Box,
    clock: &dyn Fn() -> Timestamp,
) -> Result<(Judged, Option<Missing>), UpdateError> {
    let patience = Duration::from_secs(config.health_seconds);
    let (verdict, missing) = health::examine(&config.control, patience).await;
    let judged = machine.judge(verdict, clock())?;
    if judged == Judged::GoBack {
        ask_for_restart(config)?;
    }
    Ok((judged, missing))
}

/// How things stand. Changes nothing, and waits for nobody.
///
/// # Errors
/// What cannot be read.
pub fn status(config: &Config) -> Result<Status, UpdateError> {
    let folder = config.state.join(RECORD);
    let state = match Directory::open(&folder) {
        Ok(folder) => Record::open(folder)?.state().clone(),
        Err(_) => State::default(),
    };
    Ok(Status {
        running: running::recognise(config)?,
        state,
    })
}

/// Has the version that failed tried once more, at the next check. True when there was one.
///
/// # Errors
/// What disk and record say.
pub fn retry(config: &Config) -> Result<bool, UpdateError> {
    let _lock = locked(config)?;
    let mut record = Record::open(directory(&config.state.join(RECORD))?)?;
    let mut state = record.state().clone();
    let was = state.retry();
    if was {
        record.put(state)?;
    }
    Ok(was)
}

/// What waits for its restart is started by the next restart for whatever reason; so it goes when the channel names another release, or
/// this one later. That is how a city stops a roll-out.
fn is_taken_back(state: &State, manifest: &Manifest, decision: Decision) -> bool {
    let Phase::Written(candidate) = state.phase() else {
        return false;
    };
    let same = candidate.system.version == manifest.version
        && candidate.system.root_hash == hex::of(&manifest.root_hash);
    !same
        || matches!(
            decision,
            Decision::Wait(Reason::Wave, _) | Decision::Refuse(_)
        )
}

fn restart(config: &Config, machine: &Box, origin: Option<Origin>) -> Result<Checked, UpdateError> {
    let Some(candidate) = machine.record.state().candidate() else {
        return Ok(Checked::Level);
    };
    ask_for_restart(config)?;
    Ok(Checked::Restarts(candidate.system.clone(), origin))
}

fn ask_for_restart(config: &Config) -> Result<(), UpdateError> {
    let Some((program, arguments)) = config.restart.split_first() else {
        return Ok(());
    };
    let status = Command::new(program).args(arguments).status();
    let failed = |status: std::process::ExitStatus| {
        UpdateError::Restart(std::io::Error::other(status.to_string()))
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status)),
        Err(error) => Err(UpdateError::Restart(error)),
    }
}

fn trust(config: &Config, other: &Partitions) -> Result<Trust, UpdateError> {
    let shown = config.signer.display();
    let wrong = |error: String| UpdateError::Config(format!("{shown}: {error}"));
    let pem = std::fs::read(&config.signer).map_err(|error| wrong(error.to_string()))?;
    Ok(Trust {
        partitions: other.both(),
        signer: Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?,
    })
}

fn pair(
    config: &Config,
    partitions: &Partitions,
    writable: bool,
) -> Result<Pair<Partition>, UpdateError> {
    use crate::index::Image::{Root, Verity};
    let open = |image, uuid: &str| {
        Partition::open(&config.partitions.join(uuid), writable)
            .map_err(|error| UpdateError::Device(image, error))
    };
    Ok(Pair {
        root: open(Root, &partitions.root)?,
        verity: open(Verity, &partitions.verity)?,
    })
}

/// A directory for this process alone, made when it is not there.
fn directory(path: &Path) -> Result<Directory, UpdateError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |error| UpdateError::Record(crate::record::RecordError::Disk(error));
    if !path.is_dir() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).map_err(failed)?;
        if let Some(parent) = path.parent() {
            let parent = File::open(parent).map_err(failed)?;
            parent.sync_all().map_err(failed)?;
        }
    }
    Directory::open(path).map_err(failed)
}

fn locked(config: &Config) -> Result<Flock<File>, UpdateError> {
    directory(&config.state)?;
    let failed = |error| UpdateError::Record(crate::record::RecordError::Disk(error));
    let file = File::create(config.state.join(LOCK)).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| UpdateError::Busy)
}

fn tell_found(found: Found, running: &System) {
    let version = running.version.as_str();
    match found {
        Found::Nothing => {}
        Found::FirstStart => {
            tracing::info!(
                event = "update",
                reason = "UPD-TRYING",
                version,
                "a new version runs for the first time"
            );
        }
        Found::CameBack => {
            tracing::error!(
                event = "update-went-back",
                reason = "UPD-CAME-BACK",
                version,
                "a new version did not come up; the old one is back"
            );
        }
        Found::BeginAgain => {
            tracing::warn!(
                event = "update",
                reason = "UPD-AGAIN",
                version,
                "an update was cut and is begun again"
            );
        }
    }
}

fn tell_wave(eligible: &Eligible) {
    let at = match eligible {
        Eligible::Always => return,
        Eligible::From(at) => Some(at.0),
        Eligible::Never => None,
    };
    tracing::info!(
        event = "update",
        reason = "UPD-WAVE",
        eligible_at = at,
        "this box's place in the schedule"
    );
}
