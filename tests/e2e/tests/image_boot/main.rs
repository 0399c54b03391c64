//! The box itself, as the image makes it: a machine with firmware, a disk and a TPM, from the factory to a working day, through a
//! power cut, and in the hands of somebody who changes its disk.
//!
//! `cargo xtask image --trial` makes the image beforehand. The machine is emulated, instruction by instruction; the tests of one
//! box share it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test cannot do is its failure; how much was tried is printed"
)]

mod day;
mod factory;
mod installing;
mod replay;
mod root;
mod running;
mod stage;
mod updates;

use std::time::Duration;

/// A start with everything emulated; a box takes a tenth. Seen: 75 s alone, over 420 s beside a load of seven on two processors.
const START: Duration = Duration::from_secs(900);
const SOON: Duration = Duration::from_secs(480);

/// What is on the screen when its pages answer.
const READY: &str = "Started gatewayd.service";

/// Into the superblock of a root file system, in bytes.
const IN_THE_FIRST_BLOCK: u64 = 1024 + 16;

/// What is on the screen when a release begins to start.
const FACTORY: &str = "Welcome to Facility gateway 0.1.0";

/// What is on the screen when the box restarts by itself.
const RESTARTS: &str = "reboot: Restarting system";

/// The version of the release after the one in the factory.
const NEXT: &str = "0.2.0";
