//! The list that comes with a release: what it holds, how old it is, and how to prove that it is loaded.
//!
//! It does not verify who wrote the list; it is a signed target of the role `antivirus`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The longest manifest that is read, in bytes.
pub(super) const LONGEST: u64 = 256 * 1024;

/// Endings clamd loads (`cl_load`), without those that change its settings.
const ENDINGS: [&str; 20] = [
    "cvd", "cld", "cud", "cbc", "cdb", "crb", "fp", "ftm", "gdb", "hdb", "hsb", "idb", "ign2",
    "ldb", "mdb", "msb", "ndb", "pdb", "sfp", "wdb",
];

/// One release of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Larger in every later release.
    pub serial: u64,
    /// When its signatures were gathered (RFC 3339); its age is counted from here.
    #[serde(with = "time::serde::rfc3339")]
    pub built_at: OffsetDateTime,
    /// From when it is no longer taken (RFC 3339). One that is in use stays in use and grows old.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// Proves that this release, and no other, is loaded.
    pub canary: Canary,
}

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name, without a directory.
    pub name: String,
    /// SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A harmless text and the signature, part of the release, by which only this release finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The signature's name, without the ending `.UNOFFICIAL` that clamd adds.
    pub signature: String,
    /// What it finds: 16 to 1024 printable ASCII characters.
    pub content: String,
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not the JSON we know.
    #[error("the manifest cannot be read")]
    Form(#[from] serde_json::Error),
    /// It names no file.
    #[error("the manifest names no file")]
    Empty,
    /// A file name that is none, is taken by files of ours, or has an ending that clamd does not load.
    #[error("{0:?} is no name for a file of a release")]
    Name(String),
    /// The same name twice.
    #[error("{0:?} is named twice")]
    Twice(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("the digest of {0:?} is none")]
    Digest(String),
    /// The canary cannot be used.
    #[error("the canary cannot be used")]
    Canary,
    /// It expires before it is built.
    #[error("the manifest expires before it was built")]
    Dates,
}

impl Manifest {
    /// Reads a manifest and checks all that can be checked without its files.
    ///
    /// # Errors
    /// [`ManifestError`], the first fault.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(json)?;
        if manifest.files.is_empty() {
            return Err(ManifestError::Empty);
        }
        if manifest.expires <= manifest.built_at {
            return Err(ManifestError::Dates);
        }
        let mut names = BTreeSet::new();
        for file in &manifest.files {
            if !is_name(&file.name) {
                return Err(ManifestError::Name(file.name.clone()));
            }
            if !names.insert(&file.name) {
                return Err(ManifestError::Twice(file.name.clone()));
            }
            if !is_sha256(&file.sha256) {
                return Err(ManifestError::Digest(file.name.clone()));
            }
        }
        if !manifest.canary.is_usable() {
            return Err(ManifestError::Canary);
        }
        Ok(manifest)
    }
}

impl Canary {
    fn is_usable(&self) -> bool {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let name = &self.signature;
        (1..=100).contains(&name.len())
            && name.bytes().all(word)
            // Such a name would be a weak finding and no proof.
            && !name.starts_with("Heuristics.")
            && (16..=1024).contains(&self.content.len())
            && self.content.bytes().all(|byte| (0x20..0x7f).contains(&byte))
    }
}

/// Whether a file of a release may have this name. Names of ours begin with `renraku-policy` and `renraku-generation`.
pub(super) fn is_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    name.len() <= 100
        && name.bytes().all(word)
        && !name.starts_with(['.', '-'])
        && !["renraku-policy", "renraku-generation"]
            .iter()
            .any(|ours| name.starts_with(ours))
        && name
            .rsplit_once('.')
            .is_some_and(|(stem, ending)| !stem.is_empty() && ENDINGS.contains(&ending))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut value = serde_json::json!({
            "serial": 7,
            "built_at": "2026-11-22T00:00:00Z",
            "expires": "2026-12-22T00:00:00Z",
            "files": [{"name": "daily.cvd", "sha256": "0".repeat(64), "size": 3}],
            "canary": {"signature": "Renraku.Canary.7", "content": "a canary of release 7"},
        });
        change(&mut value);
        value.to_string().into_bytes()
    }

    #[test]
    fn a_manifest_reads_as_it_was_written() {
        let manifest = Manifest::parse(&json(|_| ())).unwrap();
        assert_eq!(manifest.serial, 7);
        assert_eq!(manifest.built_at.unix_timestamp(), 1_795_305_600);
        let again = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(Manifest::parse(&again).unwrap(), manifest);
    }

    #[test]
    fn names_that_lead_elsewhere_or_belong_to_the_box_are_refused() {
        for name in [
            "",
            ".cvd",
            "../daily.cvd",
            "a/daily.cvd",
            "-x.ndb",
            "daily.cfg",
            "daily",
            "renraku-policy.ldb",
            "renraku-generation.ndb",
            "日.ndb",
        ] {
            let bytes = json(|value| value["files"][0]["name"] = name.into());
            assert!(
                matches!(Manifest::parse(&bytes), Err(ManifestError::Name(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_manifest_without_files_digests_sense_or_canary_is_refused() {
        let refused = |change: fn(&mut serde_json::Value)| Manifest::parse(&json(change)).is_err();
        assert!(refused(|value| value["files"] = serde_json::json!([])));
        assert!(refused(|value| value["files"][0]["sha256"] = "0".into()));
        assert!(refused(|value| value["expires"] = value["built_at"].clone()));
        assert!(refused(|value| value["canary"]["content"] = "short".into()));
        assert!(refused(
            |value| value["canary"]["content"] = "\u{0}".repeat(20).into()
        ));
        assert!(refused(
            |value| value["canary"]["signature"] = "Heuristics.X".into()
        ));
        assert!(refused(|value| value["more"] = 1.into()));
        assert!(refused(|value| {
            let file = value["files"][0].clone();
            value["files"] = serde_json::json!([file, file]);
        }));
    }
}
