//! From admission to live: the greeting, the replay of what was missed, the state as it stands. What is
//! written here goes straight to the socket; live events gather in the outbox until it is done.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::admit::{Access, Authenticated, out_of_reach, position_of};
use super::connection::{Followed, Replayed, Seats};
use super::replay::{Catching, Early, Ended, WRITE_DEADLINE, replay, send, within};
use super::websocket::{Incoming, WebSocket};
use crate::app::App;
use crate::chat::Shown;
use crate::chat::presence::{encode_status, user_status};
use crate::error::Error;
use crate::hub::outbox::Outbox;
use crate::hub::topic::{Kind, Seat};
use crate::protocol::client::{Command, Endpoint, parse};
use crate::protocol::server::{Answer, Connected, Position, Resumed, encode, with_client_id};
use crate::protocol::{Close, Event, Frame, Time, Topic};
use crate::store::conversations::Place;

/// How long a user socket waits for its client to say where to resume.
const RESUME_WAIT: Duration = Duration::from_secs(5);
/// Most conversations whose positions a user socket is greeted with.
const CURSORS_MAX: usize = 1_000;
/// Most people whose presence a user socket is told when it comes.
const PRESENCE_MAX: usize = 1_000;

/// A connection that has been caught up.
pub struct Joined {
    pub seats: Seats,
    /// Frames that are yet to be dispatched.
    pub early: VecDeque<Incoming>,
    pub replayed: Option<Box<Replayed>>,
}

/// What it takes to greet a connection.
pub struct Greeting<'a> {
    pub app: &'a Arc<App>,
    pub ws: &'a mut WebSocket,
    pub outbox: &'a Arc<Outbox>,
    pub authenticated: &'a Authenticated,
    pub since: Option<String>,
    pub early: Early,
}

