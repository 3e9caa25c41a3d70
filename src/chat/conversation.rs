//! Conversations opened, cleared, deleted, and kept by their participants in their own way: changes that
//! are no events of the log, and what the sockets are told of them all the same.

use bytes::Bytes;

use super::Chat;
use crate::error::{Error, Result};
use crate::hub::outbox::Control;
use crate::protocol::client::Endpoint;
use crate::protocol::rest::Conversation;
use crate::protocol::server::{ConversationTitle, encode};
use crate::protocol::{Event, Frame, Person, Role, Topic};
use crate::store::conversations::{Created, NewConversation};
use crate::store::idempotency::{IdempotencyKey, Once};

/// How somebody wants to keep a conversation from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewFlags {
    pub archived: Option<bool>,
    /// Until when it is muted; `None` in `Some`: no longer.
    pub muted_until: Option<Option<i64>>,
}

impl Chat {
    /// Opens a conversation, or finds the 1:1 that is there. Its participants' own sockets listen to it at once.
    pub async fn open_conversation(&self, new: NewConversation, key: Option<IdempotencyKey>) -> Result<Once<Created>> {
        let opened = self.store.create_conversation(&new, key.as_ref()).await??;
        if let Once::First(created) = &opened
            && created.is_new
        {
            let conversation_id = created.conversation.id;
            for user_id in &created.user_ids {
                self.control(*user_id, Control::Join { conversation_id });
                if self.hub.people.is_online(*user_id) {
                    self.news.look_at(*user_id);
                }
            }
            tracing::info!(conversation.id = conversation_id, "conversation opened");
        }
        Ok(opened)
    }

    /// Hides a conversation, and all that is in it so far, from one participant. Closes no socket.
    pub async fn clear_conversation(&self, id: i64, user: Person) -> Result<()> {
        // Nothing that is committed after the clearing is told before the sockets know of it.
        let committing = self.committing[self.committer_of(id)].lock().await;
        let cleared_up_to = self.store.clear_conversation(id, user.id).await?.ok_or_else(no_conversation)?;
        if let Some(room) = self.hub.room(Topic::Conversation(id)) {
            room.clear(user.id, cleared_up_to);
        }
        drop(committing);
        let event = Event::ParticipantRemoved { user: user.clone(), role: Role::Member, by: Some(user.clone()) };
        self.tell_own_sockets(user.id, id, &event);
        self.inbox.settle(id, user.id);
        Ok(())
    }

    /// Deletes a conversation for everybody; `by` is nobody for the platform.
    pub async fn delete_conversation(&self, id: i64, by: Option<Person>) -> Result<()> {
        let participants = self.store.delete_conversation(id).await?.ok_or_else(no_conversation)?;
        if let Some(room) = self.hub.room(Topic::Conversation(id)) {
            room.put_all_out();
        }
        for participant in participants {
            let user_id = participant.user.id;
            if self.hub.people.is_connected(user_id) {
                let event =
                    Event::ParticipantRemoved { user: participant.user, role: participant.role, by: by.clone() };
                self.tell_own_sockets(user_id, id, &event);
                self.control(user_id, Control::Leave { conversation_id: id, event_id: i64::MAX });
            }
        }
        self.inbox.conversation_deleted(id);
        tracing::info!(conversation.id = id, "conversation deleted");
        Ok(())
    }

    /// Changes how somebody keeps a conversation, and tells their own sockets alone.
    pub async fn set_flags(&self, id: i64, user: Person, new: NewFlags) -> Result<Conversation> {
        let flags = self.store.set_flags(id, user.id, new.archived, new.muted_until).await?;
        let flags = flags.ok_or_else(no_conversation)?;
        let conversation = self.store.find_conversation(id, Some(user.id)).await?.ok_or_else(no_conversation)?;
        let event = Event::ConversationUpdated {
            conversation: ConversationTitle { id, title: conversation.title.clone() },
            by: Some(user.clone()),
            archived: Some(flags.archived),
            muted: Some(flags.muted),
        };
        self.tell_own_sockets(user.id, id, &event);
        Ok(conversation)
    }

    /// Sends what is no event of the log to a user's own sockets.
    fn tell_own_sockets(&self, user_id: i64, conversation_id: i64, event: &Event) {
        let conversation_id = Some(conversation_id);
        let frame: Bytes = encode(&Frame { event, conversation_id, event_id: None, unchanged: false, client_id: None });
        for outbox in self.hub.people.connections_of(user_id) {
            if outbox.endpoint == Endpoint::User {
                outbox.push(frame.clone());
            }
        }
    }
}

/// A conversation that somebody has no part in is not told apart from one that does not exist.
pub fn no_conversation() -> Error {
    Error::not_found("there is no such conversation, or you are not in it")
}
