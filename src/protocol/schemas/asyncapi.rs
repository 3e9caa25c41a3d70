//! The AsyncAPI document: which frames go over which socket, and in which direction. Written into docs/asyncapi.json.

use super::*;

/// A socket's address and what it carries.
struct Channel {
    name: &'static str,
    address: &'static str,
    id: (&'static str, &'static str),
    description: &'static str,
}

const CHANNELS: [Channel; 3] = [
    Channel {
        name: "chat",
        address: "/ws/chat/{conversation_id}/",
        id: ("conversation_id", "A conversation that the user takes part in."),
        description: "One conversation, live.",
    },
    Channel {
        name: "notifications",
        address: "/ws/notifications/{user_id}/",
        id: ("user_id", "The user of the token."),
        description: "The user's notifications, live.",
    },
    Channel {
        name: "user",
        address: "/ws/user/{user_id}/",
        id: ("user_id", "The user of the token."),
        description: "Every conversation of the user and the notifications, on one socket.",
    },
];

/// Frames that any socket may carry.
const COMMON: [&str; 7] = ["auth_ok", "connected", "error", "pong", "resumed", "resync", "token_expiring"];

/// Whether a socket carries a frame that the server sends.
fn carries(channel: &str, frame: &str) -> bool {
    match channel {
        "chat" => !frame.starts_with("notification"),
        "notifications" => frame.starts_with("notification") || COMMON.contains(&frame),
        _ => true,
    }
}

/// Whether a socket takes a command; the parser is the judge.
fn takes(channel: &str, command: &str) -> bool {
    use crate::error::Code;
    use crate::protocol::client::{Bounds, Endpoint, parse};
    let endpoint = match channel {
        "chat" => Endpoint::Chat,
        "notifications" => Endpoint::Notifications,
        _ => Endpoint::User,
    };
    let bounds = Bounds { text_chars_max: None, attachments_max: None };
    let (_, parsed) = parse(&json!({ "type": command }).to_string(), endpoint, bounds);
    // Most lack a field here; what is unknown says so before anything else.
    !parsed.is_err_and(|error| error.code == Code::UnknownType)
}

fn document() -> Value {
    let (server, client) = (server_frames(), client_frames());
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for channel in &CHANNELS {
        let sent: Vec<&String> = server.frames.keys().filter(|frame| carries(channel.name, frame)).collect();
        let taken: Vec<&String> = client.frames.keys().filter(|command| takes(channel.name, command)).collect();
        channels.insert(channel.name.to_owned(), describe(channel, &sent, &taken));
        operations.insert(format!("{}_send", channel.name), operation(channel.name, "send", "server", &sent));
        operations.insert(format!("{}_receive", channel.name), operation(channel.name, "receive", "client", &taken));
    }
    let mut messages = Map::new();
    let mut schemas = server.objects;
    schemas.extend(client.objects);
    for (side, frames) in [("server", server.frames), ("client", client.frames)] {
        for (name, schema) in frames {
            let key = format!("{side}.{name}");
            let payload = json!({ "$ref": format!("#/components/schemas/{key}") });
            messages.insert(key.clone(), json!({ "name": name, "title": name, "payload": payload }));
            schemas.insert(key, schema);
        }
    }
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidings",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Real-time chat and notifications over WebSocket. Frames are UTF-8 JSON text, one object \
                            each, told apart by `type`. openapi.json describes the REST routes.",
        },
        "defaultContentType": "application/json",
        "servers": { "development": { "host": "localhost:8000", "protocol": "ws" } },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    });
    move_references(&mut document);
    document
}

fn describe(channel: &Channel, sent: &[&String], taken: &[&String]) -> Value {
    let names =
        sent.iter().map(|name| format!("server.{name}")).chain(taken.iter().map(|name| format!("client.{name}")));
    let messages: Map<String, Value> =
        names.map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") }))).collect();
    let (id, meaning) = channel.id;
    let query = json!({
        "type": "object",
        "properties": {
            "token": { "type": "string", "description": "The token, where no header or subprotocol carries it." },
            "since": { "type": "integer", "minimum": 0, "description": "The `event_id` to resume after." },
        },
    });
    json!({
        "address": channel.address,
        "description": channel.description,
        "parameters": { id: { "description": meaning } },
        "messages": messages,
        "bindings": { "ws": { "method": "GET", "query": query, "bindingVersion": "0.1.0" } },
    })
}

/// An operation, seen from the server.
fn operation(channel: &str, action: &str, side: &str, frames: &[&String]) -> Value {
    let messages: Vec<Value> =
        frames.iter().map(|name| json!({ "$ref": format!("#/channels/{channel}/messages/{side}.{name}") })).collect();
    json!({ "action": action, "channel": { "$ref": format!("#/channels/{channel}") }, "messages": messages })
}

/// Schemas refer to each other where they now lie.
fn move_references(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(target) if name == "$ref" => {
                        *target = target.replace("#/$defs/", "#/components/schemas/")
                    }
                    value => move_references(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(move_references),
        _ => {}
    }
}

#[test]
fn the_asyncapi_document_is_current_and_refers_to_what_is_there() {
    let document = document();
    assert_current("docs/asyncapi.json", &pretty(&document));
    let mut targets = Vec::new();
    references(&document, &mut targets);
    assert!(targets.len() > 100);
    for target in targets {
        assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target} is not there");
    }
}

#[test]
fn every_socket_carries_its_own_frames() {
    let document = document();
    let has = |channel: &str, message: &str| document["channels"][channel]["messages"].get(message).is_some();
    assert!(has("chat", "server.chat_message") && has("chat", "client.chat_message"));
    assert!(!has("chat", "server.notification") && !has("chat", "client.resume"));
    assert!(has("notifications", "client.mark_read") && !has("notifications", "client.message_read"));
    assert!(has("user", "client.resume") && has("user", "server.notification") && has("user", "server.user_status"));
}

fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}
