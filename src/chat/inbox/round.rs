//! One round of the inbox: first what is to be settled, then what is asked for, then new messages, then
//! a piece of what takes long.

use std::collections::{BTreeMap, BTreeSet};
use std::slice::from_ref;
use std::sync::Arc;

use super::queue::{Job, NewMessages, Reply, Unsettled};
use super::{Inbox, refuse};
use crate::chat::announce::delivery;
use crate::error::{Error, Result};
use crate::hub::{Issuer, Kind, Outbox};
use crate::protocol::server::{encode, with_client_id};
use crate::protocol::{Frame, Topic};
use crate::store::Fault;
use crate::store::events::Told;
use crate::store::idempotency::Once;
use crate::store::notifications::UserEvent;
use crate::store::notifications::change::{Change, Outcome};
use crate::store::notifications::raise::Raise;
use crate::store::notifications::settle::UNSETTLED_MAX;

/// Most conversations in one transaction.
const CONVERSATIONS_MAX: usize = 64;

/// Tries what the database refuses twice more: of two servers that waited for each other, one is refused once.
macro_rules! insist {
    ($attempt:expr) => {{
        let mut outcome = $attempt.await;
        for _ in 0..2 {
            if !outcome.as_ref().is_err_and(Fault::is_refusal) {
                break;
            }
            outcome = $attempt.await;
        }
        outcome
    }};
}

/// What came of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// There was nothing to do.
    Idle,
    Done,
    /// There is more to do at once.
    Unfinished,
    /// The store failed; what was not done waits in the queue again.
    Failed,
}

/// How far the work has come that takes many rounds.
#[derive(Default)]
pub(super) struct Progress {
    /// Where the look over the unread notifications goes on.
    look_over: Option<(i64, i64)>,
    /// After which conversation the search for messages that nobody was notified of goes on.
    to_notify: Option<i64>,
    is_broadcasting: bool,
}

impl Progress {
    fn is_empty(&self) -> bool {
        self.look_over.is_none() && self.to_notify.is_none() && !self.is_broadcasting
    }
}

impl Inbox {
    pub(super) async fn round(&self, progress: &mut Progress) -> Round {
        let work = self.queue.lock().take();
        if work.look_over {
            *progress = Progress { look_over: Some((0, 0)), to_notify: Some(0), is_broadcasting: true };
        }
        let is_idle =
            work.jobs.is_empty() && work.messages.is_empty() && work.unsettled.is_empty() && progress.is_empty();
        if is_idle {
            return Round::Idle;
        }
        progress.is_broadcasting |= work.jobs.iter().any(|job| matches!(job.change, Change::Broadcast { .. }));
        let settled = self.settle_all(work.unsettled).await;
        self.queue.lock().settled();
        drop(work.watching);
        self.change_all(work.jobs).await;
        let raised = self.raise_all(work.messages).await;
        let continued = self.go_on(progress).await;
        let mut is_unfinished = work.has_more || !progress.is_empty();
        for outcome in [settled, raised, continued] {
            match outcome {
                Ok(has_more) => is_unfinished |= has_more,
                Err(fault) => {
                    tracing::warn!(error = %fault, "notifications could not be stored; trying again");
                    return Round::Failed;
                }
            }
        }
        if is_unfinished { Round::Unfinished } else { Round::Done }
    }

    /// Brings notifications in line with what has changed elsewhere.
    async fn settle_all(&self, unsettled: BTreeSet<Unsettled>) -> Result<bool, Fault> {
        let readers: Vec<Unsettled> =
            unsettled.iter().copied().filter(|unsettled| matches!(unsettled, Unsettled::Reader { .. })).collect();
        let others = unsettled.into_iter().filter(|unsettled| !matches!(unsettled, Unsettled::Reader { .. }));
        let parts = readers.chunks(UNSETTLED_MAX).map(<[Unsettled]>::to_vec).chain(others.map(|other| vec![other]));
        let mut parts = parts.collect::<Vec<_>>().into_iter();
        while let Some(part) = parts.next() {
            match insist!(self.settle_part(&part)) {
                Ok(()) => {}
                Err(fault) if fault.is_refusal() => give_up(&fault),
                Err(fault) => {
                    self.queue.lock().put_back_unsettled(part.into_iter().chain(parts.flatten()));
                    return Err(fault);
                }
            }
        }
        Ok(false)
    }

