//! Japanese working days, and with them the hours in which the city answers questions (第12条第2項).
//!
//! National holidays are computed from 国民の祝日に関する法律 as in force since 2022, for the years up to 2099.
//! It does not know holidays that a later law adds for one year, nor the official equinox dates
//! (published each February for the next year); the usual astronomical approximation stands in.

use crate::Timestamp;

/// Japan has one time zone, without summer time.
const JST_OFFSET: i64 = 9 * 3600;
const DAY: i64 = 86_400;
const OPENS: i64 = 9 * 3600;
const CLOSES: i64 = 17 * 3600;

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Year of the common era.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Sunday,
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
}

impl Date {
    /// The day on which a moment falls in Japan.
    #[must_use]
    pub const fn in_japan(at: Timestamp) -> Self {
        Self::from_days(at.0.saturating_add(JST_OFFSET).div_euclid(DAY))
    }

    /// The first second of this day in Japan.
    #[must_use]
    pub const fn midnight_in_japan(self) -> Timestamp {
        Timestamp(self.days() * DAY - JST_OFFSET)
    }

    /// The day of the week.
    #[must_use]
    pub const fn weekday(self) -> Weekday {
        // 1970-01-01 was a Thursday.
        match (self.days() + 4).rem_euclid(7) {
            0 => Weekday::Sunday,
            1 => Weekday::Monday,
            2 => Weekday::Tuesday,
            3 => Weekday::Wednesday,
            4 => Weekday::Thursday,
            5 => Weekday::Friday,
            _ => Weekday::Saturday,
        }
    }

    /// The day after.
    #[must_use]
    pub const fn tomorrow(self) -> Self {
        self.offset(1)
    }

    const fn offset(self, days: i64) -> Self {
        Self::from_days(self.days() + days)
    }

    /// Days since 1970-01-01, counting in years that begin in March so that the leap day comes last.
    const fn days(self) -> i64 {
        let (month, day) = (self.month as i64, self.day as i64);
        let year = if month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "month and day are in 1..=31 by construction"
    )]
    const fn from_days(days: i64) -> Self {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
        Self {
            year,
            month: month as u8,
            day: day as u8,
        }
    }
}

/// Whether the city answers the telephone at this moment: Monday to Friday 9:00 to 17:00 in Japan,
/// not on national holidays, not from 29 December to 3 January (第12条第2項).
#[must_use]
pub fn support_is_open(now: Timestamp) -> bool {
    let second_of_day = now.0.saturating_add(JST_OFFSET).rem_euclid(DAY);
    is_support_day(Date::in_japan(now)) && (OPENS..CLOSES).contains(&second_of_day)
}

/// `now` when support is open, otherwise the moment it opens next.
#[must_use]
pub fn next_support(now: Timestamp) -> Timestamp {
    if support_is_open(now) {
        return now;
    }
    let mut day = Date::in_japan(now);
    loop {
        let opens = day.midnight_in_japan().plus(OPENS);
        if opens > now && is_support_day(day) {
            return opens;
        }
        day = day.offset(1);
    }
}

/// Whether support is open at some hour of this day.
#[must_use]
pub fn is_support_day(date: Date) -> bool {
    let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
    let new_year = matches!((date.month, date.day), (12, 29..=31) | (1, 1..=3));
    !(weekend || new_year || is_holiday(date))
}

/// Whether the day is a holiday under 国民の祝日に関する法律, Article 3: a national holiday (para. 1),
/// its substitute (para. 2, 振替休日), or a day between two of them (para. 3, 国民の休日).
#[must_use]
pub fn is_holiday(date: Date) -> bool {
    is_national_day(date) || is_substitute(date) || is_between(date)
}

/// Article 2: the named days.
fn is_national_day(date: Date) -> bool {
    let monday = date.weekday() == Weekday::Monday;
    let nth = (date.day - 1) / 7 + 1;
    match (date.month, date.day) {
        (1, 1) | (2, 11 | 23) | (4, 29) | (5, 3..=5) | (8, 11) | (11, 3 | 23) => true,
        (1 | 10, _) => monday && nth == 2,
        (7, _) => monday && nth == 3,
        (3, day) => i64::from(day) == equinox_day(date.year, 20_843_100),
        (9, day) => (monday && nth == 3) || i64::from(day) == equinox_day(date.year, 23_248_800),
        _ => false,
    }
}

/// Article 3(2): a national day on a Sunday moves to the next day that is not a national day itself.
fn is_substitute(date: Date) -> bool {
    if is_national_day(date) {
        return false;
    }
    let mut earlier = date.offset(-1);
    while is_national_day(earlier) {
        if earlier.weekday() == Weekday::Sunday {
            return true;
        }
        earlier = earlier.offset(-1);
    }
    false
}

/// Article 3(3): a day whose neighbours are both national days.
fn is_between(date: Date) -> bool {
    !is_national_day(date) && is_national_day(date.offset(-1)) && is_national_day(date.offset(1))
}

