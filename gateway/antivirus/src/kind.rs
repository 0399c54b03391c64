//! Kinds of files that staff do not pass on (第25条): how they are named, and the signatures by which clamd knows them.
//!
//! It does not look at any file itself: clamd does, with all its unpacking, so that a program three archives deep is
//! recognised by its content like one that lies open. It does not decide which kinds are permitted.

use std::fmt;

/// A kind of file that is forbidden unless the city's policy permits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A program for Windows (PE).
    WindowsProgram,
    /// A program for Linux and other Unix systems (ELF).
    LinuxProgram,
    /// A program for macOS (Mach-O).
    MacProgram,
    /// Java classes, and archives of them.
    Java,
    /// A program for Android.
    Android,
    /// A Windows shortcut, which starts whatever it names.
    Shortcut,
    /// A Windows Installer package.
    Installer,
    /// A script that the system itself would run; in an archive also by the names Windows runs.
    Script,
    /// An office document with macros.
    Macro,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::WindowsProgram,
        Self::LinuxProgram,
        Self::MacProgram,
        Self::Java,
        Self::Android,
        Self::Shortcut,
        Self::Installer,
        Self::Script,
        Self::Macro,
    ];

    /// The name in the signed policy, the journal and reports.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::WindowsProgram => "windows-program",
            Self::LinuxProgram => "linux-program",
            Self::MacProgram => "mac-program",
            Self::Java => "java",
            Self::Android => "android",
            Self::Shortcut => "shortcut",
            Self::Installer => "installer",
            Self::Script => "script",
            Self::Macro => "macro",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// The word in the names of our signatures.
    const fn word(self) -> &'static str {
        match self {
            Self::WindowsProgram => "WindowsProgram",
            Self::LinuxProgram => "LinuxProgram",
            Self::MacProgram => "MacProgram",
            Self::Java => "Java",
            Self::Android => "Android",
            Self::Shortcut => "Shortcut",
            Self::Installer => "Installer",
            Self::Script => "Script",
            Self::Macro => "Macro",
        }
    }

    /// The kind that an alert of clamd means, if it is one of ours or clamd's own for macros.
    pub(crate) fn of_alert(name: &str) -> Option<Self> {
        if name.starts_with("Heuristics.OLE2.ContainsMacros") {
            return Some(Self::Macro);
        }
        let word = name.strip_prefix(PREFIX)?.split('.').next()?;
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// What our signatures are called. clamd takes what begins with `Heuristics.` for a weak finding (`HeuristicScanPrecedence
/// no`): it looks on, and reports it only when it found no malware anywhere in the body.
pub(crate) const PREFIX: &str = "Heuristics.Renraku.Policy.";

/// The files of signatures, complete: as when the policy permits no kind.
const FILES: [(&str, &str); 2] = [
    (
        "renraku-policy.ldb",
        include_str!("../signatures/renraku-policy.ldb"),
    ),
    (
        "renraku-policy.cdb",
        include_str!("../signatures/renraku-policy.cdb"),
    ),
];

/// The signature files for a policy that permits `permitted`: (name, content). What is permitted is left out, so that it
/// cannot stand before anything else that is to be said of a body.
#[must_use]
pub fn signatures(permitted: &[Kind]) -> Vec<(&'static str, String)> {
    FILES
        .iter()
        .map(|(name, all)| {
            let kept = all
                .lines()
                .filter(|line| {
                    Kind::of_alert(line.split([';', ':']).next().unwrap_or_default())
                        .is_none_or(|kind| !permitted.contains(&kind))
                })
                .map(|line| format!("{line}\n"))
                .collect();
            (*name, kept)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_has_a_signature() {
        let all: String = signatures(&[]).into_iter().map(|(_, text)| text).collect();
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.id()), Some(kind));
            assert!(
                all.contains(&format!("{PREFIX}{}.", kind.word())),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn every_signature_belongs_to_a_kind() {
        for line in signatures(&[]).iter().flat_map(|(_, text)| text.lines()) {
            let name = line.split([';', ':']).next().unwrap();
            assert!(Kind::of_alert(name).is_some(), "{line}");
        }
    }

    #[test]
    fn what_is_permitted_is_left_out_and_nothing_else() {
        let lines = |permitted: &[Kind]| {
            signatures(permitted)
                .iter()
                .flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        let all = lines(&[]);
        let without = lines(&[Kind::Macro]);
        assert!(without.iter().all(|line| !line.contains(".Macro.")));
        let left_out = all.iter().filter(|line| line.contains(".Macro.")).count();
        assert_eq!(without.len() + left_out, all.len());
        assert!(lines(&Kind::ALL).is_empty());
    }

    #[test]
    fn other_heuristics_are_no_kind() {
        for name in [
            "Heuristics.Encrypted.Zip",
            "Heuristics.Renraku.Policy.",
            "Heuristics.Renraku.Policy.Unheard.Of",
            "Renraku.Policy.Java.Class",
            "Win.Test.EICAR_HDB-1",
        ] {
            assert_eq!(Kind::of_alert(name), None, "{name}");
        }
    }
}
