//! One random history of a conversation, and an observer that follows it from a moment in the middle.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use super::observer::Observer;
use super::snapshot::{Snapshot, number};
use crate::support::client::TestClient;
use crate::support::rest::answer;
use crate::support::{Caller, TestServer};

const REACTIONS: [&str; 4] = ["like", "love", "wow", "sad"];

/// What a participant does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Send,
    Reply,
    Edit,
    Delete,
    React,
    Unreact,
    Read,
}

/// Each act as often as it is worth trying.
const ACTS: [Act; 18] = {
    use Act::*;
    [
        Send, Send, Send, Send, Reply, Reply, Reply, Edit, Edit, Edit, Delete, React, React, React, React, Unreact,
        Unreact, Read,
    ]
};

pub struct Trace<'a> {
    server: &'a mut TestServer,
    random: Rng,
    conversation_id: i64,
    user_ids: Vec<i64>,
    is_direct: bool,
    sockets: BTreeMap<i64, TestClient>,
    /// All messages, with their senders.
    sent: Vec<(i64, i64)>,
    /// The commands that took effect, with who sent them and what they were answered with.
    done: Vec<(i64, Value, Value)>,
    observer: Observer,
}

impl<'a> Trace<'a> {
    /// A new conversation of users that are in no other: a group of three or a 1:1.
    pub async fn begin(server: &'a mut TestServer, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let is_direct = random.bool();
        let first = random.i64(1..1 << 40);
        let user_ids: Vec<i64> = (first..first + if is_direct { 2 } else { 3 }).collect();
        let conversation_id = server.conversation(&user_ids).await;
        let observer = Observer {
            user_id: random.choice(user_ids.clone()).expect("somebody"),
            conversation_id,
            sees_all: random.u8(0..3) == 0,
            socket: None,
            last_event_id: 0,
            cleared_up_to: 0,
            known: Snapshot::default(),
        };
        let (sockets, sent, done) = Default::default();
        Self { server, random, conversation_id, user_ids, is_direct, sockets, sent, done, observer }
    }

    pub async fn run(mut self) {
        let before = self.random.usize(0..20);
        self.acts(before).await;
        let (known, last_event_id) = self.load(self.observer.user_id, true).await;
        (self.observer.known, self.observer.last_event_id) = (known, last_event_id);
        let after = self.random.usize(10..25);
        let crash_at = (self.random.u8(0..3) == 0).then(|| self.random.usize(0..after));
        for number in 0..after {
            self.acts(1).await;
            match self.random.u8(0..8) {
                0 => self.observer.socket = None,
                1..4 => self.observer.watch(self.server).await,
                _ => {}
            }
            if crash_at == Some(number) {
                self.crash().await;
            }
        }
        self.observer.watch(self.server).await;
        self.check().await;
    }

    /// The folded state is the server's, and so is everybody's count of unread messages.
    async fn check(&mut self) {
        let Observer { user_id, cleared_up_to, last_event_id, .. } = self.observer;
        self.observer.known.clear(cleared_up_to);
        let (fresh, fresh_event_id) = self.load(user_id, false).await;
        assert_eq!(self.observer.known.read_up_to, fresh.read_up_to);
        for (id, message) in &fresh.messages {
            assert_eq!(self.observer.known.messages.get(id), Some(message), "as folded, and as it is");
        }
        assert_eq!(self.observer.known, fresh);
        if cleared_up_to == 0 {
            assert_eq!(last_event_id, fresh_event_id);
        }
        for user_id in self.user_ids.clone() {
            let (snapshot, _) = self.load(user_id, false).await;
            let unread = snapshot.unread_count(user_id);
            let path = format!("/api/v1/conversations/{}", self.conversation_id);
            let conversation = self.server.get(&path, user_id).await.expect(200);
            assert_eq!(conversation["unread_count"], unread, "{user_id}");
            let last = snapshot.messages.values().next_back().cloned().unwrap_or_default();
            assert_eq!(
                (&conversation["last_message"]["id"], &conversation["last_message"]["content"]),
                (&last["id"], &last["content"])
            );
            assert_eq!(
                self.server.get("/api/v1/me", user_id).await.expect(200)["unread_messages"],
                unread,
                "{user_id}"
            );
        }
    }

