//! What there is to be seen in the end: the rows of the store, what a newcomer is shown, what REST says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::database::{self, Inbox, Rows};
use crate::fold::Fold;
use crate::history::{PlaceOfOpening, Shared, Upload};
use crate::judge::Folded;
use crate::support::{Caller, TestServer};

/// All that is looked at once the run is over.
#[derive(Default)]
pub struct Evidence {
    pub rows: BTreeMap<i64, Rows>,
    /// What a socket with `since=0` was shown, by conversation and user.
    pub fresh: BTreeMap<(i64, i64), Vec<Value>>,
    /// What REST says, by conversation and user.
    pub rest: BTreeMap<(i64, i64), Fold>,
    /// The conversation as REST has it for the user.
    pub conversations: BTreeMap<(i64, i64), Value>,
    /// The conversations in a user's list.
    pub listed: BTreeMap<i64, BTreeSet<i64>>,
    /// What a user finds in conversations by a word that is in all texts: conversation and message.
    pub found: BTreeMap<i64, BTreeSet<(i64, i64)>>,
    pub inboxes: BTreeMap<i64, Inbox>,
    /// Each user's notifications as REST lists them, and how many are unread as each way says that does.
    pub notifications: BTreeMap<i64, (Folded, Vec<usize>)>,
    /// What a notifications socket with `since=0` was told.
    pub notified: BTreeMap<i64, Vec<Value>>,
    /// Who is in what was opened, by title or people: conversation and user.
    pub opened: BTreeMap<PlaceOfOpening, Vec<(i64, i64)>>,
    /// What an upload is answered with to its uploader; and its file, under the address it once had.
    pub files: BTreeMap<i64, (u16, Option<(u16, String)>)>,
}

/// How many of the newest uploads are looked at.
const FILES_MAX: usize = 60;

impl Evidence {
    pub async fn gather(server: &TestServer, book: &Shared) -> Self {
        let mut evidence = Self::default();
        let commands: BTreeSet<i64> = book.lock().commands.iter().map(|command| command.conversation_id).collect();
        let mut users = BTreeSet::new();
        for id in commands {
            let rows = database::read(server.database_url(), id).await.expect("the database can be read");
            let present: Vec<i64> = rows.read_up_to().into_keys().collect();
            for user_id in present {
                evidence.fresh.insert((id, user_id), newcomer(server, id, user_id).await);
                evidence.rest.insert((id, user_id), by_rest(server, id, user_id).await);
                let conversation = server.get(&format!("/api/v1/conversations/{id}"), user_id).await.expect(200);
                evidence.conversations.insert((id, user_id), conversation);
                users.insert(user_id);
            }
            evidence.rows.insert(id, rows);
        }
        for user_id in users {
            let list = server.get("/api/v1/conversations?limit=100", user_id).await.expect(200);
            let ids = list["data"].as_array().expect("a list").iter().filter_map(|it| it["id"].as_i64());
            evidence.listed.insert(user_id, ids.collect());
            evidence.found.insert(user_id, found(server, user_id).await);
            evidence.look_at_notifications(server, user_id).await;
        }
        let openings = book.lock().openings.clone();
        for opening in openings {
            let (title, pair) = opening.place();
            let people = database::read_people(server.database_url(), title.as_deref(), &pair).await;
            evidence.opened.insert((title, pair), people.expect("the database can be read"));
        }
        evidence.look_at_files(server, book).await;
        evidence
    }

