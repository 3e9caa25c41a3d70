//! The ends of conversations: cleared by one of a 1:1, or deleted for all.

use super::lock_conversation;
use crate::protocol::rest::Participant;
use crate::store::idempotency::forget_last_message;
use crate::store::participants::list_all;
use crate::store::search::remove_words;
use crate::store::sql::{execute, fetch_all};
use crate::store::{Found, Store};

/// How many messages one statement takes out of the search index.
const PAGE: i64 = 256;

impl Store {
    /// Hides all there is of a conversation from one participant, and the conversation until its next
    /// message. Up to which message that is; nothing where the user is not in it.
    pub async fn clear_conversation(&self, conversation_id: i64, user_id: i64) -> Found<Option<i64>> {
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        let Some(locked) = lock_conversation(conn, conversation_id).await? else { return Ok(None) };
        let cleared = execute!(
            conn,
            "UPDATE participants SET cleared_up_to = $1, cleared_at = $2
             WHERE conversation_id = $3 AND user_id = $4 AND left_at IS NULL",
            locked.last_message_id,
            self.clock.now_ms(),
            conversation_id,
            user_id
        )?;
        forget_last_message(conn, user_id, conversation_id).await?;
        tx.commit().await?;
        Ok(Some(locked.last_message_id).filter(|_| cleared == 1))
    }

    /// Deletes a conversation for everybody: its messages, files, log. Who was in it; nothing where there
    /// is none.
    pub async fn delete_conversation(&self, id: i64) -> Found<Option<Vec<Participant>>> {
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        if lock_conversation(conn, id).await?.is_none() {
            return Ok(None);
        }
        let participants = list_all(conn, id).await?;
        execute!(
            conn,
            "INSERT INTO files_to_delete (file_key)
             SELECT a.file_key FROM attachments a JOIN messages m ON m.id = a.message_id WHERE m.conversation_id = $1
             UNION SELECT a.thumbnail_key FROM attachments a JOIN messages m ON m.id = a.message_id
             WHERE m.conversation_id = $1 AND a.thumbnail_key IS NOT NULL",
            id
        )?;
        let mut after = 0;
        loop {
            let sql = "SELECT id FROM messages WHERE conversation_id = $1 AND id > $2 ORDER BY id LIMIT $3";
            let page: Vec<i64> = fetch_all!(conn, (i64,), sql, id, after, PAGE)?.into_iter().map(|(id,)| id).collect();
            let Some(last) = page.last() else { break };
            after = *last;
            remove_words(conn, &page).await?;
        }
        execute!(conn, "DELETE FROM events WHERE topic_kind = 'c' AND topic_id = $1", id)?;
        execute!(conn, "DELETE FROM client_ids WHERE topic_kind = 'c' AND topic_id = $1", id)?;
        // The rest hangs from the conversation's row.
        execute!(conn, "DELETE FROM conversations WHERE id = $1", id)?;
        tx.commit().await?;
        Ok(Some(participants))
    }
}
