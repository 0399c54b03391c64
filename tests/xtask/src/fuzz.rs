//! `cargo xtask fuzz`: the parsers that read what others wrote, fed by libFuzzer for a bounded time each.
//!
//! It does not keep what it finds anywhere but in `target/fuzz`; a finding becomes a seed and a named test by hand.

use std::process::{Command, ExitCode};

use test_harness::binaries;

use crate::steps::Run;

/// One target for each parser we own; the names are those of `tests/fuzz/fuzz_targets`.
const TARGETS: [&str; 16] = [
    "attachments",
    "framing",
    "websocket",
    "events",
    "multipart",
    "event_stream",
    "problem",
    "staff_field",
    "certificate_number",
    "csr",
    "device_report",
    "key_file",
    "policy",
    "ledger",
    "signed_channel",
    "release_parts",
];

/// Options of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let mut run = match Run::new(&binaries::workspace().join("target/xtask")) {
        Ok(run) => run,
        Err(error) => {
            eprintln!("target/xtask cannot be created: {error}");
            return ExitCode::FAILURE;
        }
    };
    let chosen = |name: &&str| arguments.target.as_deref().is_none_or(|only| only == *name);
    for target in TARGETS.iter().filter(|name| chosen(name)) {
        step(&mut run, target, arguments.seconds);
    }
    if run.close() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Builds a target if needed and runs it on its seeds and whatever it makes of them.
fn step(run: &mut Run, target: &str, seconds: u32) {
    let folder = binaries::workspace().join("tests/fuzz");
    let corpus = binaries::workspace()
        .join("target/fuzz/corpus")
        .join(target);
    if let Err(error) = std::fs::create_dir_all(&corpus) {
        eprintln!("{}: {error}", corpus.display());
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The instrumentation is set in tests/fuzz/.cargo/config.toml, which cargo finds from there only.
    command
        .current_dir(&folder)
        .args(["run", "--quiet", "--release", "--bin", target, "--"]);
    command
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=10", "-rss_limit_mb=2048"]);
    command.arg(format!(
        "-artifact_prefix={}/",
        corpus.with_extension("found").display()
    ));
    if target == "framing" {
        command.arg("-dict=framing.dict");
    }
    command.arg(&corpus).arg(folder.join("seeds").join(target));
    let _ = std::fs::create_dir_all(corpus.with_extension("found"));
    run.step(&format!("fuzz {target}"), command);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fuzz_target_of_the_tree_is_run() {
        let folder = binaries::workspace().join("tests/fuzz/fuzz_targets");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
            .collect();
        found.sort();
        let mut listed = TARGETS.map(str::to_owned);
        listed.sort();
        assert_eq!(found, listed);
    }
}
