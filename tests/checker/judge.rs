//! Judges a run: what the store holds against what was answered, every socket's events against the log, and what
//! each client can make of them against what a newcomer is shown.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::database::Rows;
use crate::expected::{Expected, event_of};
use crate::fold::Fold;
use crate::history::{Book, Command, Endpoint, Outcome, Session};

/// What is left of a run to be judged.
pub struct Judge<'a> {
    pub book: &'a Book,
    pub rows: &'a BTreeMap<i64, Rows>,
    /// What a socket with `since=0` was shown of each conversation in the end.
    pub fresh: &'a BTreeMap<i64, Vec<Value>>,
    /// What REST says of each conversation in the end.
    pub rest: &'a BTreeMap<i64, Fold>,
    pub violations: Vec<String>,
}

/// The event that guide-only sockets skip.
const TITLE: &str = "conversation_updated";
/// How often the same kind of thing is told.
const TOLD_MAX: usize = 25;

impl Judge<'_> {
    pub fn judge(&mut self) {
        self.judge_log();
        self.judge_commands();
        self.judge_state();
        let mut live = HashMap::new();
        for (index, session) in self.book.sessions.iter().enumerate() {
            Watch::new(index, session).judge(self, &mut live);
        }
        self.judge_folds();
        self.violations.extend(self.book.faults.iter().cloned());
    }

    fn blame(&mut self, text: String) {
        if self.violations.len() < TOLD_MAX {
            self.violations.push(text);
        }
    }

    /// The log is dense, messages stand where it says, and a newcomer is shown all of it in this order.
    fn judge_log(&mut self) {
        for (id, rows) in self.rows {
            let ids: Vec<i64> = rows.log.iter().map(|(event_id, ..)| *event_id).collect();
            if ids != (1..=rows.last_event_id).collect::<Vec<_>>() {
                self.blame(format!("conversation {id}: the log is not 1 to {}: {ids:?}", rows.last_event_id));
            }
            let sent = rows.log.iter().filter(|(_, kind, ..)| kind == "chat_message");
            let sent: Vec<(i64, i64)> = sent.map(|(event_id, _, message_id, _)| (*event_id, *message_id)).collect();
            if !sent.is_sorted_by_key(|(_, message_id)| *message_id) {
                self.blame(format!("conversation {id}: message ids do not grow with event ids"));
            }
            let stored: BTreeMap<i64, i64> = rows.messages.values().map(|row| (row.event_id, row.id)).collect();
            if stored != sent.into_iter().collect() {
                self.blame(format!("conversation {id}: the messages are not those of the log"));
            }
            let shown: Vec<i64> = self.fresh[id].iter().filter_map(|frame| frame["event_id"].as_i64()).collect();
            if shown != ids {
                self.blame(format!("conversation {id}: a newcomer is not shown the log, but {shown:?}"));
            }
        }
    }

    /// Every command was answered, always with the same; the log holds what was answered, each thing once, and nothing
    /// else.
    fn judge_commands(&mut self) {
        let mut claimed: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        for (index, command) in self.book.commands.iter().enumerate() {
            let rows = &self.rows[&command.conversation_id];
            let mut events: Vec<&Outcome> = command.outcomes.iter().collect();
            events.dedup();
            let Some(first) = events.first() else {
                self.blame(format!("never answered: {}", tell(command)));
                continue;
            };
            let Some(event_id) = event_of(command, rows) else {
                let is_state = command.outcomes.iter().all(|outcome| outcome == *first);
                let may = match first {
                    Outcome::State => true,
                    Outcome::Refused(code) => code == "not_found",
                    Outcome::Event { .. } => false,
                };
                if !is_state || !may {
                    self.blame(format!("answered with what the log does not have: {}", tell(command)));
                }
                continue;
            };
            let message_id = rows.log.get(event_id as usize - 1).map(|(_, _, message_id, _)| *message_id);
            for outcome in &command.outcomes {
                let is_same = match outcome {
                    Outcome::Event { event_id: Some(id), message_id: message } => {
                        *id == event_id && Some(*message) == message_id
                    }
                    Outcome::Event { event_id: None, message_id: message } => Some(*message) == message_id,
                    _ => false,
                };
                if !is_same {
                    self.blame(format!("answered with different things: {}", tell(command)));
                }
            }
            let row = rows.log.get(event_id as usize - 1);
            let is_right = row.is_some_and(|(_, kind, _, actor)| {
                Some(kind.as_str()) == command.body.kind() && *actor == command.user_id
            });
            if !is_right {
                self.blame(format!("event {event_id} of the log is {row:?}, but answered {}", tell(command)));
            }
            if let Some(other) = claimed.insert((command.conversation_id, event_id), index) {
                let other = &self.book.commands[other];
                self.blame(format!("one event answered two commands: {} and {}", tell(command), tell(other)));
            }
        }
        let titles = self.rows.values().flat_map(|rows| &rows.log).filter(|row| row.1 == TITLE).count();
        if !(self.book.titles_answered..=self.book.titles_tried).contains(&titles) {
            self.blame(format!("the log has {titles} changes of a title; {} were answered", self.book.titles_answered));
        }
        for (id, rows) in self.rows {
            for row in rows.log.iter().filter(|row| row.1 != TITLE) {
                if !claimed.contains_key(&(*id, row.0)) {
                    self.blame(format!("conversation {id}: nobody was answered with the event {row:?}"));
                }
            }
        }
    }

    /// The rows are what the commands, in the order of their events, make of nothing.
    fn judge_state(&mut self) {
        for (id, rows) in self.rows {
            let expected = Expected::new(*id, &self.book.commands, rows);
            for difference in expected.differences(rows) {
                self.blame(format!("conversation {id}: {difference}"));
            }
        }
    }

    /// What a client that resumed again and again makes of all it saw is what a newcomer makes of the replay.
    fn judge_folds(&mut self) {
        let mut devices: BTreeMap<usize, BTreeMap<i64, Fold>> = BTreeMap::new();
        let mut survivors = BTreeSet::new();
        for session in &self.book.sessions {
            if matches!(session.endpoint, Endpoint::Chat { since: None, .. }) {
                continue;
            }
            let folds = devices.entry(session.device).or_default();
            for frame in &session.frames {
                if let Some(id) = frame["conversation_id"].as_i64() {
                    folds.entry(id).or_default().take(frame);
                }
            }
            if session.has_survived {
                survivors.insert(session.device);
            }
        }
        for (id, fold) in self.rest {
            if let Some(text) = fold.compare_rows(&self.rows[id]) {
                self.blame(format!("conversation {id}: what REST says is not the store's: {text}"));
            }
        }
        for (id, frames) in self.fresh {
            let mut newcomer = Fold::default();
            frames.iter().for_each(|frame| newcomer.take(frame));
            let rows = &self.rows[id];
            newcomer.compare_rows(rows).into_iter().for_each(|text| {
                self.blame(format!("conversation {id}: a newcomer's state is not the store's: {text}"));
            });
            for (device, folds) in devices.iter().filter(|(device, _)| survivors.contains(*device)) {
                if let Some(difference) = folds.get(id).and_then(|fold| fold.difference(&newcomer)) {
                    self.blame(format!("conversation {id}: device {device} did not converge: {difference}"));
                }
            }
        }
    }
}

