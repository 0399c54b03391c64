//! Asks clamd whether a body is clean, and proves that clamd catches anything at all.
//!
//! It proves databases and puts them to use ([`database`]), compares clamd's configuration with the one committed here,
//! and tests that what must be found is found. It does not decide what a verdict means for traffic, does not cache, does
//! not start clamd, and fetches nothing.
#![forbid(unsafe_code)]

mod body;
mod canary;
mod configuration;
mod connection;
pub mod database;
mod kind;
mod outcome;
mod pulse;
mod reply;
mod samples;
mod scanner;
mod self_test;

pub use body::{Body, BodyError, SealedBody};
pub use canary::{CanaryError, Caught};
pub use configuration::{ConfigCheck, Findings, Places};
pub use kind::{Kind, signatures};
pub use outcome::{Outcome, Unavailable, Unscannable};
pub use pulse::{Beat, Pulse};
pub use scanner::{Config, Scanner, Transfer};
pub use self_test::{Expected, Sample, SelfTest, SelfTestError};
