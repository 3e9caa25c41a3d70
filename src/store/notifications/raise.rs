//! New messages become notifications of those who were not there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::UserEvent;
use super::log::{ROWS_MAX, UserLog};
use super::settle::mark_read;
use super::tally::{TITLE, TYPE, rewrite, tally};
use crate::protocol::server::WhichNotifications;
use crate::store::conversations::take_ids;
use crate::store::sql::{Conn, execute, fetch_all, insert_rows, list, padded, rows, safe};
use crate::store::{Found, Store};

/// Most messages of one conversation in one transaction.
const MESSAGES_MAX: i64 = 1_000;
/// How many people one transaction notifies, and about how many messages, each as often as somebody is notified of it.
/// Few: while it lasts nobody can send in these conversations, and with SQLite nowhere.
const RECIPIENTS_MAX: usize = 512;
const COUNTED_MAX: usize = 2_048;
/// How many participants are looked at in one read.
const PAGE: i64 = 512;

/// A conversation whose participants are to be notified of new messages.
#[derive(Clone, Debug)]
pub struct Raise {
    pub conversation_id: i64,
    /// The last message to notify of; what comes after it is for another time.
    pub up_to: i64,
    /// Who had a chat socket on the conversation when a message was delivered, by message, in order.
    pub seen: Vec<(i64, Arc<[i64]>)>,
    /// Who has one now, in order: taken for messages of which that is not known.
    pub present: Arc<[i64]>,
}

impl Raise {
    fn was_present(&self, user_id: i64, message_id: i64) -> bool {
        let present = match self.seen.binary_search_by_key(&message_id, |(id, _)| *id) {
            Ok(index) => &self.seen[index].1,
            Err(_) => &self.present,
        };
        present.binary_search(&user_id).is_ok()
    }
}

/// What a round of notifications did.
#[derive(Debug, Default)]
pub struct Raised {
    pub events: Vec<UserEvent>,
    /// The conversations that need another round.
    pub unfinished: Vec<i64>,
}

/// A conversation's row, held; and how far its participants have been notified.
#[derive(Clone, Debug, sqlx::FromRow)]
struct Progress {
    id: i64,
    last_message_id: i64,
    notified_message_id: i64,
    notifying_up_to: i64,
    notifying_user_id: i64,
}

#[derive(sqlx::FromRow)]
struct Message {
    id: i64,
    sender_id: i64,
    created_at: i64,
}

#[derive(sqlx::FromRow)]
struct Reader {
    user_id: i64,
    read_up_to: i64,
    cleared_up_to: i64,
}

/// Somebody to be notified, with the new messages that count.
struct Recipient {
    conversation_id: i64,
    user_id: i64,
    /// How far the user has read or cleared.
    cursor: i64,
    message_ids: Vec<i64>,
    created_at: i64,
}

impl Store {
    /// Notifies participants of new messages, in one transaction. A large conversation takes several, and a
    /// crash between them continues where they were.
    pub async fn raise_notifications(&self, raises: &[Raise]) -> Found<Raised> {
        self.noted(self.raise_all(raises).await)
    }

    async fn raise_all(&self, raises: &[Raise]) -> Found<Raised> {
        if raises.is_empty() {
            return Ok(Raised::default());
        }
        let now = self.clock.now_ms();
        let by_id: BTreeMap<i64, &Raise> = raises.iter().map(|raise| (raise.conversation_id, raise)).collect();
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        let mut held = hold(conn, &by_id.keys().copied().collect::<Vec<_>>()).await?;
        let mut recipients: Vec<Recipient> = Vec::new();
        let mut raised = Raised::default();
        for progress in &mut held {
            let Some(raise) = by_id.get(&progress.id) else { continue };
            let counted: usize = recipients.iter().map(|recipient| recipient.message_ids.len()).sum();
            let is_full = counted >= COUNTED_MAX || recipients.len() >= RECIPIENTS_MAX;
            if is_full || step(conn, progress, raise, counted, now, &mut recipients).await? {
                raised.unfinished.push(progress.id);
            }
        }
        raised.events = notify(conn, recipients, now).await?;
        write_progress(conn, &held).await?;
        tx.commit().await?;
        Ok(raised)
    }

    /// Conversations with messages that nobody has been notified of, after a crash or an overload.
    pub async fn list_to_notify(&self, after: i64) -> Found<Vec<i64>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT id FROM conversations WHERE notified_message_id < last_message_id AND id > $1
                   ORDER BY id LIMIT 256";
        let found = fetch_all!(&mut reader.conn(), (i64,), sql, after)?;
        Ok(found.into_iter().map(|(id,)| id).collect())
    }
}

