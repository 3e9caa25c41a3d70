//! One topic: who listens to it here, how far its log has been delivered, who is typing.

mod typing;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::typing::{Sender, Typist};
use super::Hub;
use super::outbox::{Class, Item, Mark, Outbox};
use crate::protocol::server::with_client_id;
use crate::protocol::{About, Close, Topic};

/// Most deliveries of a topic that wait for a gap before them; what is beyond is read from the store.
const PARKED_MAX: usize = 256;

/// An event on its way to all who listen to a topic.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its place in the log; none for states and for what is not kept.
    pub event_id: Option<i64>,
    /// The encoded frame, shared by all.
    pub frame: Bytes,
    pub class: Class,
    /// Whether guide-only sockets pass over it.
    pub is_opt_in: bool,
    /// Whether it is a new message, which ends its sender's typing and raises notifications.
    pub is_message: bool,
    /// The message it is about; who has cleared that does not see it.
    pub about: Option<About>,
    /// The frame for readers who have cleared the message that this one replies to.
    pub hidden_reply: Option<Bytes>,
    pub except_user: Option<i64>,
    pub only_user: Option<i64>,
    pub only_kind: Option<Kind>,
    /// Who is in the conversation no longer from this event on, and is told nothing after it.
    pub puts_out: Option<i64>,
    /// Whose command this answers.
    pub issuer: Option<Issuer>,
}

/// The connection that issued a command, and under which name.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub connection_id: u64,
    pub client_id: Option<String>,
}

impl Delivery {
    /// A frame that goes to everybody and is kept.
    pub fn new(frame: Bytes) -> Self {
        Self {
            event_id: None,
            frame,
            class: Class::Kept,
            is_opt_in: false,
            is_message: false,
            about: None,
            hidden_reply: None,
            except_user: None,
            only_user: None,
            only_kind: None,
            puts_out: None,
            issuer: None,
        }
    }
}

impl Delivery {
    /// A place in the log at which there is nothing to show any more.
    pub fn passed_over(event_id: i64) -> Self {
        Self { event_id: Some(event_id), only_user: Some(0), ..Self::new(Bytes::new()) }
    }
}

/// What came of a delivery.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Whether the issuer's own socket got its copy.
    pub issuer_told: bool,
    /// Whether events before this one are missing here.
    pub has_gap: bool,
    /// The users with a chat socket on the conversation, in order; only of a new message, and none where
    /// an event before it is missing.
    pub present: Option<Arc<[i64]>>,
}

/// How a socket listens to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A chat socket: its user is there, and needs no notification.
    Attending,
    /// A user socket, or a notifications socket.
    Following,
}

struct Listener {
    outbox: Arc<Outbox>,
    kind: Kind,
    /// The last place in the log that the socket has been shown or has passed over.
    shown: i64,
    cleared_up_to: i64,
}

/// A topic with its listeners.
pub struct Room {
    pub topic: Topic,
    state: Mutex<State>,
}

struct State {
    interest: usize,
    /// The last event delivered here; none until the first listener or event tells.
    last_event_id: Option<i64>,
    delivered_at: Instant,
    listeners: Vec<Listener>,
    parked: BTreeMap<i64, Delivery>,
    typists: Vec<Typist>,
    senders: Vec<Sender>,
    present: Option<Arc<[i64]>>,
    /// How often everybody was put out: that concerns those too who are on the way from the check to the seat.
    put_outs: u64,
    /// What users have cleared while somebody was on that way.
    cleared: BTreeMap<i64, i64>,
}

impl Room {
    pub(super) fn new(topic: Topic) -> Self {
        let state = State {
            interest: 0,
            last_event_id: None,
            delivered_at: Instant::now(),
            listeners: Vec::new(),
            parked: BTreeMap::new(),
            typists: Vec::new(),
            senders: Vec::new(),
            present: None,
            put_outs: 0,
            cleared: BTreeMap::new(),
        };
        Self { topic, state: Mutex::new(state) }
    }

    /// Counts one more who is interested; says how often everybody was put out before.
    pub(super) fn take_interest(&self) -> u64 {
        let mut state = self.state.lock();
        state.interest += 1;
        state.put_outs
    }

    /// Whether nobody is interested any more.
    pub(super) fn lose_interest(&self) -> bool {
        let mut state = self.state.lock();
        state.interest -= 1;
        state.forget_past();
        state.interest == 0
    }

    /// The topic's position, where nothing has been delivered since then.
    pub(super) fn idle_position(&self, since: Instant) -> Option<i64> {
        let state = self.state.lock();
        state.last_event_id.filter(|_| state.delivered_at <= since)
    }

    /// How far the topic's log has been delivered here.
    pub fn last_event_id(&self) -> Option<i64> {
        self.state.lock().last_event_id
    }

