//! What the product does: commands become changes, changes become events, events reach those they are
//! for. No axum, no SQL.

mod announce;
pub mod attachments;
mod committer;
pub mod conversation;
pub mod delivery_marks;
pub mod inbox;
pub mod message;
pub mod presence;
pub mod reaction;
pub mod timers;
pub mod typing;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{Reactions, Settings};
use crate::error::{Error, Result};
use crate::hub::{Hub, Outbox};
use crate::protocol::client::Bounds;
use crate::store::Store;
use crate::store::commit::{Command, Outcome};
#[cfg(test)]
pub(crate) use announce::{delivery, encode_told};
use committer::Job;
use delivery_marks::DeliveryMarks;
use inbox::Inbox;
use presence::PresenceNews;
use typing::Sending;

/// The chat of one server. Everything that changes a conversation goes through it.
pub struct Chat {
    pub store: Store,
    pub hub: Arc<Hub>,
    pub clock: Clock,
    pub marks: DeliveryMarks,
    pub inbox: Arc<Inbox>,
    news: PresenceNews,
    reactions: Reactions,
    bounds: Bounds,
    participants_max: Option<u64>,
    presence_grace: Duration,
    committers: Vec<mpsc::Sender<Job>>,
    /// Held by each committer from the beginning of a commit until what came of it is told, and by a repair
    /// while it reads and tells, so that an event is never told before the one who tells whose command it answers.
    committing: Vec<tokio::sync::Mutex<()>>,
}

/// Who waits for the answer to a command.
pub enum Reply {
    /// A socket: it gets the event, or the error, as a frame.
    Socket(Arc<Outbox>),
    /// A socket that asked before it knew what a replay shows it: an event that the replay has shown, with the
    /// command's `client_id`, is the answer already.
    Resuming(Arc<Outbox>, Shown),
    /// A request.
    Waiter(oneshot::Sender<Result<Outcome>>),
}

/// What a replay has shown to a socket of a conversation's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The events after this one …
    pub after: i64,
    /// … up to this one …
    pub up_to: i64,
    /// … but for what is about messages up to this one.
    pub cleared_up_to: i64,
}

impl Reply {
    /// The socket that gets the answer.
    pub fn outbox(&self) -> Option<&Arc<Outbox>> {
        match self {
            Self::Socket(outbox) | Self::Resuming(outbox, _) => Some(outbox),
            Self::Waiter(_) => None,
        }
    }
}

/// Most commands that wait for a committer; one more is refused as `unavailable`.
const COMMANDS_WAITING_MAX: usize = 4_096;

impl Chat {
    /// Starts the chat's tasks on the tracker; they end when the token is cancelled.
    pub fn start(
        settings: &Settings,
        (store, hub, clock): (Store, Arc<Hub>, Clock),
        gaps: mpsc::Receiver<crate::protocol::Topic>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Arc<Self> {
        let committing = (0..store.committers()).map(|_| tokio::sync::Mutex::default()).collect();
        let (committers, queues): (Vec<_>, Vec<_>) =
            (0..store.committers()).map(|_| mpsc::channel(COMMANDS_WAITING_MAX)).unzip();
        let inbox = Inbox::new(store.clone(), hub.clone());
        tasks.spawn(inbox.clone().run(shutdown.clone()));
        let chat = Arc::new(Self {
            store,
            hub,
            clock,
            marks: DeliveryMarks::default(),
            inbox,
            news: PresenceNews::default(),
            reactions: settings.reactions.clone(),
            bounds: Bounds {
                text_chars_max: settings.text_chars_max,
                attachments_max: settings.attachments_per_message_max,
            },
            participants_max: settings.participants_max,
            presence_grace: settings.presence_grace,
            committers,
            committing,
        });
        for (index, queue) in queues.into_iter().enumerate() {
            tasks.spawn(committer::run(chat.clone(), index, queue, shutdown.clone()));
        }
        timers::start(&chat, settings, gaps, tasks, shutdown);
        chat
    }

    /// The bounds of what clients write.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// How many people may be in a conversation.
    pub fn participants_max(&self) -> Option<u64> {
        self.participants_max
    }

    /// Which committer a conversation has.
    fn committer_of(&self, conversation_id: i64) -> usize {
        conversation_id as usize % self.committers.len()
    }

    /// Hands a command to the committer of its conversation, in the order of the calls. Never waits: when
    /// too many commands wait already, the answer is `unavailable` at once.
    pub fn submit(&self, command: Command, reply: Reply) {
        let index = self.committer_of(command.conversation_id);
        let sending = Sending::begin(&self.hub, &command, &reply);
        if let Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) =
            self.committers[index].try_send(Job { command, reply, sending })
        {
            self.refuse(job, Error::unavailable().with_retry_after_ms(500 + fastrand::u64(..500)));
        }
    }

    /// Carries a command out and waits for what comes of it.
    pub async fn commit(&self, command: Command) -> Result<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.submit(command, Reply::Waiter(sender));
        receiver.await.unwrap_or_else(|_| Err(Error::unavailable()))
    }
}
