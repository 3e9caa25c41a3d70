//! A client on a notifications socket: resumes from what it has seen, marks notifications read under a `client_id` and
//! retries that, deletes some by REST.

use reqwest::Method;
use serde_json::{Value, json};

use super::http::Ask;
use super::platform::FLEETING;
use super::wire::{Connect, Gone, PATIENCE, Wire};
use super::{Part, Phase};
use crate::history::{Endpoint, Mark};

pub struct Watcher {
    pub part: Part,
    pub user_id: i64,
    /// Whether it marks and deletes, or only looks.
    pub is_active: bool,
    /// The last event it has seen.
    pub shown: i64,
    /// Notifications it has seen, with their titles.
    pub known: Vec<(i64, String)>,
    pub marks: usize,
}

const KNOWN_MAX: usize = 20;
const NO_NOTIFICATION: i64 = 1 << 52;

impl Watcher {
    pub async fn run(mut self) {
        loop {
            let Some(mut wire) = self.connect().await else {
                self.part.pause(20..250).await;
                continue;
            };
            let session = wire.session;
            if self.live(&mut wire).await.is_ok() {
                self.part.book.lock().sessions[session].has_survived = true;
                return;
            }
            self.part.pause(1..600).await;
        }
    }

    async fn connect(&mut self) -> Option<Wire> {
        if self.part.rng.u8(..10) == 0 {
            self.shown = 0;
        }
        let endpoint = Endpoint::Notifications { since: self.shown };
        let path = format!("/ws/notifications/{}/?since={}", self.user_id, self.shown);
        let (device, user_id) = (self.part.index, self.user_id);
        let connect = Connect { device, user_id, endpoint, path, is_slow: false, offers: false };
        self.part.connect(connect).await
    }

    async fn live(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        let patience = PATIENCE.as_millis() as u64;
        self.read_until(wire, patience, |frame| frame["type"] == "resumed").await?;
        loop {
            match self.part.phase() {
                Phase::Storm => self.act(wire).await?,
                Phase::Settle => {
                    self.read_until(wire, 500, |_| false).await?;
                    for mark in self.unanswered() {
                        self.send(wire, mark).await?;
                    }
                }
                Phase::End if wire.runs_out() => return Err(wire.run_out().await),
                Phase::End => return self.show_that_nothing_is_left(wire).await,
            }
        }
    }

    async fn act(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        match self.part.rng.u8(..40) {
            0..4 if self.is_active => {
                let mark = self.think();
                self.send(wire, mark).await
            }
            4..8 if self.is_active => match self.earlier() {
                Some(mark) => self.send(wire, mark).await,
                None => Ok(()),
            },
            8 if self.is_active => {
                self.delete().await;
                Ok(())
            }
            9 => Err(Gone),
            _ => {
                let time = self.part.rng.u64(1..100);
                self.read_until(wire, time, |_| false).await.map(|_| ())
            }
        }
    }

    fn think(&mut self) -> usize {
        self.marks += 1;
        let client_id = format!("mark-{}-{}-{}", self.part.run, self.part.index, self.marks);
        let ids = match self.part.rng.u8(..4) {
            0 => None,
            _ if self.known.is_empty() => None,
            _ => Some(vec![self.part.pick(&self.known).0, self.part.pick(&self.known).0]),
        };
        self.part.book.lock().mark(Mark { user_id: self.user_id, client_id, ids, answers: Vec::new() })
    }

    fn unanswered(&self) -> Vec<usize> {
        let book = self.part.book.lock();
        let own = book.marks.iter().enumerate().filter(|(_, mark)| mark.user_id == self.user_id);
        own.filter(|(_, mark)| mark.answers.is_empty()).map(|(index, _)| index).collect()
    }

    /// A command of this user's that was sent before, here or on another socket.
    fn earlier(&mut self) -> Option<usize> {
        let candidates: Vec<usize> = {
            let book = self.part.book.lock();
            (0..book.marks.len()).filter(|index| book.marks[*index].user_id == self.user_id).collect()
        };
        (!candidates.is_empty()).then(|| self.part.pick(&candidates))
    }

    async fn send(&mut self, wire: &mut Wire, mark: usize) -> Result<(), Gone> {
        let frame = {
            let mut book = self.part.book.lock();
            let Mark { client_id, ids, .. } = book.marks[mark].clone();
            book.send(wire.session, &client_id);
            match ids {
                Some(ids) => json!({ "type": "mark_read", "notification_ids": ids, "client_id": client_id }),
                None => json!({ "type": "mark_read", "all": true, "client_id": client_id }),
            }
        };
        wire.send(&frame).await
    }

    /// Deletes one that nobody will miss.
    async fn delete(&mut self) {
        let fleeting = self.known.iter().position(|(_, title)| title.starts_with(FLEETING));
        let Some((id, _)) = fleeting.map(|index| self.known.remove(index)) else { return };
        let path = format!("/api/v1/notifications/{id}");
        match self.part.ask(Ask::new(Method::DELETE, &path, Some(self.user_id))).await {
            Some((204, _)) => self.part.book.lock().saw("notifications deleted"),
            Some((404, _)) | None => {}
            Some((status, answer)) => self.part.fault(format!("deleting {path} was answered {status} {answer}")),
        }
    }

    async fn read_until(
        &mut self,
        wire: &mut Wire,
        milliseconds: u64,
        is_last: impl Fn(&Value) -> bool,
    ) -> Result<bool, Gone> {
        wire.read_until(milliseconds, |frame| self.take(frame), is_last).await
    }

    fn take(&mut self, frame: &Value) {
        if let Some(event_id) = frame["event_id"].as_i64() {
            self.shown = event_id.max(self.shown);
        }
        if let (Some(id), Some(title)) = (frame["notification"]["id"].as_i64(), frame["notification"]["title"].as_str())
        {
            self.known.push((id, title.to_owned()));
            if self.known.len() > KNOWN_MAX {
                self.known.remove(0);
            }
        }
    }

    async fn show_that_nothing_is_left(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        let client_id = format!("last-{}", wire.session);
        self.part.book.lock().send(wire.session, &client_id);
        let last = json!({ "type": "mark_read", "notification_ids": [NO_NOTIFICATION], "client_id": client_id });
        wire.send(&last).await?;
        let is_answer = |frame: &Value| frame["client_id"] == client_id.as_str();
        if !self.read_until(wire, PATIENCE.as_millis() as u64, is_answer).await? {
            self.part.fault(format!("watcher of {}: a command was not answered in {PATIENCE:?}", self.user_id));
        }
        Ok(())
    }
}
