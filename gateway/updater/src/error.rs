//! Why an update did not happen: one variant for each reason, with an id that never changes and a sentence for people.
//!
//! It quotes names of files, versions and slots; never their content.

use std::io;

use crate::decide::Unfit;
use crate::index::{Image, IndexError};
use crate::manifest::ManifestError;
use crate::record::RecordError;
use crate::state::Disorder;
use crate::uki::UkiError;
use crate::verity::VerityError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The signed channel: expired, rolled back, under-signed, named by the wrong role, and so on.
    #[error("the signed channel refused")]
    Channel(#[from] gateway_tuf::Refused),
    /// The release's description.
    #[error("the release's description")]
    Manifest(#[from] ManifestError),
    /// The release is not for this box as it is.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The block index cannot be read.
    #[error("the release's block index")]
    Index(#[from] IndexError),
    /// The block index is of another image than the release's.
    #[error("the block index and {} are not of one release", .0.file())]
    IndexOfAnother(Image),
    /// The image does not fit into the partition.
    #[error("{} is larger than its partition", .0.file())]
    Room(Image),
    /// What came is not the block that the index names.
    #[error("block {number} of {} is not the one that was signed", image.file())]
    Block {
        /// The image.
        image: Image,
        /// The block, from 0.
        number: usize,
    },
    /// What comes from the medium is not what was written.
    #[error("block {number} of {} is not read back as it was written", image.file())]
    ReadBack {
        /// The image.
        image: Image,
        /// The block, from 0.
        number: usize,
    },
    /// The slot does not come to the release's root hash.
    #[error("the slot's hash tree")]
    Verity(#[from] VerityError),
    /// The kernel.
    #[error("the release's kernel")]
    Kernel(#[from] UkiError),
    /// The kernel on the firmware's partition is not the one that was written.
    #[error("the kernel {0} is not read back as it was written")]
    KernelReadBack(String),
    /// What runs has no kernel on the firmware's partition.
    #[error("the running system's kernel is not on the firmware's partition")]
    NoKernel,
    /// A partition.
    #[error("the partition of {} cannot be read or written", .0.file())]
    Device(Image, #[source] io::Error),
    /// The firmware's partition.
    #[error("the firmware's partition cannot be read or written")]
    Esp(#[source] io::Error),
    /// The record.
    #[error("the record of updates")]
    Record(#[from] RecordError),
    /// A step out of order.
    #[error(transparent)]
    Disorder(#[from] Disorder),
    /// The configuration.
    #[error("{0}")]
    Config(String),
    /// What runs cannot be recognised.
    #[error("the running system cannot be recognised: {0}")]
    Running(&'static str),
    /// Another `gateway-update` is at work.
    #[error("another gateway-update is at work")]
    Busy,
    /// The firmware did not take the request to make `/var` anew.
    #[error("the firmware's variable cannot be written")]
    Reset(#[source] io::Error),
    /// The restart could not be asked for.
    #[error("the restart cannot be asked for")]
    Restart(#[source] io::Error),
}

impl UpdateError {
    /// A word for the journal and the support code.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self {
            Self::Channel(refused) => refused.id(),
            Self::Manifest(_) => "UPD-MANIFEST",
            Self::Unfit(unfit) => unfit.id(),
            Self::Index(_) | Self::IndexOfAnother(_) => "UPD-INDEX",
            Self::Room(_) => "UPD-ROOM",
            Self::Block { .. } => "UPD-BLOCK",
            Self::ReadBack { .. } | Self::KernelReadBack(_) => "UPD-READBACK",
            Self::Verity(_) => "UPD-ROOTHASH",
            Self::Kernel(UkiError::Signature(_)) => "UPD-KERNEL-SIGNER",
            Self::Kernel(UkiError::RootHash) => "UPD-KERNEL-ROOTHASH",
            Self::Kernel(UkiError::Slot) => "UPD-KERNEL-SLOT",
            Self::Kernel(UkiError::Form(_) | UkiError::CommandLine(_)) => "UPD-KERNEL-FORM",
            Self::NoKernel => "UPD-KERNEL-MISSING",
            Self::Device(..) | Self::Esp(_) => "UPD-DISK",
            Self::Record(RecordError::Damaged) => "UPD-RECORD",
            Self::Record(RecordError::Disk(_)) => "UPD-RECORD-DISK",
            Self::Disorder(_) => "UPD-ORDER",
            Self::Config(_) => "UPD-CONFIG",
            Self::Running(_) => "UPD-RUNNING",
            Self::Busy => "UPD-BUSY",
            Self::Reset(_) => "UPD-RESET",
            Self::Restart(_) => "UPD-RESTART",
        }
    }

    /// What happened and the one next step, for people.
    #[must_use]
    pub fn sentence(&self) -> &'static str {
        match self {
            Self::Channel(refused) => refused.sentence(),
            Self::Unfit(unfit) => unfit.sentence(),
            Self::Manifest(_) | Self::Index(_) | Self::IndexOfAnother(_) => {
                "更新の説明ファイルに誤りがあるため、更新しませんでした。市へ連絡してください。"
            }
            Self::Room(_) => "更新がこの機器に入りきりません。市へ連絡してください。",
            Self::Block { .. } => {
                "届いた更新が署名されたものと違うため、使いませんでした。次の確認でもう一度取り込みます。"
            }
            Self::ReadBack { .. } | Self::KernelReadBack(_) | Self::Device(..) | Self::Esp(_) => {
                "ディスクに正しく書き込めませんでした。今の版のまま動いています。続くときは保守の担当者へ連絡してください。"
            }
            Self::Verity(_) | Self::Kernel(_) => {
                "更新の中身が署名された内容と合わないため、更新しませんでした。市へ連絡してください。"
            }
            Self::Record(_) => {
                "更新の記録を読み書きできないため、更新を止めました。保守の担当者へ連絡してください。"
            }
            Self::Busy => "別の更新処理が動いています。終わってからもう一度実行してください。",
            Self::Reset(_) => {
                "初期化を予約できませんでした。何も消していません。保守の担当者へ連絡してください。"
            }
            Self::Restart(_) => "再起動できませんでした。機器の電源を入れ直してください。",
            Self::NoKernel | Self::Disorder(_) | Self::Config(_) | Self::Running(_) => {
                "機器の設定が想定と違うため、更新しませんでした。保守の担当者へ連絡してください。"
            }
        }
    }
}

impl Unfit {
    /// A word for the journal and the support code.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Hardware => "UPD-HARDWARE",
            Self::BelowFloor => "UPD-FLOOR",
            Self::Older => "UPD-OLDER",
            Self::SameVersion => "UPD-SAME",
            Self::FailedBefore => "UPD-FAILED",
        }
    }

    /// What happened and the one next step, for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Hardware => "別の機種の更新のため、取り込みませんでした。市へ連絡してください。",
            Self::BelowFloor | Self::Older => {
                "今より古い版のため、取り込みませんでした。古い媒体でないか確かめてください。"
            }
            Self::SameVersion => {
                "今と同じ版なのに中身が違うため、取り込みませんでした。市へ連絡してください。"
            }
            Self::FailedBefore => {
                "この版は前に正しく動かなかったため、自動では入れません。新しい版を待つか、gateway-update retry を実行してください。"
            }
        }
    }
}
