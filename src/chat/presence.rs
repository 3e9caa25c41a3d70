//! Presence: a socket on any endpoint makes somebody online, the last one's going, some time later, offline.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Chat;
use crate::error::Result;
use crate::hub::deadlines::Due;
use crate::hub::outbox::{Class, Item, Outbox};
use crate::hub::people::Arrival;
use crate::hub::topic::{Delivery, Kind};
use crate::protocol::server::{Presence, encode};
use crate::protocol::{Event, Frame, Person, Time, Topic};

/// A conversation of more people than this tells a newcomer only who is online.
pub const SMALL_CONVERSATION: usize = 100;

/// Whose presence is yet to be told; one entry a user, so it can't grow beyond them.
#[derive(Default)]
pub struct PresenceNews {
    users: Mutex<BTreeMap<i64, News>>,
    wake: Notify,
}

#[derive(Default)]
struct News {
    /// When a user who has gone was last seen.
    seen_at_ms: Option<i64>,
    /// Whether those are to be told too who were told before the user was somebody they hear of.
    is_for_all: bool,
}

impl PresenceNews {
    /// Has the others told how a user's presence stands, who has joined them.
    pub fn look_at(&self, user_id: i64) {
        self.note(user_id, |news| news.is_for_all = true);
    }

    fn note(&self, user_id: i64, note: impl FnOnce(&mut News)) {
        note(self.users.lock().entry(user_id).or_default());
        self.wake.notify_one();
    }

    async fn next(&self) -> BTreeMap<i64, News> {
        loop {
            let users = std::mem::take(&mut *self.users.lock());
            if !users.is_empty() {
                return users;
            }
            self.wake.notified().await;
        }
    }
}

impl Chat {
    /// Takes in a connection; the others hear when its user was not there before.
    pub fn arrive(&self, outbox: &Arc<Outbox>, person: Person, connections_max: Option<u64>) -> Arrival {
        let arrival = self.hub.people.enter(outbox, person, connections_max);
        match arrival {
            Arrival::Refused => {}
            Arrival::CameOnline => {
                self.hub.heartbeat.add(outbox);
                self.news.note(outbox.user_id, |_| {});
            }
            Arrival::AlreadyOnline => self.hub.heartbeat.add(outbox),
        }
        arrival
    }

    /// Takes those for here who were when the server ended, however it did: they have the time of grace to come back.
    pub async fn recall(&self) -> std::result::Result<(), crate::store::Fault> {
        for (user_id, seen_at_ms) in self.store.list_online().await? {
            self.hub.people.expect(user_id);
            self.let_leave(user_id, seen_at_ms.unwrap_or_default());
        }
        Ok(())
    }

    /// Lets a connection go; its user is offline when no other comes for a while.
    pub fn depart(&self, outbox: &Outbox) {
        self.hub.heartbeat.remove(outbox);
        if self.hub.people.leave(outbox) {
            self.let_leave(outbox.user_id, self.clock.now_ms());
        }
    }

    fn let_leave(&self, user_id: i64, seen_at_ms: i64) {
        let due = Due::PersonLeaves { user_id, seen_at_ms };
        self.hub.deadlines.set(tokio::time::Instant::now() + self.presence_grace, due);
    }

    /// Makes somebody offline whose time of grace has passed. Waits for nothing: other deadlines are due.
    pub(super) fn leave_if_gone(&self, user_id: i64, seen_at_ms: i64) {
        if !planted!("stay-online") && self.hub.people.forget_if_gone(user_id, self.presence_grace) {
            self.news.note(user_id, |news| news.seen_at_ms = Some(seen_at_ms));
        }
    }

