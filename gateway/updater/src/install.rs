//! One update from the checks before the first write to the verdict after the restart, step by step.
//!
//! The order of the steps is the whole protection against power cuts; `docs/life-of-an-update.md` says what a cut does in each, and
//! `tests/power_cuts.rs` tries them all. It fetches no metadata, decides nothing about versions and restarts nothing.

use gateway_policy::Timestamp;
use x509_cert::Certificate;

use crate::UpdateError;
use crate::device::Device;
use crate::folder::Folder;
use crate::hex;
use crate::index::{BlockIndex, Image, sha256};
use crate::kernels;
use crate::manifest::Manifest;
use crate::record::Record;
use crate::slot::{KernelName, Tries};
use crate::source::{Bucket, Source};
use crate::state::{Candidate, Found, Phase, System};
use crate::uki::{self, Starts};
use crate::writer::{self, Origin, Pair};

/// The box as the updater sees it.
#[derive(Debug)]
pub struct Machine<D, E, F> {
    /// What runs.
    pub running: System,
    /// The partitions of the slot that runs; only read.
    pub active: Pair<D>,
    /// The partitions of the other slot.
    pub other: Pair<D>,
    /// The folder of kernels on the firmware's partition.
    pub esp: E,
    /// What the updater knows of its own work.
    pub record: Record<F>,
}

/// A release whose parts were checked against each other, before anything is written.
#[derive(Clone, Debug)]
pub struct Prepared {
    candidate: Candidate,
    root_hash: crate::index::Digest,
    index: BlockIndex,
    kernel: Vec<u8>,
}

/// The signed parts of a release that are looked at before the images.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The block index.
    pub index: &'a [u8],
    /// The signed lengths of root image and hash tree in bytes.
    pub lengths: [u64; 2],
    /// The kernel for the other slot.
    pub kernel: &'a [u8],
}

/// What every kernel of a box is held against.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The UUIDs of the other slot's partitions: data, hash tree; lower-case.
    pub partitions: [String; 2],
    /// The certificate in the firmware's `db`.
    pub signer: Certificate,
}

/// What a health check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Good,
    /// It does not.
    Bad,
}

/// What a verdict led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// What runs is good, and its kernel says so.
    Good,
    /// A new version is not good: the box is to be restarted, and the old one comes back.
    GoBack,
    /// What has been good before is not well; there is nothing to go back to.
    Unwell,
}

impl<D: Device, E: Folder, F: Folder> Machine<D, E, F> {
    /// Clears up after whatever ended the last run, and takes note of what runs now.
    ///
    /// # Errors
    /// What disk and record say.
    pub fn start(&mut self, now: Timestamp) -> Result<Found, UpdateError> {
        let mut state = self.record.state().clone();
        let candidate = state.candidate().cloned();
        let of_other = candidate
            .as_ref()
            .filter(|candidate| candidate.system.slot != self.running.slot);
        let wanted = of_other.map(|it| (it.system.version.as_str(), it.kernel.as_str()));
        let kernel = kernels::tidy(&mut self.esp, self.running.slot.other(), wanted)?;
        let found = state.started(&self.running, kernel.as_ref(), now);
        if state != *self.record.state() {
            self.record.put(state)?;
        }
        Ok(found)
    }

    /// Checks everything about a release that can be checked before the first write.
    ///
    /// # Errors
    /// The reason why it is not installed.
    pub fn prepare(
        &self,
        manifest: &Manifest,
        parts: Parts<'_>,
        trust: &Trust,
    ) -> Result<Prepared, UpdateError> {
        let index = BlockIndex::parse(parts.index)?;
        for (image, length) in Image::ALL.into_iter().zip(parts.lengths) {
            if index.of(image).length() != length {
                return Err(UpdateError::IndexOfAnother(image));
            }
        }
        writer::check_room(&index, &self.other)?;
        let root_hash = hex::of(&manifest.root_hash);
        let [data, hash] = trust.partitions.clone();
        let starts = Starts {
            root_hash: root_hash.clone(),
            data,
            hash,
        };
        uki::check(parts.kernel, &starts, &trust.signer)?;
        Ok(Prepared {
            candidate: Candidate {
                system: System {
                    version: manifest.version.clone(),
                    root_hash,
                    slot: self.running.slot.other(),
                },
                kernel: hex::of(&sha256(parts.kernel)),
            },
            root_hash: manifest.root_hash,
            index,
            kernel: parts.kernel.to_vec(),
        })
    }

    /// Installs a release into the other slot. When this returns, the boot loader will try it once.
    ///
    /// # Errors
    /// Why it could not be; the running slot is untouched, and the other one has no kernel until everything about it was proved.
    pub async fn install<S: Source>(
        &mut self,
        release: &Prepared,
        source: &S,
        bucket: &mut Bucket,
    ) -> Result<Origin, UpdateError> {
        let system = &release.candidate.system;
        let mut state = self.record.state().clone();
        state.begin(release.candidate.clone())?;
        self.record.put(state.clone())?;

        kernels::clear(&mut self.esp, system.slot)?;
        let (active, other) = (&self.active, &mut self.other);
        let origin = writer::fill(&release.index, active, other, source, bucket).await?;
        writer::prove(&release.index, &self.other, &release.root_hash)?;
        let name = KernelName {
            version: system.version.clone(),
            slot: system.slot,
            tries: Some(Tries::ONE),
        };
        kernels::add(&mut self.esp, &name, &release.kernel)?;

        state.written()?;
        self.record.put(state)?;
        Ok(origin)
    }

    /// Takes an installed release out of the boot loader's sight. Its blocks stay: should it come back, it costs nothing.
    ///
    /// # Errors
    /// What disk and record say.
    pub fn withdraw(&mut self) -> Result<(), UpdateError> {
        let mut state = self.record.state().clone();
        state.withdrawn()?;
        kernels::clear(&mut self.esp, self.running.slot.other())?;
        self.record.put(state).map_err(UpdateError::Record)
    }

    /// Acts on a verdict about what runs. The floor rises here and only here, last of all.
    ///
    /// # Errors
    /// What disk and record say; then nothing has risen.
    pub fn judge(&mut self, verdict: Verdict, now: Timestamp) -> Result<Judged, UpdateError> {
        let mut state = self.record.state().clone();
        match (verdict, state.phase()) {
            (Verdict::Bad, Phase::Trying(_)) => {
                state.unhealthy(now)?;
                self.record.put(state)?;
                return Ok(Judged::GoBack);
            }
            (Verdict::Bad, _) => return Ok(Judged::Unwell),
            (Verdict::Good, Phase::Trying(_)) => {
                // On the disk before the name changes: a cut from here on is no failure of the version.
                state.healthy()?;
                self.record.put(state.clone())?;
            }
            (Verdict::Good, _) => {}
        }
        kernels::bless(&mut self.esp, &self.running.version, self.running.slot)?;
        state.blessed(&self.running, now)?;
        self.record.put(state)?;
        Ok(Judged::Good)
    }
}