    async fn look_at_notifications(&mut self, server: &TestServer, user_id: i64) {
        let inbox = database::read_inbox(server.database_url(), user_id).await.expect("the database can be read");
        self.inboxes.insert(user_id, inbox);
        let (mut listed, mut unread, mut before) = (Folded::default(), Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/api/v1/notifications?limit=100{before}"), user_id).await.expect(200);
            let data = page["data"].as_array().expect("a list");
            data.iter().for_each(|notification| listed.take_object(notification));
            unread.extend(count(&page["unread_count"]));
            if page["has_more"] != true {
                break;
            }
            before = format!("&before={}", data[data.len() - 1]["id"]);
        }
        let me = server.get("/api/v1/me", user_id).await.expect(200);
        unread.extend(count(&me["unread_notifications"]));
        let mut client = server.connect_as(user_id).since(0).notifications().await;
        let mut frames = Vec::new();
        loop {
            let frame = client.expect_next().await;
            let is_last = frame["type"] == "resumed";
            if is_last || frame["type"] == "connected" {
                unread.extend(count(&frame["unread_count"]));
            }
            frames.push(frame);
            if is_last {
                break;
            }
        }
        self.notified.insert(user_id, frames);
        self.notifications.insert(user_id, (listed, unread));
    }

    async fn look_at_files(&mut self, server: &TestServer, book: &Shared) {
        let (uploads, addresses) = {
            let book = book.lock();
            let uploads: Vec<Upload> = book.uploads.iter().rev().take(FILES_MAX).cloned().collect();
            let frames = book.sessions.iter().flat_map(|session| &session.frames);
            let attachments = frames.filter_map(|frame| frame.pointer("/message/attachments")?.as_array());
            let address = |it: &Value| Some((it["id"].as_i64()?, it["url"].as_str()?.to_owned()));
            let addresses: BTreeMap<i64, String> = attachments.flatten().filter_map(address).collect();
            (uploads, addresses)
        };
        for upload in uploads {
            let status = server.get(&format!("/api/v1/attachments/{}", upload.id), upload.user_id).await.status;
            let download = match addresses.get(&upload.id) {
                None => None,
                Some(address) => {
                    let answer = server.get(address, Caller::Nobody).await;
                    Some((answer.status, answer.body.as_str().unwrap_or_default().to_owned()))
                }
            };
            self.files.insert(upload.id, (status, download));
        }
    }
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|count| usize::try_from(count).ok())
}

/// What a client that has seen nothing is shown of a conversation.
async fn newcomer(server: &TestServer, conversation_id: i64, user_id: i64) -> Vec<Value> {
    let mut client = server.connect_as(user_id).since(0).chat(conversation_id).await;
    let mut frames = Vec::new();
    loop {
        let frame = client.expect_next().await;
        if frame["type"] == "resumed" {
            return frames;
        }
        frames.push(frame);
    }
}

/// What REST says of a conversation.
async fn by_rest(server: &TestServer, conversation_id: i64, user_id: i64) -> Fold {
    let mut fold = Fold::default();
    let path = format!("/api/v1/conversations/{conversation_id}");
    let mut before = String::new();
    loop {
        let page = server.get(&format!("{path}/messages?limit=100{before}"), user_id).await.expect(200);
        let messages = page["data"].as_array().expect("a list");
        messages.iter().for_each(|message| fold.take_message(message));
        if page["has_more"] != true {
            break;
        }
        before = format!("&before={}", messages[messages.len() - 1]["id"]);
    }
    let participants = server.get(&format!("{path}/participants?limit=100"), Caller::Platform).await.expect(200);
    participants["data"].as_array().expect("a list").iter().for_each(|participant| fold.take_participant(participant));
    fold
}

/// The newest messages that a user finds.
async fn found(server: &TestServer, user_id: i64) -> BTreeSet<(i64, i64)> {
    let mut found = BTreeSet::new();
    let mut before = String::new();
    for _ in 0..2 {
        let page = server.get(&format!("/api/v1/search?q=text&limit=20{before}"), user_id).await.expect(200);
        let hits = page["data"].as_array().expect("a list");
        let place = |hit: &Value| Some((hit["conversation_id"].as_i64()?, hit["message"]["id"].as_i64()?));
        found.extend(hits.iter().filter_map(place));
        if page["has_more"] != true {
            break;
        }
        before = format!("&before={}", hits[hits.len() - 1]["message"]["id"]);
    }
    found
}
