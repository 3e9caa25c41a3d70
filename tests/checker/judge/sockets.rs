//! Follows one socket through its frames: events grow by one from where it joined, skipping nothing but what it is not
//! to be shown; what a resume says of where it arrived; every answer to a command that was sent there.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::membership::{Absence, absences};
use super::{Judge, TITLE};
use crate::history::{Endpoint, Moment, Session, subject_of};
use crate::support::token;

pub struct Watch<'a> {
    index: usize,
    session: &'a Session,
    /// The last event shown of each conversation.
    shown: HashMap<i64, i64>,
    /// Where each conversation stood when the socket was let in.
    came: HashMap<i64, i64>,
    notified: i64,
    /// Conversations that it has come to since, and is shown what was before as it is then.
    joined: HashSet<i64>,
    answered: HashMap<&'a str, usize>,
    /// What the replay has answered.
    replayed: HashSet<&'a str>,
    live_since: Option<Moment>,
    /// What its user had cleared by then is on its way here no longer.
    knows: Moment,
    absences: HashMap<i64, Vec<Absence>>,
}

impl<'a> Watch<'a> {
    pub fn new(judge: &Judge<'_>, index: usize, session: &'a Session) -> Self {
        let shown = match &session.endpoint {
            Endpoint::Chat { conversation_id, since: Some(since), .. } => HashMap::from([(*conversation_id, *since)]),
            Endpoint::Chat { .. } | Endpoint::Notifications { .. } => HashMap::new(),
            Endpoint::User { cursors, .. } => cursors.clone(),
        };
        let notified = match &session.endpoint {
            Endpoint::User { notifications, .. } => *notifications,
            Endpoint::Chat { .. } | Endpoint::Notifications { .. } => 0,
        };
        let absences = judge.rows().iter().map(|(id, rows)| (*id, absences(rows, session.user_id))).collect();
        let (came, joined, answered) = (HashMap::new(), HashSet::new(), HashMap::new());
        let (replayed, live_since, knows) = (HashSet::new(), None, session.opened);
        Self { index, session, shown, came, notified, joined, answered, replayed, live_since, knows, absences }
    }

    pub fn judge(mut self, judge: &mut Judge<'_>, live: &mut HashMap<(i64, i64), Value>) {
        if matches!(self.session.endpoint, Endpoint::Notifications { .. }) {
            return;
        }
        for (at, frame) in self.session.frames.iter().enumerate() {
            let moment = self.session.moments[at];
            if let Some(complaint) = self.take(frame, moment, judge, live) {
                let last = &self.session.frames[at.saturating_sub(6)..=at];
                let last: Vec<String> = last.iter().map(brief).collect();
                return self.blame(judge, &format!("{complaint}; the last frames:\n    {}", last.join("\n    ")));
            }
        }
        for (client_id, sent) in &self.session.sent {
            let answered = self.answered.get(client_id.as_str()).copied().unwrap_or_default();
            // What was sent before the replay was seen is answered by it, where it shows that.
            let late = self.session.sent_late.get(client_id).copied().unwrap_or_default();
            let least = if self.replayed.contains(client_id.as_str()) { late } else { *sent };
            if answered > *sent || self.session.has_survived && answered < least {
                self.blame(judge, &format!("{client_id} was sent {sent} times and answered {answered} times"));
            }
        }
        if self.session.has_survived {
            for (id, rows) in judge.rows() {
                let Some(shown) = self.shown.get(id).copied() else { continue };
                let last = self.absences[id].last().filter(|last| last.until == i64::MAX).map(|last| last.from);
                let last = last.unwrap_or(rows.last_event_id);
                if shown < last && !self.may_skip(judge, *id, shown + 1..last + 1, Moment::MAX) {
                    self.blame(judge, &format!("conversation {id} ended at {shown} of {last}"));
                }
            }
            self.judge_presence_everywhere(judge);
        }
    }

    /// A user socket listens to all conversations of its user in the end, those too that came meanwhile.
    fn judge_presence_everywhere(&self, judge: &mut Judge<'_>) {
        if !matches!(self.session.endpoint, Endpoint::User { .. }) {
            return;
        }
        for (id, rows) in judge.rows() {
            let is_in = rows.read_up_to().contains_key(&self.session.user_id);
            if is_in && rows.last_event_id > 0 && !self.shown.contains_key(id) {
                self.blame(judge, &format!("it heard nothing of conversation {id}"));
            }
        }
    }

