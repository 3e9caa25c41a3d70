//! A user's notifications: a log without gaps, told in its order on every socket, folded into what REST and the store
//! have; commands answered once with the same; the platform's sent once; those of messages counted exactly.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::Judge;
use crate::database::{Inbox, NotificationRow};
use crate::history::{Endpoint, Note, Session};

/// What a client makes of the notifications it is told: id, title, text, data, and whether it is read.
#[derive(Debug, Default, PartialEq)]
pub struct Folded(BTreeMap<i64, (String, String, Value, bool)>);

impl Folded {
    fn take(&mut self, frame: &Value) {
        let ids = frame["notification_ids"].as_array().into_iter().flatten().filter_map(Value::as_i64);
        match frame["type"].as_str() {
            Some("notification") => self.take_object(&frame["notification"]),
            Some("notification_deleted") => ids.for_each(|id| _ = self.0.remove(&id)),
            Some("notification_read") if frame["all"] == true => self.0.values_mut().for_each(|it| it.3 = true),
            Some("notification_read") => {
                for id in ids {
                    if let Some(known) = self.0.get_mut(&id) {
                        known.3 = true;
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes in a notification as REST has it, too.
    pub fn take_object(&mut self, it: &Value) {
        let text = |field: &str| it[field].as_str().unwrap_or_default().to_owned();
        let known = (text("title"), text("message"), it["data"].clone(), it["is_read"] == true);
        self.0.insert(it["id"].as_i64().unwrap_or_default(), known);
    }

    fn of_rows(inbox: &Inbox) -> Self {
        let object = |row: &NotificationRow| {
            let data = serde_json::from_str(&row.data).unwrap_or_default();
            (row.title.clone(), row.message.clone(), data, row.is_read != 0)
        };
        Self(inbox.notifications.iter().map(|(id, row)| (*id, object(row))).collect())
    }

    fn difference(&self, other: &Self) -> Option<String> {
        let ids: BTreeSet<&i64> = self.0.keys().chain(other.0.keys()).collect();
        let id = ids.into_iter().find(|id| self.0.get(id) != other.0.get(id))?;
        Some(format!("notification {id} is {:?} instead of {:?}", self.0.get(id), other.0.get(id)))
    }
}

/// Whether an event is one of the notifications' log.
fn is_own(frame: &Value) -> bool {
    frame["conversation_id"].is_null() && frame["event_id"].is_i64()
}

impl Judge<'_> {
    pub(super) fn judge_notifications(&mut self) {
        let mut live = HashMap::new();
        for (index, session) in self.book.sessions.iter().enumerate() {
            if let Some(complaint) = self.wrong_notifications(session, &mut live) {
                let Session { device, user_id, endpoint, .. } = session;
                self.blame(format!("device {device} of {user_id}, its socket {index} ({endpoint:?}): {complaint}"));
            }
        }
        for (user_id, inbox) in &self.evidence.inboxes {
            let ids: Vec<i64> = inbox.log.iter().map(|(event_id, ..)| *event_id).collect();
            if ids != (1..=inbox.last_event_id).collect::<Vec<_>>() {
                self.blame(format!("notifications of {user_id}: the log is not 1 to {}", inbox.last_event_id));
            }
            let stored = Folded::of_rows(inbox);
            let (listed, unread) = &self.evidence.notifications[user_id];
            if let Some(text) = listed.difference(&stored) {
                self.blame(format!("notifications of {user_id}: what REST says is not the store's: {text}"));
            }
            let unread_rows = inbox.notifications.values().filter(|row| row.is_read == 0).count();
            if unread.iter().any(|says| *says != unread_rows) {
                self.blame(format!("notifications of {user_id}: {unread_rows} are unread, but {unread:?} are told"));
            }
            let mut newcomer = Folded::default();
            self.evidence.notified[user_id].iter().for_each(|frame| newcomer.take(frame));
            if let Some(text) = newcomer.difference(&stored) {
                self.blame(format!("notifications of {user_id}: a newcomer's are not the store's: {text}"));
            }
            self.judge_counts(*user_id, inbox);
            self.judge_marks(*user_id, inbox);
            self.judge_notes(*user_id, inbox);
        }
        self.judge_notification_folds();
    }

    /// What is wrong with the order of what a socket is told.
    fn wrong_notifications(&self, session: &Session, live: &mut HashMap<(i64, i64), Value>) -> Option<String> {
        let Endpoint::Notifications { since } = session.endpoint else { return None };
        let log = &self.evidence.inboxes.get(&session.user_id)?.log;
        let notifications = &self.evidence.inboxes.get(&session.user_id)?.notifications;
        // A replay passes over what is deleted; live, nothing is.
        let may_skip = |event_id: i64| {
            let row = usize::try_from(event_id - 1).ok().and_then(|index| log.get(index));
            row.is_some_and(|(_, kind, subject)| {
                kind == "notification" && !notifications.contains_key(subject) || kind == "notification_read"
            })
        };
        let (mut shown, mut is_live) = (since, false);
        let mut answered: HashMap<&str, usize> = HashMap::new();
        for frame in &session.frames {
            if frame["type"] == "resumed" {
                let last = frame["last_event_id"].as_i64().unwrap_or_default();
                if last < shown || !(shown + 1..=last).all(may_skip) {
                    return Some(format!("resumed says {last}, but it was shown {shown}"));
                }
                (shown, is_live) = (last, true);
            }
            if let Some(client_id) = frame["client_id"].as_str() {
                *answered.entry(client_id).or_default() += 1;
            }
            if !is_own(frame) {
                continue;
            }
            let event_id = frame["event_id"].as_i64()?;
            let may_repeat = frame["client_id"].as_str().is_some_and(|id| session.sent.contains_key(id));
            if event_id <= shown && may_repeat {
                continue;
            }
            if event_id <= shown || !(shown + 1..event_id).all(|skipped| !is_live && may_skip(skipped)) {
                return Some(format!("event {event_id} came after {shown}, live: {is_live}"));
            }
            shown = event_id;
            if is_live {
                let mut copy = frame.clone();
                copy.as_object_mut().map(|copy| copy.remove("client_id"));
                let first = live.entry((session.user_id, event_id)).or_insert_with(|| copy.clone());
                if *first != copy {
                    return Some(format!("another socket was told {first} instead of {copy}"));
                }
            }
        }
        let wrong = session.sent.iter().find(|(client_id, sent)| {
            let answers = answered.get(client_id.as_str()).copied().unwrap_or_default();
            answers > **sent || session.has_survived && answers < **sent
        });
        if let Some((client_id, sent)) = wrong {
            return Some(format!(
                "{client_id} was sent {sent} times and answered {:?}",
                answered.get(client_id.as_str())
            ));
        }
        let last = log.len() as i64;
        (session.has_survived && shown != last).then(|| format!("it ended at {shown} of {last}"))
    }

    /// A client that resumed again and again knows what the store has.
    fn judge_notification_folds(&mut self) {
        let mut folds: BTreeMap<(usize, i64), (Folded, i64, bool)> = BTreeMap::new();
        for session in &self.book.sessions {
            let since = match &session.endpoint {
                Endpoint::Notifications { since } => *since,
                Endpoint::User { notifications, .. } => *notifications,
                Endpoint::Chat { .. } => continue,
            };
            let (folded, shown, has_survived) = folds.entry((session.device, session.user_id)).or_default();
            if since == 0 {
                (*folded, *shown) = Default::default();
            }
            for frame in session.frames.iter().filter(|frame| is_own(frame)) {
                let event_id = frame["event_id"].as_i64().unwrap_or_default();
                if event_id > *shown {
                    folded.take(frame);
                    *shown = event_id;
                }
            }
            *has_survived |= session.has_survived;
        }
        for ((device, user_id), (folded, ..)) in folds.iter().filter(|(_, (.., has_survived))| *has_survived) {
            let Some(inbox) = self.evidence.inboxes.get(user_id) else { continue };
            if let Some(text) = folded.difference(&Folded::of_rows(inbox)) {
                self.blame(format!("notifications of {user_id}: device {device} did not converge: {text}"));
            }
        }
    }

    /// An unread notification of messages counts what is unread of a conversation, and there is one of each.
    fn judge_counts(&mut self, user_id: i64, inbox: &Inbox) {
        self.judge_missed(user_id, inbox);
        let mut unread = BTreeSet::new();
        for row in inbox.notifications.values().filter(|row| row.is_read == 0 && row.conversation_id > 0) {
            if !unread.insert(row.conversation_id) {
                self.blame(format!(
                    "notifications of {user_id}: two are unread of conversation {}",
                    row.conversation_id
                ));
            }
            let Some(rows) = self.rows().get(&row.conversation_id) else { continue };
            let Some(own) = rows.participants.get(&user_id).filter(|own| own.left_at.is_none()) else {
                self.blame(format!("notifications of {user_id}: {row:?} is unread though the user is out"));
                continue;
            };
            let passed = own.read_up_to.max(own.cleared_up_to);
            let counted =
                inbox.counted.range((row.id, i64::MIN)..=(row.id, i64::MAX)).map(|(_, message_id)| *message_id);
            let counted: Vec<i64> = counted.filter(|message_id| *message_id > passed).collect();
            let data: Value = serde_json::from_str(&row.data).unwrap_or_default();
            // Reading or clearing a part of it changes nothing of it.
            let is_whole = passed == 0;
            let last = counted.last().copied();
            if data["message_id"].as_i64() != last || is_whole && data["count"] != counted.len() {
                self.blame(format!(
                    "notifications of {user_id}: {row:?}, but it counts {} up to {last:?}",
                    counted.len()
                ));
            }
        }
    }

    /// Whoever is never there and reads nothing is told of every message, once.
    fn judge_missed(&mut self, user_id: i64, inbox: &Inbox) {
        if !self.book.silent.contains(&user_id) {
            return;
        }
        for (id, rows) in self.rows().iter().filter(|(_, rows)| rows.participants.contains_key(&user_id)) {
            let others = rows.messages.values().filter(|it| it.sender_id != user_id && it.deleted_at.is_none());
            let missed = others.count();
            let told = inbox.notifications.values().filter(|row| row.conversation_id == *id);
            let told = told.map(|row| serde_json::from_str::<Value>(&row.data).unwrap_or_default()["count"].clone());
            let told: Vec<Value> = told.collect();
            if told.iter().map(Value::as_u64).ne((missed > 0).then_some(Some(missed as u64))) {
                self.blame(format!(
                    "conversation {id}: {user_id} has missed {missed} messages, but is told of {told:?}"
                ));
            }
        }
    }

    /// Each command was answered, always alike, with an event of its own or none.
    fn judge_marks(&mut self, user_id: i64, inbox: &Inbox) {
        let mut claimed = BTreeSet::new();
        for mark in self.book.marks.iter().filter(|mark| mark.user_id == user_id) {
            let stored = inbox.uses.get(&mark.client_id).map(|event_id| Some(*event_id).filter(|id| *id > 0));
            if mark.answers.is_empty() || mark.answers.iter().any(|answer| Some(*answer) != stored) {
                self.blame(format!("notifications of {user_id}: the store has {stored:?} of {mark:?}"));
            }
            let Some(event_id) = stored.flatten() else { continue };
            let row = usize::try_from(event_id - 1).ok().and_then(|index| inbox.log.get(index));
            if !claimed.insert(event_id) || row.is_none_or(|(_, kind, _)| kind != "notification_read") {
                self.blame(format!("notifications of {user_id}: event {event_id} is {row:?}, but answered {mark:?}"));
            }
        }
    }

    /// The platform's notification came once to each it was for, however often it was asked.
    fn judge_notes(&mut self, user_id: i64, inbox: &Inbox) {
        for note in self.book.notes.iter().filter(|note| note.user_ids.contains(&user_id)) {
            let Note { title, user_ids, answers, .. } = note;
            let count = inbox.notifications.values().filter(|row| row.title == *title).count();
            let may_be_gone = title.starts_with(crate::clients::platform::FLEETING);
            if count > 1 || count == 0 && !may_be_gone {
                self.blame(format!("notifications of {user_id}: {count} are titled {title}"));
            }
            let answer = (201, serde_json::json!({ "count": user_ids.len() }));
            if answers.is_empty() || answers.iter().any(|it| *it != answer) {
                self.blame(format!("the platform's notification was answered {answers:?} instead of {answer:?}"));
            }
        }
    }
}
