//! What is said on the wire: client frames, server frames, topics, close codes. No I/O, and no
//! knowledge of who is connected or what is stored.

mod cleared;
pub mod client;
pub mod close;
pub mod fields;
pub mod notification;
pub mod objects;
pub mod rest;
#[cfg(test)]
pub(crate) mod schemas;
pub mod server;
pub mod time;

pub use close::Close;
pub use objects::{Attachment, Message, Notification, Person, Reaction, ReplyTo, Role};
pub use server::{About, Event, Frame};
pub use time::Time;

/// What has one log of durable events: a conversation, or a user's notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    Conversation(i64),
    User(i64),
}
