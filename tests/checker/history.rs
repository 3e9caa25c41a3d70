//! What every client of a run did and saw, for the judge; and what the clients share while it runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

/// What a command asks for. Each text is used once, so that a text tells which command wrote it.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Send { text: String, reply_to: Option<i64>, attachment: Option<i64> },
    Edit { message_id: i64, text: String },
    Delete { message_id: i64 },
    React { message_id: i64, reaction: &'static str },
    Unreact { message_id: i64, reaction: &'static str },
    Read { message_id: i64 },
}

impl Body {
    pub fn frame(&self) -> Value {
        match self {
            Self::Send { text, reply_to, attachment } => json!({
                "type": "chat_message",
                "message": text,
                "reply_to": reply_to,
                "attachment_ids": attachment.as_slice(),
            }),
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

    /// The message that it is about, or replies to.
    pub fn names(&self) -> Option<i64> {
        match self {
            Self::Send { reply_to, .. } => *reply_to,
            Self::Edit { message_id, .. }
            | Self::Delete { message_id }
            | Self::React { message_id, .. }
            | Self::Unreact { message_id, .. }
            | Self::Read { message_id } => Some(*message_id),
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
    pub begun: Moment,
    pub attempts: usize,
    pub outcomes: Vec<Outcome>,
    /// When it was first refused.
    pub refused: Option<Moment>,
    /// Its user is out of the conversation for good, and can't ask any more what became of it.
    pub is_abandoned: bool,
}

impl Command {
    pub fn is_settled(&self) -> bool {
        !self.outcomes.is_empty() || self.is_abandoned
    }
}

/// The order in which things happened to the clients, across all of them.
pub type Moment = u64;

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
    Notifications {
        since: i64,
    },
}

/// One socket from its handshake to its end.
#[derive(Debug)]
pub struct Session {
    pub device: usize,
    pub user_id: i64,
    pub endpoint: Endpoint,
    pub is_slow: bool,
    pub opened: Moment,
    /// The last event of each conversation that anybody had seen before this socket was opened.
    pub heads: HashMap<i64, i64>,
    pub frames: Vec<Value>,
    /// When each frame came.
    pub moments: Vec<Moment>,
    pub last_frame_at: Option<Instant>,
    /// How often each command was sent on this socket, by `client_id`.
    pub sent: HashMap<String, usize>,
    /// How often of these after the replay had been seen.
    pub sent_late: HashMap<String, usize>,
    /// When it was sent here first.
    pub first_sent: HashMap<String, Moment>,
    pub is_live: bool,
    /// Fresh tokens shown on it: under which `client_id`, and when each expires, in seconds.
    pub renewals: HashMap<String, i64>,
    /// The code it was closed with by the server.
    pub closed: Option<u16>,
    /// When it was over, or had not come about.
    pub ended: Option<Moment>,
    /// Whether it was open and caught up when the run ended.
    pub has_survived: bool,
}

impl Session {
    pub fn new(device: usize, user_id: i64, endpoint: Endpoint) -> Self {
        Self {
            device,
            user_id,
            endpoint,
            is_slow: false,
            opened: 0,
            heads: HashMap::new(),
            frames: Vec::new(),
            moments: Vec::new(),
            last_frame_at: None,
            sent: HashMap::new(),
            sent_late: HashMap::new(),
            first_sent: HashMap::new(),
            is_live: false,
            renewals: HashMap::new(),
            closed: None,
            ended: None,
            has_survived: false,
        }
    }

    /// Whether it was there all the time between two moments.
    pub fn spans(&self, (from, until): (Moment, Moment)) -> bool {
        self.moments.first().is_some_and(|first| *first < from) && self.ended.is_none_or(|ended| ended > until)
    }

    /// Whether it may have been there between two moments.
    pub fn touches(&self, (from, until): (Moment, Moment)) -> bool {
        self.opened < until && self.ended.is_none_or(|ended| ended > from)
    }
}

/// Somebody was put into a group or taken out of it: what was asked for and surely came about.
#[derive(Clone, Debug)]
pub struct Step {
    pub conversation_id: i64,
    pub user_id: i64,
    pub is_added: bool,
    /// Nobody for the platform.
    pub by: Option<i64>,
}

/// Somebody cleared a 1:1.
#[derive(Clone, Debug)]
pub struct Clear {
    pub conversation_id: i64,
    pub user_id: i64,
    pub begun: Moment,
    pub answered: Option<Moment>,
    /// The newest message that anybody knew of before: it is hidden, and all before it.
    pub floor: i64,
}

/// The platform ended somebody's sessions.
#[derive(Clone, Debug)]
pub struct Revocation {
    pub user_id: i64,
    pub begun: Moment,
    pub answered: Option<Instant>,
}

/// A file that was uploaded and the name it has.
#[derive(Clone, Debug)]
pub struct Upload {
    pub id: i64,
    pub user_id: i64,
    pub text: String,
}

/// A command that marks notifications read, and the event each of its answers named.
#[derive(Clone, Debug)]
pub struct Mark {
    pub user_id: i64,
    pub client_id: String,
    /// Which; all where none is named.
    pub ids: Option<Vec<i64>>,
    pub answers: Vec<Option<i64>>,
}

/// A notification of the platform's to some people, with the status and body of each answer.
#[derive(Clone, Debug)]
pub struct Note {
    pub title: String,
    pub user_ids: Vec<i64>,
    pub key: String,
    pub answers: Vec<(u16, Value)>,
}

/// A conversation that somebody opens: a group with a title, or a 1:1 without.
#[derive(Clone, Debug)]
pub struct Opening {
    pub by: i64,
    pub key: String,
    pub title: Option<String>,
    pub people: Vec<i64>,
    pub answers: Vec<(u16, Value)>,
}

/// What tells a conversation from others: a title, or two people.
pub type PlaceOfOpening = (Option<String>, String);

impl Opening {
    pub fn place(&self) -> PlaceOfOpening {
        let people: Vec<String> = self.people.iter().map(i64::to_string).collect();
        (self.title.clone(), people.join(":"))
    }
}

/// Everything that the clients of a run share.
#[derive(Default)]
pub struct Book {
    now: Moment,
    pub commands: Vec<Command>,
    pub by_client_id: HashMap<String, usize>,
    pub sessions: Vec<Session>,
    pub heads: HashMap<i64, i64>,
    /// The newest message of each conversation that anybody knows of.
    pub newest: HashMap<i64, i64>,
    pub steps: Vec<Step>,
    /// The roles of a group's people in the end.
    pub roles: HashMap<i64, BTreeMap<i64, &'static str>>,
    /// Who is out of which conversation when the run ends.
    pub out_for_good: HashSet<(i64, i64)>,
    pub clears: Vec<Clear>,
    pub revocations: Vec<Revocation>,
    pub uploads: Vec<Upload>,
    pub marks: Vec<Mark>,
    pub mark_of: HashMap<String, usize>,
    pub notes: Vec<Note>,
    pub openings: Vec<Opening>,
    /// 1:1s that were there before.
    pub pairs: Vec<Vec<i64>>,
    /// Who is never there, and never marks anything read.
    pub silent: Vec<i64>,
    /// The time at the end in which nothing more happened: everything had been answered, everybody was there or not.
    pub quiet: (Moment, Moment),
    /// How many clients have something left to do.
    pub busy: usize,
    /// What went wrong while the run was under way.
    pub faults: Vec<String>,
    /// What happened, to show that the run was worth its time.
    pub seen: BTreeMap<&'static str, usize>,
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
    /// A moment after all before it.
    pub fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// Counts something that is worth telling of.
    pub fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, user_id: i64, conversation_id: i64, client_id: String, body: Body) -> usize {
        let index = self.commands.len();
        self.by_client_id.insert(client_id.clone(), index);
        let (begun, attempts, outcomes) = (self.tick(), 0, Vec::new());
        let (refused, is_abandoned) = (None, false);
        self.commands.push(Command {
            user_id,
            conversation_id,
            client_id,
            body,
            begun,
            attempts,
            outcomes,
            refused,
            is_abandoned,
        });
        index
    }

    /// Notes what a command was answered with.
    pub fn answer(&mut self, command: usize, outcome: Outcome) {
        let moment = self.tick();
        let command = &mut self.commands[command];
        if matches!(outcome, Outcome::Refused(_)) {
            command.refused.get_or_insert(moment);
        }
        command.outcomes.push(outcome);
    }

    pub fn mark(&mut self, mark: Mark) -> usize {
        self.mark_of.insert(mark.client_id.clone(), self.marks.len());
        self.marks.push(mark);
        self.marks.len() - 1
    }

    /// Notes that a socket is about to be opened.
    pub fn open(&mut self, mut session: Session) -> usize {
        session.opened = self.tick();
        session.heads = self.heads.clone();
        self.sessions.push(session);
        self.sessions.len() - 1
    }

    /// The clears of somebody in a conversation.
    pub fn clears(&self, conversation_id: i64, user_id: i64) -> impl Iterator<Item = &Clear> {
        let place = (conversation_id, user_id);
        self.clears.iter().filter(move |clear| (clear.conversation_id, clear.user_id) == place)
    }

    /// Up to which message a conversation was surely hidden from somebody at a moment.
    pub fn surely_cleared(&self, conversation_id: i64, user_id: i64, at: Moment) -> i64 {
        let clears = self.clears(conversation_id, user_id);
        let done = clears.filter(|clear| clear.answered.is_some_and(|answered| answered < at));
        done.map(|clear| clear.floor).max().unwrap_or_default()
    }

    /// Notes that a command is about to be sent on a session.
    pub fn send(&mut self, session: usize, client_id: &str) {
        let moment = self.tick();
        let session = &mut self.sessions[session];
        *session.sent.entry(client_id.to_owned()).or_default() += 1;
        *session.sent_late.entry(client_id.to_owned()).or_default() += usize::from(session.is_live);
        session.first_sent.entry(client_id.to_owned()).or_insert(moment);
    }

    /// Notes that a session is over.
    pub fn end(&mut self, session: usize) {
        let moment = self.tick();
        self.sessions[session].ended.get_or_insert(moment);
    }

    /// Notes a frame on a session, and what it says of commands that were sent there.
    pub fn note(&mut self, session: usize, frame: Value) {
        if let Some(conversation_id) = frame["conversation_id"].as_i64() {
            let at = |of: &mut HashMap<i64, i64>, id: Option<i64>| {
                if let Some(id) = id {
                    let known = of.entry(conversation_id).or_default();
                    *known = id.max(*known);
                }
            };
            at(&mut self.heads, frame["event_id"].as_i64());
            at(&mut self.newest, frame["message"]["id"].as_i64());
        }
        if let Some(client_id) = frame["client_id"].as_str()
            && self.sessions[session].sent.contains_key(client_id)
            && let Some(command) = self.by_client_id.get(client_id).copied()
            && let Some(outcome) = outcome(&frame)
        {
            self.answer(command, outcome);
        }
        if let Some(mark) = frame["client_id"].as_str().and_then(|client_id| self.mark_of.get(client_id))
            && frame["type"] == "notification_read"
        {
            self.marks[*mark].answers.push(frame["event_id"].as_i64());
        }
        let moment = self.tick();
        let session = &mut self.sessions[session];
        let resumes_nothing = matches!(session.endpoint, Endpoint::Chat { since: None, .. });
        session.is_live |= frame["type"] == "resumed" || resumes_nothing && frame["type"] == "user_status";
        session.frames.push(frame);
        session.moments.push(moment);
        session.last_frame_at = Some(Instant::now());
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

/// The parts of the contract that several judgements look up.
pub fn subject_of(frame: &Value) -> Option<i64> {
    frame["message_id"].as_i64().or_else(|| frame["message"]["id"].as_i64())
}

/// Whatever a set of names holds, to be printed.
pub fn listed(seen: &BTreeMap<&'static str, usize>) -> String {
    let named: BTreeSet<String> = seen.iter().map(|(what, count)| format!("{what} ({count})")).collect();
    named.into_iter().collect::<Vec<_>>().join(", ")
}
