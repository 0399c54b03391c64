//! The one door to provisioning: the setup page, the daemon and `gateway-provision` all go through [`Provisioner`].
//!
//! It does not read the configuration file and prints nothing. TPM and disk block, so their work runs on tokio's blocking
//! pool; one ceremony runs at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway_city::tls::{self, ClientIdentity};
use gateway_city::{CityError, Timeouts};
use gateway_tpm::{KeyBlob, KeyVault, TpmVault, VaultError};
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;

use crate::config::ProvisioningConfig;
use crate::durable;
use crate::failure::{Failure, ProvisioningError};
use crate::folder::{Folder, Held, Label};
use crate::journal::{Purpose, Stage, Trouble, TroubleKind};
use crate::lan;
use crate::lock::StateLock;
use crate::status::{CertificateStatus, ExpiryWarning, Identity, Progress, State, Status, Step};

/// The time, as this box believes it to be. Injected, so that a wrong clock can be tested.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// Opens the TPM as configured.
///
/// # Errors
/// TPM failures, each with its sentence. [`Failure::KeyLost`] and [`Failure::TpmExchanged`] mean that
/// [`open_vault_anew`] and new numbers are needed.
pub fn open_vault(config: &ProvisioningConfig) -> Result<Arc<dyn KeyVault>, ProvisioningError> {
    Ok(Arc::new(TpmVault::open(vault_config(config))?))
}

/// Opens the TPM after it was cleared or exchanged: forgets which TPM this box was set up with. Every certificate of
/// before is lost for this box, so this is for a manager's explicit decision only; and for good reason, since the pinned
/// TPM is what keeps a substituted one from learning secrets.
///
/// # Errors
/// TPM failures.
pub fn open_vault_anew(
    config: &ProvisioningConfig,
    _lock: &StateLock,
) -> Result<Arc<dyn KeyVault>, ProvisioningError> {
    gateway_tpm::forget_srk(&config.state_dir)?;
    open_vault(config)
}

fn vault_config(config: &ProvisioningConfig) -> gateway_tpm::Config {
    let vault = gateway_tpm::Config::new(&config.tpm.tcti, &config.state_dir);
    if config.tpm.allow_software {
        vault.allow_software_tpm()
    } else {
        vault
    }
}

/// Times that tests and impatient people change.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Limits of each connection.
    pub timeouts: Timeouts,
    /// How long one ceremony waits for an approval by hand, with number and code in memory, before it gives them up.
    pub approval: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            approval: Duration::from_secs(120),
        }
    }
}

/// Provisioning of one box.
#[derive(Debug)]
pub struct Provisioner {
    pub(crate) desk: Arc<Desk>,
    pub(crate) busy: tokio::sync::Mutex<()>,
}

/// What the blocking pool works on.
pub(crate) struct Desk {
    pub(crate) config: ProvisioningConfig,
    pub(crate) vault: Arc<dyn KeyVault>,
    pub(crate) anchors: Arc<RootCertStore>,
    pub(crate) patience: Patience,
    clock: Clock,
    _lock: Arc<StateLock>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Provisioner {
    /// Makes the door. The lock proves that nobody else works on the state directory.
    ///
    /// # Errors
    /// When the trust anchor cannot be used.
    pub fn new(
        config: ProvisioningConfig,
        vault: Arc<dyn KeyVault>,
        lock: Arc<StateLock>,
    ) -> Result<Self, ProvisioningError> {
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
            ProvisioningError::because(Failure::AnchorUnusable, error)
        };
        let pem = std::fs::read(&config.city.anchor).map_err(|error| unusable(error.into()))?;
        let anchors = tls::anchors_from_pem(&pem).map_err(|error| unusable(error.into()))?;
        let clock: Clock = Arc::new(OffsetDateTime::now_utc);
        let patience = Patience::default();
        let desk = Arc::new(Desk {
            config,
            vault,
            anchors,
            patience,
            clock,
            _lock: lock,
        });
        Ok(Self {
            desk,
            busy: tokio::sync::Mutex::new(()),
        })
    }

