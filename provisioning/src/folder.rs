//! The files of one certificate: its two key slots, the chains beside them, and the journal.
//!
//! ```text
//! <state_dir>/provisioning/<label>/
//!     active, slot-a.pem, slot-b.pem    keys (gateway_tpm::KeySlots); `active` is the only truth about which is which
//!     chain-a.pem, chain-b.pem          certificate chains, leaf first, for the key of the same slot
//!     journal.json                      how far a pending key got
//! ```
//!
//! It does not talk to the TPM or the city. A chain counts only when its leaf is for the key in its slot, so a chain that
//! a power cut left behind is never mistaken for a current one.

use std::fmt;
use std::path::{Path, PathBuf};

use der::pem::LineEnding;
use gateway_tpm::{KeyBlob, KeySlots, Slot, SlotError};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::certificate::Facts;
use crate::durable;
use crate::failure::{Failure, ProvisioningError};
use crate::journal::{Journal, Pending, Purpose, Stage};

/// The name of one certificate among several side by side (Art. 6-4): 1 to 32 of `a-z`, `0-9`, `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// The text cannot be a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a label is 1 to 32 of a-z, 0-9 and hyphen, beginning with a letter or digit")]
pub struct LabelError;

impl Label {
    /// The label of the box's first certificate.
    pub fn main() -> Self {
        Self("main".to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
            Ok(Self(text))
        } else {
            Err(LabelError)
        }
    }
}

impl std::str::FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        text.to_owned().try_into()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<SlotError> for ProvisioningError {
    fn from(error: SlotError) -> Self {
        match error {
            SlotError::Disk { source, .. } => Self::disk(source),
            SlotError::DamagedKey { .. } => Self::because(Failure::KeyLost, error),
            _ => Self::because(Failure::JournalDamaged, error),
        }
    }
}

/// A key with its certificate.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: KeyBlob,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) facts: Facts,
}

/// A key on its way, with what the journal says of it.
#[derive(Clone, Debug)]
pub(crate) struct OnItsWay {
    pub(crate) key: KeyBlob,
    pub(crate) purpose: Purpose,
    pub(crate) stage: Stage,
    /// Present from [`Stage::CertificateReceived`] on.
    pub(crate) held: Option<Held>,
}

#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    slots: KeySlots,
}

impl Folder {
    /// Opens the folder of `label` below `root`, making it when missing.
    pub(crate) fn open(root: &Path, label: &Label) -> Result<Self, ProvisioningError> {
        let dir = root.join(label.as_str());
        durable::create_directory(root).map_err(ProvisioningError::disk)?;
        durable::create_directory(&dir).map_err(ProvisioningError::disk)?;
        let slots = KeySlots::open(&dir)?;
        Ok(Self { dir, slots })
    }

