//! Who types in a topic, and when the others are told: at once, but never before a message that was sent before.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Delivery, Room, State};
use crate::hub::Hub;
use crate::hub::deadlines::Due;
use crate::hub::outbox::Class;
use crate::protocol::Topic;

/// Somebody who types, with the frames that say so.
pub(super) struct Typist {
    user_id: i64,
    until: Instant,
    started: Bytes,
    ended: Bytes,
}

/// Somebody whose messages are on their way through the store, and who began to type after the last of them.
pub(super) struct Sender {
    user_id: i64,
    messages: usize,
    typing: Option<Typist>,
}

impl Room {
    /// Notes that somebody types or stops. Tells the others only what changes, and what comes after a message after it.
    pub fn set_typing(&self, hub: &Hub, user_id: i64, is_typing: bool, started: Bytes, ended: Bytes) {
        let mut state = self.state.lock();
        let typist = Typist { user_id, until: Instant::now() + hub.typing_expiry, started, ended };
        let typing = is_typing.then_some(typist);
        if let Some(sender) = state.senders.iter_mut().find(|sender| sender.user_id == user_id) {
            let waits = typing.is_some();
            sender.typing = typing;
            if waits {
                return;
            }
            state.stop_typing(self.topic, user_id);
        } else if let Some(typist) = typing {
            state.begin_typing(self.topic, hub, typist);
        } else {
            state.stop_typing(self.topic, user_id);
        }
    }

    /// Notes that a message of somebody has been received. It ends what was typed before it, once it is told.
    pub fn begin_message(&self, user_id: i64) {
        let mut state = self.state.lock();
        match state.senders.iter_mut().find(|sender| sender.user_id == user_id) {
            Some(sender) => (sender.messages, sender.typing) = (sender.messages + 1, None),
            None => state.senders.push(Sender { user_id, messages: 1, typing: None }),
        }
    }

    /// Notes that such a message has been told or refused.
    pub fn end_message(&self, hub: &Hub, user_id: i64) {
        let mut state = self.state.lock();
        let Some(index) = state.senders.iter().position(|sender| sender.user_id == user_id) else { return };
        state.senders[index].messages -= 1;
        if state.senders[index].messages == 0
            && let Some(typist) = state.senders.swap_remove(index).typing
            && typist.until > Instant::now()
        {
            state.begin_typing(self.topic, hub, typist);
        }
    }

    /// Ends somebody's typing when its time has come; otherwise says when that will be.
    pub fn expire_typing(&self, user_id: i64) -> Option<Instant> {
        let mut state = self.state.lock();
        let index = state.typists.iter().position(|typist| typist.user_id == user_id)?;
        let until = state.typists[index].until;
        if until > Instant::now() {
            return Some(until);
        }
        state.end_typing(self.topic, index);
        None
    }

    /// Shows somebody who types under other names from now on.
    pub fn rename_typist(&self, user_id: i64, started: Bytes, ended: Bytes) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let waiting = state.senders.iter_mut().filter_map(|sender| sender.typing.as_mut());
        for typist in state.typists.iter_mut().chain(waiting).filter(|typist| typist.user_id == user_id) {
            (typist.started, typist.ended) = (started.clone(), ended.clone());
        }
    }

    /// The frames that say who is typing now, for somebody who has just come.
    pub fn typing_now(&self, except_user: i64) -> Vec<Bytes> {
        let state = self.state.lock();
        state
            .typists
            .iter()
            .filter(|typist| typist.user_id != except_user)
            .map(|typist| typist.started.clone())
            .collect()
    }
}

fn indicator(user_id: i64, frame: Bytes) -> Delivery {
    Delivery { class: Class::Typing, except_user: Some(user_id), ..Delivery::new(frame) }
}

impl State {
    fn begin_typing(&mut self, topic: Topic, hub: &Hub, typist: Typist) {
        if let Some(known) = self.typists.iter_mut().find(|known| known.user_id == typist.user_id) {
            known.until = typist.until;
            return;
        }
        hub.deadlines.set(typist.until, Due::TypingEnds { topic, user_id: typist.user_id });
        self.tell(topic, &indicator(typist.user_id, typist.started.clone()));
        self.typists.push(typist);
    }

    pub(super) fn stop_typing(&mut self, topic: Topic, user_id: i64) {
        if let Some(index) = self.typists.iter().position(|typist| typist.user_id == user_id) {
            self.end_typing(topic, index);
        }
    }

    fn end_typing(&mut self, topic: Topic, index: usize) {
        let typist = self.typists.swap_remove(index);
        self.tell(topic, &indicator(typist.user_id, typist.ended));
    }

    /// Ends the typing of somebody whose last socket has gone, also what would be told later.
    pub(super) fn forget_typing(&mut self, topic: Topic, user_id: i64) {
        if let Some(sender) = self.senders.iter_mut().find(|sender| sender.user_id == user_id) {
            sender.typing = None;
        }
        self.stop_typing(topic, user_id);
    }
}
