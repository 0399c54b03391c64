//! From what a device says to what is observed of it, check by check. Pure: the city's lists and the time come in.
//!
//! It says pass, fail or since when; how long a failure is tolerated and what it then stops is the policy's.

use std::collections::BTreeSet;

use gateway_policy::{Check, Grade, Observation, Observed, Source, Timestamp};
use serde::{Deserialize, Serialize};

use crate::report::{Antivirus, Fact, Os, Platform, Program, Report, Signatures};
use crate::secret::sha256;

/// A version as numbers, at most four.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(Vec<u32>);

impl Version {
    /// Reads `10.0.26100.4349`; stops at the first part that is no number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<u32> = text
            .trim()
            .split('.')
            .take(4)
            .map_while(|part| part.parse().ok())
            .collect();
        (!parts.is_empty()).then_some(Self(parts))
    }

    /// These numbers as a version: one to four.
    #[must_use]
    pub fn from_numbers(numbers: &[u32]) -> Option<Self> {
        (1..=4)
            .contains(&numbers.len())
            .then(|| Self(numbers.to_vec()))
    }

    /// The part of it that names a release which is supplied with corrections of its own.
    fn branch(&self, platform: Platform) -> &[u32] {
        let length = match platform {
            // 10.0.26100 is Windows 11 24H2; the fourth number counts its monthly corrections.
            Platform::Windows => 3,
            Platform::Ubuntu => 2,
            Platform::Macos | Platform::Debian => 1,
        };
        &self.0[..self.0.len().min(length)]
    }
}

impl TryFrom<String> for Version {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a version")
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            write!(f, "{part}")?;
        }
        Ok(())
    }
}

/// What devices are held against: the city's lists and the facility's register of media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standards {
    /// The least version of each release that is supported; a release that is not listed is not, unless it is newer than
    /// all of its platform.
    pub least: Vec<(Platform, Version)>,
    /// Programs that may not be there: names, `*` at the end stands for any ending, without regard to case.
    pub banned: Vec<String>,
    /// Programs that have been checked. `None`: the city keeps no such list, and unknown programs are no finding.
    pub approved: Option<Vec<String>>,
    /// The longest time after which a screen has to be locked, in seconds.
    pub lock_seconds: u32,
    /// Serial numbers of media in the facility's register, as [`crate::Report::media`] writes them.
    pub media: BTreeSet<String>,
}

impl Default for Standards {
    /// What holds until the city says otherwise. Supported releases as of November 2026.
    fn default() -> Self {
        let least = [
            (Platform::Windows, "10.0.26100"),
            (Platform::Windows, "10.0.26200"),
            (Platform::Macos, "14"),
            (Platform::Macos, "15"),
            (Platform::Macos, "26"),
            (Platform::Debian, "12"),
            (Platform::Debian, "13"),
            (Platform::Ubuntu, "22.4"),
            (Platform::Ubuntu, "24.4"),
            (Platform::Ubuntu, "26.4"),
        ];
        Self {
            least: least
                .into_iter()
                .filter_map(|(platform, version)| Some((platform, Version::parse(version)?)))
                .collect(),
            banned: Vec::new(),
            approved: None,
            lock_seconds: 900,
            media: BTreeSet::new(),
        }
    }
}

/// What a report says of the checks that it speaks of. `unregistered_since`: since when a medium is known to have been
/// plugged in that is not in the facility's register.
#[must_use]
pub fn judge(
    report: &Report,
    standards: &Standards,
    unregistered_since: Option<Timestamp>,
    source: Source,
) -> Vec<Observed> {
    let mut found = Vec::with_capacity(8);
    let mut see = |check: Check, at: i64, observation: Observation, evidence: Vec<u8>| {
        found.push(Observed {
            check,
            observation,
            at: Timestamp(at),
            source,
            digest: sha256(&evidence),
        });
    };
    if let Some(fact) = &report.antivirus {
        let observation = pass_if(fact.value == Antivirus::On);
        see(Check::PcAv, fact.at, observation, evidence(fact));
    }
    if let Some(fact) = &report.signatures {
        see(Check::PcSig, fact.at, signatures(fact), evidence(fact));
    }
    if let Some(fact) = &report.os {
        let observation = pass_if(is_supported(&fact.value, standards));
        see(Check::PcOs, fact.at, observation, evidence(fact));
    }
    if let Some(fact) = &report.programs {
        let observation = programs(&fact.value, standards);
        see(Check::PcSw, fact.at, observation, evidence(fact));
    }
    if let Some(fact) = &report.lock {
        let in_time = fact
            .value
            .seconds
            .is_some_and(|seconds| (1..=standards.lock_seconds).contains(&seconds));
        see(Check::PcLock, fact.at, pass_if(in_time), evidence(fact));
    }
    if let Some((at, observation, evidence)) = usb(report, unregistered_since) {
        see(Check::PcUsb, at, observation, evidence);
    }
    if let Some((at, observation, evidence)) = encryption(report) {
        see(Check::PcEnc, at, observation, evidence);
    }
    found
}

