//! A simulated client: what it has been shown, what it has asked for, and whether that is as it should be.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use tidings::hub::{Outbox, Seat};

use super::world::{Command, Entry};

/// A client with its connection, if it has one.
pub struct Socket {
    pub server: usize,
    /// Counts its connections: what was planned for an earlier one is void.
    pub life: u32,
    /// Whether it resumes and sees opt-in events; otherwise it is a client of the guide alone.
    pub opted_in: bool,
    /// How many milliseconds one write takes.
    pub pace: u64,
    pub connection: Option<Connection>,
    /// The last event it was shown or, as a client of the guide, passed over.
    pub shown: Option<i64>,
    /// Its commands that no answer has come for.
    pub unanswered: Vec<usize>,
}

pub struct Connection {
    // Before the outbox, as a connection's seats go before the rest of it.
    pub seat: Seat,
    pub outbox: Arc<Outbox>,
    pub position: i64,
    pub is_live: bool,
    /// How often each command was sent on this connection, and how often answered.
    pub sent: HashMap<usize, u32>,
    pub answered: HashMap<usize, u32>,
}

impl Socket {
    pub fn new(opted_in: bool, pace: u64) -> Self {
        Self { server: 0, life: 0, opted_in, pace, connection: None, shown: None, unanswered: Vec::new() }
    }

    /// Takes in a frame, which must be the right one.
    pub fn show(&mut self, frame: &[u8], log: &[Entry], commands: &[Command]) {
        let frame: Value = serde_json::from_slice(frame).expect("a frame is JSON");
        let event_id = frame["event_id"].as_i64().expect("a frame has an event_id");
        let entry = log.get(event_id as usize - 1);
        let entry = entry.unwrap_or_else(|| panic!("event {event_id} was told before it was stored"));
        if let Some(client_id) = frame["client_id"].as_str() {
            self.take_answer(client_id.parse().expect("a client_id of this simulation"), entry, commands);
        }
        if frame["repeated"] == true {
            return;
        }
        let shown = self.shown.expect("a connection knows where it begins");
        assert!(event_id > shown, "event {event_id} came after {shown}");
        let missing = shown + 1..event_id;
        let is_gap = |id: i64| self.opted_in || !log[id as usize - 1].is_opt_in;
        assert!(!missing.clone().any(is_gap), "event {event_id} came after {shown}: a gap");
        assert!(self.opted_in || !entry.is_opt_in || frame["client_id"].is_string(), "an opt-in event was shown");
        self.shown = Some(event_id);
    }

    fn take_answer(&mut self, command: usize, entry: &Entry, commands: &[Command]) {
        let connection = self.connection.as_mut().expect("a connection");
        let sent = connection.sent.get(&command).copied().unwrap_or_default();
        let answered = connection.answered.entry(command).or_default();
        *answered += 1;
        assert!(*answered <= sent, "command {command} was answered {answered} times and sent {sent} times here");
        assert_eq!(entry.command, command, "the answer to a command is another command's event");
        assert!(commands[command].event_id.is_some());
        self.unanswered.retain(|other| *other != command);
    }

    /// Checks, when all is quiet, that nothing is left to come.
    pub fn conclude(&self, log: &[Entry]) {
        let connection = self.connection.as_ref().expect("everybody is connected in the end");
        assert!(connection.is_live, "a socket never became live");
        let shown = self.shown.unwrap_or_default();
        let is_missing = |entry: &&Entry| self.opted_in || !entry.is_opt_in;
        let missing = log[shown as usize..].iter().find(is_missing);
        assert!(missing.is_none(), "a socket stopped at {shown} of {}", log.len());
        for (command, sent) in &connection.sent {
            let answered = connection.answered.get(command).copied().unwrap_or_default();
            assert_eq!(answered, *sent, "command {command} was sent {sent} times and answered {answered} times");
        }
        assert!(self.unanswered.is_empty(), "commands without an answer: {:?}", self.unanswered);
    }
}
