//! The wall clock of running processes, moved by the test: days pass at once for the box and the city alike.
//!
//! Only the time of day moves. Timers go on as they are, and so do files' times; nothing of the machine is touched.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use crate::{Error, Program, Result};

/// Where Debian keeps the library, by architecture.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// Removes what libfaketime left in shared memory for processes that were killed. It names these after the process, refuses to
/// start another with the same number, and numbers come round again.
pub fn clear_left_behind() {
    let entries = std::fs::read_dir("/dev/shm");
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| {
            name.strip_prefix("faketime_shm_")
                .or_else(|| name.strip_prefix("sem.faketime_sem_"))
        });
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            // Somebody else may have been quicker, or it is another user's: then it is theirs to do.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// One clock, shown to every process started with it.
#[derive(Clone, Debug)]
pub struct WallClock(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    file: PathBuf,
    library: &'static str,
    offset: AtomicI64,
}

impl WallClock {
    /// A clock that shows the true time until it is moved; its state is a file in `directory`.
    ///
    /// # Errors
    /// When libfaketime is not installed or the file cannot be written.
    pub fn new(directory: &Path) -> Result<Self> {
        let library = LIBRARIES
            .into_iter()
            .find(|path| Path::new(path).exists())
            .ok_or_else(|| Error::new("libfaketime is not installed (Debian package faketime)"))?;
        std::fs::create_dir_all(directory).map_err(|error| {
            Error::new(format!("{} cannot be made", directory.display())).because(error)
        })?;
        clear_left_behind();
        let clock = Self(Arc::new(Shown {
            file: directory.join("wall-clock"),
            library,
            offset: AtomicI64::new(0),
        }));
        clock.show(0)?;
        Ok(clock)
    }

    /// Lets `time` pass at once, for processes that run and for those still to be started.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn advance(&self, time: Duration) -> Result<()> {
        self.shift(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
    }

    /// Moves it by `seconds`, back if negative.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn shift(&self, seconds: i64) -> Result<()> {
        let offset = self.0.offset.fetch_add(seconds, Ordering::SeqCst) + seconds;
        self.show(offset)
    }

    /// How far it is from the true time, in seconds.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.0.offset.load(Ordering::SeqCst)
    }

    /// What it shows, in seconds since 1970.
    #[must_use]
    pub fn now(&self) -> i64 {
        let true_time = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(true_time.as_secs()).unwrap_or(i64::MAX) + self.offset()
    }

    /// Has a program see this clock.
    #[must_use]
    pub fn shown_to(&self, program: Program) -> Program {
        program
            .env("LD_PRELOAD", self.0.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.0.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
            .env("FAKETIME_DONT_RESET", "1")
    }

    /// Written beside and renamed, so that no reader ever finds half a number.
    fn show(&self, offset: i64) -> Result<()> {
        let unwritable = |error: std::io::Error| {
            Error::new(format!("{} cannot be written", self.0.file.display())).because(error)
        };
        let new = self.0.file.with_extension("new");
        std::fs::write(&new, format!("{offset:+}\n")).map_err(unwritable)?;
        std::fs::rename(&new, &self.0.file).map_err(unwritable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_cleared_and_what_a_living_one_has_is_not() {
        let dead = {
            let mut child = std::process::Command::new("true").spawn().unwrap();
            child.wait().unwrap();
            child.id()
        };
        let file = |pid: u32| PathBuf::from(format!("/dev/shm/faketime_shm_{pid}"));
        let alive = std::process::id();
        for pid in [dead, alive] {
            std::fs::write(file(pid), b"").unwrap();
        }
        clear_left_behind();
        assert!(!file(dead).exists());
        assert!(file(alive).exists());
        std::fs::remove_file(file(alive)).unwrap();
    }

    #[test]
    #[allow(clippy::unwrap_used, reason = "what a test cannot do is its failure")]
    fn a_running_process_sees_the_clock_move_both_ways_and_its_timers_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let clock = WallClock::new(directory.path()).unwrap();
        let output = directory.path().join("out");
        // One perl, which sleeps by select(2) as an event loop does, prints both clocks.
        let script = "use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC); $|=1; my $start = clock_gettime(CLOCK_MONOTONIC); while (1) { printf \"%d %d\\n\", time, clock_gettime(CLOCK_MONOTONIC) - $start; select(undef, undef, undef, 0.05); }";
        let program = Program::new("perl", "perl", &output).args(["-e", script]);
        let child = clock.shown_to(program).spawn().unwrap();
        let shows = |expected: i64| {
            crate::wait::until("the clock to move", Duration::from_secs(10), || {
                let text = child.output_text();
                let mut words = text.lines().next_back()?.split(' ');
                let shown: i64 = words.next()?.parse().ok()?;
                let elapsed: i64 = words.next()?.parse().ok()?;
                ((shown - expected).abs() < 3 && elapsed < 60).then_some(())
            })
            .unwrap();
        };
        shows(clock.now());
        clock.advance(Duration::from_secs(10 * 86_400)).unwrap();
        shows(clock.now());
        clock.shift(-3 * 86_400).unwrap();
        assert_eq!(clock.offset(), 7 * 86_400);
        shows(clock.now());
    }
}
