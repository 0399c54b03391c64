//! `gatewayctl audit verify`: needs no running gatewayd, no TPM and no network.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use gateway_audit::{CityCopy, Options, Report, verify};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::Failed;
use crate::moment::shown;
use crate::table::aligned;

/// Where the city's root is on a box.
const ANCHOR: &str = "/etc/renraku-gateway/city-anchor.pem";

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// 記録のディレクトリー / The log's directory, or a copy of it.
    #[arg(long, default_value = "/var/lib/renraku-gateway/audit")]
    dir: PathBuf,
    /// 市の認証局（PEM）/ The city's root, to check its countersignatures.
    #[arg(long)]
    anchor: Option<PathBuf>,
    /// 市の控え / What the city has kept, as it exports it.
    #[arg(long)]
    city_checkpoints: Option<PathBuf>,
    /// JSONで出力する / As JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Why the log could not be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// A file or the directory.
    #[error("{} が読めません / cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The directory is there and no log is in it.
    #[error("{} に監査記録がありません / holds no audit log", .0.display())]
    NoLog(PathBuf),
    /// The root is no certificate.
    #[error("{} は証明書ではありません / is no certificate", .0.display())]
    Anchor(PathBuf),
    /// The city's copy has a line that is none of its.
    #[error("{} の{line}行目が読めません / cannot be read at line {line}", .file.display())]
    City {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
}

/// # Errors
/// [`VerifyError`], when there is nothing to say about the log.
pub(crate) fn run(arguments: &Verify) -> Result<u8, Failed> {
    let options = Options {
        roots: roots(arguments.anchor.as_deref())?,
        city: arguments
            .city_checkpoints
            .as_deref()
            .map(city)
            .transpose()?,
        written: None,
    };
    let unreadable = |error| VerifyError::Read(arguments.dir.clone(), error);
    if fs::read_dir(&arguments.dir)
        .map_err(unreadable)?
        .next()
        .is_none()
    {
        return Err(VerifyError::NoLog(arguments.dir.clone()).into());
    }
    let report = verify(&arguments.dir, &options).map_err(unreadable)?;
    if arguments.json {
        println!("{:#}", as_json(&report));
    } else {
        print!("{}", page(&report));
    }
    Ok(u8::from(!report.findings.is_empty()))
}

/// The roots named, or those of the box if it has any.
fn roots(named: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, VerifyError> {
    let path = match named {
        Some(path) => path,
        None if Path::new(ANCHOR).exists() => Path::new(ANCHOR),
        None => return Ok(Vec::new()),
    };
    let bytes = fs::read(path).map_err(|error| VerifyError::Read(path.to_owned(), error))?;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| VerifyError::Anchor(path.to_owned()))?;
    if roots.is_empty() {
        return Err(VerifyError::Anchor(path.to_owned()));
    }
    Ok(roots)
}

fn city(path: &Path) -> Result<CityCopy, VerifyError> {
    let text =
        fs::read_to_string(path).map_err(|error| VerifyError::Read(path.to_owned(), error))?;
    CityCopy::parse(&text).map_err(|line| VerifyError::City {
        file: path.to_owned(),
        line,
    })
}

fn page(report: &Report) -> String {
    let log = report
        .log
        .map_or_else(|| "–".to_owned(), |log| log.to_string());
    let acknowledged = report.acknowledged.map_or_else(
        || "–".to_owned(),
        |(count, at)| format!("{count}番まで（{}）", shown(Some(at.0))),
    );
    let mut out = aligned(&[
        vec!["記録".to_owned(), log],
        vec![
            "件数".to_owned(),
            format!("{}番から{}番まで", report.first, report.count),
        ],
        vec![
            "機器の署名".to_owned(),
            format!("{}番まで（{}件）", report.signed_to, report.checkpoints),
        ],
        vec!["市の確認".to_owned(), acknowledged],
    ]);
    out.push('\n');
    for finding in &report.findings {
        out += &format!("×  {finding}\n");
    }
    for note in &report.notes {
        out += &format!("注  {}\n", note.sentence());
    }
    if report.after_fault {
        out += "注  この記録は、前の記録に異常が見つかった後に始まりました（前の記録は audit-set-aside-… にあります）\n";
    }
    out += &match report.findings.first() {
        None => "異常は見つかりませんでした / nothing is wrong\n".to_owned(),
        Some(first) => match first.entry {
            Some(entry) => format!(
                "最初の異常: {entry}番 / the first entry that cannot be believed: {entry}\n"
            ),
            None => "異常が見つかりました / findings\n".to_owned(),
        },
    };
    out
}

fn as_json(report: &Report) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "fault": finding.fault.id(),
                "entry": finding.entry,
                "file": finding.file.file_name().map(|name| name.to_string_lossy()),
                "line": finding.line,
                "text": finding.fault.sentence(),
            })
        })
        .collect();
    json!({
        "log": report.log,
        "first": report.first,
        "count": report.count,
        "head": report.head,
        "checkpoints": report.checkpoints,
        "receipts": report.receipts,
        "signed_to": report.signed_to,
        "acknowledged": report.acknowledged.map(|(count, at)| json!({ "entry": count, "time": at.0 })),
        "after_fault": report.after_fault,
        "findings": findings,
        "notes": report.notes.iter().map(|note| note.id()).collect::<Vec<_>>(),
    })
}
