//! How much a user or an address may do in a second, with bursts. Knows nothing of what is limited.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

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

#[cfg(test)]
mod tests {
    use super::*;

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
