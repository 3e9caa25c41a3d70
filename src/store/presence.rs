//! What presence and receipts need: who shares conversations with whom, when people were last seen, how
//! far they have read and been handed messages.

use std::collections::{HashMap, HashSet};

use super::sql::{Conn, execute, fetch_all, fetch_one, list, padded, rows, safe};
use super::{Found, Store};
use crate::protocol::{Event, Person, Time};

/// A sender's message that has reached a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct FreshMark {
    pub conversation_id: i64,
    pub user_id: i64,
    pub sender_id: i64,
    pub message_id: i64,
}

/// How far back from where a cursor has come it is looked whose messages it has passed; who sent none since then is told
/// on resuming.
const REACHED_MAX: i64 = 10_000;
/// Receipts are told one by one up to so many participants.
const RECEIPTS_PARTICIPANTS_MAX: i64 = 100;

impl Store {
    /// The conversations somebody is in, and when the user was last seen.
    pub async fn list_conversation_ids(&self, user_id: i64) -> Found<(Vec<i64>, Option<i64>)> {
        let mut reader = self.reader().await?;
        let conn = &mut reader.conn();
        let sql = "SELECT conversation_id FROM participants WHERE user_id = $1 AND left_at IS NULL";
        let ids = fetch_all!(conn, (i64,), sql, user_id)?;
        let sql = "SELECT last_seen_at FROM users WHERE id = $1";
        let seen = fetch_all!(conn, (Option<i64>,), sql, user_id)?;
        Ok((ids.into_iter().map(|(id,)| id).collect(), seen.first().and_then(|(at,)| *at)))
    }

