//! Keeps the ledger of checks on disk, so that no deadline is forgotten by a restart. Knows nothing of what it says.
//!
//! Written by a thread of its own, newest first: a burst of evidence is one write. A file that cannot be read is kept
//! aside, and everything is unknown; a file that cannot be written is said in the journal and tried again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_policy::{Ledger, Timestamp};

/// Below the state directory.
const NAME: &str = "checks.json";
/// The same while it is being written.
const NEW: &str = "checks.json.new";
/// What could not be read, until somebody has looked at it.
const ASIDE: &str = "checks.json.unreadable";
/// So long after a write that failed the next is tried.
const RETRY: Duration = Duration::from_secs(10);

/// The way to the file.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    desk: Arc<Desk>,
}

#[derive(Debug)]
struct Desk {
    tray: Mutex<Tray>,
    turned: Condvar,
}

#[derive(Debug, Default)]
struct Tray {
    /// What is to be written next.
    newest: Option<Ledger>,
    /// A write is under way.
    writing: bool,
    /// The last one failed.
    failed: bool,
    closed: bool,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LedgerFile {
    /// Reads what an earlier run has left; otherwise begins anew, with everything unknown.
    pub(crate) fn open(state_dir: &Path, now: Timestamp) -> (Ledger, Self) {
        let ledger = read(state_dir, now);
        let desk = Arc::new(Desk {
            tray: Mutex::default(),
            turned: Condvar::new(),
        });
        let (theirs, directory) = (Arc::clone(&desk), state_dir.to_owned());
        let started = std::thread::Builder::new()
            .name("gateway-ledger".into())
            .spawn(move || write_on(&theirs, &directory));
        if let Err(error) = started {
            tracing::error!(event = "posture", %error, "the ledger of checks is not kept");
            desk.lock().closed = true;
        }
        (ledger, Self { desk })
    }

    /// Has the ledger written soon.
    pub(crate) fn keep(&self, ledger: &Ledger) {
        self.desk.lock().newest = Some(ledger.clone());
        self.desk.turned.notify_all();
    }

    /// Waits until what was handed over is on disk, or cannot be written.
    pub(crate) fn flush(&self) {
        let mut tray = self.desk.lock();
        while !tray.closed && !tray.failed && (tray.newest.is_some() || tray.writing) {
            tray = self
                .desk
                .turned
                .wait(tray)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for LedgerFile {
    fn drop(&mut self) {
        self.flush();
        self.desk.lock().closed = true;
        self.desk.turned.notify_all();
    }
}

fn read(directory: &Path, now: Timestamp) -> Ledger {
    let path = directory.join(NAME);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ledger::new(now),
        Err(error) => {
            tracing::error!(event = "posture", %error, "the ledger of checks cannot be read; everything is unknown");
            return Ledger::new(now);
        }
    };
    match Ledger::from_json(&bytes, now) {
        Ok(ledger) => ledger,
        Err(error) => {
            let kept = std::fs::rename(&path, directory.join(ASIDE)).is_ok();
            tracing::error!(event = "posture", %error, kept, "the ledger of checks is unreadable; everything is unknown");
            Ledger::new(now)
        }
    }
}

fn write_on(desk: &Desk, directory: &Path) {
    let mut told = false;
    loop {
        let mut tray = desk.lock();
        let ledger = loop {
            match tray.newest.take() {
                // What could not be written a moment ago will not be now.
                Some(_) if tray.closed && tray.failed => return,
                Some(ledger) => break ledger,
                None if tray.closed => return,
                None => {}
            }
            tray = desk
                .turned
                .wait(tray)
                .unwrap_or_else(PoisonError::into_inner);
        };
        tray.writing = true;
        drop(tray);
        let written = write(directory, &ledger);
        let failed = written.is_err();
        if let Err(error) = written
            && !told
        {
            tracing::error!(event = "posture", %error, "the ledger of checks cannot be written");
        }
        told = failed;
        let mut tray = desk.lock();
        tray.writing = false;
        tray.failed = failed;
        if failed {
            tray.newest.get_or_insert(ledger);
        }
        desk.turned.notify_all();
        drop(tray);
        if failed {
            std::thread::sleep(RETRY);
        }
    }
}

/// Either the old file or the new one is there, whatever happens in between.
fn write(directory: &Path, ledger: &Ledger) -> io::Result<()> {
    let bytes = ledger.to_json().map_err(io::Error::other)?;
    let new: PathBuf = directory.join(NEW);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use gateway_policy::{Check, Grade, Observation, Observed, Source, Subject};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn altered(ledger: &mut Ledger) {
        let observed = Observed {
            check: Check::AvConf,
            observation: Observation::Fail {
                grade: Grade::Major,
                since: None,
            },
            at: NOW,
            source: Source::Measured,
            digest: [7; 32],
        };
        ledger.observe(Subject::Box, observed, NOW);
    }

    #[test]
    fn a_failure_outlives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (mut ledger, file) = LedgerFile::open(directory.path(), NOW);
        altered(&mut ledger);
        file.keep(&ledger);
        drop(file);
        let (again, _file) = LedgerFile::open(directory.path(), NOW.plus(30));
        assert_eq!(
            again.entry(Subject::Box, Check::AvConf),
            ledger.entry(Subject::Box, Check::AvConf)
        );
    }

    #[test]
    fn an_unreadable_file_is_kept_aside_and_nothing_is_known() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(NAME), b"{\"time\":").unwrap();
        let (ledger, _file) = LedgerFile::open(directory.path(), NOW);
        assert_eq!(ledger, Ledger::new(NOW));
        assert!(directory.path().join(ASIDE).exists());
        assert!(!directory.path().join(NAME).exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(NEW)).unwrap();
        let (ledger, file) = LedgerFile::open(directory.path(), NOW);
        file.keep(&ledger);
        file.flush();
    }
}
