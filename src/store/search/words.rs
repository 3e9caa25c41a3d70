//! Taking texts apart into words, the same way for the index, for questions and for what is shown of a message.
//! The databases never see anything but these words, so that both find the same.

use std::ops::Range;

/// What is left of a longer word, in characters; no question is longer.
const WORD_CHARS_MAX: usize = 200;

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Without the difference of upper and lower case; letters, digits and marks alone.
    pub text: String,
    /// Where it stands, in bytes.
    pub range: Range<usize>,
    /// Whether it is one character of a script that is written without spaces.
    pub is_alone: bool,
}

/// The words of a text, in order.
pub(super) fn words_of(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut is_open = false;
    for (at, character) in text.char_indices() {
        let end = at + character.len_utf8();
        let is_alone = has_no_spaces(character);
        match words.last_mut() {
            Some(word) if is_open && !is_alone && (character.is_alphanumeric() || is_mark(character)) => {
                word.range.end = end;
                word.push(character);
            }
            _ if is_alone || character.is_alphanumeric() => {
                let mut word = Word { text: String::new(), range: at..end, is_alone };
                word.push(character);
                words.push(word);
                is_open = !is_alone;
            }
            _ => is_open = false,
        }
    }
    words
}

impl Word {
    /// By way of the upper case, so that `ß` is `ss` and `ς` is `σ`.
    fn push(&mut self, character: char) {
        let room = WORD_CHARS_MAX.saturating_sub(self.text.chars().count());
        let folded = character.to_uppercase().flat_map(char::to_lowercase);
        self.text.extend(folded.take(room));
    }
}

/// Whether a character belongs to a script that is written without spaces between words. None of them has cases.
fn has_no_spaces(character: char) -> bool {
    matches!(u32::from(character),
        0x0E00..=0x0EFF // Thai, Lao
        | 0x1000..=0x109F // Myanmar
        | 0x1780..=0x17FF // Khmer
        | 0x3005..=0x3007 | 0x3040..=0x30FF | 0x31F0..=0x31FF | 0xFF66..=0xFF9F // Hiragana, Katakana
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF // Han
    )
}

/// Combining marks and joiners, which belong to the word they stand in though they are no letters.
fn is_mark(character: char) -> bool {
    matches!(u32::from(character), 0x0300..=0x036F | 0x0483..=0x0487 | 0x0591..=0x05C7 | 0x0610..=0x061A
        | 0x064B..=0x065F | 0x0670 | 0x0900..=0x0903 | 0x093A..=0x094F | 0x0981..=0x0983 | 0x09BC..=0x09CD
        | 0x0A3C..=0x0A4D | 0x0ABC..=0x0ACD | 0x0B3C..=0x0B4D | 0x0BCD | 0x0C3C..=0x0C4D | 0x0CBC..=0x0CCD
        | 0x0D3B..=0x0D4D | 0x0DCA | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x200C..=0x200D | 0x20D0..=0x20FF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        words_of(text).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_ignore_case_and_scripts_without_spaces_are_taken_apart() {
        assert_eq!(texts("Hello, World! It's 2nd"), ["hello", "world", "it", "s", "2nd"]);
        assert_eq!(texts("東京tower สวย"), ["東", "京", "tower", "ส", "ว", "ย"]);
        assert_eq!(texts("ÉCOLE e\u{301}cole"), ["école", "e\u{301}cole"]);
        assert_eq!(texts("Straße STRASSE ΟΔΟΣ οδος"), ["strasse", "strasse", "οδοσ", "οδοσ"]);
        assert_eq!(texts("हिन्दी தமிழ்"), ["हिन्दी", "தமிழ்"]);
        assert_eq!(texts(" -- 👍🏽 \u{301} \" * ' \\ % _ :"), [""; 0]);
    }

    #[test]
    fn a_words_place_is_that_in_the_text_though_its_case_changes_its_length() {
        let text = "İ ﬁn ẞ京x";
        let shown: Vec<&str> = words_of(text).into_iter().map(|word| &text[word.range]).collect();
        assert_eq!(shown, ["İ", "ﬁn", "ẞ", "京", "x"]);
    }

    #[test]
    fn a_long_word_is_kept_as_one_by_its_beginning() {
        let text = "é".repeat(5_000);
        let words = words_of(&text);
        assert_eq!((words.len(), words[0].range.clone()), (1, 0..10_000));
        assert_eq!(words[0].text, "é".repeat(WORD_CHARS_MAX));
    }

    proptest::proptest! {
        #[test]
        fn words_hold_nothing_that_a_database_could_take_for_its_own(text in "\\PC{0,60}") {
            let mut end = 0;
            for word in words_of(&text) {
                proptest::prop_assert!(word.range.start >= end && !word.range.is_empty());
                end = word.range.end;
                proptest::prop_assert!(!word.text.is_empty());
                proptest::prop_assert!(word.text.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric()));
            }
        }
    }
}
