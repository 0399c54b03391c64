//! Brings text into the form in which it is searched: what a care worker takes for the same word is the same.
//!
//! Compatibility forms and widths (NFKC, Unicode Standard Annex #15), upper and lower case, katakana and hiragana, small and
//! large kana, variants of characters in names (髙 and 高) are one; long-vowel marks, hyphens, blanks and line ends do not count,
//! so コンピュータ finds コンピューター and 山田ハナ finds 山田　ハナ. It does not split text into words: Japanese has no blanks.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use zeroize::Zeroizing;

/// The folded form of `text`.
pub(crate) fn fold(text: &str) -> Zeroizing<String> {
    // Folding lengthens only ligatures and the like; with room for those, the buffer does not move and leaves no copy.
    let mut folded = Zeroizing::new(String::with_capacity(text.len() + 64));
    fold_onto(&mut folded, text);
    folded
}

/// Folds `text` onto the end of `folded`.
pub(crate) fn fold_onto(folded: &mut String, text: &str) {
    for piece in Pieces(text) {
        fold_piece(folded, piece);
    }
}

/// A folded text that still knows where each of its bytes comes from.
pub(crate) struct Traced {
    pub(crate) folded: Zeroizing<String>,
    /// For each byte of `folded`: where its piece begins and ends in the original.
    from: Vec<(usize, usize)>,
}

impl Traced {
    pub(crate) fn new(text: &str) -> Self {
        let mut traced = Self {
            folded: Zeroizing::new(String::with_capacity(text.len() + 64)),
            from: Vec::with_capacity(text.len()),
        };
        let mut at = 0;
        for piece in Pieces(text) {
            fold_piece(&mut traced.folded, piece);
            let end = at + piece.len();
            traced.from.resize(traced.folded.len(), (at, end));
            at = end;
        }
        traced
    }

    /// The part of the original that became `start..end` of the folded text, which is not empty.
    pub(crate) fn origin(&self, start: usize, end: usize) -> Option<(usize, usize)> {
        let first = self.from.get(start)?.0;
        let last = self.from.get(end.checked_sub(1)?)?.1;
        (first < last).then_some((first, last))
    }
}

/// Cuts text into characters, each with the marks that change it.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut characters = self.0.char_indices();
        characters.next()?;
        let end = characters
            .find(|(_, character)| !changes_the_one_before(*character))
            .map_or(self.0.len(), |(at, _)| at);
        let (piece, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(piece)
    }
}

fn changes_the_one_before(character: char) -> bool {
    match character {
        '\0'..='\u{2ff}' | '\u{4e00}'..='\u{9fff}' => false,
        // The voicing marks of half-width katakana.
        '\u{ff9e}' | '\u{ff9f}' => true,
        _ => is_combining_mark(character) || is_invisible(character),
    }
}

fn fold_piece(folded: &mut String, piece: &str) {
    let mut characters = piece.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) if is_its_own_nfkc(character) => push(folded, character),
        _ => piece
            .nfkc()
            .flat_map(char::to_lowercase)
            .for_each(|character| push(folded, character)),
    }
}

/// The characters of which notes are made, and of which we know that normalisation leaves them alone.
const fn is_its_own_nfkc(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{7f}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fe}' | '\u{4e00}'..='\u{9fff}'
    )
}

fn push(folded: &mut String, character: char) {
    let character = name_variant(hiragana(character.to_ascii_lowercase()));
    if !does_not_count(character) {
        folded.push(character);
    }
}

/// Katakana as hiragana, small kana as large.
fn hiragana(character: char) -> char {
    let hiragana = match character {
        '\u{30a1}'..='\u{30f6}' | '\u{30fd}' | '\u{30fe}' => {
            char::from_u32(u32::from(character) - 0x60).unwrap_or(character)
        }
        other => other,
    };
    match hiragana {
        'ぁ' => 'あ',
        'ぃ' => 'い',
        'ぅ' => 'う',
        'ぇ' => 'え',
        'ぉ' => 'お',
        'っ' => 'つ',
        'ゃ' => 'や',
        'ゅ' => 'ゆ',
        'ょ' => 'よ',
        'ゎ' => 'わ',
        'ゕ' => 'か',
        'ゖ' => 'け',
        other => other,
    }
}

