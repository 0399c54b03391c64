//! The subcommands: each calls the library once and says how it went.

mod prompt;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use gateway_provisioning::{
    AccessCode, CertificateNumber, Failure, ImportPassword, Label, Outcome, Provisioner,
    ProvisioningConfig, ProvisioningError, Reason, Renewal, Renewals, StateLock, Status, Step,
    open_vault, open_vault_anew, provenance_ja,
};
use zeroize::Zeroizing;

use crate::{Arguments, Command};
use prompt::{PromptError, Source};

/// What must be typed before a box is taken out of service.
const CONFIRMATIONS: [&str; 2] = ["消去する", "ERASE"];

/// No dump of this process: it has number and code in memory for a while.
pub(crate) fn forbid_core_dumps() -> nix::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)
}

/// The TPM library prints its own messages over ours, and takes its orders from the environment only, which a running
/// process cannot change safely: so this program starts itself again with them, before it has read anything.
pub(crate) fn quieten_the_tpm_library() {
    const ORDERS: &str = "TSS2_LOG";
    if std::env::var_os(ORDERS).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Only returns when it did not work, and then the messages do no harm.
    let error = again.args(arguments).env(ORDERS, "all+NONE").exec();
    tracing::debug!(%error, "could not start again");
}

/// Technical messages go to standard error when the environment variable `RENRAKU_LOG` asks for them.
pub(crate) fn start_logging() {
    if let Ok(filter) = std::env::var("RENRAKU_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
    }
}

enum Ended {
    Failed(ProvisioningError),
    Usage(String),
}

impl From<ProvisioningError> for Ended {
    fn from(error: ProvisioningError) -> Self {
        Self::Failed(error)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.into())
    }
}

impl From<PromptError> for Ended {
    fn from(error: PromptError) -> Self {
        Self::Usage(error.sentence_ja())
    }
}

pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    match dispatch(arguments).await {
        Ok(code) => code,
        Err(Ended::Usage(sentence)) => {
            eprintln!("{sentence}");
            ExitCode::from(2)
        }
        Err(Ended::Failed(error)) => {
            eprintln!("{}", error.failure().line_ja());
            tracing::debug!(error = &error as &dyn std::error::Error, "failed");
            ExitCode::from(exit_status(error.failure()))
        }
    }
}

async fn dispatch(arguments: Arguments) -> Result<ExitCode, Ended> {
    let config = ProvisioningConfig::load(&arguments.config).map_err(|error| {
        let reason = std::error::Error::source(&error)
            .map_or_else(String::new, |source| format!("\n{source}"));
        Ended::Usage(format!(
            "設定ファイルを使えません: {}{reason}",
            arguments.config.display()
        ))
    })?;
    match arguments.command {
        Command::Enrol {
            label,
            number_fd,
            stdin,
            after_tpm_change,
        } => {
            let (number, code) = number_and_code(Source::choose(number_fd, stdin))?;
            let provisioner = if after_tpm_change {
                open_anew(config)?
            } else {
                open(config)?
            };
            finished(&provisioner.enrol(&label, number, code, &announce).await?)
        }
        Command::Resume { label } => finished(&open(config)?.resume(&label, &announce).await?),
        Command::Status => status(&open(config)?.status().await?),
        Command::List => Ok(list(&open(config)?.status().await?)),
        Command::Renew { now } => {
            let provisioner = open(config)?;
            let renewals = if now {
                provisioner.renew_now(&announce).await?
            } else {
                provisioner.renew_if_due(&announce).await?
            };
            Ok(renewed(&renewals))
        }
        Command::Import {
            file,
            label,
            password_fd,
            stdin,
        } => import(config, &file, &label, Source::choose(password_fd, stdin)).await,
        Command::Decommission {
            reason,
            yes_erase,
            json,
        } => decommission(config, reason.into(), yes_erase, json).await,
    }
}

fn open(config: ProvisioningConfig) -> Result<Provisioner, Ended> {
    let lock = Arc::new(StateLock::acquire(&config.state_dir)?);
    let vault = open_vault(&config)?;
    Ok(Provisioner::new(config, vault, lock)?)
}

fn open_anew(config: ProvisioningConfig) -> Result<Provisioner, Ended> {
    let lock = Arc::new(StateLock::acquire(&config.state_dir)?);
    let vault = open_vault_anew(&config, &lock)?;
    Ok(Provisioner::new(config, vault, lock)?)
}

fn number_and_code(source: Source) -> Result<(CertificateNumber, AccessCode), Ended> {
    let mut input = source.open()?;
    let number = input.line("電子証明書取得用番号（画面には出ません）: ")?;
    let number = CertificateNumber::parse(number).map_err(Failure::NumberMistyped)?;
    let code = input.line("アクセスコード（画面には出ません）: ")?;
    let code = AccessCode::parse(code).map_err(Failure::CodeMistyped)?;
    Ok((number, code))
}

async fn import(
    config: ProvisioningConfig,
    file: &Path,
    label: &Label,
    source: Source,
) -> Result<ExitCode, Ended> {
    let content = std::fs::read(file)
        .map(Zeroizing::new)
        .map_err(|error| Ended::Usage(format!("{} を読めません: {error}", file.display())))?;
    let password = ImportPassword::new(
        source
            .open()?
            .line("証明書ファイルのパスワード（画面には出ません）: ")?,
    );
    finished(
        &open(config)?
            .import_p12(label, content, password, &announce)
            .await?,
    )
}

