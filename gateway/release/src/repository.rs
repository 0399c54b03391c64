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

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::authority::{
    Authority, authority_in, count, entry_of, forget_unused_keys, malformed, require,
};
use crate::manifest::digest_of;
use crate::plan::check_threshold;
use crate::{DELEGATED, Days, Plan, PublicKey, ReleaseError, Role, SecretKey, Signed};

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

    pub(crate) fn stage(&self, role: Role, file: &Signed) -> Result<(), ReleaseError> {
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
    pub(crate) fn draft(
        &self,
        role: Role,
        now: OffsetDateTime,
        days: i64,
    ) -> Result<Signed, ReleaseError> {
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
}

fn new(role: Role, now: OffsetDateTime, more: Value) -> Signed {
    Signed::new(role, now, Days::of(role), more)
}

/// What a parent says of a file: version, length, SHA-256.
fn pin(file: &Signed) -> Value {
    let (sha256, length) = digest_of(&file.bytes());
    json!({ "version": file.version(), "length": length, "hashes": { "sha256": sha256 } })
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), ReleaseError> {
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
