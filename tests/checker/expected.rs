//! What a conversation must hold: what its commands, in the order of their events, make of nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::{MessageRow, Rows};
use crate::history::{Body, Command, Outcome};

#[derive(Default)]
pub struct Expected {
    messages: BTreeMap<i64, Message>,
    /// The reaction to a message by a user.
    reactions: BTreeMap<(i64, i64), &'static str>,
    /// How far each user has read.
    read: BTreeMap<i64, i64>,
}

#[derive(Debug, Default, PartialEq)]
struct Message {
    content: String,
    is_edited: bool,
    is_deleted: bool,
    attachments: Vec<i64>,
}

/// The event that a command became, where it became one. Somebody who is put out before the answer arrives is told
/// nothing; what became of their command the rows tell.
pub fn event_of(command: &Command, rows: &Rows) -> Option<i64> {
    let answered = command.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Event { event_id: Some(event_id), .. } => Some(*event_id),
        Outcome::Event { event_id: None, message_id } => rows.messages.get(message_id).map(|row| row.event_id),
        _ => None,
    });
    let stored = || rows.uses.get(&(command.user_id, command.client_id.clone())).copied();
    answered.or_else(|| stored().filter(|_| comes_and_goes(command.user_id, rows)))
}

/// Whether somebody has been put out of a conversation at least once.
pub fn comes_and_goes(user_id: i64, rows: &Rows) -> bool {
    rows.log.iter().any(|(_, kind, subject, _)| kind.starts_with("participant_") && *subject == user_id)
}

impl Expected {
    /// The outcome of a conversation's commands. The log and the ids of messages are taken from the rows.
    pub fn new(conversation_id: i64, commands: &[Command], rows: &Rows) -> Self {
        let mut expected = Self::default();
        let mut effects: Vec<(i64, &Command)> = Vec::new();
        for command in commands.iter().filter(|command| command.conversation_id == conversation_id) {
            effects.extend(event_of(command, rows).map(|event_id| (event_id, command)));
            if let Body::Read { message_id } = &command.body
                && command.outcomes.contains(&Outcome::State)
            {
                expected.read(command.user_id, *message_id, rows);
            }
        }
        for (event_id, _, user_id, _) in rows.log.iter().filter(|(_, kind, ..)| kind == "participant_added") {
            // Whoever comes has read everything.
            let last = rows.messages.values().rev().find(|row| row.event_id < *event_id);
            if let Some(last) = last {
                expected.read(*user_id, last.id, rows);
            }
        }
        effects.sort_by_key(|(event_id, _)| *event_id);
        for (event_id, command) in effects {
            expected.carry_out(event_id, command, rows);
        }
        expected
    }

    /// A cursor moves forward to the last message of somebody else.
    fn read(&mut self, user_id: i64, message_id: i64, rows: &Rows) {
        let others = rows.messages.range(..=message_id).rev().map(|(_, row)| row);
        let last = others.into_iter().find(|row| row.sender_id != user_id);
        let cursor = self.read.entry(user_id).or_default();
        *cursor = last.map_or(0, |row| row.id).max(*cursor);
    }

    fn carry_out(&mut self, event_id: i64, command: &Command, rows: &Rows) {
        match &command.body {
            Body::Send { text, attachment, .. } => {
                let attachments = attachment.iter().copied().collect();
                let message = Message { content: text.clone(), attachments, ..Message::default() };
                if let Some(row) = rows.log.get(event_id as usize - 1) {
                    self.messages.insert(row.2, message);
                }
            }
            Body::Edit { message_id, text } => {
                let message = self.messages.entry(*message_id).or_default();
                message.content = text.clone();
                message.is_edited = true;
            }
            Body::Delete { message_id } => {
                let tombstone = Message { is_deleted: true, ..Message::default() };
                self.messages.insert(*message_id, tombstone);
                self.reactions.retain(|(message, _), _| message != message_id);
            }
            Body::React { message_id, reaction } => {
                self.reactions.insert((*message_id, command.user_id), reaction);
            }
            Body::Unreact { message_id, .. } => {
                self.reactions.remove(&(*message_id, command.user_id));
            }
            Body::Read { .. } => {}
        }
    }

    /// What the rows have otherwise.
    pub fn differences(&self, rows: &Rows) -> Vec<String> {
        let mut differences = Vec::new();
        let stored: BTreeMap<i64, Message> =
            rows.messages.values().map(|row| (row.id, Message::new(row, rows))).collect();
        let ids: BTreeSet<&i64> = stored.keys().chain(self.messages.keys()).collect();
        if let Some(id) = ids.into_iter().find(|id| stored.get(id) != self.messages.get(id)) {
            let (stored, expected) = (stored.get(id), self.messages.get(id));
            differences.push(format!("message {id} is {stored:?}, but the commands made {expected:?}"));
        }
        let named = self.reactions.iter().map(|((message, user), name)| (*message, *user, (*name).to_owned()));
        let named: BTreeSet<(i64, i64, String)> = named.collect();
        if let Some(differs) = named.symmetric_difference(&rows.reactions).next() {
            differences.push(format!("reactions are not what the commands made: {differs:?}"));
        }
        for (user_id, up_to) in rows.read_up_to() {
            let expected = self.read.get(&user_id).copied().unwrap_or_default();
            if expected != up_to {
                differences.push(format!("{user_id} has read up to {up_to} instead of {expected}"));
            }
        }
        differences
    }
}

impl Message {
    fn new(row: &MessageRow, rows: &Rows) -> Self {
        Self {
            content: row.content.clone(),
            is_edited: row.edited_at.is_some(),
            is_deleted: row.deleted_at.is_some(),
            attachments: rows.attachments.get(&row.id).cloned().unwrap_or_default(),
        }
    }
}