    /// The same with other times.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        self.with_desk(|desk| desk.patience = patience)
    }

    /// The same with another clock, which TLS then uses as well.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        self.with_desk(|desk| desk.clock = clock)
    }

    fn with_desk(self, change: impl FnOnce(&mut Desk)) -> Self {
        let desk = &self.desk;
        let mut changed = Desk {
            config: desk.config.clone(),
            vault: Arc::clone(&desk.vault),
            anchors: Arc::clone(&desk.anchors),
            patience: desk.patience,
            clock: Arc::clone(&desk.clock),
            _lock: Arc::clone(&desk._lock),
        };
        change(&mut changed);
        Self {
            desk: Arc::new(changed),
            busy: self.busy,
        }
    }

    /// The vault that the keys live in.
    pub fn vault(&self) -> &Arc<dyn KeyVault> {
        &self.desk.vault
    }

    /// The city's trust anchors.
    pub fn anchors(&self) -> &Arc<RootCertStore> {
        &self.desk.anchors
    }

    /// Where everything stands. Reads the disk, asks neither TPM nor city.
    ///
    /// # Errors
    /// When the state directory cannot be read. A single damaged certificate is reported in its line instead.
    pub async fn status(&self) -> Result<Status, ProvisioningError> {
        self.blocking(Desk::status).await
    }

    /// The certificates that may be used now, `main` first.
    ///
    /// # Errors
    /// As [`Provisioner::status`].
    pub async fn identities(&self) -> Result<Vec<Identity>, ProvisioningError> {
        let status = self.status().await?;
        let usable = status
            .certificates
            .into_iter()
            .filter(|certificate| certificate.state.is_usable());
        let mut identities: Vec<_> = usable
            .filter_map(|certificate| certificate.identity)
            .collect();
        identities
            .sort_by_key(|identity| (identity.label != Label::main(), identity.label.clone()));
        Ok(identities)
    }

    /// A configuration for TLS to the city with the given identity. Make a new one after every renewal: sessions of
    /// the old one would resume with the old certificate.
    ///
    /// # Errors
    /// When key and certificate do not belong together.
    pub fn client_config(
        &self,
        identity: &Identity,
    ) -> Result<Arc<ClientConfig>, ProvisioningError> {
        self.desk
            .client_config(Some(identity.client_identity(&self.desk.vault)))
    }

    /// Notes that the city says of this certificate that it is revoked (the feed or the relay noticed).
    ///
    /// # Errors
    /// Disk failures.
    pub async fn note_revoked(&self, identity: &Identity) -> Result<(), ProvisioningError> {
        let (label, serial) = (identity.label.clone(), identity.serial.clone());
        self.blocking(move |desk| desk.note_trouble(&label, &serial, TroubleKind::Revoked))
            .await
    }

    /// Notes that the TPM no longer loads this certificate's key.
    ///
    /// # Errors
    /// Disk failures.
    pub async fn note_key_lost(&self, identity: &Identity) -> Result<(), ProvisioningError> {
        let (label, serial) = (identity.label.clone(), identity.serial.clone());
        self.blocking(move |desk| desk.note_trouble(&label, &serial, TroubleKind::KeyLost))
            .await
    }

    /// Asks the TPM whether it still opens the key of every certificate, and notes those that it does not. The daemon
    /// calls it at its start.
    ///
    /// # Errors
    /// TPM failures other than a lost key; disk failures.
    pub async fn check_keys(&self) -> Result<(), ProvisioningError> {
        self.blocking(|desk| {
            for line in desk.status()?.certificates {
                if let Some(identity) = line.identity
                    && !desk.still_loads(&identity.key)?
                {
                    desk.note_trouble(&identity.label, &identity.serial, TroubleKind::KeyLost)?;
                }
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Desk) -> Result<T, ProvisioningError> + Send + 'static,
    ) -> Result<T, ProvisioningError> {
        let desk = Arc::clone(&self.desk);
        tokio::task::spawn_blocking(move || work(&desk))
            .await
            .unwrap_or_else(|error| Err(ProvisioningError::because(Failure::Interrupted, error)))
    }

    /// Finds out what was wrong on this box when a handshake failed on its side.
    pub(crate) async fn explain(&self, error: CityError, key: &KeyBlob) -> ProvisioningError {
        if !matches!(error, CityError::Handshake { .. }) {
            return match error {
                // The city's clock says that this certificate has ended.
                CityError::CertificateRefused {
                    alert: rustls::AlertDescription::CertificateExpired,
                } => ProvisioningError::because(Failure::Expired, error),
                error => error.into(),
            };
        }
        let key = key.clone();
        let asked = self
            .blocking(move |desk| desk.vault.prove_loadable(&key).map_err(Into::into))
            .await;
        // It answers again: it was only slow.
        asked
            .err()
            .unwrap_or_else(|| ProvisioningError::because(Failure::TpmBusy, error))
    }
}

/// Reports a finished step and learns whether to go on.
pub(crate) fn report(progress: Progress<'_>, step: Step) -> Result<(), ProvisioningError> {
    tracing::info!(?step, "provisioning");
    match progress(step) {
        std::ops::ControlFlow::Continue(()) => Ok(()),
        std::ops::ControlFlow::Break(()) => Err(Failure::Interrupted.into()),
    }
}

impl Desk {
    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.clock)()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.config.state_dir.join("provisioning")
    }

    pub(crate) fn folder(&self, label: &Label) -> Result<Folder, ProvisioningError> {
        Folder::open(&self.root(), label)
    }

    pub(crate) fn client_config(
        &self,
        identity: Option<ClientIdentity>,
    ) -> Result<Arc<ClientConfig>, ProvisioningError> {
        tls::client_config_at(
            Arc::clone(&self.anchors),
            identity,
            Arc::new(TlsClock(Arc::clone(&self.clock))),
        )
        .map_err(|error| ProvisioningError::because(Failure::CertificateForOtherKey, error))
    }

    pub(crate) fn identity_config(
        &self,
        held: &Held,
    ) -> Result<Arc<ClientConfig>, ProvisioningError> {
        self.client_config(Some(ClientIdentity {
            chain: held.chain.clone(),
            key: gateway_tpm::rustls_key(Arc::clone(&self.vault), held.key.clone()),
        }))
    }

    /// A decommissioning that was begun must be finished before anything else.
    pub(crate) fn refuse_while_decommissioning(&self) -> Result<(), ProvisioningError> {
        if self.decommissioning() {
            Err(Failure::Decommissioning.into())
        } else {
            Ok(())
        }
    }

    pub(crate) fn decommissioning(&self) -> bool {
        self.marker().exists()
    }

    pub(crate) fn marker(&self) -> PathBuf {
        self.root().join("decommissioning.json")
    }

    pub(crate) fn status(&self) -> Result<Status, ProvisioningError> {
        let lan = lan::stored(&self.root()).ok().flatten();
        let mut certificates = Vec::new();
        for label in Folder::labels(&self.root())? {
            certificates.push(match self.certificate_status(&label, lan.is_some()) {
                Ok(status) => status,
                Err(error) => CertificateStatus {
                    label,
                    state: State::Unprovisioned,
                    identity: None,
                    warning: None,
                    fault: Some(error.failure().clone()),
                },
            });
        }
        Ok(Status {
            certificates,
            lan_not_after: lan.map(|lan| lan.facts.not_after),
            decommissioning: self.decommissioning(),
        })
    }

    fn certificate_status(
        &self,
        label: &Label,
        has_lan: bool,
    ) -> Result<CertificateStatus, ProvisioningError> {
        let folder = self.folder(label)?;
        let now = self.now();
        let active = folder.active()?;
        let on_its_way = folder.on_its_way()?;
        let trouble = folder.journal()?.trouble;
        let of_active = active.as_ref().map(|held| {
            let trouble = trouble
                .as_ref()
                .filter(|trouble| trouble.serial == held.facts.serial);
            match trouble.map(|trouble| trouble.kind) {
                Some(TroubleKind::Revoked) => State::Revoked,
                Some(TroubleKind::KeyLost) => State::KeyLost,
                None if held.facts.not_after <= now => State::Expired,
                None if on_its_way
                    .as_ref()
                    .is_some_and(|key| key.purpose == Purpose::Renew) =>
                {
                    State::Renewing
                }
                None if !has_lan => State::AwaitingLan,
                None => State::Provisioned,
            }
        });
        let of_pending = on_its_way.as_ref().map(|pending| match pending.stage {
            Stage::KeyPending => State::KeyPending,
            Stage::Waiting { until } => State::Waiting { until },
            Stage::CertificateReceived => State::CertificateReceived,
            Stage::TrialPassed => State::TrialPassed,
        });
        // A usable certificate speaks for itself; an unusable one yields to the ceremony that replaces it.
        let state = match (of_active, of_pending) {
            (Some(active), _) if active.is_usable() => active,
            (_, Some(pending)) => pending,
            (Some(active), None) => active,
            (None, None) => State::Unprovisioned,
        };
        let warning = active
            .as_ref()
            .and_then(|held| ExpiryWarning::at(held.facts.not_after, now));
        let identity = active.map(|held| identity(label, held)).transpose()?;
        Ok(CertificateStatus {
            label: label.clone(),
            state,
            identity,
            warning,
            fault: None,
        })
    }

    pub(crate) fn note_trouble(
        &self,
        label: &Label,
        serial: &str,
        kind: TroubleKind,
    ) -> Result<(), ProvisioningError> {
        let trouble = Trouble {
            serial: serial.to_owned(),
            kind,
        };
        tracing::warn!(%label, serial, ?kind, "the facility certificate can no longer be used");
        self.folder(label)?
            .update(|journal| journal.trouble = Some(trouble))
    }

    /// A box belongs to one facility (Art. 4): every certificate on it must name the same, one that has come to its end
    /// included. A box changes hands by decommissioning only, since it may hold notes of the facility before.
    pub(crate) fn refuse_other_facility(&self, facility_id: &str) -> Result<(), ProvisioningError> {
        for label in Folder::labels(&self.root())? {
            if let Ok(Some(held)) = self.folder(&label).and_then(|folder| folder.active())
                && held.facts.facility_id.as_deref() != Some(facility_id)
            {
                return Err(Failure::CertificateForOtherFacility.into());
            }
        }
        Ok(())
    }

    /// The directory of all certificates.
    pub(crate) fn ensure_root(&self) -> Result<(), ProvisioningError> {
        durable::create_directory(&self.root()).map_err(ProvisioningError::disk)
    }

    /// A key that still loads, or the reason why not; `None` when the TPM no longer knows it.
    pub(crate) fn still_loads(&self, key: &KeyBlob) -> Result<bool, ProvisioningError> {
        match self.vault.prove_loadable(key) {
            Ok(()) => Ok(true),
            Err(VaultError::KeyLost) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

pub(crate) fn identity(label: &Label, held: Held) -> Result<Identity, ProvisioningError> {
    Ok(Identity {
        label: label.clone(),
        provenance: held.key.provenance(),
        key: held.key,
        chain: held.chain,
        serial: held.facts.serial,
        not_before: held.facts.not_before,
        not_after: held.facts.not_after,
        facility_id: held
            .facts
            .facility_id
            .ok_or(Failure::CertificateForOtherFacility)?,
        facility_name: held.facts.facility_name,
    })
}

/// Lets TLS judge certificates by the injected clock.
struct TlsClock(Clock);

impl std::fmt::Debug for TlsClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClock")
    }
}

impl rustls::time_provider::TimeProvider for TlsClock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let seconds = u64::try_from((self.0)().unix_timestamp()).ok()?;
        Some(rustls::pki_types::UnixTime::since_unix_epoch(
            Duration::from_secs(seconds),
        ))
    }
}
