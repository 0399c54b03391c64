//! What can go wrong with the registers. Nothing in it is personal: it names a field, never what was typed.

use std::io;
use std::path::PathBuf;

/// Why the registers could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be made or read.
    #[error("the registers' directory {path} cannot be prepared")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database refused.
    #[error("the registers could not {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why it was refused.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is not what was written. It is left as it is.
    #[error("the registers are damaged: {0}")]
    Damaged(&'static str),
    /// The entry would loosen something and could not be written down beforehand, so it was not made.
    #[error("it cannot be written down, so it is not done")]
    NotWrittenDown,
    /// What was to be recorded cannot be so.
    #[error("the entry was refused: {0}")]
    Refused(#[from] Refused),
}

impl Error {
    pub(crate) const fn database(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { action, source }
    }
}

/// Why an entry is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no medium with this number.
    #[error("there is no such medium")]
    NoSuchMedium,
    /// Another medium that is still in use bears the same label.
    #[error("the label is taken")]
    LabelTaken,
    /// The medium is not where it is kept.
    #[error("the medium is not at its place")]
    NotKept,
    /// The medium has not been handed out.
    #[error("the medium has not been handed out")]
    NotLent,
    /// The medium is not missing.
    #[error("the medium is not missing")]
    NotMissing,
    /// The medium is already missing.
    #[error("the medium is missing")]
    Missing,
    /// The medium's life has ended.
    #[error("the medium has been disposed of")]
    Ended,
    /// A review does not name every medium in use, or names others.
    #[error("the review does not cover the register as it stands")]
    ReviewIncomplete,
    /// A field is empty.
    #[error("{0:?} is empty")]
    Empty(Field),
    /// A field is too long.
    #[error("{0:?} is too long")]
    TooLong(Field),
    /// A field holds something that is no ordinary text.
    #[error("{0:?} holds characters that are no ordinary text")]
    NoText(Field),
    /// A day that does not exist.
    #[error("{0:?} is no day")]
    NoSuchDay(Field),
    /// A day that cannot be, such as a training held tomorrow or media due yesterday.
    #[error("{0:?} cannot be on that day")]
    ImpossibleDay(Field),
    /// A number of participants that cannot be.
    #[error("the number of participants cannot be")]
    Participants,
    /// The same training is recorded already.
    #[error("the training is recorded already")]
    Recorded,
    /// The register holds as much as it may.
    #[error("the register is full")]
    Full,
}

/// Which field of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Field {
    Label,
    Purpose,
    Owner,
    Place,
    Borrower,
    Due,
    Witness,
    Report,
    Day,
    Topic,
    Remark,
    By,
}