/// Day of March or September, from the mean drift of the equinox since 1980 (valid 1980 to 2099).
const fn equinox_day(year: i64, millionths_in_1980: i64) -> i64 {
    let years = year - 1980;
    (millionths_in_1980 + 242_194 * years) / 1_000_000 - years.div_euclid(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: i64, month: u8, day: u8) -> Date {
        Date { year, month, day }
    }

    fn japan(year: i64, month: u8, day: u8, hour: i64, minute: i64, second: i64) -> Timestamp {
        date(year, month, day)
            .midnight_in_japan()
            .plus(hour * 3600 + minute * 60 + second)
    }

    fn holidays(year: i64) -> Vec<(u8, u8)> {
        (0..366)
            .map(|n| date(year, 1, 1).offset(n))
            .filter(|d| d.year == year && is_holiday(*d))
            .map(|d| (d.month, d.day))
            .collect()
    }

    #[test]
    fn dates_survive_the_way_to_days_and_back() {
        for days in -200_000..200_000 {
            assert_eq!(Date::from_days(days).days(), days);
        }
        assert_eq!(Date::from_days(0), date(1970, 1, 1));
        assert_eq!(date(2000, 2, 29).offset(1), date(2000, 3, 1));
        assert_eq!(date(2100, 2, 28).offset(1), date(2100, 3, 1));
        assert_eq!(date(2026, 11, 22).weekday(), Weekday::Sunday);
    }

    #[test]
    fn the_holidays_are_those_the_cabinet_office_published() {
        assert_eq!(
            holidays(2024),
            [
                (1, 1),
                (1, 8),
                (2, 11),
                (2, 12),
                (2, 23),
                (3, 20),
                (4, 29),
                (5, 3),
                (5, 4),
                (5, 5),
                (5, 6),
                (7, 15),
                (8, 11),
                (8, 12),
                (9, 16),
                (9, 22),
                (9, 23),
                (10, 14),
                (11, 3),
                (11, 4),
                (11, 23)
            ]
        );
        assert_eq!(
            holidays(2025),
            [
                (1, 1),
                (1, 13),
                (2, 11),
                (2, 23),
                (2, 24),
                (3, 20),
                (4, 29),
                (5, 3),
                (5, 4),
                (5, 5),
                (5, 6),
                (7, 21),
                (8, 11),
                (9, 15),
                (9, 23),
                (10, 13),
                (11, 3),
                (11, 23),
                (11, 24)
            ]
        );
        assert_eq!(
            holidays(2026),
            [
                (1, 1),
                (1, 12),
                (2, 11),
                (2, 23),
                (3, 20),
                (4, 29),
                (5, 3),
                (5, 4),
                (5, 5),
                (5, 6),
                (7, 20),
                (8, 11),
                (9, 21),
                (9, 22),
                (9, 23),
                (10, 12),
                (11, 3),
                (11, 23)
            ]
        );
        assert_eq!(
            holidays(2027),
            [
                (1, 1),
                (1, 11),
                (2, 11),
                (2, 23),
                (3, 21),
                (3, 22),
                (4, 29),
                (5, 3),
                (5, 4),
                (5, 5),
                (7, 19),
                (8, 11),
                (9, 20),
                (9, 23),
                (10, 11),
                (11, 3),
                (11, 23)
            ]
        );
    }

    #[test]
    fn support_opens_at_nine_and_is_closed_at_seventeen_sharp() {
        assert!(!support_is_open(japan(2026, 11, 24, 8, 59, 59)));
        assert!(support_is_open(japan(2026, 11, 24, 9, 0, 0)));
        assert!(support_is_open(japan(2026, 11, 24, 16, 59, 59)));
        assert!(!support_is_open(japan(2026, 11, 24, 17, 0, 0)));
    }

    #[test]
    fn support_is_closed_on_weekends_holidays_and_around_new_year() {
        for closed in [
            date(2026, 11, 21), // Saturday
            date(2026, 11, 22), // Sunday
            date(2026, 11, 23), // 勤労感謝の日
            date(2026, 9, 22),  // 国民の休日
            date(2026, 5, 6),   // 振替休日
            date(2026, 12, 29),
            date(2026, 12, 31),
            date(2027, 1, 1),
            date(2028, 1, 3), // a Monday
        ] {
            assert!(
                !support_is_open(closed.midnight_in_japan().plus(12 * 3600)),
                "{closed:?}"
            );
        }
        for open in [date(2026, 12, 28), date(2027, 1, 4), date(2026, 11, 24)] {
            assert!(
                support_is_open(open.midnight_in_japan().plus(12 * 3600)),
                "{open:?}"
            );
        }
    }

    #[test]
    fn the_next_opening_skips_closed_days() {
        // Friday 20 November 2026, evening: Monday is a holiday, so Tuesday.
        assert_eq!(
            next_support(japan(2026, 11, 20, 17, 0, 0)),
            japan(2026, 11, 24, 9, 0, 0)
        );
        assert_eq!(
            next_support(japan(2026, 12, 28, 18, 0, 0)),
            japan(2027, 1, 4, 9, 0, 0)
        );
        assert_eq!(
            next_support(japan(2026, 11, 24, 3, 0, 0)),
            japan(2026, 11, 24, 9, 0, 0)
        );
        let open = japan(2026, 11, 24, 10, 0, 0);
        assert_eq!(next_support(open), open);
    }
}
