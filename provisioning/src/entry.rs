//! What a manager types from the city's letter: certificate number (電子証明書取得用番号) and access code (アクセスコード).
//!
//! It does not know which ones are right. It forgives how people type (full-width digits, any hyphen, any space) and
//! nothing else. Both are wiped when dropped, cannot be cloned and are never shown.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;
use zeroize::{Zeroize as _, Zeroizing};

/// Fewer characters than this cannot be meant.
const SHORTEST: usize = 4;
/// More characters than this cannot be meant.
const LONGEST: usize = 64;

/// Why an entry cannot be a number or a code. Never quotes what was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Nothing was typed.
    #[error("nothing was entered")]
    Empty,
    /// Fewer than 4 characters are left.
    #[error("too few characters")]
    TooShort,
    /// More than 64 characters are left.
    #[error("too many characters")]
    TooLong,
    /// Something that is neither digit nor Latin letter, hyphens and spaces aside.
    #[error("a character at position {position} that does not belong there")]
    Character {
        /// Position in the typed text, from 1.
        position: usize,
    },
}

/// 電子証明書取得用番号, as it goes to the city: digits and Latin letters only. The user part of HTTP Basic, hence
/// never a colon (RFC 7617 §2).
pub struct CertificateNumber(Zeroizing<String>);

/// アクセスコード, as it goes to the city: digits and Latin letters only.
pub struct AccessCode(Zeroizing<String>);

impl CertificateNumber {
    /// Reads what was typed; the typed text is wiped in any case.
    ///
    /// # Errors
    /// When it cannot be a number.
    pub fn parse(typed: String) -> Result<Self, EntryError> {
        normalise(typed).map(Self)
    }
}

impl AccessCode {
    /// Reads what was typed; the typed text is wiped in any case.
    ///
    /// # Errors
    /// When it cannot be a code.
    pub fn parse(typed: String) -> Result<Self, EntryError> {
        normalise(typed).map(Self)
    }
}

