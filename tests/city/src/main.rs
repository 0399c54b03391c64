//! The reference city as a program: reads its command line, opens the city, listens, and stops on SIGTERM or SIGINT.
//!
//! Holds no logic of its own.

use clap::Parser;
use reference_city::city::{BOX, City, CityError, EST, GATEWAY, RENRAKU, Settings};
use reference_city::{control, seed, tls};
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A small but real liaison-notebook city for tests and the demo.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The city's directory: authority, database, attachments. Made if it does not exist.
    #[arg(long)]
    dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the tests' control port listens, a loopback address; none if not given.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Fill an empty city with invented data.
    #[arg(long)]
    seed: bool,
    /// Written when everything answers: JSON with ports, trust anchor and what was seeded.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// A further host name for the enrolment server, for clients that cannot resolve `*.localhost`.
    #[arg(long)]
    est_alias: Option<String>,
    /// Validity of facility certificates in seconds.
    #[arg(long, default_value_t = 365 * 86_400)]
    facility_validity: u64,
}

/// Why the program ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    City(#[from] CityError),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error(transparent)]
    Seed(#[from] seed::SeedError),
    #[error("the control port must be on a loopback address")]
    OpenControl,
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    #[error("cannot write {0}")]
    ReadyFile(PathBuf, #[source] std::io::Error),
    #[error("the listener failed")]
    Serve(#[source] std::io::Error),
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, cause, "the city ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Ended> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Ended::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Ended::Signals)?;
    let settings = Settings {
        facility_validity: Duration::from_secs(arguments.facility_validity),
        est_alias: arguments.est_alias.clone(),
    };
    let city = City::open(&arguments.dir, settings)?;
    if arguments.seed {
        seed::seed(&city).await?;
    }
    let names: Vec<String> = [RENRAKU, EST, GATEWAY]
        .map(str::to_owned)
        .into_iter()
        .chain(arguments.est_alias.clone())
        .collect();
    let config = tls::server_config(&city.ca, &names)?;
    let listener = listen(arguments.listen).await?;
    let port = port(&listener);
    let control = match arguments.control {
        Some(address) if !address.ip().is_loopback() => return Err(Ended::OpenControl),
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let control_port = control.as_ref().map(self::port);
    if let Some(listener) = control {
        let routes = control::routes(Arc::clone(&city));
        tokio::spawn(async move { axum::serve(listener, routes).await });
    }
    let serving = tokio::spawn(tls::serve(Arc::clone(&city), config, listener));
    if let Some(path) = &arguments.ready_file {
        write_ready_file(path, &arguments, port, control_port)
            .map_err(|error| Ended::ReadyFile(path.clone(), error))?;
    }
    tracing::info!(port, control_port, "the city is open");
    tokio::select! {
        outcome = serving => outcome.unwrap_or(Ok(())).map_err(Ended::Serve),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Ended> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Ended::Listen(address, error))
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().map_or(0, |address| address.port())
}

/// Written beside and renamed, so that whoever waits for the file never reads half of it.
fn write_ready_file(
    path: &Path,
    arguments: &Arguments,
    port: u16,
    control_port: Option<u16>,
) -> Result<(), std::io::Error> {
    let mut ready = if arguments.seed {
        seed::described()
    } else {
        serde_json::json!({})
    };
    ready["port"] = port.into();
    ready["control_port"] = control_port.into();
    ready["ca_file"] = arguments
        .dir
        .join("ca.pem")
        .canonicalize()?
        .display()
        .to_string()
        .into();
    ready["pid"] = std::process::id().into();
    ready["hosts"] =
        serde_json::json!({ "renraku": RENRAKU, "est": EST, "gateway": GATEWAY, "box": BOX });
    let draft = path.with_extension("draft");
    std::fs::write(&draft, serde_json::to_vec_pretty(&ready)?)?;
    std::fs::rename(draft, path)
}
