//! Typing: lives in memory alone, told to the others, ends by itself.

use std::sync::Arc;

use bytes::Bytes;

use super::{Chat, Reply};
use crate::hub::{Hub, Room};
use crate::protocol::server::encode;
use crate::protocol::{Event, Frame, Person, Topic};
use crate::store::commit::{Actor, Change, Command};

/// A message of a socket between its receipt and its answer: typing that begins meanwhile is told after it.
pub(super) struct Sending {
    hub: Arc<Hub>,
    room: Arc<Room>,
    user_id: i64,
}

impl Sending {
    /// What a command from a socket holds back, if it is a message.
    pub fn begin(hub: &Arc<Hub>, command: &Command, reply: &Reply) -> Option<Self> {
        let (Change::Send(_), Actor::User(user_id), Some(_)) = (&command.change, command.actor, reply.outbox()) else {
            return None;
        };
        let room = hub.room(Topic::Conversation(command.conversation_id))?;
        room.begin_message(user_id);
        Some(Self { hub: hub.clone(), room, user_id })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.room.end_message(&self.hub, self.user_id);
    }
}

impl Chat {
    /// Notes that a participant who is connected types or stops.
    pub fn set_typing(&self, conversation_id: i64, user_id: i64, is_typing: bool) {
        let Some(room) = self.hub.room(Topic::Conversation(conversation_id)) else { return };
        let Some(user) = self.hub.people.person_of(user_id) else { return };
        let [started, ended] = frames(conversation_id, &user);
        room.set_typing(&self.hub, user_id, is_typing, started, ended);
    }

    /// Names a user who has been erased no more, where the user is shown typing.
    pub fn forget_names(&self, erased: Person) {
        for room in self.hub.rooms() {
            if let Topic::Conversation(id) = room.topic {
                let [started, ended] = frames(id, &erased);
                room.rename_typist(erased.id, started, ended);
            }
        }
        self.hub.people.rename(erased);
    }
}

/// The frames that say that somebody types, and does no more.
fn frames(conversation_id: i64, user: &Person) -> [Bytes; 2] {
    [true, false].map(|is_typing| {
        let event = Event::TypingIndicator { user: user.clone(), is_typing };
        let conversation_id = Some(conversation_id);
        encode(&Frame { event: &event, conversation_id, event_id: None, unchanged: false, client_id: None })
    })
}
