//! The audit log: what the box decided and did, in a chain of hashes that shows every later change.
//!
//! Each entry is canonical JSON (RFC 8785); its hash covers the entry before it: `h_n = SHA-256(h_{n-1} ‖ entry)`. Now and
//! then, and at each critical entry, the head of the chain is put into a [`Checkpoint`], which the caller has signed by
//! the TPM and countersigned by the city. What a chain alone cannot show, a cut end or a chain made anew, shows there.
//!
//! Who writes to the log chooses from closed enums ([`Event`]): there is no field for free text, a name or an address, so
//! nothing personal can get in by mistake.
//!
//! Another log can live in the same kind of chain with records of its own ([`Record`]); the log of accesses does.
//!
//! What it does not do: it signs nothing and speaks to nobody (the daemon carries checkpoints to TPM and city), it reads
//! no clock but the one it is given, and it judges nothing: whether a fault of the log matters is the gate's business.

mod canonical;
mod chain;
mod checkpoint;
mod digest;
mod disk;
mod entry;
mod event;
mod log;
mod reading;
mod receipt;
mod recorder;
mod records;
mod standing;
mod verify;

pub use chain::Bend;
pub use checkpoint::{Checkpoint, NotACheckpoint, SignedCheckpoint, spki_id};
pub use digest::{Digest, Id};
pub use entry::{Place, Record};
pub use event::{
    BreakGlass, Content, Database, DeviceChange, Direction, Event, Incident, Kind, LogFault,
    PinChange, PolicyChange, RecoveryKeyChange, RegisterChange, Signature, Version, WaiverChange,
};
pub use log::{Log, LogError, Settings, Synchronisation};
pub use reading::{Kept, Pages, begun, files, read_file};
pub use receipt::{Receipt, ReceiptError, TIMESTAMPING, receipt_message};
pub use recorder::{AuditSink, Ended, Head, NotDurable, Status, start};
pub use records::{CityCopy, Stored};
pub use standing::observe;
pub use verify::{Fault, Finding, Note, Options, Report, verify};
