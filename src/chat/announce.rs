//! From what came of a command to the frames: encoded once, delivered in order, answered to the one
//! who asked. Also what else follows from an event.

use std::sync::Arc;

use bytes::Bytes;

use super::committer::Job;
use super::{Chat, Reply};
use crate::error::{Error, Result};
use crate::hub::outbox::{Class, Control};
use crate::hub::topic::{Delivered, Delivery, Issuer};
use crate::protocol::client::Endpoint;
use crate::protocol::server::{Answer, encode, with_client_id};
use crate::protocol::{Event, Frame, Topic};
use crate::store::commit::Outcome;
use crate::store::events::Told;

impl Chat {
    /// Tells everybody, and the one who asked, what came of a command.
    pub(super) fn announce(&self, job: Job, outcome: Result<Outcome>) {
        let Job { command, reply, sending: _sending } = job;
        let conversation_id = command.conversation_id;
        match &outcome {
            Ok(Outcome::Done(events)) => {
                for (index, told) in events.iter().enumerate() {
                    self.foresee(conversation_id, told);
                    let issuer = reply.outbox().filter(|_| index == 0);
                    let issuer = issuer.map(|outbox| (outbox, command.client_id.as_deref()));
                    let delivered = self.tell(conversation_id, told, issuer);
                    self.follow_up(conversation_id, told, delivered);
                }
            }
            Ok(Outcome::Unchanged(told)) => {
                self.answer(&reply, conversation_id, told, true, command.client_id.as_deref())
            }
            Ok(Outcome::Repeated(told)) if reply.has_shown(told) => {}
            Ok(Outcome::Repeated(told)) => {
                self.answer(&reply, conversation_id, told, false, command.client_id.as_deref())
            }
            Err(error) => {
                if let Some(outbox) = reply.outbox() {
                    refuse(outbox, error, command.client_id.as_deref());
                }
            }
        }
        if let Reply::Waiter(waiter) = reply {
            let _ = waiter.send(outcome);
        }
    }

    /// Refuses a command that was not even tried.
    pub(super) fn refuse(&self, job: Job, error: Error) {
        if let Some(outbox) = job.reply.outbox() {
            refuse(outbox, &error, job.command.client_id.as_deref());
        }
        if let Reply::Waiter(waiter) = job.reply {
            let _ = waiter.send(Err(error));
        }
    }

    /// Delivers an event to all who listen to its conversation here.
    pub(super) fn tell(
        &self,
        conversation_id: i64,
        told: &Told,
        issuer: Option<(&Arc<crate::hub::Outbox>, Option<&str>)>,
    ) -> Delivered {
        let mut delivery = delivery(Topic::Conversation(conversation_id), told);
        delivery.issuer = issuer
            .map(|(outbox, client_id)| Issuer { connection_id: outbox.id, client_id: client_id.map(str::to_owned) });
        let frame = delivery.frame.clone();
        let delivered = self.hub.deliver(Topic::Conversation(conversation_id), delivery);
        if let Some((outbox, client_id)) = issuer
            && !delivered.issuer_told
            && !delivered.has_gap
        {
            // The socket does not listen yet, or never will; its command is answered all the same.
            outbox.push(client_id.map_or(frame.clone(), |client_id| with_client_id(&frame, client_id)));
        }
        if tracing::enabled!(tracing::Level::INFO) {
            log(conversation_id, told);
        }
        delivered
    }

    fn answer(&self, reply: &Reply, conversation_id: i64, told: &Told, unchanged: bool, client_id: Option<&str>) {
        if let Some(outbox) = reply.outbox() {
            let frame = Frame {
                event: &told.event,
                conversation_id: Some(conversation_id),
                event_id: told.event_id,
                unchanged,
                client_id,
            };
            outbox.push(encode(&frame));
        }
    }

    /// What is under way when an event is told, so that whoever has the answer can wait for it.
    fn foresee(&self, conversation_id: i64, told: &Told) {
        match &told.event {
            Event::MessageDeleted { message_id, .. } => self.inbox.message_deleted(*message_id),
            Event::MessageRead { read_by, .. } => self.inbox.settle(conversation_id, read_by.id),
            _ => {}
        }
    }

