//! `gateway-provision`: the provisioning ceremony at a terminal, for a box without its setup page and for support.
//!
//! It does not do anything that the library does not, and it never takes a number, a code or a password from its
//! arguments, which every process of the machine can read.
//!
//! Exit status: 0 done; 1 failed; 2 wrong usage or configuration; 3 number, code, file or password not accepted; 4 city or
//! network not available, try again later; 5 the city approves by hand, come back later; 6 TPM; 7 disk; 8 another
//! process is at work; 9 clock or trust: do not repeat before it is solved; 10 a new number is needed.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to a person at a terminal"
)]

mod command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use gateway_provisioning::{Label, Reason};

/// 施設ゲートウェイの電子証明書を扱います。
#[derive(Debug, Parser)]
#[command(name = "gateway-provision", version)]
struct Arguments {
    /// 設定ファイル
    #[arg(long, default_value = "/etc/renraku-gateway/gateway.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// 番号とアクセスコードで電子証明書を取得します（途中からの続きもこれです）
    Enrol {
        /// 証明書の名前（追加の証明書には別の名前を付けます）
        #[arg(long, default_value = "main")]
        label: Label,
        /// 番号とアクセスコードを2行で読むファイル記述子
        #[arg(long, value_name = "FD", conflicts_with = "stdin")]
        number_fd: Option<u32>,
        /// 番号とアクセスコードを標準入力から2行で読みます
        #[arg(long)]
        stdin: bool,
        /// TPMの初期化・交換のあとで設定し直します（以前の証明書は使えなくなります）
        #[arg(long)]
        after_tpm_change: bool,
    },
    /// 番号の要らない続き（接続の確認、施設内LAN用の証明書）を行います
    Resume {
        /// 証明書の名前
        #[arg(long, default_value = "main")]
        label: Label,
    },
    /// 状態と次にすることを表示します
    Status,
    /// 入っている証明書を表示します
    List,
    /// 期限が近い証明書を更新します
    Renew {
        /// 期限に関わらず更新します
        #[arg(long)]
        now: bool,
    },
    /// 市から届いた証明書ファイル（PKCS#12）を取り込みます
    Import {
        /// ファイル
        file: PathBuf,
        /// 証明書の名前
        #[arg(long, default_value = "main")]
        label: Label,
        /// パスワードを1行で読むファイル記述子
        #[arg(long, value_name = "FD", conflicts_with = "stdin")]
        password_fd: Option<u32>,
        /// パスワードを標準入力から1行で読みます
        #[arg(long)]
        stdin: bool,
    },
    /// 装置の返却・廃棄: 失効を届け出て、鍵を消し、記録を表示します（元に戻せません）
    Decommission {
        /// 理由
        #[arg(long, value_enum)]
        reason: ReasonArgument,
        /// 確認の入力を省きます
        #[arg(long)]
        yes_erase: bool,
        /// 記録をJSONで表示します
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReasonArgument {
    /// 利用の廃止
    Leaving,
    /// 装置の交換
    Replaced,
    /// 装置の廃棄
    Disposed,
}

impl From<ReasonArgument> for Reason {
    fn from(argument: ReasonArgument) -> Self {
        match argument {
            ReasonArgument::Leaving => Self::Leaving,
            ReasonArgument::Replaced => Self::Replaced,
            ReasonArgument::Disposed => Self::Disposed,
        }
    }
}

fn main() -> ExitCode {
    // Before anything secret can be in memory.
    if let Err(error) = command::forbid_core_dumps() {
        eprintln!("メモリの書き出し（コアダンプ）を禁止できないため、開始しません: {error}");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    command::quieten_the_tpm_library();
    command::start_logging();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("開始できませんでした: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(command::run(arguments))
}
