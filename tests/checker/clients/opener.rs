//! Opens groups and 1:1s by REST under an `Idempotency-Key`, asks again until it is answered, and at times long after.
//! Two openers race for the 1:1s of the same people.

use reqwest::Method;
use serde_json::{Value, json};

use super::http::Ask;
use super::{Part, Phase};
use crate::history::{Body, Opening, Outcome};

pub struct Opener {
    pub part: Part,
    pub user_id: i64,
    pub people: Vec<i64>,
    /// Its own openings.
    pub own: Vec<usize>,
}

/// How many groups one opener makes in a round.
const GROUPS_MAX: usize = 3;

impl Opener {
    pub async fn run(mut self) {
        self.part.book.lock().busy += 1;
        let mut groups = 0;
        while self.part.phase() == Phase::Storm {
            self.part.pause(200..2_000).await;
            match self.part.rng.u8(..4) {
                0 if groups < GROUPS_MAX => {
                    groups += 1;
                    self.open_group(groups).await;
                }
                1 if !self.own.is_empty() => {
                    let again = self.part.pick(&self.own);
                    let _ = self.ask(again).await;
                }
                _ => self.open_pair().await,
            }
        }
        for opening in self.own.clone() {
            self.insist(opening).await;
        }
        self.part.book.lock().busy -= 1;
    }

    fn begin(&mut self, title: Option<String>, others: Vec<i64>) -> usize {
        let key = format!("open-{}-{}-{}", self.part.run, self.user_id, self.own.len());
        let mut people = others;
        people.push(self.user_id);
        people.sort_unstable();
        let opening = Opening { by: self.user_id, key, title, people, answers: Vec::new() };
        let mut book = self.part.book.lock();
        book.openings.push(opening);
        let index = book.openings.len() - 1;
        drop(book);
        self.own.push(index);
        index
    }

    async fn open_pair(&mut self) {
        let other = self.part.pick(&self.people);
        if other != self.user_id {
            let opening = self.begin(None, vec![other]);
            let _ = self.ask(opening).await;
        }
    }

    /// Opens a group and says something in it, which all its people hear at once.
    async fn open_group(&mut self, number: usize) {
        let title = format!("group {number} of {} in {}", self.user_id, self.part.run);
        // The last is never there, and must be notified of the one message.
        let others = [self.people.first(), self.people.last()].into_iter().flatten().copied().collect();
        let opening = self.begin(Some(title), others);
        let conversation_id = self.insist(opening).await["id"].as_i64().unwrap_or_default();
        let name = format!("{}-open{}-{number}", self.part.run, self.user_id);
        let body = Body::Send { text: format!("text {name}"), reply_to: None, attachment: None };
        let mut fields = body.frame();
        fields["client_id"] = json!(name);
        let command = self.part.book.lock().add(self.user_id, conversation_id, name, body);
        let path = format!("/api/v1/conversations/{conversation_id}/messages");
        loop {
            self.part.book.lock().commands[command].attempts += 1;
            let ask = Ask::new(Method::POST, &path, Some(self.user_id)).body(fields.clone());
            if let Some((status, answer)) = self.part.ask(ask).await {
                let outcome = match (status, answer["id"].as_i64()) {
                    (200 | 201, Some(message_id)) => Outcome::Event { event_id: None, message_id },
                    _ => Outcome::Refused(format!("{status} {answer}")),
                };
                return self.part.book.lock().commands[command].outcomes.push(outcome);
            }
            self.part.pause(10..150).await;
        }
    }

    /// Asks until there is an answer.
    async fn insist(&mut self, opening: usize) -> Value {
        loop {
            let first = self.part.book.lock().openings[opening].answers.first().cloned();
            if let Some((_, answer)) = first {
                return answer;
            }
            let _ = self.ask(opening).await;
            self.part.pause(10..150).await;
        }
    }

    async fn ask(&mut self, opening: usize) -> Option<()> {
        let Opening { by, key, title, people, .. } = self.part.book.lock().openings[opening].clone();
        let others: Vec<i64> = people.into_iter().filter(|other| *other != by).collect();
        let body = json!({ "participant_ids": others, "title": title });
        let answer =
            self.part.ask(Ask::new(Method::POST, "/api/v1/conversations", Some(by)).body(body).key(&key)).await?;
        let mut book = self.part.book.lock();
        book.openings[opening].answers.push(answer);
        book.saw("conversations opened");
        Some(())
    }
}
