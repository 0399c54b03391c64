//! What the time without the city needs of a TPM that may come late.

use gateway_tpm::{CounterVault, PepperKey, PepperVault, Secret, TimeVault, TpmTime, VaultError};

use crate::late_vault::LateVault;

impl TimeVault for LateVault {
    fn time(&self) -> Result<TpmTime, VaultError> {
        self.vault()?.time()
    }
}

impl PepperVault for LateVault {
    fn generate_pepper_key(&self) -> Result<PepperKey, VaultError> {
        self.vault()?.generate_pepper_key()
    }

    fn pepper(&self, key: &PepperKey, message: &Secret) -> Result<Secret, VaultError> {
        self.vault()?.pepper(key, message)
    }
}

impl CounterVault for LateVault {
    fn count(&self) -> Result<u64, VaultError> {
        self.vault()?.count()
    }

    fn count_to(&self, value: u64) -> Result<(), VaultError> {
        self.vault()?.count_to(value)
    }
}
