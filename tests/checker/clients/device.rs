//! A client on a chat or user socket that acts at random: connects, resumes, sends, retries, doubles, reads slowly,
//! breaks off, renews its token or lets it run out. What it thinks of is in `thinking`.

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};

use super::wire::{Connect, Gone, PATIENCE, Wire};
use super::{Part, Phase};
use crate::history::{Body, Endpoint};

/// What kind of client it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A chat socket that resumes.
    Resuming,
    /// A chat socket of the guide alone, or with `tidings.v1` and no `since`: sees what comes while it is there.
    Passing,
    /// Every conversation on `/ws/user/`.
    User,
}

pub struct Device {
    pub part: Part,
    pub user_id: i64,
    pub kind: Kind,
    /// Those the user is in, at times; a chat socket is for the first.
    pub conversations: Vec<i64>,
    pub is_slow: bool,
    pub memory: Memory,
}

/// What a client remembers from one connection to the next.
#[derive(Default)]
pub struct Memory {
    /// The last event seen of each conversation.
    pub shown: HashMap<i64, i64>,
    /// Messages it may speak about: conversation, id and sender.
    pub messages: Vec<(i64, i64, i64)>,
    /// Its commands that it retries until they are answered.
    pub pending: Vec<usize>,
    pub commands: usize,
    /// Conversations that the user has been put out of, as far as it has been told.
    pub out: HashSet<i64>,
    /// Conversations that the user has come back to, and of which it misses what was said meanwhile.
    pub torn: HashSet<i64>,
}

/// Where the position in one's own notifications is kept beside those of conversations.
const NOTIFICATIONS: i64 = 0;
pub const PENDING_MAX: usize = 12;
const MESSAGES_MAX: usize = 60;
pub const NO_MESSAGE: i64 = 1 << 52;

impl Deref for Device {
    type Target = Part;

    fn deref(&self) -> &Part {
        &self.part
    }
}

impl DerefMut for Device {
    fn deref_mut(&mut self) -> &mut Part {
        &mut self.part
    }
}

impl Device {
    pub async fn run(mut self) {
        loop {
            if self.is_out_for_good() {
                return self.abandon();
            }
            let Some(mut wire) = self.connect().await else {
                self.pause(20..250).await;
                continue;
            };
            let session = wire.session;
            if self.live(&mut wire).await.is_ok() {
                self.book.lock().sessions[session].has_survived = true;
                return;
            }
            drop(wire);
            let is_refused = matches!(self.book.lock().sessions[session].closed, Some(4002 | 4004 | 4006));
            let most = if self.phase() == Phase::Storm || is_refused { 800 } else { 50 };
            self.pause(1..most).await;
        }
    }

    /// A chat socket finds no way in any more once its user is out and nobody will bring them back.
    fn is_out_for_good(&self) -> bool {
        let place = (self.conversations[0], self.user_id);
        self.kind != Kind::User && self.phase() != Phase::Storm && self.book.lock().out_for_good.contains(&place)
    }

    fn abandon(&mut self) {
        let pending = std::mem::take(&mut self.memory.pending);
        let mut book = self.book.lock();
        for command in pending {
            book.commands[command].is_abandoned = true;
        }
    }

    async fn connect(&mut self) -> Option<Wire> {
        let first = self.conversations[0];
        let mut offers = false;
        let (endpoint, path) = match self.kind {
            Kind::Resuming => {
                // Whoever comes back to a group may read all of it again.
                let reads_again = self.memory.out.remove(&first) || self.rng.u8(..12) == 0;
                let since = if reads_again { 0 } else { self.shown(first) };
                self.memory.shown.insert(first, since);
                let endpoint = Endpoint::Chat { conversation_id: first, since: Some(since), opted_in: true };
                (endpoint, format!("/ws/chat/{first}/?since={since}"))
            }
            Kind::Passing => {
                offers = self.rng.bool();
                let endpoint = Endpoint::Chat { conversation_id: first, since: None, opted_in: offers };
                (endpoint, format!("/ws/chat/{first}/"))
            }
            Kind::User => {
                self.memory.torn.clear();
                let cursors = self.conversations.iter().map(|id| (*id, self.shown(*id))).collect();
                let endpoint = Endpoint::User { cursors, notifications: self.shown(NOTIFICATIONS) };
                (endpoint, format!("/ws/user/{}/", self.user_id))
            }
        };
        let (device, user_id, is_slow) = (self.index, self.user_id, self.is_slow);
        let connect = Connect { device, user_id, endpoint: endpoint.clone(), path, is_slow, offers };
        let mut wire = self.part.connect(connect).await?;
        if let Endpoint::User { cursors, notifications } = endpoint {
            let cursors: HashMap<String, i64> = cursors.iter().map(|(id, event)| (id.to_string(), *event)).collect();
            let frame = json!({ "type": "resume", "cursors": cursors, "notifications": notifications });
            wire.send(&frame).await.ok()?;
        }
        Some(wire)
    }

    fn shown(&self, id: i64) -> i64 {
        self.memory.shown.get(&id).copied().unwrap_or_default()
    }

