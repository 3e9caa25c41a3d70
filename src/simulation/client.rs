//! A client: what it sends and when, how it reads, and how it breaks off and comes back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::session::{Kind, NOTIFICATIONS, Sent, Session};
use super::world::{Server, World};

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How many bytes are read at once: every read clears as many first.
const READ_BUFFER: usize = 4 * 1024;

/// A client with its chance.
pub struct Client {
    pub session: Arc<Mutex<Session>>,
    world: Arc<World>,
    rng: fastrand::Rng,
    user_id: i64,
    kind: Kind,
    index: u64,
    commands: u32,
    /// How many milliseconds it takes to read a frame while there is trouble.
    pace: u64,
}

type Socket = WebSocketStream<DuplexStream>;

impl Client {
    pub fn new(index: u64, user_id: i64, mut rng: fastrand::Rng, world: Arc<World>) -> Self {
        let kinds = [Kind::Chat, Kind::Chat, Kind::Chat, Kind::Guide, Kind::User, Kind::User, Kind::Notifications];
        let kind = kinds[rng.usize(..kinds.len())];
        let own = world.conversations_of(user_id);
        let conversations = match kind {
            Kind::Chat | Kind::Guide => vec![own[rng.usize(..own.len())]],
            Kind::User => own.to_vec(),
            Kind::Notifications => Vec::new(),
        };
        let session = Session::new(index, user_id, kind, conversations, world.has_many_servers());
        let pace = [0, 0, 0, 5, 40, 400][rng.usize(..6)];
        Self { session: Arc::new(Mutex::new(session)), world, rng, user_id, kind, index, commands: 0, pace }
    }

