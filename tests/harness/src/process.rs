//! Starts one program and makes sure that it ends: with its guard, and with this process however that ends.
//!
//! It does not know any particular program.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, killpg, signal};
use nix::unistd::{Pid, getpid, getppid};

use crate::{Error, Result, binaries, wait};

/// How long a program may take to end after SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// A program about to be started.
#[derive(Debug)]
pub struct Program {
    name: String,
    command: Command,
    output: PathBuf,
}

impl Program {
    /// Prepares `path`; both output streams go to the file `output` (a new run appends), its input is empty.
    pub fn new(
        name: impl Into<String>,
        path: impl AsRef<OsStr>,
        output: impl Into<PathBuf>,
    ) -> Self {
        Self {
            name: name.into(),
            command: Command::new(path),
            output: output.into(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Starts it in a process group of its own.
    ///
    /// # Errors
    /// When the output file cannot be opened or the program cannot be started.
    pub fn spawn(mut self) -> Result<Child> {
        let cannot = |error: io::Error| {
            Error::new(format!("{} cannot be started", self.name)).because(error)
        };
        let out = File::options()
            .create(true)
            .append(true)
            .open(&self.output)
            .map_err(cannot)?;
        let err = out.try_clone().map_err(cannot)?;
        self.command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        die_with_this_process(&mut self.command);
        let inner = from_the_lasting_thread(self.command).map_err(|error| {
            Error::new(format!("{} cannot be started", self.name)).because(error)
        })?;
        let pid = Pid::from_raw(i32::try_from(inner.id()).unwrap_or(i32::MAX));
        Ok(Child {
            name: self.name,
            inner,
            pid,
            output: self.output,
        })
    }
}

/// Has the kernel kill the program when this process ends, even by SIGKILL, and lets every signal through to it.
#[allow(
    unsafe_code,
    reason = "pre_exec is the only place from which the parent-death signal can be set"
)]
fn die_with_this_process(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec the closure makes five system calls, installs no handler and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // A shell without job control has its background commands ignore these, and that is inherited all the way here.
            signal(Signal::SIGINT, SigHandler::SigDfl)?;
            signal(Signal::SIGQUIT, SigHandler::SigDfl)?;
            // A blocked signal stays blocked across exec; the demo blocks those that end it.
            SigSet::empty().thread_set_mask()?;
            // The parent may have ended before the line above took effect.
            if getppid() == parent {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(nix::libc::ESRCH))
            }
        });
    }
}

type Started = io::Result<std::process::Child>;
type Request = (Command, Sender<Started>);

/// The parent-death signal fires when the *thread* that forked ends; a test's thread may end before its shared processes may.
fn from_the_lasting_thread(command: Command) -> Started {
    static THREAD: OnceLock<Mutex<Sender<Request>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (sender, receiver): (_, Receiver<Request>) = channel();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                // The asker may have gone; then the started process is dropped and runs until this process ends.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (answer, started) = channel();
    let gone = || io::Error::other("the thread that starts programs has ended");
    thread
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| gone())?;
    started.recv().map_err(|_| gone())?
}

/// A running program; dropping it ends it.
#[derive(Debug)]
pub struct Child {
    name: String,
    inner: std::process::Child,
    pid: Pid,
    output: PathBuf,
}

impl Child {
    /// The name it was given, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which is also its process group's.
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// The file that takes its output.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// What it has printed so far.
    pub fn output_text(&self) -> String {
        std::fs::read(&self.output)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.inner.try_wait().ok().flatten()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// Sends a signal to it alone (SIGSTOP and SIGCONT make a program hang and wake).
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Err(Error::new(format!("{} has ended", self.name)));
        }
        kill(self.pid, signal).map_err(|error| {
            Error::new(format!("{} cannot be signalled", self.name)).because(error)
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || self.exit_status())
            .map_err(|error| error.with_output_of(&self.output))
    }

