//! Judges a run: what the store holds against what was answered, every socket's events against the log, and what
//! each client can make of them against what a newcomer is shown. A file for each group of judgements.

mod attachments;
mod clearing;
mod commands;
mod folds;
mod membership;
mod notifications;
mod openings;
mod settled;
mod sockets;

use std::collections::{BTreeMap, HashMap};

use crate::database::Rows;
use crate::evidence::Evidence;
use crate::history::Book;
pub use notifications::Folded;
use sockets::Watch;

/// What is left of a run to be judged.
pub struct Judge<'a> {
    pub book: &'a Book,
    pub evidence: &'a Evidence,
    /// Which command each event of a conversation's log is.
    claimed: BTreeMap<(i64, i64), usize>,
    pub violations: Vec<String>,
}

/// The event of a title, which has no command with a `client_id`.
const TITLE: &str = "conversation_updated";
/// How often the same kind of thing is told.
const TOLD_MAX: usize = 25;

impl<'a> Judge<'a> {
    pub fn new(book: &'a Book, evidence: &'a Evidence) -> Self {
        Self { book, evidence, claimed: BTreeMap::new(), violations: Vec::new() }
    }

    pub fn judge(&mut self) {
        self.judge_log();
        self.judge_commands();
        self.judge_state();
        self.judge_membership();
        self.judge_clearing();
        self.judge_attachments();
        self.judge_openings();
        self.judge_notifications();
        let mut live = HashMap::new();
        for (index, session) in self.book.sessions.iter().enumerate() {
            Watch::new(self, index, session).judge(self, &mut live);
        }
        self.judge_folds();
        self.judge_settled();
        self.violations.extend(self.book.faults.iter().take(TOLD_MAX).cloned());
    }

    fn rows(&self) -> &'a BTreeMap<i64, Rows> {
        &self.evidence.rows
    }

    fn blame(&mut self, text: String) {
        if self.violations.len() < TOLD_MAX {
            self.violations.push(text);
        }
    }

    /// The log is dense, messages stand where it says, and a newcomer is shown all of it in this order.
    fn judge_log(&mut self) {
        for (id, rows) in self.rows() {
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
        }
        for ((id, user_id), frames) in &self.evidence.fresh {
            let rows = &self.rows()[id];
            let cleared_up_to = clearing::cleared_up_to(rows, *user_id);
            let visible = rows.log.iter().filter(|row| !clearing::is_hidden(row, cleared_up_to));
            let visible: Vec<i64> = visible.map(|(event_id, ..)| *event_id).collect();
            let shown: Vec<i64> = frames.iter().filter_map(|frame| frame["event_id"].as_i64()).collect();
            if shown != visible {
                self.blame(format!("conversation {id}: {user_id} as a newcomer is not shown the log, but {shown:?}"));
            }
        }
    }
}
