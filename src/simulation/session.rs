//! What one client has been shown and has asked for, over all its connections, and whether that is as it must be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::book::Book;
use super::fold::Fold;
use super::world::Truth;

/// What a client connects to, and what it knows of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A chat socket that resumes with `since`.
    Chat,
    /// A chat socket of the connection guide alone.
    Guide,
    /// A user socket that resumes with cursors.
    User,
    /// A notifications socket that resumes with `since`.
    Notifications,
}

/// Under this key stands the position in the notifications.
pub const NOTIFICATIONS: i64 = 0;
/// How many answered commands are remembered, to be repeated.
const DONE_MAX: usize = 8;

/// A command of this client.
#[derive(Clone)]
pub struct Sent {
    pub client_id: String,
    pub frame: String,
    /// Whether it has been refused for the moment, on this connection.
    pub is_refused: bool,
}

/// One connection.
#[derive(Default)]
pub struct Connection {
    pub is_live: bool,
    sent: BTreeMap<String, u32>,
    /// Those sent before the replay had come to its end.
    early: BTreeSet<String>,
    answered: BTreeMap<String, u32>,
}

/// All that a client knows.
pub struct Session {
    pub index: u64,
    pub user_id: i64,
    pub kind: Kind,
    /// Whether its servers may know less than the store does.
    pub has_many_servers: bool,
    pub conversations: Vec<i64>,
    /// The last event it was shown, by conversation.
    pub shown: BTreeMap<i64, i64>,
    pub pending: Vec<Sent>,
    pub done: Vec<Sent>,
    /// How often each command has been sent over all.
    attempts: BTreeMap<String, u32>,
    pub own: BTreeSet<i64>,
    pub folds: BTreeMap<i64, Fold>,
    pub connection: Option<Connection>,
    /// Events that came as the answer to a repeated command and may come again in their turn.
    answered_ahead: BTreeSet<(i64, i64)>,
}

impl Session {
    pub fn new(index: u64, user_id: i64, kind: Kind, conversations: Vec<i64>, has_many_servers: bool) -> Self {
        Self {
            index,
            user_id,
            kind,
            has_many_servers,
            conversations,
            shown: BTreeMap::new(),
            pending: Vec::new(),
            done: Vec::new(),
            attempts: BTreeMap::new(),
            own: BTreeSet::new(),
            folds: BTreeMap::new(),
            connection: None,
            answered_ahead: BTreeSet::new(),
        }
    }

    fn opted_in(&self) -> bool {
        self.kind != Kind::Guide
    }

    /// Begins a connection.
    pub fn connect(&mut self) {
        // A client of the guide takes what comes from now on.
        if self.kind == Kind::Guide {
            self.shown.clear();
        }
        self.answered_ahead.clear();
        self.pending.iter_mut().for_each(|sent| sent.is_refused = false);
        self.connection = Some(Connection { is_live: self.kind == Kind::Guide, ..Connection::default() });
    }