fn tell(command: &Command) -> String {
    let mut text = format!("{command:?}");
    if text.len() > 400 {
        text.truncate((0..=400).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default());
    }
    text
}

/// Follows one socket through its frames.
struct Watch<'a> {
    index: usize,
    session: &'a Session,
    shown: HashMap<i64, i64>,
    notified: i64,
    answered: HashMap<&'a str, usize>,
    /// What the replay has answered.
    replayed: HashSet<&'a str>,
    is_live: bool,
}

impl<'a> Watch<'a> {
    fn new(index: usize, session: &'a Session) -> Self {
        let shown = match &session.endpoint {
            Endpoint::Chat { conversation_id, since: Some(since), .. } => HashMap::from([(*conversation_id, *since)]),
            Endpoint::Chat { .. } => HashMap::new(),
            Endpoint::User { cursors, .. } => cursors.clone(),
        };
        let notified = match &session.endpoint {
            Endpoint::User { notifications, .. } => *notifications,
            Endpoint::Chat { .. } => 0,
        };
        Self { index, session, shown, notified, answered: HashMap::new(), replayed: HashSet::new(), is_live: false }
    }

    fn judge(mut self, judge: &mut Judge<'_>, live: &mut HashMap<(i64, i64), Value>) {
        for (at, frame) in self.session.frames.iter().enumerate() {
            let complaint = self.take(frame, judge, live);
            if let Some(complaint) = complaint {
                let last = &self.session.frames[at.saturating_sub(6)..=at];
                let last: Vec<String> =
                    last.iter().map(|frame| frame.to_string().chars().take(220).collect()).collect();
                let Session { device, endpoint, .. } = self.session;
                judge.blame(format!(
                    "device {device}, its socket {} ({endpoint:?}): {complaint}; the last frames:\n    {}",
                    self.index,
                    last.join("\n    ")
                ));
                return;
            }
        }
        for (client_id, sent) in &self.session.sent {
            let answered = self.answered.get(client_id.as_str()).copied().unwrap_or_default();
            // What was sent before the replay was seen is answered by it, where it shows that.
            let is_replayed = self.replayed.contains(client_id.as_str());
            let late = self.session.sent_late.get(client_id).copied().unwrap_or_default();
            let least = if is_replayed { late } else { *sent };
            if answered > *sent || self.session.has_survived && answered < least {
                let Session { device, .. } = self.session;
                judge
                    .blame(format!("device {device}: {client_id} was sent {sent} times and answered {answered} times"));
            }
        }
        if self.session.has_survived {
            for (id, shown) in &self.shown {
                let last = judge.rows[id].last_event_id;
                if !self.may_skip(judge, *id, shown + 1..last + 1) {
                    let Session { device, .. } = self.session;
                    judge.blame(format!("device {device}: conversation {id} ended at {shown} of {last}"));
                }
            }
        }
    }

