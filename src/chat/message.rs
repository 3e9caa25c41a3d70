//! Messages: from what a client asks to the change that the store carries out. Sockets and REST join here.

use super::{Chat, Reply};
use crate::error::Result;
use crate::protocol::client::{Command as Frame, NewMessage};
use crate::store::commit::{Actor, Change, Command, fingerprint};

impl Chat {
    /// Sends a message, or answers a repeated `client_id` with the first one.
    pub fn send(&self, conversation_id: i64, sender_id: i64, client_id: Option<String>, new: NewMessage, reply: Reply) {
        self.submit(change(conversation_id, Actor::User(sender_id), client_id, Change::Send(new)), reply);
    }

    /// Turns a client's command on a conversation into the change it asks for. Commands that change no
    /// conversation are none of this.
    pub fn change_of(&self, frame: Frame) -> Result<Option<Change>> {
        Ok(Some(match frame {
            Frame::ChatMessage(new) => Change::Send(new),
            Frame::MarkRead { message_id } => Change::Read { message_id },
            Frame::EditMessage { message_id, message } => Change::Edit { message_id, text: message },
            Frame::DeleteMessage { message_id } => Change::Delete { message_id },
            Frame::AddReaction { message_id, reaction } => {
                let (reaction, emoji) = self.resolve_reaction(&reaction)?;
                Change::React { message_id, reaction, emoji }
            }
            Frame::RemoveReaction { message_id, reaction } => {
                let (reaction, emoji) = self.resolve_reaction(&reaction)?;
                Change::Unreact { message_id, reaction, emoji }
            }
            Frame::Typing { .. }
            | Frame::MarkNotificationsRead { .. }
            | Frame::Auth { .. }
            | Frame::Ping
            | Frame::Resume { .. } => return Ok(None),
        }))
    }
}

/// A command with the fingerprint of its body.
pub fn change(conversation_id: i64, actor: Actor, client_id: Option<String>, change: Change) -> Command {
    Command { conversation_id, actor, client_id, fingerprint: fingerprint(&change), change }
}
