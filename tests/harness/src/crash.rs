//! Kills a program at a chosen one of all the points at which it changes what outlives it.
//!
//! The counting is done by `tests/crash-points`, loaded into the program; which points matter is the test's to say.

use std::path::{Path, PathBuf};

use crate::{Error, Result, binaries};

/// The name under which cargo builds `tests/crash-points`.
const LIBRARY: &str = "libcrash_points.so";

/// The points passed by one run of a program.
#[derive(Debug)]
pub struct CrashPoints {
    through: Vec<String>,
    count: PathBuf,
    list: PathBuf,
}

impl CrashPoints {
    /// Watches what is written below `below`; the program dies at the point `at` (from 1), or never when that is 0. `notes` is a
    /// directory of the test's own, outside `below`.
    ///
    /// # Errors
    /// When the library is not built, or an older count cannot be removed.
    pub fn new(below: &Path, at: u64, notes: &Path) -> Result<Self> {
        let library = binaries::ours(LIBRARY)?;
        let (count, list) = (notes.join("crash-count"), notes.join("crash-list"));
        for file in [&count, &list] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(
                        Error::new(format!("{} cannot be removed", file.display())).because(error)
                    );
                }
                _ => {}
            }
        }
        let variable = |name: &str, value: &Path| format!("{name}={}", value.display());
        let through = vec![
            "env".to_owned(),
            variable("LD_PRELOAD", &library),
            variable("CRASH_BELOW", below),
            format!("CRASH_AT={at}"),
            variable("CRASH_COUNT", &count),
            variable("CRASH_LIST", &list),
        ];
        Ok(Self {
            through,
            count,
            list,
        })
    }

    /// What starts the program: a program with its arguments, to be put before it.
    pub fn through(&self) -> &[String] {
        &self.through
    }

    /// How many points were passed so far, the deadly one included.
    pub fn passed(&self) -> u64 {
        std::fs::read(&self.count)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_ne_bytes)
    }

    /// The points passed, a line each: number, call, file.
    pub fn list(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.list).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    use super::*;

    /// Runs a shell script, watched in `below`, that dies at `at`.
    fn run(script: &str, at: u64) -> (tempfile::TempDir, CrashPoints, ExitStatus) {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("state");
        std::fs::create_dir(&below).unwrap();
        let points = CrashPoints::new(&below, at, directory.path()).unwrap();
        let status = Command::new(&points.through()[0])
            .args(&points.through()[1..])
            .args(["dash", "-c", script])
            .current_dir(&below)
            .status()
            .unwrap();
        (directory, points, status)
    }

    const TWO_WRITES: &str = "echo 12345678 > one; echo outside > ../other; echo second > two";

    #[test]
    fn what_is_written_below_the_directory_is_counted_and_nothing_else() {
        let (directory, points, status) = run(TWO_WRITES, 0);
        assert!(status.success(), "{status}");
        assert_eq!(points.passed(), 2);
        assert_eq!(points.list(), ["1 write one", "2 write two"]);
        let one = std::fs::read_to_string(directory.path().join("state/one")).unwrap();
        assert_eq!(one, "12345678\n");
    }

    #[test]
    fn a_program_dies_in_the_middle_of_the_write_it_was_told() {
        let (directory, points, status) = run(TWO_WRITES, 1);
        assert_eq!(status.signal(), Some(9), "{status}");
        assert_eq!(points.passed(), 1);
        let state = directory.path().join("state");
        assert_eq!(std::fs::read(state.join("one")).unwrap(), b"1234");
        assert!(!directory.path().join("other").exists());

        let (directory, points, status) = run(TWO_WRITES, 2);
        assert_eq!(status.signal(), Some(9), "{status}");
        assert_eq!(points.passed(), 2);
        assert!(directory.path().join("other").exists());
    }

    #[test]
    fn removing_renaming_and_syncing_are_points_and_are_not_done_at_theirs() {
        let script = "echo 1 > a; sync -d a; mv $PWD/a $PWD/b; rm $PWD/b";
        let (_directory, points, status) = run(script, 0);
        assert!(status.success(), "{status}");
        assert_eq!(
            points.list(),
            [
                "1 write a",
                "2 fdatasync a",
                "3 renameat2 b",
                "4 unlinkat b"
            ]
        );
        let (directory, _, status) = run(script, 4);
        assert!(!status.success(), "{status}");
        assert!(directory.path().join("state/b").exists());
    }
}
