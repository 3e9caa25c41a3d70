//! Fuzzes what is shown of a found message: the first line is what was searched for, the rest the message.
#![no_main]

use tidings::store::search::snippet_of;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (query, content) = text.split_once('\n').unwrap_or((text, text));
    let pieces = snippet_of(content, query);
    assert!(pieces.iter().all(|piece| !piece.text.is_empty()));
    let shown: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert!(content.contains(&shown), "a snippet is a part of its text");
    assert!(shown.chars().count() <= 160);
    // A text that fits is shown whole.
    assert!(content.chars().count() > 160 || shown == content);
});
