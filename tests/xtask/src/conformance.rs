//! `cargo xtask tuf-conformance`: our TUF client under the conformance suite of The Update Framework.
//!
//! It does not contain the suite and does not fetch it: whoever runs this has a checkout of
//! `theupdateframework/tuf-conformance`. What the suite looks for is also covered by this tree's own tests, without it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use test_harness::binaries;

use crate::steps::Run;
use crate::suite::cargo;

/// What the suite imports, as its own `pyproject.toml` names it (PyPI).
const PYTHON: [&str; 4] = [
    "securesystemslib[crypto]==1.4.0",
    "tuf==7.0.0",
    "pytest==9.1.1",
    "pytest-json-report==1.5.0",
];

/// Options of `cargo xtask tuf-conformance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A checkout of the suite.
    #[arg(long)]
    suite: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let root = binaries::workspace().canonicalize().unwrap_or_default();
    let mut run = match Run::new(&root.join("target/xtask")) {
        Ok(run) => run,
        Err(error) => {
            eprintln!("target/xtask cannot be created: {error}");
            return ExitCode::FAILURE;
        }
    };
    if !arguments.suite.join("tuf_conformance").is_dir() {
        eprintln!(
            "{} is no checkout of the suite: it has no tuf_conformance folder",
            arguments.suite.display()
        );
        return ExitCode::from(2);
    }
    if steps(&mut run, &root, &arguments.suite) && run.close() {
        // pytest's own last lines: how many of how many.
        let log = root.join("target/xtask/tuf-conformance.log");
        let text = std::fs::read_to_string(log).unwrap_or_default();
        println!("{}", text.trim_end().lines().last().unwrap_or_default());
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn steps(run: &mut Run, root: &Path, suite: &Path) -> bool {
    let client = [
        "build",
        "--package",
        "gateway-tuf",
        "--example",
        "tuf-conformance-client",
    ];
    let environment = root.join("target/tuf-conformance");
    let python = environment.join("bin/python");
    if !run.step("build of the client", cargo(client)) {
        return false;
    }
    if !python.exists() {
        let mut made = Command::new("python3");
        made.args(["-m", "venv"]).arg(&environment);
        let mut filled = Command::new(&python);
        filled
            .args(["-m", "pip", "install", "--quiet"])
            .args(PYTHON);
        if !run.step("Python environment", made) || !run.step("what the suite imports", filled) {
            // A half-filled one would be taken for whole next time.
            let _ = std::fs::remove_dir_all(&environment);
            return false;
        }
    }
    let mut pytest = Command::new(python);
    pytest
        .args(["-m", "pytest", "--quiet", "tuf_conformance", "--entrypoint"])
        .arg(root.join("target/debug/examples/tuf-conformance-client"))
        .current_dir(suite);
    run.step("tuf-conformance", pytest)
}