    /// What follows from an event besides its frame.
    fn follow_up(&self, conversation_id: i64, told: &Told, delivered: Delivered) {
        match &told.event {
            Event::ChatMessage { message } => self.inbox.raise(conversation_id, message.id, delivered.present),
            Event::ParticipantAdded { user, .. } => self.joined(conversation_id, user.id),
            Event::ParticipantRemoved { user, .. } => self.left(conversation_id, user.id, told.event_id),
            _ => {}
        }
    }

    /// Lets a user's own sockets hear of a conversation that the user is in now.
    pub fn joined(&self, conversation_id: i64, user_id: i64) {
        self.control(user_id, Control::Join { conversation_id });
        self.news.look_at(user_id);
    }

    /// Lets the user sockets of somebody go who is in a conversation no longer; its chat sockets are closed already.
    fn left(&self, conversation_id: i64, user_id: i64, event_id: Option<i64>) {
        let event_id = event_id.unwrap_or(i64::MAX);
        self.control(user_id, Control::Leave { conversation_id, event_id });
        self.inbox.settle(conversation_id, user_id);
    }

    /// Tells all user sockets of a user which conversation to listen to.
    pub fn control(&self, user_id: i64, control: Control) {
        for outbox in self.hub.people.connections_of(user_id) {
            if outbox.endpoint == Endpoint::User {
                outbox.control(control);
            }
        }
    }
}

impl Reply {
    /// Whether a replay has shown the socket this event of its own, with its `client_id`: only messages have theirs.
    fn has_shown(&self, told: &Told) -> bool {
        let (Self::Resuming(_, shown), Event::ChatMessage { .. }) = (self, &told.event) else { return false };
        told.event_id.is_some_and(|event_id| shown.after < event_id && event_id <= shown.up_to)
            && told.about.is_none_or(|about| !about.is_hidden(shown.cleared_up_to))
    }
}

/// Sends the frame that refuses a command.
pub fn refuse(outbox: &crate::hub::Outbox, error: &Error, client_id: Option<&str>) {
    outbox.push(encode(&Answer::error(error, client_id)));
}

/// An event as the hub delivers it.
pub fn delivery(topic: Topic, told: &Told) -> Delivery {
    Delivery {
        event_id: told.event_id,
        class: Class::Kept,
        is_opt_in: told.event.is_opt_in(),
        is_message: matches!(told.event, Event::ChatMessage { .. }),
        about: told.about,
        hidden_reply: hidden_reply(topic, told),
        puts_out: match &told.event {
            Event::ParticipantRemoved { user, .. } => Some(user.id),
            _ => None,
        },
        ..Delivery::new(encode_told(topic, told))
    }
}

/// The frame of a topic's event.
pub fn encode_told(topic: Topic, told: &Told) -> Bytes {
    let conversation_id = match topic {
        Topic::Conversation(id) => Some(id),
        Topic::User(_) => None,
    };
    encode(&Frame { event: &told.event, conversation_id, event_id: told.event_id, unchanged: false, client_id: None })
}

/// The frame for those who have cleared the message that this one replies to.
fn hidden_reply(topic: Topic, told: &Told) -> Option<Bytes> {
    let (Event::ChatMessage { message } | Event::MessageEdited { message }) = &told.event else { return None };
    message.reply_to.as_ref()?;
    let mut hidden = told.clone();
    hidden.event.hide_reply();
    Some(encode_told(topic, &hidden))
}

fn log(conversation_id: i64, told: &Told) {
    let kind = told.event.kind();
    let event_id = told.event_id.unwrap_or_default();
    match told.about {
        Some(about) => tracing::info!(
            conversation.id = conversation_id,
            event.id = event_id,
            message.id = about.message_id,
            "{kind} out"
        ),
        None => tracing::info!(conversation.id = conversation_id, event.id = event_id, "{kind} out"),
    }
}
