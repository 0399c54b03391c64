//! Compares clamd's configuration and socket with what the box was built with (compliance check AV-CONF, 第27条).
//!
//! It does not change them. That the running clamd obeys the file is shown by the self-test, which exceeds its limits.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

/// The configuration, as committed.
const COMMITTED: &str = include_str!("../clamd.conf");

/// Options that say where things are.
const PLACES: [&str; 3] = ["LocalSocket", "DatabaseDirectory", "TemporaryDirectory"];

/// Who may connect: clamd's user and the group the gateway is in.
const SOCKET_MODE: u32 = 0o660;

/// Where things are on this box.
#[derive(Clone, Debug)]
pub struct Places {
    /// clamd's configuration file.
    pub configuration: PathBuf,
    /// The socket that the gateway connects to.
    pub socket: PathBuf,
    /// What clamd must load, if the gateway switches its databases.
    pub databases: Option<PathBuf>,
    /// The group that may connect; not looked at when absent.
    pub group: Option<u32>,
}

/// The check.
#[derive(Clone, Debug)]
pub struct ConfigCheck(Places);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Every difference, in words for support; empty when all is as it should be.
    pub differences: Vec<String>,
    /// SHA-256 of what was looked at.
    pub digest: [u8; 32],
}

impl ConfigCheck {
    /// A check of these places.
    #[must_use]
    pub const fn new(places: Places) -> Self {
        Self(places)
    }

    /// Looks.
    ///
    /// # Errors
    /// When the file or the socket cannot be looked at; then nothing is known.
    pub fn look(&self) -> io::Result<Findings> {
        let text = fs::read_to_string(&self.0.configuration)?;
        let socket = fs::metadata(&self.0.socket)?;
        let mut differences = compare(&text, &self.0);
        let mode = socket.mode() & 0o777;
        if !socket.file_type().is_socket() {
            differences.push("the socket is none".to_owned());
        }
        if mode != SOCKET_MODE {
            differences.push(format!("the socket has mode {mode:o}, not {SOCKET_MODE:o}"));
        }
        if let Some(group) = self.0.group
            && socket.gid() != group
        {
            let found = socket.gid();
            differences.push(format!("the socket belongs to group {found}, not {group}"));
        }
        let looked_at = format!("{mode:o} {} {}\n{text}", socket.uid(), socket.gid());
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, looked_at.as_bytes()).as_ref());
        Ok(Findings {
            differences,
            digest,
        })
    }
}

fn compare(text: &str, places: &Places) -> Vec<String> {
    let (expected, found) = (options(COMMITTED), options(text));
    let fixed = |all: &[(String, String)]| -> BTreeSet<(String, String)> {
        all.iter()
            .filter(|(option, _)| !PLACES.contains(&option.as_str()))
            .cloned()
            .collect()
    };
    let mut differences = Vec::new();
    for (option, value) in fixed(&expected).difference(&fixed(&found)) {
        differences.push(format!("{option} {value} is missing"));
    }
    for (option, value) in fixed(&found).difference(&fixed(&expected)) {
        differences.push(format!("{option} {value} is not ours"));
    }
    // Of two lines with one option clamd takes the first, but nobody should have to know that.
    let mut seen = BTreeSet::new();
    for (option, _) in &found {
        if !seen.insert(option) {
            differences.push(format!("{option} is there twice"));
        }
    }
    let mut place = |option: &str, expected: &Path| {
        let value = found.iter().find(|(name, _)| name == option);
        if value.is_none_or(|(_, value)| Path::new(value) != expected) {
            differences.push(format!("{option} is not {}", expected.display()));
        }
    };
    place("LocalSocket", &places.socket);
    if let Some(databases) = &places.databases {
        place("DatabaseDirectory", databases);
    }
    differences
}

/// Option and value of each line that has any.
fn options(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (option, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            (option.to_owned(), value.trim().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            configuration: PathBuf::new(),
            socket: PathBuf::from("/run/clamav/clamd.ctl"),
            databases: Some(PathBuf::from("/var/lib/renraku-antivirus/current/db")),
            group: None,
        }
    }

    #[test]
    fn the_committed_file_is_as_it_should_be() {
        assert_eq!(compare(COMMITTED, &places()), Vec::<String>::new());
    }

    #[test]
    fn a_flipped_missing_added_repeated_or_misplaced_option_is_seen() {
        let one = |text: String, word: &str| {
            let found = compare(&text, &places());
            assert!(
                !found.is_empty() && found.iter().any(|line| line.contains(word)),
                "{word}: {found:?}"
            );
        };
        one(
            COMMITTED.replace("AlertExceedsMax yes", "AlertExceedsMax no"),
            "AlertExceedsMax",
        );
        one(COMMITTED.replace("\nMaxScanTime 30000", ""), "MaxScanTime");
        one(format!("{COMMITTED}\nExcludePath ^/"), "ExcludePath");
        one(format!("{COMMITTED}\nMaxFiles 2000"), "twice");
        one(
            COMMITTED.replace("/current/db", "/mine/db"),
            "DatabaseDirectory",
        );
        one(
            COMMITTED.replace("/run/clamav/clamd.ctl", "/tmp/s"),
            "LocalSocket",
        );
    }
}
