//! The facility's window: the days and hours, in Japan's time, in which the box may be restarted. Pure.

use gateway_policy::Timestamp;
use gateway_policy::calendar::{Date, Weekday};
use serde::Deserialize;

const DAY: i64 = 86_400;

/// The days and hours. One that ends before it begins goes on past midnight, and belongs to the day on which it begins.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Window {
    days: Vec<Weekday>,
    /// Seconds after midnight.
    from: i64,
    /// Seconds after midnight; at most a day more than `from`.
    until: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    days: Vec<String>,
    from: String,
    until: String,
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl TryFrom<Raw> for Window {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let day = |name: &String| {
            let found = DAYS.iter().find(|(known, _)| known == name);
            found.map(|(_, day)| *day).ok_or(format!(
                "{name:?} is not mon, tue, wed, thu, fri, sat or sun"
            ))
        };
        let days: Vec<Weekday> = raw.days.iter().map(day).collect::<Result<_, _>>()?;
        if days.is_empty() {
            return Err("a window without days never opens".to_owned());
        }
        let (from, mut until) = (clock(&raw.from)?, clock(&raw.until)?);
        if until <= from {
            until += DAY;
        }
        Ok(Self { days, from, until })
    }
}

/// `HH:MM` as seconds.
fn clock(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not a time between 00:00 and 23:59");
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str, limit: i64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse::<i64>().ok()).flatten();
        number.filter(|number| *number < limit)
    };
    match (number(hours, 24), number(minutes, 60)) {
        (Some(hours), Some(minutes)) => Ok(hours * 3600 + minutes * 60),
        _ => Err(wrong()),
    }
}

impl Window {
    /// When it is open next: `at` itself while it is open.
    #[must_use]
    pub fn next(&self, at: Timestamp) -> Timestamp {
        // Yesterday's may still be open; within the eight days from then on every weekday comes.
        let mut day = Date::in_japan(at.plus(-DAY));
        for _ in 0..=8 {
            let midnight = day.midnight_in_japan();
            if self.days.contains(&day.weekday()) && at < midnight.plus(self.until) {
                return at.max(midnight.plus(self.from));
            }
            day = day.tomorrow();
        }
        at
    }

    /// True while it is open.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.next(at) == at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(days: &[&str], from: &str, until: &str) -> Result<Window, String> {
        Window::try_from(Raw {
            days: days.iter().map(|day| (*day).to_owned()).collect(),
            from: from.to_owned(),
            until: until.to_owned(),
        })
    }

    /// 2026-12-01 was a Tuesday.
    fn tuesday(hour: i64) -> Timestamp {
        let day = Date {
            year: 2026,
            month: 12,
            day: 1,
        };
        day.midnight_in_japan().plus(hour * 3600)
    }

    #[test]
    fn a_window_is_open_on_its_days_and_hours_in_japan() {
        let window = window(&["tue", "thu"], "02:00", "04:00").unwrap();
        assert!(!window.is_open(tuesday(1)) && window.is_open(tuesday(2)));
        assert!(window.is_open(tuesday(3)) && !window.is_open(tuesday(4)));
        assert_eq!(window.next(tuesday(4)), tuesday(2 * 24 + 2));
        assert_eq!(window.next(tuesday(3 * 24)), tuesday(7 * 24 + 2));
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_it_begins_on() {
        let window = window(&["mon"], "22:00", "03:00").unwrap();
        assert!(window.is_open(tuesday(-1)) && window.is_open(tuesday(2)));
        assert!(!window.is_open(tuesday(3)) && !window.is_open(tuesday(23)));
        assert_eq!(window.next(tuesday(3)), tuesday(6 * 24 + 22));
    }

    #[test]
    fn days_and_hours_that_do_not_exist_are_refused() {
        for (days, from, until) in [
            (&[][..], "02:00", "04:00"),
            (&["Tuesday"][..], "02:00", "04:00"),
            (&["tue"][..], "24:00", "04:00"),
            (&["tue"][..], "2:00", "04:00"),
            (&["tue"][..], "02:60", "04:00"),
            (&["tue"][..], "+2:00", "04:00"),
        ] {
            assert!(
                window(days, from, until).is_err(),
                "{days:?} {from} {until}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_next_opening_is_open_and_within_a_week(
            at in 1_700_000_000i64..1_900_000_000, day in 0usize..7, from in 0i64..24, until in 0i64..24,
        ) {
            let window = window(&[DAYS[day].0], &format!("{from:02}:00"), &format!("{until:02}:00")).unwrap();
            let next = window.next(Timestamp(at));
            prop_assert!(next.0 >= at && next.0 <= at + 7 * DAY);
            prop_assert!(window.is_open(next));
        }
    }
}
