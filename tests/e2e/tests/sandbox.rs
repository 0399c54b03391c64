//! What gatewayd really asks of the kernel stays within what its unit allows.
//!
//! The unit cannot be started without a booted systemd. So gatewayd is watched (strace) while it is provisioned, relays and
//! ends, and what it did is compared with the unit's words.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do is its failure"
)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use gateway_e2e::releases::publish;
use test_harness::binaries::workspace;
use test_harness::facility::{Facility, Options};
use test_harness::signatures::{self, Signatures};
use test_harness::wait;

#[test]
fn every_system_call_of_gatewayd_is_one_that_its_unit_allows() {
    let trace = watch_a_life_of_gatewayd();
    let used: BTreeSet<String> = trace
        .lines()
        .filter_map(system_call)
        .map(str::to_owned)
        .collect();
    for expected in ["accept4", "openat", "sendto"] {
        assert!(
            used.contains(expected),
            "the trace is not gatewayd's: {used:?}"
        );
    }
    let allowed = allowed_by_the_unit();
    // SQLite gives its files to the directory's owner when it runs as root; the unit's user is not root.
    let only_as_root = |call: &&String| nix::unistd::geteuid().is_root() && *call == "fchown";
    let refused: Vec<&String> = used
        .difference(&allowed)
        .filter(|call| !only_as_root(call))
        .collect();
    assert!(refused.is_empty(), "the unit would refuse {refused:?}");

    let unit = unit();
    let may_execute: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecPaths="))
        .flat_map(str::split_whitespace)
        .map(|path| path.trim_start_matches('-'))
        // Where the tests' own build lies; a box has it in /usr/bin.
        .map(|path| {
            path.strip_prefix("/usr/bin/gatewayd")
                .map_or(path, |_| "/gatewayd")
        })
        .collect();
    let families = unit
        .lines()
        .find_map(|line| line.strip_prefix("RestrictAddressFamilies="))
        .unwrap();
    for line in trace.lines() {
        if let Some(family) = line
            .split("socket(")
            .nth(1)
            .and_then(|rest| rest.split(',').next())
        {
            assert!(
                families.split_whitespace().any(|allowed| allowed == family),
                "RestrictAddressFamilies= would refuse {line}"
            );
        }
        let maps = line.contains("mmap(") || line.contains("mprotect(");
        let both = line.contains("PROT_WRITE") && line.contains("PROT_EXEC");
        assert!(
            !(maps && both),
            "MemoryDenyWriteExecute= would refuse {line}"
        );
        // The first is strace's own start of gatewayd. A program that is searched for is tried in folders where it is not.
        let executes = line.contains("execve(") && !line.contains("ENOENT");
        assert!(
            !executes
                || may_execute
                    .iter()
                    .any(|path| line.contains(&format!("{path}\""))),
            "NoExecPaths= would refuse {line}"
        );
    }
    for program in TRIES_A_DATABASE {
        let executed = format!("/{program}\"");
        assert!(
            trace
                .lines()
                .any(|line| line.contains("execve(") && line.contains(&executed)),
            "no database was tried: the trace has no {program}"
        );
    }
}

/// The programs that one by one become the trial of a database.
const TRIES_A_DATABASE: [&str; 3] = ["prlimit", "nice", "clamscan"];

fn unit() -> String {
    fs::read_to_string(workspace().join("systemd/gatewayd.service")).unwrap()
}

/// Starts, provisions, uses and ends a facility; answers with strace's lines.
fn watch_a_life_of_gatewayd() -> String {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    // -D keeps gatewayd the direct child, so that it is started and ended as always.
    let strace = [
        "strace",
        "-D",
        "-f",
        "-qq",
        // Paths are shown in full whatever this says.
        "-s",
        "0",
        "-o",
        trace.to_str().unwrap(),
    ];
    let options = Options {
        through: strace.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    let mut facility = Facility::start_in(directory.path(), options).unwrap();
    let page = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--cacert",
        ])
        .arg(facility.city.ca_file())
        .arg(facility.gateway.portal_url())
        .output()
        .unwrap();
    assert!(
        page.status.success(),
        "{}",
        String::from_utf8_lossy(&page.stderr)
    );
    // A new database is tried by another program, which lives under the same filter.
    publish(&facility, &Signatures::built(signatures::now()).serial(2));
    wait::until("the new database", Duration::from_secs(120), || {
        facility
            .gateway
            .log()
            .contains("event=\"antivirus-database\"")
            .then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", facility.gateway.log()));
    facility.gateway.process().stop();
    let lines = fs::read(&trace).unwrap();
    String::from_utf8_lossy(&lines).into_owned()
}

/// The call's name in `1234  openat(AT_FDCWD, …`; none for signals, exits and second halves.
fn system_call(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(' ')?;
    let name = rest.trim_start().split('(').next()?;
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_name.then_some(name)
}

/// Reads the unit's SystemCallFilter= lines the way systemd.exec(5) says: the first makes it a list of what is allowed
/// (and `@default` always is); `~` takes away again.
fn allowed_by_the_unit() -> BTreeSet<String> {
    let unit = unit();
    let mut allowed = group("@default");
    for line in unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        let takes_away = line.starts_with('~');
        for word in line.trim_start_matches('~').split_whitespace() {
            for call in group(word) {
                if takes_away {
                    allowed.remove(&call)
                } else {
                    allowed.insert(call)
                };
            }
        }
    }
    // For strace's start of gatewayd, before which systemd would set the filter; it is in @default all the same.
    assert!(allowed.contains("execve"));
    allowed
}

/// All calls of a group, its inner groups resolved; a plain call is itself.
fn group(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return BTreeSet::from([name.to_owned()]);
    }
    let output = Command::new("systemd-analyze")
        .args(["syscall-filter", name])
        .env("SYSTEMD_COLORS", "0")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(name), "{text}");
    let words = text
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|word| !word.is_empty() && !word.starts_with('#'));
    words.flat_map(group).collect()
}
