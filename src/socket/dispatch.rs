//! From a frame to the command it asks for. Never waits: what comes of a command is told through the outbox.

use std::sync::Arc;

use super::admit::{authenticate, expiry_of};
use super::connection::{Connection, Seats};
use crate::app::App;
use crate::chat::message;
use crate::error::{Code, Error, Result};
use crate::hub::outbox::Outbox;
use crate::protocol::client::{Command, Envelope, parse};
use crate::protocol::server::{Answer, encode};
use crate::protocol::{Close, Time, Topic};
use crate::store::commit::Actor;

/// What follows from a frame for the connection.
pub enum Next {
    Go,
    Close(Close),
    /// The client shows a fresh token.
    Renew {
        token: String,
        client_id: Option<String>,
    },
}

/// Takes a text frame.
pub fn text(app: &Arc<App>, connection: &mut Connection, text: &str) -> Next {
    let outbox = connection.guard.outbox.clone();
    let (envelope, command) = parse(text, outbox.endpoint, app.chat.bounds());
    if let Some(next) = limit(app, connection, &envelope) {
        return next;
    }
    let outcome = command.and_then(|command| {
        check_conversation(connection, &envelope)?;
        carry_out(app, connection, &envelope, command)
    });
    outcome.unwrap_or_else(|error| {
        refuse(&outbox, &error, envelope.client_id.as_deref());
        Next::Go
    })
}

/// Takes a binary frame, which no command is.
pub fn binary(app: &Arc<App>, connection: &mut Connection) -> Next {
    if let Some(next) = limit(app, connection, &Envelope::default()) {
        return next;
    }
    let error = Error::new(Code::Unsupported, "commands are JSON in text frames; binary frames are not taken");
    refuse(&connection.guard.outbox, &error, None);
    Next::Go
}

/// Counts a frame against its user's limit. One too many is refused, typing dropped; a flood ends the connection.
fn limit(app: &Arc<App>, connection: &mut Connection, envelope: &Envelope) -> Option<Next> {
    let outbox = &connection.guard.outbox;
    let wait = app.limits.commands.take(&outbox.user_id).err()?;
    if !envelope.is_typing {
        let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        let error = Error::new(Code::RateLimited, "too many commands; slow down").with_retry_after_ms(retry_after_ms);
        refuse(outbox, &error, envelope.client_id.as_deref());
    }
    Some(if connection.floods.refuse() { Next::Close(Close::RateLimited) } else { Next::Go })
}

fn carry_out(app: &Arc<App>, connection: &mut Connection, envelope: &Envelope, command: Command) -> Result<Next> {
    let outbox = &connection.guard.outbox;
    match command {
        Command::Ping => {
            outbox.push(encode(&Answer::Pong { client_id: envelope.client_id.as_deref() }));
            return Ok(Next::Go);
        }
        Command::Auth { token } => return Ok(Next::Renew { token, client_id: envelope.client_id.clone() }),
        Command::Resume { .. } => {
            return Err(Error::field("type", "`resume` must be the first frame, within 5 seconds of `connected`"));
        }
        Command::MarkNotificationsRead { which } => {
            tracing::info!(user.id = outbox.user_id, connection.id = outbox.id, "mark_read of notifications in");
            app.chat.inbox.mark_read_on(outbox, which, envelope.client_id.clone());
        }
        command => {
            let conversation_id = conversation_of(connection, envelope)?;
            tracing::info!(
                conversation.id = conversation_id,
                user.id = outbox.user_id,
                connection.id = outbox.id,
                "{} in",
                kind_of(&command)
            );
            if let Command::Typing { is_typing } = command {
                app.chat.set_typing(conversation_id, outbox.user_id, is_typing);
            } else if let Some(change) = app.chat.change_of(command)? {
                let actor = Actor::User(outbox.user_id);
                let command = message::change(conversation_id, actor, envelope.client_id.clone(), change);
                app.chat.submit(command, connection.reply(conversation_id));
            }
        }
    }
    Ok(Next::Go)
}

/// A chat socket is for one conversation, whatever the command.
fn check_conversation(connection: &Connection, envelope: &Envelope) -> Result<()> {
    match (own_conversation(connection), envelope.conversation_id) {
        (Some(own), Some(named)) if own != named => {
            Err(Error::field("conversation_id", "this socket is for another conversation"))
        }
        _ => Ok(()),
    }
}

/// The conversation of a chat socket.
fn own_conversation(connection: &Connection) -> Option<i64> {
    match &connection.seats {
        Seats::One(seat) => match seat.room().topic {
            Topic::Conversation(id) => Some(id),
            Topic::User(_) => None,
        },
        Seats::Many { .. } => None,
    }
}

/// The conversation that a command is about: a chat socket's own, or the one it names.
fn conversation_of(connection: &Connection, envelope: &Envelope) -> Result<i64> {
    if let Some(own) = own_conversation(connection) {
        return Ok(own);
    }
    let Seats::Many { conversations, .. } = &connection.seats else { return Err(Error::internal()) };
    let named = envelope.conversation_id;
    let id = named.ok_or_else(|| Error::field("conversation_id", "say which conversation: `conversation_id`"))?;
    if conversations.contains_key(&id) {
        return Ok(id);
    }
    Err(Error {
        field: Some("conversation_id"),
        ..Error::not_found("there is no such conversation, or you are not in it")
    })
}

fn kind_of(command: &Command) -> &'static str {
    match command {
        Command::ChatMessage(_) => "chat_message",
        Command::Typing { .. } => "typing_indicator",
        Command::MarkRead { .. } | Command::MarkNotificationsRead { .. } => "mark_read",
        Command::EditMessage { .. } => "edit_message",
        Command::DeleteMessage { .. } => "delete_message",
        Command::AddReaction { .. } => "add_reaction",
        Command::RemoveReaction { .. } => "remove_reaction",
        Command::Auth { .. } => "auth",
        Command::Ping => "ping",
        Command::Resume { .. } => "resume",
    }
}

/// Takes a fresh token in place of the connection's own, or says how the connection ends.
pub async fn renew(
    app: &Arc<App>,
    connection: &mut Connection,
    token: String,
    client_id: Option<String>,
) -> std::result::Result<(), Close> {
    let renewed = authenticate(app, Some(&token)).await?;
    if renewed.user.id != connection.guard.outbox.user_id {
        return Err(Close::UserMismatch);
    }
    let outbox = connection.guard.outbox.clone();
    let fresh = expiry_of(app, &outbox, &renewed.verified);
    for key in std::mem::replace(&mut connection.guard.expires, fresh) {
        app.hub.deadlines.remove(key);
    }
    app.hub.people.rename(renewed.user.person());
    let expires_at = Time(renewed.verified.expires_at * 1000);
    outbox.push(encode(&Answer::AuthOk { expires_at, client_id: client_id.as_deref() }));
    Ok(())
}

fn refuse(outbox: &Outbox, error: &Error, client_id: Option<&str>) {
    outbox.push(encode(&Answer::error(error, client_id)));
}
