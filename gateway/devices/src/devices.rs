//! Everything together: the register, the authority, pairing, and what is observed of devices.
//!
//! It decides nothing about traffic. What follows from a call is collected as [`Effects`] and carried out by the daemon.

mod evidence;
pub(crate) mod pair;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use gateway_policy::{Check, DeviceId, Observation, Observed, Timestamp};
use gateway_tpm::{KeyVault, VaultError};
use rustls::pki_types::CertificateDer;

use crate::database::Database;
use crate::declaration::{DECLARATION_DAYS, declarable};
use crate::pairing::Pairings;
use crate::secret::{Hasher, Tag};
use crate::{
    Authority, Declared, Device, Error, Identities, Name, Presence, RevokedFor, Standards,
};

/// Where the register lies and whom it trusts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The register's directory; nobody else's.
    pub directory: PathBuf,
    /// Authorities of the city whose certificates for PCs are taken as identity once a manager has approved them.
    pub city_authorities: Vec<CertificateDer<'static>>,
    /// What a device has to trust so that it reaches the box: goes into profiles for iPads.
    pub anchors: Vec<CertificateDer<'static>>,
}

/// What lets a device do more than it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loosening {
    /// It is let in for the first time.
    Registered,
    /// It is let in again, or turns out to be one that was here before.
    Restored,
    /// Break-glass may be opened from it.
    ManagerGranted,
    /// The manager's word is taken for a check of it.
    Declared,
}

/// Asked before anything that loosens takes effect; true: it is written down for good. What tightens asks nobody.
pub type Beforehand = Arc<dyn Fn(DeviceId, Loosening) -> bool + Send + Sync>;

/// What the daemon has to do after a call.
#[derive(Debug, Default)]
pub struct Effects {
    /// What was observed of devices, for the policy.
    pub observed: Vec<(DeviceId, Observed)>,
    /// The list of devices, or what they may, has changed.
    pub devices_changed: bool,
    /// The authorities to ask devices for have changed.
    pub authorities_changed: bool,
    /// Devices that were there since the last call.
    pub seen: Vec<DeviceId>,
    /// Devices whose open connections are to end now.
    pub cut: Vec<DeviceId>,
}

/// See the module. Blocks on a file and on the TPM.
pub struct Devices {
    config: Config,
    vault: Arc<dyn KeyVault>,
    database: Mutex<Database>,
    pairings: Mutex<Pairings>,
    /// One open nonce per device, and when it was given.
    nonces: Mutex<HashMap<DeviceId, (Tag, Timestamp)>>,
    nonce_hasher: Hasher,
    authority: Mutex<Option<Authority>>,
    standards: ArcSwap<Standards>,
    identities: Identities,
    presence: Arc<Presence>,
    effects: Mutex<Effects>,
    beforehand: Option<Beforehand>,
    /// What was told last of each check, so that a tick repeats it now and then only.
    told: Mutex<HashMap<(DeviceId, Check), (Observation, Timestamp)>>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic leaves behind is whole: changes are single statements or transactions.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Devices {
    /// Opens the register. The TPM is not needed yet.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Database`], [`Error::Damaged`]: then no device can be told from any other.
    pub fn open(config: Config, vault: Arc<dyn KeyVault>) -> Result<Self, Error> {
        let database = Database::open(&config.directory)?;
        let identities = Identities::default();
        identities.publish(database.identities()?);
        Ok(Self {
            config,
            vault,
            database: Mutex::new(database),
            pairings: Mutex::new(Pairings::new()?),
            nonces: Mutex::default(),
            nonce_hasher: Hasher::ephemeral()?,
            authority: Mutex::default(),
            standards: ArcSwap::default(),
            identities,
            presence: Arc::default(),
            effects: Mutex::new(Effects {
                devices_changed: true,
                ..Effects::default()
            }),
            beforehand: None,
            told: Mutex::default(),
        })
    }

    /// Has everything that loosens written down before it takes effect. Without this nobody keeps account.
    #[must_use]
    pub fn written_down_by(mut self, beforehand: Beforehand) -> Self {
        self.beforehand = Some(beforehand);
        self
    }

    /// Says what is about to happen; an error means that it must not.
    pub(crate) fn beforehand(&self, device: DeviceId, what: Loosening) -> Result<(), Error> {
        match &self.beforehand {
            Some(written) if !written(device, what) => Err(Error::NotRecorded),
            _ => Ok(()),
        }
    }

    /// Recognises devices by their certificates.
    #[must_use]
    pub fn identities(&self) -> Identities {
        self.identities.clone()
    }

    /// Is told of every request.
    #[must_use]
    pub fn presence(&self) -> Arc<Presence> {
        Arc::clone(&self.presence)
    }

    /// What has to be done since this was asked last.
    #[must_use]
    pub fn take_effects(&self) -> Effects {
        std::mem::take(&mut *lock(&self.effects))
    }

    /// The authorities whose certificates devices are asked for: this box's, earlier ones included, and the city's.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let own = lock(&self.database).authorities()?;
        let own = own.into_iter().map(|(certificate, _)| certificate);
        Ok(own
            .chain(self.config.city_authorities.iter().cloned())
            .collect())
    }

