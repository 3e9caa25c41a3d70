//! Conversations: made, found, and who is in them.

mod create;
mod end;
#[cfg(test)]
mod tests;
mod view;

use super::sql::{Conn, fetch_all, fetch_one, fetch_optional};
use super::{Found, Store};
pub use create::{Created, NewConversation};
pub use view::{Activity, ConversationPage};

/// Somebody's place in a conversation: what a socket or request may see of it. Only the store makes one,
/// so holding it is the proof of participation.
#[derive(Clone, Debug, sqlx::FromRow)]
#[non_exhaustive]
pub struct Participation {
    pub conversation_id: i64,
    pub user_id: i64,
    pub kind: String,
    pub role: String,
    pub read_up_to: i64,
    pub cleared_up_to: i64,
    /// The event with which the user joined; 0 for who was in it from its beginning.
    pub joined_event_id: i64,
    pub last_event_id: i64,
}

impl Store {
    /// Somebody's place in a conversation; nothing where there is none, or no such conversation.
    pub async fn find_participation(&self, conversation_id: i64, user_id: i64) -> Found<Option<Participation>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT p.conversation_id, p.user_id, c.kind, p.role, p.read_up_to, p.cleared_up_to,
                          p.joined_event_id, c.last_event_id
                   FROM participants p JOIN conversations c ON c.id = p.conversation_id
                   WHERE p.conversation_id = $1 AND p.user_id = $2 AND p.left_at IS NULL";
        Ok(fetch_optional!(&mut reader.conn(), Participation, sql, conversation_id, user_id)?)
    }
}

/// Somebody's place in one of all their conversations.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Place {
    pub conversation_id: i64,
    pub last_event_id: i64,
    pub cleared_up_to: i64,
    pub joined_event_id: i64,
}

impl Store {
    /// All conversations of a user, the most active first.
    pub async fn list_places(&self, user_id: i64) -> Found<Vec<Place>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT p.conversation_id, c.last_event_id, p.cleared_up_to, p.joined_event_id
                   FROM participants p JOIN conversations c ON c.id = p.conversation_id
                   WHERE p.user_id = $1 AND p.left_at IS NULL ORDER BY c.active_at DESC, c.id DESC";
        Ok(fetch_all!(&mut reader.conn(), Place, sql, user_id)?)
    }

    /// The event with which somebody joined a conversation (0: was in it from its beginning), and what the
    /// user has cleared of it.
    pub async fn find_joining(&self, conversation_id: i64, user_id: i64) -> Found<Option<(i64, i64)>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT joined_event_id, cleared_up_to FROM participants
                   WHERE conversation_id = $1 AND user_id = $2 AND left_at IS NULL";
        Ok(fetch_optional!(&mut reader.conn(), (i64, i64), sql, conversation_id, user_id)?)
    }

    /// Everybody who shares a conversation with a user, at most so many, with when they were last seen.
    pub async fn list_contacts(&self, user_id: i64, limit: i64) -> Found<Vec<(i64, Option<i64>)>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT DISTINCT u.id, u.last_seen_at
                   FROM participants p JOIN participants q ON q.conversation_id = p.conversation_id
                   JOIN users u ON u.id = q.user_id
                   WHERE p.user_id = $1 AND p.left_at IS NULL AND q.left_at IS NULL AND q.user_id <> $1
                   ORDER BY u.id LIMIT $2";
        Ok(fetch_all!(&mut reader.conn(), (i64, Option<i64>), sql, user_id, limit)?)
    }
}

/// A conversation's row, held until the end of the transaction.
#[derive(sqlx::FromRow)]
pub(super) struct Locked {
    pub last_message_id: i64,
}

/// Holds a conversation's row, so that nothing changes it meanwhile; nothing where there is none.
pub(super) async fn lock_conversation(conn: &mut Conn<'_>, id: i64) -> Result<Option<Locked>, sqlx::Error> {
    let sql = conn.pick(
        "SELECT last_message_id FROM conversations WHERE id = $1",
        "SELECT last_message_id FROM conversations WHERE id = $1 FOR UPDATE",
    );
    fetch_optional!(conn, Locked, sql, id)
}

/// Takes the next ids of a kind, in order.
pub(super) async fn take_ids(conn: &mut Conn<'_>, kind: &'static str, count: usize) -> Result<Vec<i64>, sqlx::Error> {
    if count == 0 {
        return Ok(Vec::new());
    }
    match conn {
        Conn::Sqlite(_) => {
            let sql = "UPDATE ids SET next = next + $1 WHERE kind = $2 RETURNING next";
            let (next,): (i64,) = fetch_one!(conn, (i64,), sql, count as i64, kind)?;
            Ok((next - count as i64..next).collect())
        }
        Conn::Postgres(_) => {
            let sql = "SELECT nextval($1::text::regclass) FROM generate_series(1, $2)";
            let rows = fetch_all!(conn, (i64,), sql, format!("{kind}_ids"), count as i64)?;
            let mut ids: Vec<i64> = rows.into_iter().map(|(id,)| id).collect();
            ids.sort_unstable();
            Ok(ids)
        }
    }
}
