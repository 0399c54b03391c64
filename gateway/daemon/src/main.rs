//! gatewayd: the facility gateway's daemon. Reads its configuration and hands it to [`startup`]; decides nothing.

mod accesses;
mod antivirus;
mod attachments;
mod audit;
mod box_posture;
mod break_glass;
mod certificates;
mod clock;
mod config;
mod control;
mod desk;
mod desk_accesses;
mod desk_break_glass;
mod desk_devices;
mod desk_leaving;
mod desk_offline;
mod desk_recovery;
mod desk_registers;
mod desk_report;
mod desk_waivers;
mod desks;
mod devices;
mod following;
mod key_roots;
mod late_vault;
mod ledger_file;
mod measure;
mod offline;
mod pages;
mod posture;
mod process;
mod progress;
mod record_keeping;
mod registers;
mod reporting;
mod setup_certificate;
mod signed_channel;
mod sockets;
mod startup;
mod steps;
mod store_bounds;
mod stored_notes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use config::{Config, ConfigError};

/// 施設ゲートウェイの常駐プログラム / The facility gateway's daemon.
#[derive(Debug, Parser)]
#[command(name = "gatewayd", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "/etc/renraku-gateway/gateway.toml")]
    config: PathBuf,
    /// Only check the configuration file.
    #[arg(long)]
    check: bool,
}

/// sysexits.h: the configuration is wrong. systemd does not restart on it (RestartPreventExitStatus).
const EX_CONFIG: u8 = 78;

/// How long work that blocks may go on after everything was closed.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    gateway_journal::start("gatewayd");
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            report(&error);
            return ExitCode::from(EX_CONFIG);
        }
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    if let Err(error) = process::forbid_core_dumps() {
        tracing::error!(event = "not-started", %error, "core dumps cannot be forbidden");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(startup::run(config));
            // A TPM that does not answer must not hold up the end: what blocks on it is left behind.
            runtime.shutdown_timeout(LAST_WORDS);
            outcome
        }
        Err(error) => Err(startup::StartupError::System("threads", error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = "not-started", error = %certificates::chain(&error), "not started");
            ExitCode::FAILURE
        }
    }
}

/// Every fault in the configuration, a line each.
fn report(error: &ConfigError) {
    match error {
        ConfigError::Read(path, source) => {
            tracing::error!(event = "config-fault", file = %path.display(), %source, "the configuration cannot be read");
        }
        ConfigError::Faults(faults) => {
            for fault in faults {
                tracing::error!(
                    event = "config-fault",
                    line = fault.line,
                    key = fault.key,
                    what = fault.what,
                    "{fault}"
                );
            }
        }
    }
}
