//! The workspace's tests as programs: built once, then run two at a time.
//!
//! `cargo test` runs one program after another, and each of its calls with another selection of packages builds libraries anew
//! with other features. Here everything is built in one call, and what waits for a clock or for another program leaves the
//! processor to the neighbour. It does not choose what is tested.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use test_harness::binaries;

/// So many programs at a time.
const LANES: usize = 2;

/// A program of tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The package it belongs to.
    pub(crate) package: String,
    /// Its name: of the file in `tests`, or of the library or program whose unit tests it has.
    pub(crate) name: String,
    executable: PathBuf,
    /// Where `cargo test` would start it.
    folder: PathBuf,
}

impl Program {
    /// `target/debug`, where the programs of the box are.
    fn binaries(&self) -> &Path {
        let beside = self.executable.parent().unwrap_or(Path::new("."));
        beside.parent().unwrap_or(beside)
    }

    /// The command that runs it, one test at a time: the lanes keep the processors busy.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .args(["--test-threads", "1"])
            .current_dir(&self.folder)
            .env("RUST_BACKTRACE", "0")
            // What a test starts is what was built with it. Another selection of packages would be built with other features.
            .env(binaries::BINARY_DIRECTORY, self.binaries());
        command
    }
}

/// One line of `cargo build --message-format json`, as far as it matters.
#[derive(Deserialize)]
struct Message {
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The programs of tests that cargo says it has built.
pub(crate) fn programs(messages: &str) -> Vec<Program> {
    let mut programs: Vec<Program> = messages.lines().filter_map(program).collect();
    programs.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    programs
}

fn program(line: &str) -> Option<Program> {
    let message: Message = serde_json::from_str(line).ok()?;
    let folder = message.manifest_path?.parent()?.to_owned();
    message.profile?.test.then_some(())?;
    Some(Program {
        package: folder.file_name()?.to_string_lossy().into_owned(),
        name: message.target?.name,
        executable: message.executable?,
        folder,
    })
}

/// Something to run: its name, and the command.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) command: Command,
}

/// How one ended.
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) seconds: f32,
    pub(crate) success: bool,
    /// What it printed.
    pub(crate) log: PathBuf,
}

/// Runs the jobs, each into a file of its own in `directory`, and gives how they ended, in the order of their ends.
///
/// The first in the list start first: the longest belong there.
pub(crate) fn run(jobs: Vec<Job>, directory: &Path) -> Vec<Ended> {
    let waiting = Mutex::new(VecDeque::from(jobs));
    let ended = Mutex::new(Vec::new());
    let lane = || {
        loop {
            // In a statement of its own: the lock is not held while the program runs.
            let Some(job) = locked(&waiting).pop_front() else {
                break;
            };
            let done = run_one(job, directory);
            locked(&ended).push(done);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(lane);
        }
    });
    ended.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(mut job: Job, directory: &Path) -> Ended {
    let log = directory.join(format!("{}.log", job.name.replace([' ', '/'], "-")));
    let start = std::time::Instant::now();
    let success = crate::steps::run_into(&mut job.command, &log);
    Ended {
        name: job.name,
        seconds: start.elapsed().as_secs_f32(),
        success,
        log,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &str = r#"{"reason":"compiler-artifact","package_id":"x","manifest_path":"/w/gateway/policy/Cargo.toml",
        "target":{"kind":["lib"],"name":"gateway_policy"},"profile":{"test":true},"executable":"/w/target/debug/deps/gateway_policy-1"}"#;

    #[test]
    fn only_programs_of_tests_are_taken() {
        let test = LIBRARY.replace('\n', "");
        let program = test.replace("\"test\":true", "\"test\":false");
        let library = test.replace("\"/w/target/debug/deps/gateway_policy-1\"", "null");
        let lines = [&test, &program, &library, "{\"reason\":\"build-finished\"}"].join("\n");
        let found = programs(&lines);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].package.as_str(), found[0].name.as_str()),
            ("policy", "gateway_policy")
        );
        assert_eq!(found[0].folder, Path::new("/w/gateway/policy"));
    }

    #[test]
    fn every_job_runs_and_a_failed_one_is_told_from_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let job = |name: &str, program: &str| Job {
            name: name.to_owned(),
            command: Command::new(program),
        };
        let jobs = vec![
            job("a", "true"),
            job("b", "false"),
            job("c", "true"),
            job("d", "/no/such"),
        ];
        let mut ended: Vec<(String, bool)> = run(jobs, directory.path())
            .into_iter()
            .map(|ended| (ended.name, ended.success))
            .collect();
        ended.sort();
        let expected = [("a", true), ("b", false), ("c", true), ("d", false)];
        assert_eq!(
            ended,
            expected.map(|(name, success)| (name.to_owned(), success))
        );
    }

    #[test]
    fn two_jobs_run_at_the_same_time() {
        let directory = tempfile::tempdir().unwrap();
        // Each ends well only if the other one runs while it does.
        let job = |own: &str, other: &str| {
            let script = format!(
                "touch {own}; for i in $(seq 200); do [ -e {other} ] && exit 0; sleep 0.05; done; exit 1"
            );
            let mut command = Command::new("sh");
            command.args(["-c", &script]).current_dir(directory.path());
            Job {
                name: own.to_owned(),
                command,
            }
        };
        let ended = run(vec![job("a", "b"), job("b", "a")], directory.path());
        assert!(ended.iter().all(|ended| ended.success));
    }
}
