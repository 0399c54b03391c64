//! What is put into the repository: a policy, an antivirus database, a software release.
//!
//! It stages; who signs and when it is published is decided elsewhere.

use std::path::{Path, PathBuf};

use gateway_policy::{Policy, PolicyContext, PolicyError, Timestamp, VersionFloor};
use gateway_tuf::check_target_name;
use gateway_tuf::form::{ANTIVIRUS_TARGET, POLICY_TARGET, RELEASE_TARGET};
use gateway_updater::manifest::INDEX;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::image;
use crate::manifest::{digest, digest_of, list};
use crate::repository::write;
use crate::staging::rfc3339;
use crate::{
    AntivirusRelease, DELEGATED, Days, ReleaseError, Repository, Role, Signed, SoftwareRelease,
};

impl Repository {
    /// Stages the city's policy as the target `policy/policy.json`.
    ///
    /// # Errors
    /// When it is not a policy that a box takes, or not newer than the published one.
    pub fn add_policy(&self, policy: &[u8], now: OffsetDateTime) -> Result<(), ReleaseError> {
        let version = policy_version(policy, now)?;
        let mut draft = self.draft(Role::Policy, now, Days::of(Role::Policy))?;
        if let Some(before) = self.target_content(&draft, POLICY_TARGET)
            && let Ok(before) = serde_json::from_slice::<Value>(&before)
            && let Some(before) = before["version"].as_u64()
            && version <= before
        {
            return Err(ReleaseError::NotNewer {
                what: "ポリシーの版",
                before: before.to_string(),
                now: version.to_string(),
            });
        }
        self.add_bytes(
            &mut draft,
            POLICY_TARGET,
            policy,
            &json!({ "version": version }),
        )?;
        self.stage(Role::Policy, &draft)
    }

    /// Stages an antivirus database: the files of `folder` as `antivirus/<serial>/…`, and `antivirus/current.json`. The
    /// release before it stays listed, older ones go.
    ///
    /// # Errors
    /// When the serial is not higher than before, or a file cannot be a target.
    pub fn add_antivirus(
        &self,
        folder: &Path,
        release: &AntivirusRelease,
        now: OffsetDateTime,
    ) -> Result<AntivirusRelease, ReleaseError> {
        let mut draft = self.draft(Role::Antivirus, now, Days::of(Role::Antivirus))?;
        let before = self
            .target_content(&draft, ANTIVIRUS_TARGET)
            .and_then(|bytes| serde_json::from_slice::<AntivirusRelease>(&bytes).ok());
        if let Some(before) = &before
            && release.serial <= before.serial
        {
            return Err(ReleaseError::NotNewer {
                what: "定義の通し番号",
                before: before.serial.to_string(),
                now: release.serial.to_string(),
            });
        }
        keep_only(
            &mut draft,
            Role::Antivirus,
            before.map(|before| before.serial.to_string()).as_deref(),
        );
        let prefix = format!("{}/{}", Role::Antivirus.name(), release.serial);
        let files = self.add_folder(&mut draft, folder, &prefix)?;
        let release = AntivirusRelease {
            files,
            ..release.clone()
        };
        let custom = json!({ "serial": release.serial });
        self.add_manifest(&mut draft, ANTIVIRUS_TARGET, &release, &custom)?;
        self.stage(Role::Antivirus, &draft)?;
        Ok(release)
    }

    /// Stages a software release: the files of `folder` as `releases/<version>/…` with their block index, and
    /// `releases/current.json`. The release before it stays listed, older ones go.
    ///
    /// # Errors
    /// When a file or the version cannot be part of a target's name, and when image, hash tree, kernels and root hash do not fit each other
    /// or a box would not understand the description.
    pub fn add_release(
        &self,
        folder: &Path,
        release: &SoftwareRelease,
        now: OffsetDateTime,
    ) -> Result<SoftwareRelease, ReleaseError> {
        let version = &release.version;
        let mut draft = self.draft(Role::Releases, now, Days::of(Role::Releases))?;
        let before = self
            .target_content(&draft, RELEASE_TARGET)
            .and_then(|bytes| serde_json::from_slice::<SoftwareRelease>(&bytes).ok());
        if let Some(before) = &before
            && before.version == *version
        {
            return Err(ReleaseError::NotNewer {
                what: "版",
                before: before.version.clone(),
                now: version.to_owned(),
            });
        }
        let index = image::check(folder, release.root_hash.as_deref())?;
        keep_only(
            &mut draft,
            Role::Releases,
            before.map(|before| before.version).as_deref(),
        );
        let prefix = format!("{}/{version}", Role::Releases.name());
        let mut files = self.add_folder(&mut draft, folder, &prefix)?;
        if let Some(index) = index {
            let (sha256, size) = digest_of(&index);
            let name = INDEX.to_owned();
            self.add_bytes(
                &mut draft,
                &format!("{prefix}/{name}"),
                &index,
                &Value::Null,
            )?;
            files.push(crate::Listed { name, sha256, size });
        }
        let release = SoftwareRelease {
            published_at: rfc3339(now),
            files,
            ..release.clone()
        };
        image::check_description(&release)?;
        let custom = json!({ "version": version, "hardware": release.hardware });
        self.add_manifest(&mut draft, RELEASE_TARGET, &release, &custom)?;
        self.stage(Role::Releases, &draft)?;
        Ok(release)
    }

