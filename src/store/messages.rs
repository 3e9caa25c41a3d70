//! Messages as they stand today, with their senders, replies, attachments and reactions.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::sql::{Conn, fetch_all, fetch_optional, list, padded, safe};
use super::{Found, Store};
use crate::protocol::rest::Revision;
use crate::protocol::{Attachment, Message, Person, Reaction, ReplyTo, Time};

/// A message and where it stands, for those who must know more than the frame shows.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    pub conversation_id: i64,
    pub event_id: i64,
    pub client_id: Option<String>,
    /// Whether it was deleted without an event that says so.
    pub is_erased: bool,
    pub message: Message,
}

/// A message's row with its sender's and the replied message's.
#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    conversation_id: i64,
    event_id: i64,
    sender_id: i64,
    client_id: Option<String>,
    content: String,
    message_type: String,
    data: Option<String>,
    created_at: i64,
    edited_at: Option<i64>,
    deleted_at: Option<i64>,
    deleted_event_id: Option<i64>,
    first_name: String,
    last_name: String,
    username: Option<String>,
    avatar_url: Option<String>,
    reply_id: Option<i64>,
    reply_content: Option<String>,
    reply_sender_id: Option<i64>,
    reply_first_name: Option<String>,
    reply_last_name: Option<String>,
    reply_username: Option<String>,
    reply_avatar_url: Option<String>,
}

const SELECT: &str = "
    SELECT m.id, m.conversation_id, m.event_id, m.sender_id, m.client_id, m.content, m.message_type, m.data,
           m.created_at, m.edited_at, m.deleted_at, m.deleted_event_id,
           u.first_name, u.last_name, u.username, u.avatar_url,
           r.id AS reply_id, r.content AS reply_content, ru.id AS reply_sender_id,
           ru.first_name AS reply_first_name, ru.last_name AS reply_last_name, ru.username AS reply_username,
           ru.avatar_url AS reply_avatar_url
    FROM messages m
    JOIN users u ON u.id = m.sender_id
    LEFT JOIN messages r ON r.id = m.reply_to_id
    LEFT JOIN users ru ON ru.id = r.sender_id";

impl Row {
    fn into_message(self, attachments: Vec<Attachment>, reactions: Vec<Reaction>) -> StoredMessage {
        let reply_to = match (self.reply_id, self.reply_content, self.reply_sender_id) {
            (Some(id), Some(content), Some(sender_id)) => Some(ReplyTo {
                id,
                content,
                sender: Person {
                    id: sender_id,
                    first_name: self.reply_first_name.unwrap_or_default(),
                    last_name: self.reply_last_name.unwrap_or_default(),
                    username: self.reply_username,
                    avatar_url: self.reply_avatar_url,
                },
            }),
            _ => None,
        };
        let sender = Person {
            id: self.sender_id,
            first_name: self.first_name,
            last_name: self.last_name,
            username: self.username,
            avatar_url: self.avatar_url,
        };
        let message = Message {
            id: self.id,
            content: self.content,
            sender,
            timestamp: Time(self.created_at),
            message_type: self.message_type,
            reply_to,
            attachments,
            reactions,
            data: self.data.and_then(|data| RawValue::from_string(data).ok()),
            edited_at: self.edited_at.map(Time),
            is_deleted: self.deleted_at.is_some(),
        };
        StoredMessage {
            conversation_id: self.conversation_id,
            event_id: self.event_id,
            client_id: self.client_id,
            is_erased: self.deleted_at.is_some() && self.deleted_event_id.is_none(),
            message,
        }
    }
}

/// How a page of a conversation's history is cut.
#[derive(Clone, Copy, Debug)]
pub enum Page {
    /// The newest before this id (or of all), newest first.
    Before(Option<i64>),
    /// The oldest after this id, oldest first.
    After(i64),
}

