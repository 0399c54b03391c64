//! Who is told of every reading before it is answered. Keeps nothing; the daemon has the log of accesses.

use std::future::Future;
use std::pin::Pin;

/// What kind of reading it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Looked {
    /// The persons one may read.
    List,
    /// A page of a person's notes.
    Notes,
    /// One note.
    Note,
    /// A search; what was searched for is told to nobody.
    Search,
    /// An attachment.
    Attachment,
    /// A person's notes, to be printed.
    Print,
}

/// One reading, without a word of what was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Reading {
    /// What kind.
    pub what: Looked,
    /// The person's id at the city, where it was about one and was granted: an id that was only guessed is nobody's.
    pub person: Option<String>,
    /// Something was answered. A refusal does not say whether there would have been anything.
    pub granted: bool,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading")
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

/// The reading could not be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRecorded;

/// Records readings. It is asked after the store has decided and before the answer leaves the store; what it does not
/// record is not answered.
pub trait Witness: Send + Sync {
    /// Answers once the reading is on record.
    fn recorded(
        &self,
        reading: Reading,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotRecorded>> + Send + '_>>;
}
