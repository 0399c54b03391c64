//! What one refresh has established: which targets there are, and who says so.
//!
//! It is a state of one moment. Targets are looked up in it and fetched; nothing in it grows newer.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_policy::Timestamp as Moment;
use serde_json::Value;
use sigstore_tuf::metadata::{Metadata, Targets};
use sigstore_tuf::{TargetFile, TrustedMetadataSet};

use crate::client::{mixed, torn, versioned};
use crate::clock::moment;
use crate::names::encode_role;
use crate::pace::read;
use crate::{Duties, Limits, Refused, Store, Transport};

/// A target that a role has named.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name: `policy/policy.json`.
    pub name: String,
    /// Length in bytes.
    pub length: u64,
    /// Who named it.
    pub role: String,
    /// What the role says beside length and hash; null when nothing.
    pub custom: Value,
    /// Algorithm and digest in hexadecimal.
    pub(crate) hashes: BTreeMap<String, String>,
}

impl Target {
    /// The SHA-256 in lower-case hexadecimal, when it is given.
    #[must_use]
    pub fn sha256(&self) -> Option<String> {
        self.hashes
            .get("sha256")
            .map(|hex| hex.to_ascii_lowercase())
    }
}

/// The versions that are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of the root.
    pub root: u64,
    /// Of the timestamp.
    pub timestamp: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the top-level targets.
    pub targets: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Trusted {
    pub(crate) set: TrustedMetadataSet,
    store: Store,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) limits: Limits,
    duties: Duties,
    now: Moment,
}

impl Trusted {
    pub(crate) fn new(
        set: TrustedMetadataSet,
        store: Store,
        transport: Arc<dyn Transport>,
        limits: Limits,
        duties: Duties,
        now: Moment,
    ) -> Self {
        Self {
            set,
            store,
            transport,
            limits,
            duties,
            now,
        }
    }

    /// The versions in force.
    #[must_use]
    pub fn versions(&self) -> Versions {
        Versions {
            root: self.set.root().version,
            timestamp: self.set.timestamp().map_or(0, |role| role.version),
            snapshot: self.set.snapshot().map_or(0, |role| role.version),
            targets: self
                .set
                .targets_role("targets")
                .map_or(0, |role| role.version),
        }
    }

    /// The version of a delegated role, once it was looked into.
    #[must_use]
    pub fn role_version(&self, role: &str) -> Option<u64> {
        self.set.targets_role(role).map(|role| role.version)
    }

