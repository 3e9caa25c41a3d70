//! The logs: what happened in each topic, rendered as it stands today.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::messages::StoredMessage;
use super::notifications::{load_notifications, unread_notifications};
use super::sql::{Conn, fetch_all, fetch_optional, list, padded, safe};
use super::users::find_people;
use super::{Found, Store};
use crate::protocol::objects::Notification;
use crate::protocol::server::{ConversationTitle, WhichNotifications};
use crate::protocol::{About, Event, Person, Reaction, Role, Time, Topic};

/// An event, and what decides who sees it.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its place in the topic's log; none for states such as receipts.
    pub event_id: Option<i64>,
    pub event: Event,
    /// The message it is about.
    pub about: Option<About>,
    /// Who sent the message under which `client_id`, for a replay to its sender.
    pub client_id: Option<(i64, String)>,
}

impl Told {
    /// The event as it is shown to somebody who has cleared so far: of a reply to what is hidden, not its text.
    pub fn seen_past(&self, cleared_up_to: i64) -> Cow<'_, Self> {
        if !self.about.is_some_and(|about| about.is_reply_hidden(cleared_up_to)) {
            return Cow::Borrowed(self);
        }
        let mut seen = self.clone();
        seen.event.hide_reply();
        Cow::Owned(seen)
    }
}

impl StoredMessage {
    /// What an event about this message must tell of it.
    pub fn about(&self) -> About {
        let message = &self.message;
        About {
            message_id: message.id,
            sender_id: message.sender.id,
            reply_to_id: message.reply_to.as_ref().map(|reply| reply.id),
        }
    }
}

/// One page of a log.
#[derive(Debug)]
pub struct LogPage {
    /// In order. Those of deleted notifications are left out.
    pub events: Vec<Told>,
    /// Where the page ends; the next one begins after it.
    pub up_to: i64,
    /// Where the log ended when the page was read.
    pub last_event_id: i64,
    /// Whether retention has deleted what should come first, or the start lies beyond the end.
    pub is_gone: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    event_id: i64,
    kind: String,
    actor_id: Option<i64>,
    subject_id: Option<i64>,
    data: Option<String>,
    created_at: i64,
}

/// What the small JSON of an event may hold.
#[derive(Default, serde::Deserialize)]
struct Data {
    reaction: Option<String>,
    emoji: Option<String>,
    role: Option<Role>,
    notification_ids: Option<Vec<i64>>,
}

impl Topic {
    /// How a topic is named in the log.
    pub(super) fn key(self) -> (&'static str, i64) {
        match self {
            Self::Conversation(id) => ("c", id),
            Self::User(id) => ("u", id),
        }
    }
}

impl Store {
    /// Where a topic's log ends; nothing where there is no such topic.
    pub async fn last_event_id(&self, topic: Topic) -> Found<Option<i64>> {
        let mut reader = self.reader().await?;
        Ok(last_event_id(&mut reader.conn(), topic).await?)
    }

    /// Where the logs of many topics end. Topics that are gone are left out.
    pub async fn last_event_ids(&self, topics: &[Topic]) -> Found<HashMap<Topic, i64>> {
        let mut found = HashMap::new();
        let conversations: Vec<i64> = topics
            .iter()
            .filter_map(|topic| if let Topic::Conversation(id) = topic { Some(*id) } else { None })
            .collect();
        let users: Vec<i64> =
            topics.iter().filter_map(|topic| if let Topic::User(id) = topic { Some(*id) } else { None }).collect();
        let mut reader = self.reader().await?;
        let conn = &mut reader.conn();
        for (table, ids, topic) in [
            ("conversations", conversations, Topic::Conversation as fn(i64) -> Topic),
            ("users", users, Topic::User as fn(i64) -> Topic),
        ] {
            for ids in ids.chunks(256) {
                let ids = padded(ids);
                let sql = format!("SELECT id, last_event_id FROM {table} WHERE id IN ({})", list(0, ids.len()));
                let rows = fetch_all!(conn, (i64, i64), safe(sql), |query| {
                    for id in &ids {
                        query = query.bind(*id);
                    }
                })?;
                found.extend(rows.into_iter().map(|(id, last)| (topic(id), last)));
            }
        }
        Ok(found)
    }

