//! Decides whether a request may pass, from evidence that others have measured.
//!
//! This crate does not measure anything: it has no I/O, no clock, no randomness and no global state.
//! The time always comes in as an argument, the evidence as a [`Snapshot`].
//!
//! ```
//! use gateway_policy::{Area, Asked, Gate, Snapshot, Timestamp};
//!
//! let now = Timestamp(1_800_000_000);
//! let gate = Gate::new();
//! let asked = Asked { area: Area::Staff, writes: false, transfers_file: false };
//!
//! // Nothing is known yet, so nothing is forwarded ...
//! let refusal = gate.check(&asked, &Snapshot::nothing_known(now), now).unwrap_err();
//! assert_eq!(refusal.rule.id(), "CERT");
//!
//! // ... except the public portal, which is open to everybody (第17条).
//! let public = Asked { area: Area::Public, ..asked };
//! assert!(gate.check(&public, &Snapshot::nothing_known(now), now).is_ok());
//! ```
#![forbid(unsafe_code)]

mod asked;
pub mod calendar;
mod check;
mod evidence;
mod gate;
mod rule;
mod timestamp;

pub use asked::{Area, Asked};
pub use check::{
    Check, DeviceId, Grade, Missing, Observation, Observed, Source, Subject, SubjectKind,
};
pub use evidence::{Antivirus, Certificate, Clock, Evidence, Snapshot, Standing};
pub use gate::{Gate, Permit, Refusal, Verdict};
pub use rule::{Effect, Finding, Rule};
pub use timestamp::Timestamp;
