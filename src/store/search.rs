//! Full-text search over messages. The same words on both databases: texts are taken apart here, so
//! that scripts without spaces can be found by any run of their characters.

use super::sql::{Conn, execute, insert_rows};

/// The words of a text, lower case, separated by spaces. Each character of a script that writes no
/// spaces is a word of its own, so that a phrase of them finds any run.
pub(super) fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars().flat_map(char::to_lowercase) {
        let alone = has_no_spaces(character);
        if alone || !(character.is_alphanumeric() || is_mark(character)) {
            inside = false;
        }
        if alone || character.is_alphanumeric() || (inside && is_mark(character)) {
            if !inside && !words.is_empty() {
                words.push(' ');
            }
            words.push(character);
            inside = !alone;
        }
    }
    words
}

/// Whether a character belongs to a script that is written without spaces between words.
pub(super) fn has_no_spaces(character: char) -> bool {
    matches!(u32::from(character),
        0x0E00..=0x0EFF // Thai, Lao
        | 0x1000..=0x109F // Myanmar
        | 0x1780..=0x17FF // Khmer
        | 0x3040..=0x30FF // Hiragana, Katakana
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF // Han
    )
}

/// Combining marks and joiners, which belong to the word they stand in.
fn is_mark(character: char) -> bool {
    matches!(u32::from(character), 0x0300..=0x036F | 0x0483..=0x0487 | 0x0591..=0x05C7 | 0x0610..=0x061A
        | 0x064B..=0x065F | 0x0670 | 0x0900..=0x0903 | 0x093A..=0x094F | 0x0981..=0x0983 | 0x09BC..=0x09CD
        | 0x0A3C..=0x0A4D | 0x0B3C..=0x0BCD | 0x200C..=0x200D)
}

/// Makes messages findable by their words.
pub(super) async fn insert_words(conn: &mut Conn<'_>, texts: &[(i64, &str)]) -> Result<(), sqlx::Error> {
    match conn {
        Conn::Sqlite(_) => {
            insert_rows!(conn, "INSERT INTO message_search (rowid, words)", "", texts, 2, |query, row| {
                query = query.bind(row.0).bind(row.1.to_owned());
            })
        }
        Conn::Postgres(_) => {
            // The words are a text of their own, as the tokenizer above left them.
            let head = "INSERT INTO message_search (message_id, words)
                        SELECT id, to_tsvector('simple', words) FROM (";
            insert_rows!(conn, head, ") AS texts (id, words)", texts, 2, |query, row| {
                query = query.bind(row.0).bind(row.1.to_owned());
            })
        }
    }
}

/// Makes messages findable no longer.
pub(super) async fn remove_words(conn: &mut Conn<'_>, ids: &[i64]) -> Result<(), sqlx::Error> {
    let sql =
        conn.pick("DELETE FROM message_search WHERE rowid = $1", "DELETE FROM message_search WHERE message_id = $1");
    for id in ids {
        execute!(conn, sql, *id)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_and_scripts_without_spaces_are_taken_apart() {
        assert_eq!(words("Hello, World! It's 2nd"), "hello world it s 2nd");
        assert_eq!(words("東京 tower"), "東 京 tower");
        assert_eq!(words("ÉCOLE e\u{301}cole"), "école e\u{301}cole");
        assert_eq!(words(" -- "), "");
    }
}
