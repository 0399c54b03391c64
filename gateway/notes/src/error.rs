//! What can go wrong with the store. Nothing in it is personal.

use std::io;
use std::path::PathBuf;

use crate::RootFault;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory for the store cannot be made or read.
    #[error("the directory {path} cannot be prepared")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A damaged store cannot be erased.
    #[error("the store's file {path} cannot be erased")]
    Erase {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database refused.
    #[error("the database could not {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why it was refused.
        #[source]
        source: rusqlite::Error,
    },
    /// Whoever keeps the root of the keys failed; what is stored is as it was.
    #[error("the root of the keys is not to be had")]
    Root(#[from] RootFault),
    /// Something stored is not what was stored, or not under this key.
    #[error("stored data cannot be authenticated")]
    Damaged,
    /// The random generator or the cipher failed.
    #[error("the cryptographic provider failed")]
    Cryptography,
    /// The store was found damaged and has been started afresh; the feed is to be followed from [`crate::Store::position`].
    #[error("the store was damaged and has been started afresh")]
    StartedAfresh,
    /// An attachment's file, or the directory for it, refused.
    #[error("the store could not {action} for an attachment")]
    AttachmentFile {
        /// What was tried.
        action: &'static str,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
    /// An attachment's file is damaged or gone; it is fetched again. The rest of the store is not touched.
    #[error("an attachment's file cannot be authenticated")]
    AttachmentLost,
    /// More bytes came than the feed announced.
    #[error("an attachment is longer than announced")]
    AttachmentTooLong,
    /// The events do not follow the last one stored; the feed is to be followed from [`crate::Store::position`].
    #[error("the events do not follow what is stored")]
    OutOfStep,
    /// The reading is on no record, so it is not answered; a handle that reads comes from [`crate::Store::witnessed`].
    #[error("the reading could not be recorded")]
    NotRecorded,
    /// Nothing personal may be read at this moment, whoever asks.
    #[error("the store is locked")]
    Locked,
    /// The thread that owns the store has ended.
    #[error("the store has been closed")]
    Closed,
}

impl Error {
    pub(crate) const fn database(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { action, source }
    }

    /// Whether the disk has no room, which passes without anything being done to the store.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Database { source, .. } => source.sqlite_error().is_some_and(|error| {
                error.code == rusqlite::ErrorCode::DiskFull
                    || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
            }),
            Self::AttachmentFile { source, .. }
            | Self::Directory { source, .. }
            | Self::Erase { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
            _ => false,
        }
    }

    /// Whether the store itself is damaged, as opposed to the disk being full or the like.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged => true,
            Self::Database { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
            ),
            _ => false,
        }
    }
}
