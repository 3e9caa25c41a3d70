//! A conversation as a client keeps it: loaded over REST, then changed by events alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a participant sees of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// By id, as the server renders them, but for the reactions, which are in the order of their users.
    pub messages: BTreeMap<i64, Value>,
    /// How far each participant has read.
    pub read_up_to: BTreeMap<i64, i64>,
}

impl Snapshot {
    /// Takes a message as it is shown, from a page or from an event.
    pub fn put(&mut self, message: &Value) {
        let (id, mut message) = (number(&message["id"]), message.clone());
        let reactions = message["reactions"].as_array_mut().expect("reactions");
        reactions.sort_by_key(|reaction| number(&reaction["user"]["id"]));
        self.change_extracts(id, &message["content"]);
        self.messages.insert(id, message);
    }

    /// Takes an event, or a state such as a receipt.
    pub fn fold(&mut self, event: &Value) {
        let message_id = event["message_id"].as_i64().unwrap_or_default();
        match event["type"].as_str().expect("a type") {
            "chat_message" | "message_edited" => self.put(&event["message"]),
            "message_deleted" => {
                self.change_extracts(message_id, &json!(""));
                let message = self.message(message_id, event);
                message["is_deleted"] = json!(true);
                for (field, nothing) in [
                    ("content", json!("")),
                    ("attachments", json!([])),
                    ("reactions", json!([])),
                    ("data", Value::Null),
                    ("edited_at", Value::Null),
                ] {
                    message[field] = nothing;
                }
            }
            "reaction_added" | "reaction_removed" => {
                let (added, reaction) = (event["type"] == "reaction_added", &event["reaction"]);
                let user_id = number(&reaction["user"]["id"]);
                let message = self.message(message_id, event);
                let reactions = message["reactions"].as_array_mut().expect("reactions");
                reactions.retain(|known| number(&known["user"]["id"]) != user_id);
                if added {
                    reactions.push(reaction.clone());
                }
                reactions.sort_by_key(|reaction| number(&reaction["user"]["id"]));
            }
            "message_read" => {
                let cursor = self.read_up_to.entry(number(&event["read_by"]["id"])).or_default();
                *cursor = message_id.max(*cursor);
            }
            other => panic!("an event of a type that this conversation has not: {other}"),
        }
    }

    /// Forgets what the participant has cleared.
    pub fn clear(&mut self, cleared_up_to: i64) {
        self.messages.retain(|id, _| *id > cleared_up_to);
        for message in self.messages.values_mut() {
            if message["reply_to"]["id"].as_i64().is_some_and(|id| id <= cleared_up_to) {
                message["reply_to"]["content"] = json!("");
            }
        }
    }

    /// How many messages a participant has not read, counted one by one.
    pub fn unread_count(&self, user_id: i64) -> i64 {
        let read_up_to = self.read_up_to[&user_id];
        let is_unread = |(id, message): &(&i64, &Value)| {
            **id > read_up_to && message["sender"]["id"] != user_id && message["is_deleted"] == false
        };
        self.messages.iter().filter(is_unread).count() as i64
    }

    fn message(&mut self, id: i64, event: &Value) -> &mut Value {
        self.messages.get_mut(&id).unwrap_or_else(|| panic!("an event about a message that was never shown: {event}"))
    }

    fn change_extracts(&mut self, id: i64, content: &Value) {
        for message in self.messages.values_mut().filter(|message| message["reply_to"]["id"] == id) {
            message["reply_to"]["content"] = content.clone();
        }
    }
}

/// A number that must be there.
pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("a whole number is missing: {value}"))
}
