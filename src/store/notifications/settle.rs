//! Unread notifications of messages, brought in line with what has been read, deleted or left.

use std::collections::BTreeSet;

use super::UserEvent;
use super::log::{ROWS_MAX, UserLog};
use super::tally::{Tally, rewrite, tally};
use crate::protocol::server::WhichNotifications;
use crate::store::sql::{Conn, execute, fetch_all, list, padded, rows, safe};
use crate::store::{Found, Store};

/// An unread notification of messages that may have to change.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Unsettled {
    pub id: i64,
    pub user_id: i64,
    pub conversation_id: i64,
}

/// How many of them are found at a time.
pub const UNSETTLED_MAX: usize = ROWS_MAX;
/// How many unread notifications one read looks over.
const PAGE: i64 = 1_000;

impl Store {
    /// The unread notifications that users have of conversations, by pairs of conversation and user.
    pub async fn find_unsettled(&self, pairs: &[(i64, i64)]) -> Found<Vec<Unsettled>> {
        let mut reader = self.reader().await?;
        let mut found = Vec::new();
        for pairs in pairs.chunks(ROWS_MAX) {
            let pairs = padded(pairs);
            let sql = format!(
                "WITH wanted (conversation_id, user_id) AS (VALUES {})
                 SELECT DISTINCT n.id, n.user_id, n.conversation_id FROM wanted CROSS JOIN notifications n
                 WHERE n.conversation_id = wanted.conversation_id AND n.user_id = wanted.user_id
                       AND n.conversation_id IS NOT NULL AND n.is_read = 0",
                rows(0, pairs.len(), 2)
            );
            found.extend(fetch_all!(&mut reader.conn(), Unsettled, safe(sql), |query| {
                for (conversation_id, user_id) in &pairs {
                    query = query.bind(*conversation_id).bind(*user_id);
                }
            })?);
        }
        Ok(found)
    }

