//! Conversations: made, found, and who is in them.

use super::sql::{Conn, fetch_all, fetch_one, fetch_optional};
use super::{Found, Store};

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
    pub last_event_id: i64,
}

impl Store {
    /// Somebody's place in a conversation; nothing where there is none, or no such conversation.
    pub async fn find_participation(&self, conversation_id: i64, user_id: i64) -> Found<Option<Participation>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT p.conversation_id, p.user_id, c.kind, p.role, p.read_up_to, p.cleared_up_to, c.last_event_id
                   FROM participants p JOIN conversations c ON c.id = p.conversation_id
                   WHERE p.conversation_id = $1 AND p.user_id = $2 AND p.left_at IS NULL";
        Ok(fetch_optional!(&mut reader.conn(), Participation, sql, conversation_id, user_id)?)
    }
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