    /// Delivers an event in its turn: the next one at once, one that was seen not again, one that is
    /// ahead after those before it.
    pub(super) fn deliver(&self, delivery: Delivery) -> Delivered {
        let mut state = self.state.lock();
        let Some(event_id) = delivery.event_id else { return state.tell(self.topic, &delivery) };
        if let Some(last) = state.last_event_id {
            if event_id <= last {
                return Delivered::default();
            }
            if event_id > last + 1 && !planted!("deliver-ahead") {
                if state.parked.len() < PARKED_MAX {
                    state.parked.insert(event_id, delivery);
                } else if let Some(issuer) = &delivery.issuer {
                    state.send_back(issuer);
                }
                return Delivered { has_gap: true, ..Delivered::default() };
            }
        }
        // One that has waited here knows whose command it answers, which one read from the store does not.
        let delivery = state.parked.remove(&event_id).unwrap_or(delivery);
        let mut delivered = state.tell(self.topic, &delivery);
        let mut last = event_id;
        state.last_event_id = Some(last);
        state.delivered_at = Instant::now();
        while let Some(next) = state.parked.remove(&(last + 1)) {
            last += 1;
            state.last_event_id = Some(last);
            state.tell(self.topic, &next);
        }
        state.parked.retain(|id, _| *id > last);
        delivered.has_gap = !state.parked.is_empty();
        delivered
    }

    /// Goes on from a later position, where what lies between is lost: all who listen are closed, so that they come
    /// back and are told to reload.
    pub fn skip(&self, from: i64, to: i64) {
        let mut state = self.state.lock();
        if state.last_event_id != Some(from) {
            return;
        }
        state.last_event_id = Some(to);
        state.delivered_at = Instant::now();
        state.parked.retain(|id, _| *id > to);
        for listener in &state.listeners {
            listener.outbox.close(Close::TryAgainLater);
        }
    }

    /// Hides what a user has cleared from that user's sockets here, also from one that has not joined yet.
    pub fn clear(&self, user_id: i64, cleared_up_to: i64) {
        let mut state = self.state.lock();
        for listener in state.listeners.iter_mut().filter(|listener| listener.outbox.user_id == user_id) {
            listener.cleared_up_to = cleared_up_to;
        }
        if state.interest > state.listeners.len() && !planted!("join-uncleared") {
            state.cleared.insert(user_id, cleared_up_to);
        }
    }

    /// What a user who is on the way here has cleared, where that was after it was read from the store.
    pub fn cleared_up_to(&self, user_id: i64) -> i64 {
        self.state.lock().cleared.get(&user_id).copied().unwrap_or_default()
    }

    /// Closes all chat sockets: the conversation is no more. Also one whose access has just been checked and who has
    /// not joined yet.
    pub fn put_all_out(&self) {
        self.state.lock().put_outs += 1;
        for outbox in self.connections(None, Kind::Attending) {
            outbox.close(Close::AccessDenied);
        }
    }

    /// The connections that listen here, of one user or of all.
    pub fn connections(&self, user_id: Option<i64>, kind: Kind) -> Vec<Arc<Outbox>> {
        let state = self.state.lock();
        let wanted =
            |listener: &&Listener| listener.kind == kind && user_id.is_none_or(|id| listener.outbox.user_id == id);
        state.listeners.iter().filter(wanted).map(|listener| listener.outbox.clone()).collect()
    }
}

impl State {
    /// Puts a frame into the outboxes of those it is for. The issuer comes last: whoever has the answer to a command knows
    /// that here nobody's later frame comes before the event.
    fn tell(&mut self, topic: Topic, delivery: &Delivery) -> Delivered {
        let conversation_id = match topic {
            Topic::Conversation(id) => Some(id),
            Topic::User(_) => None,
        };
        let mut answer = None;
        for listener in &mut self.listeners {
            if let Some(event_id) = delivery.event_id {
                if event_id <= listener.shown {
                    continue;
                }
                listener.shown = event_id;
            }
            let Some(frame) = listener.frame_of(delivery) else { continue };
            let outbox = &listener.outbox;
            let mark = match (conversation_id, delivery.about) {
                (Some(conversation_id), Some(about)) if delivery.is_message && about.sender_id != outbox.user_id => {
                    Some(Mark { conversation_id, message_id: about.message_id })
                }
                _ => None,
            };
            match &delivery.issuer {
                Some(issuer) if issuer.connection_id == outbox.id => {
                    let frame = match &issuer.client_id {
                        Some(client_id) => with_client_id(frame, client_id),
                        None => frame.clone(),
                    };
                    answer = Some((outbox.clone(), Item { frame, mark }));
                }
                _ => outbox.put(Item { frame: frame.clone(), mark }, delivery.class, conversation_id),
            }
        }
        let issuer_told = answer.is_some();
        if let Some((outbox, item)) = answer {
            outbox.put(item, delivery.class, conversation_id);
        }
        if let (Some(user_id), Some(event_id)) = (delivery.puts_out, delivery.event_id)
            && !planted!("tell-the-put-out")
        {
            self.put_out(user_id, event_id);
        }
        let mut present = None;
        if delivery.is_message {
            present = Some(self.present());
            if let Some(about) = delivery.about {
                self.stop_typing(topic, about.sender_id);
            }
        }
        Delivered { issuer_told, has_gap: false, present }
    }