    async fn settle_part(&self, part: &[Unsettled]) -> Result<(), Fault> {
        let mut after = 0;
        loop {
            let found = match part {
                [Unsettled::Conversation(id)] => self.store.list_unsettled_of_conversation(*id, after).await?,
                [Unsettled::Message(id)] => self.store.list_unsettled_of_message(*id, after).await?,
                readers => {
                    let pair = |unsettled: &Unsettled| match unsettled {
                        Unsettled::Reader { conversation_id, user_id } => Some((*conversation_id, *user_id)),
                        _ => None,
                    };
                    let pairs: Vec<(i64, i64)> = readers.iter().filter_map(pair).collect();
                    self.store.find_unsettled(&pairs).await?
                }
            };
            self.tell_all(self.store.settle_notifications(&found).await?);
            after = match (part, found.last()) {
                ([Unsettled::Conversation(_)], Some(last)) => last.user_id,
                ([Unsettled::Message(_)], Some(last)) => last.id,
                _ => return Ok(()),
            };
            if found.len() < UNSETTLED_MAX {
                return Ok(());
            }
        }
    }

    /// Carries out what was asked for, and answers.
    async fn change_all(&self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let (changes, replies): (Vec<Change>, Vec<Reply>) = jobs.into_iter().map(|job| (job.change, job.reply)).unzip();
        let outcomes = match self.store.change_notifications(&changes).await {
            Ok(outcomes) => outcomes,
            Err(fault) if fault.is_refusal() && changes.len() > 1 => {
                let mut outcomes = Vec::with_capacity(changes.len());
                for change in &changes {
                    let outcome = self.store.change_notifications(from_ref(change)).await;
                    outcomes.push(match outcome {
                        Ok(mut outcome) => outcome.pop().unwrap_or_else(|| Err(Error::internal())),
                        Err(fault) => Err(fault.into()),
                    });
                }
                outcomes
            }
            Err(fault) => {
                let error = Error::from(fault);
                changes.iter().map(|_| Err(error.clone())).collect()
            }
        };
        for ((change, reply), outcome) in changes.into_iter().zip(replies).zip(outcomes) {
            self.answer(Job { change, reply }, outcome);
        }
    }

    fn answer(&self, job: Job, outcome: Result<Outcome>) {
        let client_id = match &job.change {
            Change::MarkRead { client_id, .. } => client_id.as_deref(),
            _ => None,
        };
        let socket = match &job.reply {
            Reply::Socket(outbox) => Some(outbox),
            Reply::Waiter(_) => None,
        };
        let answer = match outcome {
            Err(error) => return refuse(job, error),
            Ok(Outcome::Done { events, count }) => {
                for event in events {
                    self.tell(&event, socket.map(|outbox| (outbox, client_id)));
                }
                Once::First(count)
            }
            Ok(Outcome::Unchanged { told, count }) => {
                push_answer(socket, &told, true, client_id);
                Once::First(count)
            }
            Ok(Outcome::Repeated { told, count }) => {
                push_answer(socket, &told, false, client_id);
                Once::First(count)
            }
            Ok(Outcome::Answered(answer)) => Once::Repeated(answer),
        };
        if let Reply::Waiter(waiter) = job.reply {
            let _ = waiter.send(Ok(answer));
        }
    }

    /// Notifies participants of new messages. Whether some conversations need another round.
    async fn raise_all(&self, messages: BTreeMap<i64, NewMessages>) -> Result<bool, Fault> {
        let mut rest = messages;
        let mut unfinished = BTreeMap::new();
        while let Some((first, _)) = rest.first_key_value() {
            let first = *first;
            let end = rest.keys().nth(CONVERSATIONS_MAX).copied();
            let after = end.map(|end| rest.split_off(&end)).unwrap_or_default();
            let mut part = std::mem::replace(&mut rest, after);
            match insist!(self.raise_part(&part)) {
                Ok(ids) => unfinished.extend(ids.into_iter().filter_map(|id| part.remove_entry(&id))),
                Err(fault) if fault.is_refusal() && part.len() > 1 => {
                    // One conversation's fault; the others go on without it.
                    for (id, messages) in part {
                        match self.raise_part(&BTreeMap::from([(id, messages.clone())])).await {
                            Ok(ids) => unfinished.extend(ids.into_iter().map(|id| (id, messages.clone()))),
                            Err(fault) => give_up(&fault),
                        }
                    }
                }
                Err(fault) if fault.is_refusal() => {
                    tracing::error!(conversation.id = first, "this conversation's messages raise no notifications");
                    give_up(&fault);
                }
                Err(fault) => {
                    let mut queue = self.queue.lock();
                    queue.put_back_messages(part);
                    queue.put_back_messages(rest);
                    queue.put_back_messages(unfinished);
                    return Err(fault);
                }
            }
        }
        let is_unfinished = !unfinished.is_empty();
        self.queue.lock().put_back_messages(unfinished);
        Ok(is_unfinished)
    }