impl Store {
    /// A message as this user sees it: a participant of its conversation, who has not cleared it.
    pub async fn find_message(&self, id: i64, user_id: i64) -> Found<Option<StoredMessage>> {
        let mut reader = self.reader().await?;
        let conn = &mut reader.conn();
        let sql = "SELECT p.cleared_up_to FROM messages m JOIN participants p ON p.conversation_id = m.conversation_id
                   WHERE m.id = $1 AND p.user_id = $2 AND p.left_at IS NULL";
        let Some((cleared_up_to,)) = fetch_optional!(conn, (i64,), sql, id, user_id)? else { return Ok(None) };
        let found = self.load_messages(conn, &[id]).await?.remove(&id);
        Ok(found.and_then(|stored| stored.seen_past(cleared_up_to)))
    }

    /// The earlier versions of a message, the oldest first.
    pub async fn list_revisions(&self, message_id: i64) -> Found<Vec<Revision>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT content, replaced_at FROM message_revisions WHERE message_id = $1 ORDER BY number";
        let rows = fetch_all!(&mut reader.conn(), (String, i64), sql, message_id)?;
        Ok(rows.into_iter().map(|(content, at)| Revision { content, edited_at: Time(at) }).collect())
    }

    /// A page of history past what the reader has cleared, and whether there is more in that direction.
    pub async fn list_messages(
        &self,
        conversation_id: i64,
        cleared_up_to: i64,
        page: Page,
        limit: i64,
    ) -> Found<(Vec<StoredMessage>, bool)> {
        let mut reader = self.reader().await?;
        let conn = &mut reader.conn();
        let rows = match page {
            Page::Before(before) => {
                let sql = format!(
                    "{SELECT} WHERE m.conversation_id = $1 AND m.id > $2 AND m.id < $3 ORDER BY m.id DESC LIMIT $4"
                );
                fetch_all!(conn, Row, safe(sql), conversation_id, cleared_up_to, before.unwrap_or(i64::MAX), limit + 1)?
            }
            Page::After(after) => {
                let sql = format!("{SELECT} WHERE m.conversation_id = $1 AND m.id > $2 ORDER BY m.id LIMIT $3");
                fetch_all!(conn, Row, safe(sql), conversation_id, cleared_up_to.max(after), limit + 1)?
            }
        };
        let mut messages = self.dress(conn, rows).await?;
        let has_more = messages.len() as i64 > limit;
        messages.truncate(limit as usize);
        Ok((messages.into_iter().filter_map(|message| message.seen_past(cleared_up_to)).collect(), has_more))
    }

    /// Messages by id, as they stand inside this transaction or connection.
    pub(super) async fn load_messages(
        &self,
        conn: &mut Conn<'_>,
        ids: &[i64],
    ) -> Result<HashMap<i64, StoredMessage>, sqlx::Error> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids = padded(ids);
        let sql = format!("{SELECT} WHERE m.id IN ({})", list(0, ids.len()));
        let rows = fetch_all!(conn, Row, safe(sql), |query| {
            for id in &ids {
                query = query.bind(*id);
            }
        })?;
        let messages = self.dress(conn, rows).await?;
        Ok(messages.into_iter().map(|message| (message.message.id, message)).collect())
    }

    /// Adds attachments and reactions to rows, in their order.
    async fn dress(&self, conn: &mut Conn<'_>, rows: Vec<Row>) -> Result<Vec<StoredMessage>, sqlx::Error> {
        let alive: Vec<i64> = rows.iter().filter(|row| row.deleted_at.is_none()).map(|row| row.id).collect();
        let mut reactions = find_reactions(conn, &alive).await?;
        let mut attachments = self.find_attachments(conn, &alive).await?;
        let dress = |row: Row| {
            let id = row.id;
            row.into_message(attachments.remove(&id).unwrap_or_default(), reactions.remove(&id).unwrap_or_default())
        };
        Ok(rows.into_iter().map(dress).collect())
    }

    async fn find_attachments(
        &self,
        conn: &mut Conn<'_>,
        message_ids: &[i64],
    ) -> Result<HashMap<i64, Vec<Attachment>>, sqlx::Error> {
        let mut found: HashMap<i64, Vec<Attachment>> = HashMap::new();
        if message_ids.is_empty() {
            return Ok(found);
        }
        let ids = padded(message_ids);
        let sql = format!(
            "SELECT {ATTACHMENT_COLUMNS} FROM attachments WHERE message_id IN ({}) ORDER BY message_id, position",
            list(0, ids.len())
        );
        let rows = fetch_all!(conn, AttachmentRow, safe(sql), |query| {
            for id in &ids {
                query = query.bind(*id);
            }
        })?;
        for row in rows {
            found.entry(row.message_id.unwrap_or_default()).or_default().push(self.attachment(row));
        }
        Ok(found)
    }

    /// An attachment as clients see it, with links that are good from now on.
    pub(super) fn attachment(&self, row: AttachmentRow) -> Attachment {
        let now = self.clock.now_ms();
        Attachment {
            url: self.links.url(row.id, &row.filename, false, now),
            thumbnail_url: row.thumbnail_key.is_some().then(|| self.links.url(row.id, &row.filename, true, now)),
            id: row.id,
            filename: row.filename,
            content_type: row.content_type,
            size: row.size,
            width: row.width,
            height: row.height,
        }
    }
}

