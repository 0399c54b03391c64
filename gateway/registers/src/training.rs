//! Security training (第23条: about once a year, and after a serious incident). Pure.

use gateway_policy::Timestamp;
use gateway_policy::calendar::Date;
use serde::{Deserialize, Serialize};

use crate::text::{as_iso, day, line};
use crate::{Field, Refused};

/// The most that a facility of this kind could train at once.
const MOST_PARTICIPANTS: u32 = 1000;
/// How far back a training may be entered, in seconds: what was held before the box came counts too.
const ENTERED_LATE: i64 = 3 * 366 * 86_400;

/// A training that was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// The day.
    #[serde(with = "as_iso")]
    pub day: Date,
    /// What about.
    pub topic: String,
    /// How many took part.
    pub participants: u32,
}

impl Training {
    pub(crate) fn checked(self, now: Timestamp) -> Result<Self, Refused> {
        let day = day(Field::Day, self.day)?;
        let age = day.midnight_in_japan().age(now);
        if !(0..=ENTERED_LATE).contains(&age) {
            return Err(Refused::ImpossibleDay(Field::Day));
        }
        if !(1..=MOST_PARTICIPANTS).contains(&self.participants) {
            return Err(Refused::Participants);
        }
        Ok(Self {
            day,
            topic: line(Field::Topic, &self.topic)?,
            participants: self.participants,
        })
    }
}

/// A training with who recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The training.
    pub training: Training,
    /// When it was recorded.
    pub at: Timestamp,
    /// Who recorded it, by the user id at the city.
    pub by: String,
}