    /// The events of a topic after `after`, rendered as they stand today. Holds no transaction, so a slow
    /// reader costs nothing between pages.
    pub async fn read_log(&self, topic: Topic, after: i64, limit: i64) -> Found<LogPage> {
        let mut reader = self.reader().await?;
        let conn = &mut reader.conn();
        let last_event_id = last_event_id(conn, topic).await?.unwrap_or_default();
        if after >= last_event_id {
            return Ok(LogPage { events: Vec::new(), up_to: after, last_event_id, is_gone: after > last_event_id });
        }
        let (kind, id) = topic.key();
        let mut rows = fetch_all!(
            conn,
            Row,
            "SELECT event_id, kind, actor_id, subject_id, data, created_at FROM events
             WHERE topic_kind = $1 AND topic_id = $2 AND event_id > $3 ORDER BY event_id LIMIT $4",
            kind,
            id,
            after,
            limit
        )?;
        // What retention has deleted by its age may lie between what it has not: the page ends there, the next is gone.
        rows.truncate(rows.iter().zip(after + 1..).take_while(|(row, next)| row.event_id == *next).count());
        let is_gone = rows.is_empty();
        let up_to = rows.last().map_or(after, |last| last.event_id);
        let events = match topic {
            Topic::Conversation(id) => self.render_conversation(conn, id, rows).await?,
            Topic::User(id) => render_notifications(conn, id, rows).await?,
        };
        Ok(LogPage { events, up_to, last_event_id, is_gone })
    }

    async fn render_conversation(
        &self,
        conn: &mut Conn<'_>,
        id: i64,
        rows: Vec<Row>,
    ) -> Result<Vec<Told>, sqlx::Error> {
        let mut message_ids = HashSet::new();
        let mut people = HashSet::new();
        for row in &rows {
            people.extend(row.actor_id);
            if row.kind.starts_with("participant") {
                people.extend(row.subject_id);
            } else if row.kind != "conversation_updated" {
                message_ids.extend(row.subject_id);
            }
        }
        let messages = self.load_messages(conn, &message_ids.into_iter().collect::<Vec<_>>()).await?;
        let people = find_people(conn, &people.into_iter().collect::<Vec<_>>()).await?;
        let title: Option<(Option<String>,)> =
            fetch_optional!(conn, (Option<String>,), "SELECT title FROM conversations WHERE id = $1", id)?;
        let today = Today { conversation_id: id, title: title.and_then(|(title,)| title), messages, people };
        Ok(rows.into_iter().filter_map(|row| today.render(row)).collect())
    }
}

pub(super) async fn last_event_id(conn: &mut Conn<'_>, topic: Topic) -> Result<Option<i64>, sqlx::Error> {
    let (sql, id) = match topic {
        Topic::Conversation(id) => ("SELECT last_event_id FROM conversations WHERE id = $1", id),
        Topic::User(id) => ("SELECT last_event_id FROM users WHERE id = $1", id),
    };
    let row: Option<(i64,)> = fetch_optional!(conn, (i64,), sql, id)?;
    Ok(row.map(|(id,)| id))
}

/// What a conversation's events are rendered from.
struct Today {
    conversation_id: i64,
    title: Option<String>,
    messages: HashMap<i64, StoredMessage>,
    people: HashMap<i64, Person>,
}

