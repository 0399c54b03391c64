//! gatewayd as a process, with a configuration made for it.
//!
//! It does not provision the box; [`crate::facility`] does, the way a person would.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::city::{BOX_HOST, EST_HOST, GATEWAY_HOST, PORTAL_HOST};
use crate::{Child, Error, Program, Result, WallClock, binaries, ports, wait};

/// A site to be relayed.
#[derive(Clone, Debug)]
pub struct Site {
    /// Host names as browsers write them.
    pub hosts: Vec<String>,
    /// Where it really is.
    pub upstream: SocketAddr,
    /// PEM file with the root its certificate is checked against; the city's when absent.
    pub anchor: Option<PathBuf>,
    /// Paths open to everybody.
    pub public_paths: Vec<String>,
    /// `auto`, `http1` or `http2`.
    pub protocol: String,
}

/// What the box is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// TCTI string of the TPM.
    pub tcti: String,
    /// The city's trust anchor.
    pub anchor: PathBuf,
    /// The port of all the city's hosts on 127.0.0.1.
    pub city_port: u16,
    /// clamd's socket.
    pub clamd: PathBuf,
    /// Where TLS is served; a free port on both loopback addresses when absent.
    pub https_port: Option<u16>,
    /// Where clear HTTP (redirect, PAC, CONNECT) is served; a free port when absent.
    pub http_port: Option<u16>,
    /// Refuse devices that are not registered, once one is.
    pub refuse_unknown_devices: bool,
    /// Sites beside the city's portal.
    pub more_sites: Vec<Site>,
    /// Lines put at the end of the configuration, tables of their own.
    pub more: String,
    /// A program, with arguments, that starts gatewayd: strace, for example. It must replace itself with gatewayd.
    pub through: Vec<String>,
    /// The clock it sees; the true one when absent.
    pub clock: Option<WallClock>,
}

/// A running gatewayd.
#[derive(Debug)]
pub struct Gatewayd {
    directory: PathBuf,
    https_port: u16,
    http_port: u16,
    through: Vec<String>,
    clock: Option<WallClock>,
    process: Child,
}

impl Gatewayd {
    /// Writes the configuration into `directory`, where the box's state lives too, and starts gatewayd.
    ///
    /// # Errors
    /// When it is not built, does not start, or does not say that it is ready within half a minute.
    pub fn start(directory: &Path, options: &Options) -> Result<Self> {
        let https_port = options.https_port.map_or_else(ports::free, Ok)?;
        let http_port = options.http_port.map_or_else(ports::free, Ok)?;
        let unwritable = |error: std::io::Error| {
            Error::new(format!("{} cannot be written", directory.display())).because(error)
        };
        std::fs::create_dir_all(directory.join("state")).map_err(unwritable)?;
        let configuration = configuration(directory, options, https_port, http_port);
        std::fs::write(directory.join("gateway.toml"), configuration).map_err(unwritable)?;
        let process = spawn(directory, &options.through, options.clock.as_ref())?;
        Ok(Self {
            directory: directory.to_owned(),
            https_port,
            http_port,
            through: options.through.clone(),
            clock: options.clock.clone(),
            process,
        })
    }

    /// Where configuration, state and log are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The configuration file.
    pub fn configuration_file(&self) -> PathBuf {
        self.directory.join("gateway.toml")
    }

    /// The box's state directory.
    pub fn state_directory(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The TLS port, on 127.0.0.1 and on ::1.
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The port for clear HTTP, on 127.0.0.1 and on ::1.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The liaison notebook through the box.
    pub fn portal_url(&self) -> String {
        format!("https://{PORTAL_HOST}:{}/", self.https_port)
    }

    /// The box's own console.
    pub fn console_url(&self) -> String {
        format!("https://{BOX_HOST}:{}/", self.https_port)
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.process.output_text()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// Kills it, as a power cut would, and starts it again with the same configuration and state.
    ///
    /// # Errors
    /// As [`Gatewayd::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.start_again()
    }

    /// Has another program start it from now on; see [`Options::through`].
    pub fn start_through(&mut self, through: Vec<String>) {
        self.through = through;
    }

    /// Starts it again after it has ended.
    ///
    /// # Errors
    /// As [`Gatewayd::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.directory, &self.through, self.clock.as_ref())?;
        Ok(())
    }
}

/// What the reference city shows to everybody.
const PUBLIC_PATHS: [&str; 6] = [
    "/",
    "/first-certificate",
    "/line-check",
    "/line-check.js",
    "/style.css",
    "/icon.svg",
];

