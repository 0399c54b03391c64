//! The directory that boxes read, and what waits in it for signatures.
//!
//! ```text
//! metadata/   1.root.json … 7.policy.json … 31.snapshot.json, timestamp.json   published
//! targets/    policy/<hash>.policy.json …                                      published
//! staging/    root.json, targets.json, policy.json …                           waits for signatures
//! ```
//!
//! Publishing writes `timestamp.json` last, by a rename, so that whoever reads meanwhile sees the old state or the new one.
//! No server runs here.

use std::path::{Path, PathBuf};

use gateway_policy::{Policy, PolicyContext, PolicyError, Timestamp, VersionFloor};
use gateway_tuf::check_target_name;
use gateway_tuf::form::{ANTIVIRUS_TARGET, POLICY_TARGET, RELEASE_TARGET, signatures};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::manifest::{digest, digest_of, list};
use crate::plan::check_threshold;
use crate::staging::rfc3339;
use crate::{
    AntivirusRelease, DELEGATED, Days, Plan, PublicKey, ReleaseError, Role, SecretKey, Signed,
    SoftwareRelease,
};

/// Keys of the two roles that a machine signs for.
#[derive(Debug)]
pub struct OnlineKeys {
    /// Of the snapshot role; as many as its threshold.
    pub snapshot: Vec<SecretKey>,
    /// Of the timestamp role; as many as its threshold.
    pub timestamp: Vec<SecretKey>,
}

/// See the module.
#[derive(Debug)]
pub struct Repository {
    directory: PathBuf,
}

/// Whose signatures count for a role.
struct Authority {
    keys: Value,
    ids: Vec<String>,
    threshold: usize,
}

