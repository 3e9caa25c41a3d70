//! The inbox: the one task that changes users' notifications on this server, so that the events of a
//! user are delivered in the order of their commits. Idle, it works at once; busy, it gathers what
//! comes meanwhile, so that several messages are one change. What is lost with the process is found
//! again in the store at the next start.

mod queue;
mod round;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::hub::{Hub, Outbox};
use crate::protocol::client::Notifications;
use crate::protocol::notification::{Addressees, NewNotification};
use crate::protocol::server::{Answer, encode};
use crate::store::Store;
use crate::store::idempotency::{IdempotencyKey, Once};
use crate::store::notifications::change::Change;
use queue::{Job, Queue, Reply};
use round::{Progress, Round};

/// How long messages are gathered after a round before the next one.
const GATHERING: Duration = Duration::from_millis(50);
/// How long somebody who looks waits for what is being settled.
const SETTLING_MAX: Duration = Duration::from_secs(1);
/// How long a round waits after the store failed, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Everything that changes notifications goes through here.
pub struct Inbox {
    store: Store,
    hub: Arc<Hub>,
    queue: Mutex<Queue>,
    /// Something waits.
    wake: Notify,
    /// Somebody waits for an answer.
    hurry: Notify,
}

impl Inbox {
    /// An inbox that works once [`Inbox::run`] does, beginning with what a crash left behind.
    pub fn new(store: Store, hub: Arc<Hub>) -> Arc<Self> {
        let queue = Mutex::new(Queue::default());
        Arc::new(Self { store, hub, queue, wake: Notify::new(), hurry: Notify::new() })
    }

    /// A message was committed and delivered, while these users had a chat socket on its conversation; where
    /// that is not known, those count who have one when their turn comes.
    pub fn raise(&self, conversation_id: i64, message_id: i64, present: Option<Arc<[i64]>>) {
        self.queue.lock().raise(conversation_id, message_id, present);
        self.wake.notify_one();
    }

    /// A user has read, cleared, left or been put out of a conversation.
    pub fn settle(&self, conversation_id: i64, user_id: i64) {
        self.queue.lock().settle(conversation_id, user_id);
        self.wake.notify_one();
    }

    /// A conversation was deleted.
    pub fn conversation_deleted(&self, conversation_id: i64) {
        self.queue.lock().conversation_deleted(conversation_id);
        self.wake.notify_one();
    }

    /// A message was deleted.
    pub fn message_deleted(&self, message_id: i64) {
        self.queue.lock().message_deleted(message_id);
        self.wake.notify_one();
    }

    /// Brings all notifications in line, after changes that are too many to name, such as an erasure.
    pub fn look_over(&self) {
        self.queue.lock().look_over();
        self.wake.notify_one();
    }

    /// Waits, for a moment at most, until notifications are in line with what has been read, deleted or left by now.
    pub async fn settled(&self) {
        let Some(settled) = self.queue.lock().watch() else { return };
        self.hurry.notify_one();
        let _ = timeout(SETTLING_MAX, settled).await;
    }

    /// A socket marks its user's notifications read; the answer, or refusal, goes into its outbox.
    pub fn mark_read_on(&self, outbox: &Arc<Outbox>, which: Notifications, client_id: Option<String>) {
        let change = Change::MarkRead { user_id: outbox.user_id, which, client_id, key: None };
        self.submit(change, Reply::Socket(outbox.clone()));
    }

    /// Marks notifications read, and says how many are still unread.
    pub async fn mark_read(
        &self,
        user_id: i64,
        which: Notifications,
        key: Option<IdempotencyKey>,
    ) -> Result<Once<i64>> {
        self.carry_out(Change::MarkRead { user_id, which, client_id: None, key }).await
    }

    /// Deletes a notification of the user's.
    pub async fn delete(&self, user_id: i64, notification_id: i64) -> Result<()> {
        self.carry_out(Change::Delete { user_id, notification_id }).await.map(|_| ())
    }

    /// Sends a notification of the platform's, and says to how many. All users get theirs in the background.
    pub async fn send(
        &self,
        addressees: Addressees,
        new: NewNotification,
        key: Option<IdempotencyKey>,
    ) -> Result<Once<i64>> {
        self.carry_out(match addressees {
            Addressees::Users(user_ids) => Change::Create { user_ids, new, key },
            Addressees::All => Change::Broadcast { new, key },
        })
        .await
    }

    async fn carry_out(&self, change: Change) -> Result<Once<i64>> {
        let (waiter, answer) = oneshot::channel();
        self.submit(change, Reply::Waiter(waiter));
        answer.await.unwrap_or_else(|_| Err(Error::unavailable()))
    }

    fn submit(&self, change: Change, reply: Reply) {
        let refused = self.queue.lock().push(Job { change, reply });
        match refused {
            Ok(()) => {
                self.wake.notify_one();
                self.hurry.notify_one();
            }
            Err(job) => refuse(*job, Error::unavailable()),
        }
    }

    /// Works until shutdown, and then on what is still waiting.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut progress = Progress::default();
        let mut retry = RETRY_MIN;
        loop {
            let begun = Instant::now();
            if shutdown.is_cancelled() {
                // What takes long is in the store, and continued after the restart.
                progress = Progress::default();
            }
            let round = self.round(&mut progress).await;
            let is_ending = shutdown.is_cancelled();
            match round {
                Round::Idle | Round::Failed if is_ending => {
                    self.queue.lock().close();
                    return;
                }
                Round::Idle => {
                    retry = RETRY_MIN;
                    tokio::select! {
                        biased;
                        () = self.wake.notified() => {}
                        () = shutdown.cancelled() => {}
                    }
                }
                Round::Done => {
                    retry = RETRY_MIN;
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep_until(begun + GATHERING) => {}
                        () = self.hurry.notified() => {}
                        () = shutdown.cancelled() => {}
                    }
                }
                Round::Unfinished => retry = RETRY_MIN,
                Round::Failed => {
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(retry) => {}
                        () = shutdown.cancelled() => {}
                    }
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

/// Tells the one who asked that it was not done.
fn refuse(job: Job, error: Error) {
    match job.reply {
        Reply::Waiter(waiter) => {
            let _ = waiter.send(Err(error));
        }
        Reply::Socket(outbox) => {
            let client_id = match &job.change {
                Change::MarkRead { client_id, .. } => client_id.as_deref(),
                _ => None,
            };
            outbox.push(encode(&Answer::error(&error, client_id)));
        }
    }
}