    fn take(&mut self, frame: &'a Value, judge: &Judge<'_>, live: &mut HashMap<(i64, i64), Value>) -> Option<String> {
        let is_guide_only = matches!(self.session.endpoint, Endpoint::Chat { opted_in: false, .. });
        match frame["type"].as_str().unwrap_or_default() {
            "connected" | "resumed" | "message_status" if is_guide_only => {
                return Some("an opt-in frame on a socket of the guide".to_owned());
            }
            "connected" => {
                if let (Endpoint::Chat { conversation_id, since: None, .. }, Some(last)) =
                    (&self.session.endpoint, frame["last_event_id"].as_i64())
                {
                    self.shown.insert(*conversation_id, last);
                }
            }
            "resync" => return Some("a resync though nothing was deleted from the log".to_owned()),
            "resumed" => {
                self.is_live = true;
                self.notified = frame["notifications"].as_i64().unwrap_or_default();
                return self.wrong_arrival(frame);
            }
            // A socket that resumes nothing is live from the first presence on.
            "user_status" if matches!(self.session.endpoint, Endpoint::Chat { since: None, .. }) => self.is_live = true,
            _ => {}
        }
        let client_id = frame["client_id"].as_str();
        let was_sent_here = client_id.is_some_and(|client_id| self.session.sent.contains_key(client_id));
        if let (Some(client_id), true) = (client_id, self.is_live) {
            if !was_sent_here {
                return Some(format!("an answer to {client_id}, which was not sent here"));
            }
            *self.answered.entry(client_id).or_default() += 1;
        }
        if let (Some(client_id), false) = (client_id, self.is_live) {
            self.replayed.insert(client_id);
        }
        let event_id = frame["event_id"].as_i64()?;
        let Some(conversation_id) = frame["conversation_id"].as_i64() else {
            // A replay skips what was deleted since; live, nothing is skipped.
            let last = std::mem::replace(&mut self.notified, event_id);
            let is_next = event_id == last + 1 || event_id > last && !self.is_live;
            return (!is_next).then(|| format!("the notifications' event {event_id} came after {last}"));
        };
        let row = judge.rows[&conversation_id].log.get(event_id as usize - 1);
        let subject = frame["message_id"].as_i64().or_else(|| frame["message"]["id"].as_i64());
        let is_same_kind =
            |kind: &str| frame["type"] == kind || kind == "reaction_added" && frame["type"] == "reaction_removed";
        let is_subject = |message_id: i64| subject == Some(message_id) || frame["type"] == TITLE;
        if !row.is_some_and(|(_, kind, message_id, _)| is_same_kind(kind) && is_subject(*message_id)) {
            return Some(format!("event {event_id} is not what the log has, which is {row:?}"));
        }
        let command = client_id.and_then(|client_id| judge.book.by_client_id.get(client_id));
        let is_retried = command.is_some_and(|command| judge.book.commands[*command].attempts > 1);
        let may_repeat = was_sent_here && self.is_live && is_retried;
        let head = self.session.heads.get(&conversation_id).copied().unwrap_or_default();
        match self.shown.get(&conversation_id) {
            Some(shown) if event_id <= *shown => {
                return (!may_repeat).then(|| format!("event {event_id} came after {shown}"));
            }
            Some(shown) if !self.may_skip(judge, conversation_id, shown + 1..event_id) => {
                return Some(format!("event {event_id} came after {shown}: a gap"));
            }
            None if event_id <= head && may_repeat => return None,
            None if event_id <= head => return Some(format!("event {event_id} is from before the socket")),
            _ => {}
        }
        self.shown.insert(conversation_id, event_id);
        if self.is_live {
            let mut copy = frame.clone();
            copy.as_object_mut().map(|copy| copy.remove("client_id"));
            let first = live.entry((conversation_id, event_id)).or_insert_with(|| copy.clone());
            if *first != copy {
                return Some(format!("another socket was shown event {event_id} as {first}"));
            }
        }
        None
    }

    /// Whether these events are none, or none that this socket is shown.
    fn may_skip(&self, judge: &Judge<'_>, conversation_id: i64, mut events: std::ops::Range<i64>) -> bool {
        let is_guide_only = matches!(self.session.endpoint, Endpoint::Chat { opted_in: false, .. });
        let log = &judge.rows[&conversation_id].log;
        let is_opt_in = |event_id: i64| log.get(event_id as usize - 1).is_some_and(|row| row.1 == TITLE);
        events.all(|event_id| is_guide_only && is_opt_in(event_id))
    }

    /// What is wrong with where a resume says that it has arrived.
    fn wrong_arrival(&self, frame: &Value) -> Option<String> {
        let says = |id: &i64| match &self.session.endpoint {
            Endpoint::User { .. } => frame["cursors"][id.to_string()].as_i64(),
            Endpoint::Chat { .. } => frame["last_event_id"].as_i64(),
        };
        let wrong = self.shown.iter().find(|(id, shown)| says(id) != Some(**shown));
        wrong.map(|(id, shown)| format!("resumed says {:?} of conversation {id}, but it was shown {shown}", says(id)))
    }
}
