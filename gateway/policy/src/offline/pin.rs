//! The form of an offline PIN, and which ones are too easy to guess. It does not keep, hash or compare any.

use std::fmt;

use zeroize::Zeroizing;

/// The fewest digits.
const LEAST: usize = 6;
/// The most; nobody remembers more.
const MOST: usize = 12;

/// Ways over a keypad and other favourites that no rule below finds.
const FAVOURITES: [&str; 18] = [
    "147258", "258369", "147369", "369258", "159753", "753159", "159357", "357159", "789456",
    "456123", "147896", "741852", "852963", "963852", "142536", "415263", "102030", "314159",
];

/// An offline PIN in its one form: ASCII digits. Wiped when dropped, shown nowhere.
pub struct Pin(Zeroizing<String>);

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

/// Why a PIN is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinFault {
    /// Something that is not a digit.
    #[error("not only digits")]
    NotDigits,
    /// Too short or too long.
    #[error("not 6 to 12 digits")]
    Length,
    /// One or two digits only, such as 000000.
    #[error("too few different digits")]
    FewDigits,
    /// Counted up or down, such as 123456.
    #[error("digits in order")]
    InOrder,
    /// The same again, such as 123123.
    #[error("a repetition")]
    Repeated,
    /// A date, as of a birthday.
    #[error("a date")]
    Date,
    /// Well known, such as a way over the keypad.
    #[error("well known")]
    WellKnown,
}

impl Pin {
    /// What somebody typed, to be compared with a PIN that was set: full-width digits are digits, spaces and hyphens are
    /// left out. It is not asked whether the PIN is easy to guess.
    ///
    /// # Errors
    /// [`PinFault::NotDigits`] and [`PinFault::Length`].
    pub fn typed(text: &str) -> Result<Self, PinFault> {
        // Room for the longest, so that no half-filled buffer is left behind when it grows.
        let mut digits = Zeroizing::new(String::with_capacity(MOST + 1));
        for letter in text.chars() {
            match letter {
                '0'..='9' => digits.push(letter),
                '０'..='９' => {
                    let value = u32::from(letter) - u32::from('０');
                    digits.push(char::from_digit(value, 10).ok_or(PinFault::NotDigits)?);
                }
                ' ' | '　' | '-' | '－' | 'ー' => {}
                _ => return Err(PinFault::NotDigits),
            }
            if digits.len() > MOST {
                return Err(PinFault::Length);
            }
        }
        if digits.len() < LEAST {
            return Err(PinFault::Length);
        }
        Ok(Self(digits))
    }

    /// A PIN to be set.
    ///
    /// # Errors
    /// [`PinFault`].
    pub fn chosen(text: &str) -> Result<Self, PinFault> {
        let pin = Self::typed(text)?;
        match weakness(pin.0.as_bytes()) {
            Some(fault) => Err(fault),
            None => Ok(pin),
        }
    }

    /// The digits; do not copy them to where they are not wiped.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether both are the same. Not for PINs that are kept; those are compared as hashes, in constant time.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

fn weakness(digits: &[u8]) -> Option<PinFault> {
    let mut seen = [false; 10];
    for digit in digits {
        seen[usize::from((digit - b'0').min(9))] = true;
    }
    let different = seen.iter().filter(|seen| **seen).count();
    let text = std::str::from_utf8(digits).unwrap_or_default();
    if different < 3 {
        Some(PinFault::FewDigits)
    } else if is_in_order(digits) {
        Some(PinFault::InOrder)
    } else if is_repeated(digits) {
        Some(PinFault::Repeated)
    } else if is_date(text) {
        Some(PinFault::Date)
    } else if FAVOURITES.iter().any(|favourite| text.contains(favourite)) {
        Some(PinFault::WellKnown)
    } else {
        None
    }
}

/// Each digit one above the one before, or each one below; 9 and 0 are neighbours.
fn is_in_order(digits: &[u8]) -> bool {
    let steps = |by: u8| {
        digits
            .windows(2)
            .all(|pair| (pair[0] - b'0' + by) % 10 == pair[1] - b'0')
    };
    steps(1) || steps(9)
}

/// 123123, 12341234, 112233, 987987 and the like.
fn is_repeated(digits: &[u8]) -> bool {
    let by_blocks = (1..=digits.len() / 2)
        .filter(|length| digits.len().is_multiple_of(*length))
        .any(|length| {
            digits
                .chunks(length)
                .all(|block| block == &digits[..length])
        });
    let doubled = digits.len().is_multiple_of(2) && digits.chunks(2).all(|pair| pair[0] == pair[1]);
    let mirrored = digits.iter().eq(digits.iter().rev());
    by_blocks || doubled || mirrored
}

/// As people write a birthday: YYMMDD (of any era), MMDDYY, DDMMYY, YYYYMM, YYYYMMDD, MMDDYYYY, DDMMYYYY, EYYMMDD.
fn is_date(text: &str) -> bool {
    let number = |from: usize, to: usize| {
        text.get(from..to)
            .and_then(|part| part.parse::<u32>().ok())
            .unwrap_or(0)
    };
    let month = |from: usize| (1..=12).contains(&number(from, from + 2));
    let day = |from: usize| (1..=31).contains(&number(from, from + 2));
    let year = |from: usize| (1900..=2099).contains(&number(from, from + 4));
    match text.len() {
        6 => {
            (month(2) && day(4))
                || (month(0) && day(2))
                || (day(0) && month(2))
                || (year(0) && month(4))
        }
        // The era as one digit: 1 明治 to 5 令和.
        7 => (1..=5).contains(&number(0, 1)) && month(3) && day(5),
        8 => {
            (year(0) && month(4) && day(6))
                || (month(0) && day(2) && year(4))
                || (day(0) && month(2) && year(4))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_easy_to_guess_is_refused_and_says_why() {
        for (text, fault) in [
            ("000000", PinFault::FewDigits),
            ("112112", PinFault::FewDigits),
            ("123456", PinFault::InOrder),
            ("987654", PinFault::InOrder),
            ("890123", PinFault::InOrder),
            ("432109", PinFault::InOrder),
            ("123123", PinFault::Repeated),
            ("112233", PinFault::Repeated),
            ("48154815", PinFault::Repeated),
            ("791197", PinFault::Repeated),
            ("850412", PinFault::Date),
            ("041285", PinFault::Date),
            ("311299", PinFault::Date),
            ("198504", PinFault::Date),
            ("19850412", PinFault::Date),
            ("3600412", PinFault::Date),
            ("159753", PinFault::WellKnown),
            ("12345", PinFault::Length),
            ("1234567890123", PinFault::Length),
            ("12a456", PinFault::NotDigits),
            ("", PinFault::Length),
        ] {
            assert_eq!(Pin::chosen(text).err(), Some(fault), "{text}");
        }
    }

    #[test]
    fn what_is_not_easy_to_guess_is_taken_however_it_is_typed() {
        for text in ["803917", "８０３９１７", "803-917", "８０３　９１７"] {
            let pin = Pin::chosen(text).unwrap();
            assert_eq!(pin.as_bytes(), b"803917");
            assert!(pin.is_same_as(&Pin::typed("803917").unwrap()));
            assert_eq!(format!("{pin:?}"), "Pin(..)");
        }
    }

    #[test]
    fn most_pins_of_six_digits_are_left() {
        let taken = (0..1_000_000)
            .filter(|number| Pin::chosen(&format!("{number:06}")).is_ok())
            .count();
        assert!(taken > 880_000, "{taken}");
    }
}
