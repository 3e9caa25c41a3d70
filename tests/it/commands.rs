//! Commands and what comes of them: section 4 of the contract, over a chat socket.

mod exactly_once;
mod malformed;
mod opting_in;
mod raw_frames;
mod rules;
mod typing_and_presence;

use serde_json::{Value, json};

use crate::support::TestServer;
use crate::support::client::TestClient;

/// A conversation of two people with one chat socket each.
struct Pair {
    server: TestServer,
    conversation_id: i64,
    alice: TestClient,
    bob: TestClient,
}

impl Pair {
    async fn start(store: crate::support::Store, settings: &[(&str, &str)]) -> Self {
        let server = TestServer::start_with(store, settings).await;
        let conversation_id = server.conversation(&[1, 2]).await;
        let mut alice = server.connect_as(1).chat(conversation_id).await;
        alice.expect_live().await;
        let mut bob = server.connect_as(2).chat(conversation_id).await;
        bob.expect_live().await;
        // From here on nobody comes or goes unless the test says so.
        while alice.expect_next().await["status"] != "online" {}
        Self { server, conversation_id, alice, bob }
    }
}

/// Checks that a frame is an error of this code, about this field.
#[track_caller]
fn assert_refused(frame: &Value, code: &str, field: Option<&str>) {
    assert_eq!((frame["type"].as_str(), frame["code"].as_str()), (Some("error"), Some(code)), "{frame}");
    if field.is_some() {
        assert_eq!(frame["field"].as_str(), field, "{frame}");
    }
    assert!(frame["message"].as_str().is_some_and(|sentence| sentence.len() > 10), "{frame}");
    for name in ["client_id", "field", "retry_after_ms"] {
        assert!(frame.get(name).is_some(), "`{name}` is missing: {frame}");
    }
}

/// The id of the message that an event is about.
fn message_id(event: &Value) -> i64 {
    event["message"]["id"].as_i64().unwrap_or_else(|| panic!("no message in {event}"))
}

/// Sends a command under a fresh `client_id` and gives its answer, passing over whatever others do meanwhile.
async fn ask(client: &mut TestClient, mut command: Value) -> Value {
    let client_id = uuid::Uuid::new_v4().to_string();
    command["client_id"] = json!(client_id);
    client.send(command).await;
    loop {
        let frame = client.expect_next().await;
        if frame["client_id"] == client_id.as_str() {
            return frame;
        }
    }
}

/// The same for a command that must be accepted.
async fn done(client: &mut TestClient, command: Value) -> Value {
    let event = ask(client, command.clone()).await;
    assert_ne!(event["type"], "error", "{command} was refused: {event}");
    event
}

fn chat_message(text: &str) -> Value {
    json!({ "type": "chat_message", "message": text })
}
