//! What is shown of a found message: the text around the first match, in pieces, never as markup.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation;

use super::query::Query;

/// Most characters of a snippet.
const CHARS_MAX: usize = 160;
/// Characters before the first match, in a text that does not fit whole.
const CHARS_BEFORE: usize = 40;

/// A piece of a snippet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Piece {
    pub text: String,
    /// Whether this is a word that was searched for.
    #[serde(rename = "match")]
    pub is_match: bool,
}

/// The pieces of a text around the first match; its beginning where nothing matches.
pub(super) fn snippet(content: &str, query: &Query) -> Vec<Piece> {
    let matches = query.matches(content);
    let window = window(content, matches.first().cloned().unwrap_or(0..0));
    let mut pieces = Vec::new();
    let mut push = |range: Range<usize>, is_match| {
        if !range.is_empty() {
            pieces.push(Piece { text: content[range].to_owned(), is_match });
        }
    };
    let mut at = window.start;
    for found in matches {
        let (start, end) = (found.start.clamp(at, window.end), found.end.clamp(at, window.end));
        push(at..start, false);
        push(start..end, true);
        at = end;
    }
    push(at..window.end, false);
    pieces
}

/// The part of a text that is shown, cut where what a reader takes for a character ends.
fn window(content: &str, first: Range<usize>) -> Range<usize> {
    let boundaries: Vec<usize> = content.grapheme_indices(true).map(|(at, _)| at).chain([content.len()]).collect();
    let forward =
        |from: usize| content[from..].char_indices().nth(CHARS_MAX).map_or(content.len(), |(length, _)| from + length);
    let mut start = 0;
    if forward(0) < content.len() {
        let before = content[..first.start].char_indices().rev().take(CHARS_BEFORE).last();
        let wanted = before.map_or(first.start, |(at, _)| at);
        // A match may begin inside of what a reader takes for one character.
        start = boundaries[boundaries.partition_point(|at| *at < wanted)].min(first.start);
    }
    let end = forward(start);
    let cut = boundaries[boundaries.partition_point(|at| *at <= end) - 1];
    start..if cut > first.start { cut } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matches in brackets.
    fn shown(content: &str, q: &str) -> String {
        let pieces = snippet(content, &Query::parse(q));
        pieces.into_iter().map(|piece| if piece.is_match { format!("[{}]", piece.text) } else { piece.text }).collect()
    }

    #[test]
    fn matches_are_told_apart_from_the_rest_in_the_original_text() {
        assert_eq!(shown("Hello, World!", "WOR"), "Hello, [World]!");
        assert_eq!(shown("İstanbul, die Straße, <b>x</b>", "strasse b"), "İstanbul, die [Straße], <[b]>x</[b]>");
        assert_eq!(shown("我在東京住，東方", "東京"), "我在[東京]住，東方");
        assert_eq!(shown("nothing here", "else"), "nothing here");
        assert_eq!(shown("", "x"), "");
        let pieces = serde_json::to_value(snippet("a b", &Query::parse("b"))).unwrap();
        assert_eq!(pieces, serde_json::json!([{"text": "a ", "match": false}, {"text": "b", "match": true}]));
    }

    #[test]
    fn a_long_text_is_shown_around_its_first_match() {
        let content = format!("{} needle {}", "é".repeat(100), "ü".repeat(300));
        let text = shown(&content, "needle");
        assert!(text.starts_with(&format!("{} [needle] ü", "é".repeat(CHARS_BEFORE - 1))), "{text}");
        assert_eq!(text.chars().count(), CHARS_MAX + 2);
        let whole = format!("needle{}", "-".repeat(CHARS_MAX - 6));
        assert_eq!(shown(&whole, "needle"), format!("[needle]{}", "-".repeat(CHARS_MAX - 6)));
        assert_eq!(shown(&format!("{whole}-"), "needle"), shown(&whole, "needle"));
    }

    #[test]
    fn no_emoji_is_cut_in_two() {
        let family = "👨‍👩‍👧‍👦";
        let text = shown(&format!("{} x {}", family.repeat(30), family.repeat(30)), "x");
        assert!(text.trim_end_matches(family).trim_start_matches(family) == " [x] ", "{text}");
        let stacked = format!("x{}", "\u{301}".repeat(500));
        assert_eq!(snippet(&stacked, &Query::parse("x"))[0].text.chars().count(), CHARS_MAX);
    }

    proptest::proptest! {
        #[test]
        fn a_snippet_is_a_part_of_the_text_and_short(content in "\\PC{0,400}", q in "\\PC{1,5}") {
            let text: String = snippet(&content, &Query::parse(&q)).into_iter().map(|piece| piece.text).collect();
            proptest::prop_assert!(content.contains(&text) && text.chars().count() <= CHARS_MAX);
        }
    }
}
