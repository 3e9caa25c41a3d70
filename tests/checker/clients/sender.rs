//! A client that speaks REST alone: sends messages under a `client_id` and retries them until they are answered,
//! breaking requests off at times.

use reqwest::Method;
use serde_json::json;

use super::http::Ask;
use super::{Part, Phase};
use crate::history::{Body, Outcome};

pub struct Sender {
    pub part: Part,
    pub user_id: i64,
    pub conversations: Vec<i64>,
}

impl Sender {
    pub async fn run(mut self) {
        let (mut pending, mut commands) = (Vec::new(), 0);
        loop {
            match self.part.phase() {
                Phase::End => return,
                Phase::Storm if pending.len() < 5 => {
                    commands += 1;
                    pending.push(self.think(commands));
                }
                Phase::Storm | Phase::Settle => {}
            }
            if !pending.is_empty() {
                let command = self.part.pick(&pending);
                self.send(command).await;
            }
            {
                let book = self.part.book.lock();
                pending.retain(|command: &usize| !book.commands[*command].is_settled());
            }
            self.part.pause(1..120).await;
        }
    }

    fn think(&mut self, number: usize) -> usize {
        let conversation_id = self.part.pick(&self.conversations);
        let name = format!("{}-rest{}-{number}", self.part.run, self.part.index);
        // Perhaps to one that its user clears this moment.
        let is_reply = self.part.rng.u8(..4) == 0;
        let reply_to = self.part.book.lock().newest.get(&conversation_id).copied().filter(|_| is_reply);
        let body = Body::Send { text: format!("text {name}"), reply_to, attachment: None };
        self.part.book.lock().add(self.user_id, conversation_id, name, body)
    }

    async fn send(&mut self, command: usize) {
        let (path, body, begun) = {
            let mut book = self.part.book.lock();
            let begun = book.tick();
            let command = &mut book.commands[command];
            command.attempts += 1;
            let mut body = command.body.frame();
            body["client_id"] = json!(command.client_id);
            (format!("/api/v1/conversations/{}/messages", command.conversation_id), body, begun)
        };
        let ask = Ask::new(Method::POST, &path, Some(self.user_id)).body(body);
        let Some((status, answer)) = self.part.ask(ask).await else { return };
        let outcome = match (status, answer["id"].as_i64()) {
            (200 | 201, Some(message_id)) => Outcome::Event { event_id: None, message_id },
            (404, _) => Outcome::Refused("not_found".to_owned()),
            _ => Outcome::Refused(format!("{status} {}", answer["code"])),
        };
        let mut book = self.part.book.lock();
        let conversation_id = book.commands[command].conversation_id;
        let hidden = book.surely_cleared(conversation_id, self.user_id, begun);
        let reply = &answer["reply_to"];
        if reply["id"].as_i64().is_some_and(|id| id <= hidden) && reply["content"] != "" {
            book.faults.push(format!("{} was answered with what its user had cleared: {reply}", self.user_id));
        }
        book.answer(command, outcome);
    }
}
