//! Starts the real processes that tests, the demo and the bench drive: a software TPM, the reference city, clamd, gatewayd
//! and a browser.
//!
//! It does not: pretend to be any of them, know what a test asserts, or use an async runtime (callers bring their own).

pub mod appliance;
pub mod binaries;
pub mod browser;
pub mod city;
pub mod clamd;
pub mod crash;
pub mod error;
pub mod facility;
pub mod gatewayd;
pub mod http;
pub mod ports;
pub mod process;
pub mod setup;
pub mod signatures;
pub mod swtpm;
pub mod wait;
pub mod wall_clock;

pub use error::{Error, Result};
pub use process::{Child, Program};
pub use wall_clock::WallClock;
