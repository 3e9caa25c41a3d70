//! Fuzzes commands: what a whole server, with its store, makes of one socket's frames, one after the other.
//!
//! An input is lines. The first names the socket (`chat`, `notifications` or `user`), each further one is a frame, in
//! which `@c` stands for the conversation, `@1` for a message of somebody else, `@2` for one's own, `@3` for a deleted
//! one, `@n` for a notification and `@t` for a good token. Every input has users and a conversation of its own, so
//! that nothing depends on the inputs before.
#![no_main]

mod world;

use std::collections::HashMap;

use serde_json::Value;
use tidings::error::Code;
use tidings::protocol::client::{Bounds, Command, Endpoint, Envelope, Notifications, parse};
use world::{Answer, Scene, Socket, World};

/// Most frames of one input, and most bytes of one, once it is filled in; what is beyond is passed over.
const FRAMES_MAX: usize = 12;
const FRAME_BYTES_MAX: usize = 60 * 1024;
const BOUNDS: Bounds = Bounds { text_chars_max: Some(8_000), attachments_max: Some(10) };

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, frames) = text.split_once('\n').unwrap_or((text, ""));
    let endpoint = match first {
        "notifications" => Endpoint::Notifications,
        "user" => Endpoint::User,
        _ => Endpoint::Chat,
    };
    World::run(async |world| {
        let scene = world.scene().await;
        let socket = world.connect(&scene, endpoint).await;
        let mut session =
            Session { scene: &scene, endpoint, socket, position: scene.last_event_id, used: HashMap::new() };
        let mut is_open = true;
        let frames = frames.lines().map(|frame| scene.fill_in(frame)).filter(|frame| frame.len() <= FRAME_BYTES_MAX);
        for (index, frame) in frames.take(FRAMES_MAX).enumerate() {
            is_open = session.say(&frame, index == 0).await;
            if !is_open {
                break;
            }
        }
        if is_open {
            session.nothing_more_comes().await;
        }
        let log = world.log_of(&scene).await;
        assert_eq!(log, (1..=log.len() as i64).collect::<Vec<_>>(), "the log has gaps");
        assert!(endpoint == Endpoint::Notifications || log.len() as i64 >= session.position);
    });
});

/// What an answer must be.
enum Expected {
    Error(Code),
    /// One of these errors, or an event of this type.
    Event(&'static str, &'static [Code]),
    /// Nothing, for typing that is in order.
    Nothing,
    /// The end of the socket.
    Close(u16),
}

/// One socket and what it has shown so far.
struct Session<'a> {
    scene: &'a Scene,
    endpoint: Endpoint,
    socket: Socket,
    /// The last `event_id` of the conversation that was shown.
    position: i64,
    /// The answers to what was accepted under a `client_id`, apart for the notifications and the conversation.
    used: HashMap<(bool, String), (String, Option<i64>)>,
}

