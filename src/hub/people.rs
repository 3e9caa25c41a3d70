//! Who is connected to this server, with all their sockets, and who is there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::time::Instant;

use super::outbox::Outbox;
use crate::protocol::{Close, Person};

/// All users with a socket here, and those whose last socket has just gone.
#[derive(Default)]
pub struct People {
    users: RwLock<HashMap<i64, Entry>>,
    /// Numbers the changes of who is there; changed under the lock of `users` alone.
    changes: AtomicU64,
    revocations: AtomicU64,
}

#[derive(Default)]
struct Entry {
    outboxes: Vec<Arc<Outbox>>,
    /// As the user is shown today.
    person: Option<Person>,
    /// Since when the user has no socket.
    gone_at: Option<Instant>,
    /// The number of the user's coming.
    came: u64,
}

/// What a new connection means for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The user was not there before.
    CameOnline,
    AlreadyOnline,
    /// The user has as many connections as are allowed.
    Refused,
}

impl People {
    /// Takes a connection in, unless its user has too many.
    pub fn enter(&self, outbox: &Arc<Outbox>, person: Person, connections_max: Option<u64>) -> Arrival {
        let mut users = self.users.write();
        let entry = users.entry(outbox.user_id).or_default();
        if connections_max.is_some_and(|most| entry.outboxes.len() as u64 >= most) {
            return Arrival::Refused;
        }
        let is_new = entry.outboxes.is_empty() && entry.gone_at.is_none();
        entry.outboxes.push(outbox.clone());
        entry.person = Some(person);
        entry.gone_at = None;
        if is_new {
            entry.came = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        }
        if is_new { Arrival::CameOnline } else { Arrival::AlreadyOnline }
    }

    /// Takes somebody for here who has no socket yet.
    pub fn expect(&self, user_id: i64) {
        self.users
            .write()
            .entry(user_id)
            .or_insert_with(|| Entry { gone_at: Some(Instant::now()), ..Entry::default() });
    }

    /// Lets a connection go. Whether it was its user's last one here.
    pub fn leave(&self, outbox: &Outbox) -> bool {
        let mut users = self.users.write();
        let Some(entry) = users.get_mut(&outbox.user_id) else { return false };
        entry.outboxes.retain(|other| other.id != outbox.id);
        if entry.outboxes.is_empty() && entry.gone_at.is_none() {
            entry.gone_at = Some(Instant::now());
            return true;
        }
        false
    }

    /// Forgets a user who has had no socket since before the time of grace. Whether that was so.
    pub fn forget_if_gone(&self, user_id: i64, grace: std::time::Duration) -> bool {
        let mut users = self.users.write();
        let is_gone =
            users.get(&user_id).and_then(|entry| entry.gone_at).is_some_and(|gone_at| gone_at.elapsed() >= grace);
        if is_gone {
            users.remove(&user_id);
        }
        is_gone
    }

    pub fn is_online(&self, user_id: i64) -> bool {
        self.users.read().contains_key(&user_id)
    }

    /// Notes how a user is shown from now on.
    pub fn rename(&self, person: Person) {
        if let Some(entry) = self.users.write().get_mut(&person.id) {
            entry.person = Some(person);
        }
    }

    /// How a user is shown who is there.
    pub fn person_of(&self, user_id: i64) -> Option<Person> {
        self.users.read().get(&user_id)?.person.clone()
    }

    /// Whether the user has a socket here right now.
    pub fn is_connected(&self, user_id: i64) -> bool {
        self.users.read().get(&user_id).is_some_and(|entry| !entry.outboxes.is_empty())
    }

    /// Whether a user is there, and the number of that as a change; a new one for who is not, or where those who know
    /// of it already are to be told `anew`.
    pub fn presence_of(&self, user_id: i64, anew: bool) -> (bool, u64) {
        let users = self.users.write();
        match users.get(&user_id) {
            Some(entry) if !anew => (true, entry.came),
            entry => (entry.is_some(), self.changes.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }

    /// Who of these users is there, as a connection is about to be told. It hears of later changes alone.
    pub fn see(&self, outbox: &Outbox, user_ids: &[i64]) -> HashSet<i64> {
        let users = self.users.read();
        outbox.knows_presence(self.changes.load(Ordering::Relaxed));
        user_ids.iter().copied().filter(|id| users.contains_key(id)).collect()
    }

    /// The same of everybody.
    pub fn see_all(&self, outbox: &Outbox) -> Vec<i64> {
        let users = self.users.read();
        outbox.knows_presence(self.changes.load(Ordering::Relaxed));
        users.keys().copied().collect()
    }

    /// Everybody who has a socket here.
    pub fn connected(&self) -> Vec<i64> {
        self.users.read().iter().filter(|(_, entry)| !entry.outboxes.is_empty()).map(|(id, _)| *id).collect()
    }

    /// How many sockets and how many people are here.
    pub fn count(&self) -> (usize, usize) {
        let users = self.users.read();
        (users.values().map(|entry| entry.outboxes.len()).sum(), users.len())
    }

    /// Closes all sockets of a user whose sessions were ended.
    pub fn end_sessions(&self, user_id: i64) {
        // Counted first: one that is just being admitted either is found below or sees the count.
        self.revocations.fetch_add(1, Ordering::SeqCst);
        for outbox in self.connections_of(user_id).into_iter().filter(|_| !planted!("keep-sessions")) {
            outbox.close(Close::SessionRevoked);
        }
    }

    /// How often sessions have been ended. Where that changes between a check and the entering, the check
    /// is to be made again.
    pub fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    /// A user's connections.
    pub fn connections_of(&self, user_id: i64) -> Vec<Arc<Outbox>> {
        self.users.read().get(&user_id).map(|entry| entry.outboxes.clone()).unwrap_or_default()
    }

    /// All connections.
    pub fn connections(&self) -> Vec<Arc<Outbox>> {
        self.users.read().values().flat_map(|entry| entry.outboxes.iter().cloned()).collect()
    }
}
