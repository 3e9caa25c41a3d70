//! Server frames, and how they become bytes: once per event, shared by all who receive it.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Message, Notification, Person, Reaction, Role, Time};
use crate::error::Error;

/// What happened in a conversation or to a user's notifications.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    ChatMessage {
        message: Box<Message>,
    },
    MessageEdited {
        message: Box<Message>,
    },
    MessageDeleted {
        message_id: i64,
        deleted_by: Person,
        deleted_at: Time,
    },
    ReactionAdded {
        message_id: i64,
        reaction: Reaction,
    },
    ReactionRemoved {
        message_id: i64,
        reaction: Reaction,
    },
    /// All messages up to `message_id` are read.
    MessageRead {
        message_id: i64,
        read_by: Person,
        read_at: Time,
    },
    MessageStatus {
        message_id: i64,
        /// `delivered`
        status: &'static str,
        user_id: i64,
        timestamp: Time,
    },
    TypingIndicator {
        user: Person,
        is_typing: bool,
    },
    UserStatus {
        user_id: i64,
        status: Presence,
        last_seen: Option<Time>,
    },
    ParticipantAdded {
        user: Person,
        role: Role,
        by: Option<Person>,
    },
    ParticipantRemoved {
        user: Person,
        role: Role,
        by: Option<Person>,
    },
    ConversationUpdated {
        conversation: ConversationTitle,
        by: Option<Person>,
        #[serde(skip_serializing_if = "Option::is_none")]
        archived: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        muted: Option<bool>,
    },
    Notification {
        notification: Box<Notification>,
    },
    NotificationRead {
        #[serde(flatten)]
        which: WhichNotifications,
        unread_count: i64,
    },
    NotificationDeleted {
        notification_ids: Vec<i64>,
        unread_count: i64,
    },
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    Online,
    Offline,
}

/// What a conversation is called.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ConversationTitle {
    pub id: i64,
    pub title: Option<String>,
}

/// Some notifications, or all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum WhichNotifications {
    Some { notification_ids: Vec<i64> },
    All { all: bool },
}

impl Event {
    /// Whether only clients that opted in receive it.
    pub fn is_opt_in(&self) -> bool {
        matches!(
            self,
            Self::MessageStatus { .. }
                | Self::ParticipantAdded { .. }
                | Self::ParticipantRemoved { .. }
                | Self::ConversationUpdated { .. }
                | Self::NotificationRead { .. }
                | Self::NotificationDeleted { .. }
        )
    }
}

/// An event with where and when in the log it stands.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Frame<'a> {
    #[serde(flatten)]
    pub event: &'a Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<i64>,
    /// Present on durable events: dense, growing by one in each conversation, or each user's notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<i64>,
    /// `true` on the answer to a command that changed nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// On the issuing socket's copy, and in a replay of one's own messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a str>,
}

/// The greeting of a client that opted in.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Connected {
    #[serde(flatten)]
    pub position: Position,
    pub user: Person,
    pub server_time: Time,
    pub heartbeat_interval_ms: Option<u64>,
    pub token_expires_at: Time,
    pub limits: Limits,
    pub unread_count: i64,
    pub connection_id: String,
}

/// Where the logs that a socket carries stand.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Position {
    Chat { conversation_id: i64, last_event_id: i64 },
    Notifications { last_event_id: i64 },
    User { cursors: BTreeMap<i64, i64>, notifications: i64 },
}

/// The bounds a client must keep; null where one is off.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Limits {
    pub frame_bytes_max: Option<u64>,
    pub text_chars_max: Option<u64>,
    pub attachments_per_message_max: Option<u64>,
    pub attachment_bytes_max: Option<u64>,
    pub commands_per_second_max: Option<u64>,
}

/// Frames that answer one socket and belong to no log.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer<'a> {
    Connected(Box<Connected>),
    Resumed {
        #[serde(flatten)]
        position: Resumed,
    },
    Resync {
        #[serde(skip_serializing_if = "Option::is_none")]
        conversation_id: Option<i64>,
        last_event_id: i64,
    },
    Error {
        code: &'static str,
        message: &'a str,
        client_id: Option<&'a str>,
        field: Option<&'a str>,
        retry_after_ms: Option<u64>,
    },
    Pong {
        client_id: Option<&'a str>,
    },
    AuthOk {
        expires_at: Time,
        client_id: Option<&'a str>,
    },
    TokenExpiring {
        expires_at: Time,
    },
}

/// Where a resume has arrived.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Resumed {
    Notifications { last_event_id: i64, unread_count: i64 },
    Chat { last_event_id: i64 },
    User { cursors: BTreeMap<i64, i64>, notifications: i64 },
}

impl<'a> Answer<'a> {
    /// The frame that refuses a command.
    pub fn error(error: &'a Error, client_id: Option<&'a str>) -> Self {
        Self::Error {
            code: error.code.as_str(),
            message: &error.message,
            client_id,
            field: error.field,
            retry_after_ms: error.retry_after_ms,
        }
    }
}

/// Encodes a frame. The types above hold nothing that JSON can't, so this can't fail.
pub fn encode(frame: &impl Serialize) -> Bytes {
    serde_json::to_vec(frame).map(Bytes::from).unwrap_or_default()
}

/// The issuing socket's copy of an encoded event: the same bytes with the `client_id` added.
pub fn with_client_id(frame: &Bytes, client_id: &str) -> Bytes {
    let Some(open) = frame.strip_suffix(b"}") else { return frame.clone() };
    let mut copy = Vec::with_capacity(frame.len() + client_id.len() + 16);
    copy.extend_from_slice(open);
    copy.extend_from_slice(b",\"client_id\":");
    if serde_json::to_writer(&mut copy, client_id).is_err() {
        return frame.clone();
    }
    copy.push(b'}');
    copy.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuers_copy_is_the_same_frame_with_the_client_id() {
        let event = Event::UserStatus { user_id: 4, status: Presence::Online, last_seen: None };
        let frame =
            Frame { event: &event, conversation_id: Some(7), event_id: None, unchanged: false, client_id: None };
        let bytes = encode(&frame);
        assert_eq!(
            bytes.as_ref(),
            br#"{"type":"user_status","user_id":4,"status":"online","last_seen":null,"conversation_id":7}"#
        );
        let copy: serde_json::Value = serde_json::from_slice(&with_client_id(&bytes, "a\"b")).expect("valid JSON");
        assert_eq!(copy["client_id"], "a\"b");
        assert_eq!(copy["conversation_id"], 7);
    }
}
