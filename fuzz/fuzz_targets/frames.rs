//! Fuzzes frames: what the parser takes and refuses on each endpoint, judged by the same text as a plain JSON value.
#![no_main]

use serde_json::{Value, json};
use tidings::error::Code;
use tidings::protocol::client::{Bounds, Command, Endpoint, Envelope, Notifications, parse};

const BOUNDS: Bounds = Bounds { text_chars_max: Some(8_000), attachments_max: Some(10) };
const OF_NOTIFICATIONS: [&str; 3] = ["mark_read", "auth", "ping"];
const OF_CHAT: [&str; 10] = [
    "chat_message",
    "typing_indicator",
    "mark_read",
    "message_read",
    "edit_message",
    "delete_message",
    "add_reaction",
    "remove_reaction",
    "auth",
    "ping",
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let value = serde_json::from_str::<Value>(text).ok();
    for endpoint in [Endpoint::Chat, Endpoint::Notifications, Endpoint::User] {
        let (envelope, command) = parse(text, endpoint, BOUNDS);
        check_envelope(&envelope, value.as_ref());
        match &command {
            Ok(command) => {
                check(command, endpoint);
                let canonical = encode(command, &envelope);
                let (again, repeated) = parse(&canonical, endpoint, BOUNDS);
                assert_eq!(again, envelope, "{canonical}");
                let repeated = repeated.unwrap_or_else(|error| panic!("{error}: {canonical}"));
                assert_eq!(encode(&repeated, &again), canonical);
            }
            Err(error) => {
                assert!(!error.message.is_empty() && error.retry_after_ms.is_none());
                let codes = [Code::InvalidJson, Code::UnknownType, Code::InvalidField, Code::TooLarge];
                assert!(codes.contains(&error.code), "{error}");
                assert_eq!(error.field.is_some(), matches!(error.code, Code::InvalidField | Code::TooLarge), "{error}");
            }
        }
        if let Some(value) = &value {
            check_refusal(value, endpoint, command.as_ref().err().map(|error| (error.code, error.field)));
        }
    }
});

/// What is read of a frame even when it is refused.
fn check_envelope(envelope: &Envelope, value: Option<&Value>) {
    let client_id = envelope.client_id.as_deref();
    assert!(client_id.is_none_or(is_client_id));
    assert!(envelope.conversation_id.is_none_or(is_id));
    if let Some(value) = value {
        assert_eq!(client_id, value["client_id"].as_str().filter(|id| is_client_id(id)));
        assert_eq!(envelope.is_typing, value["type"] == "typing_indicator");
    }
}