const FAILED: Observation = Observation::Fail {
    grade: Grade::Major,
    since: None,
};

const fn pass_if(good: bool) -> Observation {
    if good { Observation::Pass } else { FAILED }
}

fn evidence<T: Serialize>(fact: &Fact<T>) -> Vec<u8> {
    serde_json::to_vec(fact).unwrap_or_default()
}

/// A system that says no more than "up to date" is believed for the moment at which it says so.
const fn signatures(fact: &Fact<Signatures>) -> Observation {
    match fact.value {
        Signatures::Current => Observation::Dated {
            since: Timestamp(fact.at),
        },
        Signatures::Built(at) => Observation::Dated {
            since: Timestamp(at),
        },
        Signatures::Outdated | Signatures::Never => FAILED,
    }
}

fn is_supported(os: &Os, standards: &Standards) -> bool {
    let branch = os.version.branch(os.platform);
    let of_platform = || {
        standards
            .least
            .iter()
            .filter(|(platform, _)| *platform == os.platform)
            .map(|(_, least)| least)
    };
    let mut of_branch = of_platform().filter(|least| least.branch(os.platform) == branch);
    match of_branch.next() {
        Some(least) => os.version >= *least,
        // The list is older than the release. A platform that is not listed at all has no supported release.
        None => {
            of_platform().next().is_some()
                && of_platform().all(|least| branch > least.branch(os.platform))
        }
    }
}

fn programs(installed: &[Program], standards: &Standards) -> Observation {
    let fold = |name: &str| name.trim().to_lowercase();
    let folded = |list: &[String]| list.iter().map(|name| fold(name)).collect::<Vec<_>>();
    let names: Vec<String> = installed
        .iter()
        .map(|program| fold(&program.name))
        .collect();
    let listed = |list: &[String], name: &str| list.iter().any(|pattern| matches(pattern, name));
    let fail = |grade| Observation::Fail { grade, since: None };
    let banned = folded(&standards.banned);
    if names.iter().any(|name| listed(&banned, name)) {
        return fail(Grade::Major);
    }
    match standards.approved.as_deref().map(folded) {
        Some(approved) if !names.iter().all(|name| listed(&approved, name)) => fail(Grade::Minor),
        _ => Observation::Pass,
    }
}

/// Both in lower case; `*` at the end stands for any ending.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// The policy of the system and what was plugged in are one check: a stick in use is worse than one that could be used.
fn usb(
    report: &Report,
    unregistered_since: Option<Timestamp>,
) -> Option<(i64, Observation, Vec<u8>)> {
    let (usb, media) = (report.usb.as_ref(), report.media.as_ref());
    let at = usb.map(|fact| fact.at).max(media.map(|fact| fact.at))?;
    let bytes = [
        usb.map(evidence).unwrap_or_default(),
        media.map(evidence).unwrap_or_default(),
    ]
    .concat();
    let observation = match (unregistered_since, usb) {
        (Some(since), _) => Observation::Fail {
            grade: Grade::Major,
            since: Some(since),
        },
        (None, Some(usb)) if usb.value.disabled => Observation::Pass,
        (None, Some(_)) => Observation::Fail {
            grade: Grade::Minor,
            since: None,
        },
        // What the system would take is not known; that nothing was plugged in is not enough.
        (None, None) => return None,
    };
    Some((at, observation, bytes))
}

/// A PC that stands on its desk for good need not be encrypted; one of which that is not known is held for portable.
fn encryption(report: &Report) -> Option<(i64, Observation, Vec<u8>)> {
    let encrypted = report.encrypted.as_ref();
    if let Some(portable) = &report.portable
        && !portable.value
        && !encrypted.is_some_and(|fact| fact.value)
    {
        return Some((portable.at, Observation::NotApplicable, evidence(portable)));
    }
    encrypted.map(|fact| (fact.at, pass_if(fact.value), evidence(fact)))
}

#[cfg(test)]
mod tests;
