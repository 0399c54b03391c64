//! Which files of a repository no box asks for any more, and taking them away. What the current timestamp leads to, every root,
//! and what waits for signatures stays; so does whatever this tool has not written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{DELEGATED, ReleaseError, Repository, Role, Signed};

/// What is no longer named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// Their bytes together.
    pub bytes: u64,
}

impl Repository {
    /// Finds the files that the current metadata no longer leads to, and removes them when `remove` says so.
    ///
    /// Every root stays: a box that was off for years walks through all of them.
    ///
    /// # Errors
    /// When nothing is published, or what is published is not whole: then nothing is removed.
    pub fn prune(&self, remove: bool) -> Result<Pruned, ReleaseError> {
        let mut kept = self.current_metadata()?;
        self.check_targets()?;
        for role in DELEGATED {
            for file in [self.published(role)?, self.staged(role)?]
                .into_iter()
                .flatten()
            {
                kept.extend(self.targets_of(&file));
            }
        }
        let mut found = Pruned::default();
        for folder in ["metadata", "targets"] {
            look(&self.directory().join(folder), &kept, &mut found)?;
        }
        found.files.sort();
        if remove {
            for path in &found.files {
                std::fs::remove_file(path)
                    .map_err(|error| ReleaseError::File(path.clone(), error))?;
            }
        }
        Ok(found)
    }

    /// The files that the timestamp leads to.
    fn current_metadata(&self) -> Result<BTreeSet<PathBuf>, ReleaseError> {
        let folder = self.directory().join("metadata");
        let missing = || ReleaseError::NoRepository(self.directory().to_owned());
        let timestamp = self.published(Role::Timestamp)?.ok_or_else(missing)?;
        let named = |file: &Signed, name: &str| {
            let version = file.signed["meta"][name]["version"].as_u64();
            version.map(|version| folder.join(format!("{version}.{name}")))
        };
        let path = named(&timestamp, "snapshot.json").ok_or_else(missing)?;
        let snapshot = Signed::read(&path)?;
        let mut kept = BTreeSet::from([path]);
        for role in [Role::Targets].into_iter().chain(DELEGATED) {
            let path = named(&snapshot, &format!("{}.json", role.name())).ok_or_else(missing)?;
            // Read, so that what is damaged is said before anything is removed.
            Signed::read(&path)?;
            kept.insert(path);
        }
        Ok(kept)
    }

    fn targets_of(&self, file: &Signed) -> Vec<PathBuf> {
        let targets = file.signed["targets"].as_object();
        targets
            .into_iter()
            .flatten()
            .filter_map(|(name, entry)| {
                let sha256 = entry["hashes"]["sha256"].as_str()?;
                let path = self.directory().join("targets").join(name);
                let file = path.file_name()?.to_str()?;
                Some(path.with_file_name(format!("{sha256}.{file}")))
            })
            .collect()
    }
}

/// Adds every file below `folder` that this tool has written, is no root, and is not kept.
fn look(folder: &Path, kept: &BTreeSet<PathBuf>, found: &mut Pruned) -> Result<(), ReleaseError> {
    let failed = |error| ReleaseError::File(folder.to_owned(), error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        if kind.is_dir() {
            look(&path, kept, found)?;
        } else if kind.is_file() && is_ours(&entry.file_name()) && !kept.contains(&path) {
            found.bytes += entry.metadata().map_err(failed)?.len();
            found.files.push(path);
        }
    }
    Ok(())
}

/// `7.policy.json` of a role that has versions and is not root's, or `<SHA-256>.name`.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    let Some((first, rest)) = name.to_str().and_then(|name| name.split_once('.')) else {
        return false;
    };
    let versioned = [Role::Targets, Role::Snapshot]
        .into_iter()
        .chain(DELEGATED)
        .any(|role| rest.strip_suffix(".json") == Some(role.name()));
    let is_version = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    let is_hash = first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_version && versioned) || (is_hash && !rest.is_empty())
}
