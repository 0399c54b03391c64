//! Asks clamd whether a body is clean, and proves that clamd catches anything at all.
//!
//! It does not decide what a verdict means for traffic, does not cache, does not start or configure clamd, and does not
//! fetch databases. clamd's defaults pass what exceeds a limit, so the daemon must run it with `AlertExceedsMax yes`
//! and `AlertEncrypted yes`.
#![forbid(unsafe_code)]

mod body;
mod canary;
mod connection;
mod kind;
mod outcome;
mod reply;
mod scanner;

pub use body::{Body, BodyError, SealedBody};
pub use canary::{CanaryError, Caught};
pub use kind::{Kind, signatures};
pub use outcome::{Outcome, Unavailable, Unscannable};
pub use scanner::{Config, Scanner, Transfer};
