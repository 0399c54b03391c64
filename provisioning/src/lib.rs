//! The enrolment ceremony: from a number and an access code to a certificate whose key lives in the TPM, and back.
//!
//! The setup page, the daemon and `gateway-provision` all use [`Provisioner`]. The ceremony may be cut at any moment and
//! loses nothing: see `docs/provisioning.md` for its states. What it does not do: it relays nothing, it keeps no
//! number and no access code, and it never talks to a server that does not lead to the city's trust anchor.

mod ceremony;
mod certificate;
mod config;
mod csr;
mod decommission;
pub mod durable;
mod entry;
mod est;
mod failure;
mod folder;
mod import;
mod journal;
mod lan;
mod lock;
mod provisioner;
mod renew;
pub mod renewal;
mod status;

pub use config::{CityTable, ConfigError, LanTable, ProvisioningConfig, TpmTable};
pub use decommission::{CityTold, DecommissionRecord, Reason, RecordedCertificate};
pub use entry::{AccessCode, CertificateNumber, EntryError};
pub use failure::{Failure, ProvisioningError};
pub use folder::{Label, LabelError};
pub use import::ImportPassword;
pub use lan::LanIdentity;
pub use lock::StateLock;
pub use provisioner::{Clock, Patience, Provisioner, open_vault, open_vault_anew};
pub use renew::{Renewal, Renewals};
pub use status::{
    CertificateStatus, ExpiryWarning, Identity, Outcome, Progress, State, Status, Step,
    provenance_ja, quietly,
};