    /// Makes sure that certificates can be issued: opens the authority's key in the TPM, or makes an authority when there
    /// is none or its key is gone. Certificates of an earlier one stay good: whoever holds their keys has not changed.
    ///
    /// # Errors
    /// [`Error::Vault`] while the TPM does not answer.
    pub fn ready_authority(&self, now: Timestamp) -> Result<(), Error> {
        let mut authority = lock(&self.authority);
        if authority.is_some() {
            return Ok(());
        }
        let stored = lock(&self.database).authorities()?.pop();
        if let Some((root, Some(key))) = stored {
            match Authority::open(Arc::clone(&self.vault), key, root) {
                Ok(open) => {
                    *authority = Some(open);
                    return Ok(());
                }
                Err(VaultError::KeyLost) => {
                    tracing::warn!(
                        event = "device-authority",
                        "the key of the device authority is gone; another is made"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (made, key) = Authority::make(Arc::clone(&self.vault), now)?;
        lock(&self.database).add_authority(made.root(), &key)?;
        *authority = Some(made);
        lock(&self.effects).authorities_changed = true;
        tracing::info!(event = "device-authority", "the device authority is made");
        Ok(())
    }

    /// The TPM was set up anew or does not answer: the key is looked at again before the next certificate.
    pub fn doubt_authority(&self) {
        *lock(&self.authority) = None;
    }

    /// Registered devices, those cut off included.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn list(&self) -> Result<Vec<Device>, Error> {
        lock(&self.database).devices()
    }

    /// All devices that the gate has to know, forgotten ones included, in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn list_ever(&self) -> Result<Vec<Device>, Error> {
        lock(&self.database).devices_ever()
    }

    /// One device.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn device(&self, id: DeviceId) -> Result<Option<Device>, Error> {
        lock(&self.database).device(id)
    }

    /// Cuts a device off: its certificate is recognised as revoked, its connections end.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`].
    pub fn revoke(&self, id: DeviceId, now: Timestamp) -> Result<(), Error> {
        self.cut_off(id, RevokedFor::Manager, now)
    }

    /// Takes a device out of the register. Should the same hardware come back, it is the same device again.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`].
    pub fn forget(&self, id: DeviceId, now: Timestamp) -> Result<(), Error> {
        self.cut_off(id, RevokedFor::Forgotten, now)
    }

    fn cut_off(&self, id: DeviceId, reason: RevokedFor, now: Timestamp) -> Result<(), Error> {
        let database = lock(&self.database);
        database.revoke(id, reason, now)?;
        database.forget_node_key(id)?;
        drop(database);
        lock(&self.nonces).remove(&id);
        let mut effects = lock(&self.effects);
        effects.devices_changed = true;
        effects.cut.push(id);
        tracing::warn!(event = "device-revoked", device = %id, reason = reason.word(), "a device is cut off");
        Ok(())
    }

    /// Lets a device in again that [`Devices::revoke`] cut off.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`] also when it was not cut off; [`Error::NotRecorded`].
    pub fn reactivate(&self, id: DeviceId) -> Result<(), Error> {
        let database = lock(&self.database);
        let device = database.device(id)?.ok_or(Error::NoSuchDevice)?;
        if !matches!(device.revoked, Some((_, RevokedFor::Manager))) {
            return Err(Error::NoSuchDevice);
        }
        self.beforehand(id, Loosening::Restored)?;
        database.reactivate(id)?;
        drop(database);
        let mut effects = lock(&self.effects);
        effects.devices_changed = true;
        // What it holds open came as a revoked device and is good for nothing else.
        effects.cut.push(id);
        tracing::info!(event = "device-reactivated", device = %id, "a device is let in again");
        Ok(())
    }

    /// Sets whether break-glass may be opened from a device.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::NotRecorded`].
    pub fn set_manager(&self, id: DeviceId, manager: bool) -> Result<(), Error> {
        let database = lock(&self.database);
        if manager {
            database.device(id)?.ok_or(Error::NoSuchDevice)?;
            self.beforehand(id, Loosening::ManagerGranted)?;
        }
        database.set_manager(id, manager)?;
        drop(database);
        lock(&self.effects).devices_changed = true;
        Ok(())
    }

    /// Calls a device something else.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`].
    pub fn rename(&self, id: DeviceId, name: &Name) -> Result<(), Error> {
        lock(&self.database).rename(id, name)
    }

    /// A manager declares that these checks of a device were looked at and found good.
    ///
    /// # Errors
    /// [`Error::Unfit`] for a check that is measured on this kind of device: a measurement cannot be declared away;
    /// [`Error::NotRecorded`].
    pub fn declare(
        &self,
        id: DeviceId,
        checks: &[Check],
        by: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let database = lock(&self.database);
        let device = database.device(id)?.ok_or(Error::NoSuchDevice)?;
        let may = declarable(device.kind);
        if !checks.iter().all(|check| may.contains(check)) {
            return Err(Error::Unfit("this check is not declared but measured"));
        }
        self.beforehand(id, Loosening::Declared)?;
        for check in checks {
            let declared = Declared {
                device: id,
                check: *check,
                at: now,
                until: now.plus(DECLARATION_DAYS * 86_400),
            };
            database.declare(&declared, by)?;
            self.tell(id, declared.observed(now), now);
        }
        Ok(())
    }

    /// What may be declared of a device, each with the declaration in force.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`].
    pub fn declarations(
        &self,
        id: DeviceId,
        now: Timestamp,
    ) -> Result<Vec<(Check, Option<Declared>)>, Error> {
        let database = lock(&self.database);
        let device = database.device(id)?.ok_or(Error::NoSuchDevice)?;
        let made = database.declarations()?;
        let in_force = |check: Check| {
            made.iter()
                .find(|made| made.device == id && made.check == check && made.until > now)
                .copied()
        };
        Ok(declarable(device.kind)
            .iter()
            .map(|check| (*check, in_force(*check)))
            .collect())
    }

    fn republish(&self, database: &Database) -> Result<(), Error> {
        self.identities.publish(database.identities()?);
        lock(&self.effects).devices_changed = true;
        Ok(())
    }
}
