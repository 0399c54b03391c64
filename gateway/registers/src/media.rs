//! The life of one medium: entered, kept, handed out, back, missing, found, disposed of. Pure; it keeps nothing.

use gateway_policy::Timestamp;
use gateway_policy::calendar::Date;
use serde::{Deserialize, Serialize};

use crate::text::{as_iso_or_none, day, line};
use crate::{Field, Refused};

/// What a medium is (第28条第1項 names the first ones).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
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

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::UsbMemory,
        Self::Disk,
        Self::Card,
        Self::Optical,
        Self::Tape,
        Self::Paper,
        Self::Other,
    ];

    /// For people.
    #[must_use]
    pub const fn label_ja(self) -> &'static str {
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

/// How a medium was disposed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disposal {
    /// Broken to pieces.
    Destroyed,
    /// Shredded.
    Shredded,
    /// Burnt or pulped by a contractor who gives a certificate.
    Contractor,
    /// Overwritten, or erased by the device's own command.
    Erased,
}

impl Disposal {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Destroyed,
        Self::Shredded,
        Self::Contractor,
        Self::Erased,
    ];

    /// For people.
    #[must_use]
    pub const fn label_ja(self) -> &'static str {
        match self {
            Self::Destroyed => "物理的に破壊",
            Self::Shredded => "シュレッダーで裁断",
            Self::Contractor => "業者に委託（証明書あり）",
            Self::Erased => "完全消去",
        }
    }
}

/// A medium as it is entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMedium {
    /// What it is.
    pub kind: Kind,
    /// What is written on it; unique among media in use.
    pub label: String,
    /// What it is used for.
    pub purpose: String,
    /// Who answers for it.
    pub owner: String,
    /// Where it is kept.
    pub place: String,
}

impl NewMedium {
    pub(crate) fn checked(self) -> Result<Self, Refused> {
        Ok(Self {
            kind: self.kind,
            label: line(Field::Label, &self.label)?,
            purpose: line(Field::Purpose, &self.purpose)?,
            owner: line(Field::Owner, &self.owner)?,
            place: line(Field::Place, &self.place)?,
        })
    }
}

/// What happens to a medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// It is handed out.
    Lend {
        /// To whom.
        to: String,
        /// Where it goes.
        place: String,
        /// The day it is to be back, if one was agreed.
        #[serde(with = "as_iso_or_none")]
        due: Option<Date>,
    },
    /// It is back.
    Return,
    /// Somebody else answers for it, or it is kept elsewhere.
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
    /// It is disposed of.
    Dispose {
        /// How.
        method: Disposal,
        /// Who saw it.
        witness: String,
    },
    /// It stays lost; the loss has been reported to the city (第24条).
    WriteOff {
        /// When and to whom it was reported.
        report: String,
    },
}

impl Change {
    /// The change with its texts made fit. `now` is when it is recorded.
    pub(crate) fn checked(self, now: Timestamp) -> Result<Self, Refused> {
        Ok(match self {
            Self::Lend { to, place, due } => Self::Lend {
                to: line(Field::Borrower, &to)?,
                place: line(Field::Place, &place)?,
                due: due.map(|due| due_day(due, now)).transpose()?,
            },
            Self::Move { owner, place } => Self::Move {
                owner: line(Field::Owner, &owner)?,
                place: line(Field::Place, &place)?,
            },
            Self::Dispose { method, witness } => Self::Dispose {
                method,
                witness: line(Field::Witness, &witness)?,
            },
            Self::WriteOff { report } => Self::WriteOff {
                report: line(Field::Report, &report)?,
            },
            simple @ (Self::Return | Self::Lose | Self::Found) => simple,
        })
    }
}

fn due_day(due: Date, now: Timestamp) -> Result<Date, Refused> {
    let due = day(Field::Due, due)?;
    if due < Date::in_japan(now) {
        return Err(Refused::ImpossibleDay(Field::Due));
    }
    Ok(due)
}

/// Where a medium is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
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
    /// Disposed of, for good.
    Disposed {
        /// How.
        method: Disposal,
        /// Who saw it.
        witness: String,
    },
    /// Lost for good, and reported.
    WrittenOff {
        /// When and to whom it was reported.
        report: String,
    },
}

/// A medium as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Its number in the register; never given twice.
    pub number: u64,
    /// As it was entered, with owner and place of today.
    pub what: NewMedium,
    /// Where it is.
    pub place: Place,
    /// Since when.
    pub since: Timestamp,
    /// When it was last seen in a review.
    pub seen: Option<Timestamp>,
}

impl Medium {
    /// Whether its life has ended.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(
            self.place,
            Place::Disposed { .. } | Place::WrittenOff { .. }
        )
    }

    /// The medium after a change, or why it cannot be.
    pub(crate) fn after(&self, change: &Change, at: Timestamp) -> Result<Self, Refused> {
        if self.has_ended() {
            return Err(Refused::Ended);
        }
        let mut next = self.clone();
        next.place = match (&self.place, change) {
            (Place::Kept, Change::Lend { to, place, due }) => Place::Lent {
                to: to.clone(),
                place: place.clone(),
                due: *due,
            },
            (Place::Lent { .. }, Change::Return) | (Place::Missing, Change::Found) => Place::Kept,
            (Place::Kept, Change::Move { owner, place }) => {
                next.what.owner.clone_from(owner);
                next.what.place.clone_from(place);
                Place::Kept
            }
            (Place::Kept | Place::Lent { .. }, Change::Lose) => Place::Missing,
            (Place::Kept, Change::Dispose { method, witness }) => Place::Disposed {
                method: *method,
                witness: witness.clone(),
            },
            (Place::Missing, Change::WriteOff { report }) => Place::WrittenOff {
                report: report.clone(),
            },
            (Place::Missing, Change::Lose) => return Err(Refused::Missing),
            (_, Change::Lend { .. } | Change::Move { .. } | Change::Dispose { .. }) => {
                return Err(Refused::NotKept);
            }
            (_, Change::Return) => return Err(Refused::NotLent),
            (_, _) => return Err(Refused::NotMissing),
        };
        next.since = at;
        Ok(next)
    }
}
