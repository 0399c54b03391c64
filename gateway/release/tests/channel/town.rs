//! A city with keys and a repository, and a box that has its first root.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gateway_policy::Timestamp;
use gateway_release::{
    Algorithm, AntivirusRelease, Canary, OnlineKeys, Plan, Repository, Role, RolePlan, SecretKey,
};
use gateway_tuf::form::canonical;
use gateway_tuf::{Client, Duties, Limits, Medium, Pace, Store, Transport};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

/// Noon of 2026-11-22 in UTC.
pub(crate) const NOON: i64 = 1_795_348_800;
pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

pub(crate) struct Town {
    pub(crate) folder: TempDir,
    pub(crate) repository: Repository,
    /// By role; the root has three, of which two must sign; targets two of two.
    pub(crate) keys: BTreeMap<Role, Vec<SecretKey>>,
}

impl Town {
    /// Published once: an empty repository at noon.
    pub(crate) fn new() -> Self {
        Self::published_at(NOON)
    }

    /// Published once: an empty repository.
    pub(crate) fn published_at(now: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = BTreeMap::new();
        let mut roles = BTreeMap::new();
        for role in Role::ALL {
            let (number, threshold) = match role {
                Role::Root => (3, 2),
                Role::Targets => (2, 2),
                _ => (1, 1),
            };
            let made: Vec<SecretKey> = (0..number).map(|n| key(n % 2 == 0)).collect();
            let plan = RolePlan {
                keys: made.iter().map(SecretKey::public).collect(),
                threshold,
            };
            roles.insert(role, plan);
            keys.insert(role, made);
        }
        let plan = Plan::new(roles).unwrap();
        let repository = Repository::init(&folder.path().join("tuf"), &plan, at(now)).unwrap();
        let town = Self {
            folder,
            repository,
            keys,
        };
        town.sign_everything();
        town.publish(now);
        town
    }

    pub(crate) fn online(&self) -> OnlineKeys {
        OnlineKeys {
            snapshot: vec![again(&self.keys[&Role::Snapshot][0])],
            timestamp: vec![again(&self.keys[&Role::Timestamp][0])],
        }
    }

    /// Everybody signs whatever waits for them.
    pub(crate) fn sign_everything(&self) {
        for key in self.keys.values().flatten() {
            let _ = self.repository.sign(key);
        }
    }

    pub(crate) fn publish(&self, now: i64) {
        self.repository.publish(&self.online(), at(now)).unwrap();
    }

    pub(crate) fn publish_policy(&self, version: u64, now: i64) {
        let policy = policy(version);
        self.repository.add_policy(&policy, at(now)).unwrap();
        self.sign_everything();
        self.publish(now);
    }

    pub(crate) fn publish_antivirus(&self, serial: u64, content: &[u8], now: i64) {
        let files = self.folder.path().join(format!("database-{serial}"));
        std::fs::create_dir_all(&files).unwrap();
        std::fs::write(files.join("daily.cud"), content).unwrap();
        let release = AntivirusRelease {
            serial,
            built_at: "2026-11-22T00:00:00Z".to_owned(),
            expires: "2026-12-06T00:00:00Z".to_owned(),
            files: Vec::new(),
            canary: canary(serial),
        };
        self.repository
            .add_antivirus(&files, &release, at(now))
            .unwrap();
        self.sign_everything();
        self.publish(now);
    }

    /// A copy of the published state, for an attacker to keep.
    pub(crate) fn copy(&self) -> TempDir {
        let to = tempfile::tempdir().unwrap();
        copy_folder(self.repository.directory(), to.path());
        to
    }