    async fn raise_part(&self, part: &BTreeMap<i64, NewMessages>) -> Result<Vec<i64>, Fault> {
        let raise = |(id, messages): (&i64, &NewMessages)| Raise {
            conversation_id: *id,
            up_to: messages.up_to,
            seen: messages.seen.clone(),
            present: self.present(*id),
        };
        let raises: Vec<Raise> = part.iter().map(raise).collect();
        let raised = self.store.raise_notifications(&raises).await?;
        self.tell_all(raised.events);
        Ok(raised.unfinished)
    }

    /// The users with a chat socket on a conversation here and now, in order.
    fn present(&self, conversation_id: i64) -> Arc<[i64]> {
        let Some(room) = self.hub.room(Topic::Conversation(conversation_id)) else { return Arc::from([]) };
        let connections = room.connections(None, Kind::Attending);
        let users: BTreeSet<i64> = connections.iter().map(|outbox| outbox.user_id).collect();
        users.into_iter().collect()
    }

    /// Does a piece of what takes many rounds.
    async fn go_on(&self, progress: &mut Progress) -> Result<bool, Fault> {
        if let Some(after) = progress.look_over {
            let (unsettled, end) = self.store.look_over(after).await?;
            for part in unsettled.chunks(UNSETTLED_MAX) {
                self.tell_all(self.store.settle_notifications(part).await?);
            }
            progress.look_over = end;
        }
        if let Some(after) = progress.to_notify {
            let ids = self.store.list_to_notify(after).await?;
            progress.to_notify = ids.last().copied();
            let messages = NewMessages { up_to: i64::MAX, seen: Vec::new() };
            self.raise_all(ids.into_iter().map(|id| (id, messages.clone())).collect()).await?;
        }
        if progress.is_broadcasting {
            match self.store.continue_broadcast().await? {
                Some(events) => self.tell_all(events),
                None => progress.is_broadcasting = false,
            }
        }
        Ok(false)
    }

    fn tell_all(&self, events: Vec<UserEvent>) {
        for event in &events {
            self.tell(event, None);
        }
    }

    /// Delivers an event to the user's sockets here; the issuer's own carries its `client_id`.
    fn tell(&self, event: &UserEvent, issuer: Option<(&Arc<Outbox>, Option<&str>)>) {
        let topic = Topic::User(event.user_id);
        if issuer.is_none() && !self.hub.has(topic) {
            return;
        }
        let mut delivery = delivery(topic, &event.told);
        delivery.issuer = issuer
            .map(|(outbox, client_id)| Issuer { connection_id: outbox.id, client_id: client_id.map(str::to_owned) });
        let frame = delivery.frame.clone();
        let delivered = self.hub.deliver(topic, delivery);
        if let Some((outbox, client_id)) = issuer
            && !delivered.issuer_told
            && !delivered.has_gap
        {
            // The socket does not listen yet, or never will; its command is answered all the same.
            outbox.push(client_id.map_or(frame.clone(), |client_id| with_client_id(&frame, client_id)));
        }
        tracing::info!(
            user.id = event.user_id,
            event.id = event.told.event_id,
            "{kind} out",
            kind = event.told.event.kind()
        );
    }
}

pub(super) fn frame<'a>(told: &'a Told, unchanged: bool, client_id: Option<&'a str>) -> Frame<'a> {
    Frame { event: &told.event, conversation_id: None, event_id: told.event_id, unchanged, client_id }
}

fn push_answer(socket: Option<&Arc<Outbox>>, told: &Told, unchanged: bool, client_id: Option<&str>) {
    if let Some(outbox) = socket {
        outbox.push(encode(&frame(told, unchanged, client_id)));
    }
}

/// A statement that the database refuses would be refused again and again, and hold up all others.
fn give_up(fault: &Fault) {
    tracing::error!(error = %fault, "the store refused a change of notifications; it is left for the next start");
}
