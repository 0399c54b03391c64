//! `cargo xtask test`: everything that must hold before a change is taken, and `--quick`, the inner loop.
//!
//! It does not contain tests; it runs those of the workspace and the tools around them.

use std::process::{Command, ExitCode};
use std::time::Instant;

use test_harness::binaries;

use crate::lanes::{self, Job, Program};
use crate::steps::Run;

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only formatting, lints and the unit tests: no browser, no end-to-end tests.
    #[arg(long)]
    quick: bool,
    /// Only the box itself: make the image for trying and boot it in every trouble there is a test for (root; over an hour).
    #[arg(long, conflicts_with = "quick")]
    image: bool,
}

/// The folder of the end-to-end tests.
const END_TO_END: &str = "e2e";

/// The end-to-end tests that boot the image.
const BOOTED: &str = "image_boot";

/// Those of them that belong to every run; the others, each with many starts, are `--image`'s.
const BOOTED_ALWAYS: [&str; 2] = ["day::", "root::"];

/// Programs of end-to-end tests that measure time, or in which a database is tried as nicely as can be, have the machine to
/// themselves.
const ALONE: [&str; 4] = [
    "antivirus_checks",
    "antivirus_releases",
    "isolation",
    "sandbox",
];

/// The programs that take longest, longest first, so that none of them is the last and has one processor idle.
const LONG: [&str; 14] = [
    BOOTED,
    "store_crashes",
    "devices_checks",
    "trouble",
    "data_path",
    "console_exceptions",
    "attachments",
    "power_cuts",
    "demo",
    "offline_pin",
    "key_root",
    "gatewayd",
    "enrolment",
    "trouble_tpm",
];

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
    let build = cargo([
        "build",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--features",
        "gateway-e2e/image",
        "--message-format",
        "json-render-diagnostics",
    ]);
    if !run.step("build", build) {
        return;
    }
    let mut programs = lanes::programs(&run.output("build"));
    programs.sort_by_key(|program| {
        LONG.iter()
            .position(|name| *name == program.name)
            .unwrap_or(LONG.len())
    });
    let (whole, parts): (Vec<Program>, Vec<Program>) = programs
        .into_iter()
        .partition(|program| program.package == END_TO_END);
    let mut jobs: Vec<Job> = parts.iter().map(job).collect();
    // Without tests there is nothing to boot it for.
    if !jobs.is_empty() {
        jobs.insert(0, bootable_image());
    }
    run.in_lanes("tests of each crate", jobs);
    // Fetched before, so that the tests themselves speak to this machine only.
    run.step(
        "accessibility rules (axe-core)",
        Command::new("bash")
            .arg(binaries::workspace().join("tests/e2e/axe-core.sh"))
            .current_dir(binaries::workspace()),
    );
    end_to_end(run, &whole);
    run.step(
        "examples in documents",
        cargo(["test", "--workspace", "--doc"]),
    );
    let mut documentation = cargo(["doc", "--workspace", "--no-deps"]);
    run.step(
        "documentation",
        documentation.env("RUSTDOCFLAGS", "-D warnings"),
    );
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

/// Whole facilities: first those that need the machine to themselves, then two at a time; beside them the reference city against
/// its own OpenAPI description.
fn end_to_end(run: &mut Run, programs: &[Program]) {
    let (alone, shared): (Vec<&Program>, Vec<&Program>) = programs
        .iter()
        .partition(|program| ALONE.contains(&program.name.as_str()));
    for program in alone {
        run.step(&format!("end to end, {}", program.name), program.command());
    }
    let mut jobs: Vec<Job> = shared.into_iter().map(job).collect();
    // The city's description alone is not the tests.
    if !jobs.is_empty() {
        jobs.insert(0, city_interface());
    }
    run.in_lanes("end to end", jobs);
}

fn job(program: &Program) -> Job {
    let mut command = program.command();
    if program.package == END_TO_END && program.name == BOOTED {
        command.args(BOOTED_ALWAYS);
    }
    Job {
        name: format!("{} {}", program.package, program.name),
        command,
    }
}

/// The image for trying, of the programs that were built with the tests. Mostly one processor's work.
fn bootable_image() -> Job {
    let mut command = Command::new(binaries::ours("xtask").unwrap_or_default());
    command
        .args(["image", "--trial"])
        .env(
            binaries::BINARY_DIRECTORY,
            binaries::directory().unwrap_or_default(),
        )
        .current_dir(binaries::workspace());
    Job {
        name: "bootable image".to_owned(),
        command,
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
        "--variations",
    ]);
    if run.step("bootable image", image) {
        run.step(
            "tests of the booted box",
            cargo([
                "test",
                "--package",
                "gateway-e2e",
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
fn city_interface() -> Job {
    let mut command = Command::new("bash");
    command
        .arg(binaries::workspace().join("tests/city/schemathesis.sh"))
        .env(
            "REFERENCE_CITY",
            binaries::ours("reference-city").unwrap_or_default(),
        )
        .current_dir(binaries::workspace());
    Job {
        name: "city interface (schemathesis)".to_owned(),
        command,
    }
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
