//! What somebody cleared is hidden from that one on all ways, and from nobody else.

use super::Judge;
use super::commands::tell;
use crate::database::Rows;
use crate::history::{Clear, Command, Moment, Opening, Outcome};

type LogRow = (i64, String, i64, i64);

/// Up to which message a conversation is hidden from somebody in the end.
pub fn cleared_up_to(rows: &Rows, user_id: i64) -> i64 {
    rows.participants.get(&user_id).map_or(0, |row| row.cleared_up_to)
}

/// Whether a row of the log is about a message that is hidden.
pub fn is_hidden((_, kind, subject, _): &LogRow, cleared_up_to: i64) -> bool {
    (kind.starts_with("message_") || kind == "chat_message" || kind.starts_with("reaction_"))
        && *subject <= cleared_up_to
}

impl Judge<'_> {
    /// Whether a message may have been hidden from somebody at a moment: a clear had begun that was not answered before
    /// the message was sent.
    pub(super) fn may_be_hidden(&self, conversation_id: i64, user_id: i64, message_id: i64, at: Moment) -> bool {
        let rows = &self.rows()[&conversation_id];
        let row = rows.messages.get(&message_id);
        let sent = row.and_then(|row| self.command_of(conversation_id, row.event_id)).map_or(0, |it| it.begun);
        let is_early = |clear: &Clear| clear.begun < at && clear.answered.is_none_or(|answered| sent < answered);
        message_id <= cleared_up_to(rows, user_id) && self.book.clears(conversation_id, user_id).any(is_early)
    }

    /// The same of what a row of the log is about.
    pub(super) fn may_be_hidden_row(&self, conversation_id: i64, user_id: i64, row: &LogRow, at: Moment) -> bool {
        is_hidden(row, i64::MAX) && self.may_be_hidden(conversation_id, user_id, row.2, at)
    }

    /// The command that an event of the log is.
    pub(super) fn command_of(&self, conversation_id: i64, event_id: i64) -> Option<&Command> {
        self.claimed.get(&(conversation_id, event_id)).map(|index| &self.book.commands[*index])
    }

    /// Whoever has cleared a conversation finds nothing of what came before, and only they.
    pub(super) fn judge_named(&mut self, command: &Command) {
        let Some(message_id) = command.body.names() else { return };
        let hidden = self.book.surely_cleared(command.conversation_id, command.user_id, command.begun);
        let is_refused = |outcome: &Outcome| *outcome == Outcome::Refused("not_found".to_owned());
        if message_id <= hidden && !command.outcomes.iter().all(is_refused) {
            self.blame(format!("answered though its user had cleared what it is about: {}", tell(command)));
        }
    }

    pub(super) fn judge_clearing(&mut self) {
        for (id, rows) in self.rows() {
            for row in rows.participants.values() {
                let (surely, stored) = (self.book.surely_cleared(*id, row.user_id, Moment::MAX), row.cleared_up_to);
                if stored < surely || stored > 0 && !self.may_be_hidden(*id, row.user_id, stored, Moment::MAX) {
                    self.blame(format!("conversation {id}: {row:?}, but cleared up to {surely} at least"));
                }
            }
        }
        for ((id, user_id), conversation) in &self.evidence.conversations {
            let rows = &self.rows()[id];
            let Some(own) = rows.participants.get(user_id) else { continue };
            let hidden = own.cleared_up_to;
            let passed = own.read_up_to.max(hidden);
            let unread = rows
                .messages
                .values()
                .filter(|row| row.id > passed && row.sender_id != *user_id && row.deleted_at.is_none());
            // Exact up to 1,000.
            let unread = unread.count().min(1_000);
            if conversation["unread_count"] != unread {
                let says = &conversation["unread_count"];
                self.blame(format!("conversation {id}: {user_id} has {unread} unread messages, but is told {says}"));
            }
            let last = rows.messages.keys().next_back().copied().filter(|last| *last > hidden);
            if conversation["last_message"]["id"].as_i64() != last {
                let says = &conversation["last_message"];
                self.blame(format!(
                    "conversation {id}: the last message for {user_id} is {last:?}, but REST says {says}"
                ));
            }
            let is_listed = self.evidence.listed[user_id].contains(id);
            // One that was cleared is back in the list with its next message, or when it is opened again.
            let reopens =
                |opening: &Opening| opening.by == *user_id && opening.answers.iter().any(|(_, it)| it["id"] == *id);
            let may_be_listed = last.is_some() || self.book.openings.iter().any(reopens);
            if is_listed != (last.is_some() || hidden == 0) && !(is_listed && may_be_listed) {
                self.blame(format!("conversation {id}: whether it is in the list of {user_id} is {is_listed}"));
            }
        }
        for (user_id, found) in &self.evidence.found {
            for (id, message_id) in found {
                let Some(rows) = self.rows().get(id) else { continue };
                if *message_id <= cleared_up_to(rows, *user_id) || !rows.read_up_to().contains_key(user_id) {
                    self.blame(format!("conversation {id}: {user_id} finds the message {message_id}, which is hidden"));
                }
            }
        }
        self.judge_extracts();
    }

    /// A reply shows what it replies to as it is today, and nothing of what its reader has cleared.
    fn judge_extracts(&mut self) {
        for ((id, user_id), frames) in &self.evidence.fresh {
            let rows = &self.rows()[id];
            let hidden = cleared_up_to(rows, *user_id);
            for frame in frames {
                let reply = &frame["message"]["reply_to"];
                let Some(replied) = reply["id"].as_i64().and_then(|id| rows.messages.get(&id)) else { continue };
                let content = if replied.id <= hidden { "" } else { replied.content.as_str() };
                if reply["content"] != content {
                    let event = &frame["event_id"];
                    self.blame(format!("conversation {id}: {user_id} is shown the reply {event} with another extract"));
                }
            }
        }
    }
}
