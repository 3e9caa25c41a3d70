//! A replay: the log of a topic from where its reader has come to, written page by page, while the peer is listened to.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::admit::out_of_reach;
use super::websocket::{Gone, Incoming, WebSocket};
use crate::app::App;
use crate::chat::Shown;
use crate::hub::Mark;
use crate::hub::outbox::Outbox;
use crate::hub::topic::{Kind, Seat};
use crate::protocol::server::{Answer, encode};
use crate::protocol::{Close, Event, Frame, Topic};
use crate::store::events::Told;

/// How many events are read from the store and written at a time: few at first, and more as long as they are small, for
/// a page is held for as long as its reader takes.
const PAGES: RangeInclusive<i64> = 32..=512;
const PAGE_BYTES: usize = 256 * 1024;
/// How long a write may make no progress before the peer counts as too slow. The system takes more only when a third of
/// what it holds, which may be megabytes, has gone out; whoever is silent is found by the heartbeat before.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// Most frames, and bytes but for the last of them, that are taken in before the connection is caught up.
const EARLY_FRAMES_MAX: usize = 64;
const EARLY_BYTES_MAX: usize = 64 * 1024;
/// How much of a replay is written before the peer is listened to; that it takes it in is a sign of life.
const EARSHOT: usize = 50;
const EARSHOT_BYTES: usize = 64 * 1024;

/// Done, or how the connection ends.
pub type Ended<T> = Result<T, Close>;

/// A topic on its way to live: how far its log has been shown, and what its reader has cleared.
pub struct Catching {
    pub topic: Topic,
    pub seat: Seat,
    pub kind: Kind,
    pub position: i64,
    pub cleared_up_to: i64,
    /// Where the replay began that has come to the position.
    replayed_after: Option<i64>,
    /// The event with which its reader joined the conversation.
    pub joined_event_id: i64,
    /// Whether the reader was put out of it on the way.
    pub is_out: bool,
}

impl Catching {
    pub fn new(topic: Topic, seat: Seat, kind: Kind, position: i64, cleared_up_to: i64) -> Self {
        Self { topic, seat, kind, position, cleared_up_to, replayed_after: None, joined_event_id: 0, is_out: false }
    }

    /// The same for a reader who has joined with an event of the log.
    pub fn joined_with(self, event_id: i64) -> Self {
        Self { joined_event_id: event_id, ..self }
    }

    /// Joins the topic, unless it has moved on: then what lies between is to be read first. Nobody joins who has been
    /// put out on the way.
    pub fn is_live(&mut self, outbox: &Arc<Outbox>) -> bool {
        self.is_out || self.seat.join(outbox, self.kind, self.position, self.cleared_up_to).is_ok()
    }

    /// Whether an event puts its reader out, who had joined before it.
    fn is_put_out_by(&self, user_id: i64, told: &Told) -> bool {
        matches!(&told.event, Event::ParticipantRemoved { user, .. } if user.id == user_id)
            && told.event_id > Some(self.joined_event_id)
    }

    /// What has been shown by replay, and of which conversation.
    pub fn shown(&self) -> Option<(i64, Shown)> {
        let (Topic::Conversation(id), Some(after)) = (self.topic, self.replayed_after) else { return None };
        let shown = Shown { after, up_to: self.position, cleared_up_to: self.cleared_up_to };
        Some((id, shown)).filter(|_| after < self.position)
    }
}

/// What the peer has sent meanwhile; what does not fit stays where it comes from.
#[derive(Default)]
pub struct Early {
    pub frames: VecDeque<Incoming>,
    bytes: usize,
}

impl Early {
    /// Takes in what has come, so that pings are answered and heard while a long replay is written.
    fn listen(&mut self, ws: &mut WebSocket) -> Ended<()> {
        for _ in 0..EARLY_FRAMES_MAX {
            if self.frames.len() >= EARLY_FRAMES_MAX || self.bytes >= EARLY_BYTES_MAX {
                break;
            }
            match ws.received() {
                None => break,
                Some(Incoming::Alive | Incoming::Pong) => {}
                Some(Incoming::Closed) => return Err(Close::Normal),
                Some(Incoming::Broken(close)) => return Err(close),
                Some(frame) => {
                    self.bytes += if let Incoming::Text(text) = &frame { text.as_str().len() } else { 0 };
                    self.frames.push_back(frame);
                }
            }
        }
        Ok(())
    }
}

