//! The project's own commands: `cargo xtask demo`, `test`, `bench`, `fuzz`, `image`, `tuf-conformance` and `setup`.
//!
//! It does not contain anything the product needs at run time.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal"
)]

mod bench;
mod conformance;
mod debian;
mod demo;
mod fuzz;
mod image;
mod lanes;
mod steps;
mod suite;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use debian::Purpose;

/// Builds, shows, tests and measures the facility gateway.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start a whole facility on this machine: TPM, city, antivirus, gateway; Ctrl-C ends it.
    Demo(demo::Arguments),
    /// Run everything that must hold before a change is taken.
    Test(suite::Arguments),
    /// Measure the gateway beside nginx and HAProxy.
    Bench(bench::Arguments),
    /// Feed the parsers with what nobody thought of, for a bounded time.
    Fuzz(fuzz::Arguments),
    /// Build the bootable image from this tree: two slots, signed kernels, a disk for trying, a bill of materials.
    Image(image::Arguments),
    /// Run the conformance suite of The Update Framework, from a checkout of it, against our client.
    TufConformance(conformance::Arguments),
    /// Only install the Debian packages that the other commands need.
    Setup,
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    let purpose = match task {
        Task::Demo(_) => Purpose::Demo,
        Task::Test(_) | Task::TufConformance(_) => Purpose::Test,
        Task::Bench(_) => Purpose::Bench,
        Task::Fuzz(_) => Purpose::Fuzz,
        Task::Image(_) => Purpose::Image,
        Task::Setup => Purpose::Everything,
    };
    if let Err(error) = debian::ensure(purpose) {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    match task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => suite::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Image(arguments) => image::run(&arguments),
        Task::TufConformance(arguments) => conformance::run(&arguments),
        Task::Setup => ExitCode::SUCCESS,
    }
}
