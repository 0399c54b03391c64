//! The checks by their field names, and what a measurement of one may say. Does not judge.

use std::fmt;

use crate::Timestamp;

/// Whom a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// This box.
    Box,
    /// One registered PC or tablet.
    Device(DeviceId),
    /// The facility: registers and declarations. Never milder or harder than a warning on traffic.
    Facility,
}

/// The kind of a [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SubjectKind {
    Box,
    Device,
    Facility,
}

/// A device's pseudonym: random, made at its registration, never derived from anything about the device or its users.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub [u8; 16]);

impl DeviceId {
    /// Reads the form that [`fmt::Display`] writes: 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(id))
    }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({self})")
    }
}

/// What is looked at to keep Articles 25–28. Thresholds, effects and who may set them are in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Check {
    /// The scanner catches its canary (第27条).
    AvAlive,
    /// Age of the loaded antivirus database (第27条).
    AvDb,
    /// The data path itself catches test files (第27条).
    AvSelf,
    /// The scanner's configuration and socket are as released (第27条).
    AvConf,
    /// dm-verity, Secure Boot and kernel lockdown. Cites the ministry's guideline; Articles 25–28 do not demand it.
    Boot,
    /// The running version against the signed channel (guideline 8).
    Upd,
    /// The bill of materials is that of the release (第26条).
    Sbom,
    /// USB storage on the box (第28条).
    UsbBox,
    /// The clock agrees with authenticated time.
    Clock,
    /// The audit chain verifies and the city has acknowledged it.
    Log,
    /// A PC's antivirus is on (第27条).
    PcAv,
    /// A PC's antivirus definitions are new (第27条).
    PcSig,
    /// A PC's operating system is supported and patched (第26条, guideline 8).
    PcOs,
    /// Software on a PC against the list (第26条).
    PcSw,
    /// A PC locks its screen (第25条).
    PcLock,
    /// A PC was left on after hours (第25条).
    PcOn,
    /// Removable media on a PC (第28条).
    PcUsb,
    /// A laptop's disk is encrypted (第28条).
    PcEnc,
    /// Reports from a PC arrive (第25–28条).
    PcRpt,
    /// The register of removable media is reviewed (第28条).
    Media,
    /// The manager's declarations for tablets and paper are current (第28条).
    Decl,
    /// The yearly security training was held (第23条).
    Training,
}

impl Check {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 22] = [
        Self::AvAlive,
        Self::AvDb,
        Self::AvSelf,
        Self::AvConf,
        Self::Boot,
        Self::Upd,
        Self::Sbom,
        Self::UsbBox,
        Self::Clock,
        Self::Log,
        Self::PcAv,
        Self::PcSig,
        Self::PcOs,
        Self::PcSw,
        Self::PcLock,
        Self::PcOn,
        Self::PcUsb,
        Self::PcEnc,
        Self::PcRpt,
        Self::Media,
        Self::Decl,
        Self::Training,
    ];

    /// The name in the journal, the signed policy and reports.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::AvAlive => "AV-ALIVE",
            Self::AvDb => "AV-DB",
            Self::AvSelf => "AV-SELF",
            Self::AvConf => "AV-CONF",
            Self::Boot => "BOOT",
            Self::Upd => "UPD",
            Self::Sbom => "SBOM",
            Self::UsbBox => "USB-BOX",
            Self::Clock => "CLOCK",
            Self::Log => "LOG",
            Self::PcAv => "PC-AV",
            Self::PcSig => "PC-SIG",
            Self::PcOs => "PC-OS",
            Self::PcSw => "PC-SW",
            Self::PcLock => "PC-LOCK",
            Self::PcOn => "PC-ON",
            Self::PcUsb => "PC-USB",
            Self::PcEnc => "PC-ENC",
            Self::PcRpt => "PC-RPT",
            Self::Media => "MEDIA",
            Self::Decl => "DECL",
            Self::Training => "TRAINING",
        }
    }

    /// The check of that name.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|check| check.id() == id)
    }

    /// Whom it is about.
    #[must_use]
    pub const fn subject(self) -> SubjectKind {
        match self {
            Self::AvAlive
            | Self::AvDb
            | Self::AvSelf
            | Self::AvConf
            | Self::Boot
            | Self::Upd
            | Self::Sbom
            | Self::UsbBox
            | Self::Clock
            | Self::Log => SubjectKind::Box,
            Self::PcAv
            | Self::PcSig
            | Self::PcOs
            | Self::PcSw
            | Self::PcLock
            | Self::PcOn
            | Self::PcUsb
            | Self::PcEnc
            | Self::PcRpt => SubjectKind::Device,
            Self::Media | Self::Decl | Self::Training => SubjectKind::Facility,
        }
    }
}

/// How bad a failed check is, where a check knows two kinds (an unknown program, a banned one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// The lesser kind.
    Minor,
    /// The greater kind; the only one of checks that know but one.
    Major,
}

/// Why nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Missing {
    /// There never was a measurement.
    Never,
    /// The last one is too old.
    Stale,
    /// The source could not be asked or answered nonsense.
    Error,
}

/// What one measurement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Observation {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail {
        /// How bad.
        grade: Grade,
        /// Since when, if the source knows; otherwise since it was first seen.
        since: Option<Timestamp>,
    },
    /// The thing dates from `since`; how old it may be is the policy's business (a database, a review, a declaration).
    Dated {
        /// When it was built, published, reviewed or declared.
        since: Timestamp,
    },
    /// The check does not concern this subject (no disk to encrypt, no bill of materials on this system by design).
    NotApplicable,
    /// It was looked for, and could not be found out.
    Unknown(Missing),
}

/// Where evidence comes from; shown beside it, because a declaration is not a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Measured by this box.
    Measured,
    /// Reported by osquery on the device.
    Agent,
    /// Reported by our script on the device.
    Script,
    /// Declared by the facility's manager.
    Declared,
}

/// One piece of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// What was looked at.
    pub check: Check,
    /// What was found.
    pub observation: Observation,
    /// When it was measured.
    pub at: Timestamp,
    /// Who says so.
    pub source: Source,
    /// SHA-256 of the raw evidence. The raw evidence stays where it was measured; this goes into the audit log and to the city.
    pub digest: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_found_by_its_name_and_stands_at_its_place() {
        for (place, check) in Check::ALL.into_iter().enumerate() {
            assert_eq!(Check::parse(check.id()), Some(check));
            assert_eq!(check as usize, place);
        }
        assert_eq!(Check::parse("av-alive"), None);
    }

    #[test]
    fn a_device_id_reads_what_it_writes_and_nothing_else() {
        let id = DeviceId(*b"0123456789abcdef");
        assert_eq!(DeviceId::parse(&id.to_string()), Some(id));
        for wrong in ["", "30", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33)] {
            assert_eq!(DeviceId::parse(wrong), None);
        }
    }
}
