//! `cargo xtask test`: everything that must hold before a change is taken, and `--quick`, the inner loop.
//!
//! It does not contain tests; it runs those of the workspace and the tools around them.

use std::process::{Command, ExitCode};
use std::time::Instant;

use test_harness::binaries;

use crate::steps::Run;

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only formatting, lints and the unit tests: no browser, no end-to-end tests.
    #[arg(long)]
    quick: bool,
    /// Only the box itself: make the image for trying and boot it (root; about a quarter of an hour).
    #[arg(long, conflicts_with = "quick")]
    image: bool,
}

/// End-to-end tests start whole facilities, one at a time. (Two at a time were tried: the trial of a database, which is as nice as
/// can be, then waits longer than its tests do.)
const SERIAL: &str = "gateway-e2e";

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let start = Instant::now();
    let root = binaries::workspace().canonicalize().unwrap_or_default();
    let mut run = match Run::new(&root.join("target/xtask")) {
        Ok(run) => run,
        Err(error) => {
            eprintln!("target/xtask cannot be created: {error}");
            return ExitCode::FAILURE;
        }
    };
    if !arguments.image {
        style(&mut run);
    }
    if arguments.image {
        booted(&mut run);
    } else if arguments.quick {
        run.step(
            "unit tests",
            cargo(["test", "--workspace", "--lib", "--bins", "--no-fail-fast"]),
        );
    } else {
        everything(&mut run);
    }
    let passed = run.close();
    println!("in {} s", start.elapsed().as_secs());
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn style(run: &mut Run) {
    if answers("fmt") {
        run.step("formatting", cargo(["fmt", "--all", "--check"]));
    } else {
        run.skip("formatting", "cargo fmt is not installed (rustfmt)");
    }
    if answers("clippy") {
        run.step(
            "lints",
            cargo([
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]),
        );
    } else {
        run.skip("lints", "cargo clippy is not installed");
    }
}

fn everything(run: &mut Run) {
    // Tests start our binaries, and load the library that counts crash points, from the target directory, so these have to be
    // there and current.
    if !run.step("build", cargo(["build", "--workspace", "--bins", "--lib"])) {
        return;
    }
    run.step(
        "tests of each crate",
        cargo(["test", "--workspace", "--exclude", SERIAL, "--no-fail-fast"]),
    );
    // Fetched before, so that the tests themselves speak to this machine only.
    run.step(
        "accessibility rules (axe-core)",
        Command::new("bash")
            .arg(binaries::workspace().join("tests/e2e/axe-core.sh"))
            .current_dir(binaries::workspace()),
    );
    run.step(
        "end-to-end tests",
        cargo([
            "test",
            "--package",
            SERIAL,
            "--no-fail-fast",
            "--",
            "--test-threads",
            "1",
        ]),
    );
    let mut documentation = cargo(["doc", "--workspace", "--no-deps"]);
    run.step(
        "documentation",
        documentation.env("RUSTDOCFLAGS", "-D warnings"),
    );
    city_interface(run);
    if answers("deny") {
        run.step(
            "licences and advisories",
            cargo(["deny", "--all-features", "check"]),
        );
    } else {
        run.skip(
            "licences and advisories",
            "cargo-deny is not installed; the architecture test still holds the licences",
        );
    }
}

/// The image, built and booted.
fn booted(run: &mut Run) {
    let image = cargo([
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--",
        "image",
        "--trial",
    ]);
    if run.step("bootable image", image) {
        run.step(
            "tests of the booted box",
            cargo([
                "test",
                "--package",
                SERIAL,
                "--features",
                "image",
                "--test",
                "image_boot",
                "--",
                "--test-threads",
                "1",
            ]),
        );
    }
}

/// The reference city against its own OpenAPI description.
fn city_interface(run: &mut Run) {
    run.step(
        "city interface (schemathesis)",
        Command::new("bash")
            .arg(binaries::workspace().join("tests/city/schemathesis.sh"))
            .current_dir(binaries::workspace()),
    );
}

/// The cargo that runs this, on the whole workspace.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(binaries::workspace());
    // The message of a failed assertion tells more than the way to it.
    command.env("RUST_BACKTRACE", "0");
    command
}

/// Whether cargo knows the subcommand.
fn answers(subcommand: &str) -> bool {
    cargo([subcommand, "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
