//! Keeps recent notes, encrypted, for the hours in which the city cannot be reached, and decides on each read who may see
//! them.
//!
//! It is no backup (第32条): it holds only what the feed sent, forgets what the feed takes back, and whatever it loses is
//! fetched again. It does not speak to the city, does not know sessions, and writes no readable name, text or id to disk.
#![forbid(unsafe_code)]

mod change;
mod database;
mod error;
mod file;
mod key;
mod pack;
mod personal;
mod read;
mod store;
mod writing;

pub use change::{Attachment, Change, Event, Role};
pub use error::Error;
pub use key::StoreKey;
pub use personal::Personal;
pub use read::{Cursor, Notice, Page, PersonSummary, Staff, Status, StoredNote};
pub use store::{Limits, Opened, Store};
