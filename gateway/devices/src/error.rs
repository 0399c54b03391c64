//! What can fail, named for the failed action. What it means for a device or a manager is said by the API and the pages.

use std::path::PathBuf;

use gateway_tpm::VaultError;

/// A failed action.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The register's directory or file.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The database refused.
    #[error("the device register cannot {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// The register holds something this program did not write.
    #[error("the device register is damaged: {0}")]
    Damaged(&'static str),
    /// As many devices as a facility may have.
    #[error("the device register is full")]
    Full,
    /// There is no such device.
    #[error("there is no such device")]
    NoSuchDevice,
    /// There is no such pairing, or it has ended.
    #[error("there is no such pairing")]
    NoSuchPairing,
    /// Too many codes were wrong; typing goes on later.
    #[error("too many wrong codes")]
    TooManyWrongCodes,
    /// Another device in use shows this hardware or certificate.
    #[error("another registered device has the same {0}")]
    Taken(&'static str),
    /// The device says something that this registration cannot be for.
    #[error("the device cannot be registered: {0}")]
    Unfit(&'static str),
    /// The TPM did not make or use the authority's key.
    #[error("the device authority's key")]
    Vault(#[from] VaultError),
    /// A certificate could not be built.
    #[error("cannot make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// A certificate file could not be built.
    #[error("cannot make a certificate file")]
    Bundle,
    /// What lets a device do more could not be written down beforehand, so it was not done.
    #[error("it cannot be written down, so it is not done")]
    NotRecorded,
    /// The operating system gives no randomness.
    #[error("no randomness can be had")]
    NoRandomness,
}

impl Error {
    pub(crate) const fn database(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { action, source }
    }
}
