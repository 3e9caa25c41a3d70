//! What waits for the inbox, gathered by conversation and user, so that it is bounded. What is beyond
//! the bound is not lost: the store knows it, and is looked over instead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::Result;
use crate::hub::Outbox;
use crate::store::idempotency::Once;
use crate::store::notifications::change::Change;

/// Most messages, and most things to settle, that are noted one by one.
const NOTED_MAX: usize = 65_536;
/// Most changes that wait for their answer.
const JOBS_MAX: usize = 4_096;
/// Most changes, and about how many users they concern, in one transaction.
const BATCH_MAX: usize = 256;
const BATCH_USERS_MAX: usize = 10_000;

/// A change and who waits for its answer.
pub(super) struct Job {
    pub change: Change,
    pub reply: Reply,
}

pub(super) enum Reply {
    /// A socket, whose copy of the event is the answer.
    Socket(Arc<Outbox>),
    /// A request, which is told the count.
    Waiter(oneshot::Sender<Result<Once<i64>>>),
}

/// New messages of a conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct NewMessages {
    /// The last of them.
    pub up_to: i64,
    /// Who was there, by message, in order.
    pub seen: Vec<(i64, Arc<[i64]>)>,
}

/// What a change elsewhere may have put out of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unsettled {
    Reader { conversation_id: i64, user_id: i64 },
    Conversation(i64),
    Message(i64),
}

pub(super) struct Queue {
    jobs: VecDeque<Job>,
    messages: BTreeMap<i64, NewMessages>,
    messages_noted: usize,
    unsettled: BTreeSet<Unsettled>,
    look_over: bool,
    is_closed: bool,
    /// Whether a round is settling what had waited.
    is_settling: bool,
    /// Those who wait until all is settled that was noted before they came; dropping one tells.
    watching: Vec<oneshot::Sender<()>>,
}

/// What one round works on.
#[derive(Default)]
pub(super) struct Work {
    pub jobs: Vec<Job>,
    pub messages: BTreeMap<i64, NewMessages>,
    pub unsettled: BTreeSet<Unsettled>,
    pub look_over: bool,
    pub has_more: bool,
    pub watching: Vec<oneshot::Sender<()>>,
}

impl Default for Queue {
    /// A queue that begins with a look at what a crash left behind.
    fn default() -> Self {
        Self {
            jobs: VecDeque::new(),
            messages: BTreeMap::new(),
            messages_noted: 0,
            unsettled: BTreeSet::new(),
            look_over: true,
            is_closed: false,
            is_settling: false,
            watching: Vec::new(),
        }
    }
}

impl Queue {
    pub fn raise(&mut self, conversation_id: i64, message_id: i64, present: Option<Arc<[i64]>>) {
        if self.messages_noted >= NOTED_MAX {
            self.look_over = true;
            return;
        }
        let messages = self.messages.entry(conversation_id).or_default();
        messages.up_to = messages.up_to.max(message_id);
        self.messages_noted += 1;
        if let Some(present) = present
            && messages.seen.last().is_none_or(|(last, _)| *last < message_id)
        {
            messages.seen.push((message_id, present));
        }
    }

    pub fn settle(&mut self, conversation_id: i64, user_id: i64) {
        self.note(Unsettled::Reader { conversation_id, user_id });
    }

    pub fn conversation_deleted(&mut self, conversation_id: i64) {
        self.note(Unsettled::Conversation(conversation_id));
    }

    pub fn message_deleted(&mut self, message_id: i64) {
        self.note(Unsettled::Message(message_id));
    }

    pub fn look_over(&mut self) {
        self.look_over = true;
    }

    fn note(&mut self, unsettled: Unsettled) {
        if self.unsettled.len() >= NOTED_MAX {
            self.look_over = true;
        } else {
            self.unsettled.insert(unsettled);
        }
    }

    /// What ends when all is settled that has been noted; nothing where that is so, or where too many wait for it.
    pub fn watch(&mut self) -> Option<oneshot::Receiver<()>> {
        if self.unsettled.is_empty() && !self.is_settling || self.watching.len() >= JOBS_MAX {
            return None;
        }
        let (watching, settled) = oneshot::channel();
        self.watching.push(watching);
        Some(settled)
    }

