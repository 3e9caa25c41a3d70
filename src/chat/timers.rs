//! What happens by the clock: heartbeats, deadlines, position checks, repairs, sweeps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Chat;
use super::announce::delivery;
use crate::config::Settings;
use crate::hub::deadlines::Due;
use crate::hub::heartbeat::SLOTS;
use crate::hub::topic::Delivery;
use crate::protocol::server::{Answer, encode};
use crate::protocol::{Close, Time, Topic};
use crate::store::Fault;

/// How long a topic may be quiet before its position is compared with the store's.
const POSITION_CHECK: Duration = Duration::from_secs(30);
/// How long a committed event may take to be delivered here before it counts as missed.
const ANNOUNCING: Duration = Duration::from_secs(1);
/// How long to wait before a store is asked again that is out of reach.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// How often the store is swept of what is no longer needed, and last_seen of those who are here is written.
const SWEEP: Duration = Duration::from_secs(60);
/// How many events one repair reads at a time.
const REPAIR_PAGE: i64 = 256;

/// Starts the tasks.
pub(super) fn start(
    chat: &Arc<Chat>,
    settings: &Settings,
    gaps: mpsc::Receiver<Topic>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    tasks.spawn(chat.clone().tell_presence(shutdown.clone()));
    tasks.spawn(chat.clone().write_marks(shutdown.clone()));
    tasks.spawn(until(shutdown, deadlines(chat.clone())));
    tasks.spawn(until(shutdown, repair(chat.clone(), gaps)));
    tasks.spawn(until(shutdown, check_positions(chat.clone())));
    tasks.spawn(until(shutdown, sweep(chat.clone(), settings.events_retention)));
    if let Some(interval) = settings.heartbeat_interval {
        tasks.spawn(until(shutdown, beat(chat.clone(), interval)));
    }
}

/// Runs a task until shutdown.
fn until(
    shutdown: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let shutdown = shutdown.clone();
    async move {
        tokio::select! {
            biased;
            () = task => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn beat(chat: Arc<Chat>, heartbeat_interval: Duration) {
    let mut turns = interval((heartbeat_interval / SLOTS).max(Duration::from_millis(1)));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        chat.hub.heartbeat.turn();
    }
}

async fn deadlines(chat: Arc<Chat>) {
    loop {
        match chat.hub.deadlines.next().await {
            Due::TokenExpires(outbox) => {
                if let Some(outbox) = outbox.upgrade()
                    && !planted!("outlive-tokens")
                {
                    outbox.close(Close::TokenExpired);
                }
            }
            Due::TokenExpiresSoon(outbox, expires_at_ms) => {
                if let Some(outbox) = outbox.upgrade() {
                    outbox.push(encode(&Answer::TokenExpiring { expires_at: Time(expires_at_ms) }));
                }
            }
            Due::TypingEnds { topic, user_id } => {
                if let Some(room) = chat.hub.room(topic)
                    && let Some(until) = room.expire_typing(user_id)
                {
                    chat.hub.deadlines.set(until, Due::TypingEnds { topic, user_id });
                }
            }
            Due::PersonLeaves { user_id, seen_at_ms } => chat.leave_if_gone(user_id, seen_at_ms),
        }
    }
}

/// Reads from the store what the hub found missing.
async fn repair(chat: Arc<Chat>, mut gaps: mpsc::Receiver<Topic>) {
    while let Some(topic) = gaps.recv().await {
        if let Err(fault) = chat.catch_up(topic).await {
            tracing::warn!(error = %fault, "a gap could not be read; the next position check tries again");
        }
    }
}

/// Compares the positions of quiet topics with the store's; of all topics once the answer to a commit was lost.
async fn check_positions(chat: Arc<Chat>) {
    let mut checks = interval(POSITION_CHECK / 2);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = chat.store.commit_was_lost() => {
                while check_idle(&chat, Instant::now()).await.is_err() {
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
            _ = checks.tick() => {
                let Some(since) = Instant::now().checked_sub(POSITION_CHECK / 2) else { continue };
                let _ = check_idle(&chat, since).await;
            }
        }
    }
}

/// Compares the positions of topics to which nothing was delivered since then, and reads what is missing.
async fn check_idle(chat: &Arc<Chat>, since: Instant) -> Result<(), Fault> {
    let idle = chat.hub.idle_since(since);
    for chunk in idle.chunks(256) {
        let topics: Vec<Topic> = chunk.iter().map(|(topic, _)| *topic).collect();
        let positions = chat.store.last_event_ids(&topics).await?;
        let behind = chunk.iter().filter(|(topic, position)| positions.get(topic).is_some_and(|last| last > position));
        let behind: Vec<_> = behind.copied().collect();
        if behind.is_empty() {
            continue;
        }
        // What has just been committed is on its way here, and knows whose command it answers.
        tokio::time::sleep(ANNOUNCING).await;
        for (topic, position) in behind {
            if chat.hub.room(topic).and_then(|room| room.last_event_id()) == Some(position) {
                chat.catch_up(topic).await?;
            }
        }
    }
    Ok(())
}

async fn sweep(chat: Arc<Chat>, events_retention: Option<Duration>) {
    let mut sweeps = interval(SWEEP);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        sweeps.tick().await;
        chat.store_seen().await;
        if let Err(fault) = chat.store.sweep(chat.clock.now_ms(), events_retention).await {
            tracing::warn!(error = %fault, "a sweep failed; the next one tries again");
        }
    }
}

impl Chat {
    /// Delivers what the store has and the hub has not yet.
    pub async fn catch_up(&self, topic: Topic) -> Result<(), Fault> {
        loop {
            let _committing = match topic {
                Topic::Conversation(id) => Some(self.committing[self.committer_of(id)].lock().await),
                Topic::User(_) => None,
            };
            let Some(room) = self.hub.room(topic) else { return Ok(()) };
            let Some(position) = room.last_event_id() else { return Ok(()) };
            let page = self.store.read_log(topic, position, REPAIR_PAGE).await?;
            if page.is_gone && page.last_event_id > position {
                tracing::warn!(?topic, "the log no longer has what was missed; its sockets are to come back");
                room.skip(position, page.last_event_id);
                continue;
            }
            if page.up_to <= position {
                return Ok(());
            }
            let mut events = page.events.iter().peekable();
            for event_id in position + 1..=page.up_to {
                let told = events.next_if(|told| told.event_id == Some(event_id));
                let delivery = told.map_or_else(|| Delivery::passed_over(event_id), |told| delivery(topic, told));
                self.hub.deliver(topic, delivery);
            }
        }
    }
}
