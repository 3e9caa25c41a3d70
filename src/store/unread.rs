//! Unread counts: one query's answer each, never counted up and down. What counts are others' messages,
//! not deleted, past the greater of what has been read and what has been cleared.

use super::notifications::unread_notifications;
use super::sql::fetch_one;
use super::{Found, Store};

impl Store {
    /// How many messages of a conversation somebody has not read; exact up to 1,000.
    pub async fn count_unread(&self, conversation_id: i64, user_id: i64) -> Found<i64> {
        let mut reader = self.reader().await?;
        let sql = "SELECT COUNT(*) FROM (
                       SELECT 1 FROM participants p JOIN messages m ON m.conversation_id = p.conversation_id
                       WHERE p.conversation_id = $1 AND p.user_id = $2 AND p.left_at IS NULL AND m.id > p.read_up_to
                         AND m.id > p.cleared_up_to AND m.sender_id <> p.user_id AND m.deleted_at IS NULL
                       LIMIT 1000
                   ) AS unread";
        let (count,): (i64,) = fetch_one!(&mut reader.conn(), (i64,), sql, conversation_id, user_id)?;
        Ok(count)
    }

    /// How many messages somebody has not read in all conversations together.
    pub async fn count_unread_messages(&self, user_id: i64) -> Found<i64> {
        let mut reader = self.reader().await?;
        let sql = "SELECT COUNT(*) FROM participants p JOIN messages m ON m.conversation_id = p.conversation_id
                   WHERE p.user_id = $1 AND p.left_at IS NULL AND m.id > p.read_up_to AND m.id > p.cleared_up_to
                     AND m.sender_id <> p.user_id AND m.deleted_at IS NULL";
        let (count,): (i64,) = fetch_one!(&mut reader.conn(), (i64,), sql, user_id)?;
        Ok(count)
    }

    /// How many notifications somebody has not read.
    pub async fn count_unread_notifications(&self, user_id: i64) -> Found<i64> {
        let mut reader = self.reader().await?;
        Ok(unread_notifications(&mut reader.conn(), user_id).await?)
    }
}