    /// Asks it to end with SIGTERM and waits; after five seconds it is killed.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        if self.is_running() {
            let _ = kill(self.pid, Signal::SIGTERM);
            let end = Instant::now() + GRACE;
            while self.is_running() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.kill()
    }

    /// Kills it and what it left in its process group, as a power cut would.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        // The group outlives its leader while it has members; without members this fails, which is what we want.
        let _ = killpg(self.pid, Signal::SIGKILL);
        self.inner.wait().ok()
    }

    /// A test fails: what the program said would end with the test's directory, and it tells why.
    fn keep_output(&self) {
        let test = std::thread::current()
            .name()
            .unwrap_or("unnamed")
            .replace("::", "-");
        let Ok(directory) = binaries::directory() else {
            return;
        };
        let directory = directory.join("../failed-tests").join(test);
        let file = format!("{}-{}.log", self.name.replace('/', "-"), self.pid);
        // Nothing better can be done about an error while a test fails.
        let _ = std::fs::create_dir_all(&directory);
        let _ = std::fs::copy(&self.output, directory.join(file));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            self.keep_output();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep(seconds: &str) -> (tempfile::TempDir, Child) {
        let directory = tempfile::tempdir().unwrap();
        let child = Program::new("sleep", "sleep", directory.path().join("sleep.log"))
            .arg(seconds)
            .spawn()
            .unwrap();
        (directory, child)
    }

    fn exists(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_guard_ends_its_program() {
        let (_directory, child) = sleep("1000");
        let pid = child.pid();
        assert!(exists(pid));
        drop(child);
        assert!(!exists(pid));
    }

    #[test]
    fn a_program_outlives_the_thread_that_asked_for_it() {
        let (_directory, mut child) = std::thread::spawn(|| sleep("1000")).join().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(child.is_running());
    }

    #[test]
    fn a_program_that_ignores_the_request_to_end_takes_its_children_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("pid");
        let script = format!(
            "trap '' TERM; sleep 1000 & echo $! > {}; exec sleep 1001",
            note.display()
        );
        let mut child = Program::new("sh", "sh", directory.path().join("sh.log"))
            .args(["-c", &script])
            .spawn()
            .unwrap();
        let inner: u32 = wait::until("the inner pid", GRACE, || {
            std::fs::read_to_string(&note).ok()?.trim().parse().ok()
        })
        .unwrap();
        child.kill();
        wait::until("the end of the inner process", GRACE, || {
            (!exists(inner)).then_some(())
        })
        .unwrap();
    }

    #[test]
    fn a_program_that_ends_early_shows_its_output() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Program::new("sh", "sh", directory.path().join("sh.log"))
            .args(["-c", "echo because of this >&2"])
            .spawn()
            .unwrap();
        let error =
            wait::for_ready_file(&mut child, &directory.path().join("never"), GRACE).unwrap_err();
        assert!(error.full().contains("because of this"), "{error:?}");
    }

    #[test]
    fn what_a_program_said_outlives_a_test_that_fails() {
        let name = "a-test-that-fails-on-purpose";
        let failed = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(|| {
                let directory = tempfile::tempdir().unwrap();
                let mut child = Program::new("sh", "sh", directory.path().join("sh.log"))
                    .args(["-c", "echo the reason"])
                    .spawn()
                    .unwrap();
                child.wait(GRACE).unwrap();
                panic!("on purpose");
            })
            .unwrap();
        assert!(failed.join().is_err());
        let kept = binaries::directory()
            .unwrap()
            .join("../failed-tests")
            .join(name);
        let file = std::fs::read_dir(&kept).unwrap().next().unwrap().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, "the reason\n");
        std::fs::remove_dir_all(kept).unwrap();
    }

    #[test]
    fn a_program_can_be_signalled_although_its_parent_blocks_signals() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("status");
        let mut blocking = Command::new("grep");
        blocking
            .args(["SigBlk", "/proc/self/status"])
            .stdout(File::create(&note).unwrap());
        die_with_this_process(&mut blocking);
        let status = std::thread::scope(|scope| {
            let blocked = scope.spawn(|| {
                SigSet::all().thread_block().unwrap();
                let mut child = blocking.spawn().unwrap();
                child.wait().unwrap()
            });
            blocked.join().unwrap()
        });
        assert!(status.success());
        assert_eq!(
            std::fs::read_to_string(note).unwrap().trim(),
            "SigBlk:\t0000000000000000"
        );
    }
}
