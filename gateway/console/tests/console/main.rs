//! The pages as a browser gets them, over a desk that a test arranges and a real store of notes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

/// Who looked at what.
mod accesses;
/// Articles, devices, registers, report and break-glass: who may do what.
mod compliance;
/// The desk, and a browser of sorts.
mod desk;
/// Exceptions, the daily list, certificates of the city, a refused channel.
mod exceptions;
/// Home page: one light, one sentence, one next action.
mod home;
/// The end of the box's service.
mod leaving;
/// Renders every page to a file, to be looked at, and holds each to what makes it usable.
mod look;
/// The pages of notes: by day, one by one, marked as read, searched, printed, drafted.
mod notes;
/// The parts of a box with pages of their own.
mod parts;
/// The registers among them.
mod parts_registers;
/// The way in from the notebook, and what each reader sees.
mod reader;
/// The recovery key of the disk.
mod recovery;
/// Requests that are none of ours.
mod requests;
/// Number and access code, PKCS#12.
mod setup;
