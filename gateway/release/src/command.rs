//! The commands and their arguments.
//!
//! Each is one call of the library and one sentence.

mod add;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gateway_policy::Timestamp;
use gateway_release::{
    Algorithm, Cost, Days, OnlineKeys, Plan, PublicKey, ReleaseError, Repository, Role, RolePlan,
    SecretKey,
};
use gateway_tuf::{Client, Duties, Limits, Medium, Store};
use time::OffsetDateTime;

use crate::passphrase::obtain;
use add::{Add, add};

/// 施設ゲートウェイへの配信に署名し、公開する / Signs and publishes for the city's facility gateways.
///
/// 配信ディレクトリー(--repository)は、ウェブサーバーでもUSB媒体でもそのまま配れます。
/// 初回: key new (鍵の持ち主ごと) → init → sign (持ち主ごと) → publish
/// 日々: renew timestamp (自動) ・ add … → sign → publish
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// 鍵を作る / Make a signing key
    #[command(subcommand)]
    Key(KeyTask),
    /// 新しい配信ディレクトリーを用意する(署名はまだ) / Prepare a new repository, unsigned
    Init(Init),
    /// 配信するものを加える / Add something to be published
    #[command(subcommand)]
    Add(Add),
    /// 署名待ちのものに、この鍵で署名する / Sign everything that waits for this key
    Sign {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        key: KeyFile,
    },
    /// 別の場所で署名された写しから署名を集める / Take signatures over from a copy signed elsewhere
    Assemble {
        #[command(flatten)]
        at: At,
        /// 写し(配信ディレクトリー、またはそのstaging) / the copy
        copy: PathBuf,
    },
    /// 署名がそろったものを公開する / Publish what has all its signatures
    Publish {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        online: Online,
    },
    /// 有効期限を延ばす / Extend a role's validity
    Renew {
        #[command(flatten)]
        at: At,
        /// 役割 / the role; timestamp and snapshot are signed at once, others wait for signatures
        role: RoleName,
        /// 日数(既定は役割ごと) / days, by default those of the role
        #[arg(long)]
        days: Option<i64>,
        #[command(flatten)]
        online: OptionalOnline,
    },
    /// 役割の鍵やしきい値を替える / Replace keys or the threshold of a role
    Rotate {
        #[command(flatten)]
        at: At,
        /// 役割 / the role
        role: RoleName,
        /// 加える鍵(.pub) / a public key to add
        #[arg(long)]
        add: Vec<PathBuf>,
        /// 外す鍵のID(8文字以上) / the id of a key to remove, eight characters at least
        #[arg(long)]
        remove: Vec<String>,
        /// 必要な署名の数 / signatures needed
        #[arg(long)]
        threshold: Option<usize>,
    },
    /// 何が公開され、何が署名待ちか / What is published and what waits
    Show {
        #[command(flatten)]
        at: At,
    },
    /// もう使われないファイルを探す / Find files that no box asks for any more; removes nothing without --remove
    Prune {
        #[command(flatten)]
        at: At,
        /// 見つけたファイルを消す / remove what was found
        #[arg(long)]
        remove: bool,
    },
    /// 施設の機器と同じ手順で確かめる / Check everything the way a box does
    Verify {
        #[command(flatten)]
        at: At,
        /// 機器に入っている最初のroot / the root that boxes were shipped with (default: the repository's first)
        #[arg(long)]
        root: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum KeyTask {
    /// 鍵を1つ作り、パスフレーズで暗号化して書く / Make one key, encrypted under a passphrase
    New {
        /// 書き先。隣に公開鍵(.pub)もできる / where to; the public key goes beside it
        #[arg(long)]
        out: PathBuf,
        /// 方式 / the algorithm
        #[arg(long, value_enum, default_value = "p256")]
        algorithm: AlgorithmName,
        /// パスフレーズの入ったファイル / a file with the passphrase
        #[arg(long)]
        passphrase_file: Option<PathBuf>,
    },
    /// 公開鍵のIDを表示する / Show a public key's id
    Id {
        /// 公開鍵(.pub) / the public key
        public: PathBuf,
    },
}

#[derive(Debug, Args)]
struct At {
    /// 配信ディレクトリー / the repository
    #[arg(long, short = 'r')]
    repository: PathBuf,
}

impl At {
    fn open(&self) -> Result<Repository, ReleaseError> {
        Repository::open(&self.repository)
    }
}

#[derive(Debug, Args)]
struct KeyFile {
    /// 鍵のファイル / the key
    #[arg(long, short = 'k')]
    key: PathBuf,
    /// パスフレーズの入ったファイル / a file with the passphrase
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
}

impl KeyFile {
    fn read(&self) -> Result<SecretKey, ReleaseError> {
        read_key(&self.key, self.passphrase_file.as_deref())
    }
}

#[derive(Debug, Args)]
struct Online {
    /// snapshotの鍵 / the key of snapshot
    #[arg(long, required = true)]
    snapshot_key: Vec<PathBuf>,
    /// timestampの鍵 / the key of timestamp
    #[arg(long, required = true)]
    timestamp_key: Vec<PathBuf>,
    /// 両方の鍵のパスフレーズの入ったファイル / a file with the passphrase of both
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
}

impl Online {
    fn read(&self) -> Result<OnlineKeys, ReleaseError> {
        let file = self.passphrase_file.as_deref();
        Ok(OnlineKeys {
            snapshot: read_keys(&self.snapshot_key, file)?,
            timestamp: read_keys(&self.timestamp_key, file)?,
        })
    }
}

#[derive(Debug, Args)]
struct OptionalOnline {
    /// snapshotの鍵(snapshotを延ばすとき) / the key of snapshot, to renew it
    #[arg(long)]
    snapshot_key: Vec<PathBuf>,
    /// timestampの鍵(snapshotとtimestampを延ばすとき) / the key of timestamp, to renew either
    #[arg(long)]
    timestamp_key: Vec<PathBuf>,
    /// 鍵のパスフレーズの入ったファイル / a file with the passphrase of the keys
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Init {
    #[command(flatten)]
    at: At,
    /// rootの公開鍵(2つ以上) / public keys of root, two at least
    #[arg(long, required = true)]
    root_key: Vec<PathBuf>,
    /// rootに必要な署名の数(2以上) / signatures that root takes, two at least
    #[arg(long, default_value_t = 2)]
    root_threshold: usize,
    /// targetsの公開鍵 / public keys of targets
    #[arg(long, required = true)]
    targets_key: Vec<PathBuf>,
    /// targetsに必要な署名の数 / signatures that targets takes
    #[arg(long, default_value_t = 2)]
    targets_threshold: usize,
    /// releasesの公開鍵 / public keys of releases
    #[arg(long, required = true)]
    releases_key: Vec<PathBuf>,
    /// releasesに必要な署名の数 / signatures that releases takes
    #[arg(long, default_value_t = 1)]
    releases_threshold: usize,
    /// policyの公開鍵 / public keys of policy
    #[arg(long, required = true)]
    policy_key: Vec<PathBuf>,
    /// policyに必要な署名の数 / signatures that policy takes
    #[arg(long, default_value_t = 1)]
    policy_threshold: usize,
    /// antivirusの公開鍵 / public keys of antivirus
    #[arg(long, required = true)]
    antivirus_key: Vec<PathBuf>,
    /// antivirusに必要な署名の数 / signatures that antivirus takes
    #[arg(long, default_value_t = 1)]
    antivirus_threshold: usize,
    /// snapshotの公開鍵 / public keys of snapshot
    #[arg(long, required = true)]
    snapshot_key: Vec<PathBuf>,
    /// timestampの公開鍵 / public keys of timestamp
    #[arg(long, required = true)]
    timestamp_key: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AlgorithmName {
    P256,
    Ed25519,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    Root,
    Targets,
    Releases,
    Policy,
    Antivirus,
    Snapshot,
    Timestamp,
}

impl RoleName {
    const fn role(self) -> Role {
        match self {
            Self::Root => Role::Root,
            Self::Targets => Role::Targets,
            Self::Releases => Role::Releases,
            Self::Policy => Role::Policy,
            Self::Antivirus => Role::Antivirus,
            Self::Snapshot => Role::Snapshot,
            Self::Timestamp => Role::Timestamp,
        }
    }
}

/// Does what was asked, and says what was done.
pub(crate) fn run(arguments: &Arguments) -> Result<String, ReleaseError> {
    let now = OffsetDateTime::now_utc();
    match &arguments.task {
        Task::Key(task) => key(task),
        Task::Init(init) => {
            let repository = Repository::init(&init.at.repository, &plan(init)?, now)?;
            Ok(format!(
                "{}用意しました。鍵の持ち主それぞれが sign を実行してください。 (prepared; every key holder signs now)",
                repository.show()?
            ))
        }
        Task::Add(add) => self::add(add, now),
        Task::Sign { at, key } => {
            let repository = at.open()?;
            let signed = repository.sign(&key.read()?)?;
            Ok(format!(
                "{}署名しました (signed): {}",
                repository.show()?,
                names(&signed)
            ))
        }
        Task::Assemble { at, copy } => {
            let repository = at.open()?;
            let merged = repository.assemble(copy)?;
            Ok(format!(
                "{}署名を集めました (taken over): {}",
                repository.show()?,
                names(&merged)
            ))
        }
        Task::Publish { at, online } => {
            let repository = at.open()?;
            repository.publish(&online.read()?, now)?;
            Ok(format!("{}公開しました (published)", repository.show()?))
        }
        Task::Renew {
            at,
            role,
            days,
            online,
        } => renew(&at.open()?, role.role(), *days, online, now),
        Task::Rotate {
            at,
            role,
            add,
            remove,
            threshold,
        } => {
            let repository = at.open()?;
            let add = public_keys(add)?;
            repository.rotate(role.role(), &add, remove, *threshold, now)?;
            Ok(format!(
                "{}署名を待ちます (waits for signatures)",
                repository.show()?
            ))
        }
        Task::Prune { at, remove } => {
            let repository = at.open()?;
            let found = repository.prune(*remove)?;
            let list: String = found
                .files
                .iter()
                .map(|path| format!("{}\n", path.display()))
                .collect();
            let (count, bytes) = (found.files.len(), found.bytes);
            Ok(if *remove {
                format!("{list}{count}個 {bytes}バイトを消しました (removed)")
            } else {
                format!(
                    "{list}{count}個 {bytes}バイト。消すには --remove を付けてください (nothing removed; add --remove)"
                )
            })
        }
        Task::Show { at } => Ok(at.open()?.show()?.to_string()),
        Task::Verify { at, root } => verify(&at.open()?, root.as_deref(), now),
    }
}

fn key(task: &KeyTask) -> Result<String, ReleaseError> {
    match task {
        KeyTask::New {
            out,
            algorithm,
            passphrase_file,
        } => {
            if out.exists() {
                return Err(ReleaseError::Exists(out.clone()));
            }
            let phrase = obtain(passphrase_file.as_deref(), &out.display().to_string(), true)?;
            let key = SecretKey::generate(match algorithm {
                AlgorithmName::P256 => Algorithm::P256,
                AlgorithmName::Ed25519 => Algorithm::Ed25519,
            })?;
            key.write(out, &phrase, Cost::KEEPING)?;
            let mut public = out.as_os_str().to_owned();
            public.push(".pub");
            let public = PathBuf::from(public);
            key.public().write(&public)?;
            Ok(format!(
                "鍵 (key):     {}\n公開鍵 (public): {}\nID:          {}",
                out.display(),
                public.display(),
                key.public().id()
            ))
        }
        KeyTask::Id { public } => Ok(PublicKey::read(public)?.id()),
    }
}

fn plan(init: &Init) -> Result<Plan, ReleaseError> {
    let rows = [
        (Role::Root, &init.root_key, init.root_threshold),
        (Role::Targets, &init.targets_key, init.targets_threshold),
        (Role::Releases, &init.releases_key, init.releases_threshold),
        (Role::Policy, &init.policy_key, init.policy_threshold),
        (
            Role::Antivirus,
            &init.antivirus_key,
            init.antivirus_threshold,
        ),
        (Role::Snapshot, &init.snapshot_key, 1),
        (Role::Timestamp, &init.timestamp_key, 1),
    ];
    let mut roles = BTreeMap::new();
    for (role, keys, threshold) in rows {
        let keys = public_keys(keys)?;
        roles.insert(role, RolePlan { keys, threshold });
    }
    Plan::new(roles)
}

fn renew(
    repository: &Repository,
    role: Role,
    days: Option<i64>,
    online: &OptionalOnline,
    now: OffsetDateTime,
) -> Result<String, ReleaseError> {
    let file = online.passphrase_file.as_deref();
    match role {
        Role::Timestamp => {
            repository.renew_timestamp(&read_keys(&online.timestamp_key, file)?, now)?;
        }
        Role::Snapshot => {
            let keys = OnlineKeys {
                snapshot: read_keys(&online.snapshot_key, file)?,
                timestamp: read_keys(&online.timestamp_key, file)?,
            };
            repository.renew_snapshot(&keys, now)?;
        }
        role => repository.renew(role, days.unwrap_or(Days::of(role)), now)?,
    }
    Ok(repository.show()?.to_string())
}

/// Refreshes from nothing, with the client that the boxes run, and looks into every role.
fn verify(
    repository: &Repository,
    root: Option<&Path>,
    now: OffsetDateTime,
) -> Result<String, ReleaseError> {
    let path = root.map_or_else(|| repository.first_root(), Path::to_owned);
    let root = std::fs::read(&path).map_err(|error| ReleaseError::File(path.clone(), error))?;
    let folder = std::env::temp_dir().join(format!("gateway-release-{}", std::process::id()));
    let outcome = as_a_box(repository, root, &folder, now);
    let _ = std::fs::remove_dir_all(&folder);
    let versions = outcome?;
    let targets = repository.check_targets()?;
    Ok(format!(
        "施設の機器が受け取れる状態です (a box takes this): root {} timestamp {} snapshot {} targets {}、ファイル {targets}",
        versions.root, versions.timestamp, versions.snapshot, versions.targets
    ))
}

fn as_a_box(
    repository: &Repository,
    root: Vec<u8>,
    folder: &Path,
    now: OffsetDateTime,
) -> Result<gateway_tuf::Versions, ReleaseError> {
    let refused = |refused| {
        let what = repository.directory().display().to_string();
        ReleaseError::BoxRefuses(what, Box::new(refused))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| ReleaseError::File(folder.to_owned(), error))?;
    runtime.block_on(async {
        let client = Client::new(
            Store::open(folder).map_err(refused)?,
            root,
            Arc::new(Medium::new(repository.directory())),
            Limits::default(),
            Duties::City,
        );
        let now = Timestamp(now.unix_timestamp());
        let mut trusted = client.refresh(now).await.map_err(refused)?;
        for role in gateway_release::DELEGATED {
            for name in trusted.names(role.name()).await.map_err(refused)? {
                trusted.target(&name).await.map_err(refused)?;
            }
        }
        Ok(trusted.versions())
    })
}

fn public_keys(paths: &[PathBuf]) -> Result<Vec<PublicKey>, ReleaseError> {
    paths.iter().map(|path| PublicKey::read(path)).collect()
}

fn read_keys(paths: &[PathBuf], phrase: Option<&Path>) -> Result<Vec<SecretKey>, ReleaseError> {
    paths.iter().map(|path| read_key(path, phrase)).collect()
}

fn read_key(path: &Path, phrase: Option<&Path>) -> Result<SecretKey, ReleaseError> {
    let phrase = obtain(phrase, &path.display().to_string(), false)?;
    SecretKey::read(path, &phrase)
}

fn names(roles: &[Role]) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    names.join(", ")
}
