//! What can stand in the log: closed enums, numbers, digests, pseudonyms, and the antivirus's own names of signatures. There
//! is no text field, so no name, address or word of a note can get in. Does not write anything.

use gateway_policy::{Check, DeviceId, Effect, Reason, Rule, Source, State, Subject, Timestamp};
use serde::Serialize;

use crate::{Digest, Id};

mod signature;
mod written;

pub use signature::Signature;
use written::{
    as_check, as_device, as_effect, as_reason, as_rule, as_some_device, as_some_time, as_source,
    as_state, as_subject, as_time,
};

/// One thing that happened. The member names in the log are those of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// The log begins.
    Opened {
        /// Its name, random.
        log: Id,
        /// Why it begins.
        because: Kind,
    },
    /// How the log of accesses to stored notes stood: what it had then, it must have later too.
    Accesses {
        /// Its name.
        log: Id,
        /// Its durable entries.
        count: u64,
        /// Hash of the last.
        head: Digest,
    },
    /// A new file of the log begins.
    Continued {
        /// Name of the log.
        log: Id,
        /// Hash of the entry before.
        previous: Digest,
    },
    /// gatewayd started.
    Started {
        /// Its version.
        version: Version,
        /// The kernel's boot id.
        boot: Id,
    },
    /// gatewayd was told to stop.
    Stopped,
    /// A check of a subject changed its state.
    Verdict {
        /// Whom it is about; devices by pseudonym.
        #[serde(serialize_with = "as_subject")]
        subject: Subject,
        /// Which check.
        #[serde(serialize_with = "as_check")]
        check: Check,
        /// The new state.
        #[serde(serialize_with = "as_state")]
        state: State,
        /// What it does to traffic.
        #[serde(serialize_with = "as_effect")]
        effect: Effect,
        /// Since when the fact holds.
        #[serde(serialize_with = "as_time")]
        since: Timestamp,
        /// When the effect becomes harder, if it will.
        #[serde(
            serialize_with = "as_some_time",
            skip_serializing_if = "Option::is_none"
        )]
        deadline: Option<Timestamp>,
        /// Who measured, if anybody did.
        #[serde(serialize_with = "as_source", skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
        /// Digest of the evidence.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
    },
    /// The facility certificate, its standing with the city, or the age of the snapshot changed the verdict.
    Gate {
        /// What the box as a whole now does to traffic.
        #[serde(serialize_with = "as_effect")]
        effect: Effect,
        /// The rule that says so; none when all is well.
        #[serde(serialize_with = "as_rule", skip_serializing_if = "Option::is_none")]
        rule: Option<Rule>,
    },
    /// Emergency access was opened, renewed or ended.
    BreakGlass {
        /// What.
        what: BreakGlass,
        /// Its number on this box.
        number: u64,
        /// The reason chosen from the list.
        #[serde(serialize_with = "as_reason")]
        reason: Reason,
        /// Until when.
        #[serde(serialize_with = "as_time")]
        until: Timestamp,
    },
    /// An exception from one check of one subject. What loosens is written down before it takes effect.
    Waiver {
        /// What.
        what: WaiverChange,
        /// From whose check; devices by pseudonym.
        #[serde(serialize_with = "as_subject")]
        subject: Subject,
        /// Which check.
        #[serde(serialize_with = "as_check")]
        check: Check,
        /// Until when it runs.
        #[serde(serialize_with = "as_time")]
        until: Timestamp,
        /// SHA-256 of the reason, whose words stay with the box.
        reason: Digest,
    },
    /// A device was registered, changed or revoked. What loosens is written down before it takes effect.
    Device {
        /// Its pseudonym.
        #[serde(serialize_with = "as_device")]
        device: DeviceId,
        /// What.
        what: DeviceChange,
        /// Digest of its certificate, where there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
    },
    /// A staff member's PIN for the time without the city. What lets somebody in is written down before it does.
    Pin {
        /// What.
        what: PinChange,
        /// A pseudonym: random, made with the PIN and gone with it.
        user: Id,
        /// From which device, where one was used.
        #[serde(
            serialize_with = "as_some_device",
            skip_serializing_if = "Option::is_none"
        )]
        device: Option<DeviceId>,
    },
    /// A body was not passed on, or a stored file may not be read any more.
    Content {
        /// Why.
        what: Content,
        /// Which way it was going.
        direction: Direction,
        /// The device, if it is registered.
        #[serde(
            serialize_with = "as_some_device",
            skip_serializing_if = "Option::is_none"
        )]
        device: Option<DeviceId>,
        /// SHA-256 of the whole body, where it was whole.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// What the antivirus calls what it found.
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
    },
    /// Something that the city is told of at once.
    Incident {
        /// What.
        what: Incident,
        /// The entry it is about, or zero.
        entry: u64,
        /// SHA-256 of what it is about, where there is something.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// What the antivirus calls what it found.
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<Signature>,
        /// Which way it was going.
        #[serde(skip_serializing_if = "Option::is_none")]
        direction: Option<Direction>,
    },
    /// The city's signed policy.
    Policy {
        /// What.
        what: PolicyChange,
        /// Its version; zero for the built-in one.
        version: u64,
        /// SHA-256 of the signed bytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
    },
    /// A release of the antivirus database.
    Database {
        /// What.
        what: Database,
        /// Its serial number, where it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        serial: Option<u64>,
        /// When it was built, where it says.
        #[serde(
            serialize_with = "as_some_time",
            skip_serializing_if = "Option::is_none"
        )]
        built: Option<Timestamp>,
    },
    /// A register of the facility.
    Register {
        /// What; the register itself says more.
        what: RegisterChange,
    },
    /// The recovery key of the box's encrypted disk. It is shown only after that is written down.
    RecoveryKey {
        /// What.
        what: RecoveryKeyChange,
    },
    /// A checkpoint was signed and stored.
    Checkpointed {
        /// Its number.
        sequence: u64,
        /// Digest of checkpoint and signature.
        digest: Digest,
    },
    /// The city has countersigned a checkpoint.
    Acknowledged {
        /// Number of the checkpoint.
        sequence: u64,
        /// The city's time.
        #[serde(serialize_with = "as_time")]
        time: Timestamp,
        /// Digest of the countersignature.
        digest: Digest,
    },
    /// The city did not accept a checkpoint.
    Refused {
        /// Number of the checkpoint.
        sequence: u64,
    },
    /// The key that signs checkpoints from now on.
    Key {
        /// SHA-256 of its SubjectPublicKeyInfo.
        key: Digest,
    },
    /// Something happened to the log itself.
    Log {
        /// What.
        what: LogFault,
        /// Bytes dropped, entries lost, or the last entry that was removed.
        count: u64,
        /// Of the checkpoints, the first that is still there.
        #[serde(skip_serializing_if = "Option::is_none")]
        first_checkpoint: Option<u64>,
    },
}