/// Characters of names that are written one way or the other, often for the same person.
const fn name_variant(character: char) -> char {
    match character {
        '髙' => '高',
        '﨑' | '嵜' => '崎',
        '濵' | '濱' => '浜',
        '邊' | '邉' => '辺',
        '齋' | '齊' | '斉' => '斎',
        '澤' => '沢',
        '嶋' | '嶌' => '島',
        '廣' => '広',
        '國' => '国',
        '德' => '徳',
        '惠' => '恵',
        '櫻' => '桜',
        '眞' => '真',
        '瀨' => '瀬',
        '壽' => '寿',
        '榮' => '栄',
        '黑' => '黒',
        '曾' => '曽',
        '條' => '条',
        '增' => '増',
        '靜' => '静',
        '關' => '関',
        '舘' => '館',
        '峯' => '峰',
        '冨' => '富',
        '淵' => '渕',
        '籠' => '篭',
        '檜' => '桧',
        '藪' => '薮',
        '籔' => '薮',
        '𠮷' => '吉',
        other => other,
    }
}

fn does_not_count(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || is_invisible(character)
        // Voicing marks that belong to no kana.
        || matches!(character, '\u{3099}' | '\u{309a}')
        // Hyphens, dashes, minus and the long-vowel mark, which people type for one another.
        || matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | 'ー' | '〜' | '~')
}

/// Joiners and variation selectors.
const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_the_same_word_folds_to_the_same() {
        for (one, other) in [
            ("コンピューター", "こんぴゅーた"),
            ("ｺﾝﾋﾟｭｰﾀｰ", "コンピュータ"),
            ("ﾊﾞｲﾀﾙ", "バイタル"),
            ("ＳｐＯ２", "spo2"),
            ("山田　ハナ", "山田はな"),
            ("髙橋", "高橋"),
            ("山﨑", "山崎"),
            ("０９０－１２３４", "0901234"),
            ("㎎", "MG"),
            ("シヨート", "ショート"),
            ("葛\u{e0100}城", "葛城"),
            ("か\u{3099}", "が"),
            ("ヴ", "ゔ"),
            ("①", "1"),
            ("発熱\r\nあり", "発熱あり"),
        ] {
            assert_eq!(*fold(one), *fold(other), "{one} {other}");
        }
        for (one, other) in [("か", "が"), ("は", "ぱ"), ("熱", "然"), ("12", "21")] {
            assert_ne!(*fold(one), *fold(other), "{one} {other}");
        }
    }

    #[test]
    fn a_traced_text_leads_back_to_what_was_written() {
        let text = "ご家族より　ｼｮｰﾄｽﾃｲの希望";
        let traced = Traced::new(text);
        let at = traced.folded.find(fold("ショートステイ").as_str()).unwrap();
        let (start, end) = traced
            .origin(at, at + fold("ショートステイ").len())
            .unwrap();
        assert_eq!(&text[start..end], "ｼｮｰﾄｽﾃｲ");
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing_more(text in "[ -~ぁ-ゖァ-ヶ一-龥ｦ-ﾟー－　０-９Ａ-ｚ]{0,60}") {
            let once = fold(&text);
            prop_assert_eq!(&*fold(&once), &*once);
        }

        #[test]
        fn a_traced_text_is_the_folded_one_and_its_origins_are_characters(text in ".{0,60}") {
            let traced = Traced::new(&text);
            prop_assert_eq!(&*traced.folded, &*fold(&text));
            for (at, character) in traced.folded.char_indices() {
                let (start, end) = traced.origin(at, at + character.len_utf8()).unwrap();
                prop_assert!(text.is_char_boundary(start) && text.is_char_boundary(end));
            }
        }
    }
}
