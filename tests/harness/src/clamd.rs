//! A real clamd with a small database of our own, to be killed, stopped and restarted.
//!
//! Its configuration is the product's. It does not need, fetch or look for the official database: signatures for the EICAR
//! test file and for ClamAV's own test program are enough to see a scanner catch something.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::signatures::{self, Signatures};
use crate::{Child, Error, Program, Result, wait};

/// The product's configuration.
const CONFIGURATION: &str = include_str!("../../../gateway/antivirus/clamd.conf");

const READY: Duration = Duration::from_secs(30);

/// What a started clamd can recognise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// The EICAR test file, ClamAV's test program, and the product's forbidden kinds.
    Eicar,
    /// The same without the EICAR test file, which then passes as clean.
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
        Self::start_of(directory, &signatures_of(database), settings)
    }

    /// Like [`Clamd::start_with`] with signatures of one's own.
    ///
    /// # Errors
    /// As [`Clamd::start`].
    pub fn start_of(directory: &Path, signatures: &Signatures, settings: &str) -> Result<Self> {
        write_files(directory, signatures, settings)
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

    /// Its configuration file.
    pub fn configuration_file(&self) -> PathBuf {
        self.directory.join("clamd.conf")
    }

    /// The directory of databases, of which `current/db` is loaded; as on the box.
    pub fn databases(&self) -> PathBuf {
        databases(&self.directory)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.output_text()
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
        signatures_of(database)
            .write_generation(&databases(&self.directory))
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

fn databases(directory: &Path) -> PathBuf {
    directory.join("databases")
}

fn write_files(directory: &Path, signatures: &Signatures, settings: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory.join("tmp"))?;
    signatures.write_generation(&databases(directory))?;
    std::fs::write(
        directory.join("clamd.conf"),
        configuration(directory, settings),
    )
}

fn signatures_of(database: Database) -> Signatures {
    let signatures = Signatures::built(signatures::now());
    match database {
        Database::Eicar => signatures,
        Database::WithoutEicar => signatures.without_eicar(),
    }
}

/// The product's configuration with other places. Of two lines with the same option clamd would obey the first.
fn configuration(directory: &Path, settings: &str) -> String {
    let places = format!(
        "LocalSocket {}\nDatabaseDirectory {}\nTemporaryDirectory {}\n",
        socket(directory).display(),
        databases(directory).join("current/db").display(),
        directory.join("tmp").display()
    );
    let is_named = |lines: &str, line: &str| lines.lines().any(|own| option(own) == option(line));
    let kept = CONFIGURATION
        .lines()
        .filter(|line| line.starts_with('#') || !is_named(&places, line))
        .chain(places.lines())
        .filter(|line| line.starts_with('#') || line.is_empty() || !is_named(settings, line));
    let mut text: String = kept.map(|line| format!("{line}\n")).collect();
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
