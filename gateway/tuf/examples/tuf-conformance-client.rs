//! The command that the conformance suite of The Update Framework drives (its `CLIENT-CLI.md`), over clear HTTP on loopback.
//!
//! It is no part of the product: the product has no transport without TLS. Run by `cargo xtask tuf-conformance`.

#![allow(
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use gateway_policy::Timestamp;
use gateway_tuf::{
    Body, Client, Duties, Fetching, Limits, Pieces, Store, Transport, TransportError,
};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type AnyError = Box<dyn Error + Send + Sync>;

/// A client of a TUF repository, as the conformance suite calls it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where accepted metadata is kept.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// Where metadata is published.
    #[arg(long)]
    metadata_url: Option<String>,
    /// Where targets are published.
    #[arg(long)]
    target_base_url: Option<String>,
    /// Where targets are written.
    #[arg(long)]
    target_dir: Option<PathBuf>,
    /// A target to fetch.
    #[arg(long)]
    target_name: Vec<String>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Trust this root.
    Init {
        /// The first root.
        root: PathBuf,
    },
    /// Bring the metadata up to date.
    Refresh,
    /// Bring the metadata up to date, and the named targets.
    Download,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(source) = cause {
                text = format!("{text}: {source}");
                cause = source.source();
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), AnyError> {
    let store = Store::open(&arguments.metadata_dir)?;
    if let Task::Init { root } = &arguments.task {
        std::fs::copy(root, arguments.metadata_dir.join("root.json"))?;
        return Ok(());
    }
    let repository = ClearHttp {
        metadata: arguments.metadata_url.clone().ok_or("no --metadata-url")?,
        targets: arguments.target_base_url.clone().unwrap_or_default(),
    };
    let client = Client::new(
        store,
        Vec::new(),
        Arc::new(repository),
        Limits::default(),
        Duties::AsDelegated,
    );
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut trusted = client
        .refresh(Timestamp(i64::try_from(since_epoch.as_secs())?))
        .await?;
    if let Task::Download = arguments.task {
        let folder = arguments.target_dir.as_ref().ok_or("no --target-dir")?;
        for name in &arguments.target_name {
            let target = trusted.target(name).await?;
            let to = folder.join(local(name));
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            trusted.fetch(&target, &to).await?;
        }
    }
    Ok(())
}

/// A name below the target directory for any target.
fn local(name: &str) -> PathBuf {
    Path::new(name)
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect()
}

#[derive(Debug)]
struct ClearHttp {
    metadata: String,
    targets: String,
}

impl ClearHttp {
    async fn get(&self, base: &str, path: &str) -> Result<Option<Body>, AnyError> {
        let base = base.trim_end_matches('/');
        let address: Uri = format!("{base}/{}", encoded(path)).parse()?;
        let authority = address.authority().ok_or("no host in the address")?;
        let port = authority.port_u16().unwrap_or(80);
        let tcp = TcpStream::connect((authority.host(), port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(async move { drop(connection.await) });
        let target = address.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(target)
            .header(http::header::HOST, authority.as_str())
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(Body {
                starts_at: 0,
                total: None,
                pieces: Box::new(Answer(response.into_body())),
            })),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(format!("{status}").into()),
        }
    }
}

/// Everything that a path may not hold, encoded; a percent sign too: a role's name comes encoded, and the server
/// is to see it so.
fn encoded(path: &str) -> String {
    path.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~/%".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

impl Transport for ClearHttp {
    fn metadata<'a>(&'a self, name: &'a str) -> Fetching<'a, Option<Body>> {
        Box::pin(async move {
            self.get(&self.metadata, name)
                .await
                .map_err(TransportError::Other)
        })
    }

    fn target<'a>(&'a self, path: &'a str, _from: u64) -> Fetching<'a, Option<Body>> {
        Box::pin(async move {
            self.get(&self.targets, path)
                .await
                .map_err(TransportError::Other)
        })
    }
}

struct Answer(Incoming);

impl Pieces for Answer {
    fn next(&mut self) -> Fetching<'_, Option<Bytes>> {
        Box::pin(async {
            loop {
                match self.0.frame().await {
                    None => return Ok(None),
                    Some(Err(error)) => return Err(TransportError::Other(error.into())),
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some(data));
                        }
                    }
                }
            }
        })
    }
}