    /// Loads what a participant sees, and the event that it is true for; perhaps with more going on meanwhile.
    async fn load(&mut self, user_id: i64, interrupted: bool) -> (Snapshot, i64) {
        let (mut snapshot, mut last_event_id, mut before) = (Snapshot::default(), None, String::new());
        loop {
            let limit = if interrupted { self.random.usize(2..8) } else { 100 };
            let path = format!("/api/v1/conversations/{}/messages?limit={limit}{before}", self.conversation_id);
            let page = self.server.get(&path, user_id).await.expect(200);
            let messages = page["data"].as_array().expect("a list");
            messages.iter().for_each(|message| snapshot.put(message));
            last_event_id.get_or_insert(number(&page["last_event_id"]));
            if interrupted {
                let meanwhile = self.random.usize(0..3);
                self.acts(meanwhile).await;
            }
            if page["has_more"] == false {
                break;
            }
            before = format!("&before={}", messages.last().expect("a message")["id"]);
        }
        let path = format!("/api/v1/conversations/{}/participants", self.conversation_id);
        let page = self.server.get(&path, user_id).await.expect(200);
        for participant in page["data"].as_array().expect("a list") {
            snapshot.read_up_to.insert(number(&participant["user"]["id"]), number(&participant["read_up_to"]));
        }
        (snapshot, last_event_id.expect("a first page"))
    }

    async fn acts(&mut self, count: usize) {
        for _ in 0..count {
            let user_id = self.somebody();
            match self.random.u8(0..40) {
                0 if self.is_direct => self.clear(user_id).await,
                1..4 => self.retry().await,
                4..12 => self.burst().await,
                number => {
                    let act = self.pick();
                    let command = self.command(act, user_id, None);
                    if number % 2 == 0 {
                        self.tell(user_id, command).await
                    } else {
                        self.call(act, user_id, command).await
                    }
                }
            }
        }
    }

    fn somebody(&mut self) -> i64 {
        self.random.choice(self.user_ids.clone()).expect("somebody")
    }

    fn pick(&mut self) -> Act {
        if self.sent.is_empty() { Act::Send } else { self.random.choice(ACTS).expect("an act") }
    }

    /// A command, in the form of a frame, about this message or any. Some will be refused, as people's mistakes are.
    fn command(&mut self, act: Act, user_id: i64, about: Option<i64>) -> Value {
        let text = format!("text {}", self.random.u16(..));
        let mine: Vec<_> = self.sent.iter().filter(|(_, sender_id)| *sender_id == user_id).collect();
        let chosen = match act {
            Act::Edit | Act::Delete if !mine.is_empty() && self.random.u8(0..8) > 0 => self.random.choice(mine),
            _ => self.random.choice(&self.sent),
        };
        let message_id = about.or(chosen.map(|(id, _)| *id)).unwrap_or(1);
        let reaction = self.random.choice(REACTIONS).expect("a reaction");
        let data = self.random.bool().then(|| json!({ "n": self.random.u8(..) }));
        match act {
            Act::Send => json!({ "type": "chat_message", "message": text, "data": data }),
            Act::Reply => json!({ "type": "chat_message", "message": text, "reply_to": message_id }),
            Act::Edit => json!({ "type": "edit_message", "message_id": message_id, "message": text }),
            Act::Delete => json!({ "type": "delete_message", "message_id": message_id }),
            Act::React => json!({ "type": "add_reaction", "message_id": message_id, "reaction": reaction }),
            Act::Unreact => json!({ "type": "remove_reaction", "message_id": message_id, "reaction": reaction }),
            Act::Read => json!({ "type": "mark_read", "message_id": message_id }),
        }
    }

    /// Sends a command on the user's socket.
    async fn tell(&mut self, user_id: i64, mut command: Value) {
        self.send(user_id, &mut command).await;
        self.note_answer(user_id, command).await;
    }