impl Greeting<'_> {
    /// Greets, catches up and joins.
    pub async fn join(self, access: Access) -> Ended<Joined> {
        match access {
            Access::Chat { seat, participation } => {
                let topic = Topic::Conversation(participation.conversation_id);
                let (position, cleared_up_to) = (participation.last_event_id, participation.cleared_up_to);
                let catching = Catching::new(topic, seat, Kind::Attending, position, cleared_up_to);
                self.join_one(catching.joined_with(participation.joined_event_id)).await
            }
            Access::Notifications { seat, position } => {
                let topic = Topic::User(self.outbox.user_id);
                self.join_one(Catching::new(topic, seat, Kind::Following, position, 0)).await
            }
            Access::User { seat } => self.join_all(seat).await,
        }
    }

    /// A chat or notifications socket.
    async fn join_one(mut self, mut catching: Catching) -> Ended<Joined> {
        if self.outbox.opted_in {
            self.greet(match catching.topic {
                Topic::Conversation(conversation_id) => {
                    Position::Chat { conversation_id, last_event_id: catching.position }
                }
                Topic::User(_) => Position::Notifications { last_event_id: catching.position },
            })
            .await?;
        }
        let since = match self.since.take() {
            None => None,
            Some(since) => {
                let since = event_id(&since);
                if since.is_none() {
                    let error = Error::field("since", "`since` must be an event id: an integer of at least 0");
                    self.send([encode(&Answer::error(&error, None))]).await?;
                }
                since
            }
        };
        if let Some(since) = since {
            catching.position = since;
            self.replay(&mut catching, None).await?;
        }
        self.go_live(&mut catching, None).await?;
        // Without `resumed` it is the state that says that the replay is over.
        let mut replayed = None;
        if since.is_none() {
            replayed = self.end_replay(catching.shown()).await?;
        }
        self.tell_state(&catching, since.is_some()).await?;
        if since.is_some() {
            replayed = self.end_replay(catching.shown()).await?;
        }
        if since.is_some() {
            let last_event_id = catching.position;
            let position = match catching.topic {
                Topic::Conversation(_) => Resumed::Chat { last_event_id },
                Topic::User(user_id) => Resumed::Notifications {
                    last_event_id,
                    unread_count: self.app.store.count_unread_notifications(user_id).await.map_err(out_of_reach)?,
                },
            };
            self.send([encode(&Answer::Resumed { position })]).await?;
        }
        Ok(Joined { seats: Seats::One(catching.seat), early: self.early.frames, replayed })
    }

    /// Asks for a sign that the peer has read up to here, where a replay has been shown: until it comes, a repeated
    /// command may have been sent before its answer was seen.
    async fn end_replay(&mut self, shown: impl IntoIterator<Item = (i64, Shown)>) -> Ended<Option<Box<Replayed>>> {
        let shown: HashMap<i64, Shown> = shown.into_iter().collect();
        if shown.is_empty() {
            return Ok(None);
        }
        within(WRITE_DEADLINE, self.ws.ping()).await?;
        Ok(Some(Box::new(Replayed { shown, at: Instant::now() })))
    }

    /// A user socket: every conversation, and the notifications.
    async fn join_all(mut self, seat: Seat) -> Ended<Joined> {
        let topic = Topic::User(self.outbox.user_id);
        let position = position_of(self.app, topic).await?;
        let mut own = Catching::new(topic, seat, Kind::Following, position, 0);
        let mut followed = self.places().await?;
        let most_active = followed.iter().take(CURSORS_MAX);
        let cursors = most_active.map(|(id, catching)| (*id, catching.position)).collect();
        self.greet(Position::User { cursors, notifications: own.position }).await?;
        let resume = self.first_frame().await;
        let mut resumed = Vec::new();
        if let Some((cursors, notifications, _)) = &resume {
            for (id, catching) in &mut followed {
                if let Some(cursor) = cursors.get(id) {
                    catching.position = *cursor;
                    self.replay(catching, Some(*id)).await?;
                    resumed.push(*id);
                }
            }
            if let Some(cursor) = notifications {
                own.position = *cursor;
                self.replay(&mut own, None).await?;
            }
        }
        for (id, catching) in &mut followed {
            self.go_live(catching, Some(*id)).await?;
        }
        followed.retain(|(_, catching)| !catching.is_out);
        resumed.retain(|id| followed.iter().any(|(followed, _)| followed == id));
        self.go_live(&mut own, None).await?;
        self.tell_all_state(&followed, &resumed).await?;
        let replayed = self.end_replay(followed.iter().filter_map(|(_, catching)| catching.shown())).await?;
        if let Some((_, _, client_id)) = resume {
            let cursors = followed.iter().map(|(id, catching)| (*id, catching.position)).collect();
            let position = Resumed::User { cursors, notifications: own.position };
            let frame = encode(&Answer::Resumed { position });
            let frame = client_id.map_or(frame.clone(), |id| with_client_id(&frame, &id));
            self.send([frame]).await?;
        }
        let followed_from = |catching: Catching| Followed { seat: catching.seat, event_id: catching.joined_event_id };
        let conversations = followed.into_iter().map(|(id, catching)| (id, followed_from(catching))).collect();
        let seats = Seats::Many { notifications: own.seat, conversations };
        Ok(Joined { seats, early: self.early.frames, replayed })
    }

    /// All conversations of the user with their positions, the most active first.
    async fn places(&mut self) -> Ended<Vec<(i64, Catching)>> {
        let (store, user_id) = (&self.app.store, self.outbox.user_id);
        // Seats are taken before positions are read, so that nothing passes by in between.
        let (ids, _) = store.list_conversation_ids(user_id).await.map_err(out_of_reach)?;
        let open = |id| self.app.hub.open(Topic::Conversation(id));
        let mut seats: HashMap<i64, Seat> = ids.into_iter().map(|id| (id, open(id))).collect();
        let places = store.list_places(user_id).await.map_err(out_of_reach)?;
        let place = |place: Place| {
            let id = place.conversation_id;
            // One that came in between is told by a control, from its joining on.
            let seat = seats.remove(&id)?;
            let Place { last_event_id: position, cleared_up_to, joined_event_id, .. } = place;
            let catching = Catching::new(Topic::Conversation(id), seat, Kind::Following, position, cleared_up_to);
            Some((id, catching.joined_with(joined_event_id)))
        };
        Ok(places.into_iter().filter_map(place).collect())
    }

    /// Joins a topic, after reading what it has moved on by meanwhile.
    async fn go_live(&mut self, catching: &mut Catching, conversation_id: Option<i64>) -> Ended<()> {
        while !catching.is_live(self.outbox) {
            self.replay(catching, conversation_id).await?;
        }
        Ok(())
    }

    /// Waits for the client's first frame, which alone may say where to resume.
    async fn first_frame(&mut self) -> Option<Resume> {
        let outbox = self.outbox.clone();
        let incoming = tokio::select! {
            biased;
            incoming = timeout(RESUME_WAIT, self.first_data()) => incoming,
            // What follows writes, and finds out why the connection is to end.
            _ = outbox.closed() => return None,
        };
        let incoming = incoming.ok()?;
        if let Incoming::Text(text) = &incoming
            && let (envelope, Ok(Command::Resume { cursors, notifications })) =
                parse(text.as_str(), Endpoint::User, self.app.chat.bounds())
            && self.app.limits.commands.take(&self.outbox.user_id).is_ok()
        {
            return Some((cursors.into_iter().collect(), notifications, envelope.client_id));
        }
        self.early.frames.push_back(incoming);
        None
    }

    async fn first_data(&mut self) -> Incoming {
        loop {
            match self.ws.receive().await {
                Incoming::Alive | Incoming::Pong => {}
                incoming => return incoming,
            }
        }
    }

    async fn greet(&mut self, position: Position) -> Ended<()> {
        let (store, user) = (&self.app.store, &self.authenticated.user);
        let unread_count = match &position {
            Position::Chat { conversation_id, .. } => store.count_unread(*conversation_id, user.id).await,
            Position::Notifications { .. } => store.count_unread_notifications(user.id).await,
            Position::User { .. } => store.count_unread_messages(user.id).await,
        };
        let connected = Connected {
            position,
            user: user.person(),
            server_time: Time(self.app.clock.now_ms()),
            heartbeat_interval_ms: self.app.settings.heartbeat_interval.map(|every| every.as_millis() as u64),
            token_expires_at: Time(self.authenticated.verified.expires_at * 1000),
            limits: self.app.client_limits(),
            unread_count: unread_count.map_err(out_of_reach)?,
            connection_id: self.outbox.id.to_string(),
        };
        self.send([encode(&Answer::Connected(Box::new(connected)))]).await
    }

    /// Writes the log from a position to its end. Where it can't be followed from there, says so and goes
    /// on from the end.
    async fn replay(&mut self, catching: &mut Catching, conversation_id: Option<i64>) -> Ended<()> {
        replay(self.app, self.ws, self.outbox, catching, conversation_id, Some(&mut self.early)).await
    }

    /// The state of one topic as it stands: receipts after a resume, presence and typing always.
    async fn tell_state(&mut self, catching: &Catching, with_receipts: bool) -> Ended<()> {
        let Topic::Conversation(id) = catching.topic else { return Ok(()) };
        if with_receipts {
            self.tell_receipts(id).await?;
        }
        let most = usize::try_from(self.app.settings.outbox_frames_max / 2).unwrap_or(usize::MAX);
        let presence = self.app.chat.presence_in(id, self.outbox, most).await;
        self.send(presence.map_err(|_| Close::TryAgainLater)?).await?;
        self.send(catching.seat.room().typing_now(self.outbox.user_id)).await
    }

    async fn tell_receipts(&mut self, id: i64) -> Ended<()> {
        let receipts = self.app.store.list_receipts(id, self.outbox.user_id).await.map_err(out_of_reach)?;
        let frame = |event: &Event| {
            encode(&Frame { event, conversation_id: Some(id), event_id: None, unchanged: false, client_id: None })
        };
        self.send(receipts.iter().map(frame)).await
    }

    /// The state of a user socket: receipts of what was resumed, and everybody's presence once.
    async fn tell_all_state(&mut self, followed: &[(i64, Catching)], resumed: &[i64]) -> Ended<()> {
        for id in resumed {
            self.tell_receipts(*id).await?;
        }
        let user_id = self.outbox.user_id;
        let people = self.app.store.list_contacts(user_id, 10 * PRESENCE_MAX as i64).await.map_err(out_of_reach)?;
        let ids: Vec<i64> = people.iter().map(|(id, _)| *id).collect();
        let online = self.app.hub.people.see(self.outbox, &ids);
        let (mut shown, offline): (Vec<_>, Vec<_>) = people.into_iter().partition(|(id, _)| online.contains(id));
        shown.extend(offline);
        shown.truncate(PRESENCE_MAX);
        let status = |(id, seen)| encode_status(&user_status(id, online.contains(&id), seen), None);
        let frames: Vec<Bytes> = shown.into_iter().map(status).collect();
        self.send(frames).await?;
        for (_, catching) in followed {
            self.send(catching.seat.room().typing_now(user_id)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, frames: impl IntoIterator<Item = Bytes>) -> Ended<()> {
        send(self.ws, self.outbox, frames).await
    }
}

/// Reads a `since`. One beyond all numbers is ahead of any log.
fn event_id(text: &str) -> Option<i64> {
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| text.parse().unwrap_or(i64::MAX))
}

