//! `cargo xtask bench`: the gateway beside its peers, by the protocol in `docs/performance.md`.
//!
//! In construction: the measurements are still to come. This module will not assert times; it prints ratios.

use std::process::ExitCode;

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds per server; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    eprintln!(
        "the bench is in construction ({} rounds asked for)",
        arguments.rounds
    );
    ExitCode::FAILURE
}
