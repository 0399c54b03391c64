//! What a verification can find, and how it is said, in Japanese and in English. Finds nothing itself.

use std::fmt;
use std::path::PathBuf;

use crate::chain::Bend;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub fault: Fault,
    /// The first entry that cannot be believed, where that can be said.
    pub entry: Option<u64>,
    /// In which file it shows.
    pub file: PathBuf,
    /// In which line of it, from 1; 0 where no line can be named.
    pub line: usize,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The chain is bent at an entry.
    Chain(Bend),
    /// The log does not begin with its first entry, and no entry says that older ones were removed.
    BeginningMissing,
    /// The log ends before what was signed.
    Cut {
        /// How many entries there were.
        count: u64,
    },
    /// The hashes hold, but are not those that were signed: the chain was made anew.
    MadeAnew {
        /// The signed entry that differs.
        up_to: u64,
    },
    /// A line of the checkpoints cannot be read.
    CheckpointUnreadable,
    /// A checkpoint is not signed by a key of this box.
    CheckpointSignature(u64),
    /// A checkpoint of another log.
    CheckpointOtherLog(u64),
    /// A checkpoint stands where it does not belong, or one before it is missing.
    CheckpointOrder,
    /// The log mentions a checkpoint that is gone.
    CheckpointMissing(u64),
    /// The log mentions another checkpoint of this number.
    CheckpointSwapped(u64),
    /// A line of the countersignatures cannot be read.
    ReceiptUnreadable,
    /// A countersignature is not the city's.
    ReceiptFalse(u64),
    /// A countersignature stands where it does not belong.
    ReceiptOrder,
    /// The log mentions a countersignature that is gone.
    ReceiptMissing(u64),
    /// The log mentions another countersignature.
    ReceiptSwapped(u64),
    /// A line of the keys cannot be read or is there twice.
    KeyUnreadable,
    /// The certificates of a countersignature cannot be read or are gone.
    CertificatesUnreadable,
    /// The city's copy cannot be used.
    CityCopyUnreadable,
    /// The city has seen entries that are not here: the log was cut off.
    CityAhead {
        /// How many entries the city has seen.
        count: u64,
    },
    /// The city has seen another head at this entry: the log was made anew.
    CityDiffers {
        /// The entry.
        up_to: u64,
    },
    /// The city knows another log of this facility.
    CityOtherLog,
    /// A checkpoint is signed by a key that the city does not know.
    CityOtherKey(u64),
}

