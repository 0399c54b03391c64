//! The city's signed repository: made at the first start with keys of its own, kept from expiring, published to on request.
//!
//! It signs with the code that a real city signs with (`gateway-release`). Its keys protect nothing: they lie beside it, all
//! of them, which a real city must never do.

pub mod control;
pub mod serve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gateway_release::{
    Algorithm, AntivirusRelease, Cost, DELEGATED, Days, OnlineKeys, Passphrase, Plan, ReleaseError,
    Repository, Role, RolePlan, SecretKey, SoftwareRelease,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// What the keys are encrypted under; no secret.
const PASSPHRASE: &str = "the reference city protects nothing";

/// Keys of each role, and how many of them must sign.
const fn number_of_keys(role: Role) -> (usize, usize) {
    match role {
        Role::Root => (3, 2),
        Role::Targets => (2, 2),
        _ => (1, 1),
    }
}

/// How the repository is handed out, when not as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Misbehaviour {
    /// As it is.
    #[default]
    None,
    /// The timestamp one byte each second.
    Slow,
    /// The timestamp never ends.
    Endless,
    /// The first timestamp ever published.
    Rollback,
    /// A timestamp that has expired, signed as it should be.
    Freeze,
    /// A timestamp with somebody else's signature.
    WrongSigner,
    /// Each target with one bit changed.
    WrongTarget,
    /// Each answer with a large target breaks off after its first 64 KiB.
    Broken,
}

/// See the module.
pub struct Tuf {
    repository: Repository,
    keys: BTreeMap<Role, Vec<SecretKey>>,
    past: PathBuf,
    misbehaviour: Mutex<Misbehaviour>,
    /// One publication at a time.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Tuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tuf(…)")
    }
}

/// A database as the control port brings it.
#[derive(Debug)]
pub struct NewDatabase {
    /// What `antivirus/current.json` will say.
    pub release: AntivirusRelease,
    /// Names and contents.
    pub files: Vec<(String, Vec<u8>)>,
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

impl Tuf {
    /// Opens the repository below the city's directory, making keys and a first publication when there is none.
    ///
    /// # Errors
    /// When keys or files cannot be read or written.
    pub fn open(city: &Path) -> Result<Self, ReleaseError> {
        let keys = keys(&city.join("tuf-keys"))?;
        let directory = city.join("tuf");
        let fresh = !directory.join("metadata/timestamp.json").exists();
        let repository = if fresh {
            // What a start that was cut short has left was never handed out.
            let _ = std::fs::remove_dir_all(&directory);
            Repository::init(&directory, &plan(&keys)?, now())?
        } else {
            Repository::open(&directory)?
        };
        let past = city.join("tuf-past.json");
        let tuf = Self {
            repository,
            keys,
            past,
            misbehaviour: Mutex::default(),
            turn: Mutex::default(),
        };
        if fresh {
            tuf.publish()?;
            let first = tuf.repository.directory().join("metadata/timestamp.json");
            std::fs::copy(first, &tuf.past)
                .map_err(|error| ReleaseError::File(tuf.past.clone(), error))?;
        }
        Ok(tuf)
    }

    /// Where it is: what a web server or a medium would carry.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.repository.directory()
    }

    /// How it is handed out at the moment.
    #[must_use]
    pub fn misbehaviour(&self) -> Misbehaviour {
        *self
            .misbehaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands it out in another way from now on.
    ///
    /// # Errors
    /// When a file for it cannot be signed.
    pub fn misbehave(&self, how: Misbehaviour) -> Result<(), ReleaseError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(
            &mut *self
                .misbehaviour
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            how,
        );
        let timestamp = self.keys.get(&Role::Timestamp);
        let keys = timestamp.map(Vec::as_slice).unwrap_or_default();
        if how == Misbehaviour::Freeze {
            let expired = now() - time::Duration::days(Days::of(Role::Timestamp) + 1);
            self.repository.renew_timestamp(keys, expired)?;
        } else if before == Misbehaviour::Freeze {
            self.repository.renew_timestamp(keys, now())?;
        }
        Ok(())
    }