impl StoredMessage {
    /// The message as it is shown to somebody who has cleared so far; nothing where it is hidden from them.
    pub(super) fn seen_past(mut self, cleared_up_to: i64) -> Option<Self> {
        let about = self.about();
        if about.is_reply_hidden(cleared_up_to) {
            self.message.hide_reply();
        }
        Some(self).filter(|_| !about.is_hidden(cleared_up_to))
    }
}

pub(super) const ATTACHMENT_COLUMNS: &str = "id, uploader_id, message_id, filename, content_type, size, width, height, \
                                             file_key, thumbnail_key, thumbnail_type";

/// An attachment's row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct AttachmentRow {
    pub id: i64,
    pub uploader_id: i64,
    pub message_id: Option<i64>,
    pub filename: String,
    pub content_type: String,
    pub size: i64,
    pub width: Option<i64>,
    pub height: Option<i64>,
    pub file_key: String,
    pub thumbnail_key: Option<String>,
    pub thumbnail_type: Option<String>,
}

#[derive(sqlx::FromRow)]
struct ReactionRow {
    message_id: i64,
    reaction: String,
    emoji: String,
    user_id: i64,
    first_name: String,
    last_name: String,
    username: Option<String>,
    avatar_url: Option<String>,
}

async fn find_reactions(conn: &mut Conn<'_>, message_ids: &[i64]) -> Result<HashMap<i64, Vec<Reaction>>, sqlx::Error> {
    let mut found: HashMap<i64, Vec<Reaction>> = HashMap::new();
    if message_ids.is_empty() {
        return Ok(found);
    }
    let ids = padded(message_ids);
    let sql = format!(
        "SELECT r.message_id, r.reaction, r.emoji, r.user_id, u.first_name, u.last_name, u.username, u.avatar_url
         FROM reactions r JOIN users u ON u.id = r.user_id
         WHERE r.message_id IN ({}) ORDER BY r.message_id, r.created_at, r.user_id",
        list(0, ids.len())
    );
    let rows = fetch_all!(conn, ReactionRow, safe(sql), |query| {
        for id in &ids {
            query = query.bind(*id);
        }
    })?;
    for row in rows {
        let user = Person {
            id: row.user_id,
            first_name: row.first_name,
            last_name: row.last_name,
            username: row.username,
            avatar_url: row.avatar_url,
        };
        let reaction = Reaction { reaction: row.reaction, emoji: row.emoji, user };
        found.entry(row.message_id).or_default().push(reaction);
    }
    Ok(found)
}
