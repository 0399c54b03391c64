//! One entry of the history, as it is kept for good.

use gateway_policy::Timestamp;
use serde::{Deserialize, Serialize};

use crate::text::iso;
use crate::{Change, NewMedium, Topic, Training};

/// What is recorded. Its JSON is what stands in the file: fields may be added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// A medium is entered.
    Enter { medium: u64, what: NewMedium },
    /// Something happens to a medium.
    Change { medium: u64, change: Change },
    /// All media were looked for.
    Review { seen: Vec<u64>, missing: Vec<u64> },
    /// A training was held.
    Train { training: Training },
    /// A manager declares.
    Declare { topic: Topic, remark: String },
}

/// An entry after which something is in order that was not, or is known that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Loosening {
    MediumEntered,
    MediumFound,
    MediaReviewed,
    TrainingHeld,
    Declared,
}

impl Event {
    /// Whether it loosens; what it is then called.
    pub(crate) const fn loosens(&self) -> Option<Loosening> {
        match self {
            Self::Enter { .. } => Some(Loosening::MediumEntered),
            Self::Change {
                change: Change::Found,
                ..
            } => Some(Loosening::MediumFound),
            Self::Change { .. } => None,
            Self::Review { .. } => Some(Loosening::MediaReviewed),
            Self::Train { .. } => Some(Loosening::TrainingHeld),
            Self::Declare { .. } => Some(Loosening::Declared),
        }
    }

    /// The medium that it is about alone.
    pub(crate) const fn medium(&self) -> Option<u64> {
        match self {
            Self::Enter { medium, .. } | Self::Change { medium, .. } => Some(*medium),
            Self::Review { .. } | Self::Train { .. } | Self::Declare { .. } => None,
        }
    }

    /// Whether it ends a medium's life.
    pub(crate) const fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Change {
                change: Change::Dispose { .. } | Change::WriteOff { .. },
                ..
            }
        )
    }

    /// What happened, in Japanese.
    pub(crate) fn sentence_ja(&self) -> String {
        match self {
            Self::Enter { what, .. } => {
                format!("登録（責任者 {}、保管場所 {}）", what.owner, what.place)
            }
            Self::Change { change, .. } => change.sentence_ja(),
            Self::Review { .. } => "点検".to_owned(),
            Self::Train { .. } => "研修を記録".to_owned(),
            Self::Declare { .. } => "申告".to_owned(),
        }
    }
}

impl Change {
    /// What happened, in Japanese.
    #[must_use]
    pub fn sentence_ja(&self) -> String {
        match self {
            Self::Lend {
                to,
                place,
                due: None,
            } => format!("貸出：{to}（{place}）"),
            Self::Lend {
                to,
                place,
                due: Some(due),
            } => format!("貸出：{to}（{place}、返却予定 {}）", iso(*due)),
            Self::Return => "返却".to_owned(),
            Self::Move { owner, place } => format!("変更：責任者 {owner}、保管場所 {place}"),
            Self::Lose => "所在不明".to_owned(),
            Self::Found => "発見（保管場所に戻した）".to_owned(),
            Self::Dispose { method, witness } => {
                format!("廃棄：{}（立会人 {witness}）", method.label_ja())
            }
            Self::WriteOff { report } => format!("紛失として除却（報告：{report}）"),
        }
    }
}

/// One entry of a history, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When.
    pub at: Timestamp,
    /// Who, by the user id at the city.
    pub by: String,
    /// What happened, in Japanese.
    pub what: String,
}
