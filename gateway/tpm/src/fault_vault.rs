//! A vault that misbehaves on demand, for tests of the crates above; it wraps another vault and holds no key itself.

use crate::{Evidence, Health, ImportKey, KeyBlob, KeyVault, SealedBlob, Secret, VaultError};
use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// What goes wrong with every following command.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Commands are answered after this time, as by a slow TPM.
    Delay(Duration),
    /// Commands fail with this error and never reach the wrapped vault.
    Fail(VaultError),
    /// Commands on a key or blob are made with this other key instead: signatures verify under the wrong key.
    WrongKey(KeyBlob),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct FaultVault {
    inner: Arc<dyn KeyVault>,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl FaultVault {
    /// Wraps `inner`, passing everything through until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn KeyVault>) -> Self {
        Self {
            inner,
            fault: Arc::default(),
        }
    }

    /// From now on, this happens; `None` ends it. Clones share the fault.
    pub fn inject(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Applies the fault: waits, fails, or names the key to use.
    fn meet(&self) -> Result<Option<KeyBlob>, VaultError> {
        let fault = self
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match fault {
            None => Ok(None),
            Some(Fault::Delay(time)) => {
                thread::sleep(time);
                Ok(None)
            }
            Some(Fault::Fail(error)) => Err(error),
            Some(Fault::WrongKey(key)) => Ok(Some(key)),
        }
    }

    fn key(&self, asked: &KeyBlob) -> Result<KeyBlob, VaultError> {
        Ok(self.meet()?.unwrap_or_else(|| asked.clone()))
    }
}

impl KeyVault for FaultVault {
    fn generate(&self) -> Result<KeyBlob, VaultError> {
        self.meet()?;
        self.inner.generate()
    }

    fn import(&self, key: ImportKey) -> Result<KeyBlob, VaultError> {
        self.meet()?;
        self.inner.import(key)
    }

    fn sign_csr(
        &self,
        key: &KeyBlob,
        certification_request_info: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        self.inner
            .sign_csr(&self.key(key)?, certification_request_info)
    }

    fn sign_device_certificate(
        &self,
        key: &KeyBlob,
        tbs_certificate: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        self.inner
            .sign_device_certificate(&self.key(key)?, tbs_certificate)
    }

    fn sign_tls13(&self, key: &KeyBlob, message: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.inner.sign_tls13(&self.key(key)?, message)
    }

    fn seal(&self, secret: &Secret) -> Result<SealedBlob, VaultError> {
        self.meet()?;
        self.inner.seal(secret)
    }

    fn unseal(&self, blob: &SealedBlob) -> Result<Secret, VaultError> {
        self.meet()?;
        self.inner.unseal(blob)
    }

    fn attest(&self, key: &KeyBlob, qualifying_data: &[u8; 32]) -> Result<Evidence, VaultError> {
        self.inner.attest(&self.key(key)?, qualifying_data)
    }

    fn health(&self) -> Result<Health, VaultError> {
        self.meet()?;
        self.inner.health()
    }

    fn prove_loadable(&self, key: &KeyBlob) -> Result<(), VaultError> {
        self.inner.prove_loadable(&self.key(key)?)
    }

    fn clear(&self) -> Result<(), VaultError> {
        self.meet()?;
        self.inner.clear()
    }
}
