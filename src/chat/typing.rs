//! Typing: lives in memory alone, told to the others, ends by itself.

use super::Chat;
use crate::protocol::server::encode;
use crate::protocol::{Event, Frame, Person, Topic};

impl Chat {
    /// Notes that a participant types or stops.
    pub fn set_typing(&self, conversation_id: i64, user: &Person, is_typing: bool) {
        let Some(room) = self.hub.room(Topic::Conversation(conversation_id)) else { return };
        let frame = |is_typing| {
            let event = Event::TypingIndicator { user: user.clone(), is_typing };
            let conversation_id = Some(conversation_id);
            encode(&Frame { event: &event, conversation_id, event_id: None, unchanged: false, client_id: None })
        };
        room.set_typing(&self.hub, user.id, is_typing, frame(true), frame(false));
    }
}
