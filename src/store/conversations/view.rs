//! Conversations as one participant, or the platform, sees them: each page with a handful of statements,
//! however many conversations it has.

use std::collections::HashMap;

use crate::protocol::rest::{Conversation, PersonInRole};
use crate::protocol::{Person, Role, Time};
use crate::store::sql::{Conn, fetch_all, list, padded, safe};
use crate::store::{Found, Store};

/// A place in the order of activity, the latest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Activity {
    pub active_at: i64,
    pub id: i64,
}

/// A page of somebody's conversations.
#[derive(Debug)]
pub struct ConversationPage {
    pub conversations: Vec<Conversation>,
    /// Where the next page goes on; nothing after the last one.
    pub next: Option<Activity>,
}

/// How many participants a conversation's object shows.
const SHOWN_MAX: i64 = 20;

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    kind: String,
    title: Option<String>,
    last_event_id: i64,
    last_message_id: i64,
    created_at: i64,
    updated_at: i64,
    participant_count: i64,
    role: Option<String>,
    cleared_up_to: Option<i64>,
    archived_at: Option<i64>,
    muted_until: Option<i64>,
    unread_count: i64,
}

#[derive(sqlx::FromRow)]
struct PersonRow {
    conversation_id: i64,
    user_id: i64,
    role: String,
    first_name: String,
    last_name: String,
    username: Option<String>,
    avatar_url: Option<String>,
}

impl Store {
    /// A conversation as a participant sees it, or the platform (no viewer); nothing for a stranger.
    pub async fn find_conversation(&self, id: i64, viewer: Option<i64>) -> Found<Option<Conversation>> {
        let mut reader = self.reader().await?;
        Ok(self.load_conversations(&mut reader.conn(), viewer, &[id]).await?.pop())
    }

    /// A page of somebody's conversations, the latest active first. One that was cleared is hidden until
    /// its next message.
    pub async fn list_conversations(
        &self,
        user_id: i64,
        archived: bool,
        after: Option<Activity>,
        limit: i64,
    ) -> Found<ConversationPage> {
        let mut reader = self.reader().await?;
        let conn = &mut reader.conn();
        let after = after.unwrap_or(Activity { active_at: i64::MAX, id: i64::MAX });
        let sql = format!(
            "SELECT c.active_at, c.id FROM participants p JOIN conversations c ON c.id = p.conversation_id
             WHERE p.user_id = $1 AND p.left_at IS NULL AND p.archived_at IS {} NULL
               AND (p.cleared_at IS NULL OR c.last_message_id > p.cleared_up_to)
               AND (c.active_at, c.id) < ($2, $3)
             ORDER BY c.active_at DESC, c.id DESC LIMIT $4",
            if archived { "NOT" } else { "" }
        );
        let mut places = fetch_all!(conn, Activity, safe(sql), user_id, after.active_at, after.id, limit + 1)?;
        let has_more = places.len() as i64 > limit;
        places.truncate(limit as usize);
        let ids: Vec<i64> = places.iter().map(|place| place.id).collect();
        let conversations = self.load_conversations(conn, Some(user_id), &ids).await?;
        Ok(ConversationPage { conversations, next: places.last().copied().filter(|_| has_more) })
    }

    /// Conversations in the order of the ids given; those that are gone or not the viewer's are left out.
    pub(in crate::store) async fn load_conversations(
        &self,
        conn: &mut Conn<'_>,
        viewer: Option<i64>,
        ids: &[i64],
    ) -> Result<Vec<Conversation>, sqlx::Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = find_rows(conn, viewer, ids).await?;
        rows.retain(|row| viewer.is_none() || row.role.is_some());
        let mut people = find_first(conn, ids).await?;
        let last: Vec<i64> = rows.iter().map(|row| row.last_message_id).filter(|id| *id > 0).collect();
        let mut messages = self.load_messages(conn, &last).await?;
        let now = self.clock.now_ms();
        let mut views: HashMap<i64, Conversation> = HashMap::with_capacity(rows.len());
        for row in rows {
            let last_message = messages.remove(&row.last_message_id);
            let last_message = last_message.and_then(|stored| stored.seen_past(row.cleared_up_to.unwrap_or_default()));
            let participants = people.remove(&row.id).unwrap_or_default();
            views.insert(row.id, row.into_view(participants, last_message.map(|stored| stored.message), now));
        }
        Ok(ids.iter().filter_map(|id| views.remove(id)).collect())
    }
}

