//! Every command was answered, always with the same; the log holds what was answered, each thing once, and nothing else.

use std::collections::BTreeMap;

use super::{Judge, TITLE};
use crate::database::Rows;
use crate::expected::{Expected, comes_and_goes, event_of};
use crate::history::{Body, Command, Outcome};

impl Judge<'_> {
    pub(super) fn judge_commands(&mut self) {
        let mut claimed: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        let mut taken: BTreeMap<i64, usize> = BTreeMap::new();
        let mut without_event = Vec::new();
        for (index, command) in self.book.commands.iter().enumerate() {
            let rows = &self.rows()[&command.conversation_id];
            self.judge_named(command);
            if command.outcomes.is_empty() && !command.is_abandoned {
                self.blame(format!("never answered: {}", tell(command)));
                continue;
            }
            let Some(event_id) = event_of(command, rows) else {
                without_event.push(command);
                continue;
            };
            self.judge_outcomes(command, event_id, rows);
            if let Some(other) = claimed.insert((command.conversation_id, event_id), index) {
                let other = &self.book.commands[other];
                self.blame(format!("one event answered two commands: {} and {}", tell(command), tell(other)));
            }
            if let Body::Send { attachment: Some(attachment), .. } = command.body
                && let Some(other) = taken.insert(attachment, index)
            {
                let other = &self.book.commands[other];
                self.blame(format!("two messages took one attachment: {} and {}", tell(command), tell(other)));
            }
        }
        self.judge_unclaimed(&claimed);
        self.claimed = claimed;
        for command in without_event {
            if !self.may_be_without_event(command, &self.rows()[&command.conversation_id]) {
                self.blame(format!("answered with what the log does not have: {}", tell(command)));
            }
        }
    }

    /// All answers say the same, and what the log has.
    fn judge_outcomes(&mut self, command: &Command, event_id: i64, rows: &Rows) {
        let row = rows.event(event_id);
        let message_id = row.map(|(_, _, message_id, _)| *message_id);
        // Whoever is out is not told of what was before.
        let may_be_out = comes_and_goes(command.user_id, rows);
        for outcome in &command.outcomes {
            let is_same = match outcome {
                Outcome::Event { event_id: Some(id), message_id: message } => {
                    *id == event_id && Some(*message) == message_id
                }
                Outcome::Event { event_id: None, message_id: message } => Some(*message) == message_id,
                Outcome::Refused(code) => code == "not_found" && may_be_out,
                Outcome::State => false,
            };
            if !is_same {
                self.blame(format!("answered with different things: {}", tell(command)));
            }
        }
        let is_right = row
            .is_some_and(|(_, kind, _, actor)| Some(kind.as_str()) == command.body.kind() && *actor == command.user_id);
        if !is_right {
            self.blame(format!("event {event_id} of the log is {row:?}, but answered {}", tell(command)));
        }
    }

    /// Whether a command may have come to nothing.
    fn may_be_without_event(&self, command: &Command, rows: &Rows) -> bool {
        let may_be_out = comes_and_goes(command.user_id, rows);
        let is_deleted = |message_id| rows.messages.get(&message_id).is_some_and(|row| row.deleted_at.is_some());
        let is_hidden = |message_id| {
            let refused = command.refused.unwrap_or_default();
            self.may_be_hidden(command.conversation_id, command.user_id, message_id, refused)
        };
        let may_be_refused = may_be_out
            || command.body.names().is_some_and(is_hidden)
            || match command.body {
                // Only one message takes an attachment.
                Body::Send { attachment, .. } => attachment.is_some_and(|id| self.is_taken(id)),
                Body::Edit { message_id, .. } | Body::React { message_id, .. } | Body::Unreact { message_id, .. } => {
                    is_deleted(message_id)
                }
                Body::Delete { .. } | Body::Read { .. } => false,
            };
        let may = |outcome: &Outcome| match outcome {
            Outcome::State => !matches!(command.body, Body::Send { .. }),
            Outcome::Refused(code) => code == "not_found" && may_be_refused,
            Outcome::Event { .. } => false,
        };
        let is_same = command.outcomes.iter().all(|outcome| Some(outcome) == command.outcomes.first());
        (is_same || may_be_out) && command.outcomes.iter().all(may)
    }

    /// Whether some message has an attachment, or had it.
    pub(super) fn is_taken(&self, attachment: i64) -> bool {
        self.book.commands.iter().any(|command| {
            matches!(command.body, Body::Send { attachment: Some(id), .. } if id == attachment)
                && event_of(command, &self.rows()[&command.conversation_id]).is_some()
        })
    }

    fn judge_unclaimed(&mut self, claimed: &BTreeMap<(i64, i64), usize>) {
        let titles = self.rows().values().flat_map(|rows| &rows.log).filter(|row| row.1 == TITLE).count();
        if !(self.book.titles_answered..=self.book.titles_tried).contains(&titles) {
            self.blame(format!("the log has {titles} changes of a title; {} were answered", self.book.titles_answered));
        }
        for (id, rows) in self.rows() {
            let of_commands = rows.log.iter().filter(|row| row.1 != TITLE && !row.1.starts_with("participant_"));
            for row in of_commands {
                if !claimed.contains_key(&(*id, row.0)) {
                    self.blame(format!("conversation {id}: nobody was answered with the event {row:?}"));
                }
            }
        }
    }

    /// The rows are what the commands, in the order of their events, make of nothing.
    pub(super) fn judge_state(&mut self) {
        for (id, rows) in self.rows() {
            let expected = Expected::new(*id, &self.book.commands, rows);
            for difference in expected.differences(rows) {
                self.blame(format!("conversation {id}: {difference}"));
            }
        }
    }
}

pub(super) fn tell(command: &Command) -> String {
    let mut text = format!("{command:?}");
    if text.len() > 400 {
        text.truncate((0..=400).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default());
    }
    text
}
