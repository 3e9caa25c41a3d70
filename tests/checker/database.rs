//! What the store really holds, read past the server with SQL of the checker's own.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection, PgConnection, SqliteConnection};

/// One conversation's rows.
#[derive(Debug, Default)]
pub struct Rows {
    pub last_event_id: i64,
    /// Event id, kind, subject (a message, a participant), actor.
    pub log: Vec<(i64, String, i64, i64)>,
    pub messages: BTreeMap<i64, MessageRow>,
    /// Message, user and reaction.
    pub reactions: BTreeSet<(i64, i64, String)>,
    pub participants: BTreeMap<i64, ParticipantRow>,
    /// The event that each command yielded, by user and `client_id`, where it yielded one.
    pub uses: BTreeMap<(i64, String), i64>,
    /// The attachments of each message.
    pub attachments: BTreeMap<i64, Vec<i64>>,
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

#[derive(Debug, sqlx::FromRow)]
pub struct ParticipantRow {
    pub user_id: i64,
    pub role: String,
    pub read_up_to: i64,
    pub cleared_up_to: i64,
    pub left_at: Option<i64>,
}

impl Rows {
    /// How far everybody who is in it has read.
    pub fn read_up_to(&self) -> BTreeMap<i64, i64> {
        let present = self.participants.values().filter(|row| row.left_at.is_none());
        present.map(|row| (row.user_id, row.read_up_to)).collect()
    }

    /// The kind and the subject of an event.
    pub fn event(&self, event_id: i64) -> Option<&(i64, String, i64, i64)> {
        usize::try_from(event_id - 1).ok().and_then(|index| self.log.get(index))
    }
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
        let sql = "SELECT user_id, role, read_up_to, cleared_up_to, left_at FROM participants
                   WHERE conversation_id = $1";
        let people: Vec<ParticipantRow> = sqlx::query_as(sql).bind($id).fetch_all(&mut connection).await?;
        rows.participants = people.into_iter().map(|row| (row.user_id, row)).collect();
        let sql = "SELECT sender_id, client_id, event_id FROM messages
                   WHERE conversation_id = $1 AND client_id IS NOT NULL
                   UNION ALL
                   SELECT user_id, client_id, event_id FROM client_ids
                   WHERE topic_kind = 'c' AND topic_id = $1 AND event_id > 0";
        let uses: Vec<(i64, String, i64)> = sqlx::query_as(sql).bind($id).fetch_all(&mut connection).await?;
        rows.uses = uses.into_iter().map(|(user_id, client_id, event_id)| ((user_id, client_id), event_id)).collect();
        let sql = "SELECT a.message_id, a.id FROM attachments a JOIN messages m ON m.id = a.message_id
                   WHERE m.conversation_id = $1 ORDER BY a.position";
        let attachments: Vec<(i64, i64)> = sqlx::query_as(sql).bind($id).fetch_all(&mut connection).await?;
        for (message_id, id) in attachments {
            rows.attachments.entry(message_id).or_default().push(id);
        }
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

/// One user's notifications.
#[derive(Debug, Default)]
pub struct Inbox {
    pub last_event_id: i64,
    /// Event id, kind and the notification it is about, where that is one.
    pub log: Vec<(i64, String, i64)>,
    pub notifications: BTreeMap<i64, NotificationRow>,
    /// The messages that each unread notification counts, and that are not deleted: notification and message.
    pub counted: BTreeSet<(i64, i64)>,
    /// The event that each command yielded, by `client_id`; 0 where it yielded none.
    pub uses: BTreeMap<String, i64>,
}

#[derive(Debug, sqlx::FromRow)]
pub struct NotificationRow {
    pub id: i64,
    pub title: String,
    pub message: String,
    pub data: String,
    pub is_read: i64,
    pub conversation_id: i64,
}

macro_rules! read_inbox {
    ($connection:expr, $user_id:expr) => {{
        let mut connection = $connection;
        let mut inbox = Inbox::default();
        let sql = "SELECT last_event_id FROM users WHERE id = $1";
        let (last,): (i64,) = sqlx::query_as(sql).bind($user_id).fetch_one(&mut connection).await?;
        inbox.last_event_id = last;
        let sql = "SELECT event_id, kind, COALESCE(subject_id, 0) FROM events
                   WHERE topic_kind = 'u' AND topic_id = $1 ORDER BY event_id";
        inbox.log = sqlx::query_as(sql).bind($user_id).fetch_all(&mut connection).await?;
        let sql = "SELECT id, title, message, data, is_read, COALESCE(conversation_id, 0) AS conversation_id
                   FROM notifications WHERE user_id = $1";
        let rows: Vec<NotificationRow> = sqlx::query_as(sql).bind($user_id).fetch_all(&mut connection).await?;
        inbox.notifications = rows.into_iter().map(|row| (row.id, row)).collect();
        let sql = "SELECT c.notification_id, c.message_id FROM notification_messages c
                   JOIN notifications n ON n.id = c.notification_id
                   JOIN messages m ON m.id = c.message_id
                   WHERE n.user_id = $1 AND m.deleted_at IS NULL";
        let counted: Vec<(i64, i64)> = sqlx::query_as(sql).bind($user_id).fetch_all(&mut connection).await?;
        inbox.counted = counted.into_iter().collect();
        let sql = "SELECT client_id, COALESCE(event_id, 0) FROM client_ids WHERE topic_kind = 'u' AND topic_id = $1";
        let uses: Vec<(String, i64)> = sqlx::query_as(sql).bind($user_id).fetch_all(&mut connection).await?;
        inbox.uses = uses.into_iter().collect();
        connection.close().await?;
        inbox
    }};
}

/// Reads a user's notifications from the database at `url`.
pub async fn read_inbox(url: &str, user_id: i64) -> Result<Inbox, sqlx::Error> {
    Ok(if url.starts_with("sqlite:") {
        read_inbox!(SqliteConnection::connect(url).await?, user_id)
    } else {
        read_inbox!(PgConnection::connect(url).await?, user_id)
    })
}

macro_rules! read_people {
    ($connection:expr, $column:literal, $value:expr) => {{
        let mut connection = $connection;
        let sql = concat!(
            "SELECT p.conversation_id, p.user_id FROM participants p JOIN conversations c ON c.id = p.conversation_id
             WHERE c.",
            $column,
            " = $1 ORDER BY p.user_id"
        );
        let found: Vec<(i64, i64)> = sqlx::query_as(sql).bind($value).fetch_all(&mut connection).await?;
        connection.close().await?;
        found
    }};
}

/// The people of all conversations of a title, or of the 1:1 of two people: conversation and user.
pub async fn read_people(url: &str, title: Option<&str>, pair: &str) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    let is_sqlite = url.starts_with("sqlite:");
    Ok(match title {
        Some(title) if is_sqlite => read_people!(SqliteConnection::connect(url).await?, "title", title),
        Some(title) => read_people!(PgConnection::connect(url).await?, "title", title),
        None if is_sqlite => read_people!(SqliteConnection::connect(url).await?, "direct_key", pair),
        None => read_people!(PgConnection::connect(url).await?, "direct_key", pair),
    })
}