    fn blame(&self, judge: &mut Judge<'_>, complaint: &str) {
        let Session { device, user_id, endpoint, .. } = self.session;
        judge.blame(format!("device {device} of {user_id}, its socket {} ({endpoint:?}): {complaint}", self.index));
    }

    fn take(
        &mut self,
        frame: &'a Value,
        moment: Moment,
        judge: &Judge<'_>,
        live: &mut HashMap<(i64, i64), Value>,
    ) -> Option<String> {
        let is_guide_only = matches!(self.session.endpoint, Endpoint::Chat { opted_in: false, .. });
        match frame["type"].as_str().unwrap_or_default() {
            "connected" | "resumed" | "message_status" if is_guide_only => {
                return Some("an opt-in frame on a socket of the guide".to_owned());
            }
            "connected" => self.arrive(frame),
            "resync" => return Some("a resync though nothing was deleted from the log".to_owned()),
            "resumed" => {
                self.live_since.get_or_insert(moment);
                self.notified = frame["notifications"].as_i64().unwrap_or_default();
                return self.wrong_arrival(frame, judge, moment);
            }
            // A socket that resumes nothing is live from the first presence on.
            "user_status" if matches!(self.session.endpoint, Endpoint::Chat { since: None, .. }) => {
                self.live_since.get_or_insert(moment);
            }
            "auth_ok" => return self.wrong_renewal(frame).or_else(|| self.count(frame)),
            _ => {}
        }
        self.count(frame).or_else(|| self.take_event(frame, moment, judge, live))
    }

    /// Counts an answer to a command.
    fn count(&mut self, frame: &'a Value) -> Option<String> {
        let client_id = frame["client_id"].as_str()?;
        if !self.is_live() {
            self.replayed.insert(client_id);
            return None;
        }
        if let Some(sent) = self.session.first_sent.get(client_id) {
            *self.answered.entry(client_id).or_default() += 1;
            // An answer comes after all that was on its way when the command was sent.
            self.knows = self.knows.max(*sent);
            return None;
        }
        // What was before it came to a conversation is a replay, which shows a sender's own.
        let id = frame["conversation_id"].as_i64().unwrap_or_default();
        let is_replay = self.joined.contains(&id) || !self.came.contains_key(&id);
        let is_user = matches!(self.session.endpoint, Endpoint::User { .. });
        (!(is_user && is_replay)).then(|| format!("an answer to {client_id}, which was not sent here"))
    }

    /// Takes in where the conversations stand.
    fn arrive(&mut self, frame: &Value) {
        match &self.session.endpoint {
            Endpoint::Chat { conversation_id, since, .. } => {
                let Some(last) = frame["last_event_id"].as_i64() else { return };
                self.came.insert(*conversation_id, last);
                if since.is_none() {
                    self.shown.insert(*conversation_id, last);
                }
            }
            Endpoint::User { .. } => {
                let cursors = frame["cursors"].as_object().into_iter().flatten();
                self.came = cursors.filter_map(|(id, at)| Some((id.parse().ok()?, at.as_i64()?))).collect();
                // Those that are not the user's are passed over; those that are not named are live only.
                self.shown.retain(|id, _| self.came.contains_key(id));
                for (id, last) in &self.came {
                    self.shown.entry(*id).or_insert(*last);
                }
            }
            Endpoint::Notifications { .. } => {}
        }
    }