/// Holds the conversations' rows, in the order of their ids.
async fn hold(conn: &mut Conn<'_>, ids: &[i64]) -> Result<Vec<Progress>, sqlx::Error> {
    let ids = padded(ids);
    let sql = format!(
        "SELECT id, last_message_id, notified_message_id, notifying_up_to, notifying_user_id
         FROM conversations WHERE id IN ({}) ORDER BY id {}",
        list(0, ids.len()),
        conn.pick("", "FOR NO KEY UPDATE")
    );
    fetch_all!(conn, Progress, safe(sql), |query| {
        for id in &ids {
            query = query.bind(*id);
        }
    })
}

/// Finds the next of those to be notified in one conversation, and moves its progress on. Whether there is more to do.
async fn step(
    conn: &mut Conn<'_>,
    progress: &mut Progress,
    raise: &Raise,
    counted: usize,
    now: i64,
    recipients: &mut Vec<Recipient>,
) -> Result<bool, sqlx::Error> {
    let goal = raise.up_to.min(progress.last_message_id);
    let up_to = if progress.notifying_up_to > 0 { progress.notifying_up_to } else { goal };
    if up_to <= progress.notified_message_id {
        return Ok(false);
    }
    let messages = fetch_all!(
        conn,
        Message,
        "SELECT id, sender_id, created_at FROM messages
         WHERE conversation_id = $1 AND id > $2 AND id <= $3 AND deleted_at IS NULL ORDER BY id LIMIT $4",
        progress.id,
        progress.notified_message_id,
        up_to,
        MESSAGES_MAX
    )?;
    let up_to = match messages.last() {
        Some(last) if messages.len() as i64 == MESSAGES_MAX => last.id,
        _ => up_to,
    };
    let mut budget = COUNTED_MAX.saturating_sub(counted);
    let mut is_done = messages.is_empty();
    while !is_done {
        let page = find_readers(conn, progress.id, progress.notifying_user_id, up_to, now).await?;
        is_done = (page.len() as i64) < PAGE;
        for reader in page {
            progress.notifying_user_id = reader.user_id;
            let Some(recipient) = reader.recipient(raise, &messages) else { continue };
            budget = budget.saturating_sub(recipient.message_ids.len());
            recipients.push(recipient);
            if budget == 0 || recipients.len() >= RECIPIENTS_MAX {
                progress.notifying_up_to = up_to;
                return Ok(true);
            }
        }
    }
    progress.notified_message_id = up_to;
    progress.notifying_up_to = 0;
    progress.notifying_user_id = 0;
    Ok(up_to < goal)
}

/// Participants after one of them, in order, who may be notified of messages up to one.
async fn find_readers(
    conn: &mut Conn<'_>,
    conversation_id: i64,
    after: i64,
    up_to: i64,
    now: i64,
) -> Result<Vec<Reader>, sqlx::Error> {
    fetch_all!(
        conn,
        Reader,
        "SELECT user_id, read_up_to, cleared_up_to FROM participants
         WHERE conversation_id = $1 AND user_id > $2 AND left_at IS NULL AND read_up_to < $3 AND cleared_up_to < $3
               AND (muted_until IS NULL OR muted_until <= $4)
         ORDER BY user_id LIMIT $5",
        conversation_id,
        after,
        up_to,
        now,
        PAGE
    )
}

impl Reader {
    /// Somebody to be notified, unless nothing of the messages is new to them.
    fn recipient(&self, raise: &Raise, messages: &[Message]) -> Option<Recipient> {
        let cursor = self.read_up_to.max(self.cleared_up_to);
        let is_new = |message: &&Message| {
            message.id > cursor && message.sender_id != self.user_id && !raise.was_present(self.user_id, message.id)
        };
        let new: Vec<&Message> = messages.iter().filter(is_new).collect();
        Some(Recipient {
            conversation_id: raise.conversation_id,
            user_id: self.user_id,
            cursor,
            created_at: new.last()?.created_at,
            message_ids: new.into_iter().map(|message| message.id).collect(),
        })
    }
}

