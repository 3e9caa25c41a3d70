//! Full-text search over messages. The same words on both databases: texts are taken apart here, so
//! that scripts without spaces can be found by any run of their characters.

mod query;
mod snippet;
mod words;

use super::messages::{Page, StoredMessage};
use super::sql::{Conn, execute, fetch_all, fetch_optional, insert_rows, safe};
use super::{Found, Store};
use query::Query;
pub use snippet::Piece;
use words::words_of;

/// A message that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    pub stored: StoredMessage,
    pub snippet: Vec<Piece>,
}

#[derive(sqlx::FromRow)]
struct HitRow {
    id: i64,
    cleared_up_to: i64,
}

impl Store {
    /// A page of the messages in somebody's conversations that hold all words of `q`, past what they have cleared, and
    /// whether there are more in that direction.
    pub async fn search_messages(&self, user_id: i64, q: &str, page: Page, limit: i64) -> Found<(Vec<Hit>, bool)> {
        let query = Query::parse(q);
        if query.is_empty() {
            return Ok((Vec::new(), false));
        }
        let mut reader = self.reader().await?;
        let conn = &mut reader.conn();
        let mut rows = find_hits(conn, user_id, &query, page, limit + 1).await?;
        let has_more = rows.len() as i64 > limit;
        rows.truncate(limit as usize);
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut messages = self.load_messages(conn, &ids).await?;
        let mut hits = Vec::with_capacity(rows.len());
        for row in rows {
            // Deleted since it was found.
            let found = messages.remove(&row.id).filter(|stored| !stored.message.is_deleted);
            let Some(stored) = found.and_then(|stored| stored.seen_past(row.cleared_up_to)) else { continue };
            let snippet = snippet::snippet(&stored.message.content, &query);
            hits.push(Hit { stored, snippet });
        }
        Ok((hits, has_more))
    }
}

/// What is shown of a text that was searched for `q`.
pub fn snippet_of(content: &str, q: &str) -> Vec<Piece> {
    snippet::snippet(content, &Query::parse(q))
}

async fn find_hits(
    conn: &mut Conn<'_>,
    user_id: i64,
    query: &Query,
    page: Page,
    limit: i64,
) -> Result<Vec<HitRow>, sqlx::Error> {
    let (id, matches, contains, words) = match conn {
        Conn::Sqlite(_) => ("s.rowid", "message_search MATCH $2", "instr", query.fts5()),
        Conn::Postgres(_) => ("s.message_id", "s.words @@ $2::text::tsquery", "strpos", query.tsquery()),
    };
    let (bound, cursor, order) = match page {
        Page::Before(before) => ("<", before.unwrap_or(i64::MAX), "DESC"),
        Page::After(after) => (">", after, "ASC"),
    };
    let mut sql = format!(
        "SELECT m.id, p.cleared_up_to
         FROM message_search s
         JOIN messages m ON m.id = {id}
         JOIN participants p ON p.conversation_id = m.conversation_id AND p.user_id = $1 AND p.left_at IS NULL
         WHERE {matches} AND {id} {bound} $3 AND m.id > p.cleared_up_to AND m.deleted_at IS NULL"
    );
    let runs: Vec<&str> = query.runs().collect();
    for number in 0..runs.len() {
        sql += &format!(" AND {contains}(m.content, ${}) > 0", number + 5);
    }
    sql += &format!(" ORDER BY {id} {order} LIMIT $4");
    fetch_all!(conn, HitRow, safe(sql), |query| {
        query = query.bind(user_id).bind(words.as_str()).bind(cursor).bind(limit);
        for run in &runs {
            query = query.bind(*run);
        }
    })
}

/// Most bytes of one message's words in the index; PostgreSQL refuses a megabyte.
const WORDS_BYTES_MAX: usize = 256 * 1024;

/// The words of a text as the index takes them, separated by spaces.
pub(super) fn words(text: &str) -> String {
    let mut words = String::new();
    for word in words_of(text) {
        if words.len() + word.text.len() >= WORDS_BYTES_MAX {
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(&word.text);
    }
    words
}

/// Makes messages findable by their words, where they have any.
pub(super) async fn insert_words(conn: &mut Conn<'_>, texts: &[(i64, &str)]) -> Result<(), sqlx::Error> {
    let texts: Vec<(i64, &str)> = texts.iter().copied().filter(|(_, words)| !words.is_empty()).collect();
    match conn {
        Conn::Sqlite(_) => {
            insert_rows!(conn, "INSERT INTO message_search (rowid, words)", "", texts, 2, |query, row| {
                query = query.bind(row.0).bind(row.1.to_owned());
            })?;
        }
        Conn::Postgres(_) => {
            // No parser of the database's own ever sees the words.
            let head = "INSERT INTO message_search (message_id, words)
                        SELECT id, array_to_tsvector(string_to_array(words, ' ')) FROM (";
            insert_rows!(conn, head, ") AS texts (id, words)", texts, 2, |query, row| {
                query = query.bind(row.0).bind(row.1.to_owned());
            })?;
        }
    }
    Ok(())
}

/// Makes messages findable no longer. To be called while they still have their texts.
pub(super) async fn remove_words(conn: &mut Conn<'_>, ids: &[i64]) -> Result<(), sqlx::Error> {
    for id in ids {
        match conn {
            Conn::Sqlite(_) => {
                // The index has no texts of its own: it must be told which words to take out.
                let sql = "SELECT content FROM messages WHERE id = $1";
                let content: Option<(String,)> = fetch_optional!(conn, (String,), sql, *id)?;
                let words = content.map(|(content,)| words(&content)).unwrap_or_default();
                if !words.is_empty() {
                    let sql = "INSERT INTO message_search (message_search, rowid, words) VALUES ('delete', $1, $2)";
                    execute!(conn, sql, *id, words)?;
                }
            }
            Conn::Postgres(_) => {
                execute!(conn, "DELETE FROM message_search WHERE message_id = $1", *id)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
