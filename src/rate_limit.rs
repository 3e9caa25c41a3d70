//! How much a user or an address may do in a second, with bursts, and at once. Knows nothing of what is limited.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

/// A limit for each key, or none at all.
pub struct RateLimit<K: Hash + Eq + Clone> {
    limiter: Option<RateLimiter<K, HashMapStateStore<K>, DefaultClock, NoOpMiddleware>>,
    clock: DefaultClock,
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// So many a second, in bursts of so many seconds' worth. `None` is no limit.
    pub fn per_second(rate: Option<u64>, burst_seconds: u32) -> Self {
        let rate = rate.map(|rate| NonZeroU32::new(u32::try_from(rate).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN));
        let quota = rate.map(|rate| {
            let burst = NonZeroU32::new(rate.get().saturating_mul(burst_seconds)).unwrap_or(rate);
            Quota::per_second(rate).allow_burst(burst)
        });
        Self { limiter: quota.map(RateLimiter::hashmap), clock: DefaultClock::default() }
    }

    /// Takes one; when there is none left, how long until there is.
    pub fn take(&self, key: &K) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check_key(key).map_err(|refused| refused.wait_time_from(self.clock.now()))
    }

    /// Forgets keys whose burst is whole again, so that the table holds only who is active.
    pub fn forget_idle(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// How many things each user has under way.
pub struct UnderWay {
    most: Option<u64>,
    users: Mutex<HashMap<i64, u64>>,
}

impl UnderWay {
    /// At most so many for each user; none is no limit.
    pub fn new(most: Option<u64>) -> Arc<Self> {
        Arc::new(Self { most, users: Mutex::default() })
    }

    /// A place for one more of a user's, unless there are as many as may be.
    pub fn take(self: &Arc<Self>, user_id: i64) -> Option<Place> {
        let mut users = self.users.lock();
        let count = users.entry(user_id).or_default();
        if self.most.is_some_and(|most| *count >= most) {
            return None;
        }
        *count += 1;
        Some(Place { under_way: self.clone(), user_id })
    }
}

/// One's place, until it is dropped.
pub struct Place {
    under_way: Arc<UnderWay>,
    user_id: i64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.under_way.users.lock();
        if let Some(count) = users.get_mut(&self.user_id) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.user_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let under_way = UnderWay::new(Some(2));
        let (first, _second) = (under_way.take(1).expect("a place"), under_way.take(1).expect("a place"));
        assert!(under_way.take(1).is_none());
        assert!(under_way.take(2).is_some(), "another user has their own");
        drop(first);
        assert!(under_way.take(1).is_some());
        assert_eq!(under_way.users.lock().keys().collect::<Vec<_>>(), [&1], "who has none is forgotten");
    }

    #[test]
    fn a_burst_passes_and_the_next_one_is_told_when_to_come_back() {
        let limit = RateLimit::per_second(Some(2), 3);
        for _ in 0..6 {
            assert!(limit.take(&1).is_ok());
        }
        let wait = limit.take(&1).expect_err("the burst is used up");
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
        assert!(limit.take(&2).is_ok(), "another key has its own");
    }

    #[test]
    fn no_limit_takes_everything() {
        let limit = RateLimit::per_second(None, 3);
        assert!((0..10_000).all(|_| limit.take(&1).is_ok()));
    }
}
