//! The objects that frames and REST answers are made of, field for field as the contract names them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Time;

/// A user as others see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Person {
    pub id: i64,
    /// Empty when nobody gave it.
    pub first_name: String,
    /// Empty when nobody gave it.
    pub last_name: String,
    pub username: Option<String>,
    pub avatar_url: Option<String>,
}

impl Person {
    /// The name to show: first and last as far as given, else the username, else `Someone`.
    pub fn display_name(&self) -> String {
        match (self.first_name.is_empty(), self.last_name.is_empty()) {
            (false, false) => format!("{} {}", self.first_name, self.last_name),
            (false, true) => self.first_name.clone(),
            (true, false) => self.last_name.clone(),
            (true, true) => match &self.username {
                Some(username) if !username.is_empty() => username.clone(),
                _ => "Someone".to_owned(),
            },
        }
    }
}

/// What a participant may do in a conversation. In a 1:1 both are members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Owner,
    Admin,
    Member,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Owner, Self::Admin, Self::Member].into_iter().find(|role| role.as_str() == text)
    }
}

/// A message as it stands today.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Message {
    pub id: i64,
    /// The text as sent; empty once deleted.
    pub content: String,
    pub sender: Person,
    pub timestamp: Time,
    /// `text`, `image` or `file`: a label chosen by the sender.
    pub message_type: String,
    pub reply_to: Option<ReplyTo>,
    pub attachments: Vec<Attachment>,
    pub reactions: Vec<Reaction>,
    /// The sender's own properties, as sent.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub data: Option<Box<RawValue>>,
    pub edited_at: Option<Time>,
    pub is_deleted: bool,
}

/// The message that a reply answers.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReplyTo {
    pub id: i64,
    /// Whole; empty once deleted, or where the reader has cleared it.
    pub content: String,
    pub sender: Person,
}

/// A file of a message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Attachment {
    pub id: i64,
    pub filename: String,
    pub content_type: String,
    /// In bytes.
    pub size: i64,
    /// Signed, and good for some minutes.
    pub url: String,
    pub thumbnail_url: Option<String>,
    /// In pixels, as shown; null where it is no image.
    pub width: Option<i64>,
    pub height: Option<i64>,
}

/// One user's reaction to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reaction {
    /// Its name in the configured set.
    pub reaction: String,
    pub emoji: String,
    pub user: Person,
}

/// A notification, in the guide's shape plus `action_url`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Notification {
    pub id: i64,
    pub title: String,
    pub message: String,
    pub notification_type: String,
    pub timestamp: Time,
    pub is_read: bool,
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub data: Box<RawValue>,
    pub action_url: Option<String>,
}