    /// Acts until the connection is over, or the run is.
    async fn live(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        if self.rng.u8(..3) > 0 {
            let is_arrival = |frame: &Value| matches!(frame["type"].as_str(), Some("resumed" | "user_status"));
            self.read_until(wire, 200, is_arrival).await?;
        }
        for command in self.memory.pending.clone() {
            self.send(wire, command).await?;
        }
        loop {
            match self.phase() {
                Phase::Storm => self.act(wire).await?,
                // What it has missed it is shown when it comes again.
                _ if !self.memory.torn.is_empty() => return Err(Gone),
                Phase::Settle => {
                    self.read(wire, 1_000).await?;
                    for command in self.memory.pending.clone() {
                        self.send(wire, command).await?;
                    }
                    if self.is_out_for_good() {
                        self.abandon();
                    }
                }
                Phase::End if wire.runs_out() => return Err(wire.run_out().await),
                Phase::End => return self.show_that_nothing_is_left(wire).await,
            }
        }
    }

    async fn act(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        if !self.memory.torn.is_empty() && self.rng.u8(..20) == 0 {
            return Err(Gone);
        }
        if wire.runs_out() && self.rng.u8(..60) == 0 {
            let life = if self.rng.bool() { Some(self.rng.i64(2..6)) } else { None };
            return wire.renew(life).await;
        }
        match self.rng.u8(..200) {
            0..110 => {
                let time = self.rng.u64(1..60);
                self.read(wire, time).await
            }
            110..170 if self.memory.pending.len() < PENDING_MAX => {
                let command = self.think().await;
                self.send(wire, command).await
            }
            110..184 => match self.somebody_elses() {
                Some(command) => self.send(wire, command).await,
                None => self.read(wire, 20).await,
            },
            184..194 => {
                let pause = if self.is_slow { 3_000..9_000 } else { 10..300 };
                self.pause(pause).await;
                Ok(())
            }
            194 => Err(Gone),
            195 => {
                let command = self.think().await;
                let _ = self.send(wire, command).await;
                Err(Gone)
            }
            196 => {
                wire.break_off().await;
                self.pause(0..30).await;
                Err(Gone)
            }
            197 => {
                wire.close().await;
                let _ = self.read(wire, 500).await;
                Err(Gone)
            }
            _ => self.read(wire, 100).await,
        }
    }

    async fn send(&mut self, wire: &mut Wire, command: usize) -> Result<(), Gone> {
        let frame = {
            let mut book = self.book.lock();
            let command = &mut book.commands[command];
            command.attempts += 1;
            let mut frame = command.body.frame();
            frame["client_id"] = json!(command.client_id);
            if self.kind == Kind::User {
                frame["conversation_id"] = json!(command.conversation_id);
            }
            let client_id = command.client_id.clone();
            book.send(wire.session, &client_id);
            frame
        };
        wire.send(&frame).await
    }

    async fn read(&mut self, wire: &mut Wire, milliseconds: u64) -> Result<(), Gone> {
        self.read_until(wire, milliseconds, |_| false).await.map(|_| ())
    }

    /// Reads for some time, or until a frame; whether it came.
    async fn read_until(
        &mut self,
        wire: &mut Wire,
        milliseconds: u64,
        is_last: impl Fn(&Value) -> bool,
    ) -> Result<bool, Gone> {
        wire.read_until(milliseconds, |frame| self.take(frame), is_last).await
    }

    fn take(&mut self, frame: &Value) {
        let topic = frame["conversation_id"].as_i64().unwrap_or(NOTIFICATIONS);
        let memory = &mut self.memory;
        if let Some(event_id) = frame["event_id"].as_i64() {
            match frame["type"].as_str() {
                Some("participant_removed") if frame["user"]["id"] == self.user_id => _ = memory.out.insert(topic),
                Some("participant_added") if frame["user"]["id"] == self.user_id => {
                    memory.out.remove(&topic);
                    // A socket that was there when its user came back is told from then on.
                    if self.kind == Kind::User && memory.shown.get(&topic).is_none_or(|shown| event_id > shown + 1) {
                        memory.torn.insert(topic);
                        memory.shown.insert(topic, 0);
                    }
                }
                _ => {}
            }
            if !memory.torn.contains(&topic) {
                let shown = memory.shown.entry(topic).or_default();
                *shown = event_id.max(*shown);
            }
        }
        if let (Some("chat_message"), Some(conversation_id), Some(id), Some(sender_id)) = (
            frame["type"].as_str(),
            frame["conversation_id"].as_i64(),
            frame["message"]["id"].as_i64(),
            frame["message"]["sender"]["id"].as_i64(),
        ) {
            memory.messages.push((conversation_id, id, sender_id));
            if memory.messages.len() > MESSAGES_MAX {
                memory.messages.remove(0);
            }
        }
        let book = self.part.book.lock();
        memory.pending.retain(|command| !book.commands[*command].is_settled());
    }

    /// A command that is refused is answered after all that was accepted before it in its conversation.
    async fn show_that_nothing_is_left(&mut self, wire: &mut Wire) -> Result<(), Gone> {
        let session = wire.session;
        for conversation_id in self.conversations.clone() {
            let client_id = format!("last-{session}-{conversation_id}");
            self.book.lock().send(session, &client_id);
            let mut last = Body::Read { message_id: NO_MESSAGE }.frame();
            last["client_id"] = json!(client_id);
            last["conversation_id"] = json!(conversation_id);
            wire.send(&last).await?;
            let is_refusal = |frame: &Value| frame["client_id"] == client_id.as_str() && frame["code"] == "not_found";
            if !self.read_until(wire, PATIENCE.as_millis() as u64, is_refusal).await? {
                self.fault(format!("device {}: a command was not answered in {PATIENCE:?}", self.index));
            }
        }
        if self.memory.torn.is_empty() { Ok(()) } else { Err(Gone) }
    }
}
