//! All that happens at a set time, in one ordered list with one sleeper: a timer for each socket would
//! cost more than the socket.

use std::collections::BTreeMap;
use std::sync::Weak;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::outbox::Outbox;
use crate::protocol::Topic;

/// What is due.
#[derive(Clone)]
pub enum Due {
    /// A connection's token expires.
    TokenExpires(Weak<Outbox>),
    /// A connection that opted in is told that its token expires soon.
    TokenExpiresSoon(Weak<Outbox>, i64),
    TypingEnds {
        topic: Topic,
        user_id: i64,
    },
    /// A user without sockets may have been gone long enough to be offline.
    PersonLeaves {
        user_id: i64,
        seen_at_ms: i64,
    },
}

/// Names a deadline, to take it back.
pub type Key = (Instant, u64);

/// What is due, in the order of time.
#[derive(Default)]
pub struct Deadlines {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    due: BTreeMap<Key, Due>,
}

impl Deadlines {
    /// Sets a deadline.
    pub fn set(&self, at: Instant, due: Due) -> Key {
        let mut state = self.state.lock();
        let key = (at, state.next);
        state.next += 1;
        let is_first = state.due.first_key_value().is_none_or(|(first, _)| key < *first);
        state.due.insert(key, due);
        drop(state);
        if is_first {
            self.wake.notify_one();
        }
        key
    }

    /// Takes a deadline back.
    pub fn remove(&self, key: Key) {
        self.state.lock().due.remove(&key);
    }

    /// Waits for the next thing to be due, and takes it.
    pub async fn next(&self) -> Due {
        loop {
            let first = {
                let mut state = self.state.lock();
                match state.due.first_entry() {
                    Some(entry) if entry.key().0 <= Instant::now() => return entry.remove(),
                    Some(entry) => Some(entry.key().0),
                    None => None,
                }
            };
            match first {
                Some(at) => tokio::select! {
                    biased;
                    () = sleep_until(at) => {}
                    () = self.wake.notified() => {}
                },
                None => self.wake.notified().await,
            }
        }
    }
}
