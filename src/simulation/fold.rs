//! What a client makes of the frames it is shown: each message as it stands.

use std::collections::BTreeMap;

use serde_json::Value;

/// Messages by their ids: the text, whether it is deleted, and each user's reaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fold(BTreeMap<i64, Message>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    content: String,
    is_deleted: bool,
    reactions: BTreeMap<i64, String>,
}

impl Fold {
    pub fn take(&mut self, frame: &Value) {
        let id = || frame["message_id"].as_i64().unwrap_or_default();
        match frame["type"].as_str().unwrap_or_default() {
            "chat_message" | "message_edited" => self.take_message(&frame["message"]),
            "message_deleted" => {
                self.0.insert(id(), Message { is_deleted: true, ..Message::default() });
            }
            "reaction_added" => {
                let (user, reaction) = reaction(&frame["reaction"]);
                self.0.entry(id()).or_default().reactions.insert(user, reaction);
            }
            "reaction_removed" => {
                let (user, _) = reaction(&frame["reaction"]);
                self.0.entry(id()).or_default().reactions.remove(&user);
            }
            _ => {}
        }
    }

    fn take_message(&mut self, message: &Value) {
        let reactions = message["reactions"].as_array().into_iter().flatten().map(reaction).collect();
        let content = message["content"].as_str().unwrap_or_default().to_owned();
        let is_deleted = message["is_deleted"] == true;
        let id = message["id"].as_i64().unwrap_or_default();
        self.0.insert(id, Message { content, is_deleted, reactions });
    }

    /// Ids of messages that are not deleted.
    pub fn alive(&self) -> Vec<i64> {
        self.0.iter().filter(|(_, message)| !message.is_deleted).map(|(id, _)| *id).collect()
    }

    /// What is not the same in both, by message.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let ids: std::collections::BTreeSet<&i64> = self.0.keys().chain(other.0.keys()).collect();
        let pairs = ids.into_iter().map(|id| (id, self.0.get(id), other.0.get(id)));
        pairs.filter(|(_, own, other)| own != other).map(|difference| format!("{difference:?}")).collect()
    }
}

fn reaction(value: &Value) -> (i64, String) {
    (value["user"]["id"].as_i64().unwrap_or_default(), value["reaction"].as_str().unwrap_or_default().to_owned())
}
