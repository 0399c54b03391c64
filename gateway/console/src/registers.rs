//! The facility's registers as the pages show them and add to them: removable media and paper (第28条), security
//! training (第23条), declarations. The daemon's [`RegistersDesk`] keeps them.

use bytes::Bytes;
use gateway_policy::Timestamp;
use gateway_policy::calendar::Date;

use crate::{Answer, Message, Staff};

/// What the register pages ask for and set in motion.
pub trait RegistersDesk: Send + Sync + 'static {
    /// The register of media.
    fn media(&self) -> Answer<'_, Result<Media, Message>>;

    /// One medium with its history; `None`: there is no such medium.
    fn medium(&self, number: u64) -> Answer<'_, Result<Option<MediumHistory>, Message>>;

    /// Enters a medium; the answer is its number.
    fn enter_medium(&self, medium: NewMedium, by: Staff) -> Answer<'_, Result<u64, Message>>;

    /// Records what happened to a medium.
    fn change_medium(
        &self,
        number: u64,
        change: MediumChange,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>>;

    /// Records a review: all media were looked for, these were not found. The list names every medium that was on the
    /// page, so that one entered meanwhile is not taken for seen.
    fn review_media(
        &self,
        seen: Vec<u64>,
        missing: Vec<u64>,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>>;

    /// Trainings held, newest first.
    fn trainings(&self) -> Answer<'_, Result<Trainings, Message>>;

    /// Records a training.
    fn record_training(&self, training: Training, by: Staff) -> Answer<'_, Result<(), Message>>;

    /// Declarations, those in force first.
    fn declarations(&self) -> Answer<'_, Result<Declarations, Message>>;

    /// Declares.
    fn declare(
        &self,
        topic: DeclarationTopic,
        remark: String,
        by: Staff,
    ) -> Answer<'_, Result<(), Message>>;

    /// A register as CSV (RFC 4180, UTF-8 with byte order mark), history included.
    fn export(&self, register: Register) -> Answer<'_, Result<Bytes, Message>>;
}

/// Which register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Register {
    Media,
    Trainings,
    Declarations,
}

/// What a medium is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediumKind {
    /// USB memory.
    UsbMemory,
    /// External disk.
    Disk,
    /// SD or another card.
    Card,
    /// CD, DVD, Blu-ray.
    Optical,
    /// Magnetic tape or cassette.
    Tape,
    /// Printed paper.
    Paper,
    /// Anything else.
    Other,
}

/// How a medium was disposed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Broken to pieces.
    Destroyed,
    /// Shredded.
    Shredded,
    /// Burnt or pulped by a contractor, with a certificate.
    Contractor,
    /// Overwritten or erased by the device's own command.
    Erased,
}

impl MediumKind {
    /// All of them, as listed on the form.
    pub const ALL: [Self; 7] = [
        Self::UsbMemory,
        Self::Disk,
        Self::Card,
        Self::Optical,
        Self::Tape,
        Self::Paper,
        Self::Other,
    ];

    /// For people; the value in forms too.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UsbMemory => "USBメモリ",
            Self::Disk => "外付けディスク",
            Self::Card => "SDカードなど",
            Self::Optical => "CD・DVD",
            Self::Tape => "磁気テープ・カセット",
            Self::Paper => "印刷された用紙",
            Self::Other => "その他",
        }
    }
}

impl Method {
    /// All of them, as listed on the form.
    pub const ALL: [Self; 4] = [
        Self::Destroyed,
        Self::Shredded,
        Self::Contractor,
        Self::Erased,
    ];

    /// For people; the value in forms too.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Destroyed => "物理的に破壊",
            Self::Shredded => "シュレッダーで裁断",
            Self::Contractor => "業者に委託（証明書あり）",
            Self::Erased => "完全消去",
        }
    }
}

/// A medium to be entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMedium {
    /// What it is.
    pub kind: MediumKind,
    /// What is written on it, 「USB-3」 or 「訪問記録ファイル（紙）」.
    pub label: String,
    /// What it is used for.
    pub purpose: String,
    /// Who answers for it.
    pub owner: String,
    /// Where it is kept.
    pub place: String,
}