impl Session<'_> {
    /// Sees a `resume` through: the events that were asked for, then `resumed`.
    async fn resume(&mut self, cursors: &[(i64, i64)], client_id: Option<&str>) {
        let conversation_id = self.scene.conversation_id;
        // Where a conversation is named twice, as in `7` and `07`, the last one counts.
        let cursor = cursors.iter().rfind(|(id, _)| *id == conversation_id).map(|(_, event_id)| *event_id);
        let mut shown = Vec::new();
        loop {
            let frame = self.socket.frame().await;
            let is_of_conversation = frame["conversation_id"] == conversation_id;
            match frame["type"].as_str().expect("a type") {
                "resumed" => {
                    assert_eq!(frame["client_id"].as_str(), client_id, "{frame}");
                    break;
                }
                "resync" if is_of_conversation => assert!(cursor.is_some_and(|cursor| cursor > self.position)),
                _ if is_of_conversation => shown.extend(frame["event_id"].as_i64()),
                kind => assert_ne!(kind, "error", "{frame}"),
            }
        }
        let missed = cursor.map_or(vec![], |cursor| (cursor.min(self.position) + 1..=self.position).collect());
        assert_eq!(shown, missed);
    }

    /// Says one thing, and checks that it is answered once and as it must be. Whether the socket is still open.
    async fn say(&mut self, frame: &str, is_first: bool) -> bool {
        let (envelope, command) = parse(frame, self.endpoint, BOUNDS);
        let expected = match &command {
            Err(error) => Expected::Error(error.code),
            Ok(command) => self.expected(command, &envelope),
        };
        self.socket.send(frame).await;
        if let (Ok(Command::Resume { cursors, .. }), true) = (&command, is_first) {
            self.resume(cursors, envelope.client_id.as_deref()).await;
            return true;
        }
        if let Expected::Nothing = expected {
            self.socket.send(r#"{"type":"ping","client_id":"nothing before this"}"#).await;
        }
        let answer = match self.socket.answer().await {
            Answer::Frame(answer) => answer,
            Answer::Close(code) => {
                assert!(matches!(expected, Expected::Close(wanted) if wanted == code), "{code} closed after {frame}");
                return false;
            }
        };
        let (kind, client_id) = (answer["type"].as_str().expect("a type"), answer["client_id"].as_str());
        if let Expected::Nothing = expected {
            assert_eq!((kind, client_id), ("pong", Some("nothing before this")), "{frame} was answered with {answer}");
            return true;
        }
        assert_eq!(client_id, envelope.client_id.as_deref(), "{frame} was answered with {answer}");
        if kind == "error" {
            let code = answer["code"].as_str().expect("a code");
            let is_expected = match expected {
                Expected::Error(wanted) => wanted.as_str() == code,
                Expected::Event(_, refusals) => refusals.iter().any(|wanted| wanted.as_str() == code),
                _ => false,
            };
            assert!(is_expected, "{frame} was answered with {answer}");
            assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
        } else {
            assert!(matches!(expected, Expected::Event(wanted, _) if wanted == kind), "{frame} yielded {answer}");
            self.check_event(&command.expect("was accepted"), envelope.client_id, &answer);
        }
        true
    }

    /// What the contract says of a command that the parser took.
    fn expected(&self, command: &Command, envelope: &Envelope) -> Expected {
        const NO_SUCH_MESSAGE: &[Code] = &[Code::NotFound, Code::Conflict];
        const MAY_BE_REFUSED: &[Code] = &[Code::NotFound, Code::Conflict, Code::Forbidden, Code::InvalidField];
        if self.endpoint == Endpoint::Chat
            && envelope.conversation_id.is_some_and(|named| named != self.scene.conversation_id)
        {
            return Expected::Error(Code::InvalidField);
        }
        match command {
            Command::Ping => return Expected::Event("pong", &[]),
            Command::Auth { token } => {
                return match self.scene.judge(token) {
                    Ok(()) => Expected::Event("auth_ok", &[]),
                    Err(close) => Expected::Close(close),
                };
            }
            Command::Resume { .. } => return Expected::Error(Code::InvalidField),
            Command::MarkNotificationsRead { .. } => return Expected::Event("notification_read", &[Code::Conflict]),
            _ => {}
        }
        if self.endpoint == Endpoint::User && envelope.conversation_id != Some(self.scene.conversation_id) {
            let is_named = envelope.conversation_id.is_some();
            return Expected::Error(if is_named { Code::NotFound } else { Code::InvalidField });
        }
        match command {
            Command::Typing { .. } => Expected::Nothing,
            Command::ChatMessage(_) => Expected::Event("chat_message", NO_SUCH_MESSAGE),
            Command::MarkRead { .. } => Expected::Event("message_read", NO_SUCH_MESSAGE),
            Command::EditMessage { .. } => Expected::Event("message_edited", MAY_BE_REFUSED),
            Command::DeleteMessage { .. } => Expected::Event("message_deleted", MAY_BE_REFUSED),
            Command::AddReaction { .. } => Expected::Event("reaction_added", MAY_BE_REFUSED),
            Command::RemoveReaction { .. } => Expected::Event("reaction_removed", MAY_BE_REFUSED),
            _ => unreachable!("dealt with above"),
        }
    }

    /// Checks an event against the command that it answers, and its place in the log.
    fn check_event(&mut self, command: &Command, client_id: Option<String>, event: &Value) {
        let kind = event["type"].as_str().expect("a type").to_owned();
        let event_id = event["event_id"].as_i64();
        if matches!(command, Command::Ping | Command::Auth { .. } | Command::Resume { .. }) {
            return;
        }
        let is_of_notifications = matches!(command, Command::MarkNotificationsRead { .. });
        let used = client_id.map(|client_id| (is_of_notifications, client_id));
        if let Some(earlier) = used.as_ref().and_then(|used| self.used.get(used)) {
            assert_eq!(earlier, &(kind, event_id), "a repetition was answered with {event}");
            return;
        }
        if let Command::MarkNotificationsRead { which } = command {
            let all_are_read = *which == Notifications::All;
            assert!(event["unread_count"].as_i64().is_some_and(|count| count == 0 || !all_are_read), "{event}");
        } else {
            assert_eq!(event["conversation_id"], self.scene.conversation_id, "{event}");
            if let Some(event_id) = event_id {
                assert_eq!(event_id, self.position + 1, "{event}");
                self.position = event_id;
            }
            let is_state = kind == "message_read";
            assert!(event_id.is_some() != (is_state || event["unchanged"] == true), "{event}");
        }
        match command {
            Command::ChatMessage(new) => {
                let message = &event["message"];
                assert_eq!(message["content"], new.message.as_str());
                assert_eq!(message["message_type"], new.message_type);
                assert_eq!(message["reply_to"]["id"].as_i64(), new.reply_to);
                assert_eq!(message["sender"]["id"], self.scene.user_id);
                let data = new.data.as_ref().map(|data| serde_json::from_str::<Value>(data.get()).expect("JSON"));
                assert_eq!(message["data"], data.unwrap_or_default());
            }
            Command::EditMessage { message_id, message } => {
                assert_eq!(event["message"]["id"], *message_id);
                assert_eq!(event["message"]["content"], message.as_str());
            }
            Command::DeleteMessage { message_id } => assert_eq!(event["message_id"], *message_id),
            Command::AddReaction { message_id, reaction } | Command::RemoveReaction { message_id, reaction } => {
                assert_eq!(event["message_id"], *message_id);
                assert_eq!(event["reaction"]["reaction"], reaction.as_str());
            }
            _ => {}
        }
        if let Some(used) = used {
            self.used.insert(used, (kind, event_id));
        }
    }

    /// Checks that everything was answered once: after one more command and its answer nothing is left.
    async fn nothing_more_comes(&mut self) {
        let frame = match self.endpoint {
            Endpoint::Notifications => r#"{"type":"mark_read","all":true}"#.to_owned(),
            _ => self.scene.fill_in(r#"{"type":"chat_message","message":"the end","conversation_id":@c}"#),
        };
        for frame in [frame.as_str(), r#"{"type":"ping","client_id":"the end"}"#] {
            assert!(self.say(frame, false).await);
        }
    }
}
