//! gatewayctl: asks the running gatewayd how the box is, and verifies an audit log offline. Changes nothing.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people and scripts"
)]

mod accesses;
mod audit;
mod moment;
mod notes;
mod report;
mod socket;
mod status;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// 施設ゲートウェイの状態を調べる / How the facility gateway is.
#[derive(Debug, Parser)]
#[command(name = "gatewayctl", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// いまの状態 / How the box is now. Exit code: 0 asked, 2 not answered.
    Status(Ask),
    /// 規約の条ごとの点検結果 / What each article comes to.
    ///
    /// Exit code: 0 all pass, warn or do not apply; 1 something fails; 3 nothing fails, something is unknown;
    /// 2 not answered.
    Report {
        /// その条だけ / Only this article of the terms of use.
        #[arg(long)]
        article: Option<u8>,
        #[command(flatten)]
        ask: Ask,
    },
    /// 保存した連絡が見られた回数（日ごと、31日間） / How often stored notes were looked at, by day.
    Accesses(Ask),
    /// 連絡と添付の保存の進み具合（数だけ） / How far the store of notes has got, in numbers. Exit code: 0 asked, 2 not answered.
    Notes(Ask),
    /// 監査記録 / The audit log.
    Audit {
        #[command(subcommand)]
        what: AuditWhat,
    },
}

#[derive(Debug, Subcommand)]
enum AuditWhat {
    /// 記録が変更されていないか検査する / Verify the log's files: offline, on a stopped box, on a copy.
    ///
    /// Exit code: 0 nothing is wrong; 1 findings; 2 it could not be verified.
    Verify(audit::Verify),
}

/// Where gatewayd answers, and how the answer is shown.
#[derive(Debug, Args)]
struct Ask {
    /// gatewaydの制御ソケット / gatewayd's control socket.
    #[arg(
        long,
        default_value = "/run/renraku-gateway/control.sock",
        env = "RENRAKU_CONTROL"
    )]
    socket: PathBuf,
    /// JSONで出力する / As JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// gatewayd.
    #[error(transparent)]
    Socket(#[from] socket::SocketError),
    /// The log.
    #[error(transparent)]
    Verify(#[from] audit::VerifyError),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Status(ask) => status::run(&ask),
        What::Report { article, ask } => report::run(&ask, article),
        What::Accesses(ask) => accesses::run(&ask),
        What::Notes(ask) => notes::run(&ask),
        What::Audit {
            what: AuditWhat::Verify(verify),
        } => audit::run(&verify),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::from(2)
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
