//! A client that speaks REST alone: sends messages under a `client_id` and retries them until they are answered,
//! breaking requests off at times; as the platform, changes titles, which sockets of the guide do not hear.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::device::Phase;
use crate::history::{Body, Outcome, Shared};
use crate::support::server::API_KEY;
use crate::support::token;

pub struct RestDevice {
    pub index: usize,
    pub user_id: i64,
    pub conversations: Vec<i64>,
    pub rng: fastrand::Rng,
    pub address: SocketAddr,
    pub book: Shared,
    pub phase: watch::Receiver<Phase>,
    pub run: String,
    pub http: reqwest::Client,
}

impl RestDevice {
    pub async fn run(mut self) {
        let (mut pending, mut commands) = (Vec::new(), 0);
        loop {
            let phase = *self.phase.borrow();
            match phase {
                Phase::End => return,
                Phase::Storm if self.rng.u8(..4) == 0 => self.retitle().await,
                Phase::Storm if pending.len() < 5 => {
                    commands += 1;
                    pending.push(self.think(commands));
                }
                Phase::Storm | Phase::Settle => {}
            }
            if !pending.is_empty() {
                let at = self.rng.usize(..pending.len());
                self.send(pending[at]).await;
            }
            {
                let book = self.book.lock();
                pending.retain(|command: &usize| !book.commands[*command].is_answered());
            }
            sleep(Duration::from_millis(self.rng.u64(1..120))).await;
        }
    }

    fn conversation(&mut self) -> i64 {
        self.conversations[self.rng.usize(..self.conversations.len())]
    }

    fn think(&mut self, number: usize) -> usize {
        let conversation_id = self.conversation();
        let name = format!("{}-rest{}-{number}", self.run, self.index);
        let body = Body::Send { text: format!("text {name}"), reply_to: None };
        self.book.lock().add(self.user_id, conversation_id, name, body)
    }

    async fn send(&mut self, command: usize) {
        let (path, body) = {
            let mut book = self.book.lock();
            let command = &mut book.commands[command];
            command.attempts += 1;
            let mut body = command.body.frame();
            body["client_id"] = json!(command.client_id);
            (format!("/api/v1/conversations/{}/messages", command.conversation_id), body)
        };
        let request = self.http.post(format!("http://{}{path}", self.address)).json(&body);
        let Some((status, answer)) = self.call(request.bearer_auth(token::for_user(self.user_id))).await else {
            return;
        };
        let outcome = match (status, answer["id"].as_i64()) {
            (200 | 201, Some(message_id)) => Outcome::Event { event_id: None, message_id },
            (429 | 503, _) => return,
            _ => Outcome::Refused(format!("{status} {}", answer["code"])),
        };
        self.book.lock().commands[command].outcomes.push(outcome);
    }

    async fn retitle(&mut self) {
        let path = format!("/api/v1/conversations/{}", self.conversation());
        let tried = {
            let mut book = self.book.lock();
            book.titles_tried += 1;
            book.titles_tried
        };
        let title = json!({ "title": format!("title {tried} of {}", self.run) });
        let request = self.http.patch(format!("http://{}{path}", self.address)).json(&title).bearer_auth(API_KEY);
        match self.call(request).await {
            Some((200, _)) => self.book.lock().titles_answered += 1,
            Some((429 | 503, _)) | None => {}
            Some((status, answer)) => self.book.lock().faults.push(format!("a title was refused: {status} {answer}")),
        }
    }

    /// The answer to a request, unless it breaks off or is broken off.
    async fn call(&mut self, request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
        let patience = if self.rng.u8(..8) == 0 { self.rng.u64(1..30) } else { 10_000 };
        let answer = async {
            let response = request.send().await.ok()?;
            Some((response.status().as_u16(), response.json().await.ok()?))
        };
        timeout(Duration::from_millis(patience), answer).await.ok()?
    }
}
