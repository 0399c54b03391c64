//! gateway-update: brings the box up to the release that the city has signed. Wires and words; everything else is in the library.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people and timers"
)]

mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gateway_policy::Timestamp;
use gateway_updater::UpdateError;
use gateway_updater::config::Config;
use gateway_updater::install::Judged;
use gateway_updater::reset;
use gateway_updater::work::{self, Checked};
use time::OffsetDateTime;

/// 施設ゲートウェイの更新 / Updates of the facility gateway.
///
/// Exit code: 0 done or nothing to do; 1 refused or not possible, with the reason; 2 a fault of the arguments; 3 it waits (wave, window, verdict);
/// 4 what runs is not well; 5 another gateway-update is at work.
#[derive(Debug, Parser)]
#[command(name = "gateway-update", version)]
struct Arguments {
    /// 設定ファイル / the configuration
    #[arg(
        long,
        default_value = "/etc/renraku-gateway/update.toml",
        env = "RENRAKU_UPDATE_CONFIG"
    )]
    config: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// 更新を確認し、入れる時間なら入れて再起動する / Looks for a release; installs it and restarts when that is due.
    Check {
        /// 市の配信内容の入った媒体のフォルダー / a directory with the city's repository, in place of the line
        #[arg(long)]
        medium: Option<PathBuf>,
    },
    /// 今のシステムが正しく動いているかを判定する / Judges what runs; a new version that is not good goes back.
    Health,
    /// 更新の状態を表示する / How things stand.
    Status {
        /// JSONで出力する / as JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// 次の起動でディスクの記録をすべて消すよう予約する / Has /var made anew at the next start.
    FactoryReset,
    /// 失敗した版を次の確認でもう一度試す / Has the version that failed tried once more, at the next check.
    Retry,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    gateway_journal::start("gateway-update");
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let reason = error.id();
            tracing::error!(
                event = "update-refused",
                reason,
                error = words::chain(&error),
                "not updated"
            );
            eprintln!("{}", words::refusal(&error));
            ExitCode::from(if matches!(error, UpdateError::Busy) {
                5
            } else {
                1
            })
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8, UpdateError> {
    let config = Config::read(&arguments.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| UpdateError::Config(error.to_string()))?;
    match &arguments.what {
        What::Check { medium } => {
            if let Some((judged, missing)) =
                runtime.block_on(work::overdue_verdict(&config, &now))?
            {
                words::tell_judged(judged, missing);
                println!("{}", words::judged(judged, missing));
                if judged != Judged::Good {
                    return Ok(4);
                }
            }
            let checked = runtime.block_on(work::check(&config, medium.as_deref(), &now))?;
            words::tell_checked(&checked);
            println!("{}", words::checked(&checked));
            let waits = matches!(checked, Checked::Waits(..) | Checked::Installed(..));
            Ok(if waits { 3 } else { 0 })
        }
        What::Health => {
            let (judged, missing) = runtime.block_on(work::health(&config, &now))?;
            words::tell_judged(judged, missing);
            println!("{}", words::judged(judged, missing));
            Ok(if judged == Judged::Good { 0 } else { 4 })
        }
        What::Status { json } => {
            let status = work::status(&config)?;
            if *json {
                println!("{:#}", words::status_json(&status));
            } else {
                print!("{}", words::status(&status));
            }
            Ok(0)
        }
        What::FactoryReset => {
            reset::request(&config.system).map_err(UpdateError::Reset)?;
            tracing::warn!(
                event = "factory-reset",
                reason = "UPD-RESET",
                "everything on the disk but the system is made anew at the next start"
            );
            println!("次の起動で、装置の中の記録をすべて消します。");
            Ok(0)
        }
        What::Retry => {
            let was = work::retry(&config)?;
            println!("{}", words::retried(was));
            Ok(0)
        }
    }
}

fn now() -> Timestamp {
    Timestamp(OffsetDateTime::now_utc().unix_timestamp())
}
