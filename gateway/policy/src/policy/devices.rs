//! What the city holds devices against: the least version of each operating system it supports, programs it bans, programs
//! it has checked. Reads and bounds these lists; compares nothing with them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::document::PolicyFault;

/// The most releases of operating systems.
pub const SYSTEMS: usize = 64;
/// The most names in one list of programs.
pub const PROGRAMS: usize = 1024;
/// The longest name of a program, in bytes; reports carry 120 letters.
pub const PROGRAM_BYTES: usize = 360;
/// `*` alone would ban, or approve, everything: so many letters stand before it.
const BEFORE_STAR: usize = 3;

/// The city's lists. Empty: what the box has built in holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceLists {
    /// The least version of each release in support. A platform that is in it is there with all its releases and takes the
    /// place of the built-in ones; for the others these hold.
    pub systems: Vec<LeastSystem>,
    /// Names of programs that may not be there; `*` at the end stands for any ending.
    pub banned: Vec<String>,
    /// Names of programs that have been checked, in the same form; `None`: there is no such list.
    pub approved: Option<Vec<String>>,
}

/// One release of an operating system and its least version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeastSystem {
    /// Whose.
    pub platform: OperatingSystem,
    /// The version as numbers, at most four: `10.0.26100.4349`.
    pub least: Vec<u32>,
}

/// Platforms whose devices tell their version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum OperatingSystem {
    Windows,
    Macos,
    Debian,
    Ubuntu,
}

impl OperatingSystem {
    /// How many numbers name a release that is supplied with corrections of its own: 10.0.26100, 24.04, 15.
    const fn release_numbers(self) -> usize {
        match self {
            Self::Windows => 3,
            Self::Ubuntu => 2,
            Self::Macos | Self::Debian => 1,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DevicesText {
    systems: Vec<SystemText>,
    banned: Vec<String>,
    approved: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SystemText {
    platform: OperatingSystem,
    /// The least version in full.
    least: String,
}

/// Reads the lists; what is wrong with them goes to `faults`, all of it.
pub(super) fn read(text: DevicesText, faults: &mut Vec<PolicyFault>) -> DeviceLists {
    let mut seen = BTreeSet::new();
    let mut systems = Vec::new();
    if text.systems.len() > SYSTEMS {
        faults.push(PolicyFault::TooLong("devices.systems"));
    }
    for (place, system) in text.systems.iter().enumerate().take(SYSTEMS) {
        let platform = system.platform;
        match version(&system.least, platform) {
            Some(least) => {
                if !seen.insert((platform, least[..platform.release_numbers()].to_vec())) {
                    faults.push(PolicyFault::SystemTwice(place));
                }
                systems.push(LeastSystem { platform, least });
            }
            None => faults.push(PolicyFault::System(place)),
        }
    }
    let mut names = |list: Vec<String>, which: &'static str| {
        if list.len() > PROGRAMS {
            faults.push(PolicyFault::TooLong(which));
        }
        let named = |(place, name): (usize, &String)| {
            (!is_program(name)).then_some(PolicyFault::Program(which, place))
        };
        faults.extend(list.iter().enumerate().take(PROGRAMS).filter_map(named));
        list
    };
    DeviceLists {
        systems,
        banned: names(text.banned, "devices.banned"),
        approved: text.approved.map(|list| names(list, "devices.approved")),
    }
}

/// Plain numbers with dots between them, enough of them to name a release.
fn version(text: &str, platform: OperatingSystem) -> Option<Vec<u32>> {
    let number = |digits: &str| {
        let plain = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let numbers: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    (platform.release_numbers()..=4)
        .contains(&numbers.len())
        .then_some(numbers)
}

/// A name as reports write it, `*` at its end at most, and then not next to everything.
fn is_program(name: &str) -> bool {
    let beginning = name.strip_suffix('*');
    let letters = beginning.unwrap_or(name);
    name.trim() == name
        && (1..=PROGRAM_BYTES).contains(&name.len())
        && !letters.is_empty()
        && !letters.contains('*')
        && !letters.chars().any(char::is_control)
        && (beginning.is_none() || letters.chars().count() >= BEFORE_STAR)
}