    /// All users' unread notifications of a conversation, after a user.
    pub async fn list_unsettled_of_conversation(&self, conversation_id: i64, after: i64) -> Found<Vec<Unsettled>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT id, user_id, conversation_id FROM notifications
                   WHERE conversation_id = $1 AND conversation_id IS NOT NULL AND is_read = 0 AND user_id > $2
                   ORDER BY user_id LIMIT $3";
        Ok(fetch_all!(&mut reader.conn(), Unsettled, sql, conversation_id, after, UNSETTLED_MAX as i64)?)
    }

    /// The unread notifications that count a message, after a notification.
    pub async fn list_unsettled_of_message(&self, message_id: i64, after: i64) -> Found<Vec<Unsettled>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT n.id, n.user_id, n.conversation_id FROM notification_messages c
                   JOIN notifications n ON n.id = c.notification_id
                   WHERE c.message_id = $1 AND c.notification_id > $2
                         AND n.conversation_id IS NOT NULL AND n.is_read = 0
                   ORDER BY c.notification_id LIMIT $3";
        Ok(fetch_all!(&mut reader.conn(), Unsettled, sql, message_id, after, UNSETTLED_MAX as i64)?)
    }

    /// Looks over one page of all unread notifications of messages, after a conversation and user: those that
    /// a crash left behind, and where the page ended unless it was the last.
    pub async fn look_over(&self, after: (i64, i64)) -> Found<(Vec<Unsettled>, Option<(i64, i64)>)> {
        let mut reader = self.reader().await?;
        let sql = "SELECT n.id, n.user_id, n.conversation_id,
                          CASE WHEN p.user_id IS NULL OR n.message_id <= p.read_up_to OR n.message_id <= p.cleared_up_to
                                    OR EXISTS (SELECT 1 FROM notification_messages c
                                               LEFT JOIN messages m ON m.id = c.message_id AND m.deleted_at IS NULL
                                               WHERE c.notification_id = n.id AND m.id IS NULL)
                               THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS is_off
                   FROM notifications n
                   LEFT JOIN participants p
                        ON p.conversation_id = n.conversation_id AND p.user_id = n.user_id AND p.left_at IS NULL
                   WHERE n.conversation_id IS NOT NULL AND n.is_read = 0
                         AND (n.conversation_id, n.user_id) > ($1, $2)
                   ORDER BY n.conversation_id, n.user_id LIMIT $3";
        let page = fetch_all!(&mut reader.conn(), (i64, i64, i64, i64), sql, after.0, after.1, PAGE)?;
        let is_last = (page.len() as i64) < PAGE;
        let end = page.last().filter(|_| !is_last).map(|(_, user_id, conversation_id, _)| (*conversation_id, *user_id));
        let off = page.into_iter().filter(|(.., is_off)| *is_off != 0);
        Ok((off.map(|(id, user_id, conversation_id, _)| Unsettled { id, user_id, conversation_id }).collect(), end))
    }

    /// Brings notifications in line: read where the cursor has reached their last message or the user is in the
    /// conversation no longer, deleted where no message is left, changed where one was deleted, which may leave it read.
    pub async fn settle_notifications(&self, unsettled: &[Unsettled]) -> Found<Vec<UserEvent>> {
        self.noted(self.settle_all(unsettled).await)
    }

    async fn settle_all(&self, unsettled: &[Unsettled]) -> Found<Vec<UserEvent>> {
        if unsettled.is_empty() {
            return Ok(Vec::new());
        }
        let user_ids: BTreeSet<i64> = unsettled.iter().map(|notification| notification.user_id).collect();
        let ids: Vec<i64> = unsettled.iter().map(|notification| notification.id).collect();
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        let mut log = UserLog::open(conn, self.clock.now_ms(), &user_ids).await?;
        let (mut read, mut deleted, mut changed): (Vec<Tally>, Vec<Tally>, Vec<Tally>) = Default::default();
        for tally in tally(conn, &ids).await? {
            if tally.is_member == 0 {
                read.push(tally);
            } else if tally.alive == 0 {
                deleted.push(tally);
            } else {
                if tally.unread == 0 {
                    read.push(tally.clone());
                }
                if tally.alive < tally.counted {
                    changed.push(tally);
                }
            }
        }
        let rewritten = rewrite(conn, &changed).await?;
        forget_deleted(conn, &changed.iter().map(|tally| tally.id).collect::<Vec<_>>()).await?;
        mark_read(conn, &read.iter().map(|tally| tally.id).collect::<Vec<_>>()).await?;
        delete(conn, &deleted.iter().map(|tally| tally.id).collect::<Vec<_>>()).await?;
        for (user_id, notification) in rewritten {
            log.notify(user_id, notification);
        }
        for tally in &read {
            log.read(tally.user_id, WhichNotifications::Some { notification_ids: vec![tally.id] });
        }
        for tally in &deleted {
            log.deleted(tally.user_id, vec![tally.id]);
        }
        if log.is_empty() {
            return Ok(Vec::new());
        }
        let events = log.write(conn).await?;
        tx.commit().await?;
        Ok(events)
    }
}

/// Marks notifications read. What they counted is of no use any more.
pub(super) async fn mark_read(conn: &mut Conn<'_>, ids: &[i64]) -> Result<(), sqlx::Error> {
    for_all(conn, ids, "UPDATE notifications SET is_read = 1 WHERE id IN").await?;
    for_all(conn, ids, "DELETE FROM notification_messages WHERE notification_id IN").await
}

async fn delete(conn: &mut Conn<'_>, ids: &[i64]) -> Result<(), sqlx::Error> {
    for_all(conn, ids, "DELETE FROM notifications WHERE id IN").await
}

/// Takes deleted messages out of what notifications count.
async fn forget_deleted(conn: &mut Conn<'_>, ids: &[i64]) -> Result<(), sqlx::Error> {
    let sql = "DELETE FROM notification_messages
               WHERE NOT EXISTS (SELECT 1 FROM messages m
                                 WHERE m.id = notification_messages.message_id AND m.deleted_at IS NULL)
                     AND notification_id IN";
    for_all(conn, ids, sql).await
}

/// Runs a statement that ends in `IN` over ids.
async fn for_all(conn: &mut Conn<'_>, ids: &[i64], sql: &str) -> Result<(), sqlx::Error> {
    for ids in ids.chunks(ROWS_MAX) {
        let ids = padded(ids);
        execute!(conn, safe(format!("{sql} ({})", list(0, ids.len()))), |query| {
            for id in &ids {
                query = query.bind(*id);
            }
        })?;
    }
    Ok(())
}
