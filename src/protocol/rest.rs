//! The objects that only REST answers hold, field for field as the contract names them.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Message, Person, Role, Time};

/// A conversation, as one of its participants or the platform sees it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Conversation {
    pub id: i64,
    /// `direct` or `group`
    pub kind: String,
    pub title: Option<String>,
    /// The first to join, at most 20.
    pub participants: Vec<PersonInRole>,
    pub participant_count: i64,
    /// Null where there is none, or none that is not hidden.
    pub last_message: Option<Message>,
    /// Exact up to 1,000.
    pub unread_count: i64,
    /// What this answer is true for.
    pub last_event_id: i64,
    pub archived: bool,
    pub muted: bool,
    /// The caller's; null for the platform.
    pub role: Option<Role>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// Somebody and what they may do in a conversation.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PersonInRole {
    #[serde(flatten)]
    pub person: Person,
    pub role: Role,
}

/// Somebody's place in a conversation.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Participant {
    pub user: Person,
    pub role: Role,
    pub joined_at: Time,
    /// The last message they have read; 0 for none.
    pub read_up_to: i64,
}

/// A user, as the platform keeps one.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Profile {
    #[serde(flatten)]
    pub person: Person,
    pub email: Option<String>,
}

/// The caller, and what waits for them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Me {
    #[serde(flatten)]
    pub profile: Profile,
    pub unread_messages: i64,
    pub unread_notifications: i64,
}

/// An earlier version of a message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Revision {
    pub content: String,
    /// When it was replaced.
    pub edited_at: Time,
}

/// How many users a request made and changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UsersWritten {
    pub created: i64,
    pub updated: i64,
}

/// What this system holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stats {
    pub connections: i64,
    pub users_online: i64,
    pub users: i64,
    pub conversations: i64,
    pub messages: i64,
}
