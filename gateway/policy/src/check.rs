//! The checks by their field names, and what a measurement of one may say. Does not judge.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Timestamp, hex};

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
        hex::decode(text).map(Self)
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

    /// The article of the terms of use that the check rests on; `None` where it rests on none of them.
    ///
    /// Articles 25 to 28 do not speak of boot integrity, updates of the box, its clock or its records; those rest on
    /// [`Check::guideline`].
    #[must_use]
    pub const fn article(self) -> Option<u8> {
        match self {
            Self::AvAlive | Self::AvDb | Self::AvSelf | Self::AvConf | Self::PcAv | Self::PcSig => {
                Some(27)
            }
            Self::Sbom | Self::PcSw => Some(26),
            Self::UsbBox | Self::PcUsb | Self::PcEnc | Self::Media | Self::Decl => Some(28),
            Self::PcLock | Self::PcOn => Some(25),
            Self::Training => Some(23),
            Self::Boot | Self::Upd | Self::Clock | Self::Log | Self::PcOs | Self::PcRpt => None,
        }
    }

    /// The place in 医療情報システムの安全管理に関するガイドライン 第6.0版 that the check rests on where no article does.
    #[must_use]
    pub const fn guideline(self) -> Option<&'static str> {
        match self {
            Self::Boot | Self::Upd | Self::PcOs => Some("システム運用編 8"),
            Self::Clock | Self::Log => Some("システム運用編 17"),
            _ => None,
        }
    }

    /// Who can set it right.
    #[must_use]
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::AvAlive | Self::AvSelf | Self::Clock => Remedy::Itself,
            Self::AvDb | Self::AvConf | Self::Boot | Self::Upd | Self::Sbom | Self::Log => {
                Remedy::City
            }
            Self::PcAv | Self::PcSig | Self::PcOs | Self::PcOn | Self::PcRpt => Remedy::Staff,
            Self::UsbBox
            | Self::PcSw
            | Self::PcLock
            | Self::PcUsb
            | Self::PcEnc
            | Self::Media
            | Self::Decl
            | Self::Training => Remedy::Manager,
        }
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

/// Who can set a failed check right; the pages name one next action by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// The box itself, without anybody's doing.
    Itself,
    /// Whoever sits at the device.
    Staff,
    /// The facility's manager.
    Manager,
    /// The city or the contractor; staff are not troubled with it before it restricts them.
    City,
}

/// How bad a failed check is, where a check knows two kinds (an unknown program, a banned one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// The lesser kind.
    Minor,
    /// The greater kind; the only one of checks that know but one.
    Major,
}

/// Why nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
        /// Since when, if the source knows; otherwise since it was first seen. Later than the evidence where it became a
        /// failure afterwards: a program that was banned after it was reported.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let id = String::deserialize(from)?;
        Self::parse(&id).ok_or_else(|| serde::de::Error::custom("no such check"))
    }
}

impl Serialize for DeviceId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no device id"))
    }
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