    fn add_folder(
        &self,
        draft: &mut Signed,
        folder: &Path,
        prefix: &str,
    ) -> Result<Vec<crate::Listed>, ReleaseError> {
        let mut files = Vec::new();
        for (path, listed) in list(folder)? {
            let name = format!("{prefix}/{}", listed.name);
            let to = self.place(&name, &listed.sha256)?;
            std::fs::copy(&path, &to).map_err(|error| ReleaseError::File(to, error))?;
            enter(draft, &name, &listed.sha256, listed.size, &Value::Null);
            files.push(listed);
        }
        Ok(files)
    }

    fn add_manifest(
        &self,
        draft: &mut Signed,
        name: &str,
        manifest: &impl serde::Serialize,
        custom: &Value,
    ) -> Result<(), ReleaseError> {
        let bytes = serde_json::to_vec_pretty(manifest)
            .map_err(|_| ReleaseError::Malformed(name.to_owned()))?;
        self.add_bytes(draft, name, &bytes, custom)
    }

    fn add_bytes(
        &self,
        draft: &mut Signed,
        name: &str,
        bytes: &[u8],
        custom: &Value,
    ) -> Result<(), ReleaseError> {
        let (sha256, size) = digest_of(bytes);
        write(&self.place(name, &sha256)?, bytes)?;
        enter(draft, name, &sha256, size, custom);
        Ok(())
    }

    /// Where a target's file goes; its folder is made.
    fn place(&self, name: &str, sha256: &str) -> Result<PathBuf, ReleaseError> {
        check_target_name(name).map_err(|_| ReleaseError::TargetName(name.to_owned()))?;
        let path = self.directory().join("targets").join(name);
        let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(ReleaseError::TargetName(name.to_owned()));
        };
        std::fs::create_dir_all(folder)
            .map_err(|error| ReleaseError::File(folder.to_owned(), error))?;
        Ok(folder.join(format!("{sha256}.{}", file.to_string_lossy())))
    }

    /// The content of a target that `file` names, when it is here and is what it should be.
    fn target_content(&self, file: &Signed, name: &str) -> Option<Vec<u8>> {
        let sha256 = file.signed["targets"][name]["hashes"]["sha256"].as_str()?;
        let bytes = std::fs::read(self.place(name, sha256).ok()?).ok()?;
        (digest_of(&bytes).0 == sha256).then_some(bytes)
    }

    /// Checks that every target the published roles name is there and right.
    ///
    /// # Errors
    /// When one is not.
    pub fn check_targets(&self) -> Result<usize, ReleaseError> {
        let mut checked = 0;
        for role in DELEGATED {
            let Some(file) = self.published(role)? else {
                continue;
            };
            let targets = file.signed["targets"].as_object().cloned();
            for (name, entry) in targets.unwrap_or_default() {
                let sha256 = entry["hashes"]["sha256"].as_str().unwrap_or_default();
                let (found, _) = digest(&self.place(&name, sha256)?)?;
                if found != sha256 {
                    return Err(ReleaseError::Malformed(name));
                }
                checked += 1;
            }
        }
        Ok(checked)
    }
}

/// Names a target in a draft.
fn enter(draft: &mut Signed, name: &str, sha256: &str, length: u64, custom: &Value) {
    let mut entry = json!({ "length": length, "hashes": { "sha256": sha256 } });
    if !custom.is_null() {
        entry["custom"] = custom.clone();
    }
    draft.signed["targets"][name] = entry;
}

/// Takes the files of every release but `kept` out of a draft.
fn keep_only(draft: &mut Signed, role: Role, kept: Option<&str>) {
    let prefix = kept.map(|kept| format!("{}/{kept}/", role.name()));
    if let Some(targets) = draft.signed["targets"].as_object_mut() {
        targets.retain(|name, _| {
            name.matches('/').count() < 2
                || prefix
                    .as_ref()
                    .is_some_and(|prefix| name.starts_with(prefix))
        });
    }
}

/// The version of a policy, when a box of the first facility it names would take it. One that comes into force later is read
/// as of then.
fn policy_version(bytes: &[u8], now: OffsetDateTime) -> Result<u64, ReleaseError> {
    let stated: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let begins = stated["not_before"].as_i64().unwrap_or(i64::MIN);
    let context = PolicyContext {
        now: Timestamp(now.unix_timestamp().max(begins)),
        floor: VersionFloor::default(),
        facility: stated["facilities"][0].as_str().unwrap_or_default(),
    };
    match Policy::parse(bytes, &context) {
        Ok(policy) => Ok(policy.version),
        Err(PolicyError::Faulty(faults)) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Err(ReleaseError::Policy(faults.join("; ")))
        }
        Err(PolicyError::Malformed(source)) => Err(ReleaseError::Policy(source.to_string())),
        Err(other) => Err(ReleaseError::Policy(other.to_string())),
    }
}