    pub fn is_live(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_live)
    }

    /// Whether a command has been sent on this connection and not been refused.
    pub fn is_under_way(&self, sent: &Sent) -> bool {
        !sent.is_refused && self.connection.as_ref().is_some_and(|one| one.sent.contains_key(&sent.client_id))
    }

    /// Notes that a command is sent.
    pub fn send(&mut self, client_id: &str) {
        *self.attempts.entry(client_id.to_owned()).or_default() += 1;
        self.pending.iter_mut().filter(|sent| sent.client_id == client_id).for_each(|sent| sent.is_refused = false);
        let Some(connection) = &mut self.connection else { return };
        *connection.sent.entry(client_id.to_owned()).or_default() += 1;
        if !connection.is_live {
            connection.early.insert(client_id.to_owned());
        }
    }

    /// Takes in a frame, which must be the right one.
    pub fn take(&mut self, frame: &Value, book: &Book) {
        book.count(|totals| &mut totals.frames);
        let outcome = match frame["type"].as_str().unwrap_or_default() {
            "connected" | "pong" | "typing_indicator" | "user_status" | "message_status" => Ok(()),
            "message_read" if frame["client_id"].is_null() => Ok(()),
            "resumed" => self.resume(frame, book),
            "error" => self.be_refused(frame, book),
            "chat_message" | "message_edited" | "message_deleted" | "reaction_added" | "reaction_removed"
            | "message_read" => self.take_event(frame, book),
            "notification" | "notification_read" | "notification_deleted" => self.take_notification(frame),
            _ => Err("not called for".to_owned()),
        };
        if let Err(fault) = outcome {
            book.fault(format!("client {} was shown {frame}: {fault}", self.index));
        }
    }

    /// The replay is over: it must have come to where the server says.
    fn resume(&mut self, frame: &Value, book: &Book) -> Result<(), String> {
        book.count(|totals| &mut totals.resumes);
        let said = |key: i64| match self.kind {
            Kind::User if key == NOTIFICATIONS => frame["notifications"].as_i64(),
            Kind::User => frame["cursors"][key.to_string()].as_i64(),
            _ => frame["last_event_id"].as_i64(),
        };
        for id in &self.conversations {
            let shown = self.shown.get(id).copied().unwrap_or_default();
            if said(*id) != Some(shown) {
                return Err(format!("of {id} it was shown {shown}"));
            }
        }
        if matches!(self.kind, Kind::User | Kind::Notifications) {
            let last = said(NOTIFICATIONS).ok_or("it does not say where the notifications are")?;
            let shown = self.shown.entry(NOTIFICATIONS).or_default();
            if last < *shown {
                return Err(format!("of the notifications it was shown {shown}"));
            }
            *shown = last;
        }
        let connection = self.connection.as_mut().ok_or("nobody is connected")?;
        connection.is_live = true;
        Ok(())
    }

    fn be_refused(&mut self, frame: &Value, book: &Book) -> Result<(), String> {
        book.count(|totals| &mut totals.refused);
        let client_id = frame["client_id"].as_str().ok_or("no command of this client is that bad")?;
        self.count_answer(client_id)?;
        match frame["code"].as_str().unwrap_or_default() {
            "unavailable" => {
                self.pending
                    .iter_mut()
                    .filter(|sent| sent.client_id == client_id)
                    .for_each(|one| one.is_refused = true);
                Ok(())
            }
            // Somebody has deleted the message meanwhile.
            "not_found" => {
                self.pending.retain(|sent| sent.client_id != client_id);
                Ok(())
            }
            code => Err(format!("{code} is no answer to a good command")),
        }
    }

    fn count_answer(&mut self, client_id: &str) -> Result<(), String> {
        let connection = self.connection.as_mut().ok_or("nobody is connected")?;
        let sent = connection.sent.get(client_id).copied().unwrap_or_default();
        let answered = connection.answered.entry(client_id.to_owned()).or_default();
        *answered += 1;
        if *answered > sent {
            return Err(format!("it was sent {sent} times here and answered {answered} times"));
        }
        Ok(())
    }

    /// Takes a `client_id`: the answer to a command, or in a replay that of an own message. Whether it was an answer
    /// to a command that had been sent before.
    fn take_client_id(&mut self, client_id: &str) -> Result<bool, String> {
        let connection = self.connection.as_ref().ok_or("nobody is connected")?;
        let is_answer =
            connection.sent.contains_key(client_id) && (connection.is_live || connection.early.contains(client_id));
        if is_answer {
            self.count_answer(client_id)?;
        } else if connection.is_live {
            return Err("this `client_id` was not sent here".to_owned());
        }
        let is_repeat = self.attempts.get(client_id).is_some_and(|attempts| *attempts > 1);
        if is_answer && let Some(at) = self.pending.iter().position(|sent| sent.client_id == client_id) {
            self.done.push(self.pending.remove(at));
            if self.done.len() > DONE_MAX {
                self.done.remove(0);
            }
        }
        Ok(is_answer && is_repeat)
    }

    fn take_event(&mut self, frame: &Value, book: &Book) -> Result<(), String> {
        let conversation_id = frame["conversation_id"].as_i64().ok_or("it names no conversation")?;
        let client_id = frame["client_id"].as_str();
        let is_repeat = client_id.map(|client_id| self.take_client_id(client_id)).transpose()?.unwrap_or_default();
        let Some(event_id) = frame["event_id"].as_i64() else {
            return if client_id.is_some() { Ok(()) } else { Err("it has no event_id".to_owned()) };
        };
        let (is_opt_in, made_by) = book.entry(conversation_id, event_id).ok_or("it was told before it was stored")?;
        if let (Some(client_id), Some(made_by)) = (client_id, &made_by)
            && client_id != made_by
        {
            return Err(format!("that event answers command {made_by}"));
        }
        if is_opt_in && !self.opted_in() && client_id.is_none() {
            return Err("it is not for a client of the guide".to_owned());
        }
        let shown = self.shown.get(&conversation_id).copied();
        let is_next = match shown {
            None if self.opted_in() => book.is_next(conversation_id, (0, event_id), true),
            // A client of the guide begins anywhere, but not with what was before.
            None => !is_repeat,
            Some(shown) => book.is_next(conversation_id, (shown, event_id), self.opted_in()),
        };
        if !is_next {
            let is_again = self.answered_ahead.remove(&(conversation_id, event_id));
            return if is_repeat || is_again { Ok(()) } else { Err(format!("it comes after {shown:?}")) };
        }
        if is_repeat && self.has_many_servers {
            self.answered_ahead.insert((conversation_id, event_id));
        }
        self.shown.insert(conversation_id, event_id);
        self.folds.entry(conversation_id).or_default().take(frame);
        if frame["type"] == "chat_message" && frame["message"]["sender"]["id"] == self.user_id {
            self.own.extend(frame["message"]["id"].as_i64());
        }
        Ok(())
    }

    fn take_notification(&mut self, frame: &Value) -> Result<(), String> {
        let client_id = frame["client_id"].as_str();
        let is_repeat = client_id.map(|client_id| self.take_client_id(client_id)).transpose()?.unwrap_or_default();
        let Some(event_id) = frame["event_id"].as_i64() else { return Ok(()) };
        if is_repeat && self.has_many_servers {
            self.answered_ahead.insert((NOTIFICATIONS, event_id));
            return Ok(());
        }
        let shown = self.shown.entry(NOTIFICATIONS).or_default();
        if event_id <= *shown {
            return if is_repeat { Ok(()) } else { Err(format!("it comes after {shown}")) };
        }
        *shown = event_id;
        Ok(())
    }

    /// What is still to come before all is well.
    pub fn open_ends(&self, book: &Book) -> Vec<String> {
        let mut open = Vec::new();
        let Some(connection) = self.connection.as_ref().filter(|connection| connection.is_live) else {
            return vec![format!("client {} ({:?}) is not live", self.index, self.kind)];
        };
        for id in &self.conversations {
            let (shown, head) = (self.shown.get(id).copied(), book.head(*id));
            let is_there = match self.kind {
                Kind::Guide => shown.is_none_or(|shown| shown >= book.last_for_all(*id)),
                _ => shown.unwrap_or_default() == head,
            };
            if !is_there {
                open.push(format!("client {} ({:?}) has come to {shown:?} of {head}", self.index, self.kind));
            }
        }
        for (client_id, sent) in &connection.sent {
            let answered = connection.answered.get(client_id).copied().unwrap_or_default();
            if answered != *sent {
                open.push(format!("command {client_id} was sent {sent} times and answered {answered} times"));
            }
        }
        open.extend(self.pending.iter().map(|sent| format!("command {} has no answer", sent.client_id)));
        open
    }

    /// What this client makes of all it was shown, against what the store holds.
    pub fn differences(&self, truth: &Truth) -> Vec<String> {
        let mut all = Vec::new();
        for id in self.conversations.iter().filter(|_| self.opted_in()) {
            let empty = Fold::default();
            let own = self.folds.get(id).unwrap_or(&empty);
            let differences = own.differences(truth.folds.get(id).unwrap_or(&empty));
            let tell = |difference| format!("client {} has of a message: {difference}", self.index);
            all.extend(differences.into_iter().map(tell));
        }
        if matches!(self.kind, Kind::User | Kind::Notifications) {
            let ahead =
                self.answered_ahead.iter().filter(|(id, _)| *id == NOTIFICATIONS).map(|(_, event_id)| *event_id);
            let shown = ahead.chain(self.shown.get(&NOTIFICATIONS).copied()).max().unwrap_or_default();
            let last = truth.last.get(&-self.user_id).copied().unwrap_or_default();
            if shown < last {
                all.push(format!("client {} has come to {shown} of {last} notifications", self.index));
            }
        }
        all
    }
}