/// Makes or changes the one unread notification that each recipient has of a conversation.
async fn notify(conn: &mut Conn<'_>, mut recipients: Vec<Recipient>, now: i64) -> Result<Vec<UserEvent>, sqlx::Error> {
    let user_ids: BTreeSet<i64> = recipients.iter().map(|recipient| recipient.user_id).collect();
    let mut log = UserLog::open(conn, now, &user_ids).await?;
    recipients.retain(|recipient| log.takes(recipient.user_id));
    let mut unread = find_unread(conn, &recipients).await?;
    let mut passed = Vec::new();
    for recipient in &recipients {
        let key = (recipient.conversation_id, recipient.user_id);
        // One that the cursor has reached is read, though nobody has said so yet: these messages begin another.
        if let Some((id, message_id)) = unread.get(&key).copied()
            && message_id <= recipient.cursor
        {
            unread.remove(&key);
            passed.push(id);
            log.read(recipient.user_id, WhichNotifications::Some { notification_ids: vec![id] });
        }
    }
    mark_read(conn, &passed).await?;
    insert(conn, &recipients, &mut unread).await?;
    let counted: Vec<(i64, i64)> = recipients
        .iter()
        .filter_map(|recipient| Some((unread.get(&(recipient.conversation_id, recipient.user_id))?.0, recipient)))
        .flat_map(|(id, recipient)| recipient.message_ids.iter().map(move |message_id| (id, *message_id)))
        .collect();
    let head = "INSERT INTO notification_messages (notification_id, message_id)";
    insert_rows!(conn, head, "ON CONFLICT DO NOTHING", counted, 2, |query, row| {
        query = query.bind(row.0).bind(row.1);
    })?;
    let ids: Vec<i64> = unread.into_values().map(|(id, _)| id).collect();
    let tallies = tally(conn, &ids).await?;
    for (user_id, notification) in rewrite(conn, &tallies).await? {
        log.notify(user_id, notification);
    }
    log.write(conn).await
}

/// The unread notifications that recipients have already, by conversation and user, each with its last message.
async fn find_unread(
    conn: &mut Conn<'_>,
    recipients: &[Recipient],
) -> Result<HashMap<(i64, i64), (i64, i64)>, sqlx::Error> {
    let pairs: Vec<(i64, i64)> =
        recipients.iter().map(|recipient| (recipient.conversation_id, recipient.user_id)).collect();
    let mut unread = HashMap::new();
    for pairs in pairs.chunks(ROWS_MAX) {
        let pairs = padded(pairs);
        let sql = format!(
            "WITH wanted (conversation_id, user_id) AS (VALUES {})
             SELECT n.conversation_id, n.user_id, n.id, n.message_id FROM wanted CROSS JOIN notifications n
             WHERE n.conversation_id = wanted.conversation_id AND n.user_id = wanted.user_id
                   AND n.conversation_id IS NOT NULL AND n.is_read = 0",
            rows(0, pairs.len(), 2)
        );
        let found = fetch_all!(conn, (i64, i64, i64, i64), safe(sql), |query| {
            for (conversation_id, user_id) in &pairs {
                query = query.bind(*conversation_id).bind(*user_id);
            }
        })?;
        unread.extend(found.into_iter().map(|(conversation, user, id, message)| ((conversation, user), (id, message))));
    }
    Ok(unread)
}

/// Makes notifications for those recipients who have none; what they say is written when they are tallied.
async fn insert(
    conn: &mut Conn<'_>,
    recipients: &[Recipient],
    unread: &mut HashMap<(i64, i64), (i64, i64)>,
) -> Result<(), sqlx::Error> {
    let fresh: Vec<&Recipient> = recipients
        .iter()
        .filter(|recipient| !unread.contains_key(&(recipient.conversation_id, recipient.user_id)))
        .collect();
    let ids = take_ids(conn, "notification", fresh.len()).await?;
    let fresh: Vec<(i64, &Recipient)> = ids.into_iter().zip(fresh).collect();
    let head = "INSERT INTO notifications
                    (id, user_id, title, message, notification_type, data, conversation_id, message_id, created_at)";
    insert_rows!(conn, head, "", fresh, 9, |query, row| {
        let (id, recipient) = row;
        query = query
            .bind(*id)
            .bind(recipient.user_id)
            .bind(TITLE)
            .bind("")
            .bind(TYPE)
            .bind("{}")
            .bind(recipient.conversation_id)
            .bind(recipient.message_ids.last().copied())
            .bind(recipient.created_at);
    })?;
    unread.extend(fresh.into_iter().map(|(id, recipient)| ((recipient.conversation_id, recipient.user_id), (id, 0))));
    Ok(())
}

async fn write_progress(conn: &mut Conn<'_>, held: &[Progress]) -> Result<(), sqlx::Error> {
    if held.is_empty() {
        return Ok(());
    }
    let held = padded(held);
    let sql = format!(
        "WITH progress (id, notified_message_id, notifying_up_to, notifying_user_id) AS (VALUES {})
         UPDATE conversations SET notified_message_id = progress.notified_message_id,
                notifying_up_to = progress.notifying_up_to, notifying_user_id = progress.notifying_user_id
         FROM progress WHERE conversations.id = progress.id",
        rows(0, held.len(), 4)
    );
    execute!(conn, safe(sql), |query| {
        for row in &held {
            query =
                query.bind(row.id).bind(row.notified_message_id).bind(row.notifying_up_to).bind(row.notifying_user_id);
        }
    })?;
    Ok(())
}