    /// Lives until the end.
    pub async fn run(mut self) {
        let end = self.world.end.clone();
        while !end.is_cancelled() {
            let wait = self.rng.u64(1..250);
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = sleep(Duration::from_millis(wait)) => {}
            }
            let Some((number, server, stream)) = self.world.connect(&mut self.rng) else { continue };
            self.tell(format!("connects to server {number}"));
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = server.died.cancelled() => {}
                () = self.connect(&server, stream) => {}
            }
            self.tell("is cut off".to_owned());
            self.session.lock().connection = None;
        }
    }

    fn tell(&self, what: String) {
        self.world.book.tell(format!("client {} ({:?}) {what}", self.index, self.kind));
    }

    /// One connection, from the handshake to its end.
    async fn connect(&mut self, server: &Server, stream: DuplexStream) {
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
        let handshake = tokio_tungstenite::client_async_with_config(self.address(), stream, Some(config));
        let Ok(Ok((mut socket, _))) = timeout(HANDSHAKE_MAX, handshake).await else { return };
        self.world.book.count(|totals| &mut totals.connections);
        self.session.lock().connect();
        if self.kind == Kind::User && socket.send(Message::text(self.cursors())).await.is_err() {
            return;
        }
        if self.world.is_trouble() && self.kind != Kind::Guide && self.rng.u8(..3) == 0 {
            self.world.book.count(|totals| &mut totals.early);
            if !self.act(&mut socket).await {
                return;
            }
            self.send_pending(&mut socket).await;
        }
        let mut was_live = false;
        let mut next = Instant::now() + self.patience();
        while !server.died.is_cancelled() {
            if self.session.lock().is_live() && !was_live {
                was_live = true;
                self.send_pending(&mut socket).await;
            }
            tokio::select! {
                biased;
                message = read(&mut socket, if self.world.is_trouble() { self.pace } else { 0 }) => {
                    if !self.take(message) {
                        return;
                    }
                }
                () = sleep_until(next) => {
                    next = Instant::now() + self.patience();
                    if was_live && !self.act(&mut socket).await {
                        return;
                    }
                }
            }
        }
    }

    fn address(&self) -> String {
        let session = self.session.lock();
        let token = self.world.token_of(self.user_id);
        let shown = |key: i64| session.shown.get(&key).copied().unwrap_or_default();
        match self.kind {
            Kind::Chat => {
                let id = session.conversations[0];
                format!("ws://simulation/ws/chat/{id}/?token={token}&since={}", shown(id))
            }
            Kind::Guide => format!("ws://simulation/ws/chat/{}/?token={token}", session.conversations[0]),
            Kind::User => format!("ws://simulation/ws/user/{}/?token={token}", self.user_id),
            Kind::Notifications => {
                let since = shown(NOTIFICATIONS);
                format!("ws://simulation/ws/notifications/{}/?token={token}&since={since}", self.user_id)
            }
        }
    }

    fn cursors(&self) -> String {
        let session = self.session.lock();
        let shown = |key: i64| session.shown.get(&key).copied().unwrap_or_default();
        let cursors: serde_json::Map<String, Value> =
            session.conversations.iter().map(|id| (id.to_string(), json!(shown(*id)))).collect();
        json!({"type": "resume", "cursors": cursors, "notifications": shown(NOTIFICATIONS)}).to_string()
    }

    fn patience(&mut self) -> Duration {
        Duration::from_millis(if self.world.is_trouble() { self.rng.u64(1..300) } else { 1_000 })
    }

    /// Takes in what was read; whether the connection goes on.
    fn take(&mut self, message: Option<Message>) -> bool {
        match message {
            Some(Message::Text(text)) => {
                let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
                self.tell(format!("is shown {}", in_short(&frame)));
                self.session.lock().take(&frame, &self.world.book);
                true
            }
            Some(Message::Close(close)) => {
                let code = close.map_or(1005, |frame| frame.code.into());
                self.tell(format!("is closed with {code}"));
                match code {
                    4009 if self.pace > 0 || self.world.is_trouble() => {
                        self.world.book.count(|totals| &mut totals.fallen_behind);
                    }
                    1012 | 1013 => {}
                    _ => self.world.book.fault(format!("client {} was closed with {code}", self.index)),
                }
                false
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Does one thing of many; whether the connection goes on.
    async fn act(&mut self, socket: &mut Socket) -> bool {
        if !self.world.is_trouble() {
            self.send_pending(socket).await;
            return true;
        }
        match self.rng.u8(..32) {
            0 => {
                self.tell("says goodbye".to_owned());
                let _ = socket.close(None).await;
                false
            }
            1 => {
                self.tell("breaks off".to_owned());
                false
            }
            2 => {
                self.tell("breaks off in the middle of a frame".to_owned());
                let _ = socket.get_mut().write_all(&[0x81, 0xfe, 0x01]).await;
                false
            }
            3..5 => socket.send(Message::text(r#"{"type":"ping"}"#)).await.is_ok(),
            5..9 => self.repeat(socket).await,
            _ => self.ask(socket).await,
        }
    }

    /// Sends a new command, at times twice.
    async fn ask(&mut self, socket: &mut Socket) -> bool {
        let Some(mut command) = self.new_command() else { return true };
        let client_id = format!("{}-{}", self.index, self.commands);
        self.commands += 1;
        command["client_id"] = json!(client_id);
        let sent = Sent { client_id, frame: command.to_string(), is_refused: false };
        self.session.lock().pending.push(sent.clone());
        let goes_on = self.send(socket, &sent).await;
        if goes_on && self.rng.u8(..10) == 0 { self.send(socket, &sent).await } else { goes_on }
    }

    fn new_command(&mut self) -> Option<Value> {
        if self.kind == Kind::Notifications {
            return Some(json!({"type": "mark_read", "all": true}));
        }
        let session = self.session.lock();
        let id = session.conversations[self.rng.usize(..session.conversations.len())];
        let alive = session.folds.get(&id).map(|fold| fold.alive()).unwrap_or_default();
        let own: Vec<i64> = alive.iter().copied().filter(|id| session.own.contains(id)).collect();
        drop(session);
        let mut one_of = |ids: &[i64]| (!ids.is_empty()).then(|| ids[self.rng.usize(..ids.len())]);
        let (any, own) = (one_of(&alive), one_of(&own));
        let mut command = match self.rng.u8(..10) {
            0 => json!({"type": "edit_message", "message_id": own?, "message": format!("new {}", self.commands)}),
            1 => json!({"type": "delete_message", "message_id": own?}),
            2 => json!({"type": "add_reaction", "message_id": any?, "reaction": "like"}),
            3 => json!({"type": "remove_reaction", "message_id": any?, "reaction": "like"}),
            4 => json!({"type": "mark_read", "message_id": any?}),
            5 => json!({"type": "chat_message", "message": format!("re {}", self.commands), "reply_to": any}),
            _ => json!({"type": "chat_message", "message": format!("text {} {}", self.index, self.commands)}),
        };
        if self.kind == Kind::User {
            command["conversation_id"] = json!(id);
        }
        Some(command)
    }

    /// Sends once more what has been answered.
    async fn repeat(&mut self, socket: &mut Socket) -> bool {
        let done = self.session.lock().done.clone();
        if done.is_empty() {
            return true;
        }
        self.world.book.count(|totals| &mut totals.repeats);
        let sent = done[self.rng.usize(..done.len())].clone();
        self.send(socket, &sent).await
    }

    /// Sends what has no answer, unless it is under way on this connection.
    async fn send_pending(&mut self, socket: &mut Socket) {
        let pending = self.session.lock().pending.clone();
        for sent in pending {
            if !self.session.lock().is_under_way(&sent) && !self.send(socket, &sent).await {
                return;
            }
        }
    }

    async fn send(&mut self, socket: &mut Socket, sent: &Sent) -> bool {
        self.tell(format!("sends {}", sent.frame));
        self.session.lock().send(&sent.client_id);
        socket.send(Message::text(sent.frame.clone())).await.is_ok()
    }
}

/// What tells one frame from another.
fn in_short(frame: &Value) -> String {
    let names = ["conversation_id", "event_id", "message_id", "client_id", "last_event_id", "cursors", "code"];
    let told = names.iter().filter(|name| !frame[**name].is_null());
    let rest: Vec<String> = told.map(|name| format!(" {name} {}", frame[*name])).collect();
    format!("{}{}", frame["type"], rest.concat())
}

/// The next message, for which a slow reader takes its time; nothing where the connection is over.
async fn read(socket: &mut Socket, pace: u64) -> Option<Message> {
    if pace > 0 {
        sleep(Duration::from_millis(pace)).await;
    }
    socket.next().await?.ok()
}
