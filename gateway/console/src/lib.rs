//! The box's own pages on the LAN: setting up, how the box stands, and reading stored notes.
//!
//! Rendered on the server, in Japanese, without scripts. It opens no socket, knows no clock and does nothing itself:
//! what it shows and what it sets in motion goes through a [`Desk`], which the daemon implements.
#![forbid(unsafe_code)]

mod console;
mod desk;
mod form;
mod moment;
mod pages;
mod reader;
mod request;
mod response;
mod sessions;
mod setup;
mod words;

pub use console::{Config, Console, RESERVED_PREFIX};
pub use desk::{
    Answer, BoxStatus, Certificate, Desk, Entry, Link, Message, Provenance, SetupStatus,
};
pub use request::{ConsoleRequest, Staff};
pub use sessions::NoRandomness;
