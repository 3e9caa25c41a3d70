//! What the store really holds, read past the server with SQL of the checker's own.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection, PgConnection, SqliteConnection};

/// One conversation's rows.
#[derive(Debug, Default)]
pub struct Rows {
    pub last_event_id: i64,
    /// Event id, kind, message, actor.
    pub log: Vec<(i64, String, i64, i64)>,
    pub messages: BTreeMap<i64, MessageRow>,
    /// Message, user and reaction.
    pub reactions: BTreeSet<(i64, i64, String)>,
    pub read_up_to: BTreeMap<i64, i64>,
}

#[derive(Debug, sqlx::FromRow)]
pub struct MessageRow {
    pub id: i64,
    pub event_id: i64,
    pub sender_id: i64,
    pub content: String,
    pub edited_at: Option<i64>,
    pub deleted_at: Option<i64>,
}

macro_rules! read_rows {
    ($connection:expr, $id:expr) => {{
        let mut connection = $connection;
        let mut rows = Rows::default();
        let sql = "SELECT last_event_id FROM conversations WHERE id = $1";
        let (last,): (i64,) = sqlx::query_as(sql).bind($id).fetch_one(&mut connection).await?;
        rows.last_event_id = last;
        let sql = "SELECT event_id, kind, COALESCE(subject_id, 0), COALESCE(actor_id, 0) FROM events
                   WHERE topic_kind = 'c' AND topic_id = $1 ORDER BY event_id";
        rows.log = sqlx::query_as(sql).bind($id).fetch_all(&mut connection).await?;
        let sql = "SELECT id, event_id, sender_id, content, edited_at, deleted_at FROM messages
                   WHERE conversation_id = $1";
        let messages: Vec<MessageRow> = sqlx::query_as(sql).bind($id).fetch_all(&mut connection).await?;
        rows.messages = messages.into_iter().map(|row| (row.id, row)).collect();
        let sql = "SELECT r.message_id, r.user_id, r.reaction FROM reactions r
                   JOIN messages m ON m.id = r.message_id WHERE m.conversation_id = $1";
        let reactions: Vec<(i64, i64, String)> = sqlx::query_as(sql).bind($id).fetch_all(&mut connection).await?;
        rows.reactions = reactions.into_iter().collect();
        let sql = "SELECT user_id, read_up_to FROM participants WHERE conversation_id = $1";
        let read: Vec<(i64, i64)> = sqlx::query_as(sql).bind($id).fetch_all(&mut connection).await?;
        rows.read_up_to = read.into_iter().collect();
        connection.close().await?;
        rows
    }};
}

/// Reads a conversation's rows from the database at `url`.
pub async fn read(url: &str, conversation_id: i64) -> Result<Rows, sqlx::Error> {
    Ok(if url.starts_with("sqlite:") {
        read_rows!(SqliteConnection::connect(url).await?, conversation_id)
    } else {
        read_rows!(PgConnection::connect(url).await?, conversation_id)
    })
}
