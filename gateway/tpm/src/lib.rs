//! The TPM layer: the facility's private keys live in the TPM, and this crate is the only one that talks to it.
//!
//! One thread named `tpm` owns the connection to the TPM. Everybody else holds a cheap handle ([`TpmVault`], used
//! through [`KeyVault`]) that queues commands; the queue is bounded and each command has a deadline. When the
//! connection dies the thread builds it again and repeats what may be repeated; when the *key* is lost (the TPM was
//! cleared or exchanged) it says so once and for all with [`VaultError::KeyLost`], which means "enrol again".
//!
//! It also keeps the root of the keys under which notes are stored, in NV memory ([`RootVault`]), so that a purge can
//! destroy what a copy of the disk would need.
//!
//! For the time without the city it tells the TPM's own clock ([`TimeVault`]), counts up ([`CounterVault`]), and computes an
//! HMAC that nobody else can ([`PepperVault`]).
//!
//! What it does not do: it holds no private key in memory (an [`ImportKey`] passes through once), it keeps no
//! certificates, it knows nothing of enrolment, and it never signs bytes that are not a TLS 1.3 client
//! CertificateVerify, a certification request for the very key that signs, a certificate that the device authority of that
//! key may issue, or, with a key made for nothing else, a checkpoint of the audit log.
//!
//! Key layout and the reasons for it: `docs/decisions/0002-tpm-key-layout.md`.

mod attest;
mod audit_key;
mod chip;
mod config;
mod counter;
mod csr;
mod device_ca;
mod ecdsa;
mod error;
mod fault;
#[cfg(any(test, feature = "fault-injection"))]
mod fault_vault;
mod hmac;
mod import;
mod key_file;
mod key_root;
mod owner;
mod pin;
mod public_area;
mod slots;
mod storage_root;
mod template;
mod time;
mod tls;
mod vault;

pub use attest::Evidence;
pub use audit_key::{AuditKey, CHECKPOINT_PREFIX, CheckpointVault};
pub use config::Config;
pub use counter::CounterVault;
pub use csr::CsrSigner;
pub use device_ca::{
    DEVICE_CA_NAME, DeviceCaSigner, MAX_AUTHORITY_DAYS, MAX_DEVICE_DAYS, authority_serial,
};
pub use error::VaultError;
#[cfg(any(test, feature = "fault-injection"))]
pub use fault_vault::{Fault as InjectedFault, FaultVault};
pub use hmac::{MAX_PEPPERED, PepperKey, PepperVault};
pub use import::ImportKey;
pub use key_file::{KeyBlob, Provenance, SealedBlob};
pub use key_root::{Root, RootVault};
pub use pin::forget_srk;
pub use slots::{KeySlots, Slot, SlotError};
pub use time::{TimeVault, TpmTime};
pub use tls::rustls_key;
pub use vault::{Health, KeyVault, MAX_SECRET, Secret, TpmVault};