/// The whole configuration file of a box in a test.
fn configuration(directory: &Path, options: &Options, https_port: u16, http_port: u16) -> String {
    let city_port = options.city_port;
    let city = SocketAddr::from(([127, 0, 0, 1], city_port));
    let portal = Site {
        hosts: vec![PORTAL_HOST.to_owned()],
        upstream: city,
        anchor: None,
        public_paths: PUBLIC_PATHS.map(str::to_owned).to_vec(),
        protocol: "auto".to_owned(),
    };
    let names: Vec<String> = [PORTAL_HOST, BOX_HOST]
        .map(str::to_owned)
        .into_iter()
        .chain(
            options
                .more_sites
                .iter()
                .flat_map(|site| site.hosts.clone()),
        )
        .collect();
    let mut text = format!(
        r#"# Written by the test harness.
state_dir = {state:?}

[listen]
https = ["127.0.0.1:{https_port}", "[::1]:{https_port}"]
http = ["127.0.0.1:{http_port}", "[::1]:{http_port}"]

[tpm]
tcti = {tcti:?}
allow_software = true

[city]
anchor = {anchor:?}
est = {{ host = "{EST_HOST}", port = {city_port}, connect = "{city}" }}
gateway_api = {{ host = "{GATEWAY_HOST}", port = {city_port}, connect = "{city}" }}

[lan]
names = {names:?}

[antivirus]
socket = {clamd:?}
configuration = {clamd_configuration:?}
databases = {databases:?}

[devices]
unknown = "{unknown}"

[posture]
appliance = false

[support]
office = "高萩市 高齢福祉課"
phone = "0293-00-0000"
"#,
        state = directory.join("state"),
        tcti = options.tcti,
        anchor = options.anchor,
        clamd = options.clamd,
        clamd_configuration = options.clamd.with_file_name("clamd.conf"),
        databases = options.clamd.with_file_name("databases"),
        unknown = if options.refuse_unknown_devices {
            "refuse"
        } else {
            "warn"
        },
    );
    for site in std::iter::once(&portal).chain(&options.more_sites) {
        let _ = write!(
            text,
            "\n[[site]]\nhosts = {:?}\nport = {}\nconnect = \"{}\"\nprotocol = {:?}\n",
            site.hosts,
            site.upstream.port(),
            site.upstream,
            site.protocol
        );
        if let Some(anchor) = &site.anchor {
            let _ = writeln!(text, "anchor = {anchor:?}");
        }
        if !site.public_paths.is_empty() {
            let _ = writeln!(text, "public_paths = {:?}", site.public_paths);
        }
    }
    text.push('\n');
    // The city keeps its signed repository beside its trust anchor. A test that says otherwise has the last word.
    let root = options.anchor.with_file_name("tuf/metadata/1.root.json");
    if root.is_file() && !options.more.contains("[signed_channel]") {
        let _ = writeln!(text, "[signed_channel]\nroot = {root:?}\n");
    }
    text.push_str(&options.more);
    text
}

/// Starts gatewayd and waits for READY=1, the way systemd does (sd_notify(3)).
fn spawn(directory: &Path, through: &[String], clock: Option<&WallClock>) -> Result<Child> {
    let address = directory.join("notify.sock");
    let _ = std::fs::remove_file(&address);
    let notify = UnixDatagram::bind(&address)
        .map_err(|error| Error::new("the readiness socket cannot be made").because(error))?;
    notify
        .set_nonblocking(true)
        .map_err(|error| Error::new("the readiness socket cannot be used").because(error))?;
    let gatewayd = binaries::ours("gatewayd")?;
    let log = directory.join("gatewayd.log");
    let program = match through {
        [] => Program::new("gatewayd", gatewayd, log),
        [starter, arguments @ ..] => Program::new("gatewayd", starter, log)
            .args(arguments)
            .arg(gatewayd),
    };
    let program = program
        .arg("--config")
        .arg(directory.join("gateway.toml"))
        .env("NOTIFY_SOCKET", &address);
    let mut process = match clock {
        Some(clock) => clock.shown_to(program).spawn()?,
        None => program.spawn()?,
    };
    wait::for_process(&mut process, "READY=1", Duration::from_secs(30), || {
        let mut message = [0; 4096];
        let length = notify.recv(&mut message).ok()?;
        String::from_utf8_lossy(&message[..length])
            .lines()
            .any(|line| line == "READY=1")
            .then_some(())
    })?;
    Ok(process)
}
