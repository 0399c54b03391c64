//! A vault that may open after the daemon has started, so that a box whose TPM is missing, foreign or slow still shows
//! its pages and the public portal, and says what is wrong.
//!
//! It adds nothing to the vault it waits for: until that is open every command fails with the reason.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use gateway_provisioning::ProvisioningError;
use gateway_tpm::{
    AuditKey, CheckpointVault, Evidence, Health, ImportKey, KeyBlob, KeyVault, SealedBlob, Secret,
    TpmVault, VaultError,
};
use tokio::sync::Notify;

/// Pause between two tries to open the TPM; the first follow faster.
const RETRY: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug)]
pub(crate) struct LateVault {
    config: gateway_tpm::Config,
    open: ArcSwapOption<TpmVault>,
    why_not: Mutex<VaultError>,
    opened: Notify,
    failed: Notify,
}

impl LateVault {
    /// A vault that has not tried yet.
    #[must_use]
    pub(crate) fn new(config: gateway_tpm::Config) -> Self {
        Self {
            config,
            open: ArcSwapOption::empty(),
            why_not: Mutex::new(VaultError::Unavailable),
            opened: Notify::new(),
            failed: Notify::new(),
        }
    }

    /// Waits until a handshake with the city failed for want of a signature: somebody should look at the key now.
    pub(crate) async fn signing_failed(&self) {
        self.failed.notified().await;
    }

    /// Tries to open the TPM once; blocks for at most the configured deadline.
    ///
    /// # Errors
    /// Why it is not open.
    pub(crate) fn try_open(&self) -> Result<(), VaultError> {
        // Held while opening: two openings at one time would be two owners of one TPM.
        let mut why_not = self.why_not.lock().unwrap_or_else(PoisonError::into_inner);
        if self.open.load().is_some() {
            return Ok(());
        }
        match TpmVault::open(self.config.clone()) {
            Ok(vault) => {
                self.open.store(Some(Arc::new(vault)));
                self.opened.notify_one();
                Ok(())
            }
            Err(error) => {
                *why_not = error.clone();
                Err(error)
            }
        }
    }

    /// Makes sure that a new certificate can be had: opens the TPM if it is not open, and when it was cleared or
    /// exchanged, forgets which TPM this box was set up with and takes the one that is there.
    ///
    /// # Errors
    /// Why the TPM cannot be used.
    pub(crate) async fn open_for_new_certificate(
        this: &Arc<Self>,
    ) -> Result<(), ProvisioningError> {
        let vault = Arc::clone(this);
        let opened = tokio::task::spawn_blocking(move || {
            // Sealing needs the storage root, which a mere question does not: it finds out what a warm connection hides.
            let usable = vault
                .try_open()
                .and_then(|()| vault.seal(&Secret::new(vec![0])).map(drop));
            match usable {
                Err(VaultError::KeyLost | VaultError::SrkChanged) => {
                    tracing::warn!(
                        event = "tpm-key-lost",
                        "the TPM was cleared or exchanged; it is set up anew"
                    );
                    vault.open.store(None);
                    gateway_tpm::forget_srk(&vault.config.state_dir)?;
                    vault.try_open()
                }
                other => other,
            }
        });
        match opened.await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(gateway_provisioning::Failure::Interrupted.into()),
        }
    }

    /// Tries once; true when it gave an answer that no waiting changes.
    pub(crate) async fn is_refused(self: &Arc<Self>) -> bool {
        let this = Arc::clone(self);
        let tried = tokio::task::spawn_blocking(move || this.try_open()).await;
        matches!(tried, Ok(Err(error)) if error.is_permanent())
    }

    /// Tries until the TPM is open. An answer that no waiting changes (a software TPM, another box's TPM) is retried
    /// too, only slowly: an operator may put it right. Each reason is logged once.
    pub(crate) async fn open_eventually(self: &Arc<Self>) {
        let mut pause = Duration::from_millis(500);
        let mut told = String::new();
        loop {
            let this = Arc::clone(self);
            let reason = match tokio::task::spawn_blocking(move || this.try_open()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "opening it was cut short".to_owned(),
            };
            if told != reason {
                tracing::error!(event = "tpm-unavailable", error = %reason, "the TPM is not open; trying on");
                told = reason;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Opened by a ceremony meanwhile.
                () = self.opened.notified() => {}
            }
            pause = (pause * 2).min(RETRY);
        }
    }

    pub(crate) fn vault(&self) -> Result<Arc<TpmVault>, VaultError> {
        self.open.load_full().ok_or_else(|| {
            self.why_not
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        })
    }
}

impl KeyVault for LateVault {
    fn generate(&self) -> Result<KeyBlob, VaultError> {
        self.vault()?.generate()
    }
    fn import(&self, key: ImportKey) -> Result<KeyBlob, VaultError> {
        self.vault()?.import(key)
    }
    fn sign_csr(
        &self,
        key: &KeyBlob,
        certification_request_info: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        self.vault()?.sign_csr(key, certification_request_info)
    }
    fn sign_device_certificate(
        &self,
        key: &KeyBlob,
        tbs_certificate: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        self.vault()?.sign_device_certificate(key, tbs_certificate)
    }
    fn sign_tls13(&self, key: &KeyBlob, message: &[u8]) -> Result<Vec<u8>, VaultError> {
        let signed = self
            .vault()
            .and_then(|vault| vault.sign_tls13(key, message));
        if signed.is_err() {
            self.failed.notify_one();
        }
        signed
    }
    fn seal(&self, secret: &Secret) -> Result<SealedBlob, VaultError> {
        self.vault()?.seal(secret)
    }
    fn unseal(&self, blob: &SealedBlob) -> Result<Secret, VaultError> {
        self.vault()?.unseal(blob)
    }
    fn attest(&self, key: &KeyBlob, qualifying_data: &[u8; 32]) -> Result<Evidence, VaultError> {
        self.vault()?.attest(key, qualifying_data)
    }
    fn health(&self) -> Result<Health, VaultError> {
        self.vault()?.health()
    }
    fn prove_loadable(&self, key: &KeyBlob) -> Result<(), VaultError> {
        self.vault()?.prove_loadable(key)
    }
    fn clear(&self) -> Result<(), VaultError> {
        self.vault()?.clear()
    }
}

impl CheckpointVault for LateVault {
    fn generate_audit_key(&self) -> Result<AuditKey, VaultError> {
        self.vault()?.generate_audit_key()
    }
    fn sign_checkpoint(&self, key: &AuditKey, checkpoint: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.vault()?.sign_checkpoint(key, checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_the_tpm_is_open_every_command_says_why_it_is_not() {
        let state = tempfile::tempdir().unwrap();
        let vault = LateVault::new(gateway_tpm::Config::new("device", state.path()));
        assert!(matches!(vault.try_open(), Err(VaultError::Tcti { .. })));
        assert!(matches!(vault.generate(), Err(VaultError::Tcti { .. })));
        assert!(matches!(vault.health(), Err(VaultError::Tcti { .. })));
    }
}
