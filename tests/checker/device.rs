//! A client that acts at random: connects, resumes, sends, retries, doubles, reads slowly, breaks off. What it does
//! comes from its own part of the seed; what it sees goes into the book.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::history::{Body, Endpoint, Session, Shared};
use crate::support::token;

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Everything happens, crashes included.
    Storm,
    /// The server stays up; what is unanswered is retried, nothing new is begun.
    Settle,
    /// Everything is answered: each socket shows that it has caught up, and the client ends.
    End,
}

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
    pub index: usize,
    pub user_id: i64,
    pub kind: Kind,
    /// Those the user is in; a chat socket is for the first.
    pub conversations: Vec<i64>,
    pub is_slow: bool,
    pub rng: fastrand::Rng,
    pub address: SocketAddr,
    pub book: Shared,
    pub phase: watch::Receiver<Phase>,
    /// The last event seen of each conversation.
    pub shown: HashMap<i64, i64>,
    /// Messages it may speak about: conversation, id and sender.
    pub messages: Vec<(i64, i64, i64)>,
    /// Its commands that it retries until they are answered.
    pub pending: Vec<usize>,
    pub commands: usize,
    pub run: String,
}

type Socket = WebSocketStream<TcpStream>;
/// The connection is over.
struct Gone;

const REACTIONS: [&str; 3] = ["like", "love", "wow"];
/// Where the position in one's own notifications is kept beside those of conversations.
const NOTIFICATIONS: i64 = 0;
const PENDING_MAX: usize = 12;
const MESSAGES_MAX: usize = 60;
const NO_MESSAGE: i64 = 1 << 52;
const PATIENCE: Duration = Duration::from_secs(20);

impl Device {
    pub async fn run(mut self) {
        loop {
            let Some((mut socket, session)) = self.connect().await else {
                self.pause(20..250).await;
                continue;
            };
            if self.live(&mut socket, session).await.is_ok() {
                self.book.lock().sessions[session].has_survived = true;
                return;
            }
            drop(socket);
            let most = if self.phase() == Phase::Storm { 800 } else { 50 };
            self.pause(1..most).await;
        }
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        sleep(Duration::from_millis(self.rng.u64(milliseconds))).await;
    }

