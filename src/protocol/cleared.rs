//! What is hidden from somebody who has cleared their 1:1. All that shows a message to one person asks here.

use super::{About, Event, Message};

impl About {
    /// Whether the message is hidden from whoever has cleared up to that one, and all about it.
    pub fn is_hidden(self, cleared_up_to: i64) -> bool {
        self.message_id <= cleared_up_to
    }

    /// Whether the message replies to one that is hidden, and so shows nothing of its text.
    pub fn is_reply_hidden(self, cleared_up_to: i64) -> bool {
        self.reply_to_id.is_some_and(|reply_to_id| reply_to_id <= cleared_up_to)
    }
}

impl Message {
    /// Takes out the text of the message that this one replies to.
    pub fn hide_reply(&mut self) {
        if let Some(reply_to) = &mut self.reply_to {
            reply_to.content.clear();
        }
    }
}

impl Event {
    /// Takes out the text of the message that the event's one replies to.
    pub fn hide_reply(&mut self) {
        if let Self::ChatMessage { message } | Self::MessageEdited { message } = self {
            message.hide_reply();
        }
    }
}
