//! How far the ceremony of one certificate got, kept so that a power cut at any moment loses nothing.
//!
//! It holds no number, no access code and no key, ever. Which key is in use and which is pending is not its business
//! either: that is the pointer file of [`gateway_tpm::KeySlots`], the only truth about keys.

use std::path::Path;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::durable;
use crate::failure::{Failure, ProvisioningError};

const VERSION: u32 = 1;

/// Where the pending key comes from and what is to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Purpose {
    /// A number and an access code.
    Enrol,
    /// The certificate in use.
    Renew,
    /// A PKCS#12 file.
    Import,
}

/// How far a pending key got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage")]
pub(crate) enum Stage {
    /// The key is, or is about to be, durable; it may have been sent.
    KeyPending,
    /// The city answered 202.
    Waiting {
        /// Not to be asked again before.
        #[serde(with = "time::serde::rfc3339")]
        until: OffsetDateTime,
    },
    /// The certificate is checked and durable.
    CertificateReceived,
    /// The city accepted it once.
    TrialPassed,
}

/// A key on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) purpose: Purpose,
    #[serde(flatten)]
    pub(crate) stage: Stage,
}

/// What is wrong with a certificate in use. Names the certificate, so that it says nothing of its successor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    pub(crate) serial: String,
    pub(crate) kind: TroubleKind,
}

/// The kinds of trouble that only a new number ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TroubleKind {
    /// The city said so.
    Revoked,
    /// The TPM said so.
    KeyLost,
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    version: u32,
    /// Meaningful only while [`gateway_tpm::KeySlots`] names a pending key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<Pending>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<Trouble>,
    /// Wrong answers in a row from the city.
    #[serde(default)]
    pub(crate) wrong: u8,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            version: VERSION,
            pending: None,
            trouble: None,
            wrong: 0,
        }
    }
}

impl Journal {
    pub(crate) fn load(path: &Path) -> Result<Self, ProvisioningError> {
        let Some(content) = durable::read(path).map_err(ProvisioningError::disk)? else {
            return Ok(Self::default());
        };
        let journal: Self = serde_json::from_slice(&content)
            .map_err(|error| ProvisioningError::because(Failure::JournalDamaged, error))?;
        if journal.version == VERSION {
            Ok(journal)
        } else {
            Err(Failure::JournalDamaged.into())
        }
    }

    pub(crate) fn store(&self, path: &Path) -> Result<(), ProvisioningError> {
        let content = serde_json::to_vec_pretty(self)
            .map_err(|error| ProvisioningError::because(Failure::JournalDamaged, error))?;
        durable::write(path, &content).map_err(ProvisioningError::disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_comes_back_as_it_was_stored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.json");
        assert_eq!(Journal::load(&path).unwrap(), Journal::default());
        for stage in [
            Stage::KeyPending,
            Stage::Waiting {
                until: OffsetDateTime::UNIX_EPOCH,
            },
            Stage::CertificateReceived,
            Stage::TrialPassed,
        ] {
            let pending = Some(Pending {
                purpose: Purpose::Renew,
                stage,
            });
            let journal = Journal {
                pending,
                trouble: Some(Trouble {
                    serial: "0a".into(),
                    kind: TroubleKind::Revoked,
                }),
                wrong: 3,
                ..Journal::default()
            };
            journal.store(&path).unwrap();
            assert_eq!(Journal::load(&path).unwrap(), journal);
        }
    }

    #[test]
    fn a_damaged_journal_is_said_to_be_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.json");
        for content in ["", "{", "{\"version\":9}", "{\"version\":1,\"code\":\"x\"}"] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(
                Journal::load(&path).unwrap_err().failure(),
                &Failure::JournalDamaged,
                "{content}"
            );
        }
    }
}
