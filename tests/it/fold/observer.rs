//! Somebody who loaded the conversation once and since then knows it by events alone.

use serde_json::{Value, json};

use super::snapshot::{Snapshot, number};
use crate::support::TestServer;
use crate::support::client::TestClient;

/// What changes a conversation.
const EVENTS: [&str; 6] =
    ["chat_message", "message_edited", "message_deleted", "reaction_added", "reaction_removed", "message_read"];
/// What else may come.
const BACKGROUND: [&str; 9] = [
    "connected",
    "resumed",
    "pong",
    "user_status",
    "typing_indicator",
    "message_status",
    "notification",
    "notification_read",
    "notification_deleted",
];

/// Who watches, and what they know.
pub struct Observer {
    pub user_id: i64,
    pub conversation_id: i64,
    /// Whether they watch on `/ws/user/` rather than on the chat's socket.
    pub sees_all: bool,
    pub socket: Option<TestClient>,
    pub last_event_id: i64,
    pub cleared_up_to: i64,
    pub known: Snapshot,
}

impl Observer {
    /// Takes a frame: durable events come in order and without gaps, but for what is about hidden messages.
    fn take(&mut self, frame: &Value) {
        let kind = frame["type"].as_str().expect("a type");
        if !EVENTS.contains(&kind) {
            let cleared = kind == "participant_removed" && frame.get("event_id").is_none();
            assert!(BACKGROUND.contains(&kind) || cleared, "{frame}");
            return;
        }
        assert_eq!(frame["conversation_id"], self.conversation_id, "{frame}");
        if kind != "message_read" {
            let event_id = number(&frame["event_id"]);
            let is_next = event_id == self.last_event_id + 1;
            assert!(
                is_next || self.cleared_up_to > 0 && event_id > self.last_event_id,
                "after {}: {frame}",
                self.last_event_id
            );
            self.last_event_id = event_id;
            let about = frame["message_id"].as_i64().unwrap_or_else(|| number(&frame["message"]["id"]));
            assert!(about > self.cleared_up_to, "about a message that is hidden up to {}: {frame}", self.cleared_up_to);
        }
        self.known.fold(frame);
    }

    /// Reads what has come, connecting first where there is no connection.
    pub async fn watch(&mut self, server: &TestServer) {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.resume(server).await,
        };
        socket.send(json!({ "type": "ping" })).await;
        for frame in socket.collect_until("pong").await {
            self.take(&frame);
        }
        self.socket = Some(socket);
    }

    async fn resume(&mut self, server: &TestServer) -> TestClient {
        let connect = server.connect_as(self.user_id);
        let mut socket = if self.sees_all {
            let mut socket = connect.user().await;
            let cursors = json!({ self.conversation_id.to_string(): self.last_event_id });
            socket.send(json!({ "type": "resume", "cursors": cursors })).await;
            socket
        } else {
            connect.since(self.last_event_id).chat(self.conversation_id).await
        };
        for frame in socket.collect_until("resumed").await {
            self.take(&frame);
        }
        socket
    }
}
