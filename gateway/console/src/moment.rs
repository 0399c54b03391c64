//! Times as a person in Japan reads them. Knows no clock.

use gateway_policy::Timestamp;
use gateway_policy::calendar::{Date, Weekday};

/// 2026年11月24日
pub(crate) fn day(at: Timestamp) -> String {
    let date = Date::in_japan(at);
    format!("{}年{}月{}日", date.year, date.month, date.day)
}

/// 11月24日（火）9:05
pub(crate) fn minute(at: Timestamp) -> String {
    format!("{}{}", date(at), clock(at))
}

/// 11月24日（火）
pub(crate) fn date(at: Timestamp) -> String {
    let date = Date::in_japan(at);
    format!("{}月{}日（{}）", date.month, date.day, weekday(date))
}

/// 2026年11月24日（火）
pub(crate) fn full_date(at: Timestamp) -> String {
    format!("{}年{}", Date::in_japan(at).year, date(at))
}

/// 9:05
pub(crate) fn clock(at: Timestamp) -> String {
    let seconds = Date::in_japan(at).midnight_in_japan().age(at);
    format!("{}:{:02}", seconds / 3600, seconds / 60 % 60)
}

/// 2026-11-24, as a date field gives and takes it.
pub(crate) fn iso(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

/// Reads what [`iso`] writes, of a day that exists.
pub(crate) fn parse_iso(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let date = Date {
        year: parts
            .next()?
            .parse()
            .ok()
            .filter(|year| (1..10_000).contains(year))?,
        month: parts.next()?.parse().ok()?,
        day: parts.next()?.parse().ok()?,
    };
    (Date::in_japan(date.midnight_in_japan()) == date).then_some(date)
}

/// 2026年11月24日
pub(crate) fn whole_day(date: Date) -> String {
    day(date.midnight_in_japan())
}

/// How much time is left, to the hour or minute, in whole Japanese units.
pub(crate) fn remaining(seconds: i64) -> String {
    match seconds {
        i64::MIN..60 => "まもなく".to_owned(),
        60..3600 => format!("あと{}分", seconds / 60),
        3600..172_800 => format!("あと{}時間", seconds / 3600),
        _ => format!("あと{}日", seconds / 86_400),
    }
}

/// 2026-11-24T09:05:00+09:00, for programs.
pub(crate) fn machine(at: Timestamp) -> String {
    let date = Date::in_japan(at);
    machine_on(date, date.midnight_in_japan().age(at))
}

/// As [`minute`] and [`machine`]: a page of notes has many of both, and what day it is need be found out once.
pub(crate) fn minute_and_machine(at: Timestamp) -> (String, String) {
    let date = Date::in_japan(at);
    let seconds = date.midnight_in_japan().age(at);
    let mut shown = String::with_capacity(32);
    push(&mut shown, date.month.into(), 1);
    shown.push('月');
    push(&mut shown, date.day.into(), 1);
    shown.push_str("日（");
    shown.push_str(weekday(date));
    shown.push('）');
    push(&mut shown, seconds / 3600, 1);
    shown.push(':');
    push(&mut shown, seconds / 60 % 60, 2);
    (shown, machine_on(date, seconds))
}

fn machine_on(date: Date, seconds: i64) -> String {
    let mut text = String::with_capacity(25);
    push(&mut text, date.year, 4);
    text.push('-');
    push(&mut text, date.month.into(), 2);
    text.push('-');
    push(&mut text, date.day.into(), 2);
    for (before, number) in [
        ('T', seconds / 3600),
        (':', seconds / 60 % 60),
        (':', seconds % 60),
    ] {
        text.push(before);
        push(&mut text, number, 2);
    }
    text.push_str("+09:00");
    text
}

/// A number that is not negative with at least `digits` digits: what `{:02}` does, at a tenth of the price.
fn push(text: &mut String, number: i64, digits: usize) {
    let mut ascii = [b'0'; 20];
    let mut rest = number.unsigned_abs();
    let mut begin = ascii.len();
    while rest > 0 || ascii.len() - begin < digits {
        begin -= 1;
        ascii[begin] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    text.extend(ascii[begin..].iter().copied().map(char::from));
}

const fn weekday(date: Date) -> &'static str {
    match date.weekday() {
        Weekday::Sunday => "日",
        Weekday::Monday => "月",
        Weekday::Tuesday => "火",
        Weekday::Wednesday => "水",
        Weekday::Thursday => "木",
        Weekday::Friday => "金",
        Weekday::Saturday => "土",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_on_a_clock_in_japan() {
        let at = Timestamp(1_795_476_305);
        assert_eq!(day(at), "2026年11月24日");
        assert_eq!(minute(at), "11月24日（火）8:25");
        assert_eq!(machine(at), "2026-11-24T08:25:05+09:00");
        for at in [0, 1, 86_399, 1_795_476_305, 1_767_193_200, 4_102_444_799] {
            let at = Timestamp(at);
            assert_eq!(minute_and_machine(at), (minute(at), machine(at)));
        }
        assert_eq!(machine(Timestamp(0)), "1970-01-01T09:00:00+09:00");
    }
}
