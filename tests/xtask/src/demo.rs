//! `cargo xtask demo`: a whole facility on this machine, in the foreground, until Ctrl-C.
//!
//! It does not do anything that `test_harness::facility` does not do for the tests as well.

mod guide;

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use test_harness::facility::{Facility, Options};
use test_harness::{Error, Result, binaries, city};

use crate::suite::cargo;

/// Options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave the provisioning of the box to you.
    #[arg(long)]
    manual: bool,
    /// Written when everything answers.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// The box's HTTPS port [default: 8443, or a free one].
    #[arg(long, value_name = "N")]
    port: Option<u16>,
}

const BOX_PORT: u16 = 8443;
const BOX_CLEAR_PORT: u16 = 8080;
const CITY_PORT: u16 = 9443;

/// Where Debian's freshclam keeps the official signatures.
const OFFICIAL_SIGNATURES: &str = "/var/lib/clamav";

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if !build() {
        eprintln!("the build failed; see above");
        return ExitCode::FAILURE;
    }
    // Only now: cargo would inherit the blocked signals, and Ctrl-C could not end a build.
    let stop = match listen_for_stop() {
        Ok(stop) => stop,
        Err(error) => return fail(&Error::new("signals cannot be waited for").because(error)),
    };
    match start(arguments) {
        Ok((facility, _lock)) => serve(facility, &stop),
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    eprintln!("{}", error.full());
    ExitCode::FAILURE
}

fn build() -> bool {
    if binaries::are_built() {
        return true;
    }
    let status = cargo([
        "build",
        "--package",
        "gateway-daemon",
        "--package",
        "reference-city",
        "--bins",
    ])
    .status();
    status.is_ok_and(|status| status.success())
}

/// Blocks the signals that end the demo in this and every later thread, and turns them into a message.
///
/// The programs of the demo do not inherit this; the harness gives them an empty signal mask.
fn listen_for_stop() -> nix::Result<Receiver<Signal>> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut count = 0;
        while let Ok(signal) = signals.wait() {
            count += 1;
            // While the parts are still starting nobody listens; and a second Ctrl-C means now.
            if sender.send(signal).is_err() || count > 1 || !serving() {
                leave();
            }
        }
    });
    Ok(receiver)
}

/// Set once everything answers.
static SERVING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

fn serving() -> bool {
    SERVING.load(std::sync::atomic::Ordering::Relaxed)
}

/// Ends this process at once; the kernel then kills what it started (parent-death signal).
#[allow(
    clippy::exit,
    reason = "the main thread may be waiting for a program that does not start"
)]
fn leave() -> ! {
    std::process::exit(130)
}

fn start(arguments: &Arguments) -> Result<(Facility, Flock<File>)> {
    let directory = binaries::workspace()
        .canonicalize()
        .unwrap_or_default()
        .join("target/demo");
    let lock = lock(&directory.with_extension("lock"))?;
    let cannot = |what: &str| {
        let what = format!("{what} {}", directory.display());
        move |error: io::Error| Error::new(what).because(error)
    };
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(cannot("cannot remove the last demo's state,"))?;
    }
    fs::create_dir_all(&directory).map_err(cannot("cannot make"))?;
    println!("Starting a TPM, a city, a virus scanner and the gateway …");
    let mut facility = start_facility(&directory, arguments)?;
    let json = guide::json(&mut facility, arguments.manual);
    let text = serde_json::to_string_pretty(&json)
        .map_err(|error| Error::new("demo.json cannot be written").because(error))?;
    write_whole(&directory.join("demo.json"), &text)?;
    println!("{}", guide::text(&facility, &json, arguments.manual));
    SERVING.store(true, std::sync::atomic::Ordering::Relaxed);
    if let Some(path) = &arguments.ready_file {
        write_whole(path, &text)?;
    }
    Ok((facility, lock))
}

fn start_facility(directory: &Path, arguments: &Arguments) -> Result<Facility> {
    let mut options = Options {
        provision: !arguments.manual,
        https_port: Some(arguments.port.map_or_else(|| preferred(BOX_PORT), Ok)?),
        http_port: Some(preferred(BOX_CLEAR_PORT)?),
        city: city::Options {
            port: Some(preferred(CITY_PORT)?),
            ..city::Options::default()
        },
        signatures: official_signatures(),
        ..Options::default()
    };
    if options.signatures.is_some() {
        match Facility::start_in(directory, options.clone()) {
            Ok(facility) => return Ok(facility),
            Err(error) => println!(
                "Once more with the small test database, because:\n{}",
                error.full()
            ),
        }
        options.signatures = None;
    }
    Facility::start_in(directory, options)
}

/// Debian's database, when freshclam has fetched one.
fn official_signatures() -> Option<PathBuf> {
    let directory = Path::new(OFFICIAL_SIGNATURES);
    let has = |name: &str| {
        ["cvd", "cld"]
            .iter()
            .any(|kind| directory.join(format!("{name}.{kind}")).is_file())
    };
    (has("main") && has("daily")).then(|| directory.to_owned())
}

/// `port` if nobody listens there, a free one otherwise.
fn preferred(port: u16) -> Result<u16> {
    let is_free =
        ["127.0.0.1", "::1"]
            .iter()
            .all(|address| match TcpListener::bind((*address, port)) {
                Ok(_) => true,
                // A machine without IPv6 has no ::1 to listen on.
                Err(error) => error.kind() == io::ErrorKind::AddrNotAvailable,
            });
    if is_free {
        Ok(port)
    } else {
        test_harness::ports::free()
    }
}

/// Two demos would remove each other's state.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path)
        .map_err(|error| Error::new(format!("cannot write {}", path.display())).because(error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| Error::new("a demo is already running here; end it with Ctrl-C first"))
}

/// Whoever waits for the file never reads half of it.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, path))
        .map_err(|error| Error::new(format!("cannot write {}", path.display())).because(error))
}

/// Waits for Ctrl-C; says so when a part ends by itself.
fn serve(mut facility: Facility, stop: &Receiver<Signal>) -> ExitCode {
    let mut told = false;
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(Duration::from_secs(1)) {
        if !told && !facility.gateway.process().is_running() {
            told = true;
            println!(
                "gatewayd has ended by itself; its log: {}",
                facility.gateway.process().output().display()
            );
        }
    }
    println!("\nEnding everything that was started …");
    drop(facility);
    println!("Done.");
    ExitCode::SUCCESS
}