    pub(crate) fn metadata(&self, name: &str) -> Value {
        let path = self.repository.directory().join("metadata").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) {
        let path = self.repository.directory().join("metadata").join(name);
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn first_root(&self) -> Vec<u8> {
        std::fs::read(self.repository.first_root()).unwrap()
    }

    pub(crate) fn medium(&self) -> Arc<dyn Transport> {
        Arc::new(Medium::new(self.repository.directory()))
    }

    /// A box with the given store and transport.
    pub(crate) fn client(&self, store: Store, transport: Arc<dyn Transport>) -> Client {
        Client::new(store, self.first_root(), transport, limits(), Duties::City)
    }

    /// A signed file over `signed`, by the given keys.
    pub(crate) fn forge(signed: &Value, keys: &[&SecretKey]) -> Vec<u8> {
        let bytes = canonical(signed).unwrap();
        let signatures: Vec<Value> = keys
            .iter()
            .map(|key| json!({ "keyid": key.public().id(), "sig": key.sign(&bytes).unwrap() }))
            .collect();
        serde_json::to_vec(&json!({ "signed": signed, "signatures": signatures })).unwrap()
    }

    /// An attacker with the online keys publishes files of its own under new pins: `changed` are role and content.
    pub(crate) fn publish_forged(&self, changed: &[(Role, Vec<u8>)], drop: Option<Role>, now: i64) {
        let version = self.repository.published(Role::Snapshot).unwrap().unwrap();
        let version = version.version() + 1;
        let mut snapshot =
            self.metadata(&format!("{}.snapshot.json", version - 1))["signed"].clone();
        snapshot["version"] = json!(version);
        for (role, bytes) in changed {
            let file: Value = serde_json::from_slice(bytes).unwrap();
            let of = file["signed"]["version"].as_u64().unwrap();
            self.replace(&format!("{of}.{}.json", role.name()), bytes);
            snapshot["meta"][format!("{}.json", role.name())] = json!({ "version": of });
        }
        if let Some(role) = drop {
            let meta = snapshot["meta"].as_object_mut().unwrap();
            meta.remove(&format!("{}.json", role.name()));
        }
        let forged = Self::forge(&snapshot, &[&self.keys[&Role::Snapshot][0]]);
        self.replace(&format!("{version}.snapshot.json"), &forged);
        self.publish_timestamp_for(version, now);
    }

    /// An attacker with the timestamp key names any snapshot.
    pub(crate) fn publish_timestamp_for(&self, snapshot: u64, now: i64) {
        let mut timestamp = self.metadata("timestamp.json")["signed"].clone();
        let version = timestamp["version"].as_u64().unwrap();
        timestamp["version"] = json!(version + 1);
        timestamp["meta"]["snapshot.json"] = json!({ "version": snapshot });
        timestamp["x-renraku-issued"] = json!(rfc3339(now));
        timestamp["expires"] = json!(rfc3339(now + 3 * DAY));
        let forged = Self::forge(&timestamp, &[&self.keys[&Role::Timestamp][0]]);
        self.replace("timestamp.json", &forged);
    }
}

pub(crate) fn canary(serial: u64) -> Canary {
    Canary {
        signature: format!("Renraku.Canary.{serial}"),
        content: format!("a canary of release {serial}"),
    }
}

pub(crate) fn key(p256: bool) -> SecretKey {
    SecretKey::generate(if p256 {
        Algorithm::P256
    } else {
        Algorithm::Ed25519
    })
    .unwrap()
}

/// Keys are not copied in the product; a test goes through a file, as a person would.
pub(crate) fn again(key: &SecretKey) -> SecretKey {
    use gateway_release::{Cost, Passphrase};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let phrase = Passphrase::new("correct horse battery".to_owned().into()).unwrap();
    key.write(&path, &phrase, Cost::TESTING).unwrap();
    SecretKey::read(&path, &phrase).unwrap()
}

pub(crate) fn rfc3339(seconds: i64) -> String {
    at(seconds)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap()
}

/// Patience in tests: what is slow is slow after a fraction of a second.
pub(crate) fn limits() -> Limits {
    Limits {
        pace: Pace {
            idle: std::time::Duration::from_millis(400),
            grace: std::time::Duration::from_millis(1200),
            slowest: 1024 * 1024,
        },
        ..Limits::default()
    }
}

pub(crate) fn policy(version: u64) -> Vec<u8> {
    serde_json::to_vec(&json!({
        "version": version,
        "not_before": NOON - DAY,
        "expires": NOON + 300 * DAY,
        "facilities": ["*"],
    }))
    .unwrap()
}

pub(crate) fn now() -> Timestamp {
    Timestamp(NOON + HOUR)
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
