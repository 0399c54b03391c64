//! The roots of the store's keys as the TPM keeps them, in the store's words.
//!
//! It keeps nothing itself; the TPM layer says how roots are kept (docs/decisions/0016).

use std::sync::Arc;

use gateway_notes::{KeyRoots, Root, RootFault};
use gateway_tpm::{RootVault, TpmVault, VaultError};

use crate::late_vault::LateVault;

/// See the module.
#[derive(Debug)]
pub(crate) struct RootsInTpm(pub(crate) Arc<LateVault>);

impl RootsInTpm {
    fn ask<T>(
        &self,
        action: &'static str,
        command: impl FnOnce(&TpmVault) -> Result<T, VaultError>,
    ) -> Result<T, RootFault> {
        self.0
            .vault()
            .and_then(|vault| command(&vault))
            .map_err(|error| RootFault {
                action,
                source: Box::new(error),
            })
    }
}

impl KeyRoots for RootsInTpm {
    fn roots(&self) -> Result<Vec<Root>, RootFault> {
        let roots = self.ask("read", TpmVault::roots)?;
        Ok(roots.iter().map(of_tpm).collect())
    }

    fn renew(&self, from: u64) -> Result<Root, RootFault> {
        self.ask("renew", |vault| vault.renew_root(from))
            .map(|root| of_tpm(&root))
    }

    fn keep_only(&self, generation: u64) -> Result<(), RootFault> {
        self.ask("forget", |vault| vault.keep_only_root(generation))
    }
}

fn of_tpm(root: &gateway_tpm::Root) -> Root {
    Root::new(root.generation(), root.key())
}