/// `base64(number ":" code)` for HTTP Basic (RFC 7617), wiped when dropped.
pub(crate) fn basic_credentials(
    number: &CertificateNumber,
    code: &AccessCode,
) -> Zeroizing<Vec<u8>> {
    use base64::Engine as _;
    let mut pair = Zeroizing::new(Vec::with_capacity(2 * LONGEST + 1));
    pair.extend_from_slice(number.0.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(code.0.as_bytes());
    // Sized beforehand, so that no shorter copy is left behind by a reallocation.
    let mut value = Zeroizing::new(vec![0; 6 + pair.len().div_ceil(3) * 4]);
    value[..6].copy_from_slice(b"Basic ");
    let written = base64::engine::general_purpose::STANDARD
        .encode_slice(&*pair, &mut value[6..])
        .expect("the buffer has base64's exact length");
    debug_assert_eq!(written + 6, value.len());
    value
}

fn normalise(mut typed: String) -> Result<Zeroizing<String>, EntryError> {
    let result = normalise_str(&typed);
    typed.zeroize();
    result
}

fn normalise_str(typed: &str) -> Result<Zeroizing<String>, EntryError> {
    // Never grows, so no reallocation leaves a copy behind.
    let mut out = Zeroizing::new(String::with_capacity(LONGEST));
    for (index, typed) in typed.chars().enumerate() {
        // NFKC of one character at a time: full-width digits and letters become ASCII; nothing here combines.
        for character in std::iter::once(typed).nfkc() {
            if is_separator(typed) || is_separator(character) {
                continue;
            }
            if !character.is_ascii_alphanumeric() {
                return Err(EntryError::Character {
                    position: index + 1,
                });
            }
            if out.len() == LONGEST {
                return Err(EntryError::TooLong);
            }
            out.push(character);
        }
    }
    match out.len() {
        0 => Err(EntryError::Empty),
        length if length < SHORTEST => Err(EntryError::TooShort),
        _ => Ok(out),
    }
}

/// Every sort of hyphen, dash, long-vowel mark and blank that keyboards and word processors put between groups. The
/// kanji 一 is not among them: it could be meant as a digit, and guessing would spend one of five attempts.
fn is_separator(character: char) -> bool {
    matches!(character,
        '-' | '_' | '\u{00ad}' | '\u{058a}' | '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{207b}' | '\u{208b}'
        | '\u{2212}' | '\u{2500}' | '\u{2501}' | '\u{2e3a}' | '\u{2e3b}' | '\u{301c}' | '\u{3030}' | '\u{30a0}'
        | '\u{30fc}' | '\u{fe31}' | '\u{fe32}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' | '\u{ff5e}' | '\u{ff70}'
        // marks that copying from a document or a browser brings along
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}')
        || character.is_whitespace()
}

macro_rules! redacted {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    };
}
redacted!(CertificateNumber);
redacted!(AccessCode);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(typed: &str) -> Result<String, EntryError> {
        CertificateNumber::parse(typed.to_owned()).map(|number| number.0.to_string())
    }

    #[test]
    fn full_width_digits_and_every_sort_of_hyphen_are_understood() {
        for typed in [
            "123456789012",
            "1234-5678-9012",
            "１２３４－５６７８－９０１２",
            "１２３４ー５６７８ー９０１２",
            "1234‐5678‑9012",
            "1234–5678—9012",
            "1234−5678―9012",
            "1234ｰ5678ｰ9012",
            " 1234　5678\t9012\r\n",
            "\u{feff}1234\u{200b}56789012",
        ] {
            assert_eq!(parsed(typed).as_deref(), Ok("123456789012"), "{typed:?}");
        }
        assert_eq!(parsed("ＡｂＣ－１２３").as_deref(), Ok("AbC123"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_quoting_it() {
        assert_eq!(parsed(""), Err(EntryError::Empty));
        assert_eq!(parsed(" ー- "), Err(EntryError::Empty));
        assert_eq!(parsed("123"), Err(EntryError::TooShort));
        assert_eq!(parsed(&"1".repeat(65)), Err(EntryError::TooLong));
        assert_eq!(
            parsed("1234:5678"),
            Err(EntryError::Character { position: 5 })
        );
        assert_eq!(
            parsed("1234：5678"),
            Err(EntryError::Character { position: 5 })
        );
        assert_eq!(
            parsed("一二三四五"),
            Err(EntryError::Character { position: 1 })
        );
        let shown = format!("{:?}", parsed("12345É").unwrap_err());
        assert!(!shown.contains('É') && !shown.contains("12345"));
    }

    #[test]
    fn number_and_code_are_never_shown() {
        let number = CertificateNumber::parse("123456789012".into()).unwrap();
        let code = AccessCode::parse("98765432".into()).unwrap();
        assert_eq!(
            format!("{number:?} {code:?}"),
            "CertificateNumber(redacted) AccessCode(redacted)"
        );
        assert_eq!(
            basic_credentials(&number, &code).as_slice(),
            b"Basic MTIzNDU2Nzg5MDEyOjk4NzY1NDMy"
        );
    }

    proptest! {
        #[test]
        fn nothing_typed_makes_it_panic_and_what_passes_is_plain(typed in any::<String>()) {
            if let Ok(plain) = parsed(&typed) {
                prop_assert!(plain.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                prop_assert!((SHORTEST..=LONGEST).contains(&plain.len()));
            }
        }

        #[test]
        fn the_way_of_typing_does_not_change_the_meaning(
            plain in "[0-9A-Za-z]{4,64}",
            wide in prop::collection::vec(any::<bool>(), 64),
            marks in prop::collection::vec(prop::sample::select(vec!["", "", "-", "ー", "－", "–", " ", "　", "−"]), 64),
        ) {
            let mut typed = String::new();
            for ((character, wide), mark) in plain.chars().zip(wide).zip(marks) {
                let shifted = char::from_u32(u32::from(character) + 0xfee0).expect("full-width ASCII");
                typed.push(if wide { shifted } else { character });
                typed.push_str(mark);
            }
            let got = parsed(&typed);
            prop_assert_eq!(got.as_deref(), Ok(plain.as_str()));
        }
    }
}