/// What happens to a medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediumChange {
    /// It is handed out.
    Lend {
        /// To whom.
        to: String,
        /// Where it goes.
        place: String,
        /// The day it is to be back.
        due: Option<Date>,
    },
    /// It is back.
    Return,
    /// It is kept elsewhere from now on, or somebody else answers for it.
    Move {
        /// Who answers for it.
        owner: String,
        /// Where it is kept.
        place: String,
    },
    /// It cannot be found.
    Lose,
    /// It was missing and is back at its place.
    Found,
    /// It stays lost, and the loss was reported to the city.
    WriteOff {
        /// When and to whom it was reported.
        report: String,
    },
    /// It is disposed of, for good.
    Dispose {
        /// How.
        method: Method,
        /// Who saw it.
        witness: String,
    },
}

/// The register of media.
#[derive(Clone, Debug, Default)]
pub struct Media {
    /// Every medium, disposed ones last.
    pub media: Vec<Medium>,
    /// When all were last looked for.
    pub reviewed: Option<Timestamp>,
    /// The day by which the next review is due.
    pub review_by: Option<Timestamp>,
}

/// One medium as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Its number in the register.
    pub number: u64,
    /// As it was entered, with owner and place of today.
    pub what: NewMedium,
    /// Where it is.
    pub state: MediumState,
    /// Since when.
    pub since: Timestamp,
    /// When it was last seen in a review.
    pub seen: Option<Timestamp>,
}

/// Where a medium is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediumState {
    /// Where it is kept.
    Kept,
    /// Handed out.
    Lent {
        /// To whom.
        to: String,
        /// Where it went.
        place: String,
        /// The day it is to be back.
        due: Option<Date>,
    },
    /// Not to be found.
    Missing,
    /// Lost for good, and reported.
    WrittenOff {
        /// When and to whom it was reported.
        report: String,
    },
    /// Disposed of.
    Disposed {
        /// How.
        method: Method,
        /// Who saw it.
        witness: String,
    },
}

/// A medium and everything that was recorded of it, oldest first.
#[derive(Clone, Debug)]
pub struct MediumHistory {
    /// As it stands.
    pub medium: Medium,
    /// What was recorded.
    pub events: Vec<Recorded>,
}

/// One entry of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When.
    pub at: Timestamp,
    /// Who, by the user id at the city.
    pub by: String,
    /// What, in Japanese.
    pub what: String,
}

/// Trainings held.
#[derive(Clone, Debug, Default)]
pub struct Trainings {
    /// Newest first.
    pub held: Vec<HeldTraining>,
    /// When the next is due.
    pub due: Option<Timestamp>,
}

/// A training as it is entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Training {
    /// The day.
    pub day: Date,
    /// What about.
    pub topic: String,
    /// How many took part.
    pub participants: u32,
}

/// A training with who recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTraining {
    /// The training.
    pub training: Training,
    /// When it was recorded.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
}

/// What a manager declares for the facility as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeclarationTopic {
    /// Paper is handled by the rules of the house.
    Paper,
    /// Tablets and telephones are locked, patched and accounted for.
    Tablets,
}

impl DeclarationTopic {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Paper, Self::Tablets];

    /// For people; the value in forms too.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Paper => "印刷された用紙の取り扱い",
            Self::Tablets => "タブレット・スマートフォンの管理",
        }
    }
}

/// Declarations.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    /// For every topic, how it stands.
    pub topics: Vec<DeclarationState>,
    /// All that were made, newest first.
    pub made: Vec<MadeDeclaration>,
}

/// How one topic stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclarationState {
    /// The topic.
    pub topic: DeclarationTopic,
    /// When it was last declared.
    pub declared: Option<Timestamp>,
    /// How long that is good.
    pub until: Option<Timestamp>,
}

/// A declaration that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeDeclaration {
    /// The topic.
    pub topic: DeclarationTopic,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// How long it is good.
    pub until: Timestamp,
    /// What was written beside it.
    pub remark: String,
}
