//! What somebody cleared is hidden from that one on all ways, and from nobody else.

use super::Judge;
use crate::database::Rows;
use crate::history::{Clear, Moment, Opening};

/// Up to which message a conversation is hidden from somebody in the end.
pub fn cleared_up_to(rows: &Rows, user_id: i64) -> i64 {
    rows.participants.get(&user_id).map_or(0, |row| row.cleared_up_to)
}

/// Whether a row of the log is about a message that is hidden.
pub fn is_hidden((_, kind, subject, _): &(i64, String, i64, i64), cleared_up_to: i64) -> bool {
    (kind.starts_with("message_") || kind == "chat_message" || kind.starts_with("reaction_"))
        && *subject <= cleared_up_to
}

impl Judge<'_> {
    /// The clears of somebody in a conversation.
    pub(super) fn clears(&self, conversation_id: i64, user_id: i64) -> impl Iterator<Item = &Clear> {
        let place = (conversation_id, user_id);
        self.book.clears.iter().filter(move |clear| (clear.conversation_id, clear.user_id) == place)
    }

    /// Up to which message a conversation was surely hidden from somebody at a moment.
    pub(super) fn surely_cleared(&self, conversation_id: i64, user_id: i64, at: Moment) -> i64 {
        let clears = self.clears(conversation_id, user_id);
        let done = clears.filter(|clear| clear.answered.is_some_and(|answered| answered < at));
        done.map(|clear| clear.floor).max().unwrap_or_default()
    }

    /// Up to which message it may have been hidden then.
    pub(super) fn perhaps_cleared(&self, conversation_id: i64, user_id: i64, at: Moment) -> i64 {
        let has_begun = self.clears(conversation_id, user_id).any(|clear| clear.begun < at);
        if has_begun { cleared_up_to(&self.rows()[&conversation_id], user_id) } else { 0 }
    }

    pub(super) fn judge_clearing(&mut self) {
        for (id, rows) in self.rows() {
            for row in rows.participants.values() {
                let surely = self.surely_cleared(*id, row.user_id, Moment::MAX);
                let at_most = self.perhaps_cleared(*id, row.user_id, Moment::MAX);
                if row.cleared_up_to < surely || row.cleared_up_to > at_most {
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
            let unread = unread.count();
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
