//! `cargo xtask bench`: the gateway beside nginx and HAProxy of Debian 13, in one run, as ratios.
//!
//! One server at a time is under load, one worker each, pinned to CPU 0; client and origin share CPU 1; rounds are
//! interleaved; medians are kept. The figure that counts is the server's CPU time per request, read from the
//! scheduler, because it holds while the machine is noisy and requests per second do not. Nothing here asserts a time.

mod cost;
mod lab;
mod load;
mod paired;
mod peers;
mod report;
mod scanning;
mod store;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use lab::{Lab, Subject};
use load::Sample;
use test_harness::binaries;

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds over all servers; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load for one server in one round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only these rows (relay-1k-h1, relay-1k-h2, relay-1m, handshake, idle, scan-10k, scan-1m, scan-25m, store-sync, store-list,
    /// store-search); all when not given.
    #[arg(long)]
    row: Vec<String>,
    /// Also write the table here, as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// A kind of work every server does in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    RelaySmallHttp1,
    RelaySmallHttp2,
    RelayLarge,
    Handshake,
    IdleConnection,
}

impl Row {
    /// Idle memory first: what a server has once used it keeps, and later connections would look free.
    const ALL: [Self; 5] = [
        Self::IdleConnection,
        Self::RelaySmallHttp1,
        Self::RelaySmallHttp2,
        Self::RelayLarge,
        Self::Handshake,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::RelaySmallHttp1 => "relay-1k-h1",
            Self::RelaySmallHttp2 => "relay-1k-h2",
            Self::RelayLarge => "relay-1m",
            Self::Handshake => "handshake",
            Self::IdleConnection => "idle",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::RelaySmallHttp1 => "TLS → mTLS 1 KiB, HTTP/1.1",
            Self::RelaySmallHttp2 => "TLS → mTLS 1 KiB, HTTP/2",
            Self::RelayLarge => "TLS → mTLS 1 MiB, HTTP/1.1",
            Self::Handshake => "full TLS 1.3 handshake + GET 1 KiB",
            Self::IdleConnection => "idle TLS connection (PSS)",
        }
    }

    /// The goal as a ratio to the best peer; idle memory has an absolute one.
    const fn goal(self) -> &'static str {
        match self {
            Self::RelaySmallHttp1 | Self::RelaySmallHttp2 => "≤ 1.00 ×",
            Self::RelayLarge => "≤ 1.00 ×, p99 ≤ 1.2 ×",
            Self::Handshake => "≤ 0.75 ×",
            Self::IdleConnection => "≤ 24 KiB, then ≤ 16",
        }
    }
}

/// Everything measured for one server in one row, a sample per round.
#[derive(Debug, Default, Clone)]
struct Series {
    samples: Vec<Sample>,
}

/// Builds what is measured, measures, prints the table.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let root = binaries::workspace();
    let outcome = if binaries::are_built() {
        measure_all(root, arguments)
    } else {
        again_with_release_build(root)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds for release and starts this command again with those binaries.
fn again_with_release_build(root: &Path) -> Result<(), String> {
    let run = |command: &mut Command| match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    };
    run(Command::new("cargo").current_dir(root).args([
        "build",
        "--release",
        "-p",
        "gateway-daemon",
        "-p",
        "reference-city",
        "-p",
        "gateway-ctl",
    ]))?;
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    run(Command::new(this)
        .args(std::env::args_os().skip(1))
        .env(binaries::BINARY_DIRECTORY, root.join("target/release")))
}

fn measure_all(root: &Path, arguments: &Arguments) -> Result<(), String> {
    let work = root.join("target/bench");
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let peers = peers::Tree::prepare(&work)?;
    if !arguments.row.is_empty()
        && arguments
            .row
            .iter()
            .all(|row| store::ROWS.contains(&row.as_str()))
    {
        // A facility of its own: nothing else need be started.
        lab::make_certificates(&peers.folder("certificates")?.0)?;
        return told(&store::table(&peers, &work, arguments)?, arguments);
    }
    let mut lab = Lab::start(root, &work, &peers)?;
    let mut table = Vec::new();
    for row in Row::ALL {
        if arguments.row.is_empty() || arguments.row.iter().any(|name| name == row.name()) {
            table.push((row, measure_row(row, &lab, arguments)?));
        }
    }
    let scanned = scanning::table(&lab.scanning(), arguments.rounds, |row| {
        arguments.row.is_empty() || arguments.row.iter().any(|name| name == row)
    })?;
    let signatures = lab.tpm_signatures(320)?;
    let stored = store::table(&peers, &work, arguments)?;
    let text = report::markdown(&lab, &table, &signatures) + &scanned + &stored;
    told(&text, arguments)
}

fn told(text: &str, arguments: &Arguments) -> Result<(), String> {
    println!("{text}");
    if let Some(path) = &arguments.markdown {
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn measure_row(row: Row, lab: &Lab, arguments: &Arguments) -> Result<Vec<Series>, String> {
    let mut all = vec![Series::default(); lab.subjects.len()];
    let rounds = if row == Row::IdleConnection {
        1
    } else {
        arguments.rounds
    };
    for round in 0..rounds {
        for (subject, series) in lab.subjects.iter().zip(&mut all) {
            let sample = measure(row, subject, lab, Duration::from_secs(arguments.seconds))?;
            eprintln!(
                "{} round {} {}: {sample}",
                row.name(),
                round + 1,
                subject.name
            );
            series.samples.push(sample);
        }
    }
    Ok(all)
}

fn measure(row: Row, subject: &Subject, lab: &Lab, time: Duration) -> Result<Sample, String> {
    match row {
        Row::RelaySmallHttp1 => {
            cost::under(subject, || load::wrk(subject.port, "/1k", 32, time, false))
        }
        Row::RelaySmallHttp2 => {
            cost::under(subject, || load::h2load(subject.port, "/1k", 8, 8, time))
        }
        Row::RelayLarge => cost::under(subject, || load::wrk(subject.port, "/1m", 32, time, false)),
        Row::Handshake => cost::under(subject, || load::wrk(subject.port, "/1k", 8, time, true)),
        Row::IdleConnection => cost::idle(subject, &lab.idle_client, 500),
    }
}