/// Cursors by conversation, the notifications' cursor, and the frame's `client_id`.
type Resume = (HashMap<i64, i64>, Option<i64>, Option<String>);

/// Lets a user socket listen to a conversation that its user has joined, from the joining on. Nothing
/// where the user is not in it any more.
pub async fn join_conversation(
    app: &Arc<App>,
    ws: &mut WebSocket,
    outbox: &Arc<Outbox>,
    conversation_id: i64,
) -> Ended<Option<Followed>> {
    let topic = Topic::Conversation(conversation_id);
    let seat = app.hub.open(topic);
    let place = app.store.find_joining(conversation_id, outbox.user_id).await.map_err(out_of_reach)?;
    let Some((joined_event_id, cleared_up_to)) = place else { return Ok(None) };
    let position = (joined_event_id - 1).max(0);
    let catching = Catching::new(topic, seat, Kind::Following, position, cleared_up_to);
    let mut catching = catching.joined_with(joined_event_id);
    replay(app, ws, outbox, &mut catching, Some(conversation_id), None).await?;
    while !catching.is_live(outbox) {
        replay(app, ws, outbox, &mut catching, Some(conversation_id), None).await?;
    }
    Ok((!catching.is_out).then_some(Followed { seat: catching.seat, event_id: joined_event_id }))
}
