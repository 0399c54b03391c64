//! What a person typed, made fit for a register: one line of ordinary text within bounds.

use gateway_policy::Timestamp;
use gateway_policy::calendar::Date;
use unicode_normalization::UnicodeNormalization as _;

use crate::{Field, Refused};

/// Characters in one field; more than fits on a label, less than a story.
pub(crate) const LONGEST: usize = 100;

/// The text without surrounding blanks.
pub(crate) fn line(field: Field, text: &str) -> Result<String, Refused> {
    let text = optional(field, text)?;
    if text.is_empty() {
        return Err(Refused::Empty(field));
    }
    Ok(text)
}

/// As [`line`], or nothing.
pub(crate) fn optional(field: Field, text: &str) -> Result<String, Refused> {
    let text: String = text.trim().nfc().collect();
    if text.chars().count() > LONGEST {
        return Err(Refused::TooLong(field));
    }
    if text.chars().any(is_no_text) {
        return Err(Refused::NoText(field));
    }
    Ok(text)
}

/// Control characters, and those that make a text read otherwise than it is written (bidirectional controls, UAX #9).
fn is_no_text(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// For comparing labels: 「ＵＳＢ－１」 and 「usb-1」 are the same to whoever looks for it in a drawer.
pub(crate) fn folded(label: &str) -> String {
    label
        .nfkc()
        .flat_map(char::to_lowercase)
        .filter(|character| !character.is_whitespace())
        .collect()
}

/// A day that exists.
pub(crate) fn day(field: Field, date: Date) -> Result<Date, Refused> {
    let exists =
        (2000..3000).contains(&date.year) && Date::in_japan(date.midnight_in_japan()) == date;
    if exists {
        Ok(date)
    } else {
        Err(Refused::NoSuchDay(field))
    }
}

/// 2026-11-24
pub(crate) fn iso(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

/// Reads what [`iso`] writes.
pub(crate) fn parse_iso(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let date = Date {
        year: parts.next()?.parse().ok()?,
        month: parts.next()?.parse().ok()?,
        day: parts.next()?.parse().ok()?,
    };
    (Date::in_japan(date.midnight_in_japan()) == date).then_some(date)
}

/// 2026-11-24 09:05 in Japan.
pub(crate) fn moment(at: Timestamp) -> String {
    let date = Date::in_japan(at);
    let seconds = date.midnight_in_japan().age(at);
    format!(
        "{} {:02}:{:02}",
        iso(date),
        seconds / 3600,
        seconds / 60 % 60
    )
}

/// Days as events keep them.
pub(crate) mod as_iso {
    use gateway_policy::calendar::Date;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(date: &Date, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::iso(*date))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Date, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_iso(&text).ok_or_else(|| D::Error::custom("no day"))
    }
}

/// Days that may be absent, as events keep them.
pub(crate) mod as_iso_or_none {
    use gateway_policy::calendar::Date;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(date: &Option<Date>, to: S) -> Result<S::Ok, S::Error> {
        match date {
            Some(date) => to.serialize_some(&super::iso(*date)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Date>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| super::parse_iso(&text).ok_or_else(|| D::Error::custom("no day")))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_trimmed_bounded_and_ordinary() {
        assert_eq!(line(Field::Label, "　USB-1 "), Ok("USB-1".into()));
        assert_eq!(line(Field::Label, " \t"), Err(Refused::Empty(Field::Label)));
        assert_eq!(
            line(Field::Owner, &"あ".repeat(101)),
            Err(Refused::TooLong(Field::Owner))
        );
        assert!(line(Field::Owner, &"あ".repeat(100)).is_ok());
        for wrong in ["a\nb", "a\0b", "a\u{202e}b", "\u{feff}a\u{2066}"] {
            assert_eq!(
                line(Field::Place, wrong),
                Err(Refused::NoText(Field::Place))
            );
        }
    }

    #[test]
    fn labels_that_look_alike_are_alike() {
        assert_eq!(folded("ＵＳＢ－１"), folded("usb-1"));
        assert_eq!(folded("ｶｾｯﾄ 2"), folded("カセット2"));
        assert_ne!(folded("USB-1"), folded("USB-11"));
    }

    #[test]
    fn only_days_that_exist_are_days() {
        let date = |year, month, day| Date { year, month, day };
        assert!(day(Field::Day, date(2028, 2, 29)).is_ok());
        for wrong in [
            date(2027, 2, 29),
            date(2027, 13, 1),
            date(2027, 0, 1),
            date(27, 1, 1),
        ] {
            assert!(day(Field::Day, wrong).is_err());
        }
        assert_eq!(parse_iso("2026-11-24"), Some(date(2026, 11, 24)));
        for wrong in ["2026-11-31", "2026-11", "", "2026-11-24x", "a-b-c"] {
            assert_eq!(parse_iso(wrong), None);
        }
    }
}
