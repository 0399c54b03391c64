//! One database as clamd loads it: a release, the signatures of our policy, and a marker that proves just this.
//!
//! It does not write or switch anything.

use serde::{Deserialize, Serialize};

use super::durable::{hexadecimal, sha256};
use super::manifest::{Canary, FileEntry};
use crate::{Kind, kind};

/// Where a release comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It came with the image, for the first start.
    Factory,
    /// The city's signed channel.
    City,
    /// ClamAV's own, through freshclam.
    Official,
}

impl Origin {
    /// The name in the journal and on the disk.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Factory => "factory",
            Self::City => "city",
            Self::Official => "official",
        }
    }
}

/// The record of a generation, `generation.json` beside its directory of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Its name, and the name of its marker's signature.
    pub id: String,
    /// Where its release comes from.
    pub origin: Origin,
    /// The release's serial number.
    pub serial: u64,
    /// When the release was built, in seconds since 1970; absent when it does not say.
    pub built_at: Option<i64>,
    /// Kinds of files that the policy permits: their signatures are left out.
    pub permitted: Vec<String>,
    /// The release's own canary.
    pub canary: Option<Canary>,
    /// Every file in it, the box's own included.
    pub files: Vec<FileEntry>,
}

/// The name of the file with the marker's signature.
pub(super) const MARKER_FILE: &str = "renraku-generation.ndb";

impl Generation {
    /// Gives it the name that follows from all it holds.
    pub(super) fn named(mut self) -> Self {
        self.id.clear();
        let content = serde_json::to_vec(&self).unwrap_or_default();
        self.id = sha256(&content)[..16].to_owned();
        self
    }

    /// What only this generation finds.
    #[must_use]
    pub fn marker(&self) -> Canary {
        Canary {
            signature: format!("Renraku.Generation.{}", self.id),
            content: format!("The marker of generation {} of this box.", self.id),
        }
    }

    /// The signature of the marker: any type of file, at any place, these bytes.
    pub(super) fn marker_signature(&self) -> String {
        let marker = self.marker();
        let bytes = hexadecimal(marker.content.as_bytes());
        format!("{}:0:*:{bytes}\n", marker.signature)
    }

    /// All that must be found to prove that it is loaded.
    pub(super) fn proofs(&self) -> Vec<Canary> {
        let mut proofs = vec![self.marker()];
        proofs.extend(self.canary.clone());
        proofs
    }

    /// Whether it was made of the same release, whatever the policy.
    pub(super) fn is_of_the_release_of(&self, other: &Self) -> bool {
        let release = |generation: &Self| -> Vec<FileEntry> {
            let files = generation.files.iter();
            files
                .filter(|file| !Self::is_ours(&file.name))
                .cloned()
                .collect()
        };
        release(self) == release(other) && self.canary == other.canary
    }

    /// Whether it holds just the signatures that this program makes for a policy.
    pub(super) fn has_the_policy(&self, permitted: &[Kind]) -> bool {
        kind::signatures(permitted).iter().all(|(name, content)| {
            let sha256 = sha256(content.as_bytes());
            self.files
                .iter()
                .any(|file| file.name == *name && file.sha256 == sha256)
        })
    }

    /// The kinds its policy permits.
    #[must_use]
    pub fn permitted(&self) -> Vec<Kind> {
        self.permitted
            .iter()
            .filter_map(|id| Kind::parse(id))
            .collect()
    }

    /// Whether a file is the box's own, not the release's.
    pub(super) fn is_ours(name: &str) -> bool {
        name == MARKER_FILE || name.starts_with("renraku-policy.")
    }
}
