//! One transaction for many commands: looks up what they need, decides each in turn, writes with
//! multi-row statements. A command's refusal leaves the others untouched; a database's fault, none.

pub(super) mod change;
mod context;
pub(super) mod lost;
mod members;
mod read;
mod send;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::timeout;

use super::events::Told;
use super::sql::stalled;
use super::{Fault, Store, Tx};
use crate::error::{Error, Result};
use crate::protocol::client::NewMessage;
use crate::protocol::{Event, Role};
use context::Context;

/// How long commands may take, but for their COMMIT, before they are answered with `unavailable`: nothing comes from the
/// database, or somebody holds what they need.
const CARRYING_OUT_MAX: Duration = Duration::from_secs(8);

/// A change to one conversation that somebody asks for.
#[derive(Clone, Debug)]
pub struct Command {
    pub conversation_id: i64,
    pub actor: Actor,
    pub client_id: Option<String>,
    /// Equal for equal bodies, so that a reused `client_id` with another body is told apart.
    pub fingerprint: i64,
    pub change: Change,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    User(i64),
    Platform,
}

impl Actor {
    pub fn user_id(self) -> Option<i64> {
        match self {
            Self::User(id) => Some(id),
            Self::Platform => None,
        }
    }
}

/// What is to change.
#[derive(Clone, Debug)]
pub enum Change {
    Send(NewMessage),
    Edit { message_id: i64, text: String },
    Delete { message_id: i64 },
    React { message_id: i64, reaction: String, emoji: String },
    Unreact { message_id: i64, reaction: String, emoji: String },
    Read { message_id: i64 },
    AddParticipants { user_ids: Vec<i64>, participants_max: Option<u64> },
    RemoveParticipant { user_id: i64 },
    SetRole { user_id: i64, role: Role },
    SetTitle { title: Option<String> },
}

/// What came of a command.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It took effect: these are told to everybody, in order.
    Done(Vec<Told>),
    /// It changed nothing: this is told to the one who asked, as `unchanged`.
    Unchanged(Told),
    /// It had taken effect before, under the same `client_id`: this is what it did, as it stands today.
    Repeated(Told),
}

impl Outcome {
    /// The event that answers the one who asked.
    pub fn answer(&self) -> Option<&Told> {
        match self {
            Self::Done(events) => events.first(),
            Self::Unchanged(told) | Self::Repeated(told) => Some(told),
        }
    }

    /// What is for the one who asked alone, without what they have cleared. Of what is for everybody nothing is
    /// taken out here: no command names a message that is hidden from its issuer, so no new one replies to it.
    fn seen_past(self, cleared_up_to: i64) -> Self {
        let seen = |told: Told| told.seen_past(cleared_up_to).into_owned();
        if planted!("quote-cleared") {
            return self;
        }
        match self {
            Self::Done(events) => Self::Done(events),
            Self::Unchanged(told) => Self::Unchanged(seen(told)),
            Self::Repeated(told) => Self::Repeated(seen(told)),
        }
    }
}

/// A row for the log.
struct EventRow {
    conversation_id: i64,
    event_id: i64,
    kind: &'static str,
    actor_id: Option<i64>,
    subject_id: i64,
    data: Option<String>,
}

impl Store {
    /// Carries out commands in one transaction, in their order. The answer has one entry for each.
    pub async fn commit(&self, commands: &[Command]) -> Result<Vec<Result<Outcome>>, Fault> {
        let outcome = self.commit_all(commands).await;
        #[cfg(test)]
        self.committed(commands, &outcome).await;
        if let Err(fault) = &outcome {
            self.note(fault);
        }
        outcome
    }

    async fn commit_all(&self, commands: &[Command]) -> Result<Vec<Result<Outcome>>, Fault> {
        let carried_out = timeout(CARRYING_OUT_MAX, self.carry_out(commands)).await;
        let (tx, transaction_id, outcomes) = carried_out.map_err(|_| Fault::OutOfReach(stalled()))??;
        #[cfg(feature = "planted-bugs")]
        if planted!("answer-before-commit") {
            tx.commit_later();
            return Ok(outcomes);
        }
        match (tx.commit().await, transaction_id) {
            (Err(Fault::Unknown(lost)), Some(id)) => self.find_out(id, lost).await?,
            (committed, _) => committed?,
        }
        Ok(outcomes)
    }
}

