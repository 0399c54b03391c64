//! Debian's packages: which ones each command needs, which are missing, and installing those.
//!
//! It does not start or stop the services these packages bring, and it never removes anything.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use test_harness::error::tail;

/// What the packages are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Demo,
    Test,
    Bench,
    Fuzz,
    Image,
    Everything,
}

/// One needed package; several names where Debian 12 and 13 differ, the newer first.
struct Need {
    names: &'static [&'static str],
    purposes: &'static [Purpose],
    /// A program that will do wherever it comes from.
    or_program: Option<&'static str>,
}

impl Need {
    /// The name to give where apt knows none: by the release of this system.
    fn usual_name(&self) -> &'static str {
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let index = if release.contains("VERSION_ID=\"12\"") {
            self.names.len() - 1
        } else {
            0
        };
        self.names[index]
    }
}

const fn need(names: &'static [&'static str], purposes: &'static [Purpose]) -> Need {
    Need {
        names,
        purposes,
        or_program: None,
    }
}

/// A package whose program may also have come from elsewhere.
const fn need_program(
    program: &'static str,
    names: &'static [&'static str],
    purposes: &'static [Purpose],
) -> Need {
    Need {
        names,
        purposes,
        or_program: Some(program),
    }
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    })
}

use Purpose::{Bench, Demo, Fuzz, Image, Test};

const NEEDS: &[Need] = &[
    // To build: aws-lc and SQLite are compiled from C, the TPM stack is linked.
    need(&["gcc"], &[Demo, Test, Bench, Fuzz, Image]),
    need(&["libc6-dev"], &[Demo, Test, Bench, Fuzz, Image]),
    need(&["pkg-config"], &[Demo, Test, Bench, Fuzz, Image]),
    need(&["libtss2-dev"], &[Demo, Test, Bench, Fuzz, Image]),
    // libtss2 opens the way to the TPM at run time (dlopen), by these names.
    need(
        &["libtss2-tcti-swtpm0t64", "libtss2-tcti-swtpm0"],
        &[Demo, Test, Bench],
    ),
    need(
        &["libtss2-tcti-device0t64", "libtss2-tcti-device0"],
        &[Demo, Test],
    ),
    // The facility's outside world.
    need(&["swtpm"], &[Demo, Test, Bench]),
    need(&["swtpm-tools"], &[Demo, Test, Bench]),
    need(&["clamav-daemon"], &[Demo, Test, Bench]),
    need(&["clamav"], &[Demo, Test, Bench]),
    // Every database must find these before it is used.
    need(&["clamav-testfiles"], &[Demo, Test, Bench]),
    need(&["curl"], &[Demo, Test, Bench]),
    need(&["openssl"], &[Demo, Test, Bench]),
    // Strangers that the tests let loose on the product.
    need(&["tpm2-tools"], &[Test]),
    need(&["strongswan-pki"], &[Test]),
    // Its ECDSA; only recommended by the package, and recommendations are not installed.
    need(&["libstrongswan-standard-plugins"], &[Test]),
    need(&["chromium"], &[Test]),
    need(&["chromium-driver"], &[Test]),
    need(&["fonts-noto-cjk"], &[Test]),
    need(&["libnss3-tools"], &[Test]),
    need(&["nghttp2-client"], &[Test, Bench]),
    need(&["jupyter-notebook"], &[Test]),
    need(&["python3-venv"], &[Test]),
    need(&["systemd"], &[Test]),
    need(&["strace"], &[Test]),
    // Fetches the rules that the pages are held to. Debian's brings hundreds of packages, so another's will do.
    need_program("npm", &["npm"], &[Test]),
    need(&["nginx-light"], &[Test]),
    // Moves the wall clock of the box and the city, so that a test sees days pass.
    need(&["faketime"], &[Test]),
    // Reads what the store has left on disk, with other eyes than the store's.
    need(&["sqlite3"], &[Test]),
    // libFuzzer is C++.
    need(&["g++"], &[Fuzz]),
    // A Debian 13 tree: the bench's peers, and the tools that make and boot the image (mkosi runs on this Python).
    need(&["mmdebstrap"], &[Bench, Image, Test]),
    need(&["python3"], &[Bench, Image, Test]),
    need(&["git"], &[Image, Test]),
    // The bench's load.
    need(&["wrk"], &[Bench]),
];

/// Why a command cannot go on.
#[derive(Debug)]
pub(crate) enum PackageError {
    NotDebian,
    NotAllowed { line: String },
    Failed { line: String },
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDebian => f.write_str("this needs Debian 12 or 13: dpkg-query was not found"),
            Self::NotAllowed { line } => write!(
                f,
                "Debian packages are missing. Run this, then try again:\n\n    {line}\n"
            ),
            Self::Failed { line } => {
                write!(f, "this failed; its own message is above:\n\n    {line}\n")
            }
        }
    }
}