/// The first things that are wrong with a frame, in the order in which they are told.
fn check_refusal(value: &Value, endpoint: Endpoint, refusal: Option<(Code, Option<&'static str>)>) {
    let Value::Object(fields) = value else { return assert_eq!(refusal, Some((Code::InvalidJson, None))) };
    let Some(kind) = fields.get("type").and_then(Value::as_str).filter(|kind| is_storable(kind)) else {
        return assert_eq!(refusal, Some((Code::InvalidField, Some("type"))));
    };
    let is_known = match endpoint {
        Endpoint::Notifications => OF_NOTIFICATIONS.contains(&kind),
        Endpoint::Chat => OF_CHAT.contains(&kind),
        Endpoint::User => OF_CHAT.contains(&kind) || kind == "resume",
    };
    assert_eq!(refusal == Some((Code::UnknownType, None)), !is_known);
    let client_id = fields.get("client_id").filter(|value| !value.is_null());
    if is_known && client_id.is_some_and(|value| !value.as_str().is_some_and(is_client_id)) {
        assert_eq!(refusal, Some((Code::InvalidField, Some("client_id"))));
    }
    // A name is judged also where the other one of the field wins.
    let is_wrong = |name: &str, is_right: fn(&Value) -> bool| {
        fields.get(name).is_some_and(|value| !value.is_null() && !is_right(value))
    };
    let is_text = |value: &Value| value.as_str().is_some_and(is_storable);
    let is_reply = |value: &Value| value.as_i64().is_some_and(is_id);
    let has_wrong_text = is_wrong("message", is_text) || is_wrong("text", is_text);
    let has_wrong_reply = is_wrong("reply_to", is_reply) || is_wrong("reply_to_id", is_reply);
    if kind == "chat_message" && (has_wrong_text || has_wrong_reply) || kind == "edit_message" && has_wrong_text {
        assert!(refusal.is_some());
    }
}

/// What must hold for every command, whatever the frame was.
fn check(command: &Command, endpoint: Endpoint) {
    match command {
        Command::ChatMessage(new) => {
            assert!(is_storable(&new.message) && new.message.chars().count() <= 8_000);
            assert!(!new.message.trim().is_empty() || new.message.is_empty() && !new.attachment_ids.is_empty());
            assert!(new.attachment_ids.len() <= 10 && new.attachment_ids.iter().all(|id| is_id(*id)));
            assert!(new.reply_to.is_none_or(is_id));
            let data = new.data.as_ref().map(|data| data.get());
            assert!(data.is_none_or(|data| data.len() <= 4 * 1024 && is_storable_object(data)));
        }
        Command::EditMessage { message_id, message } => {
            assert!(is_id(*message_id) && is_storable(message) && message.chars().count() <= 8_000);
        }
        Command::AddReaction { message_id, reaction } | Command::RemoveReaction { message_id, reaction } => {
            assert!(is_id(*message_id) && is_storable(reaction));
        }
        Command::MarkRead { message_id } | Command::DeleteMessage { message_id } => assert!(is_id(*message_id)),
        Command::MarkNotificationsRead { which } => {
            assert_ne!(endpoint, Endpoint::Chat);
            if let Notifications::Some(ids) = which {
                assert!(ids.len() <= 1_000 && ids.iter().all(|id| is_id(*id)));
            }
        }
        Command::Auth { token } => assert!(!token.is_empty()),
        Command::Resume { cursors, notifications } => {
            assert!(notifications.is_none_or(|event_id| event_id >= 0));
            assert!(cursors.iter().all(|(id, event_id)| is_id(*id) && *event_id >= 0));
        }
        Command::Typing { .. } | Command::Ping => {}
    }
}

/// The command as a client would write it that knows no aliases and leaves nothing to defaults.
fn encode(command: &Command, envelope: &Envelope) -> String {
    let mut frame = match command {
        Command::ChatMessage(new) => json!({
            "type": "chat_message", "message": new.message, "message_type": new.message_type,
            "reply_to": new.reply_to, "attachment_ids": new.attachment_ids,
        }),
        Command::Typing { is_typing } => json!({"type": "typing_indicator", "is_typing": is_typing}),
        Command::MarkRead { message_id } => json!({"type": "mark_read", "message_id": message_id}),
        Command::MarkNotificationsRead { which: Notifications::Some(ids) } => {
            json!({"type": "mark_read", "notification_ids": ids})
        }
        Command::MarkNotificationsRead { which: Notifications::All } => json!({"type": "mark_read", "all": true}),
        Command::EditMessage { message_id, message } => {
            json!({"type": "edit_message", "message_id": message_id, "message": message})
        }
        Command::DeleteMessage { message_id } => json!({"type": "delete_message", "message_id": message_id}),
        Command::AddReaction { message_id, reaction } => {
            json!({"type": "add_reaction", "message_id": message_id, "reaction": reaction})
        }
        Command::RemoveReaction { message_id, reaction } => {
            json!({"type": "remove_reaction", "message_id": message_id, "reaction": reaction})
        }
        Command::Auth { token } => json!({"type": "auth", "token": token}),
        Command::Ping => json!({"type": "ping"}),
        Command::Resume { cursors, notifications } => {
            let cursors: Value = cursors.iter().map(|(id, event_id)| (id.to_string(), json!(event_id))).collect();
            json!({"type": "resume", "cursors": cursors, "notifications": notifications})
        }
    };
    frame["client_id"] = json!(envelope.client_id);
    frame["conversation_id"] = json!(envelope.conversation_id);
    let text = frame.to_string();
    // `data` is kept as it was written, so it goes in as it was written.
    match command {
        Command::ChatMessage(new) if new.data.is_some() => {
            let data = new.data.as_ref().expect("there").get();
            format!("{},\"data\":{data}}}", text.strip_suffix('}').expect("an object"))
        }
        _ => text,
    }
}

fn is_id(id: i64) -> bool {
    (1..1 << 53).contains(&id)
}

fn is_client_id(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && is_storable(text)
}

/// PostgreSQL takes every text but one with U+0000.
fn is_storable(text: &str) -> bool {
    !text.contains('\0')
}

fn is_storable_object(text: &str) -> bool {
    let value = serde_json::from_str::<Value>(text).expect("data is JSON");
    value.is_object() && !value.to_string().contains("\\u0000")
}
