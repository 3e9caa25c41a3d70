//! Pings and silent peers: a wheel of slots that all connections are spread over, turned by one task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::outbox::Outbox;
use crate::protocol::Close;

/// How many turns of the wheel make one heartbeat interval.
pub const SLOTS: u32 = 25;
/// How often within an interval it is looked whether a peer has been silent for too long: that close to two
/// intervals it is closed.
const LOOKS: u32 = 5;

/// All connections, each in the slot in whose turn it is pinged.
pub struct Heartbeat {
    tick: AtomicU32,
    slots: Vec<Mutex<Vec<Arc<Outbox>>>>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { tick: AtomicU32::new(0), slots: (0..SLOTS).map(|_| Mutex::default()).collect() }
    }
}

impl Heartbeat {
    pub fn add(&self, outbox: &Arc<Outbox>) {
        outbox.hear(self.tick());
        self.slot(outbox).lock().push(outbox.clone());
    }

    pub fn remove(&self, outbox: &Outbox) {
        let mut slot = self.slot(outbox).lock();
        if let Some(index) = slot.iter().position(|other| other.id == outbox.id) {
            slot.swap_remove(index);
        }
    }

    /// Now, in turns of the wheel.
    pub fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Turns the wheel by one slot: pings its connections, and closes those of some slots that were silent for two
    /// intervals.
    pub fn turn(&self) {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        for look in 0..LOOKS {
            let slot = self.slots[((tick + look * SLOTS / LOOKS) % SLOTS) as usize].lock();
            for outbox in slot.iter() {
                if tick.wrapping_sub(outbox.heard()) > 2 * SLOTS {
                    outbox.close(Close::HeartbeatTimeout);
                } else if look == 0 {
                    outbox.ping();
                }
            }
        }
    }

    fn slot(&self, outbox: &Outbox) -> &Mutex<Vec<Arc<Outbox>>> {
        &self.slots[(outbox.id % u64::from(SLOTS)) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::outbox::Bounds;
    use crate::protocol::client::Endpoint;

    #[test]
    fn a_silent_peer_is_pinged_and_then_closed_and_one_that_is_heard_is_not() {
        let heartbeat = Heartbeat::default();
        let bounds = Bounds { frames_max: 8, bytes_max: 100 };
        let outbox = |id| Arc::new(Outbox::new(id, 1, Endpoint::Chat, false, bounds));
        let (silent, alive) = (outbox(3), outbox(4));
        heartbeat.add(&silent);
        heartbeat.add(&alive);
        for _ in 0..SLOTS {
            heartbeat.turn();
        }
        assert!(silent.take().is_some_and(|batch| batch.ping && batch.close.is_none()));
        for _ in 0..3 * SLOTS {
            alive.hear(heartbeat.tick());
            heartbeat.turn();
        }
        assert_eq!(silent.take().and_then(|batch| batch.close), Some(Close::HeartbeatTimeout));
        assert!(alive.closing().is_none());
    }

    #[test]
    fn a_peer_is_closed_soon_after_two_silent_intervals_and_not_before_whenever_it_was_last_heard() {
        for id in 0..u64::from(SLOTS) {
            let heartbeat = Heartbeat::default();
            let bounds = Bounds { frames_max: 8, bytes_max: 100 };
            let outbox = Arc::new(Outbox::new(id, 1, Endpoint::Chat, false, bounds));
            heartbeat.add(&outbox);
            let turns = (1..).find(|_| {
                heartbeat.turn();
                outbox.closing().is_some()
            });
            let turns: u32 = turns.expect("a turn that closes it");
            assert!((2 * SLOTS + 1..=2 * SLOTS + SLOTS / LOOKS).contains(&turns), "{id}: {turns}");
        }
    }
}
