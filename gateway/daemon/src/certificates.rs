//! Puts the certificates in use to work, whenever they change: towards the city, towards the LAN, and on the evidence board.
//!
//! It does not fetch, renew or judge certificates; provisioning does. This module only carries its results to those who
//! need them, and tells provisioning what they notice (revoked, key lost).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway_policy::{Certificate, DeviceId, Timestamp};
use gateway_provisioning::{
    Failure, Identity, LanIdentity, Provisioner, ProvisioningError, State, Status, quietly,
};
use gateway_proxy::{LanCertificate, Running, StartError};
use gateway_tpm::{KeyVault, VaultError};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::late_vault::LateVault;
use crate::posture::Posture;

/// How long the TPM may take to load the key; a handshake waits no longer for its signature.
const KEY_PATIENCE: Duration = Duration::from_secs(5);

/// TLS configuration for the city, with the certificate in use; `None` while there is none.
pub(crate) type CityTls = Option<Arc<ClientConfig>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Certificates {
    provisioner: Arc<Provisioner>,
    vault: Arc<LateVault>,
    posture: Arc<Posture>,
    /// The data path; taken out when the daemon drains.
    pub(crate) data_path: Mutex<Option<Running>>,
    city_tls: watch::Sender<CityTls>,
    /// Serial numbers now in use: facility, LAN. Setting an identity anew would cost every connection to the city.
    in_use: tokio::sync::Mutex<InUse>,
    /// What is on disk could not be put to use yet.
    behind: AtomicBool,
    /// The TPM did not answer when it was last asked for the key in use.
    tpm_silent: AtomicBool,
    /// Handshakes fail because the TPM is silent, so nothing is shown to the city: the public portal needs no key.
    anonymous: AtomicBool,
    /// Why the last attempt failed; the same reason is logged once.
    told: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct InUse {
    identity: Option<Identity>,
    lan_leaf: Option<Vec<u8>>,
}

/// Why what is in use could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Provisioning could not say what there is.
    #[error("the certificates could not be read")]
    Provisioning(#[from] ProvisioningError),
    /// The data path refused them.
    #[error("the data path did not take the certificate")]
    DataPath(#[from] StartError),
}

impl Certificates {
    /// Nothing is in use yet.
    #[must_use]
    pub(crate) fn new(
        provisioner: Arc<Provisioner>,
        vault: Arc<LateVault>,
        posture: Arc<Posture>,
        data_path: Running,
    ) -> Self {
        Self {
            provisioner,
            vault,
            posture,
            data_path: Mutex::new(Some(data_path)),
            city_tls: watch::Sender::new(None),
            in_use: tokio::sync::Mutex::default(),
            behind: AtomicBool::new(false),
            tpm_silent: AtomicBool::new(false),
            anonymous: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    /// True when what is on disk could not be put to use; trying again may help.
    #[must_use]
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// True while only the public portal is relayed because the TPM does not sign.
    #[must_use]
    pub(crate) fn is_anonymous(&self) -> bool {
        self.anonymous.load(Ordering::Relaxed)
    }

    /// True when the TPM did not answer when it was last asked for the key in use.
    #[must_use]
    pub(crate) fn tpm_is_silent(&self) -> bool {
        self.tpm_silent.load(Ordering::Relaxed)
    }

    /// TLS to the city as it changes.
    #[must_use]
    pub(crate) fn city_tls(&self) -> watch::Receiver<CityTls> {
        self.city_tls.subscribe()
    }

    /// The facility certificate in use.
    pub(crate) async fn identity(&self) -> Option<Identity> {
        self.in_use.lock().await.identity.clone()
    }

    /// Reads what there is and puts it to work. Cheap when nothing has changed.
    ///
    /// # Errors
    /// [`ApplyError`]; what was in use stays in use.
    pub(crate) async fn apply(&self) -> Result<(), ApplyError> {
        let mut in_use = self.in_use.lock().await;
        let status = self.provisioner.status().await?;
        let identity = self.provisioner.identities().await?.into_iter().next();
        let changed = in_use.identity.as_ref().map(|used| &used.serial)
            != identity.as_ref().map(|new| &new.serial);
        if let Some(evidence) = self.evidence(&status, identity.as_ref())
            && (changed || !self.is_anonymous())
        {
            self.posture.certificate(evidence);
        }
        if changed {
            self.use_identity(identity.as_ref())?;
            self.anonymous.store(false, Ordering::Relaxed);
            in_use.identity = identity;
        }
        if let Some(lan) = self.lan_identity().await? {
            let leaf = lan.chain.first().map(|leaf| leaf.to_vec());
            if in_use.lan_leaf != leaf {
                let certificate = LanCertificate::with_signing_key(lan.chain, lan.key)?;
                self.with_data_path(|running| running.reload_certificates(&certificate))?;
                in_use.lan_leaf = leaf;
            }
        }
        Ok(())
    }

    /// The LAN certificate that is on disk. One whose key the TPM no longer opens is none: what is shown to the LAN stays,
    /// and provisioning fetches another as soon as there is a facility certificate to ask with.
    async fn lan_identity(&self) -> Result<Option<LanIdentity>, ProvisioningError> {
        match self.provisioner.lan_identity().await {
            Err(error) if error.failure() == &Failure::KeyLost => Ok(None),
            outcome => outcome,
        }
    }

    fn use_identity(&self, identity: Option<&Identity>) -> Result<(), ApplyError> {
        self.show(identity)?;
        match identity {
            Some(identity) => {
                tracing::info!(
                    event = "certificate-ready", serial = %identity.serial, not_after = %identity.not_after,
                    provenance = ?identity.provenance, "the facility certificate is in use"
                );
                let config = self.provisioner.client_config(identity)?;
                self.city_tls.send_replace(Some(config));
            }
            None => {
                self.city_tls.send_replace(None);
                tracing::warn!(event = "provisioning", "no facility certificate is in use");
            }
        }
        Ok(())
    }

    /// Shows a certificate to the city, or none.
    fn show(&self, identity: Option<&Identity>) -> Result<(), StartError> {
        let vault: Arc<dyn KeyVault> = Arc::clone(&self.vault) as Arc<dyn KeyVault>;
        let shown = identity.map(|identity| gateway_proxy::Identity {
            chain: identity.chain.clone(),
            key: gateway_tpm::rustls_key(vault, identity.key.clone()),
        });
        self.with_data_path(|running| running.set_identity(shown))
    }

    /// The TPM has been silent for longer than a handshake waits. Whoever needs the certificate is told so at once by the
    /// gate; whoever does not (第17条: the public portal) is relayed without it.
    async fn go_anonymous(&self) {
        let in_use = self.in_use.lock().await;
        if in_use.identity.is_none() || self.anonymous.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            event = "tpm-unavailable",
            "the TPM does not sign; only the public portal is relayed"
        );
        self.posture.certificate_unknown();
        self.show_or_log(None);
    }

    /// The TPM signs again.
    async fn show_again(&self) {
        let in_use = self.in_use.lock().await;
        let Some(identity) = in_use.identity.as_ref() else {
            return;
        };
        if self.anonymous.swap(false, Ordering::Relaxed) {
            self.show_or_log(Some(identity));
            self.posture.certificate(held(identity));
        }
    }

    fn show_or_log(&self, identity: Option<&Identity>) {
        if let Err(error) = self.show(identity) {
            tracing::error!(event = "provisioning", error = %chain(&error), "the data path did not take the change");
        }
    }

    fn with_data_path(
        &self,
        work: impl FnOnce(&Running) -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let data_path = self
            .data_path
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        data_path.as_ref().map_or(Ok(()), work)
    }

    /// Ends everything that is open for a device.
    pub(crate) fn cut(&self, device: DeviceId) {
        let _ = self.with_data_path(|running| {
            running.cut(device);
            Ok(())
        });
    }

    /// Asks devices for certificates of these authorities from the next handshake on.
    pub(crate) fn ask_devices_for(&self, authorities: &[CertificateDer<'static>]) {
        if let Err(error) =
            self.with_data_path(|running| running.set_device_authorities(authorities))
        {
            tracing::error!(event = "device-authority", error = %chain(&error), "the data path did not take the authorities of devices");
        }
    }

    /// What the gate is to believe of the certificate. `None`: what it believes already.
    fn evidence(&self, status: &Status, identity: Option<&Identity>) -> Option<Certificate> {
        if let Some(identity) = identity {
            return Some(held(identity));
        }
        let known = self.posture.snapshot().certificate;
        let keep = |same: fn(&Certificate) -> bool| match known {
            gateway_policy::Evidence::Known { value, .. } => same(&value),
            gateway_policy::Evidence::Unknown { .. } => false,
        };
        let now = crate::posture::now();
        let state = status
            .certificates
            .first()
            .map_or(State::Unprovisioned, |line| line.state);
        match state {
            State::Revoked if keep(|value| matches!(value, Certificate::Revoked { .. })) => None,
            State::Revoked => Some(Certificate::Revoked { since: now }),
            State::KeyLost if keep(|value| matches!(value, Certificate::KeyLost { .. })) => None,
            State::KeyLost => Some(Certificate::KeyLost { since: now }),
            State::Expired => status
                .certificates
                .first()
                .and_then(|line| line.identity.as_ref())
                .map(held),
            _ => Some(Certificate::Absent),
        }
    }

    /// Renews what is due, goes on with what was interrupted, and puts the result to work.
    pub(crate) async fn renew(&self) {
        self.resume().await;
        match self.provisioner.renew_if_due(&quietly).await {
            Ok(renewals) => {
                for (label, renewal) in &renewals.certificates {
                    match renewal {
                        gateway_provisioning::Renewal::Renewed => {
                            tracing::info!(event = "certificate-renewed", %label, "the facility certificate was renewed");
                        }
                        gateway_provisioning::Renewal::Failed(error) => {
                            tracing::warn!(event = "certificate-expiring", %label, code = error.failure().code(), "not renewed");
                        }
                        gateway_provisioning::Renewal::NotDue { .. }
                        | gateway_provisioning::Renewal::OnItsWay(_) => {}
                    }
                }
            }
            Err(error) => tracing::warn!(
                event = "provisioning",
                code = error.failure().code(),
                "no renewal was possible"
            ),
        }
        self.apply_or_log().await;
    }

    /// Something waits to be finished without anybody's doing.
    pub(crate) async fn unfinished(&self) -> bool {
        let status = self.provisioner.status().await;
        status.is_ok_and(|status| {
            status
                .certificates
                .iter()
                .any(|line| line.state.resumes_by_itself())
        })
    }

    /// Goes on with every ceremony that needs no number and code to go on.
    async fn resume(&self) {
        let Ok(status) = self.provisioner.status().await else {
            return;
        };
        for line in status.certificates {
            if line.state.resumes_by_itself()
                && let Err(error) = self.provisioner.resume(&line.label, &quietly).await
            {
                tracing::warn!(event = "provisioning", label = %line.label, code = error.failure().code(), "not resumed yet");
            }
        }
    }

    /// [`Certificates::apply`] for those who can do nothing about a failure but say so, once for each reason.
    pub(crate) async fn apply_or_log(&self) {
        let failed = self.apply().await.err().map(|error| chain(&error));
        self.behind.store(failed.is_some(), Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = failed
            .as_ref()
            .filter(|error| told.as_ref() != Some(*error))
        {
            tracing::error!(event = "provisioning", %error, "the certificates in use were not changed");
        }
        *told = failed;
    }

    /// The city says that the certificate in use is revoked.
    pub(crate) async fn revoked(&self) {
        let Some(identity) = self.identity().await else {
            return;
        };
        tracing::error!(event = "certificate-revoked", serial = %identity.serial, "the city has revoked the facility certificate");
        if let Err(error) = self.provisioner.note_revoked(&identity).await {
            tracing::error!(
                event = "provisioning",
                code = error.failure().code(),
                "the revocation could not be noted"
            );
        }
        self.apply_or_log().await;
    }

    /// Asks the TPM whether the key in use still loads; a key that is lost is taken out of use at once, and asked for
    /// no more. `signing_failed`: a handshake has just failed for want of a signature.
    pub(crate) async fn check_key(&self, signing_failed: bool) {
        let Some(identity) = self.identity().await else {
            return;
        };
        let (vault, key) = (Arc::clone(&self.vault), identity.key.clone());
        let asked = tokio::task::spawn_blocking(move || vault.prove_loadable(&key));
        // The vault itself is more patient, for ceremonies.
        let answer = tokio::time::timeout(KEY_PATIENCE, asked)
            .await
            .unwrap_or(Ok(Err(VaultError::Deadline)));
        match answer {
            Ok(Err(VaultError::KeyLost | VaultError::SrkChanged)) => {
                self.tpm_silent.store(false, Ordering::Relaxed);
                tracing::error!(event = "tpm-key-lost", serial = %identity.serial, "the TPM no longer loads the key; enrol again");
                if let Err(error) = self.provisioner.note_key_lost(&identity).await {
                    tracing::error!(
                        event = "provisioning",
                        code = error.failure().code(),
                        "the loss could not be noted"
                    );
                }
                self.apply_or_log().await;
            }
            Ok(Err(error)) => {
                if !self.tpm_silent.swap(true, Ordering::Relaxed) {
                    tracing::warn!(event = "tpm-unavailable", %error, "the TPM did not show that the key loads");
                }
                if signing_failed {
                    self.go_anonymous().await;
                }
            }
            Ok(Ok(())) => {
                if self.tpm_silent.swap(false, Ordering::Relaxed) {
                    tracing::info!(event = "tpm-rebuilt", "the TPM answers again");
                }
                self.show_again().await;
            }
            Err(_) => {}
        }
    }
}

/// A certificate in use, in the words of the policy.
pub(crate) fn held(identity: &Identity) -> Certificate {
    Certificate::Held {
        not_before: Timestamp(identity.not_before.unix_timestamp()),
        not_after: Timestamp(identity.not_after.unix_timestamp()),
    }
}

/// An error with all its causes, for the one line it is logged in.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
