//! Decides whether a request may pass, from evidence that others have measured.
//!
//! This crate does not measure anything: it has no I/O, no clock, no randomness and no global state.
//! The time always comes in as an argument, the evidence as a [`Snapshot`].
//!
//! ```
//! use gateway_policy::{Area, Asked, Device, Gate, Snapshot, Timestamp};
//!
//! let now = Timestamp(1_800_000_000);
//! let gate = Gate::new();
//! let asked = Asked { area: Area::Staff, writes: false, transfers_file: false };
//! let nothing = Snapshot::nothing_known(now);
//!
//! // Nothing is known yet, so nothing is forwarded ...
//! let refusal = gate.check(&asked, Device::Unknown, &nothing, now).unwrap_err();
//! assert_eq!(refusal.rule.id(), "CERT");
//!
//! // ... except the public portal, which is open to everybody (第17条).
//! let public = Asked { area: Area::Public, ..asked };
//! assert!(gate.check(&public, Device::Unknown, &nothing, now).is_ok());
//! ```
#![forbid(unsafe_code)]

mod asked;
mod break_glass;
pub mod calendar;
mod check;
pub mod content;
mod deadline;
mod entry;
mod evidence;
mod gate;
mod hex;
mod ledger;
mod ledger_time;
pub mod offline;
mod policy;
mod recent;
mod record;
pub mod report;
mod rule;
mod snapshot;
mod threshold;
mod timestamp;
pub mod version;
mod waiver;

pub use asked::{Area, Asked};
pub use break_glass::{BreakGlass, BreakGlassError, Emergency, Opener, Reason};
pub use check::{
    Check, DeviceId, Grade, Missing, Observation, Observed, Remedy, Source, Subject, SubjectKind,
};
pub use deadline::{Deadlines, Ladder, Wait};
pub use entry::{Entry, State};
pub use evidence::{Certificate, Evidence, Standing};
pub use gate::{Device, Gate, Permit, Refusal, UnknownDevices, Verdict};
pub use ledger::{DeviceStanding, Ledger, LedgerError, Machine, Transition};
pub use policy::{
    ACCESS_LOG_BOUNDS, ACCESS_LOG_DAYS, ATTACHMENT_BYTES, DeviceLists, Downloads, LeastSystem,
    OperatingSystem, POLICY_BYTES, PROGRAM_BYTES, PROGRAMS, Policy, PolicyContext, PolicyError,
    PolicyFault, SYSTEMS, StoreBounds, TEXT_SECONDS, VersionFloor, Window,
};
pub use recent::Recent;
pub use rule::{Effect, Finding, Rule};
pub use snapshot::{BOX_CHECKS, DEVICE_CHECKS, DeviceEntry, FACILITY_CHECKS, Snapshot};
pub use threshold::{Part, Thresholds, bounds, built_in};
pub use timestamp::Timestamp;
pub use waiver::{Authority, Waiver, WaiverError};