    /// Several commands at once, many of them about one message, which the server may carry out together.
    async fn burst(&mut self) {
        let about = self.random.choice(&self.sent).map(|(id, _)| *id);
        let mut sent = vec![];
        for _ in 0..self.random.usize(3..9) {
            let (user_id, act) = (self.somebody(), self.pick());
            let about = about.filter(|_| self.random.u8(0..4) > 0);
            let mut command = self.command(act, user_id, about);
            self.send(user_id, &mut command).await;
            sent.push((user_id, command));
        }
        for (user_id, command) in sent {
            self.note_answer(user_id, command).await;
        }
    }

    /// Repeats a command that took effect: it is answered as it was, and nothing changes.
    async fn retry(&mut self) {
        let Some((user_id, mut command, first)) = self.random.choice(&self.done).cloned() else { return };
        self.send(user_id, &mut command).await;
        let again = self.answer_to(user_id, &command).await;
        for field in ["type", "event_id"] {
            assert_eq!(again[field], first[field], "{command}: {again}");
        }
    }

    async fn send(&mut self, user_id: i64, command: &mut Value) {
        if command["client_id"].is_null() {
            command["client_id"] = json!(format!("{:x}", self.random.u128(..)));
        }
        if !self.sockets.contains_key(&user_id) {
            let socket = self.server.connect_as(user_id).chat(self.conversation_id).await;
            self.sockets.insert(user_id, socket);
        }
        self.sockets.get_mut(&user_id).expect("a connection").send(command.clone()).await;
    }

    /// The one answer to a command.
    async fn answer_to(&mut self, user_id: i64, command: &Value) -> Value {
        let socket = self.sockets.get_mut(&user_id).expect("a connection");
        loop {
            let frame = socket.expect_next().await;
            if frame["client_id"] == command["client_id"] {
                return frame;
            }
        }
    }

    async fn note_answer(&mut self, user_id: i64, command: Value) {
        let answer = self.answer_to(user_id, &command).await;
        if answer["type"] == "error" {
            let code = answer["code"].as_str().expect("a code");
            assert!(["forbidden", "not_found"].contains(&code), "{command}: {answer}");
            return;
        }
        if answer["type"] == "chat_message" {
            self.sent.push((number(&answer["message"]["id"]), user_id));
        }
        self.done.push((user_id, command, answer));
    }

    /// Does the same over REST; the platform may send for a user.
    async fn call(&mut self, act: Act, user_id: i64, command: Value) {
        let (in_conversation, one) = (
            format!("/api/v1/conversations/{}", self.conversation_id),
            format!("/api/v1/messages/{}", command["message_id"]),
        );
        let reaction = format!("{one}/reactions/{}", command["reaction"].as_str().unwrap_or_default());
        let (method, path) = match act {
            Act::Send | Act::Reply => ("POST", in_conversation + "/messages"),
            Act::Read => ("POST", in_conversation + "/read"),
            Act::Edit => ("PATCH", one),
            Act::Delete => ("DELETE", one),
            Act::React => ("PUT", reaction),
            Act::Unreact => ("DELETE", reaction),
        };
        let (mut caller, mut body) = (Caller::User(user_id), command.clone());
        if path.ends_with("/messages") && self.random.u8(0..4) == 0 {
            caller = Caller::Platform;
            body["sender_id"] = json!(user_id);
        }
        let request = self.server.request(method.parse().expect("a method"), &path, caller).json(&body);
        let answered = answer(request).await;
        let is_fine = matches!(answered.status, 200 | 201 | 204 | 403 | 404);
        assert!(is_fine, "{method} {path} {command}: {} {}", answered.status, answered.body);
        if answered.status == 201 {
            self.sent.push((number(&answered.body["id"]), user_id));
        }
    }

    /// Hides the 1:1 so far from one of the two.
    async fn clear(&mut self, user_id: i64) {
        let path = format!("/api/v1/conversations/{}", self.conversation_id);
        if user_id == self.observer.user_id && self.observer.socket.is_some() {
            self.observer.watch(self.server).await;
        }
        self.server.delete(&path, user_id).await.expect(204);
        if user_id == self.observer.user_id {
            self.observer.cleared_up_to = self.sent.iter().map(|(id, _)| *id).max().unwrap_or_default();
        }
    }

    /// The server ends as by a power cut, and comes back.
    async fn crash(&mut self) {
        self.server.kill().await;
        self.server.start_again().await;
        self.sockets.clear();
        self.observer.socket = None;
    }
}