impl Row {
    fn into_view(
        self,
        participants: Vec<PersonInRole>,
        last_message: Option<crate::protocol::Message>,
        now: i64,
    ) -> Conversation {
        Conversation {
            id: self.id,
            kind: self.kind,
            title: self.title,
            participants,
            participant_count: self.participant_count,
            last_message,
            unread_count: self.unread_count,
            last_event_id: self.last_event_id,
            archived: self.archived_at.is_some(),
            muted: self.muted_until.is_some_and(|until| until > now),
            role: self.role.as_deref().and_then(Role::parse),
            created_at: Time(self.created_at),
            updated_at: Time(self.updated_at),
        }
    }
}

async fn find_rows(conn: &mut Conn<'_>, viewer: Option<i64>, ids: &[i64]) -> Result<Vec<Row>, sqlx::Error> {
    let ids = padded(ids);
    let sql = format!(
        "SELECT c.id, c.kind, c.title, c.last_event_id, c.last_message_id, c.created_at, c.updated_at,
                (SELECT COUNT(*) FROM participants q
                 WHERE q.conversation_id = c.id AND q.left_at IS NULL) AS participant_count,
                p.role, p.cleared_up_to, p.archived_at, p.muted_until,
                (SELECT COUNT(*) FROM (
                     SELECT 1 FROM messages m WHERE m.conversation_id = c.id
                     AND m.id > CASE WHEN p.read_up_to > p.cleared_up_to THEN p.read_up_to ELSE p.cleared_up_to END
                     AND m.sender_id <> p.user_id AND m.deleted_at IS NULL LIMIT 1000
                 ) AS unread) AS unread_count
         FROM conversations c
         LEFT JOIN participants p ON p.conversation_id = c.id AND p.user_id = $1 AND p.left_at IS NULL
         WHERE c.id IN ({})",
        list(1, ids.len())
    );
    fetch_all!(conn, Row, safe(sql), |query| {
        // Nobody has the id 0.
        query = query.bind(viewer.unwrap_or_default());
        for id in &ids {
            query = query.bind(*id);
        }
    })
}

/// The first participants to join each conversation. Each group is read as far as they go and no further.
async fn find_first(conn: &mut Conn<'_>, ids: &[i64]) -> Result<HashMap<i64, Vec<PersonInRole>>, sqlx::Error> {
    let ids = padded(ids);
    let last_shown = |column: &str| {
        format!(
            "COALESCE((SELECT q.{column} FROM participants q WHERE q.conversation_id = c.id AND q.left_at IS NULL
                       ORDER BY q.joined_at, q.user_id LIMIT 1 OFFSET {}), {}) AS {column}",
            SHOWN_MAX - 1,
            i64::MAX
        )
    };
    let sql = format!(
        "WITH bounds AS (SELECT c.id, {}, {} FROM conversations c WHERE c.id IN ({}))
         SELECT p.conversation_id, p.user_id, p.role, u.first_name, u.last_name, u.username, u.avatar_url
         FROM bounds JOIN participants p ON p.conversation_id = bounds.id JOIN users u ON u.id = p.user_id
         WHERE p.left_at IS NULL AND (p.joined_at, p.user_id) <= (bounds.joined_at, bounds.user_id)
         ORDER BY p.conversation_id, p.joined_at, p.user_id",
        last_shown("joined_at"),
        last_shown("user_id"),
        list(0, ids.len())
    );
    let rows = fetch_all!(conn, PersonRow, safe(sql), |query| {
        for id in &ids {
            query = query.bind(*id);
        }
    })?;
    let mut found: HashMap<i64, Vec<PersonInRole>> = HashMap::new();
    for row in rows {
        let person = Person {
            id: row.user_id,
            first_name: row.first_name,
            last_name: row.last_name,
            username: row.username,
            avatar_url: row.avatar_url,
        };
        let role = Role::parse(&row.role).unwrap_or(Role::Member);
        found.entry(row.conversation_id).or_default().push(PersonInRole { person, role });
    }
    Ok(found)
}
