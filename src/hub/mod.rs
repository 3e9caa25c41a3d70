//! Who is connected here, and the delivery of events to them: topics, sequencing, outboxes. Never
//! awaits, never decodes a frame, knows nothing of the store.

pub mod deadlines;
pub mod heartbeat;
pub mod outbox;
pub mod people;
pub mod topic;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::protocol::Topic;
pub use deadlines::{Deadlines, Due};
pub use heartbeat::Heartbeat;
pub use outbox::{Bounds, Control, Mark, Outbox};
pub use people::People;
pub use topic::{Delivered, Delivery, Issuer, Kind, Room, Seat};

/// Most topics whose gap waits to be read from the store; a topic beyond is found by its position check.
const GAPS_MAX: usize = 4_096;

/// All topics with a socket here, and all people who are connected.
pub struct Hub {
    topics: RwLock<HashMap<Topic, Arc<Room>>>,
    pub people: People,
    pub deadlines: Deadlines,
    pub heartbeat: Heartbeat,
    next_connection: AtomicU64,
    gaps: mpsc::Sender<Topic>,
    typing_expiry: Duration,
}

impl Hub {
    /// An empty hub, and where it tells which topics have a gap to be read from the store.
    pub fn new(typing_expiry: Duration) -> (Arc<Self>, mpsc::Receiver<Topic>) {
        let (gaps, gaps_receiver) = mpsc::channel(GAPS_MAX);
        let hub = Self {
            topics: RwLock::default(),
            people: People::default(),
            deadlines: Deadlines::default(),
            heartbeat: Heartbeat::default(),
            next_connection: AtomicU64::new(1),
            gaps,
            typing_expiry,
        };
        (Arc::new(hub), gaps_receiver)
    }

    /// A number that no other connection of this process has.
    pub fn next_connection_id(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a place in a topic without hearing anything yet, so that nothing can pass by between reading
    /// the topic's position from the store and [`Seat::join`].
    pub fn open(self: &Arc<Self>, topic: Topic) -> Seat {
        let mut topics = self.topics.write();
        let room = topics.entry(topic).or_insert_with(|| Arc::new(Room::new(topic)));
        let came = room.take_interest();
        Seat::new(self.clone(), room.clone(), came)
    }

    /// The topic, where it has a socket here.
    pub fn room(&self, topic: Topic) -> Option<Arc<Room>> {
        self.topics.read().get(&topic).cloned()
    }

    /// All topics that have a socket here.
    pub fn rooms(&self) -> Vec<Arc<Room>> {
        self.topics.read().values().cloned().collect()
    }

    /// Whether any socket here listens to the topic.
    pub fn has(&self, topic: Topic) -> bool {
        self.topics.read().contains_key(&topic)
    }

    /// Hands an event to all who listen to its topic here, in the order of the topic's log.
    pub fn deliver(&self, topic: Topic, delivery: Delivery) -> Delivered {
        let Some(room) = self.room(topic) else {
            return Delivered { present: Some(Arc::from([])), ..Delivered::default() };
        };
        let delivered = room.deliver(delivery);
        if delivered.has_gap {
            // When the queue is full the topic's position check finds the gap a little later.
            let _ = self.gaps.try_send(topic);
        }
        delivered
    }

    /// Topics that nothing was delivered to since then, with how far they have come.
    pub fn idle_since(&self, since: Instant) -> Vec<(Topic, i64)> {
        self.rooms().into_iter().filter_map(|room| Some((room.topic, room.idle_position(since)?))).collect()
    }

    fn let_go(&self, room: &Arc<Room>) {
        let mut topics = self.topics.write();
        if room.lose_interest() {
            topics.remove(&room.topic);
        }
    }
}
