//! `cargo xtask demo`: in construction.

use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave the provisioning of the box to you.
    #[arg(long)]
    manual: bool,
    /// Written when everything answers.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// The box's HTTPS port.
    #[arg(long)]
    port: Option<u16>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    eprintln!("the demo is in construction: {arguments:?}");
    ExitCode::FAILURE
}