/// Writes the log from a position to its end. Where it can't be followed from there, says so and goes on from the end.
pub async fn replay(
    app: &Arc<App>,
    ws: &mut WebSocket,
    outbox: &Arc<Outbox>,
    catching: &mut Catching,
    conversation_id: Option<i64>,
    mut early: Option<&mut Early>,
) -> Ended<()> {
    let mut length = *PAGES.start();
    loop {
        let page = app.store.read_log(catching.topic, catching.position, length).await.map_err(out_of_reach)?;
        if page.is_gone {
            catching.replayed_after = None;
            catching.position = page.last_event_id;
            let resync = Answer::Resync { conversation_id, last_event_id: page.last_event_id };
            return send(ws, outbox, [encode(&resync)]).await;
        }
        catching.cleared_up_to = catching.cleared_up_to.max(catching.seat.room().cleared_up_to(outbox.user_id));
        let reader =
            Reader { user_id: outbox.user_id, opted_in: outbox.opted_in, cleared_up_to: catching.cleared_up_to };
        let last = page.events.iter().position(|told| catching.is_put_out_by(outbox.user_id, told));
        let events = &page.events[..last.map_or(page.events.len(), |last| last + 1)];
        let frames: Vec<Bytes> = events
            .iter()
            .skip(usize::from(planted!("skip-first-of-page")))
            .filter_map(|told| reader.frame(catching.topic, told))
            .collect();
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        let within_earshot = EARSHOT_BYTES * frames.len() / bytes.max(1);
        for frames in frames.chunks(within_earshot.clamp(1, EARSHOT)) {
            send(ws, outbox, frames.iter().cloned()).await?;
            outbox.hear(app.hub.heartbeat.tick());
            if let Some(early) = &mut early {
                early.listen(ws)?;
            }
        }
        length = if bytes <= PAGE_BYTES / 4 {
            length * 4
        } else if bytes > PAGE_BYTES {
            length / 4
        } else {
            length
        };
        length = length.clamp(*PAGES.start(), *PAGES.end());
        catching.replayed_after.get_or_insert(catching.position);
        app.chat.marks.hand(outbox.user_id, events.iter().filter_map(|told| reader.mark(catching.topic, told)));
        if last.is_some() {
            catching.is_out = true;
            return if catching.kind == Kind::Attending { Err(Close::AccessDenied) } else { Ok(()) };
        }
        catching.position = page.up_to.max(catching.position);
        if catching.position >= page.last_event_id {
            return Ok(());
        }
    }
}

/// Who reads a replay.
struct Reader {
    user_id: i64,
    opted_in: bool,
    cleared_up_to: i64,
}

impl Reader {
    fn sees(&self, told: &Told) -> bool {
        (self.opted_in || !told.event.is_opt_in())
            && (planted!("show-cleared") || told.about.is_none_or(|about| !about.is_hidden(self.cleared_up_to)))
    }

    fn frame(&self, topic: Topic, told: &Told) -> Option<Bytes> {
        if !self.sees(told) {
            return None;
        }
        let told = told.seen_past(self.cleared_up_to);
        let client_id = told.client_id.as_ref().filter(|(user_id, _)| *user_id == self.user_id);
        Some(encode(&Frame {
            event: &told.event,
            conversation_id: named(topic),
            event_id: told.event_id,
            unchanged: false,
            client_id: client_id.map(|(_, client_id)| client_id.as_str()),
        }))
    }

    fn mark(&self, topic: Topic, told: &Told) -> Option<Mark> {
        let (Topic::Conversation(conversation_id), Event::ChatMessage { .. }, Some(about)) =
            (topic, &told.event, told.about)
        else {
            return None;
        };
        let is_others = about.sender_id != self.user_id && self.sees(told);
        is_others.then_some(Mark { conversation_id, message_id: about.message_id })
    }
}

/// What a `resync` on a user socket names.
fn named(topic: Topic) -> Option<i64> {
    match topic {
        Topic::Conversation(id) => Some(id),
        Topic::User(_) => None,
    }
}

/// Writes frames straight to the socket; stops when the connection is to end, or when the peer takes nothing in.
pub async fn send(ws: &mut WebSocket, outbox: &Outbox, frames: impl IntoIterator<Item = Bytes>) -> Ended<()> {
    if let Some(close) = outbox.closing() {
        return Err(close);
    }
    let write = async {
        for frame in frames {
            within(WRITE_DEADLINE, ws.feed(frame)).await?;
        }
        within(WRITE_DEADLINE, ws.flush()).await
    };
    tokio::select! {
        biased;
        written = write => written,
        close = outbox.must_break_off() => Err(close),
    }
}

/// Waits for a write; a peer that takes longer is too slow.
pub async fn within(deadline: Duration, write: impl Future<Output = Result<(), Gone>>) -> Ended<()> {
    match timeout(deadline, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Gone)) => Err(Close::Normal),
        Err(_) => Err(Close::SlowConsumer),
    }
}