impl Event {
    /// Whether it must be on the disk before anything follows from it, and gets a checkpoint of its own.
    #[must_use]
    pub const fn is_critical(&self) -> bool {
        match self {
            Self::Opened { .. }
            | Self::Started { .. }
            | Self::Stopped
            | Self::Verdict { .. }
            | Self::Gate { .. }
            | Self::BreakGlass { .. }
            | Self::Waiver { .. }
            | Self::Device { .. }
            | Self::Incident { .. }
            | Self::Policy { .. }
            | Self::Database { .. }
            | Self::RecoveryKey { .. }
            | Self::Refused { .. }
            | Self::Key { .. } => true,
            Self::Content { what, .. } => matches!(what, Content::Infected | Content::Withdrawn),
            Self::Pin { what, .. } => matches!(what, PinChange::Locked),
            Self::Log { what, .. } => !matches!(what, LogFault::OldRemoved),
            Self::Continued { .. }
            | Self::Register { .. }
            | Self::Checkpointed { .. }
            | Self::Acknowledged { .. }
            | Self::Accesses { .. } => false,
        }
    }
}

/// Why a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// There was none.
    First,
    /// The one before did not verify and was put aside.
    SetAside,
}

/// A release: three numbers, so that nothing else fits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// Reads `1.2.3`; what follows the third number (`-rc.1`) is left out.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.splitn(3, '.').map(|part| {
            let digits = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part[..digits].parse().ok()
        });
        Some(Self(numbers.next()??, numbers.next()??, numbers.next()??))
    }
}

/// Emergency access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum BreakGlass {
    Opened,
    Renewed,
    Ended,
    Refused,
    Countersigned,
    Reviewed,
}

/// What happened to an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum WaiverChange {
    Made,
    Withdrawn,
    Refused,
}

/// What happened to a device's registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum DeviceChange {
    Registered,
    Renewed,
    Revoked,
    Restored,
    Replaced,
    Forgotten,
    Renamed,
    /// Break-glass may be opened from it, or no longer.
    ManagerGranted,
    ManagerWithdrawn,
    /// The manager declares what was looked at.
    Declared,
    /// What was written down before did not take effect.
    EnrolmentRefused,
}

/// What happened to a PIN, or by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinChange {
    /// Set, in place of the one before if there was one.
    Set,
    /// Destroyed: by its owner, or because the city has suspended them.
    Removed,
    /// Typed wrong too often.
    Locked,
    /// Its owner has signed in at the city.
    Unlocked,
    /// It has let its owner in, to read.
    SignedIn,
    /// What was written down before did not take effect.
    Refused,
}

/// Why a body was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The scanner found something.
    Infected,
    /// Encrypted, so nobody can look inside.
    Encrypted,
    /// Nested, packed or coded so that nobody looks inside.
    Opaque,
    /// Larger than what is scanned.
    TooLarge,
    /// The scanner did not answer in time.
    NotScanned,
    /// A program.
    Executable,
    /// A script.
    Script,
    /// A document with macros.
    Macro,
    /// A newer database found something in a stored file that could be read until then.
    Withdrawn,
}

/// Which way a body was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Direction {
    Upload,
    Download,
}

/// What the city is told of at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Incident {
    Malware,
    Tampering,
    LostDevice,
    Misuse,
    Other,
}

/// What happened to the city's signed policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum PolicyChange {
    Applied,
    Expired,
    Refused,
    BuiltIn,
}

/// What happened to an antivirus database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Database {
    Switched,
    Refused,
    RolledBack,
}

/// What happened in a register of the facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum RegisterChange {
    MediumEntered,
    MediumLent,
    MediumReturned,
    MediumDisposed,
    MediumMoved,
    MediumMissing,
    MediumFound,
    MediumWrittenOff,
    MediaReviewed,
    TrainingHeld,
    Declared,
    /// What was written down before did not take effect.
    Refused,
    Other,
}

/// What happened to the recovery key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryKeyChange {
    /// The manager has seen it.
    Shown,
    /// The manager keeps it on paper; the box has forgotten it.
    HandedOver,
    /// What was written down before did not take effect.
    Refused,
}

/// What happened to the log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFault {
    /// The last line was cut by a power failure and dropped.
    TailDropped,
    /// Entries could not be kept: the disk was full for too long, or too many came at once.
    EntriesLost,
    /// Old entries were removed, as the policy says.
    OldRemoved,
}
