//! Keeps recent notes, encrypted, for the hours in which the city cannot be reached, and decides on each read who may see
//! them.
//!
//! It is no backup (第32条): it holds only what the feed sent, forgets what the feed takes back, and whatever it loses is
//! fetched again. It does not speak to the city, does not know sessions, and writes no readable name, text or id to disk.
#![forbid(unsafe_code)]

mod allowance;
mod attachments;
mod cabinet;
mod change;
mod database;
mod error;
mod file;
mod kept;
mod key;
mod opened;
mod pack;
mod permission;
mod personal;
mod read;
mod readers;
mod rekeying;
mod roots;
mod search;
mod search_fold;
mod search_segments;
mod shown;
mod store;
mod unread;
mod witness;
#[cfg(test)]
mod work;
mod writing;

#[doc(hidden)]
pub use attachments::fuzzing as attachments_fuzzing;
pub use attachments::{
    AttachmentCounts, AttachmentPolicy, Attempt, Incoming, Judgement, NotKept, Refusal, Standing,
    StoredAttachment, Unjudged, Wanted,
};
pub use cabinet::Rebuilding;
pub use change::{Attachment, Change, Event, Role};
pub use error::Error;
pub use personal::Personal;
pub use read::{
    Cursor, Notice, OneNote, Opening, Page, PersonSummary, Staff, Status, StoredNote,
    UNREAD_COUNTED,
};
pub use roots::{KeyRoots, Root, RootFault, RootsInMemory};
pub use search::{Found, FoundNote, Part};
pub use shown::{Entry, Moment, Named, ShowNotes, ShowPerson, Showing, Shown, ShownNotes};
pub use store::{Guard, Limits, Opened, Store};
pub use witness::{Looked, NotRecorded, Reading, Witness};
