//! A vault that may open after the daemon has started, so that a box whose TPM is missing, foreign or slow still shows
//! its pages and the public portal, and says what is wrong.
//!
//! It adds nothing to the vault it waits for: until that is open every command fails with the reason.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use gateway_provisioning::ProvisioningError;
use gateway_tpm::{
    Evidence, Health, ImportKey, KeyBlob, KeyVault, SealedBlob, Secret, TpmVault, VaultError,
};

/// Pause between two tries to open the TPM; the first follow faster.
const RETRY: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct LateVault {
    config: gateway_tpm::Config,
    open: ArcSwapOption<TpmVault>,
    why_not: Mutex<VaultError>,
}

impl LateVault {
    /// A vault that has not tried yet.
    #[must_use]
    pub(crate) fn new(config: gateway_tpm::Config) -> Self {
        Self {
            config,
            open: ArcSwapOption::empty(),
            why_not: Mutex::new(VaultError::Unavailable),
        }
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
            let health = vault.try_open().and_then(|()| vault.health().map(drop));
            match health {
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

    /// Tries until the TPM is open. An answer that no waiting changes (a software TPM, another box's TPM) is retried
    /// too, only slowly: an operator may put it right.
    pub(crate) async fn open_eventually(self: &Arc<Self>) {
        let mut pause = Duration::from_millis(500);
        loop {
            let this = Arc::clone(self);
            match tokio::task::spawn_blocking(move || this.try_open()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::error!(event = "tpm-unavailable", %error, permanent = error.is_permanent(), "the TPM is not open");
                }
                Err(_) => {
                    tracing::error!(event = "tpm-unavailable", "opening the TPM was cut short")
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY);
        }
    }

    fn vault(&self) -> Result<Arc<TpmVault>, VaultError> {
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
    fn sign_tls13(&self, key: &KeyBlob, message: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.vault()?.sign_tls13(key, message)
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