    /// Participants of a conversation with when they were last seen, at most so many.
    pub async fn list_last_seen(&self, conversation_id: i64, limit: i64) -> Found<Vec<(i64, Option<i64>)>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT p.user_id, u.last_seen_at FROM participants p JOIN users u ON u.id = p.user_id
                   WHERE p.conversation_id = $1 AND p.left_at IS NULL ORDER BY p.user_id LIMIT $2";
        Ok(fetch_all!(&mut reader.conn(), (i64, Option<i64>), sql, conversation_id, limit)?)
    }

    /// Those of these users who are in a conversation.
    pub async fn filter_participants(&self, conversation_id: i64, user_ids: &[i64]) -> Found<Vec<i64>> {
        let mut found = Vec::new();
        let mut reader = self.reader().await?;
        for chunk in user_ids.chunks(256) {
            let ids = padded(chunk);
            let sql = format!(
                "SELECT user_id FROM participants WHERE conversation_id = $1 AND left_at IS NULL AND user_id IN ({})",
                list(1, ids.len())
            );
            let rows = fetch_all!(&mut reader.conn(), (i64,), safe(sql), |query| {
                query = query.bind(conversation_id);
                for id in &ids {
                    query = query.bind(*id);
                }
            })?;
            found.extend(rows.into_iter().map(|(id,)| id));
        }
        Ok(found)
    }

    /// Those who were there as far as is stored, with when they were last seen.
    pub async fn list_online(&self) -> Found<Vec<(i64, Option<i64>)>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT id, last_seen_at FROM users WHERE is_online = 1";
        Ok(fetch_all!(&mut reader.conn(), (i64, Option<i64>), sql)?)
    }

    /// Stores when people were last seen, which never moves back, and whether they are still there.
    pub async fn set_last_seen(&self, user_ids: &[i64], at: i64, is_online: bool) -> Found<()> {
        for chunk in user_ids.chunks(256) {
            let ids = padded(chunk);
            let mut tx = self.begin().await?;
            let sql = format!(
                "UPDATE users SET is_online = $2, last_seen_at = CASE WHEN last_seen_at > $1 THEN last_seen_at ELSE $1 END
                 WHERE id IN ({}) AND erased_at IS NULL
                   AND (last_seen_at IS NULL OR last_seen_at < $1 OR is_online <> $2)",
                list(2, ids.len())
            );
            execute!(&mut tx.conn(), safe(sql), |query| {
                query = query.bind(at).bind(i64::from(is_online));
                for id in &ids {
                    query = query.bind(*id);
                }
            })?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Moves the delivered cursors forward. What that means for each sender, in conversations small enough for receipts,
    /// is the answer, and whose cursors somebody else holds: they are not waited for, as whoever holds them may
    /// be waiting for others of these.
    pub async fn mark_delivered(&self, handed: &HashMap<(i64, i64), i64>) -> Found<(Vec<FreshMark>, Vec<(i64, i64)>)> {
        let (mut fresh, mut held) = (Vec::new(), Vec::new());
        let mut pairs: Vec<(i64, i64)> = handed.keys().copied().collect();
        pairs.sort_unstable();
        for pairs in pairs.chunks(256) {
            let mut tx = self.begin().await?;
            let known = find_cursors(&mut tx.conn(), pairs, true).await?;
            if known.len() < pairs.len() {
                let places: HashSet<(i64, i64)> = known.iter().map(|row| (row.0, row.1)).collect();
                let missing: Vec<_> = pairs.iter().copied().filter(|pair| !places.contains(pair)).collect();
                held.extend(find_cursors(&mut tx.conn(), &missing, false).await?.iter().map(|row| (row.0, row.1)));
            }
            let (mut moved, mut told) = (Vec::new(), Vec::new());
            for (conversation_id, user_id, before, participants) in known {
                let up_to = handed.get(&(conversation_id, user_id)).copied().filter(|up_to| *up_to > before);
                let Some(up_to) = up_to else { continue };
                moved.push((conversation_id, user_id, up_to));
                if participants <= RECEIPTS_PARTICIPANTS_MAX {
                    told.push((conversation_id, user_id, before.max(up_to - REACHED_MAX), up_to));
                }
            }
            move_cursors(&mut tx.conn(), &moved, self.clock.now_ms()).await?;
            fresh.extend(find_reached(&mut tx.conn(), &told).await?);
            tx.commit().await?;
        }
        Ok((fresh, held))
    }

    /// The receipts of a conversation as they stand: how far each participant has read, and, in a small
    /// conversation, which of `user_id`'s messages have reached each of the others.
    pub async fn list_receipts(&self, conversation_id: i64, user_id: i64) -> Found<Vec<Event>> {
        let mut reader = self.reader().await?;
        let conn = &mut reader.conn();
        let rows = fetch_all!(
            conn,
            ReceiptRow,
            "SELECT p.user_id, p.read_up_to, p.read_at, p.delivered_at, u.first_name, u.last_name, u.username, u.avatar_url,
                    (SELECT m.id FROM messages m WHERE m.conversation_id = $1 AND m.sender_id = $2
                     AND m.id <= p.delivered_up_to ORDER BY m.id DESC LIMIT 1) AS delivered_id
             FROM participants p JOIN users u ON u.id = p.user_id
             WHERE p.conversation_id = $1 AND p.left_at IS NULL AND (p.read_up_to > 0 OR p.delivered_up_to > 0)
             ORDER BY p.user_id",
            conversation_id,
            user_id
        )?;
        let (participants,): (i64,) = fetch_one!(
            conn,
            (i64,),
            "SELECT COUNT(*) FROM (SELECT 1 FROM participants WHERE conversation_id = $1 AND left_at IS NULL LIMIT $2) AS counted",
            conversation_id,
            RECEIPTS_PARTICIPANTS_MAX + 1
        )?;
        let is_small = participants <= RECEIPTS_PARTICIPANTS_MAX;
        let (mut read, mut delivered) = (Vec::new(), Vec::new());
        for row in rows {
            if let (Some(message_id), true, true) = (row.delivered_id, is_small, row.user_id != user_id) {
                let timestamp = Time(row.delivered_at.unwrap_or_default());
                delivered.push(Event::MessageStatus {
                    message_id,
                    status: "delivered",
                    user_id: row.user_id,
                    timestamp,
                });
            }
            if row.read_up_to > 0 {
                read.push(row.into_read());
            }
        }
        read.append(&mut delivered);
        Ok(read)
    }
}

#[derive(sqlx::FromRow)]
struct ReceiptRow {
    user_id: i64,
    read_up_to: i64,
    read_at: Option<i64>,
    delivered_at: Option<i64>,
    first_name: String,
    last_name: String,
    username: Option<String>,
    avatar_url: Option<String>,
    delivered_id: Option<i64>,
}

impl ReceiptRow {
    fn into_read(self) -> Event {
        let read_by = Person {
            id: self.user_id,
            first_name: self.first_name,
            last_name: self.last_name,
            username: self.username,
            avatar_url: self.avatar_url,
        };
        Event::MessageRead { message_id: self.read_up_to, read_by, read_at: Time(self.read_at.unwrap_or_default()) }
    }
}

/// Delivered cursors with the number of participants, counted up to one past where it matters; to be changed, those that
/// nobody else holds.
async fn find_cursors(
    conn: &mut Conn<'_>,
    pairs: &[(i64, i64)],
    to_change: bool,
) -> Result<Vec<(i64, i64, i64, i64)>, sqlx::Error> {
    let pairs = padded(pairs);
    let sql = format!(
        "SELECT p.conversation_id, p.user_id, p.delivered_up_to,
                (SELECT COUNT(*) FROM (SELECT 1 FROM participants q
                 WHERE q.conversation_id = p.conversation_id AND q.left_at IS NULL LIMIT {}) AS counted) AS participants
         FROM participants p WHERE (p.conversation_id, p.user_id) IN (VALUES {}) AND p.left_at IS NULL
         ORDER BY p.conversation_id, p.user_id {}",
        RECEIPTS_PARTICIPANTS_MAX + 1,
        rows(0, pairs.len(), 2),
        if to_change { conn.pick("", "FOR UPDATE OF p SKIP LOCKED") } else { "" }
    );
    fetch_all!(conn, (i64, i64, i64, i64), safe(sql), |query| {
        for (conversation_id, user_id) in &pairs {
            query = query.bind(*conversation_id).bind(*user_id);
        }
    })
}

async fn move_cursors(conn: &mut Conn<'_>, moved: &[(i64, i64, i64)], now: i64) -> Result<(), sqlx::Error> {
    if moved.is_empty() {
        return Ok(());
    }
    let moved = padded(moved);
    let sql = format!(
        "WITH moved (conversation_id, user_id, up_to) AS (VALUES {})
         UPDATE participants SET delivered_up_to = moved.up_to, delivered_at = $1 FROM moved
         WHERE participants.conversation_id = moved.conversation_id AND participants.user_id = moved.user_id",
        rows(1, moved.len(), 3)
    );
    execute!(conn, safe(sql), |query| {
        query = query.bind(now);
        for (conversation_id, user_id, up_to) in &moved {
            query = query.bind(*conversation_id).bind(*user_id).bind(*up_to);
        }
    })?;
    Ok(())
}

/// The last message of each sender that a reader's cursor has passed, also of one whose message came to the reader by
/// no frame yet: a cursor says the same to who hears it move and to who asks later.
async fn find_reached(conn: &mut Conn<'_>, told: &[(i64, i64, i64, i64)]) -> Result<Vec<FreshMark>, sqlx::Error> {
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let told = padded(told);
    let sql = format!(
        "WITH moved (conversation_id, user_id, after, up_to) AS (VALUES {})
         SELECT m.conversation_id, moved.user_id, m.sender_id, MAX(m.id) AS message_id
         FROM moved JOIN messages m ON m.conversation_id = moved.conversation_id
              AND m.id > moved.after AND m.id <= moved.up_to AND m.sender_id <> moved.user_id
         GROUP BY m.conversation_id, moved.user_id, m.sender_id",
        rows(0, told.len(), 4)
    );
    fetch_all!(conn, FreshMark, safe(sql), |query| {
        for (conversation_id, user_id, after, up_to) in &told {
            query = query.bind(*conversation_id).bind(*user_id).bind(*after).bind(*up_to);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::store::sql::execute;
    use crate::store::testing::TestStore;

    /// PostgreSQL alone: SQLite has one writer.
    #[tokio::test]
    async fn a_cursor_that_somebody_holds_is_not_waited_for_and_moves_later() {
        let store = TestStore::postgres().await;
        store.put_conversation(1, &[1, 2, 3]).await;
        let message_id = store.say(1, 1, "Hello", &[]).await;
        let handed = [((1, 2), message_id), ((1, 3), message_id), ((9, 9), message_id)].into();
        let mut tx = store.begin().await.expect("a transaction");
        let hold = "UPDATE participants SET read_up_to = 0 WHERE conversation_id = 1 AND user_id = 2";
        execute!(&mut tx.conn(), hold).expect("the row is held");
        let marking = tokio::time::timeout(Duration::from_secs(5), store.mark_delivered(&handed));
        let (fresh, held) = marking.await.expect("it waits for nobody").expect("the database answers");
        assert_eq!(fresh.iter().map(|mark| mark.user_id).collect::<Vec<_>>(), [3]);
        assert_eq!(held, [(1, 2)]);
        tx.commit().await.expect("a commit");
        let (fresh, held) = store.mark_delivered(&handed).await.expect("the database answers");
        assert_eq!((fresh.iter().map(|mark| mark.user_id).collect::<Vec<_>>(), held.len()), (vec![2], 0));
    }
}