    /// Seconds since 1970 at which the timestamp expires, and with it all that was refreshed.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        self.set.timestamp().map(|role| role.expires.as_second())
    }

    /// Looks a target up, through the delegations (TUF specification §5.6.7), loading roles as they are needed.
    ///
    /// # Errors
    /// [`Refused::MissingTarget`] when nobody names it, [`Refused::WrongRole`] when somebody does whose duty it is not, and
    /// whatever is wrong with a role on the way.
    pub async fn target(&mut self, name: &str) -> Result<Target, Refused> {
        let found = self.search(name).await?;
        let duty = self.duties.of(name).map(str::to_owned);
        let role = match (&found, &duty) {
            (Some((role, _)), Some(duty)) if role != duty => Some(role.clone()),
            // Nobody who may; does anybody who may not?
            (None, Some(_)) => self.named_elsewhere(name),
            _ => None,
        };
        if let (Some(role), Some(duty)) = (role, duty) {
            return Err(Refused::WrongRole {
                target: name.to_owned(),
                role,
                duty,
            });
        }
        let (role, file) = found.ok_or_else(|| Refused::MissingTarget {
            target: name.to_owned(),
        })?;
        Ok(Target {
            name: name.to_owned(),
            length: file.length,
            role,
            custom: file.custom.unwrap_or_default(),
            hashes: file.hashes,
        })
    }

    /// Every target a role names whose duty they are. The role is loaded when it is not yet.
    ///
    /// # Errors
    /// Whatever is wrong with the role.
    pub async fn names(&mut self, role: &str) -> Result<Vec<String>, Refused> {
        self.load(role, "targets").await?;
        let listed = self.set.targets_role(role).into_iter();
        Ok(listed
            .flat_map(|role| role.targets.keys().cloned())
            .collect())
    }

    /// A pre-order walk of the delegations, depth first, each role at most once.
    async fn search(&mut self, name: &str) -> Result<Option<(String, TargetFile)>, Refused> {
        let mut waiting = vec![("targets".to_owned(), "root".to_owned())];
        let mut visited: Vec<String> = Vec::new();
        while let Some((role, delegator)) = waiting.pop() {
            if visited.contains(&role) {
                continue;
            }
            if visited.len() >= self.limits.roles {
                break;
            }
            if role != "targets" && !self.load(&role, &delegator).await? {
                continue;
            }
            visited.push(role.clone());
            let Some(targets) = self.set.targets_role(&role) else {
                continue;
            };
            if let Some(file) = targets.target(name) {
                return Ok(Some((role, file.clone())));
            }
            let (children, terminated) = children(targets, &role, name)?;
            if terminated {
                waiting.clear();
            }
            waiting.extend(children.into_iter().rev());
        }
        Ok(None)
    }

    /// Loads a delegated role from the store or the repository; false when the snapshot does not know it.
    async fn load(&mut self, role: &str, delegator: &str) -> Result<bool, Refused> {
        let now = moment(self.now);
        let encoded = encode_role(role);
        let held = format!("{encoded}.json");
        if self.set.targets_role(role).is_some() {
            // It may have been reached through another delegation, with other keys.
            return self
                .set
                .verify_delegated_targets(role, delegator, now)
                .map(|_| true)
                .map_err(|error| Refused::by_the_core(&held, error));
        }
        let pinned = self
            .set
            .snapshot()
            .and_then(|snapshot| snapshot.meta.get(&format!("{role}.json")))
            .map(|pin| pin.version);
        let Some(version) = pinned else {
            return Ok(false);
        };
        if let Some(stored) = self.store.read(&held)? {
            Metadata::<Targets>::from_slice(&stored).map_err(|_| torn(&held))?;
            // One that the snapshot no longer names is only out of date.
            if self
                .set
                .update_delegated_targets(&stored, role, delegator, now)
                .is_ok()
            {
                return Ok(true);
            }
        }
        let file = versioned(&self.set, version, &encoded);
        let opening = self.transport.metadata(&file);
        let bytes = read(&file, opening, self.limits.targets, &self.limits.pace)
            .await?
            .ok_or_else(|| Refused::MissingFile { file: file.clone() })?;
        self.set
            .update_delegated_targets(&bytes, role, delegator, now)
            .map_err(|error| Refused::by_the_core(&file, error))?;
        self.store.put(&held, &bytes)?;
        Ok(true)
    }

    /// A role among those the top level delegates to, loaded already, that lists `name` without any right to.
    fn named_elsewhere(&self, name: &str) -> Option<String> {
        let delegations = self.set.targets_role("targets")?.delegations.as_ref()?;
        delegations
            .roles
            .iter()
            .map(|role| &role.name)
            .find(|role| {
                self.set
                    .targets_role(role)
                    .is_some_and(|targets| targets.target(name).is_some())
            })
            .cloned()
    }

    /// Checks once more that what is in force is complete and still valid; for a state that was held for a while.
    ///
    /// # Errors
    /// [`Refused::Frozen`] and [`Refused::MixAndMatch`].
    pub fn check_still_valid(&self, now: Moment) -> Result<(), Refused> {
        let now = moment(now);
        self.set
            .check_timestamp_expired(now)
            .and_then(|()| self.set.check_snapshot_expired(now))
            .map_err(|error| Refused::by_the_core("timestamp.json", error))?;
        if self.set.targets_role("targets").is_none() {
            return Err(mixed("targets.json"));
        }
        Ok(())
    }
}

/// Delegations of `role` that cover `name`, with the delegator, in their order; and whether one of them ends the search.
fn children(
    targets: &Targets,
    role: &str,
    name: &str,
) -> Result<(Vec<(String, String)>, bool), Refused> {
    let mut out = Vec::new();
    let delegations = targets.delegations.as_ref();
    for child in delegations.into_iter().flat_map(|block| &block.roles) {
        // A name of the top level would share its files in the store.
        if matches!(
            child.name.as_str(),
            "root" | "timestamp" | "snapshot" | "targets" | ""
        ) {
            continue;
        }
        let covers = child
            .matches_path(name)
            .map_err(|error| Refused::by_the_core(&format!("{role}.json"), error))?;
        if covers {
            out.push((child.name.clone(), role.to_owned()));
            if child.terminating {
                return Ok((out, true));
            }
        }
    }
    Ok((out, false))
}
