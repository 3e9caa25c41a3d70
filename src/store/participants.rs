//! Participants of a conversation, one by one or in pages, and the flags that each keeps for themselves.

use super::messages::Page;
use super::sql::{Conn, execute, fetch_all, fetch_optional, safe};
use super::{Found, Store};
use crate::protocol::rest::Participant;
use crate::protocol::{Person, Role, Time};

/// How a participant keeps a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    pub archived: bool,
    pub muted: bool,
}

/// Until when a conversation is muted that is muted for good.
pub const MUTED_FOR_GOOD: i64 = i64::MAX;

#[derive(sqlx::FromRow)]
struct Row {
    user_id: i64,
    role: String,
    read_up_to: i64,
    joined_at: i64,
    first_name: String,
    last_name: String,
    username: Option<String>,
    avatar_url: Option<String>,
}

const SELECT: &str = "SELECT p.user_id, p.role, p.read_up_to, p.joined_at, u.first_name, u.last_name, u.username, \
                      u.avatar_url FROM participants p JOIN users u ON u.id = p.user_id \
                      WHERE p.conversation_id = $1 AND p.left_at IS NULL";

impl From<Row> for Participant {
    fn from(row: Row) -> Self {
        let user = Person {
            id: row.user_id,
            first_name: row.first_name,
            last_name: row.last_name,
            username: row.username,
            avatar_url: row.avatar_url,
        };
        let role = Role::parse(&row.role).unwrap_or(Role::Member);
        Self { user, role, joined_at: Time(row.joined_at), read_up_to: row.read_up_to }
    }
}

impl Store {
    /// A page of a conversation's participants by user id, and whether there are more in that direction.
    pub async fn list_participants(
        &self,
        conversation_id: i64,
        page: Page,
        limit: i64,
    ) -> Found<(Vec<Participant>, bool)> {
        let mut reader = self.reader().await?;
        let (bound, order, cursor) = match page {
            Page::Before(before) => ("<", "DESC", before.unwrap_or(i64::MAX)),
            Page::After(after) => (">", "ASC", after),
        };
        let sql = format!("{SELECT} AND p.user_id {bound} $2 ORDER BY p.user_id {order} LIMIT $3");
        let mut rows = fetch_all!(&mut reader.conn(), Row, safe(sql), conversation_id, cursor, limit + 1)?;
        let has_more = rows.len() as i64 > limit;
        rows.truncate(limit as usize);
        Ok((rows.into_iter().map(Participant::from).collect(), has_more))
    }

    /// One participant of a conversation.
    pub async fn find_participant(&self, conversation_id: i64, user_id: i64) -> Found<Option<Participant>> {
        let mut reader = self.reader().await?;
        let sql = safe(format!("{SELECT} AND p.user_id = $2"));
        let row: Option<Row> = fetch_optional!(&mut reader.conn(), Row, sql, conversation_id, user_id)?;
        Ok(row.map(Participant::from))
    }

    /// Changes how somebody keeps a conversation: whether it is archived, and until when it is muted (`None`
    /// in `Some`: no longer). How it is kept then; nothing where the user is not in it.
    pub async fn set_flags(
        &self,
        conversation_id: i64,
        user_id: i64,
        archived: Option<bool>,
        muted_until: Option<Option<i64>>,
    ) -> Found<Option<Flags>> {
        let now = self.clock.now_ms();
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        if let Some(archived) = archived {
            let sql = "UPDATE participants SET archived_at = $1
                       WHERE conversation_id = $2 AND user_id = $3 AND left_at IS NULL";
            execute!(conn, sql, archived.then_some(now), conversation_id, user_id)?;
        }
        if let Some(muted_until) = muted_until {
            let sql = "UPDATE participants SET muted_until = $1
                       WHERE conversation_id = $2 AND user_id = $3 AND left_at IS NULL";
            execute!(conn, sql, muted_until, conversation_id, user_id)?;
        }
        let sql = "SELECT archived_at, muted_until FROM participants
                   WHERE conversation_id = $1 AND user_id = $2 AND left_at IS NULL";
        let kept: Option<(Option<i64>, Option<i64>)> =
            fetch_optional!(conn, (Option<i64>, Option<i64>), sql, conversation_id, user_id)?;
        tx.commit().await?;
        let flags = |(archived_at, muted_until): (Option<i64>, Option<i64>)| Flags {
            archived: archived_at.is_some(),
            muted: muted_until.is_some_and(|until| until > now),
        };
        Ok(kept.map(flags))
    }
}

/// Everybody who is in a conversation, by user id.
pub(super) async fn list_all(conn: &mut Conn<'_>, conversation_id: i64) -> Result<Vec<Participant>, sqlx::Error> {
    let rows = fetch_all!(conn, Row, safe(format!("{SELECT} ORDER BY p.user_id")), conversation_id)?;
    Ok(rows.into_iter().map(Participant::from).collect())
}