    fn take_event(
        &mut self,
        frame: &Value,
        moment: Moment,
        judge: &Judge<'_>,
        live: &mut HashMap<(i64, i64), Value>,
    ) -> Option<String> {
        let event_id = frame["event_id"].as_i64()?;
        let Some(id) = frame["conversation_id"].as_i64() else {
            // A replay skips what was deleted since; live, nothing is skipped.
            let last = std::mem::replace(&mut self.notified, event_id);
            let is_next = event_id == last + 1 || event_id > last && !self.is_live();
            return (!is_next).then(|| format!("the notifications' event {event_id} came after {last}"));
        };
        let rows = judge.rows().get(&id)?;
        let row = rows.event(event_id);
        let subject = subject_of(frame).or_else(|| frame["user"]["id"].as_i64());
        let is_same_kind =
            |kind: &str| frame["type"] == kind || kind == "reaction_added" && frame["type"] == "reaction_removed";
        let is_subject = |subject_id: i64| subject == Some(subject_id) || frame["type"] == TITLE;
        if !row.is_some_and(|(_, kind, subject_id, _)| is_same_kind(kind) && is_subject(*subject_id)) {
            return Some(format!("event {event_id} is not what the log has, which is {row:?}"));
        }
        let client_id = frame["client_id"].as_str();
        let was_sent_here = client_id.is_some_and(|client_id| self.session.sent.contains_key(client_id));
        let command = client_id.and_then(|client_id| judge.book.by_client_id.get(client_id));
        let is_retried = command.is_some_and(|command| judge.book.commands[*command].attempts > 1);
        // One that resumes nothing and whose user is alone is told of nobody, and of nothing before but in answers.
        let resumes = !matches!(self.session.endpoint, Endpoint::Chat { since: None, .. });
        let is_past = !resumes && self.shown.get(&id).is_some_and(|shown| event_id <= *shown);
        let may_repeat = was_sent_here && is_retried && (self.is_live() || is_past);
        let is_put_away = row.is_some_and(|row| judge.may_be_hidden_row(id, self.session.user_id, row, moment));
        // What took effect before its user cleared it is answered all the same.
        let is_old_answer = may_repeat && is_put_away;
        if let Some(complaint) = self.leaked(id, event_id, frame, judge, is_old_answer) {
            return Some(complaint);
        }
        if is_old_answer {
            return None;
        }
        let head = self.session.heads.get(&id).copied().unwrap_or_default();
        match self.shown.get(&id) {
            Some(shown) if event_id <= *shown => {
                return (!may_repeat).then(|| format!("event {event_id} came after {shown}"));
            }
            Some(shown) if !self.may_skip(judge, id, shown + 1..event_id, moment) => {
                let missing: Vec<_> = (shown + 1..event_id).take(5).filter_map(|missing| rows.event(missing)).collect();
                return Some(format!("event {event_id} came after {shown}, without {missing:?}"));
            }
            None if matches!(self.session.endpoint, Endpoint::User { .. }) => {
                let comes = self.absences[&id].iter().any(|absence| absence.until == event_id);
                if !comes && event_id != 1 {
                    return Some(format!("event {event_id} of a conversation it is not in"));
                }
                self.joined.insert(id);
            }
            // On a live socket also one who was back at once.
            Some(shown)
                if (self.is_live() || *shown + 1 < event_id)
                    && self.absences[&id].iter().any(|it| it.until == event_id) =>
            {
                self.joined.insert(id);
            }
            // Perhaps the answer to an earlier try: of what was before, a socket of the guide is told nothing else.
            None if may_repeat => return None,
            None if event_id <= head => return Some(format!("event {event_id} is from before the socket")),
            _ => {}
        }
        self.shown.insert(id, event_id);
        self.came.entry(id).or_insert(event_id - 1);
        // Whoever came to it live is shown today's content of what was before.
        if self.is_live() && !self.joined.contains(&id) {
            let copy = comparable(frame, judge.clears_happen(id));
            let first = live.entry((id, event_id)).or_insert_with(|| copy.clone());
            if *first != copy {
                return Some(format!("another socket was shown event {event_id} as {first}"));
            }
        }
        None
    }

    /// What it is shown that it should not be: of the time when its user was out, or of what its user has cleared.
    fn leaked(&self, id: i64, event_id: i64, frame: &Value, judge: &Judge<'_>, is_old_answer: bool) -> Option<String> {
        if let Some(came) = self.came.get(&id) {
            let is_chat = matches!(self.session.endpoint, Endpoint::Chat { .. });
            let put_out = self.absences[&id].iter().find(|absence| {
                absence.from > *came && (absence.covers(event_id) || is_chat && event_id > absence.from)
            });
            if let Some(put_out) = put_out {
                return Some(format!("event {event_id} though its user was put out by event {}", put_out.from));
            }
        }
        let user_id = self.session.user_id;
        let cleared = judge.book.surely_cleared(id, user_id, self.knows);
        if !is_old_answer && subject_of(frame).is_some_and(|message_id| message_id <= cleared) {
            return Some(format!("event {event_id} is about what its user had cleared"));
        }
        let reply = &frame["message"]["reply_to"];
        let is_hidden = reply["id"].as_i64().is_some_and(|id| id <= cleared);
        if is_hidden && reply["content"] != "" {
            return Some(format!("event {event_id} shows an extract of what its user had cleared"));
        }
        let put_away = judge.book.clears(id, user_id).any(|clear| {
            // What others do later to what is hidden is not shown either.
            let is_later = judge.command_of(id, event_id).is_some_and(|command| Some(command.begun) > clear.answered);
            let is_about = subject_of(frame).is_some_and(|message_id| message_id <= clear.floor);
            clear.answered.is_some() && is_later && is_about
        });
        put_away.then(|| format!("event {event_id} is about what its user had cleared before"))
    }