impl Repository {
    /// Prepares a new repository: the first root, the first targets with their delegations, and empty delegated roles, all
    /// of them waiting for signatures.
    ///
    /// # Errors
    /// When there is one already, or it cannot be written.
    pub fn init(directory: &Path, plan: &Plan, now: OffsetDateTime) -> Result<Self, ReleaseError> {
        if directory.join("metadata").exists() || directory.join("staging").exists() {
            return Err(ReleaseError::Exists(directory.to_owned()));
        }
        let repository = Self {
            directory: directory.to_owned(),
        };
        for folder in ["metadata", "targets", "staging"] {
            let path = directory.join(folder);
            std::fs::create_dir_all(&path).map_err(|error| ReleaseError::File(path, error))?;
        }
        let named = |role: &Role| -> Value {
            let plan = plan.roles.get(role);
            let ids: Vec<String> = plan
                .into_iter()
                .flat_map(|plan| plan.keys.iter().map(PublicKey::id))
                .collect();
            json!({ "keyids": ids, "threshold": plan.map_or(1, |plan| plan.threshold) })
        };
        let keys = |roles: &[Role]| -> Value {
            let keys = roles
                .iter()
                .filter_map(|role| plan.roles.get(role))
                .flat_map(|plan| &plan.keys);
            keys.map(|key| (key.id(), json!(key)))
                .collect::<Map<_, _>>()
                .into()
        };
        let top = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];
        let roles: Map<String, Value> = top
            .iter()
            .map(|role| (role.name().to_owned(), named(role)))
            .collect();
        let root = json!({ "consistent_snapshot": true, "keys": keys(&top), "roles": roles });
        repository.stage(Role::Root, &new(Role::Root, now, root))?;
        let delegated: Vec<Value> = DELEGATED
            .iter()
            .map(|role| {
                let mut entry = named(role);
                entry["name"] = json!(role.name());
                entry["paths"] = json!(role.paths());
                entry["terminating"] = json!(true);
                entry
            })
            .collect();
        let targets = json!({
            "targets": {},
            "delegations": { "keys": keys(&DELEGATED), "roles": delegated },
        });
        repository.stage(Role::Targets, &new(Role::Targets, now, targets))?;
        for role in DELEGATED {
            repository.stage(role, &new(role, now, json!({ "targets": {} })))?;
        }
        Ok(repository)
    }

    /// A repository that `init` has made.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(directory: &Path) -> Result<Self, ReleaseError> {
        if !directory.join("metadata").is_dir() {
            return Err(ReleaseError::NoRepository(directory.to_owned()));
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The first root, which is shipped with each box.
    #[must_use]
    pub fn first_root(&self) -> PathBuf {
        self.directory.join("metadata/1.root.json")
    }

    /// The newest published version of a role's file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn published(&self, role: Role) -> Result<Option<Signed>, ReleaseError> {
        let folder = self.directory.join("metadata");
        if role == Role::Timestamp {
            let path = folder.join("timestamp.json");
            return path.is_file().then(|| Signed::read(&path)).transpose();
        }
        let ending = format!(".{}.json", role.name());
        let entries = std::fs::read_dir(&folder)
            .map_err(|error| ReleaseError::File(folder.clone(), error))?;
        let newest = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                name.strip_suffix(&ending)?.parse::<u64>().ok()
            })
            .max();
        newest
            .map(|version| Signed::read(&folder.join(format!("{version}{ending}"))))
            .transpose()
    }

    /// What waits for signatures.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn staged(&self, role: Role) -> Result<Option<Signed>, ReleaseError> {
        let path = self.staging_path(role);
        path.is_file().then(|| Signed::read(&path)).transpose()
    }

    fn staging_path(&self, role: Role) -> PathBuf {
        self.directory
            .join("staging")
            .join(format!("{}.json", role.name()))
    }

    fn stage(&self, role: Role, file: &Signed) -> Result<(), ReleaseError> {
        let folder = self.directory.join("staging");
        std::fs::create_dir_all(&folder).map_err(|error| ReleaseError::File(folder, error))?;
        write(&self.staging_path(role), &file.bytes())
    }

    /// What counts from the next publication on.
    fn coming(&self, role: Role) -> Result<Signed, ReleaseError> {
        match self.staged(role)? {
            Some(staged) => Ok(staged),
            None => self
                .published(role)?
                .ok_or_else(|| ReleaseError::NoRepository(self.directory.clone())),
        }
    }

    /// Something to change: what is staged already, or the next version of what is published.
    fn draft(&self, role: Role, now: OffsetDateTime, days: i64) -> Result<Signed, ReleaseError> {
        match self.staged(role)? {
            Some(mut staged) => {
                staged.date(now, days);
                Ok(staged)
            }
            None => Ok(self.coming(role)?.next(now, days)),
        }
    }

    fn authority(&self, role: Role) -> Result<Authority, ReleaseError> {
        let parent = if role.is_delegated() {
            Role::Targets
        } else {
            Role::Root
        };
        authority_in(&self.coming(parent)?, role)
    }

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

    /// Stages a software release: the files of `folder` as `releases/<version>/…`, and `releases/current.json`. The release
    /// before it stays listed, older ones go.
    ///
    /// # Errors
    /// When a file or the version cannot be part of a target's name.
    pub fn add_release(
        &self,
        folder: &Path,
        version: &str,
        hardware: &str,
        now: OffsetDateTime,
    ) -> Result<SoftwareRelease, ReleaseError> {
        let mut draft = self.draft(Role::Releases, now, Days::of(Role::Releases))?;
        let before = self
            .target_content(&draft, RELEASE_TARGET)
            .and_then(|bytes| serde_json::from_slice::<SoftwareRelease>(&bytes).ok());
        if let Some(before) = &before
            && before.version == version
        {
            return Err(ReleaseError::NotNewer {
                what: "版",
                before: before.version.clone(),
                now: version.to_owned(),
            });
        }
        keep_only(
            &mut draft,
            Role::Releases,
            before.map(|before| before.version).as_deref(),
        );
        let prefix = format!("{}/{version}", Role::Releases.name());
        let release = SoftwareRelease {
            version: version.to_owned(),
            published_at: rfc3339(now),
            hardware: hardware.to_owned(),
            files: self.add_folder(&mut draft, folder, &prefix)?,
        };
        let custom = json!({ "version": version, "hardware": hardware });
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
        let path = self.directory.join("targets").join(name);
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

    /// Signs everything staged that this key has a say in.
    ///
    /// # Errors
    /// [`ReleaseError::NothingToSign`].
    pub fn sign(&self, key: &SecretKey) -> Result<Vec<Role>, ReleaseError> {
        let id = key.public().id();
        let mut signed = Vec::new();
        for role in Role::ALL {
            let Some(mut staged) = self.staged(role)? else {
                continue;
            };
            let mut counts = self.authority(role)?.ids.contains(&id);
            if role == Role::Root
                && let Some(before) = self.published(Role::Root)?
            {
                // A root is signed by those who leave, too (TUF specification §5.3.4).
                counts |= authority_in(&before, role)?.ids.contains(&id);
            }
            if counts {
                staged.sign(key)?;
                self.stage(role, &staged)?;
                signed.push(role);
            }
        }
        if signed.is_empty() {
            return Err(ReleaseError::NothingToSign);
        }
        Ok(signed)
    }

    /// Takes over the signatures of a copy of the repository, or of its `staging` folder, that somebody else has signed
    /// elsewhere. Returns the roles whose copy was the same content.
    ///
    /// # Errors
    /// When the copy cannot be read, or is of something else.
    pub fn assemble(&self, copy: &Path) -> Result<Vec<Role>, ReleaseError> {
        let folder = if copy.join("staging").is_dir() {
            copy.join("staging")
        } else {
            copy.to_owned()
        };
        let mut merged = Vec::new();
        for role in Role::ALL {
            let path = folder.join(format!("{}.json", role.name()));
            if let (true, Some(mut staged)) = (path.is_file(), self.staged(role)?)
                && staged.merge(&Signed::read(&path)?)
            {
                self.stage(role, &staged)?;
                merged.push(role);
            }
        }
        if merged.is_empty() {
            return Err(ReleaseError::Malformed(copy.display().to_string()));
        }
        Ok(merged)
    }

    /// Replaces keys or the threshold of a role. What was staged for a role whose keys change has to be signed again.
    ///
    /// # Errors
    /// When the threshold could not be met, or a key to remove is not there.
    pub fn rotate(
        &self,
        role: Role,
        add: &[PublicKey],
        remove: &[String],
        threshold: Option<usize>,
        now: OffsetDateTime,
    ) -> Result<(), ReleaseError> {
        let parent = if role.is_delegated() {
            Role::Targets
        } else {
            Role::Root
        };
        let mut draft = self.draft(parent, now, Days::of(parent))?;
        let authority = authority_in(&draft, role)?;
        let mut ids = authority.ids;
        for wanted in remove {
            let before = ids.len();
            ids.retain(|id| !id.starts_with(wanted.as_str()));
            if wanted.len() < 8 || ids.len() == before {
                return Err(ReleaseError::NoSuchKey {
                    role: role.name().to_owned(),
                    key: wanted.clone(),
                });
            }
        }
        let mut keys = authority.keys;
        for key in add {
            keys[key.id()] = json!(key);
            if !ids.contains(&key.id()) {
                ids.push(key.id());
            }
        }
        let threshold = threshold.unwrap_or(authority.threshold);
        check_threshold(role, threshold, ids.len())?;
        let block = if role.is_delegated() {
            &mut draft.signed["delegations"]
        } else {
            &mut draft.signed
        };
        block["keys"] = keys;
        let entry = entry_of(block, role).ok_or_else(|| malformed(parent))?;
        entry["keyids"] = json!(ids);
        entry["threshold"] = json!(threshold);
        forget_unused_keys(block);
        self.stage(parent, &draft)
    }

    /// Stages the next version of an offline role with a new expiry and nothing else changed.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn renew(&self, role: Role, days: i64, now: OffsetDateTime) -> Result<(), ReleaseError> {
        self.stage(role, &self.draft(role, now, days)?)
    }

    /// Publishes everything staged, with a new snapshot and timestamp. Nothing is written when a signature is missing.
    ///
    /// # Errors
    /// [`ReleaseError::Threshold`] names the first role that lacks signatures.
    pub fn publish(&self, online: &OnlineKeys, now: OffsetDateTime) -> Result<(), ReleaseError> {
        let mut fresh = Vec::new();
        for role in Role::ALL {
            if let Some(staged) = self.staged(role)? {
                fresh.push((role, staged));
            }
        }
        if fresh.is_empty() {
            return Err(ReleaseError::NothingToPublish);
        }
        // Also what is not staged: new keys of a role make its old file void.
        for role in [Role::Root, Role::Targets].into_iter().chain(DELEGATED) {
            require(role, &self.coming(role)?, &self.authority(role)?)?;
        }
        if let (Some(staged), Some(before)) =
            (self.staged(Role::Root)?, self.published(Role::Root)?)
        {
            require(Role::Root, &staged, &authority_in(&before, Role::Root)?)?;
        }
        let snapshot = self.next_snapshot(&online.snapshot, now)?;
        let timestamp = self.next_timestamp(&snapshot, &online.timestamp, now)?;
        for (role, file) in &fresh {
            self.write_version(*role, file)?;
        }
        self.write_version(Role::Snapshot, &snapshot)?;
        self.write_timestamp(&timestamp)?;
        for (role, _) in &fresh {
            let path = self.staging_path(*role);
            std::fs::remove_file(&path).map_err(|error| ReleaseError::File(path, error))?;
        }
        Ok(())
    }

    /// Signs a new snapshot and timestamp over what is published: when the snapshot would expire.
    ///
    /// # Errors
    /// When nothing is published yet, or a key is not the role's.
    pub fn renew_snapshot(
        &self,
        online: &OnlineKeys,
        now: OffsetDateTime,
    ) -> Result<(), ReleaseError> {
        let snapshot = self.snapshot_of(|role| self.published(role), &online.snapshot, now)?;
        let timestamp = self.next_timestamp(&snapshot, &online.timestamp, now)?;
        self.write_version(Role::Snapshot, &snapshot)?;
        self.write_timestamp(&timestamp)
    }

    /// Signs a new timestamp over the published snapshot: each day, by a machine.
    ///
    /// # Errors
    /// When nothing is published yet, or the key is not the role's.
    pub fn renew_timestamp(
        &self,
        keys: &[SecretKey],
        now: OffsetDateTime,
    ) -> Result<(), ReleaseError> {
        let snapshot = self
            .published(Role::Snapshot)?
            .ok_or_else(|| ReleaseError::NoRepository(self.directory.clone()))?;
        let timestamp = self.next_timestamp(&snapshot, keys, now)?;
        self.write_timestamp(&timestamp)
    }

    fn next_snapshot(
        &self,
        keys: &[SecretKey],
        now: OffsetDateTime,
    ) -> Result<Signed, ReleaseError> {
        self.snapshot_of(|role| self.coming(role).map(Some), keys, now)
    }

    fn snapshot_of(
        &self,
        file: impl Fn(Role) -> Result<Option<Signed>, ReleaseError>,
        keys: &[SecretKey],
        now: OffsetDateTime,
    ) -> Result<Signed, ReleaseError> {
        let mut meta = Map::new();
        for role in [Role::Targets].into_iter().chain(DELEGATED) {
            let file =
                file(role)?.ok_or_else(|| ReleaseError::NoRepository(self.directory.clone()))?;
            meta.insert(format!("{}.json", role.name()), pin(&file));
        }
        self.online(Role::Snapshot, json!({ "meta": meta }), keys, now)
    }

    fn next_timestamp(
        &self,
        snapshot: &Signed,
        keys: &[SecretKey],
        now: OffsetDateTime,
    ) -> Result<Signed, ReleaseError> {
        let meta = json!({ "meta": { "snapshot.json": pin(snapshot) } });
        self.online(Role::Timestamp, meta, keys, now)
    }

    /// The next version of an online role's file, signed.
    fn online(
        &self,
        role: Role,
        more: Value,
        keys: &[SecretKey],
        now: OffsetDateTime,
    ) -> Result<Signed, ReleaseError> {
        let version = self.published(role)?.map_or(0, |file| file.version());
        let mut file = Signed::new(role, now, Days::of(role), more);
        file.signed["version"] = json!(version + 1);
        let authority = self.authority(role)?;
        for key in keys {
            if !authority.ids.contains(&key.public().id()) {
                return Err(ReleaseError::NotTheKey(role.name()));
            }
            file.sign(key)?;
        }
        require(role, &file, &authority)?;
        Ok(file)
    }

    fn write_version(&self, role: Role, file: &Signed) -> Result<(), ReleaseError> {
        let name = format!("{}.{}.json", file.version(), role.name());
        let path = self.directory.join("metadata").join(name);
        if path.exists() {
            return Err(ReleaseError::Exists(path));
        }
        write(&path, &file.bytes())
    }

    fn write_timestamp(&self, file: &Signed) -> Result<(), ReleaseError> {
        write(
            &self.directory.join("metadata/timestamp.json"),
            &file.bytes(),
        )
    }

    /// Signatures of a staged role that count, and how many it takes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn progress(&self, role: Role) -> Result<(usize, usize), ReleaseError> {
        let authority = self.authority(role)?;
        let file = self.coming(role)?;
        Ok((count(role, &file, &authority)?, authority.threshold))
    }

    /// The ids of the keys that count for a role, and the threshold.
    ///
    /// # Errors
    /// When the parent's file cannot be read.
    pub fn keys_of(&self, role: Role) -> Result<(Vec<String>, usize), ReleaseError> {
        let authority = self.authority(role)?;
        Ok((authority.ids, authority.threshold))
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

fn new(role: Role, now: OffsetDateTime, more: Value) -> Signed {
    Signed::new(role, now, Days::of(role), more)
}

fn malformed(role: Role) -> ReleaseError {
    ReleaseError::Malformed(format!("{}.json", role.name()))
}

/// The entry of a role in a root, or in the delegations of a targets file.
fn entry_of(block: &mut Value, role: Role) -> Option<&mut Value> {
    if role.is_delegated() {
        let roles = block["roles"].as_array_mut()?;
        roles.iter_mut().find(|entry| entry["name"] == role.name())
    } else {
        block["roles"].get_mut(role.name())
    }
}

fn authority_in(parent: &Signed, role: Role) -> Result<Authority, ReleaseError> {
    let mut block = if role.is_delegated() {
        parent.signed["delegations"].clone()
    } else {
        parent.signed.clone()
    };
    let keys = block["keys"].clone();
    let entry = entry_of(&mut block, role).ok_or_else(|| malformed(role))?;
    let ids = entry["keyids"].as_array().into_iter().flatten();
    let ids = ids.filter_map(Value::as_str).map(str::to_owned).collect();
    let threshold = entry["threshold"].as_u64().unwrap_or_default();
    let threshold = usize::try_from(threshold).unwrap_or(usize::MAX);
    Ok(Authority {
        keys,
        ids,
        threshold,
    })
}

/// Keys that no role names any more.
fn forget_unused_keys(block: &mut Value) {
    let roles = match &block["roles"] {
        Value::Object(roles) => roles.values().cloned().collect(),
        Value::Array(roles) => roles.clone(),
        _ => Vec::new(),
    };
    let used: Vec<Value> = roles
        .iter()
        .filter_map(|role| role["keyids"].as_array())
        .flatten()
        .cloned()
        .collect();
    if let Some(keys) = block["keys"].as_object_mut() {
        keys.retain(|id, _| used.iter().any(|used| used == id.as_str()));
    }
}

fn count(role: Role, file: &Signed, authority: &Authority) -> Result<usize, ReleaseError> {
    signatures(&file.bytes(), &authority.keys, &authority.ids).map_err(|refused| {
        ReleaseError::BoxRefuses(format!("{}.json", role.name()), Box::new(refused))
    })
}

fn require(role: Role, file: &Signed, authority: &Authority) -> Result<(), ReleaseError> {
    let found = count(role, file, authority)?;
    if found >= authority.threshold {
        return Ok(());
    }
    Err(ReleaseError::Threshold {
        role: role.name().to_owned(),
        found,
        threshold: authority.threshold,
    })
}

/// What a parent says of a file: version, length, SHA-256.
fn pin(file: &Signed) -> Value {
    let (sha256, length) = digest_of(&file.bytes());
    json!({ "version": file.version(), "length": length, "hashes": { "sha256": sha256 } })
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

/// Writes a file so that it is there whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), ReleaseError> {
    use std::io::Write as _;
    let failed = |error| ReleaseError::File(path.to_owned(), error);
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".tmp");
    let fresh = PathBuf::from(fresh);
    let mut file = std::fs::File::create(&fresh).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
    }
    Ok(())
}