    async fn connect(&mut self) -> Option<(Socket, usize)> {
        let token = token::for_user(self.user_id);
        let first = self.conversations[0];
        let (endpoint, path) = match self.kind {
            Kind::Resuming => {
                let since = self.shown.get(&first).copied().unwrap_or_default();
                let endpoint = Endpoint::Chat { conversation_id: first, since: Some(since), opted_in: true };
                (endpoint, format!("/ws/chat/{first}/?since={since}&token={token}"))
            }
            Kind::Passing => {
                let opted_in = self.rng.bool();
                let endpoint = Endpoint::Chat { conversation_id: first, since: None, opted_in };
                (endpoint, format!("/ws/chat/{first}/?token={token}"))
            }
            Kind::User => {
                let shown = |id: &i64| self.shown.get(id).copied().unwrap_or_default();
                let cursors = self.conversations.iter().map(|id| (*id, shown(id)));
                let endpoint = Endpoint::User { cursors: cursors.collect(), notifications: shown(&NOTIFICATIONS) };
                (endpoint, format!("/ws/user/{}/?token={token}", self.user_id))
            }
        };
        let mut request = format!("ws://{}{path}", self.address).into_client_request().ok()?;
        if endpoint == (Endpoint::Chat { conversation_id: first, since: None, opted_in: true }) {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("tidings.v1"));
        }
        let session = {
            let mut book = self.book.lock();
            let heads = book.heads.clone();
            book.sessions.push(Session {
                device: self.index,
                endpoint: endpoint.clone(),
                heads,
                frames: Vec::new(),
                sent: HashMap::new(),
                sent_late: HashMap::new(),
                is_live: false,
                has_survived: false,
            });
            book.sessions.len() - 1
        };
        let stream = TcpSocket::new_v4().ok()?;
        if self.is_slow {
            stream.set_recv_buffer_size(4096).ok()?;
        }
        let stream = stream.connect(self.address).await.ok()?;
        let handshake = tokio_tungstenite::client_async(request, stream);
        let (mut socket, _) = tokio::time::timeout(PATIENCE, handshake).await.ok()?.ok()?;
        if let Endpoint::User { cursors, notifications } = endpoint {
            let cursors: HashMap<String, i64> = cursors.iter().map(|(id, event)| (id.to_string(), *event)).collect();
            let frame = json!({ "type": "resume", "cursors": cursors, "notifications": notifications });
            socket.send(Message::text(frame.to_string())).await.ok()?;
        }
        Some((socket, session))
    }

    /// Acts until the connection is over, or the run is.
    async fn live(&mut self, socket: &mut Socket, session: usize) -> Result<(), Gone> {
        if self.rng.u8(..3) > 0 {
            self.read_until(socket, session, 200, |frame| {
                matches!(frame["type"].as_str(), Some("resumed" | "user_status"))
            })
            .await?;
        }
        for command in self.pending.clone() {
            self.send(socket, session, command).await?;
        }
        loop {
            match self.phase() {
                Phase::Storm => self.act(socket, session).await?,
                Phase::Settle => {
                    self.read(socket, session, 1_000).await?;
                    for command in self.pending.clone() {
                        self.send(socket, session, command).await?;
                    }
                }
                Phase::End => return self.show_that_nothing_is_left(socket, session).await,
            }
        }
    }

    async fn act(&mut self, socket: &mut Socket, session: usize) -> Result<(), Gone> {
        match self.rng.u8(..200) {
            0..110 => {
                let time = self.rng.u64(1..60);
                self.read(socket, session, time).await
            }
            110..170 if self.pending.len() < PENDING_MAX => {
                let command = self.think();
                self.send(socket, session, command).await
            }
            110..184 => match self.somebody_elses() {
                Some(command) => self.send(socket, session, command).await,
                None => self.read(socket, session, 20).await,
            },
            184..194 => {
                let pause = if self.is_slow { 3_000..9_000 } else { 10..300 };
                self.pause(pause).await;
                Ok(())
            }
            194 => Err(Gone),
            195 => {
                let command = self.think();
                let _ = self.send(socket, session, command).await;
                Err(Gone)
            }
            196 => {
                // The head of a masked text frame, and no more.
                let _ = socket.get_mut().write_all(&[0x81, 0xFE, 0x01]).await;
                self.pause(0..30).await;
                Err(Gone)
            }
            197 => {
                let _ = socket.close(None).await;
                let _ = self.read(socket, session, 500).await;
                Err(Gone)
            }
            _ => self.read(socket, session, 100).await,
        }
    }

    /// A new command.
    fn think(&mut self) -> usize {
        let conversation_id = self.conversations[self.rng.usize(..self.conversations.len())];
        self.commands += 1;
        let name = format!("{}-{}-{}", self.run, self.index, self.commands);
        let known = self.messages.iter().filter(|(conversation, ..)| *conversation == conversation_id);
        let known: Vec<(i64, i64)> = known.map(|(_, id, sender)| (*id, *sender)).collect();
        let any = (!known.is_empty()).then(|| known[self.rng.usize(..known.len())].0);
        let own: Vec<i64> = known.iter().filter(|(_, sender)| *sender == self.user_id).map(|(id, _)| *id).collect();
        let own = (!own.is_empty()).then(|| own[self.rng.usize(..own.len())]);
        let reaction = REACTIONS[self.rng.usize(..REACTIONS.len())];
        let body = match (self.rng.u8(..20), any, own) {
            (0..3, _, Some(message_id)) => Body::Edit { message_id, text: format!("edit {name}") },
            (3, _, Some(message_id)) => Body::Delete { message_id },
            (4..7, Some(message_id), _) => Body::React { message_id, reaction },
            (7..9, Some(message_id), _) => Body::Unreact { message_id, reaction },
            (9..11, Some(message_id), _) => Body::Read { message_id },
            (roll, _, _) => {
                let filler =
                    if matches!(roll, 11 | 13) { "🙂".repeat(self.rng.usize(1..7_900)) } else { String::new() };
                let reply_to = any.filter(|_| roll == 12);
                Body::Send { text: format!("{filler}text {name}"), reply_to }
            }
        };
        let command = self.book.lock().add(self.user_id, conversation_id, name, body);
        self.pending.push(command);
        command
    }

    /// A command of the same user that another device of theirs has sent, perhaps this moment, or one of long ago.
    fn somebody_elses(&mut self) -> Option<usize> {
        let book = self.book.lock();
        let fits = |index: &usize| {
            let command = &book.commands[*index];
            command.user_id == self.user_id && self.conversations.contains(&command.conversation_id)
        };
        let recent = book.commands.len().saturating_sub(if self.rng.bool() { 60 } else { usize::MAX });
        let candidates: Vec<usize> = (recent..book.commands.len()).filter(fits).collect();
        (!candidates.is_empty()).then(|| candidates[self.rng.usize(..candidates.len())])
    }

    async fn send(&mut self, socket: &mut Socket, session: usize, command: usize) -> Result<(), Gone> {
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
            let session = &mut book.sessions[session];
            *session.sent_late.entry(client_id.clone()).or_default() += usize::from(session.is_live);
            *session.sent.entry(client_id).or_default() += 1;
            frame
        };
        let sending = socket.send(Message::text(frame.to_string()));
        tokio::time::timeout(PATIENCE, sending).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    async fn read(&mut self, socket: &mut Socket, session: usize, milliseconds: u64) -> Result<(), Gone> {
        self.read_until(socket, session, milliseconds, |_| false).await.map(|_| ())
    }

    /// Reads for some time, or until a frame; whether it came.
    async fn read_until(
        &mut self,
        socket: &mut Socket,
        session: usize,
        milliseconds: u64,
        is_last: impl Fn(&Value) -> bool,
    ) -> Result<bool, Gone> {
        let end = Instant::now() + Duration::from_millis(milliseconds);
        while let Ok(message) = timeout_at(end, socket.next()).await {
            match message {
                Some(Ok(Message::Text(text))) => {
                    let Ok(frame) = serde_json::from_str::<Value>(&text) else {
                        self.book.lock().faults.push(format!("a frame is no JSON: {text}"));
                        return Err(Gone);
                    };
                    let is_last = is_last(&frame);
                    self.take(session, frame);
                    if is_last {
                        return Ok(true);
                    }
                }
                Some(Ok(Message::Close(close))) => {
                    let code = close.map_or(0, |close| u16::from(close.code));
                    let mut book = self.book.lock();
                    match code {
                        4009 => _ = book.seen.insert("a slow reader was closed"),
                        1012 => _ = book.seen.insert("a drain"),
                        0 | 1000 | 1001 | 1013 => {}
                        _ => book.faults.push(format!("device {} was closed with {code}", self.index)),
                    }
                    return Err(Gone);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Gone),
            }
        }
        Ok(false)
    }

    fn take(&mut self, session: usize, frame: Value) {
        if let Some(event_id) = frame["event_id"].as_i64() {
            let topic = frame["conversation_id"].as_i64().unwrap_or(NOTIFICATIONS);
            let shown = self.shown.entry(topic).or_default();
            *shown = event_id.max(*shown);
        }
        if let (Some("chat_message"), Some(conversation_id), Some(id), Some(sender_id)) = (
            frame["type"].as_str(),
            frame["conversation_id"].as_i64(),
            frame["message"]["id"].as_i64(),
            frame["message"]["sender"]["id"].as_i64(),
        ) {
            self.messages.push((conversation_id, id, sender_id));
            if self.messages.len() > MESSAGES_MAX {
                self.messages.remove(0);
            }
        }
        let mut book = self.book.lock();
        book.note(session, frame);
        self.pending.retain(|command| !book.commands[*command].is_answered());
    }

    /// A command that is refused is answered after all that was accepted before it in its conversation.
    async fn show_that_nothing_is_left(&mut self, socket: &mut Socket, session: usize) -> Result<(), Gone> {
        for conversation_id in self.conversations.clone() {
            let client_id = format!("last-{session}-{conversation_id}");
            self.book.lock().sessions[session].sent.insert(client_id.clone(), 1);
            let mut last = Body::Read { message_id: NO_MESSAGE }.frame();
            last["client_id"] = json!(client_id);
            last["conversation_id"] = json!(conversation_id);
            socket.send(Message::text(last.to_string())).await.map_err(|_| Gone)?;
            let is_refusal = |frame: &Value| frame["client_id"] == client_id.as_str() && frame["code"] == "not_found";
            if !self.read_until(socket, session, PATIENCE.as_millis() as u64, is_refusal).await? {
                let fault = format!("device {}: a command was not answered in {PATIENCE:?}", self.index);
                self.book.lock().faults.push(fault);
            }
        }
        Ok(())
    }
}
