//! A real clamd with a small database of our own, to be killed, stopped and restarted.
//!
//! It does not need, fetch or look for the official database: one signature for the EICAR test file is enough to see a
//! scanner catch something.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{Child, Error, Program, Result, wait};

const READY: Duration = Duration::from_secs(30);

/// What a started clamd can recognise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// The EICAR test file.
    Eicar,
    /// Something else, so that the EICAR test file passes as clean.
    WithoutEicar,
}

/// A running clamd.
#[derive(Debug)]
pub struct Clamd {
    directory: PathBuf,
    process: Child,
}

impl Clamd {
    /// Starts clamd with the product's settings; its socket, database, log and temporary files live in `directory`.
    ///
    /// # Errors
    /// When clamd is not installed, does not start, or does not answer within half a minute.
    pub fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, Database::Eicar, "")
    }

    /// Like [`Clamd::start`] with a chosen database and lines for `clamd.conf` that replace the product's.
    ///
    /// # Errors
    /// As [`Clamd::start`].
    pub fn start_with(directory: &Path, database: Database, settings: &str) -> Result<Self> {
        write_files(directory, database, settings)
            .map_err(|error| Error::new("clamd's files cannot be written").because(error))?;
        let process = spawn(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            process,
        })
    }

    /// The socket it listens on.
    pub fn socket(&self) -> PathBuf {
        socket(&self.directory)
    }

    /// The directory that takes unpacked and streamed bodies.
    pub fn temporary_directory(&self) -> PathBuf {
        self.directory.join("tmp")
    }

    /// The process.
    pub fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// Kills it with SIGKILL; its socket file stays behind.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Makes it hang (SIGSTOP): connections are accepted by the kernel and never answered.
    ///
    /// # Errors
    /// When it has ended.
    pub fn suspend(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets it run on (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Kills it and starts it again over what it left.
    ///
    /// # Errors
    /// As [`Clamd::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.directory)?;
        Ok(())
    }

    /// Replaces the database and restarts.
    ///
    /// # Errors
    /// As [`Clamd::start`].
    pub fn restart_with(&mut self, database: Database) -> Result<()> {
        write_database(&self.directory, database)
            .map_err(|error| Error::new("clamd's database cannot be written").because(error))?;
        self.restart()
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        // A stopped process does not act on the SIGTERM that ends it.
        let _ = self.resume();
    }
}

/// The EICAR test file. Put together here, so that no file of this repository is taken for it.
pub fn eicar() -> Vec<u8> {
    let (start, name, end) = (
        r"X5O!P%@AP[4\PZX54(P^)7CC)7}$",
        ["EICAR", "STANDARD", "ANTIVIRUS", "TEST", "FILE!$"].join("-"),
        "H+H*",
    );
    format!("{start}{name}{end}").into_bytes()
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("clamd.sock")
}

fn write_files(directory: &Path, database: Database, settings: &str) -> std::io::Result<()> {
    for inner in ["db", "tmp"] {
        std::fs::create_dir_all(directory.join(inner))?;
    }
    write_database(directory, database)?;
    std::fs::write(
        directory.join("clamd.conf"),
        configuration(directory, settings),
    )
}

fn write_database(directory: &Path, database: Database) -> std::io::Result<()> {
    let (name, body) = match database {
        Database::Eicar => ("Eicar-Test-Signature", eicar()),
        Database::WithoutEicar => ("Some-Other-Signature", b"found by nobody, ever".to_vec()),
    };
    let mut hex = String::new();
    for byte in body {
        let _ = write!(hex, "{byte:02x}");
    }
    // An extended signature: name, any type of file, at any offset, the bytes.
    std::fs::write(directory.join("db/test.ndb"), format!("{name}:0:*:{hex}\n"))
}

/// As on the box: clamd's own defaults pass what exceeds a limit, so exceeding one must raise an alert.
fn configuration(directory: &Path, settings: &str) -> String {
    let directory = directory.display();
    let product = format!(
        "Foreground yes\n\
         DatabaseDirectory {directory}/db\n\
         LocalSocket {directory}/clamd.sock\n\
         LocalSocketMode 660\n\
         FixStaleSocket yes\n\
         TemporaryDirectory {directory}/tmp\n\
         AlertExceedsMax yes\n\
         AlertEncrypted yes\n\
         MaxFileSize 50M\n\
         StreamMaxLength 50M\n\
         MaxScanSize 150M\n\
         MaxRecursion 17\n\
         MaxFiles 2000\n\
         MaxScanTime 30000\n\
         MaxThreads 4\n\
         MaxQueue 16\n\
         ReadTimeout 15\n\
         ScanImageFuzzyHash no\n\
         ConcurrentDatabaseReload yes\n\
         DisableCache yes\n\
         SelfCheck 0\n"
    );
    // Of two lines with the same option clamd would obey the first.
    let replaced = |line: &str| settings.lines().any(|own| option(own) == option(line));
    let mut text: String = product
        .lines()
        .filter(|line| !replaced(line))
        .map(|line| format!("{line}\n"))
        .collect();
    text.push_str(settings);
    text.push('\n');
    text
}

fn option(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

fn spawn(directory: &Path) -> Result<Child> {
    let log = directory.join("clamd.log");
    let mut process = Program::new("clamd", "/usr/sbin/clamd", &log)
        .arg("--config-file")
        .arg(directory.join("clamd.conf"))
        .spawn()?;
    let socket = socket(directory);
    wait::until("clamd (PONG)", READY, || {
        if pongs(&socket) {
            return Some(Ok(()));
        }
        let status = process.exit_status()?;
        Some(Err(Error::new(format!(
            "clamd ended before it was ready: {status}"
        ))))
    })
    .and_then(|inner| inner)
    .map_err(|error| error.with_output_of(&log))?;
    Ok(process)
}

fn pongs(socket: &Path) -> bool {
    let ask = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"zPING\0")?;
        let mut reply = Vec::new();
        stream.take(16).read_to_end(&mut reply)?;
        std::io::Result::Ok(reply)
    };
    ask().is_ok_and(|reply| reply == b"PONG\0")
}
