//! What a client makes of the events it is shown: the state of a conversation, by the rules of the contract.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::database::Rows;

#[derive(Debug, Default, PartialEq)]
pub struct Fold {
    messages: BTreeMap<i64, Folded>,
    read: BTreeMap<i64, i64>,
    last_event_id: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Folded {
    content: String,
    edited_at: Value,
    is_deleted: bool,
    reactions: BTreeMap<i64, String>,
    attachments: Vec<i64>,
    sender_id: i64,
}

impl Fold {
    /// Takes a frame in. One whose event was taken in before is the answer to a repeated command and changes nothing.
    pub fn take(&mut self, frame: &Value) {
        let kind = frame["type"].as_str().unwrap_or_default();
        if kind == "message_read" {
            if let (Some(user_id), Some(message_id)) = (frame["read_by"]["id"].as_i64(), frame["message_id"].as_i64())
                && frame["unchanged"].is_null()
            {
                let cursor = self.read.entry(user_id).or_default();
                *cursor = message_id.max(*cursor);
            }
            return;
        }
        let Some(event_id) = frame["event_id"].as_i64().filter(|event_id| *event_id > self.last_event_id) else {
            return;
        };
        self.last_event_id = event_id;
        let id = frame["message_id"].as_i64().or_else(|| frame["message"]["id"].as_i64()).unwrap_or_default();
        let user_id = frame["reaction"]["user"]["id"].as_i64().unwrap_or_default();
        match kind {
            "chat_message" | "message_edited" => {
                self.messages.insert(id, Folded::new(&frame["message"]));
            }
            "message_deleted" => {
                let sender_id = frame["deleted_by"]["id"].as_i64().unwrap_or_default();
                let tombstone = Folded { is_deleted: true, sender_id, ..Folded::default() };
                self.messages.insert(id, tombstone);
            }
            "reaction_added" => {
                let name = frame["reaction"]["reaction"].as_str().unwrap_or_default().to_owned();
                self.messages.entry(id).or_default().reactions.insert(user_id, name);
            }
            "participant_added" => {
                // Whoever comes has read everything.
                let user_id = frame["user"]["id"].as_i64().unwrap_or_default();
                let last = self.messages.iter().rev().find(|(_, message)| message.sender_id != user_id);
                if let Some((last, _)) = last {
                    let cursor = self.read.entry(user_id).or_default();
                    *cursor = (*last).max(*cursor);
                }
            }
            "reaction_removed" => {
                self.messages.entry(id).or_default().reactions.remove(&user_id);
            }
            _ => {}
        }
    }

    /// Forgets what somebody who cleared the conversation does not see any more.
    pub fn clear(&mut self, up_to: i64) {
        self.messages.retain(|id, _| *id > up_to);
    }

    /// Forgets those who are in it no longer.
    pub fn keep(&mut self, rows: &Rows) {
        let present = rows.read_up_to();
        self.read.retain(|user_id, _| present.contains_key(user_id));
    }

    /// Takes in a message as REST has it.
    pub fn take_message(&mut self, message: &Value) {
        self.messages.insert(message["id"].as_i64().unwrap_or_default(), Folded::new(message));
    }

    /// Takes in a participant as REST has it.
    pub fn take_participant(&mut self, participant: &Value) {
        let up_to = participant["read_up_to"].as_i64().filter(|up_to| *up_to > 0);
        if let (Some(user_id), Some(up_to)) = (participant["user"]["id"].as_i64(), up_to) {
            self.read.insert(user_id, up_to);
        }
    }

    /// The first thing that differs from another's state.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let ids = self.messages.keys().chain(other.messages.keys());
        for id in ids {
            let (ours, theirs) = (self.messages.get(id), other.messages.get(id));
            if ours != theirs {
                return Some(format!("message {id} is {ours:?} instead of {theirs:?}"));
            }
        }
        let theirs = other.read.iter().find(|(user_id, up_to)| self.read.get(user_id) != Some(up_to));
        theirs.map(|(user_id, up_to)| format!("{user_id} has read {:?} instead of {up_to}", self.read.get(user_id)))
    }

    /// What differs from the rows of the store, of which messages up to one are not shown.
    pub fn compare_rows(&self, rows: &Rows, cleared_up_to: i64) -> Option<String> {
        if let Some((id, _)) = self.messages.range(..=cleared_up_to).next() {
            return Some(format!("message {id} was cleared"));
        }
        for row in rows.messages.values().filter(|row| row.id > cleared_up_to) {
            let ours = self.messages.get(&row.id);
            let is_same = ours.is_some_and(|ours| {
                ours.content == row.content
                    && ours.is_deleted == row.deleted_at.is_some()
                    && ours.edited_at.is_null() == row.edited_at.is_none()
                    && ours.attachments == rows.attachments.get(&row.id).cloned().unwrap_or_default()
            });
            if !is_same {
                return Some(format!("message {} is {ours:?}", row.id));
            }
        }
        let reactions = self
            .messages
            .iter()
            .flat_map(|(id, message)| message.reactions.iter().map(|(user_id, name)| (*id, *user_id, name.clone())));
        let stored = rows.reactions.iter().filter(|(id, ..)| *id > cleared_up_to).cloned();
        if reactions.collect::<BTreeSet<_>>() != stored.collect::<BTreeSet<_>>() {
            return Some("the reactions differ".to_owned());
        }
        let read: BTreeMap<i64, i64> = rows.read_up_to().into_iter().filter(|(_, up_to)| *up_to > 0).collect();
        (read != self.read).then(|| format!("read cursors are {:?} instead of {read:?}", self.read))
    }
}

impl Folded {
    fn new(message: &Value) -> Self {
        let reactions = message["reactions"].as_array().into_iter().flatten();
        let reaction =
            |reaction: &Value| Some((reaction["user"]["id"].as_i64()?, reaction["reaction"].as_str()?.to_owned()));
        Self {
            content: message["content"].as_str().unwrap_or_default().to_owned(),
            edited_at: message["edited_at"].clone(),
            is_deleted: message["is_deleted"] == true,
            reactions: reactions.filter_map(reaction).collect(),
            attachments: message["attachments"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|it| it["id"].as_i64())
                .collect(),
            sender_id: message["sender"]["id"].as_i64().unwrap_or_default(),
        }
    }
}
