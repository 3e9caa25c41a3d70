//! What every client of a run did and saw, for the judge; and what the clients share while it runs.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// What a command asks for. Each text is used once, so that a text tells which command wrote it.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Send { text: String, reply_to: Option<i64> },
    Edit { message_id: i64, text: String },
    Delete { message_id: i64 },
    React { message_id: i64, reaction: &'static str },
    Unreact { message_id: i64, reaction: &'static str },
    Read { message_id: i64 },
}

impl Body {
    pub fn frame(&self) -> Value {
        match self {
            Self::Send { text, reply_to } => json!({ "type": "chat_message", "message": text, "reply_to": reply_to }),
            Self::Edit { message_id, text } => {
                json!({ "type": "edit_message", "message_id": message_id, "message": text })
            }
            Self::Delete { message_id } => json!({ "type": "delete_message", "message_id": message_id }),
            Self::React { message_id, reaction } => {
                json!({ "type": "add_reaction", "message_id": message_id, "reaction": reaction })
            }
            Self::Unreact { message_id, reaction } => {
                json!({ "type": "remove_reaction", "message_id": message_id, "reaction": reaction })
            }
            Self::Read { message_id } => json!({ "type": "mark_read", "message_id": message_id }),
        }
    }

    /// The durable event that the command yields when it takes effect.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Send { .. } => Some("chat_message"),
            Self::Edit { .. } => Some("message_edited"),
            Self::Delete { .. } => Some("message_deleted"),
            Self::React { .. } => Some("reaction_added"),
            Self::Unreact { .. } => Some("reaction_removed"),
            Self::Read { .. } => None,
        }
    }
}

/// What a command was answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It took effect as this event. REST says the message alone.
    Event {
        event_id: Option<i64>,
        message_id: i64,
    },
    /// It changed no log: a state, or nothing new.
    State,
    Refused(String),
}

/// A command and all that came of it, over all its retries.
#[derive(Debug)]
pub struct Command {
    pub user_id: i64,
    pub conversation_id: i64,
    pub client_id: String,
    pub body: Body,
    pub attempts: usize,
    pub outcomes: Vec<Outcome>,
}

impl Command {
    pub fn is_answered(&self) -> bool {
        !self.outcomes.is_empty()
    }
}

/// What one socket was for.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoint {
    Chat {
        conversation_id: i64,
        since: Option<i64>,
        opted_in: bool,
    },
    /// With what it resumed from.
    User {
        cursors: HashMap<i64, i64>,
        notifications: i64,
    },
}

/// One socket from its handshake to its end.
#[derive(Debug)]
pub struct Session {
    pub device: usize,
    pub endpoint: Endpoint,
    /// The last event of each conversation that anybody had seen before this socket was opened.
    pub heads: HashMap<i64, i64>,
    pub frames: Vec<Value>,
    /// How often each command was sent on this socket, by `client_id`.
    pub sent: HashMap<String, usize>,
    /// How often of these after the replay had been seen.
    pub sent_late: HashMap<String, usize>,
    pub is_live: bool,
    /// Whether it was open and caught up when the run ended.
    pub has_survived: bool,
}

/// Everything that the clients of a run share.
#[derive(Default)]
pub struct Book {
    pub commands: Vec<Command>,
    pub by_client_id: HashMap<String, usize>,
    pub sessions: Vec<Session>,
    pub heads: HashMap<i64, i64>,
    /// What went wrong while the run was under way.
    pub faults: Vec<String>,
    /// What happened, to show that the run was worth its time.
    pub seen: BTreeSet<&'static str>,
    pub kills: usize,
    /// Changes of a title, which carry no `client_id`: how many were asked for, and how many answered.
    pub titles_tried: usize,
    pub titles_answered: usize,
}

#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Book>>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    pub fn add(&mut self, user_id: i64, conversation_id: i64, client_id: String, body: Body) -> usize {
        let index = self.commands.len();
        self.by_client_id.insert(client_id.clone(), index);
        let (attempts, outcomes) = (0, Vec::new());
        self.commands.push(Command { user_id, conversation_id, client_id, body, attempts, outcomes });
        index
    }

    /// Notes a frame on a session, and what it says of commands that were sent there.
    pub fn note(&mut self, session: usize, frame: Value) {
        if let (Some(conversation_id), Some(event_id)) = (frame["conversation_id"].as_i64(), frame["event_id"].as_i64())
        {
            let head = self.heads.entry(conversation_id).or_default();
            *head = event_id.max(*head);
        }
        if let Some(client_id) = frame["client_id"].as_str()
            && self.sessions[session].sent.contains_key(client_id)
            && let Some(command) = self.by_client_id.get(client_id)
            && let Some(outcome) = outcome(&frame)
        {
            self.commands[*command].outcomes.push(outcome);
        }
        let session = &mut self.sessions[session];
        let resumes_nothing = matches!(session.endpoint, Endpoint::Chat { since: None, .. });
        session.is_live |= frame["type"] == "resumed" || resumes_nothing && frame["type"] == "user_status";
        session.frames.push(frame);
    }
}

/// What a frame with a `client_id` answers; nothing where the command is to be tried again.
fn outcome(frame: &Value) -> Option<Outcome> {
    if frame["type"] == "error" {
        let code = frame["code"].as_str().unwrap_or("no code");
        let is_passing = matches!(code, "unavailable" | "rate_limited");
        return (!is_passing).then(|| Outcome::Refused(code.to_owned()));
    }
    let message_id = frame["message_id"].as_i64().or_else(|| frame["message"]["id"].as_i64());
    match (frame["event_id"].as_i64(), message_id) {
        (Some(event_id), Some(message_id)) => Some(Outcome::Event { event_id: Some(event_id), message_id }),
        _ => Some(Outcome::State),
    }
}