impl Fault {
    /// Two words or three that never change, for programs.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Chain(Bend::Unreadable) => "entry-unreadable",
            Self::Chain(Bend::NotFollowing) => "entry-changed",
            Self::Chain(Bend::Missing { .. }) => "entries-missing",
            Self::Chain(Bend::Repeated { .. }) => "entry-repeated",
            Self::Chain(Bend::WrongFile) => "wrong-file",
            Self::Chain(Bend::Empty) => "log-empty",
            Self::BeginningMissing => "beginning-missing",
            Self::Cut { .. } => "log-truncated",
            Self::MadeAnew { .. } => "chain-made-anew",
            Self::CheckpointUnreadable => "checkpoint-unreadable",
            Self::CheckpointSignature(_) => "checkpoint-signature",
            Self::CheckpointOtherLog(_) => "checkpoint-other-log",
            Self::CheckpointOrder => "checkpoint-order",
            Self::CheckpointMissing(_) => "checkpoint-missing",
            Self::CheckpointSwapped(_) => "checkpoint-swapped",
            Self::ReceiptUnreadable => "receipt-unreadable",
            Self::ReceiptFalse(_) => "receipt-false",
            Self::ReceiptOrder => "receipt-order",
            Self::ReceiptMissing(_) => "receipt-missing",
            Self::ReceiptSwapped(_) => "receipt-swapped",
            Self::KeyUnreadable => "key-unreadable",
            Self::CertificatesUnreadable => "certificates-unreadable",
            Self::CityCopyUnreadable => "city-copy-unreadable",
            Self::CityAhead { .. } => "city-has-more",
            Self::CityDiffers { .. } => "city-differs",
            Self::CityOtherLog => "city-other-log",
            Self::CityOtherKey(_) => "city-other-key",
        }
    }

    /// The sentence for a person.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::Chain(Bend::Unreadable) => "記録の行が書き換えられたか、壊れています".to_owned(),
            Self::Chain(Bend::NotFollowing) => {
                "記録が前の記録から続いていません（この記録か、その直前の記録が変更されています）"
                    .to_owned()
            }
            Self::Chain(Bend::Missing { found }) => {
                format!("記録が抜けています（次に見つかった記録は{found}番）")
            }
            Self::Chain(Bend::Repeated { found }) => {
                format!(
                    "記録の並びが変えられたか、挿入されています（ここに{found}番の記録があります）"
                )
            }
            Self::Chain(Bend::WrongFile) => {
                "記録ファイルの名前または先頭の記録が合いません".to_owned()
            }
            Self::Chain(Bend::Empty) => "記録が1件もありません".to_owned(),
            Self::BeginningMissing => "先頭の記録がなく、削除の記録もありません".to_owned(),
            Self::Cut { count } => {
                format!("記録が途中で切られています（署名された時点では{count}件ありました）")
            }
            Self::MadeAnew { up_to } => {
                format!("記録が作り直されています（{up_to}番までの署名と一致しません）")
            }
            Self::CheckpointUnreadable => "チェックポイントの行が読めません".to_owned(),
            Self::CheckpointSignature(n) => {
                format!("チェックポイント{n}番の署名が、この機器の鍵のものではありません")
            }
            Self::CheckpointOtherLog(n) => format!("チェックポイント{n}番は別の記録のものです"),
            Self::CheckpointOrder => {
                "チェックポイントの並びが合いません（抜け・入れ替え）".to_owned()
            }
            Self::CheckpointMissing(n) => format!("チェックポイント{n}番がなくなっています"),
            Self::CheckpointSwapped(n) => {
                format!("チェックポイント{n}番が別のものに置き換えられています")
            }
            Self::ReceiptUnreadable => "市の確認署名の行が読めません".to_owned(),
            Self::ReceiptFalse(n) => {
                format!("チェックポイント{n}番の確認署名は市のものではありません")
            }
            Self::ReceiptOrder => "市の確認署名の並びが合いません".to_owned(),
            Self::ReceiptMissing(n) => {
                format!("チェックポイント{n}番の市の確認署名がなくなっています")
            }
            Self::ReceiptSwapped(n) => {
                format!("チェックポイント{n}番の市の確認署名が置き換えられています")
            }
            Self::KeyUnreadable => "公開鍵の行が読めないか、重複しています".to_owned(),
            Self::CertificatesUnreadable => {
                "確認署名の証明書が読めないか、なくなっています".to_owned()
            }
            Self::CityCopyUnreadable => "市の控えに、署名の合わない行があります".to_owned(),
            Self::CityAhead { count } => {
                format!(
                    "市は{count}件目までを確認しています。それ以降がここにありません（切り詰め・巻き戻し）"
                )
            }
            Self::CityDiffers { up_to } => {
                format!("{up_to}番までの内容が、市の控えと違います（作り直し）")
            }
            Self::CityOtherLog => {
                "市が控えているのは、この事業所の別の記録です（入れ替え）".to_owned()
            }
            Self::CityOtherKey(n) => {
                format!("チェックポイント{n}番の鍵は、市に届け出た鍵ではありません")
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = self.entry {
            write!(f, "{entry}番: ")?;
        }
        write!(f, "{} [{}]", self.fault.sentence(), self.fault.id())?;
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        match self.line {
            0 => Ok(()),
            line => write!(f, " ({name}:{line})"),
        }
    }
}

/// What is worth knowing and not wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A last line has no end: the power went, or the box is writing. The next start drops it and says so.
    UnfinishedLine,
    /// Entries from here on are not signed yet; cutting them off would not show.
    NotSigned {
        /// The first of them.
        from: u64,
    },
    /// No countersignature of the city is there: only the box itself vouches.
    NeverAcknowledged,
    /// The city's root was not given.
    ReceiptsNotChecked,
    /// The city's copy was not given.
    NoCityCopy,
}

impl Note {
    /// Two words or three that never change, for programs.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::UnfinishedLine => "unfinished-line",
            Self::NotSigned { .. } => "not-signed-yet",
            Self::NeverAcknowledged => "never-acknowledged",
            Self::ReceiptsNotChecked => "receipts-not-checked",
            Self::NoCityCopy => "no-city-copy",
        }
    }

    /// The sentence for a person.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::UnfinishedLine => {
                "最後の行が途中で終わっています（停電など）。次の起動時に、その旨を記録して取り除かれます".to_owned()
            }
            Self::NotSigned { from } => {
                format!("{from}番以降はまだ署名されていません。末尾が切り取られても、ここでは分かりません")
            }
            Self::NeverAcknowledged => "市の確認署名がまだありません".to_owned(),
            Self::ReceiptsNotChecked => "市の認証局（--anchor）がないため、確認署名は検査していません".to_owned(),
            Self::NoCityCopy => {
                "市の控え（--city-checkpoints）と比べていません。記録と署名がそろって巻き戻された場合は、ここでは分かりません".to_owned()
            }
        }
    }
}