    /// Labels that have a folder, in order.
    pub(crate) fn labels(root: &Path) -> Result<Vec<Label>, ProvisioningError> {
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ProvisioningError::disk(error)),
        };
        let mut labels = Vec::new();
        for entry in entries {
            let entry = entry.map_err(ProvisioningError::disk)?;
            if entry.file_type().map_err(ProvisioningError::disk)?.is_dir()
                && let Some(label) = entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok())
            {
                labels.push(label);
            }
        }
        labels.sort();
        Ok(labels)
    }

    pub(crate) fn journal(&self) -> Result<Journal, ProvisioningError> {
        Journal::load(&self.journal_path())
    }

    pub(crate) fn update(
        &self,
        change: impl FnOnce(&mut Journal),
    ) -> Result<(), ProvisioningError> {
        let before = self.journal()?;
        let mut journal = before.clone();
        change(&mut journal);
        if journal == before && self.journal_path().exists() {
            Ok(())
        } else {
            journal.store(&self.journal_path())
        }
    }

    pub(crate) fn set_stage(&self, stage: Stage) -> Result<(), ProvisioningError> {
        self.update(|journal| {
            if let Some(pending) = &mut journal.pending {
                pending.stage = stage;
            }
        })
    }

    /// The key in use with its certificate.
    pub(crate) fn active(&self) -> Result<Option<Held>, ProvisioningError> {
        let Some(slot) = self.slots.active_slot()? else {
            return Ok(None);
        };
        let key = self.slots.active()?.ok_or(Failure::JournalDamaged)?;
        // The chain was durable before the pointer named this slot, so its absence is damage.
        Ok(Some(
            self.with_chain(slot, &key)?
                .ok_or(Failure::JournalDamaged)?,
        ))
    }

    /// All keys that are on disk, also damaged ceremonies': what decommissioning has to make useless.
    pub(crate) fn keys(&self) -> Vec<KeyBlob> {
        let readable = |key: Result<Option<KeyBlob>, SlotError>| key.ok().flatten();
        [
            readable(self.slots.active()),
            readable(self.slots.pending()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The key on its way.
    pub(crate) fn on_its_way(&self) -> Result<Option<OnItsWay>, ProvisioningError> {
        let Some(slot) = self.slots.pending_slot()? else {
            return Ok(None);
        };
        let key = self.slots.pending()?.ok_or(Failure::JournalDamaged)?;
        let Some(Pending { purpose, stage }) = self.journal()?.pending else {
            return Ok(None);
        };
        let held = self.with_chain(slot, &key)?;
        // A cut between writing the chain and the journal: the chain was checked before it was written.
        let stage = match (&held, stage) {
            (Some(_), Stage::KeyPending | Stage::Waiting { .. }) => Stage::CertificateReceived,
            (None, Stage::CertificateReceived | Stage::TrialPassed) => Stage::KeyPending,
            (_, stage) => stage,
        };
        Ok(Some(OnItsWay {
            key,
            purpose,
            stage,
            held,
        }))
    }

    /// Makes `key` the pending one. The purpose is durable first: a key without a purpose could not be continued.
    pub(crate) fn begin(&self, purpose: Purpose, key: &KeyBlob) -> Result<(), ProvisioningError> {
        self.discard_pending()?;
        self.update(|journal| {
            journal.pending = Some(Pending {
                purpose,
                stage: Stage::KeyPending,
            })
        })?;
        let slot = self.slots.write_pending(key)?;
        durable::erase(&self.chain_path(slot)).map_err(ProvisioningError::disk)?;
        Ok(())
    }

    /// Keeps the checked chain of the pending key.
    pub(crate) fn receive(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<(), ProvisioningError> {
        let slot = self.slots.pending_slot()?.ok_or(Failure::JournalDamaged)?;
        let mut pem = String::new();
        for certificate in chain {
            let block = der::pem::encode_string("CERTIFICATE", LineEnding::LF, certificate)
                .map_err(|error| {
                    ProvisioningError::because(Failure::CityUnintelligible, error.to_string())
                })?;
            pem.push_str(&block);
        }
        durable::write(&self.chain_path(slot), pem.as_bytes()).map_err(ProvisioningError::disk)?;
        self.set_stage(Stage::CertificateReceived)
    }

    /// Puts the pending key to use and deletes what was used before.
    pub(crate) fn switch(&self) -> Result<(), ProvisioningError> {
        let slot = self.slots.activate_pending()?;
        self.update(|journal| *journal = Journal::default())?;
        let old = if slot == Slot::A { Slot::B } else { Slot::A };
        durable::erase(&self.chain_path(old)).map_err(ProvisioningError::disk)?;
        Ok(())
    }

    /// Gives the pending key up.
    pub(crate) fn discard_pending(&self) -> Result<(), ProvisioningError> {
        let slot = self.slots.pending_slot()?;
        self.slots.discard_pending()?;
        if let Some(slot) = slot {
            durable::erase(&self.chain_path(slot)).map_err(ProvisioningError::disk)?;
        }
        self.update(|journal| journal.pending = None)
    }

    /// Deletes everything of this certificate.
    pub(crate) fn erase(&self) -> Result<(), ProvisioningError> {
        self.slots.erase_all()?;
        for path in [
            self.chain_path(Slot::A),
            self.chain_path(Slot::B),
            self.journal_path(),
        ] {
            durable::erase(&path).map_err(ProvisioningError::disk)?;
        }
        std::fs::remove_dir_all(&self.dir).map_err(ProvisioningError::disk)
    }

    fn with_chain(&self, slot: Slot, key: &KeyBlob) -> Result<Option<Held>, ProvisioningError> {
        let Some(pem) = durable::read(&self.chain_path(slot)).map_err(ProvisioningError::disk)?
        else {
            return Ok(None);
        };
        let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
            ProvisioningError::because(Failure::JournalDamaged, error)
        };
        let chain = gateway_city::tls::certificates_from_pem(&pem)
            .map_err(|error| damaged(error.into()))?;
        let Some(leaf) = chain.first() else {
            return Ok(None);
        };
        let facts = Facts::read(leaf).map_err(|error| damaged(error.into()))?;
        if facts.spki_der != key.spki_der() {
            return Ok(None);
        }
        Ok(Some(Held {
            key: key.clone(),
            chain,
            facts,
        }))
    }

    fn chain_path(&self, slot: Slot) -> PathBuf {
        self.dir.join(format!("chain-{slot}.pem"))
    }

    fn journal_path(&self) -> PathBuf {
        self.dir.join("journal.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_leave_its_directory() {
        for text in ["", "..", "a/b", "A", "-a", "名", "a b", &"a".repeat(33)] {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
        for text in ["main", "annex-2", "2"] {
            assert_eq!(text.parse::<Label>().unwrap().as_str(), text);
        }
    }
}
