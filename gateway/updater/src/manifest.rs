//! What a release says of itself: the signed target `releases/current.json`.
//!
//! It is read only after its signatures were checked, and decides nothing; [`crate::decide`] does. Members that it does not know are skipped:
//! an older box must be able to read what a newer one needs.

use gateway_policy::Timestamp;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::hex;
use crate::index::Digest;
use crate::schedule::Wave;
use crate::slot::check_version;

/// The largest manifest in bytes.
pub const LARGEST: u64 = 256 * 1024;
/// The block index in a release's folder.
pub const INDEX: &str = "root.index";

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON of this form.
    #[error("the release's description cannot be read")]
    Form(#[source] serde_json::Error),
    /// A member has a value that makes no sense.
    #[error("the release's description has no sensible {0}")]
    Member(&'static str),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The version; its files are below `releases/<version>/`.
    pub version: String,
    /// The hardware it is for.
    pub hardware: String,
    /// The root hash of its image.
    pub root_hash: Digest,
    /// Which boxes take it when; empty for all at once.
    pub schedule: Vec<Wave>,
    /// From when on it does not wait for the facility's window.
    pub deadline: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Raw {
    version: String,
    hardware: String,
    root_hash: Option<String>,
    #[serde(default)]
    schedule: Vec<RawWave>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    deadline: Option<OffsetDateTime>,
}

#[derive(Deserialize)]
struct RawWave {
    #[serde(with = "time::serde::rfc3339")]
    not_before: OffsetDateTime,
    per_mille: u16,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(ManifestError::Form)?;
        if !check_version(&raw.version) {
            return Err(ManifestError::Member("version"));
        }
        let root_hash = raw.root_hash.as_deref().and_then(hex::digest);
        let root_hash = root_hash.ok_or(ManifestError::Member("root_hash"))?;
        if raw.schedule.iter().any(|wave| wave.per_mille > 1000) {
            return Err(ManifestError::Member("schedule"));
        }
        let moment = |at: OffsetDateTime| Timestamp(at.unix_timestamp());
        Ok(Self {
            version: raw.version,
            hardware: raw.hardware,
            root_hash,
            schedule: raw
                .schedule
                .into_iter()
                .map(|wave| Wave {
                    not_before: moment(wave.not_before),
                    per_mille: wave.per_mille,
                })
                .collect(),
            deadline: raw.deadline.map(moment),
        })
    }

    /// The name of one of the release's targets.
    #[must_use]
    pub fn target(&self, file: &str) -> String {
        format!("releases/{}/{file}", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(change: impl FnOnce(&mut serde_json::Value)) -> Result<Manifest, ManifestError> {
        let mut value = json!({
            "version": "1.2", "published_at": "2026-12-01T00:00:00Z", "hardware": "box-1", "files": [],
            "root_hash": "ab".repeat(32), "new in a later version": 1,
        });
        change(&mut value);
        Manifest::parse(&serde_json::to_vec(&value).unwrap())
    }

    #[test]
    fn a_manifest_without_schedule_is_for_everybody_at_once() {
        let manifest = parse(|_| {}).unwrap();
        assert!(manifest.schedule.is_empty() && manifest.deadline.is_none());
        assert_eq!(manifest.target("root.img"), "releases/1.2/root.img");
    }

    #[test]
    fn a_manifest_without_root_hash_or_with_an_impossible_member_is_refused() {
        for (member, bad) in [
            ("root_hash", json!(null)),
            ("root_hash", json!("ab")),
            ("version", json!("../1")),
            ("version", json!("")),
            (
                "schedule",
                json!([{ "not_before": "2026-12-01T00:00:00Z", "per_mille": 1001 }]),
            ),
            (
                "schedule",
                json!([{ "not_before": "soon", "per_mille": 1 }]),
            ),
            ("deadline", json!("soon")),
        ] {
            assert!(
                parse(|value| value[member] = bad.clone()).is_err(),
                "{member} {bad}"
            );
        }
    }
}
