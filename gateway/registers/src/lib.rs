//! The facility's registers: removable media and paper (第28条), security training held (第23条), declarations.
//!
//! Append-only: what is recorded is an event with its time and who recorded it, and how things stand is derived from the
//! events. It has no clock, opens no socket, and judges nothing: it says since when a review, a training or a declaration
//! dates, and the policy says how old that may be. It is the facility's own record and nowhere else, so a damaged file is
//! never replaced by an empty one.
#![forbid(unsafe_code)]

mod csv;
mod database;
mod declaration;
mod error;
mod event;
mod media;
mod registers;
mod state;
mod text;
mod training;

pub use declaration::{Declaration, Topic};
pub use error::{Error, Field, Refused};
pub use event::{Loosening, Recorded};
pub use media::{Change, Disposal, Kind, Medium, NewMedium, Place};
pub use registers::{Beforehand, History, RETENTION, Register, Registers};
pub use state::{MOST_EVENTS, MOST_MEDIA, State};
pub use training::{Held, Training};
