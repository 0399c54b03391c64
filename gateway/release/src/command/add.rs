//! The command `add`: what it takes, and the call of the library that it is.

use std::path::PathBuf;

use clap::Subcommand;
use gateway_release::{AntivirusRelease, Canary, ReleaseError, SoftwareRelease, Wave};
use time::OffsetDateTime;

use super::At;

#[derive(Debug, Subcommand)]
pub(super) enum Add {
    /// ポリシー / the facility policy
    Policy {
        #[command(flatten)]
        at: At,
        /// ポリシーのJSON / the policy
        file: PathBuf,
    },
    /// ウイルス定義 / an antivirus database
    Antivirus {
        #[command(flatten)]
        at: At,
        /// 定義ファイルだけが入ったフォルダー / a folder with the database's files and nothing else
        folder: PathBuf,
        /// 通し番号(前回より大きい) / the serial, higher than before
        #[arg(long)]
        serial: u64,
        /// 定義が作られた日時(RFC 3339) / when it was built
        #[arg(long)]
        built_at: String,
        /// 使ってよい期限(RFC 3339) / until when it may be used
        #[arg(long)]
        expires: String,
        /// この定義だけに入っているカナリアのシグネチャー名 / the name of the signature that only this release has
        #[arg(long)]
        canary_signature: String,
        /// そのシグネチャーが検出する無害な文字列 / the harmless text that it finds
        #[arg(long)]
        canary_content: String,
    },
    /// ソフトウェア / a software release
    Release {
        #[command(flatten)]
        at: At,
        /// リリースのファイルだけが入ったフォルダー / a folder with the release's files and nothing else
        folder: PathBuf,
        /// 版 / the version
        #[arg(long)]
        version: String,
        /// 対象の機種 / the hardware it is for
        #[arg(long)]
        hardware: String,
        /// イメージのルートハッシュ(root.img があるときは必須) / the root hash of its image, with root.img
        #[arg(long)]
        root_hash: Option<String>,
        /// 段階配信: 日時(RFC 3339)=千台あたりの台数。繰り返し可 / a wave: from when on, how many boxes of a thousand
        #[arg(long = "wave", value_name = "TIME=PER_MILLE")]
        waves: Vec<String>,
        /// これ以降は施設の時間帯を待たない(RFC 3339) / from when on boxes do not wait for their window
        #[arg(long)]
        deadline: Option<String>,
    },
}

pub(super) fn add(add: &Add, now: OffsetDateTime) -> Result<String, ReleaseError> {
    let repository = match add {
        Add::Policy { at, file } => {
            let repository = at.open()?;
            let policy =
                std::fs::read(file).map_err(|error| ReleaseError::File(file.clone(), error))?;
            repository.add_policy(&policy, now)?;
            repository
        }
        Add::Antivirus {
            at,
            folder,
            serial,
            built_at,
            expires,
            canary_signature,
            canary_content,
        } => {
            let repository = at.open()?;
            let release = AntivirusRelease {
                serial: *serial,
                built_at: moment(built_at)?,
                expires: moment(expires)?,
                files: Vec::new(),
                canary: Canary {
                    signature: canary_signature.clone(),
                    content: canary_content.clone(),
                },
            };
            repository.add_antivirus(folder, &release, now)?;
            repository
        }
        Add::Release {
            at,
            folder,
            version,
            hardware,
            root_hash,
            waves,
            deadline,
        } => {
            let repository = at.open()?;
            let release = SoftwareRelease {
                root_hash: root_hash.clone(),
                schedule: waves
                    .iter()
                    .map(|text| wave(text))
                    .collect::<Result<_, _>>()?,
                deadline: deadline.as_deref().map(moment).transpose()?,
                ..SoftwareRelease::new(version, hardware)
            };
            repository.add_release(folder, &release, now)?;
            repository
        }
    };
    Ok(format!(
        "{}署名を待ちます (waits for signatures)",
        repository.show()?
    ))
}

/// `TIME=PER_MILLE`.
fn wave(text: &str) -> Result<Wave, ReleaseError> {
    let malformed = || ReleaseError::Malformed(text.to_owned());
    let (time, per_mille) = text.rsplit_once('=').ok_or_else(malformed)?;
    Ok(Wave {
        not_before: moment(time)?,
        per_mille: per_mille.parse().map_err(|_| malformed())?,
    })
}

fn moment(text: &str) -> Result<String, ReleaseError> {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .map(|_| text.to_owned())
        .map_err(|_| ReleaseError::Malformed(text.to_owned()))
}
