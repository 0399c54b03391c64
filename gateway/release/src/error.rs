//! Why something could not be signed or published, in words for the person at the terminal.
//!
//! It quotes names of files, roles and keys; never a passphrase or a key.

use std::path::PathBuf;

/// A step of signing or publishing that did not happen. Nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A file.
    #[error("{} を読み書きできません (cannot be read or written)", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// Something is there already that must not be overwritten.
    #[error("{} はすでにあります。上書きはしません (exists already and is not overwritten)", .0.display())]
    Exists(PathBuf),
    /// Not a repository of this tool.
    #[error("{} は配信ディレクトリーではありません。先に init を実行してください (no repository here; run init first)", .0.display())]
    NoRepository(PathBuf),
    /// Not a signed file, or not one this tool understands.
    #[error("{0} の形式が正しくありません (malformed)")]
    Malformed(String),
    /// A box would refuse it.
    #[error("{0} は施設の機器に拒否されます (a box would refuse it)")]
    BoxRefuses(String, #[source] Box<gateway_tuf::Refused>),
    /// The passphrase does not open the key.
    #[error("{} をこのパスフレーズで開けません (the passphrase does not open it)", .0.display())]
    WrongPassphrase(PathBuf),
    /// A passphrase that protects nothing.
    #[error("パスフレーズは12文字以上にしてください (at least 12 characters)")]
    ShortPassphrase,
    /// A key file that is none.
    #[error("{} は鍵のファイルではありません (no key file)", .0.display())]
    NoKey(PathBuf),
    /// Cryptography failed, which it does only without randomness.
    #[error("鍵の操作ができません (the key operation failed)")]
    Cryptography,
    /// The key has no say in anything that waits for signatures.
    #[error("この鍵で署名する対象がありません (nothing waits for this key's signature)")]
    NothingToSign,
    /// Too few have signed.
    #[error("{role} の署名が足りません: {found}/{threshold} (signatures missing)")]
    Threshold {
        /// The role.
        role: String,
        /// Who has signed.
        found: usize,
        /// Who must.
        threshold: usize,
    },
    /// The online key given is not the role's.
    #[error("{0} の鍵ではありません (not a key of this role)")]
    NotTheKey(&'static str),
    /// A threshold that cannot be met, or protects nothing.
    #[error(
        "{role}: しきい値 {threshold} は鍵の数 {keys} と合いません (threshold and number of keys do not fit)"
    )]
    BadThreshold {
        /// The role.
        role: String,
        /// The threshold wanted.
        threshold: usize,
        /// The keys there would be.
        keys: usize,
    },
    /// A key id that the role does not have.
    #[error("{role} に鍵 {key} はありません (no such key)")]
    NoSuchKey {
        /// The role.
        role: String,
        /// The id, or its beginning.
        key: String,
    },
    /// A target's name.
    #[error("{0:?} は配信名に使えません (not a name for a target)")]
    TargetName(String),
    /// A serial, version or time that goes backwards.
    #[error("{what} は前回より新しくなければなりません: 前回 {before}、今回 {now} (must be newer)")]
    NotNewer {
        /// What.
        what: &'static str,
        /// What is published.
        before: String,
        /// What was given.
        now: String,
    },
    /// The parts of a release do not fit each other.
    #[error("リリースの部品が互いに合いません (the parts of the release do not fit each other)")]
    Image(#[source] crate::ImageError),
    /// The policy has a fault.
    #[error("ポリシーに誤りがあります (the policy is faulty): {0}")]
    Policy(String),
    /// Nothing waits to be published.
    #[error("公開するものがありません (nothing to publish)")]
    NothingToPublish,
}