impl Today {
    fn render(&self, row: Row) -> Option<Told> {
        let data: Data = row.data.as_deref().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
        let person = |id: Option<i64>| id.and_then(|id| self.people.get(&id).cloned());
        let stored = row.subject_id.and_then(|id| self.messages.get(&id));
        let event = match row.kind.as_str() {
            "chat_message" => Event::ChatMessage { message: Box::new(stored?.message.clone()) },
            "message_edited" => Event::MessageEdited { message: Box::new(stored?.message.clone()) },
            "message_deleted" => Event::MessageDeleted {
                message_id: row.subject_id?,
                deleted_by: person(row.actor_id)?,
                deleted_at: Time(row.created_at),
            },
            "reaction_added" | "reaction_removed" => {
                let reaction = Reaction { reaction: data.reaction?, emoji: data.emoji?, user: person(row.actor_id)? };
                let message_id = row.subject_id?;
                // A tombstone has no reactions; after an erasure no later event says so.
                if row.kind == "reaction_added" && !stored?.is_erased {
                    Event::ReactionAdded { message_id, reaction }
                } else {
                    Event::ReactionRemoved { message_id, reaction }
                }
            }
            "participant_added" => Event::ParticipantAdded {
                user: person(row.subject_id)?,
                role: data.role.unwrap_or(Role::Member),
                by: person(row.actor_id),
            },
            "participant_removed" => Event::ParticipantRemoved {
                user: person(row.subject_id)?,
                role: data.role.unwrap_or(Role::Member),
                by: person(row.actor_id),
            },
            "conversation_updated" => Event::ConversationUpdated {
                conversation: ConversationTitle { id: self.conversation_id, title: self.title.clone() },
                by: person(row.actor_id),
                archived: None,
                muted: None,
            },
            _ => return None,
        };
        let is_message = matches!(event, Event::ChatMessage { .. });
        Some(Told {
            event_id: Some(row.event_id),
            event,
            about: stored.map(StoredMessage::about),
            client_id: stored
                .filter(|_| is_message)
                .and_then(|stored| Some((stored.message.sender.id, stored.client_id.clone()?))),
        })
    }
}

async fn render_notifications(conn: &mut Conn<'_>, user_id: i64, rows: Vec<Row>) -> Result<Vec<Told>, sqlx::Error> {
    let rows: Vec<(Row, Data)> = rows
        .into_iter()
        .map(|row| {
            let data = row.data.as_deref().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
            (row, data)
        })
        .collect();
    let named = |(row, data): &(Row, Data)| {
        let ids = data.notification_ids.iter().flatten().copied().filter(|_| row.kind == "notification_read");
        row.subject_id.into_iter().chain(ids).collect::<Vec<_>>()
    };
    let ids: HashSet<i64> = rows.iter().flat_map(named).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let mut notifications: HashMap<i64, Notification> = HashMap::new();
    for ids in ids.chunks(256) {
        notifications.extend(load_notifications(conn, ids).await?);
    }
    let unread_count = unread_notifications(conn, user_id).await?;
    let render = |(row, data): (Row, Data)| {
        let event = match row.kind.as_str() {
            "notification" => {
                Event::Notification { notification: Box::new(notifications.get(&row.subject_id?)?.clone()) }
            }
            "notification_read" => {
                let which = match data.notification_ids {
                    Some(mut notification_ids) => {
                        // Of a deleted one nothing is shown but that it was deleted.
                        notification_ids.retain(|id| notifications.contains_key(id));
                        if notification_ids.is_empty() {
                            return None;
                        }
                        WhichNotifications::Some { notification_ids }
                    }
                    None => WhichNotifications::All { all: true },
                };
                Event::NotificationRead { which, unread_count }
            }
            "notification_deleted" => {
                Event::NotificationDeleted { notification_ids: data.notification_ids.unwrap_or_default(), unread_count }
            }
            _ => return None,
        };
        Some(Told { event_id: Some(row.event_id), event, about: None, client_id: None })
    };
    Ok(rows.into_iter().filter_map(render).collect())
}

/// An empty JSON object.
pub(super) fn empty_object() -> Box<RawValue> {
    serde_json::value::to_raw_value(&serde_json::Map::new()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