/// Sees that every package for `purpose` is installed, and installs what is missing when this user may.
///
/// # Errors
/// When packages are missing and cannot be installed; the message holds the exact line to run.
pub(crate) fn ensure(purpose: Purpose) -> Result<(), PackageError> {
    let installed = installed()?;
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| purpose == Purpose::Everything || need.purposes.contains(&purpose))
        .filter(|need| !need.names.iter().any(|name| installed.contains(*name)))
        .filter(|need| !need.or_program.is_some_and(on_path))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let authority = Authority::find();
    // A fresh machine or container has no package lists yet.
    let lacks_lists = missing.iter().any(|need| available(need).is_none());
    let name = |need: &&Need| available(need).unwrap_or_else(|| need.usual_name());
    let install = |names: &[&'static str]| {
        let mut arguments = vec!["apt-get", "install", "--yes", "--no-install-recommends"];
        arguments.extend(names);
        arguments
    };
    let Some(authority) = authority else {
        let names: Vec<_> = missing.iter().map(name).collect();
        let update = if lacks_lists {
            "sudo apt-get update && "
        } else {
            ""
        };
        return Err(PackageError::NotAllowed {
            line: format!("{update}sudo {}", install(&names).join(" ")),
        });
    };
    if lacks_lists {
        authority.run(&["apt-get", "update"])?;
    }
    let names: Vec<_> = missing.iter().map(name).collect();
    println!("Installing from Debian: {}", names.join(" "));
    authority.run(&install(&names))
}

/// The names of all installed packages.
fn installed() -> Result<BTreeSet<String>, PackageError> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"])
        .output()
        .map_err(|_| PackageError::NotDebian)?;
    Ok(parse_installed(&String::from_utf8_lossy(&output.stdout)))
}

/// Status `ii` means wanted and wholly installed; anything else is half-way or removed.
fn parse_installed(listing: &str) -> BTreeSet<String> {
    listing
        .lines()
        .filter_map(|line| line.strip_prefix("ii"))
        .map(|name| name.trim().to_owned())
        .collect()
}

/// The first of the names that this Debian can install.
fn available(need: &Need) -> Option<&'static str> {
    need.names.iter().copied().find(|name| {
        let policy = Command::new("apt-cache")
            .args(["policy", name])
            .env("LC_ALL", "C")
            .output();
        policy.is_ok_and(|policy| has_candidate(&String::from_utf8_lossy(&policy.stdout)))
    })
}

fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate:"))
        .any(|version| version.trim() != "(none)")
}

/// How packages can be installed without asking anybody.
#[derive(Debug, Clone, Copy)]
enum Authority {
    Root,
    Sudo,
}

impl Authority {
    fn find() -> Option<Self> {
        if nix::unistd::geteuid().is_root() {
            return Some(Self::Root);
        }
        let passwordless = Command::new("sudo")
            .args(["-n", "true"])
            .stderr(Stdio::null())
            .status();
        passwordless
            .is_ok_and(|status| status.success())
            .then_some(Self::Sudo)
    }

    fn run(self, arguments: &[&str]) -> Result<(), PackageError> {
        let mut command = match self {
            Self::Root => Command::new("env"),
            Self::Sudo => Command::new("sudo"),
        };
        if matches!(self, Self::Sudo) {
            command.args(["-n", "env"]);
        }
        let failed = || PackageError::Failed {
            line: arguments.join(" "),
        };
        // apt prints hundreds of lines; they matter only when it fails.
        let log = tempfile::NamedTempFile::new().map_err(|_| failed())?;
        let output = || {
            log.reopen()
                .map_or_else(|_| Stdio::null(), |file: File| file.into())
        };
        command
            .arg("DEBIAN_FRONTEND=noninteractive")
            .args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output());
        if command.status().is_ok_and(|status| status.success()) {
            return Ok(());
        }
        eprintln!(
            "{}",
            tail(&std::fs::read_to_string(log.path()).unwrap_or_default(), 30)
        );
        Err(failed())
    }
}

/// The mirror this machine itself uses, so that nothing names one here.
pub(crate) fn mirror() -> Result<String, String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(
        std::fs::read_dir("/etc/apt/sources.list.d")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .map(|word| word.trim_end_matches('/').to_owned())
        .find(|word| word.starts_with("http") && word.ends_with("/debian"))
        .ok_or_else(|| "no Debian mirror is named in the apt sources of this machine".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_package_does_not_count_as_installed() {
        let listing = "ii  curl\nrc  nginx-light\niU  swtpm\nii  openssl\n";
        assert_eq!(
            parse_installed(listing),
            BTreeSet::from(["curl".to_owned(), "openssl".to_owned()])
        );
    }

    #[test]
    fn a_package_that_only_the_other_release_has_is_no_candidate() {
        assert!(has_candidate(
            "libtss2-dev:\n  Installed: (none)\n  Candidate: 3.2.1-3\n"
        ));
        assert!(!has_candidate(
            "x:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }

    #[test]
    fn the_line_to_run_is_given_in_full() {
        let error = PackageError::NotAllowed {
            line: "sudo apt-get install --yes swtpm".to_owned(),
        };
        assert!(
            error
                .to_string()
                .contains("\n    sudo apt-get install --yes swtpm\n")
        );
    }
}
