//! The reference city as a process, and the tests' hand on it.
//!
//! It does not speak the city interface: tests do that themselves, or through the box.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::{Child, Error, Program, Result, WallClock, binaries, ports, wait};

/// The public portal and the staff web application.
pub const PORTAL_HOST: &str = "renraku.takahagi.localhost";
/// Enrolment.
pub const EST_HOST: &str = "est.takahagi.localhost";
/// The gateway API.
pub const GATEWAY_HOST: &str = "gw.takahagi.localhost";
/// The name by which a facility's box calls itself.
pub const BOX_HOST: &str = "box.takahagi.localhost";

/// How long the control port may take.
const CONTROL: Duration = Duration::from_secs(20);

/// How to start a city.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fill an empty city with invented facilities, staff, persons, notes and certificate numbers.
    pub seed: bool,
    /// The TLS port; a free one when absent.
    pub port: Option<u16>,
    /// How long facility certificates are valid, when not a year.
    pub facility_validity: Option<Duration>,
    /// The clock it sees; the true one when absent.
    pub clock: Option<WallClock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: true,
            port: None,
            facility_validity: None,
            clock: None,
        }
    }
}

/// A running reference city.
#[derive(Debug)]
pub struct City {
    directory: PathBuf,
    options: Options,
    port: u16,
    control_port: u16,
    described: Value,
    process: Child,
}

impl City {
    /// Starts a city whose state lives in `directory`.
    ///
    /// # Errors
    /// When it is not built, does not start, or is not ready within half a minute.
    pub fn start(directory: &Path, options: Options) -> Result<Self> {
        let port = options.port.map_or_else(ports::free, Ok)?;
        let control_port = ports::free()?;
        let (process, described) = spawn(directory, &options, port, control_port)?;
        Ok(Self {
            directory: directory.to_owned(),
            options,
            port,
            control_port,
            described,
            process,
        })
    }

    /// The port of the tests' hand on it, clear HTTP on 127.0.0.1.
    pub fn control_port(&self) -> u16 {
        self.control_port
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

    /// What the city says of itself when it is ready: `certificate_number`, `access_code`, `spare_number`, `spare_code`,
    /// `numbers`, `users` and more; the seed's part only when seeded.
    pub fn described(&self) -> &Value {
        &self.described
    }

    /// A text from [`City::described`], empty when it is not there.
    pub fn text(&self, key: &str) -> &str {
        self.described[key].as_str().unwrap_or_default()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// Kills it, as a power cut would, and starts it again on the same ports with the same state.
    ///
    /// # Errors
    /// As [`City::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        (self.process, self.described) =
            spawn(&self.directory, &self.options, self.port, self.control_port)?;
        Ok(())
    }

    /// Posts to the control port: `fail`, `revoke`, `suspend-user`, `note` and so on, each with its JSON.
    ///
    /// # Errors
    /// When the city refuses.
    pub fn control(&self, what: &str, arguments: &Value) -> Result<Value> {
        accepted(self.send("POST", what, Some(arguments))?)
    }

    /// Counters of everything that happened so far.
    ///
    /// # Errors
    /// When the city does not answer.
    pub fn statistics(&self) -> Result<Value> {
        accepted(self.send("GET", "stats", None)?)
    }

    /// Lets every request fail in one way, until [`City::recover`]: `down`, `slow`, `5xx`, `cut-mid-body`, `hang`.
    ///
    /// # Errors
    /// When there is no such way.
    pub fn fail(&self, mode: &str) -> Result<()> {
        self.control("fail", &json!({ "mode": mode })).map(drop)
    }

    /// Ends every failure.
    ///
    /// # Errors
    /// When the city does not answer.
    pub fn recover(&self) -> Result<()> {
        self.fail("none")
    }

    fn send(&self, method: &str, what: &str, arguments: Option<&Value>) -> Result<Answer> {
        let address = ([127, 0, 0, 1], self.control_port).into();
        http::send(
            address,
            method,
            &format!("/control/{what}"),
            arguments,
            CONTROL,
        )
    }
}

fn accepted(answer: Answer) -> Result<Value> {
    if answer.status == 200 {
        return answer.json();
    }
    Err(Error::new(format!(
        "the city's control port answered {}: {}",
        answer.status,
        answer.text()
    )))
}

fn spawn(
    directory: &Path,
    options: &Options,
    port: u16,
    control_port: u16,
) -> Result<(Child, Value)> {
    let ready = directory.join("ready.json");
    std::fs::create_dir_all(directory).map_err(|error| {
        Error::new(format!("{} cannot be made", directory.display())).because(error)
    })?;
    let _ = std::fs::remove_file(&ready);
    let mut program = Program::new(
        "reference-city",
        binaries::ours("reference-city")?,
        directory.join("city.log"),
    )
    .arg("--dir")
    .arg(directory)
    .args([
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--control",
        &format!("127.0.0.1:{control_port}"),
    ])
    .arg("--ready-file")
    .arg(&ready);
    if options.seed {
        program = program.arg("--seed");
    }
    if let Some(validity) = options.facility_validity {
        program = program.args(["--facility-validity", &validity.as_secs().to_string()]);
    }
    if let Some(clock) = &options.clock {
        program = clock.shown_to(program);
    }
    let mut process = program.spawn()?;
    wait::for_ready_file(&mut process, &ready, Duration::from_secs(30))?;
    let unreadable =
        |error: String| Error::new(format!("{} cannot be read: {error}", ready.display()));
    let text = std::fs::read(&ready).map_err(|error| unreadable(error.to_string()))?;
    let described = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    Ok((process, described))
}