impl Store {
    /// Carries out commands in a transaction that is yet to be committed; its number, where it has one.
    async fn carry_out(&self, commands: &[Command]) -> Result<(Tx, Option<i64>, Vec<Result<Outcome>>), Fault> {
        let mut tx = self.begin().await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        let conn = &mut tx.conn();
        let mut context = Context::load(self, conn, commands).await?;
        for command in commands {
            let outcome = context.decide(conn, command).await?;
            outcomes.push(outcome.map(|outcome| outcome.seen_past(context.cleared_up_to(command))));
        }
        let transaction_id = context.transaction_id;
        context.write(conn).await?;
        Ok((tx, transaction_id, outcomes))
    }
}

impl Event {
    /// The name of a durable event in the log, which is its name on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ChatMessage { .. } => "chat_message",
            Self::MessageEdited { .. } => "message_edited",
            Self::MessageDeleted { .. } => "message_deleted",
            Self::ReactionAdded { .. } => "reaction_added",
            Self::ReactionRemoved { .. } => "reaction_removed",
            Self::MessageRead { .. } => "message_read",
            Self::MessageStatus { .. } => "message_status",
            Self::TypingIndicator { .. } => "typing_indicator",
            Self::UserStatus { .. } => "user_status",
            Self::ParticipantAdded { .. } => "participant_added",
            Self::ParticipantRemoved { .. } => "participant_removed",
            Self::ConversationUpdated { .. } => "conversation_updated",
            Self::Notification { .. } => "notification",
            Self::NotificationRead { .. } => "notification_read",
            Self::NotificationDeleted { .. } => "notification_deleted",
        }
    }
}

/// The fingerprint of a command's body: equal for equal bodies after aliases and defaults.
pub fn fingerprint(change: &Change) -> i64 {
    use serde_json::json;
    let data = |data: &Option<Box<RawValue>>| -> serde_json::Value {
        data.as_ref().and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default()
    };
    let body = match change {
        Change::Send(new) => {
            json!(["chat_message", new.message, new.message_type, new.reply_to, new.attachment_ids, data(&new.data)])
        }
        Change::Edit { message_id, text } => json!(["edit_message", message_id, text]),
        Change::Delete { message_id } => json!(["delete_message", message_id]),
        Change::React { message_id, reaction, .. } => json!(["add_reaction", message_id, reaction]),
        Change::Unreact { message_id, reaction, .. } => json!(["remove_reaction", message_id, reaction]),
        Change::Read { message_id } => json!(["mark_read", message_id]),
        Change::AddParticipants { user_ids, .. } => json!(["add_participants", user_ids]),
        Change::RemoveParticipant { user_id } => json!(["remove_participant", user_id]),
        Change::SetRole { user_id, role } => json!(["set_role", user_id, role.as_str()]),
        Change::SetTitle { title } => json!(["set_title", title]),
    };
    fingerprint_of(body.to_string().as_bytes())
}

/// The first 63 bits of SHA-256: enough to tell bodies apart, too few to guess a text from.
pub fn fingerprint_of(body: &[u8]) -> i64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    let mut first = [0_u8; 8];
    first.copy_from_slice(&digest.as_ref()[..8]);
    i64::from_be_bytes(first) & i64::MAX
}

/// A conversation that somebody has no part in is not told apart from one that does not exist.
fn no_conversation() -> Error {
    Error::not_found("there is no such conversation, or you are not in it")
}

fn no_message() -> Error {
    Error { field: Some("message_id"), ..Error::not_found("there is no such message in this conversation") }
}

pub(super) fn other_body() -> Error {
    Error {
        field: Some("client_id"),
        ..Error::conflict("this `client_id` was used for another command; take a fresh one for each")
    }
}

/// What a `client_id` was used for.
#[derive(Clone, Debug)]
struct Known {
    fingerprint: i64,
    kind: String,
    subject_id: Option<i64>,
    /// None where it changed nothing.
    event_id: Option<i64>,
}

/// In place of an `event_id`: what it changed is a state, which has none.
const STATE: i64 = 0;

/// A use of a `client_id`: the conversation, the user and the id itself.
type Use = (i64, i64, String);
type KnownIds = HashMap<Use, Known>;