async fn decommission(
    config: ProvisioningConfig,
    reason: Reason,
    yes_erase: bool,
    json: bool,
) -> Result<ExitCode, Ended> {
    if !yes_erase {
        println!("この装置の電子証明書を失効させ、鍵を消します。元には戻せません。");
        let typed = Source::Terminal
            .open()?
            .visible_line("続けるには「消去する」（または ERASE）と入力してください: ")?;
        if !CONFIRMATIONS.contains(&typed.trim()) {
            return Err(Ended::Usage("中止しました。何も変更していません。".into()));
        }
    }
    let lock = Arc::new(StateLock::acquire(&config.state_dir)?);
    let vault = match open_vault(&config) {
        // The TPM was cleared already, by an earlier attempt or otherwise: the keys of before are then tried on it as it
        // is now.
        Err(error) if matches!(error.failure(), Failure::KeyLost | Failure::TpmExchanged) => {
            open_vault_anew(&config, &lock)?
        }
        other => other?,
    };
    let record = Provisioner::new(config, vault, lock)?
        .decommission(reason)
        .await?;
    println!(
        "{}",
        if json {
            record.json()
        } else {
            record.text_ja()
        }
    );
    Ok(ExitCode::SUCCESS)
}

fn announce(step: Step) -> std::ops::ControlFlow<()> {
    eprintln!("… {}", step.sentence_ja());
    std::ops::ControlFlow::Continue(())
}

fn finished(outcome: &Outcome) -> Result<ExitCode, Ended> {
    println!(
        "{}{}［{}］",
        outcome.sentence_ja(),
        outcome.next_step_ja(),
        outcome.code()
    );
    Ok(match outcome {
        Outcome::Provisioned => ExitCode::SUCCESS,
        Outcome::WaitingForApproval { .. } => ExitCode::from(5),
        Outcome::AwaitingTrial(_) | Outcome::AwaitingLan(_) => ExitCode::from(4),
    })
}

fn status(status: &Status) -> Result<ExitCode, Ended> {
    if status.decommissioning {
        return Err(Failure::Decommissioning.into());
    }
    if status.certificates.is_empty() {
        return Err(Failure::NotProvisioned.into());
    }
    for certificate in &status.certificates {
        println!("{}: {}", certificate.label, certificate.state.label_ja());
        if let Some(fault) = &certificate.fault {
            println!("  {}", fault.line_ja());
        }
        if let Some(warning) = &certificate.warning {
            println!("  {}", warning.sentence_ja());
        }
    }
    Ok(if status.is_ready() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list(status: &Status) -> ExitCode {
    let mut any = false;
    for identity in status
        .certificates
        .iter()
        .filter_map(|certificate| certificate.identity.as_ref())
    {
        any = true;
        println!(
            "{}\t{}（{}）\t{}\t{}まで\tシリアル番号 {}",
            identity.label,
            identity.facility_name,
            identity.facility_id,
            provenance_ja(identity.provenance),
            identity.not_after.date(),
            identity.serial,
        );
    }
    if !any {
        println!("電子証明書は入っていません。");
    }
    ExitCode::SUCCESS
}

fn renewed(renewals: &Renewals) -> ExitCode {
    let mut worst = 0;
    if renewals.certificates.is_empty() {
        println!("更新の対象となる電子証明書はありません。");
    }
    for (label, renewal) in &renewals.certificates {
        match renewal {
            Renewal::NotDue { due } => println!(
                "{label}: まだ更新の時期ではありません（{}から）。",
                due.date()
            ),
            Renewal::Renewed => println!("{label}: 更新しました。"),
            Renewal::OnItsWay(outcome) => {
                worst = worst.max(4);
                println!(
                    "{label}: {}{}",
                    outcome.sentence_ja(),
                    outcome.next_step_ja()
                );
            }
            Renewal::Failed(error) => {
                worst = worst.max(exit_status(error.failure()));
                println!("{label}: {}", error.failure().line_ja());
            }
        }
    }
    if renewals.lan_replaced {
        println!("施設内LAN用の証明書を新しくしました。");
    }
    if let Some(error) = &renewals.lan_failed {
        worst = worst.max(exit_status(error.failure()));
        println!("施設内LAN用の証明書: {}", error.failure().line_ja());
    }
    ExitCode::from(worst)
}

/// The statuses of the module's header.
const fn exit_status(failure: &Failure) -> u8 {
    match failure {
        Failure::AnchorUnusable | Failure::AlreadyProvisioned => 2,
        Failure::NumberMistyped(_)
        | Failure::CodeMistyped(_)
        | Failure::WrongNumberOrCode { .. }
        | Failure::EntryNeeded
        | Failure::ImportUnreadable
        | Failure::ImportRsa
        | Failure::ImportUnsuitable => 3,
        Failure::NameNotFound
        | Failure::NoNetwork
        | Failure::ConnectionLost
        | Failure::CityBusy { .. } => 4,
        Failure::TpmMissing
        | Failure::TpmBusy
        | Failure::SoftwareTpm
        | Failure::TpmOwned
        | Failure::ClearUnproven => 6,
        Failure::DiskFull | Failure::DiskUnusable | Failure::JournalDamaged => 7,
        Failure::InUse => 8,
        Failure::NotTheCity
        | Failure::ClockBehind { .. }
        | Failure::ClockAhead { .. }
        | Failure::ClockDiffers { .. } => 9,
        Failure::NumberLocked
        | Failure::NumberUsed
        | Failure::NumberExpired
        | Failure::Revoked
        | Failure::Expired
        | Failure::KeyLost
        | Failure::TpmExchanged => 10,
        _ => 1,
    }
}