    /// Notes that a round has settled what it took.
    pub fn settled(&mut self) {
        self.is_settling = false;
    }

    /// Takes a change, unless too many wait or the inbox has ended.
    pub fn push(&mut self, job: Job) -> Result<(), Box<Job>> {
        if self.is_closed || self.jobs.len() >= JOBS_MAX {
            return Err(Box::new(job));
        }
        self.jobs.push_back(job);
        Ok(())
    }

    /// Takes all that waits, but of the changes only as many as one transaction may have.
    pub fn take(&mut self) -> Work {
        let mut jobs = Vec::new();
        let mut users = 0;
        while jobs.len() < BATCH_MAX {
            let Some(job) = self.jobs.front() else { break };
            users += job.change.width();
            if users > BATCH_USERS_MAX && !jobs.is_empty() {
                break;
            }
            jobs.extend(self.jobs.pop_front());
        }
        self.messages_noted = 0;
        self.is_settling = !self.unsettled.is_empty();
        Work {
            watching: std::mem::take(&mut self.watching),
            jobs,
            messages: std::mem::take(&mut self.messages),
            unsettled: std::mem::take(&mut self.unsettled),
            look_over: std::mem::take(&mut self.look_over),
            has_more: !self.jobs.is_empty(),
        }
    }

    /// Puts back what a round could not do. What has come meanwhile is newer.
    pub fn put_back_messages(&mut self, messages: BTreeMap<i64, NewMessages>) {
        for (conversation_id, mut older) in messages {
            self.messages_noted += older.seen.len().max(1);
            let newer = self.messages.remove(&conversation_id).unwrap_or_default();
            older.up_to = older.up_to.max(newer.up_to);
            older.seen.extend(newer.seen);
            self.messages.insert(conversation_id, older);
        }
    }

    pub fn put_back_unsettled(&mut self, unsettled: impl IntoIterator<Item = Unsettled>) {
        self.unsettled.extend(unsettled);
    }

    /// Lets nothing in any more.
    pub fn close(&mut self) {
        self.is_closed = true;
        self.jobs.clear();
        self.watching.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_for_one_conversation_is_gathered() {
        let mut queue = Queue::default();
        let present: Option<Arc<[i64]>> = Some(Arc::from([1]));
        queue.raise(7, 1, present.clone());
        queue.raise(7, 2, present.clone());
        queue.settle(7, 5);
        queue.settle(7, 5);
        let work = queue.take();
        assert_eq!((work.messages.len(), work.messages[&7].up_to, work.messages[&7].seen.len()), (1, 2, 2));
        assert_eq!(work.unsettled.len(), 1);
        queue.raise(7, 3, present);
        queue.put_back_messages(work.messages);
        let work = queue.take();
        let seen: Vec<i64> = work.messages[&7].seen.iter().map(|(id, _)| *id).collect();
        assert_eq!((work.messages[&7].up_to, seen), (3, vec![1, 2, 3]));
    }

    #[test]
    fn one_past_the_bound_the_store_is_looked_over_instead() {
        let mut queue = Queue::default();
        queue.take();
        let present: Option<Arc<[i64]>> = Some(Arc::from([]));
        for id in 1..=NOTED_MAX as i64 {
            queue.raise(id, id, present.clone());
            queue.settle(id, 1);
        }
        assert!(!queue.look_over);
        queue.raise(1 << 40, 1 << 40, present.clone());
        assert!(std::mem::take(&mut queue.look_over));
        queue.settle(1 << 40, 1);
        let work = queue.take();
        assert!(work.look_over);
        assert_eq!((work.messages.len(), work.unsettled.len()), (NOTED_MAX, NOTED_MAX));
    }

    #[test]
    fn a_batch_is_bounded_in_changes_and_in_users() {
        let mut queue = Queue::default();
        let job = || {
            let (waiter, _) = oneshot::channel();
            Job { change: Change::Delete { user_id: 1, notification_id: 1 }, reply: Reply::Waiter(waiter) }
        };
        for _ in 0..JOBS_MAX {
            assert!(queue.push(job()).is_ok());
        }
        assert!(queue.push(job()).is_err());
        let work = queue.take();
        assert_eq!((work.jobs.len(), work.has_more), (BATCH_MAX, true));
    }
}
