//! Comes to a group and goes from it for longer than the time of grace, so that the others see it online and offline. In
//! the end it is there, or it is not.

use tokio::time::{Duration, Instant};

use super::wire::{Connect, Wire};
use super::{Part, Phase};
use crate::history::Endpoint;

pub struct Visitor {
    pub part: Part,
    pub user_id: i64,
    pub conversation_id: i64,
    /// Whether it is there in the end.
    pub stays: bool,
}

impl Visitor {
    pub async fn run(mut self) {
        while !self.is_over() {
            if let Some(mut wire) = self.connect().await {
                self.stay(&mut wire).await;
            }
            let most = if self.part.phase() == Phase::Storm { 3_000 } else { 200 };
            self.part.pause(50..most).await;
        }
    }

    fn is_over(&self) -> bool {
        self.part.phase() == Phase::End || self.part.phase() == Phase::Settle && !self.stays
    }

    async fn connect(&mut self) -> Option<Wire> {
        let (conversation_id, user_id, device) = (self.conversation_id, self.user_id, self.part.index);
        let (endpoint, path) = if self.part.rng.bool() {
            let endpoint = Endpoint::Chat { conversation_id, since: None, opted_in: false };
            (endpoint, format!("/ws/chat/{conversation_id}/"))
        } else {
            (Endpoint::Notifications { since: 0 }, format!("/ws/notifications/{user_id}/?since=0"))
        };
        self.part.connect(Connect { device, user_id, endpoint, path, is_slow: false, offers: false }).await
    }

    async fn stay(&mut self, wire: &mut Wire) {
        let until = Instant::now() + Duration::from_millis(self.part.rng.u64(100..4_000));
        while !self.is_over() && (Instant::now() < until || self.part.phase() == Phase::Settle) {
            if wire.read_until(50, |_| {}, |_| false).await.is_err() {
                return;
            }
        }
    }
}
