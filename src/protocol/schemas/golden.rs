//! Golden frames: one file for each kind of frame, `protocol/server/` written from the types, `protocol/client/` by
//! hand. A frame of a kind that has several forms has a file for each, `connected.user.json`.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde_json::value::RawValue;

use super::*;
use crate::error::Error;
use crate::protocol::client::{Bounds, Endpoint, parse};
use crate::protocol::server::{
    Connected, ConversationTitle, Limits, Position, Presence, Resumed, WhichNotifications, encode,
};
use crate::protocol::{Attachment, Event, Message, Notification, Person, Reaction, ReplyTo, Role, Time};

/// The guide's example times.
const SENT: Time = Time(1_758_709_800_000);
const READ: Time = Time(1_758_710_100_000);

fn john() -> Person {
    let (first_name, last_name) = ("John".to_owned(), "Doe".to_owned());
    Person { id: 456, first_name, last_name, username: Some("john".to_owned()), avatar_url: None }
}

fn like() -> Reaction {
    Reaction { reaction: "like".to_owned(), emoji: "👍".to_owned(), user: john() }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn message(content: &str) -> Box<Message> {
    Box::new(Message {
        id: 123,
        content: content.to_owned(),
        sender: john(),
        timestamp: SENT,
        message_type: "text".to_owned(),
        reply_to: None,
        attachments: Vec::new(),
        reactions: Vec::new(),
        data: None,
        edited_at: None,
        is_deleted: false,
    })
}

fn full_message() -> Box<Message> {
    let link = "/api/v1/attachments/31/cat.png?variant=original&expires=1758710100000&signature=AAAA";
    Box::new(Message {
        message_type: "image".to_owned(),
        reply_to: Some(ReplyTo { id: 122, content: "Show me".to_owned(), sender: john() }),
        attachments: vec![Attachment {
            id: 31,
            filename: "cat.png".to_owned(),
            content_type: "image/png".to_owned(),
            size: 20_480,
            url: link.to_owned(),
            thumbnail_url: Some(link.replace("original", "thumbnail")),
            width: Some(640),
            height: Some(480),
        }],
        reactions: vec![like()],
        data: Some(raw(r#"{"mood":"happy"}"#)),
        edited_at: Some(READ),
        ..*message("Here 🐈")
    })
}

/// Events, with whether they stand in the log of the conversation, or else of the notifications.
fn events() -> Vec<(&'static str, Event)> {
    let notification = Notification {
        id: 789,
        title: "New Message".to_owned(),
        message: "You have a new message from John Doe".to_owned(),
        notification_type: "message".to_owned(),
        timestamp: SENT,
        is_read: false,
        data: raw(r#"{"conversation_id":12,"sender_id":456,"message_id":123,"count":1}"#),
        action_url: None,
    };
    let title = ConversationTitle { id: 12, title: Some("Team".to_owned()) };
    let updated =
        |archived, muted| Event::ConversationUpdated { conversation: title.clone(), by: Some(john()), archived, muted };
    let read = |which| Event::NotificationRead { which, unread_count: 0 };
    vec![
        ("chat_message", Event::ChatMessage { message: message("Hello there!") }),
        ("chat_message.full", Event::ChatMessage { message: full_message() }),
        ("message_edited", Event::MessageEdited { message: full_message() }),
        ("message_deleted", Event::MessageDeleted { message_id: 123, deleted_by: john(), deleted_at: READ }),
        ("reaction_added", Event::ReactionAdded { message_id: 123, reaction: like() }),
        ("reaction_removed", Event::ReactionRemoved { message_id: 123, reaction: like() }),
        ("message_read", Event::MessageRead { message_id: 123, read_by: john(), read_at: READ }),
        (
            "message_status",
            Event::MessageStatus { message_id: 123, status: "delivered", user_id: 456, timestamp: READ },
        ),
        ("typing_indicator", Event::TypingIndicator { user: john(), is_typing: true }),
        ("user_status", Event::UserStatus { user_id: 456, status: Presence::Online, last_seen: None }),
        ("user_status.offline", Event::UserStatus { user_id: 456, status: Presence::Offline, last_seen: Some(READ) }),
        ("participant_added", Event::ParticipantAdded { user: john(), role: Role::Member, by: None }),
        ("participant_removed", Event::ParticipantRemoved { user: john(), role: Role::Admin, by: Some(john()) }),
        ("conversation_updated", updated(None, None)),
        ("conversation_updated.own", updated(Some(false), Some(true))),
        ("notification", Event::Notification { notification: Box::new(notification) }),
        ("notification_read", read(WhichNotifications::Some { notification_ids: vec![789] })),
        ("notification_read.all", read(WhichNotifications::All { all: true })),
        ("notification_deleted", Event::NotificationDeleted { notification_ids: vec![789], unread_count: 0 }),
    ]
}

/// Whether an event is one of the log, of a state, or of somebody's own.
fn frame<'a>(name: &str, event: &'a Event) -> Frame<'a> {
    let is_state = matches!(
        event,
        Event::MessageRead { .. }
            | Event::MessageStatus { .. }
            | Event::TypingIndicator { .. }
            | Event::UserStatus { .. }
    ) || name == "conversation_updated.own";
    let is_notification = name.starts_with("notification");
    Frame {
        event,
        conversation_id: (!is_notification).then_some(12),
        event_id: (!is_state).then_some(345),
        unchanged: false,
        client_id: (name == "chat_message.full").then_some("6fb6b1c2-0001"),
    }
}

fn connected(position: Position) -> Answer<'static> {
    let limits = Limits {
        frame_bytes_max: Some(65_536),
        text_chars_max: Some(8_000),
        attachments_per_message_max: Some(10),
        attachment_bytes_max: Some(26_214_400),
        commands_per_second_max: None,
    };
    Answer::Connected(Box::new(Connected {
        position,
        user: john(),
        server_time: SENT,
        heartbeat_interval_ms: Some(25_000),
        token_expires_at: READ,
        limits,
        unread_count: 2,
        connection_id: "c-1".to_owned(),
    }))
}

fn answers(error: &Error) -> Vec<(&'static str, Answer<'_>)> {
    let cursors = || BTreeMap::from([(12, 345), (13, 1)]);
    let resumed = |position| Answer::Resumed { position };
    vec![
        ("connected", connected(Position::Chat { conversation_id: 12, last_event_id: 345 })),
        ("connected.notifications", connected(Position::Notifications { last_event_id: 678 })),
        ("connected.user", connected(Position::User { cursors: cursors(), notifications: 678 })),
        ("resumed", resumed(Resumed::Chat { last_event_id: 345 })),
        ("resumed.notifications", resumed(Resumed::Notifications { last_event_id: 678, unread_count: 2 })),
        ("resumed.user", resumed(Resumed::User { cursors: cursors(), notifications: 678 })),
        ("resync", Answer::Resync { conversation_id: None, last_event_id: 345 }),
        ("resync.user", Answer::Resync { conversation_id: Some(12), last_event_id: 345 }),
        ("error", Answer::error(error, Some("6fb6b1c2-0002"))),
        ("pong", Answer::Pong { client_id: None }),
        ("auth_ok", Answer::AuthOk { expires_at: READ, client_id: None }),
        ("token_expiring", Answer::TokenExpiring { expires_at: READ }),
    ]
}

/// The `type` of the frame in a golden file.
fn type_of(name: &str) -> &str {
    name.split('.').next().unwrap()
}

/// A validator of each kind of frame.
fn validators(frames: Frames) -> BTreeMap<String, Validator> {
    let Frames { frames, objects } = frames;
    let validators = frames.into_iter().map(|(name, mut schema)| {
        schema["$defs"] = Value::Object(objects.clone());
        (name, jsonschema::draft202012::new(&schema).unwrap())
    });
    validators.collect()
}

#[track_caller]
fn assert_valid(validators: &BTreeMap<String, Validator>, name: &str, frame: &Value) {
    let problems: Vec<_> = validators[type_of(name)].iter_errors(frame).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{name}: {problems:?}");
}

#[test]
fn golden_server_frames_are_current_valid_and_complete() {
    let validators = validators(server_frames());
    let mut seen = BTreeSet::new();
    let mut check = |name: &str, text: String, bytes: &[u8]| {
        assert_current(&format!("protocol/server/{name}.json"), &text);
        let frame: Value = serde_json::from_str(&text).unwrap();
        // What goes over the wire is the same.
        assert_eq!(serde_json::from_slice::<Value>(bytes).unwrap(), frame);
        assert_eq!(frame["type"], type_of(name));
        assert_valid(&validators, name, &frame);
        seen.insert(type_of(name).to_owned());
    };
    for (name, event) in events() {
        let frame = frame(name, &event);
        check(name, pretty(&frame), &encode(&frame));
    }
    let error = Error::field("reply_to", "a reply must name a message of the same conversation");
    for (name, answer) in answers(&error) {
        check(name, pretty(&answer), &encode(&answer));
    }
    assert!(seen.iter().eq(validators.keys()), "each kind of frame has a golden one");
    let known: BTreeSet<_> = files("server").into_iter().map(|(name, _)| name).collect();
    let made: BTreeSet<_> = events()
        .iter()
        .map(|(name, _)| *name)
        .chain(answers(&error).iter().map(|(name, _)| *name))
        .map(String::from)
        .collect();
    assert_eq!(known, made, "no golden frame is left over");
}

#[test]
fn golden_client_frames_are_taken_valid_and_complete() {
    let validators = validators(client_frames());
    let bounds = Bounds { text_chars_max: Some(8_000), attachments_max: Some(10) };
    let mut seen = BTreeSet::new();
    for (name, text) in files("client") {
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["type"], type_of(&name), "{name}");
        let endpoint = if name.ends_with(".notifications") { Endpoint::Notifications } else { Endpoint::User };
        let (_, command) = parse(&text, endpoint, bounds);
        assert!(command.is_ok(), "{name}: {command:?}");
        assert_valid(&validators, &name, &frame);
        seen.insert(type_of(&name).to_owned());
        // What the schema refuses in one field, the server refuses.
        for field in frame.as_object().unwrap().keys().filter(|field| *field != "type") {
            let mut wrong = frame.clone();
            wrong[field] = json!([{ "wrong": true }]);
            assert!(!validators[type_of(&name)].is_valid(&wrong), "{name}: {field}");
            assert!(parse(&wrong.to_string(), endpoint, bounds).1.is_err(), "{name}: {field}");
        }
    }
    assert!(seen.iter().eq(validators.keys()), "each kind of frame has a golden one: {seen:?}");
}

#[test]
fn the_schemas_can_refuse() {
    let validators = validators(server_frames());
    let event = Event::TypingIndicator { user: john(), is_typing: true };
    let mut value = serde_json::to_value(frame("typing_indicator", &event)).unwrap();
    assert!(validators["typing_indicator"].is_valid(&value));
    assert!(!validators["user_status"].is_valid(&value));
    value["user"]["id"] = json!("456");
    assert!(!validators["typing_indicator"].is_valid(&value));
}

/// The golden files of one side, by name.
fn files(side: &str) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("protocol").join(side);
    let entries = std::fs::read_dir(folder).expect("the golden frames");
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().trim_end_matches(".json").to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    });
    files.collect()
}
