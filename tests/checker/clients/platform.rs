//! The platform: changes titles, which sockets of the guide do not hear, ends people's sessions, and notifies people
//! under an `Idempotency-Key`, once however often it asks.

use std::time::Instant;

use reqwest::Method;
use serde_json::json;

use super::http::Ask;
use super::{Part, Phase};
use crate::history::{Note, Revocation};

pub struct Platform {
    pub part: Part,
    pub user_ids: Vec<i64>,
    pub groups: Vec<i64>,
    pub notes: Vec<usize>,
}

/// How the titles of notifications begin that may be deleted.
pub const FLEETING: &str = "fleeting";

impl Platform {
    pub async fn run(mut self) {
        self.part.book.lock().busy += 1;
        while self.part.phase() == Phase::Storm {
            self.part.pause(50..400).await;
            match self.part.rng.u8(..12) {
                0 => _ = self.revoke().await,
                1..4 => self.notify().await,
                4 if !self.notes.is_empty() => {
                    let again = self.part.pick(&self.notes);
                    self.tell(again).await;
                }
                _ => self.retitle().await,
            }
        }
        // Once the server stays up, somebody's sessions end for sure, and none of before may be left.
        for note in self.notes.clone() {
            while self.part.book.lock().notes[note].answers.is_empty() {
                self.tell(note).await;
                self.part.pause(10..100).await;
            }
        }
        while !self.revoke().await {
            self.part.pause(50..200).await;
        }
        self.part.book.lock().busy -= 1;
    }

    async fn retitle(&mut self) {
        let path = format!("/api/v1/conversations/{}", self.part.pick(&self.groups));
        let tried = {
            let mut book = self.part.book.lock();
            book.titles_tried += 1;
            book.titles_tried
        };
        let title = json!({ "title": format!("title {tried} of {}", self.part.run) });
        match self.part.ask(Ask::new(Method::PATCH, &path, None).body(title)).await {
            Some((200, _)) => self.part.book.lock().titles_answered += 1,
            Some((status, answer)) => self.part.fault(format!("a title was refused: {status} {answer}")),
            None => {}
        }
    }

    async fn notify(&mut self) {
        let number = self.notes.len();
        let kind = if self.part.rng.bool() { FLEETING } else { "lasting" };
        let title = format!("{kind} {number} of {}", self.part.run);
        let count = self.part.rng.usize(1..4);
        let first = self.part.rng.usize(..self.user_ids.len());
        let user_ids = self.user_ids.iter().cycle().skip(first).take(count).copied().collect();
        let key = format!("note-{}-{number}", self.part.run);
        let note = {
            let mut book = self.part.book.lock();
            book.notes.push(Note { title, user_ids, key, answers: Vec::new() });
            book.notes.len() - 1
        };
        self.notes.push(note);
        self.tell(note).await;
    }

    async fn tell(&mut self, note: usize) {
        let Note { title, user_ids, key, .. } = self.part.book.lock().notes[note].clone();
        let body = json!({ "user_ids": user_ids, "title": title, "message": title });
        if let Some(answer) =
            self.part.ask(Ask::new(Method::POST, "/api/v1/notifications", None).body(body).key(&key)).await
        {
            self.part.book.lock().notes[note].answers.push(answer);
        }
    }

    async fn revoke(&mut self) -> bool {
        let user_id = self.part.pick(&self.user_ids);
        let index = {
            let mut book = self.part.book.lock();
            let begun = book.tick();
            book.revocations.push(Revocation { user_id, begun, answered: None });
            book.revocations.len() - 1
        };
        let path = format!("/api/v1/users/{user_id}/sessions");
        match self.part.ask(Ask::new(Method::DELETE, &path, None)).await {
            Some((204, _)) => {
                self.part.book.lock().revocations[index].answered = Some(Instant::now());
                true
            }
            Some((status, answer)) => {
                self.part.fault(format!("ending somebody's sessions was refused: {status} {answer}"));
                true
            }
            None => false,
        }
    }
}
