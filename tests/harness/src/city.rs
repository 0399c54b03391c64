//! The reference city as a process.
//!
//! It does not speak the city interface: tests do that themselves, or through the box.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Child, Program, Result, binaries, ports, wait};

/// The public portal and the staff web application.
pub const PORTAL_HOST: &str = "renraku.takahagi.localhost";
/// Enrolment.
pub const EST_HOST: &str = "est.takahagi.localhost";
/// The gateway API.
pub const GATEWAY_HOST: &str = "gw.takahagi.localhost";

/// A running reference city.
#[derive(Debug)]
pub struct City {
    directory: PathBuf,
    port: u16,
    seed: bool,
    process: Child,
}

impl City {
    /// Starts a city whose state lives in `directory`; with `seed` it has facilities, staff, persons and notes.
    ///
    /// # Errors
    /// When it is not built, does not start, or is not ready within half a minute.
    pub fn start(directory: &Path, seed: bool) -> Result<Self> {
        Self::start_on(directory, ports::free()?, seed)
    }

    /// Like [`City::start`] on a given port.
    ///
    /// # Errors
    /// As [`City::start`].
    pub fn start_on(directory: &Path, port: u16, seed: bool) -> Result<Self> {
        let process = spawn(directory, port, seed)?;
        Ok(Self {
            directory: directory.to_owned(),
            port,
            seed,
            process,
        })
    }

    /// Where its state lives.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The one TLS port of all its host names.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The city's trust anchor, PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The process.
    pub fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// Kills it, as a power cut would, and starts it again on the same port with the same state.
    ///
    /// # Errors
    /// As [`City::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.directory, self.port, self.seed)?;
        Ok(())
    }
}

fn spawn(directory: &Path, port: u16, seed: bool) -> Result<Child> {
    let ready = directory.join("ready");
    let _ = std::fs::create_dir_all(directory);
    let _ = std::fs::remove_file(&ready);
    let mut program = Program::new(
        "reference-city",
        binaries::ours("reference-city")?,
        directory.join("city.log"),
    )
    .arg("--dir")
    .arg(directory)
    .arg("--listen")
    .arg(format!("127.0.0.1:{port}"))
    .arg("--ready-file")
    .arg(&ready);
    if seed {
        program = program.arg("--seed");
    }
    let mut process = program.spawn()?;
    wait::for_ready_file(&mut process, &ready, Duration::from_secs(30))?;
    Ok(process)
}
