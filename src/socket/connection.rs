//! One connection, one task: writes all that waits in one go, reads commands, ends in one place.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::dispatch::{self, Next};
use super::join::Joined;
use super::upgrade::Socket;
use super::websocket::{Gone, Incoming, WebSocket};
use super::{admit, join};
use crate::app::App;
use crate::chat::{Reply, Shown};
use crate::hub::deadlines::Key;
use crate::hub::outbox::{Batch, Control, Item, Outbox};
use crate::hub::topic::Seat;
use crate::protocol::Close;

/// How long one write may be stuck before the peer counts as too slow.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);
/// How long a peer may take to answer the ping after a replay; what comes later was sent after it, even from a peer
/// that answers no pings.
const PONG_MAX: Duration = Duration::from_secs(20);
/// How many refused frames within the window close the socket.
const REFUSED_MAX: usize = 100;
const REFUSED_WINDOW: Duration = Duration::from_secs(10);

/// An accepted connection.
pub struct Connection {
    ws: WebSocket,
    pub guard: Guard,
    pub seats: Seats,
    pub floods: Floods,
    /// Frames that came before the connection was caught up.
    early: VecDeque<Incoming>,
    replayed: Option<Box<Replayed>>,
}

/// What a connection was shown by replay, for as long as commands may come that were sent before it was seen: until
/// the peer answers the ping that ended the replay.
pub struct Replayed {
    /// By conversation.
    pub shown: HashMap<i64, Shown>,
    pub at: Instant,
}

/// The topics that a connection listens to.
pub enum Seats {
    /// A chat or notifications socket's.
    One(Seat),
    /// A user socket's: the notifications, and each conversation by its id.
    Many {
        #[expect(dead_code, reason = "held for its place in the topic")]
        notifications: Seat,
        conversations: HashMap<i64, Followed>,
    },
}

/// A user socket's place in a conversation.
pub struct Followed {
    #[expect(dead_code, reason = "held for its place in the topic")]
    pub seat: Seat,
    /// The event with which its user joined the conversation.
    pub event_id: i64,
}

/// What an accepted connection holds of the rest of the server; dropping it, after the transport, is the
/// one clean-up.
pub struct Guard {
    pub app: Arc<App>,
    pub outbox: Arc<Outbox>,
    pub expires: Vec<Key>,
    _socket: Socket,
}

impl Guard {
    pub fn new(app: Arc<App>, outbox: Arc<Outbox>, socket: Socket) -> Self {
        Self { app, outbox, expires: Vec::new(), _socket: socket }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for key in self.expires.drain(..) {
            self.app.hub.deadlines.remove(key);
        }
        self.app.chat.depart(&self.outbox);
    }
}

/// When frames were refused for coming too often; holds nothing for a peer that keeps its limits.
#[derive(Default)]
pub struct Floods(VecDeque<Instant>);

impl Floods {
    /// Counts one; whether it was one too many within the window.
    pub fn refuse(&mut self) -> bool {
        let now = Instant::now();
        self.0.retain(|at| now - *at < REFUSED_WINDOW);
        self.0.push_back(now);
        self.0.len() >= REFUSED_MAX
    }
}

/// How a connection ends.
enum End {
    /// The server says why.
    Close(Close),
    /// The peer has said so, or has gone.
    Peer,
}

impl Connection {
    pub fn new(ws: WebSocket, guard: Guard, joined: Joined) -> Self {
        let Joined { seats, early, replayed } = joined;
        Self { ws, guard, seats, floods: Floods::default(), early, replayed }
    }

    /// Where the answer to a command on a conversation goes that has just come.
    pub fn reply(&self, conversation_id: i64) -> Reply {
        let outbox = self.guard.outbox.clone();
        let replayed = self.replayed.as_ref().filter(|replayed| replayed.at.elapsed() < PONG_MAX);
        match replayed.and_then(|replayed| replayed.shown.get(&conversation_id)) {
            Some(shown) => Reply::Resuming(outbox, *shown),
            None => Reply::Socket(outbox),
        }
    }
}

/// Runs a connection to its end. The transport is closed before the guard cleans up.
pub async fn run(app: Arc<App>, mut connection: Box<Connection>) {
    let end = connection.serve(&app).await;
    let Connection { ws, guard, seats, .. } = *connection;
    match end {
        End::Close(close) => {
            admit::log_end(&guard.outbox, close);
            // The topics are left first: nothing more is gathered for a socket that ends.
            drop(seats);
            ws.close(close).await;
        }
        End::Peer => {
            tracing::info!(
                user.id = guard.outbox.user_id,
                connection.id = guard.outbox.id,
                "connection ended by the peer"
            );
            drop(seats);
            ws.finish().await;
        }
    }
    drop(guard);
}

