//! The shapes of client frames. What takes them in reads field by field and tells what is wrong with each; these say
//! the same as types, and the golden frames hold the two together.
#![expect(dead_code, reason = "only their schemas are used")]

use schemars::JsonSchema;

/// A command with what every one may carry.
#[derive(JsonSchema)]
pub struct ClientFrame {
    #[schemars(flatten)]
    command: Command,
    /// 1 to 64 characters; repeating it repeats nothing but the answer.
    #[schemars(length(min = 1, max = 64))]
    client_id: Option<String>,
    /// On `/ws/user/`, which conversation the command is for.
    conversation_id: Option<Id>,
}

/// What a client asks for.
#[derive(JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case")]
enum Command {
    /// Sends a message.
    ChatMessage {
        /// Not only white space; may be left out with an attachment.
        message: Option<String>,
        /// Another name of `message`.
        text: Option<String>,
        message_type: Option<MessageType>,
        /// A message of the same conversation.
        reply_to: Option<Id>,
        /// Another name of `reply_to`.
        reply_to_id: Option<Id>,
        attachment_ids: Option<Vec<Id>>,
        /// Kept and returned as sent; at most 4 KiB.
        data: Option<serde_json::Map<String, serde_json::Value>>,
    },
    /// Tells the others that one types, or no longer does.
    TypingIndicator { is_typing: bool },
    /// Moves one's cursor forward, or, with `notification_ids` or `all`, reads notifications.
    MarkRead {
        message_id: Option<Id>,
        /// The greatest counts.
        message_ids: Option<Vec<Id>>,
        notification_ids: Option<Vec<Id>>,
        all: Option<bool>,
    },
    /// Another name of `mark_read`, for conversations.
    MessageRead { message_id: Option<Id>, message_ids: Option<Vec<Id>> },
    /// Changes one's own message.
    EditMessage {
        message_id: Id,
        message: Option<String>,
        /// Another name of `message`.
        text: Option<String>,
    },
    /// Deletes one's own message.
    DeleteMessage { message_id: Id },
    /// Puts one's reaction to a message in the place of an earlier one.
    AddReaction { message_id: Id, reaction: String },
    /// Takes one's reaction back.
    RemoveReaction { message_id: Id, reaction: String },
    /// Goes on with a fresh token.
    Auth { token: String },
    /// Is answered with `pong`.
    Ping {},
    /// On `/ws/user/`, where to go on from: event ids by conversation, and that of the notifications.
    Resume { cursors: Option<std::collections::BTreeMap<String, EventId>>, notifications: Option<EventId> },
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum MessageType {
    Text,
    Image,
    File,
}

/// A positive integer below 2^53.
#[derive(JsonSchema)]
struct Id(#[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))] i64);

/// Zero or the `event_id` of the last event one has.
#[derive(JsonSchema)]
struct EventId(#[schemars(range(min = 0))] i64);