    fn is_live(&self) -> bool {
        self.live_since.is_some()
    }

    /// Whether these events are none, or none that this socket is shown.
    fn may_skip(&self, judge: &Judge<'_>, id: i64, mut events: std::ops::Range<i64>, moment: Moment) -> bool {
        let is_guide_only = matches!(self.session.endpoint, Endpoint::Chat { opted_in: false, .. });
        let is_user = matches!(self.session.endpoint, Endpoint::User { .. });
        let rows = &judge.rows()[&id];
        let user_id = self.session.user_id;
        let came = self.came.get(&id).copied().unwrap_or(i64::MAX);
        events.all(|event_id| {
            let Some(row) = rows.event(event_id) else { return false };
            let is_opt_in = row.1 == TITLE || row.1.starts_with("participant_");
            let was_out = |absence: &Absence| absence.from > came && absence.covers(event_id);
            let is_hidden = judge.may_be_hidden_row(id, user_id, row, moment);
            is_guide_only && is_opt_in || is_hidden || is_user && self.absences[&id].iter().any(was_out)
        })
    }

    /// What is wrong with where a resume says that it has arrived.
    fn wrong_arrival(&mut self, frame: &Value, judge: &Judge<'_>, moment: Moment) -> Option<String> {
        let shown: Vec<(i64, i64)> = self.shown.iter().map(|(id, shown)| (*id, *shown)).collect();
        for (id, shown) in shown.into_iter().filter(|(id, _)| judge.rows().contains_key(id)) {
            let says = match &self.session.endpoint {
                Endpoint::User { .. } => frame["cursors"][id.to_string()].as_i64(),
                Endpoint::Chat { .. } | Endpoint::Notifications { .. } => frame["last_event_id"].as_i64(),
            };
            let came = self.came.get(&id).copied().unwrap_or(i64::MAX);
            let was_put_out = self.absences[&id].iter().any(|absence| absence.from > came);
            match says {
                // What is hidden is passed over, so that the end may be further on.
                Some(at) if at >= shown && self.may_skip(judge, id, shown + 1..at + 1, moment) => {
                    self.shown.insert(id, at);
                }
                None if was_put_out => {}
                _ => return Some(format!("resumed says {says:?} of conversation {id}, but it was shown {shown}")),
            }
        }
        None
    }

    /// What is wrong with the answer to a fresh token.
    fn wrong_renewal(&self, frame: &Value) -> Option<String> {
        let expires = frame["client_id"].as_str().and_then(|client_id| self.session.renewals.get(client_id));
        let Some(expires) = expires else { return Some("an auth_ok that nobody asked for".to_owned()) };
        let says: Option<jiff::Timestamp> = frame["expires_at"].as_str().and_then(|at| at.parse().ok());
        let is_right = says.is_some_and(|says| says.as_second() == *expires);
        (!is_right).then(|| format!("a token that expires at {expires} was taken as {frame}; it is {}", token::now()))
    }
}

impl Judge<'_> {
    /// Whether anybody clears a conversation, so that its replies differ from reader to reader.
    fn clears_happen(&self, id: i64) -> bool {
        self.book.clears.iter().any(|clear| clear.conversation_id == id)
    }
}

/// What tells a frame from others, without the texts.
fn brief(frame: &Value) -> String {
    let mut named: Vec<String> = Vec::new();
    let paths = ["type", "conversation_id", "event_id", "message_id", "message/id", "user/id", "client_id", "code"];
    for path in paths {
        if let Some(value) = frame.pointer(&format!("/{path}")) {
            named.push(format!("{path} {value}"));
        }
    }
    named.join(", ")
}

/// What is the same in every live copy of an event.
fn comparable(frame: &Value, is_cleared: bool) -> Value {
    let mut copy = frame.clone();
    if let Some(fields) = copy.as_object_mut() {
        fields.remove("client_id");
    }
    if is_cleared && let Some(content) = copy.pointer_mut("/message/reply_to/content") {
        *content = Value::Null;
    }
    copy
}