    /// Forgets what was cleared, once nobody is on the way any more.
    fn forget_past(&mut self) {
        if self.interest <= self.listeners.len() {
            self.cleared.clear();
        }
    }

    /// Closes the chat sockets of somebody who is here no longer, and tells the other ones nothing more. Whoever has
    /// come back after that event is not meant.
    fn put_out(&mut self, user_id: i64, event_id: i64) {
        self.present = None;
        self.listeners.retain(|listener| {
            if listener.outbox.user_id != user_id || listener.shown > event_id {
                return true;
            }
            if listener.kind == Kind::Attending {
                listener.outbox.close(Close::AccessDenied);
            }
            false
        });
    }

    /// Closes the connection whose command's answer finds no place, so that it resumes and asks again: read
    /// from the store, the event would not say whose command it answers.
    fn send_back(&self, issuer: &Issuer) {
        if let Some(listener) = self.listeners.iter().find(|listener| listener.outbox.id == issuer.connection_id) {
            listener.outbox.close(Close::TryAgainLater);
        }
    }

    fn present(&mut self) -> Arc<[i64]> {
        let listeners = &self.listeners;
        let fresh = || {
            let attending = listeners.iter().filter(|listener| listener.kind == Kind::Attending);
            let mut users: Vec<i64> = attending.map(|listener| listener.outbox.user_id).collect();
            users.sort_unstable();
            users.dedup();
            users.into()
        };
        self.present.get_or_insert_with(fresh).clone()
    }
}

impl Listener {
    /// The frame that this listener gets of a delivery, if any.
    fn frame_of<'a>(&self, delivery: &'a Delivery) -> Option<&'a Bytes> {
        let user_id = self.outbox.user_id;
        let is_issuer = delivery.issuer.as_ref().is_some_and(|issuer| issuer.connection_id == self.outbox.id);
        if delivery.is_opt_in && !self.outbox.opted_in && !is_issuer
            || delivery.except_user == Some(user_id)
            || delivery.only_user.is_some_and(|only| only != user_id)
            || delivery.only_kind.is_some_and(|only| only != self.kind)
        {
            return None;
        }
        if let Some(about) = delivery.about
            && self.cleared_up_to > 0
        {
            if about.is_hidden(self.cleared_up_to) {
                return None;
            }
            if about.is_reply_hidden(self.cleared_up_to) {
                return delivery.hidden_reply.as_ref().or(Some(&delivery.frame));
            }
        }
        Some(&delivery.frame)
    }
}

/// An interest in a topic, and once joined a place among its listeners; ends when dropped.
pub struct Seat {
    hub: Arc<Hub>,
    room: Arc<Room>,
    /// How often everybody had been put out when this seat was opened.
    came: u64,
    joined: Option<Arc<Outbox>>,
}

impl Seat {
    pub(super) fn new(hub: Arc<Hub>, room: Arc<Room>, came: u64) -> Self {
        Self { hub, room, came, joined: None }
    }

    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Begins to listen after a position in the log. When the topic has moved on, says how far: what is
    /// between must be read from the store first.
    pub fn join(&mut self, outbox: &Arc<Outbox>, kind: Kind, position: i64, cleared_up_to: i64) -> Result<(), i64> {
        let mut state = self.room.state.lock();
        match state.last_event_id {
            Some(last) if last > position && !planted!("join-behind") => return Err(last),
            Some(_) => {}
            None => state.last_event_id = Some(position),
        }
        if self.joined.is_none() {
            state.present = None;
            if kind == Kind::Attending && state.put_outs > self.came {
                outbox.close(Close::AccessDenied);
            }
            let cleared_up_to =
                state.cleared.get(&outbox.user_id).map_or(cleared_up_to, |up_to| cleared_up_to.max(*up_to));
            state.listeners.push(Listener { outbox: outbox.clone(), kind, shown: position, cleared_up_to });
            state.forget_past();
            drop(state);
            self.joined = Some(outbox.clone());
        }
        Ok(())
    }

    fn leave(&mut self) {
        let Some(outbox) = self.joined.take() else { return };
        let mut state = self.room.state.lock();
        state.present = None;
        if let Some(index) = state.listeners.iter().position(|listener| listener.outbox.id == outbox.id) {
            state.listeners.swap_remove(index);
        }
        let is_last = !state.listeners.iter().any(|listener| listener.outbox.user_id == outbox.user_id);
        if is_last {
            state.forget_typing(self.room.topic, outbox.user_id);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
        self.hub.let_go(&self.room);
    }
}

#[cfg(test)]
mod tests;