impl Connection {
    async fn serve(&mut self, app: &Arc<App>) -> End {
        for early in std::mem::take(&mut self.early) {
            if let Some(end) = self.take(app, early).await {
                return end;
            }
        }
        let outbox = self.guard.outbox.clone();
        loop {
            // The peer is heard first, or one that is told much would never be; reading ends by itself where the
            // runtime's budget for one turn does, so that one that says much is told its answers.
            tokio::select! {
                biased;
                incoming = self.ws.receive() => {
                    if let Some(end) = self.take(app, incoming).await {
                        return end;
                    }
                }
                batch = outbox.next() => {
                    if let Some(end) = self.write(app, batch).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Takes in what the peer sent.
    async fn take(&mut self, app: &Arc<App>, incoming: Incoming) -> Option<End> {
        // A client that was told of a new conversation may speak in it at once. What else waits comes first, as ever.
        let batch = if self.guard.outbox.has_controls() { self.guard.outbox.take() } else { None };
        if let Some(batch) = batch
            && let Some(end) = Box::pin(self.write(app, batch)).await
        {
            return Some(end);
        }
        let next = match incoming {
            Incoming::Text(text) => dispatch::text(app, self, text.as_str()),
            Incoming::Binary => dispatch::binary(app, self),
            Incoming::Alive => Next::Go,
            Incoming::Pong => {
                self.replayed = None;
                Next::Go
            }
            Incoming::Closed => return Some(End::Peer),
            Incoming::Broken(close) => Next::Close(close),
        };
        let close = match next {
            Next::Go => return None,
            Next::Close(close) => close,
            Next::Renew { token, client_id } => Box::pin(dispatch::renew(app, self, token, client_id)).await.err()?,
        };
        // Nothing more is heard, but what was answered before is still told.
        self.guard.outbox.close(close);
        let batch = self.guard.outbox.take()?;
        self.write(app, batch).await
    }

    /// Writes what waits and does what else is to be done.
    async fn write(&mut self, app: &Arc<App>, batch: Batch) -> Option<End> {
        let outbox = self.guard.outbox.clone();
        if let Some(close @ (Close::SlowConsumer | Close::HeartbeatTimeout)) = batch.close {
            return Some(End::Close(close));
        }
        let write = async {
            write_frames(app, &mut self.ws, &outbox, batch.frames).await?;
            if batch.ping { self.ws.ping().await } else { Ok(()) }
        };
        let written = tokio::select! {
            biased;
            written = write => written,
            close = outbox.must_break_off() => return Some(End::Close(close)),
        };
        if written.is_err() {
            return Some(outbox.closing().map_or(End::Peer, End::Close));
        }
        for control in batch.controls {
            if let Some(end) = Box::pin(self.obey(app, control)).await {
                return Some(end);
            }
        }
        batch.close.map(End::Close)
    }

    /// Begins or ends listening to a conversation, on a user socket.
    async fn obey(&mut self, app: &Arc<App>, control: Control) -> Option<End> {
        let Seats::Many { conversations, .. } = &mut self.seats else { return None };
        match control {
            Control::Leave { conversation_id, event_id } => {
                if conversations.get(&conversation_id).is_some_and(|joined| joined.event_id < event_id) {
                    conversations.remove(&conversation_id);
                }
            }
            Control::Join { conversation_id } if !conversations.contains_key(&conversation_id) => {
                match join::join_conversation(app, &mut self.ws, &self.guard.outbox, conversation_id).await {
                    Ok(Some(joined)) => {
                        conversations.insert(conversation_id, joined);
                    }
                    Ok(None) => {}
                    Err(close) => return Some(End::Close(close)),
                }
            }
            Control::Join { .. } => {}
        }
        None
    }
}

/// Writes frames within the deadline, tells the outbox as they go, and notes what has been handed over.
async fn write_frames(app: &App, ws: &mut WebSocket, outbox: &Outbox, frames: VecDeque<Item>) -> Result<(), Gone> {
    let marks: Vec<_> = frames.iter().filter_map(|item| item.mark).collect();
    let (mut count, mut bytes) = (0, 0);
    for item in frames {
        count += 1;
        bytes += item.frame.len();
        timeout(WRITE_DEADLINE, ws.feed(item.frame)).await.map_err(|_| late(outbox))??;
    }
    timeout(WRITE_DEADLINE, ws.flush()).await.map_err(|_| late(outbox))??;
    outbox.written(count, bytes);
    if !marks.is_empty() {
        app.chat.marks.hand(outbox.user_id, marks.into_iter());
    }
    Ok(())
}

fn late(outbox: &Outbox) -> Gone {
    outbox.close(Close::SlowConsumer);
    Gone
}
