//! The log of accesses: who looked at whose stored notes, when, from which device, for how long (guideline 17①–③).
//!
//! It is a chain of the audit log's kind with records of its own: each is sealed, bound to its place in the chain, under a key
//! that only this box's TPM opens. No word of a note, no name and no word searched for is in it; ids of staff and persons are,
//! which is why they are sealed.
//!
//! What it does not do: it decides nobody's permission, it holds no key outside memory, and it speaks to nobody: the daemon
//! records, shows and hands over.
#![forbid(unsafe_code)]

mod book;
mod reading;
mod record;
mod seal;
mod views;

pub use book::{Book, NotRecorded, OpenError, Opened, Settings, Standing, open};
pub use reading::{Entry, Handed, Line, ReadError, count_by_day, hand_over, read_back};
pub use record::{Access, End, Ending, Peer, What};
pub use seal::{Key, KeyError};
pub use views::{Over, Views};