    /// Publishes a policy.
    ///
    /// # Errors
    /// When a box would not take it.
    pub fn publish_policy(&self, policy: &[u8]) -> Result<(), ReleaseError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.repository.add_policy(policy, now())?;
        self.publish()
    }

    /// Publishes an antivirus database.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn publish_database(
        &self,
        database: &NewDatabase,
    ) -> Result<AntivirusRelease, ReleaseError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let release = self.with_folder(&database.files, |folder| {
            self.repository
                .add_antivirus(folder, &database.release, now())
        })?;
        self.publish()?;
        Ok(release)
    }

    /// Publishes a software release.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn publish_release(
        &self,
        version: &str,
        hardware: &str,
        files: &[(String, Vec<u8>)],
    ) -> Result<(), ReleaseError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.with_folder(files, |folder| {
            let release = SoftwareRelease::new(version, hardware);
            self.repository.add_release(folder, &release, now())
        })?;
        self.publish()
    }

    /// Publishes a release with an image: the files of `folder`, as `cargo xtask image` made them.
    ///
    /// # Errors
    /// When it is no newer version, its parts do not fit each other, or a file cannot be signed.
    pub fn publish_image(
        &self,
        folder: &Path,
        release: &SoftwareRelease,
    ) -> Result<(), ReleaseError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.repository.add_release(folder, release, now())?;
        self.publish()
    }

    /// Publishes a new root with the same keys.
    ///
    /// # Errors
    /// When a file cannot be signed.
    pub fn renew_root(&self) -> Result<(), ReleaseError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.repository
            .renew(Role::Root, Days::of(Role::Root), now())?;
        self.publish()
    }

    fn with_folder<T>(
        &self,
        files: &[(String, Vec<u8>)],
        what: impl FnOnce(&Path) -> Result<T, ReleaseError>,
    ) -> Result<T, ReleaseError> {
        let folder = self.repository.directory().join("incoming");
        let failed = |error| ReleaseError::File(folder.clone(), error);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        for (name, content) in files {
            gateway_tuf::check_target_name(name)
                .map_err(|_| ReleaseError::TargetName(name.clone()))?;
            std::fs::write(folder.join(name), content).map_err(failed)?;
        }
        let outcome = what(&folder);
        std::fs::remove_dir_all(&folder).map_err(failed)?;
        outcome
    }

    /// Everybody signs, and what is signed is published.
    fn publish(&self) -> Result<(), ReleaseError> {
        for key in self.keys.values().flatten() {
            match self.repository.sign(key) {
                Ok(_) | Err(ReleaseError::NothingToSign) => {}
                Err(error) => return Err(error),
            }
        }
        self.with_online_keys(|online| self.repository.publish(online, now()))
    }

    fn with_online_keys<T>(
        &self,
        what: impl FnOnce(&OnlineKeys) -> Result<T, ReleaseError>,
    ) -> Result<T, ReleaseError> {
        let folder = self.repository.directory().with_file_name("tuf-keys");
        what(&OnlineKeys {
            snapshot: vec![read(&folder, Role::Snapshot, 0)?],
            timestamp: vec![read(&folder, Role::Timestamp, 0)?],
        })
    }

    /// Renews whatever would expire soon: what a city's timers and people do.
    ///
    /// # Errors
    /// When a file cannot be signed.
    pub fn keep_valid(&self) -> Result<(), ReleaseError> {
        if self.misbehaviour() == Misbehaviour::Freeze {
            return Ok(());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut offline = false;
        for role in [Role::Root, Role::Targets].into_iter().chain(DELEGATED) {
            if self.is_due(role, time::Duration::days(7))? {
                self.repository.renew(role, Days::of(role), now())?;
                offline = true;
            }
        }
        if offline {
            return self.publish();
        }
        if self.is_due(Role::Snapshot, time::Duration::days(4))? {
            return self.with_online_keys(|online| self.repository.renew_snapshot(online, now()));
        }
        if self.is_due(Role::Timestamp, time::Duration::days(2))? {
            let keys = self.keys.get(&Role::Timestamp);
            let keys = keys.map(Vec::as_slice).unwrap_or_default();
            return self.repository.renew_timestamp(keys, now());
        }
        Ok(())
    }

    fn is_due(&self, role: Role, before: time::Duration) -> Result<bool, ReleaseError> {
        let Some(file) = self.repository.published(role)? else {
            return Ok(false);
        };
        let format = &time::format_description::well_known::Rfc3339;
        let expires = OffsetDateTime::parse(file.expires(), format);
        Ok(expires.is_ok_and(|expires| expires - now() < before))
    }
}

fn plan(keys: &BTreeMap<Role, Vec<SecretKey>>) -> Result<Plan, ReleaseError> {
    let row = |(role, keys): (&Role, &Vec<SecretKey>)| {
        let keys = keys.iter().map(SecretKey::public).collect();
        let (_, threshold) = number_of_keys(*role);
        (*role, RolePlan { keys, threshold })
    };
    Plan::new(keys.iter().map(row).collect())
}

fn keys(folder: &Path) -> Result<BTreeMap<Role, Vec<SecretKey>>, ReleaseError> {
    std::fs::create_dir_all(folder)
        .map_err(|error| ReleaseError::File(folder.to_owned(), error))?;
    let mut all = BTreeMap::new();
    for role in Role::ALL {
        let of = (0..number_of_keys(role).0).map(|number| read(folder, role, number));
        all.insert(role, of.collect::<Result<_, _>>()?);
    }
    Ok(all)
}

/// A key from its file; made when it is not there.
fn read(folder: &Path, role: Role, number: usize) -> Result<SecretKey, ReleaseError> {
    let path = folder.join(format!("{}-{number}.pem", role.name()));
    let phrase = Passphrase::new(Zeroizing::new(PASSPHRASE.to_owned()))?;
    if !path.exists() {
        SecretKey::generate(Algorithm::P256)?.write(&path, &phrase, Cost::TESTING)?;
    }
    SecretKey::read(&path, &phrase)
}