    /// Tells the others of changed presence, until shutdown.
    pub(super) async fn tell_presence(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let users = tokio::select! {
                biased;
                users = self.news.next() => users,
                () = shutdown.cancelled() => return,
            };
            for (user_id, news) in &users {
                if let Some(seen_at_ms) = news.seen_at_ms {
                    self.store_last_seen(&[*user_id], seen_at_ms, false).await;
                }
                if let Err(fault) = self.tell_presence_of(*user_id, news.is_for_all).await {
                    tracing::warn!(error = %fault, user.id = user_id, "presence was not told");
                }
            }
            // Who has come was last seen now, should this server die.
            let here: Vec<i64> = users.into_keys().filter(|id| self.hub.people.is_online(*id)).collect();
            self.store_last_seen(&here, self.clock.now_ms(), true).await;
        }
    }

    /// Stores that those who are connected were seen now.
    pub async fn store_seen(&self) {
        self.store_last_seen(&self.hub.people.connected(), self.clock.now_ms(), true).await;
    }

    async fn store_last_seen(&self, user_ids: &[i64], at_ms: i64, is_online: bool) {
        if let Err(fault) = self.store.set_last_seen(user_ids, at_ms, is_online).await {
            tracing::warn!(error = %fault, users = ?user_ids, "last_seen was not stored");
        }
    }

    async fn tell_presence_of(&self, user_id: i64, anew: bool) -> std::result::Result<(), crate::store::Fault> {
        let (conversations, last_seen) = self.store.list_conversation_ids(user_id).await?;
        let (is_online, change) = self.hub.people.presence_of(user_id, anew);
        let event = user_status(user_id, is_online, last_seen);
        let own = encode_status(&event, None);
        let mut told = HashSet::new();
        for id in conversations {
            let Some(room) = self.hub.room(Topic::Conversation(id)) else { continue };
            let class = Class::Presence { user_id, change };
            let frame = encode_status(&event, Some(id));
            let delivery = Delivery {
                class,
                except_user: Some(user_id),
                only_kind: Some(Kind::Attending),
                ..Delivery::new(frame)
            };
            self.hub.deliver(Topic::Conversation(id), delivery);
            // A user socket hears of a person once, however many conversations they share.
            for outbox in room.connections(None, Kind::Following) {
                if outbox.user_id != user_id && told.insert(outbox.id) {
                    outbox.put(Item { frame: own.clone(), mark: None }, class, None);
                }
            }
        }
        Ok(())
    }

    /// The presence of a conversation's other participants, as somebody who comes is told it.
    pub async fn presence_in(&self, conversation_id: i64, outbox: &Outbox, most: usize) -> Result<Vec<Bytes>> {
        let people = self.store.list_last_seen(conversation_id, SMALL_CONVERSATION as i64 + 1).await?;
        let (people, online) = if people.len() <= SMALL_CONVERSATION {
            let ids: Vec<i64> = people.iter().map(|(id, _)| *id).collect();
            (people, self.hub.people.see(outbox, &ids))
        } else {
            let online = self.hub.people.see_all(outbox);
            let present = self.store.filter_participants(conversation_id, &online).await?;
            (present.iter().take(most).map(|id| (*id, None)).collect(), present.into_iter().collect())
        };
        let others = people.into_iter().filter(|(id, _)| *id != outbox.user_id);
        let frame =
            |(id, last_seen)| encode_status(&user_status(id, online.contains(&id), last_seen), Some(conversation_id));
        Ok(others.map(frame).collect())
    }
}

/// The event that says whether somebody is there.
pub fn user_status(user_id: i64, is_online: bool, last_seen: Option<i64>) -> Event {
    match is_online {
        true => Event::UserStatus { user_id, status: Presence::Online, last_seen: None },
        false => Event::UserStatus { user_id, status: Presence::Offline, last_seen: last_seen.map(Time) },
    }
}

/// The frame that says whether somebody is there, in a conversation or for a user socket.
pub fn encode_status(event: &Event, conversation_id: Option<i64>) -> Bytes {
    encode(&Frame { event, conversation_id, event_id: None, unchanged: false, client_id: None })
}
