//! What waits to be written to one socket: bounded in frames and bytes, what can be spared is shed
//! when it is half full, and a socket whose outbox overflows is closed, to come back and resume.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::protocol::Close;
use crate::protocol::client::Endpoint;

/// How much waits at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub frames_max: usize,
    pub bytes_max: usize,
}

/// A frame that waits.
#[derive(Clone, Debug)]
pub struct Item {
    pub frame: Bytes,
    /// The message whose delivery this frame is, to somebody who did not send it.
    pub mark: Option<Mark>,
}

/// A message handed to somebody who did not send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub conversation_id: i64,
    pub message_id: i64,
}

/// What a user socket is told to do, besides writing frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Listen to a conversation from where its user joined it.
    Join { conversation_id: i64 },
    /// Listen to a conversation no longer, unless its user has joined it again after that event.
    Leave { conversation_id: i64, event_id: i64 },
}

/// How a frame is treated when the outbox fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Kept, or the socket is closed.
    Kept,
    /// Dropped when half full.
    Typing,
    /// When half full, only the latest of each user and conversation waits. Passed over where the socket has been told
    /// who is there since that change.
    Presence { user_id: i64, change: u64 },
}

/// One connection, as the rest of the server sees it.
pub struct Outbox {
    pub id: u64,
    pub user_id: i64,
    pub endpoint: Endpoint,
    /// Whether the client asked for more than the guide.
    pub opted_in: bool,
    bounds: Bounds,
    queue: Mutex<Queue>,
    wake: Notify,
    /// The heartbeat's tick at which the peer was last heard.
    heard: AtomicU32,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Item>,
    /// Frames and bytes that wait or are being written.
    frames_held: usize,
    bytes_held: usize,
    /// Presence that waits for room, by conversation and user.
    spared: BTreeMap<(Option<i64>, i64), Bytes>,
    /// The last change of presence that the socket knows of; none until it is told who is there.
    presence_known: Option<u64>,
    controls: Vec<Control>,
    ping: bool,
    close: Option<Close>,
}

/// What the connection is to do next.
#[derive(Debug, Default)]
pub struct Batch {
    pub frames: VecDeque<Item>,
    pub controls: Vec<Control>,
    pub ping: bool,
    pub close: Option<Close>,
}

impl Outbox {
    pub fn new(id: u64, user_id: i64, endpoint: Endpoint, opted_in: bool, bounds: Bounds) -> Self {
        let (queue, wake, heard) = (Mutex::default(), Notify::new(), AtomicU32::new(0));
        Self { id, user_id, endpoint, opted_in, bounds, queue, wake, heard }
    }

    /// Adds an answer or another frame that is always kept.
    pub fn push(&self, frame: Bytes) {
        self.put(Item { frame, mark: None }, Class::Kept, None);
    }

    /// Adds a frame; `conversation_id` tells presence of several conversations apart.
    pub fn put(&self, item: Item, class: Class, conversation_id: Option<i64>) {
        let mut queue = self.queue.lock();
        if queue.close.is_some() {
            return;
        }
        let is_half_full =
            queue.frames_held * 2 >= self.bounds.frames_max || queue.bytes_held * 2 >= self.bounds.bytes_max;
        match class {
            Class::Typing if is_half_full => return,
            Class::Presence { change, .. } if queue.presence_known.is_none_or(|known| change <= known) => return,
            Class::Presence { user_id, .. } if is_half_full => {
                let key = (conversation_id, user_id);
                if queue.spared.len() < self.bounds.frames_max || queue.spared.contains_key(&key) {
                    queue.spared.insert(key, item.frame);
                }
                return;
            }
            Class::Presence { user_id, .. } => {
                // What was spared before is older than this.
                queue.spared.remove(&(conversation_id, user_id));
            }
            _ => {}
        }
        queue.frames_held += 1;
        queue.bytes_held += item.frame.len();
        if queue.frames_held > self.bounds.frames_max || queue.bytes_held > self.bounds.bytes_max {
            queue.shut(Close::SlowConsumer);
        } else {
            queue.frames.push_back(item);
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Tells a user socket which conversations to listen to.
    pub fn control(&self, control: Control) {
        let mut queue = self.queue.lock();
        if queue.close.is_some() {
            return;
        }
        if queue.controls.len() >= self.bounds.frames_max {
            queue.shut(Close::SlowConsumer);
        } else {
            queue.controls.push(control);
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Notes that the socket is about to be told who is there, up to this change.
    pub fn knows_presence(&self, change: u64) {
        self.queue.lock().presence_known = Some(change);
    }

    /// Asks for a WebSocket ping.
    pub fn ping(&self) {
        self.queue.lock().ping = true;
        self.wake.notify_one();
    }

    /// Ends the connection, with what waits first unless the peer is too slow. The first reason stands.
    pub fn close(&self, close: Close) {
        let mut queue = self.queue.lock();
        if queue.close.is_none() {
            queue.close = Some(close);
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Waits until there is something to do, and takes it. Dropping the future loses nothing.
    pub async fn next(&self) -> Batch {
        loop {
            if let Some(batch) = self.take() {
                return batch;
            }
            self.wake.notified().await;
        }
    }

    /// Takes all that waits.
    pub fn take(&self) -> Option<Batch> {
        let mut queue = self.queue.lock();
        let is_below_half =
            queue.frames_held * 2 < self.bounds.frames_max && queue.bytes_held * 2 < self.bounds.bytes_max;
        if is_below_half && !queue.spared.is_empty() {
            for frame in std::mem::take(&mut queue.spared).into_values() {
                queue.frames_held += 1;
                queue.bytes_held += frame.len();
                queue.frames.push_back(Item { frame, mark: None });
            }
        }
        if queue.frames.is_empty() && queue.controls.is_empty() && !queue.ping && queue.close.is_none() {
            return None;
        }
        Some(Batch {
            frames: std::mem::take(&mut queue.frames),
            controls: std::mem::take(&mut queue.controls),
            ping: std::mem::take(&mut queue.ping),
            close: queue.close,
        })
    }

    /// Says that so much of what was taken has been written.
    pub fn written(&self, frames: usize, bytes: usize) {
        let mut queue = self.queue.lock();
        queue.frames_held = queue.frames_held.saturating_sub(frames);
        queue.bytes_held = queue.bytes_held.saturating_sub(bytes);
        let has_spared = !queue.spared.is_empty();
        drop(queue);
        if has_spared {
            self.wake.notify_one();
        }
    }

    /// Whether a user socket is to listen to other conversations than before.
    pub fn has_controls(&self) -> bool {
        !self.queue.lock().controls.is_empty()
    }

    /// Waits until the connection is told to end. For use where nothing is written yet.
    pub async fn closed(&self) -> Close {
        loop {
            if let Some(close) = self.closing() {
                return close;
            }
            self.wake.notified().await;
        }
    }

    /// Waits until the connection is to end because its peer is too slow or silent. For use while a write is stuck.
    pub async fn must_break_off(&self) -> Close {
        loop {
            if let Some(close @ (Close::SlowConsumer | Close::HeartbeatTimeout)) = self.queue.lock().close {
                return close;
            }
            self.wake.notified().await;
        }
    }

    /// Why the connection is told to end, if it is.
    pub fn closing(&self) -> Option<Close> {
        self.queue.lock().close
    }

    /// How many frames wait or are being written.
    pub fn frames_held(&self) -> usize {
        self.queue.lock().frames_held
    }

    /// Notes that the peer was heard at a tick of the heartbeat.
    pub fn hear(&self, tick: u32) {
        self.heard.store(tick, Ordering::Relaxed);
    }

    /// The tick at which the peer was last heard.
    pub fn heard(&self) -> u32 {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Queue {
    /// Closes a socket that can't keep up: what waits for it is let go at once, it will be resumed.
    fn shut(&mut self, close: Close) {
        self.frames = VecDeque::new();
        self.spared.clear();
        self.close = Some(close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { frames_max: 4, bytes_max: 100 };

    fn outbox() -> Outbox {
        Outbox::new(1, 7, Endpoint::Chat, false, BOUNDS)
    }

    fn item(text: &'static str) -> Item {
        Item { frame: Bytes::from_static(text.as_bytes()), mark: None }
    }

    fn texts(batch: Batch) -> Vec<String> {
        batch.frames.into_iter().map(|item| String::from_utf8_lossy(&item.frame).into_owned()).collect()
    }

    #[test]
    fn one_frame_past_the_bound_closes_as_slow_consumer_and_lets_all_go() {
        let outbox = outbox();
        for _ in 0..4 {
            outbox.push(Bytes::from_static(b"x"));
        }
        assert!(outbox.closing().is_none());
        outbox.push(Bytes::from_static(b"x"));
        let batch = outbox.take().expect("a close");
        assert_eq!((batch.close, batch.frames.len()), (Some(Close::SlowConsumer), 0));
    }

    #[test]
    fn one_byte_past_the_bound_closes_too() {
        let outbox = outbox();
        outbox.push(Bytes::from(vec![b'x'; 100]));
        assert!(outbox.closing().is_none());
        outbox.push(Bytes::from_static(b"x"));
        assert!(outbox.closing().is_some());
    }

    #[test]
    fn what_is_being_written_still_counts_until_it_is_written() {
        let outbox = outbox();
        for _ in 0..4 {
            outbox.push(Bytes::from_static(b"x"));
        }
        let taken = outbox.take().expect("four frames");
        outbox.written(1, 1);
        outbox.push(Bytes::from_static(b"y"));
        assert!(outbox.closing().is_none());
        outbox.push(Bytes::from_static(b"z"));
        assert!(outbox.closing().is_some());
        assert_eq!(taken.frames.len(), 4);
    }

    #[test]
    fn when_half_full_typing_is_dropped_and_only_the_latest_presence_waits() {
        let outbox = outbox();
        outbox.push(Bytes::from_static(b"a"));
        outbox.push(Bytes::from_static(b"b"));
        outbox.put(item("typing"), Class::Typing, Some(1));
        outbox.knows_presence(1);
        outbox.put(item("online"), Class::Presence { user_id: 5, change: 2 }, Some(1));
        outbox.put(item("offline"), Class::Presence { user_id: 5, change: 2 }, Some(1));
        assert_eq!(texts(outbox.take().expect("two frames")), ["a", "b"]);
        assert!(outbox.take().is_none());
        outbox.written(2, 2);
        assert_eq!(texts(outbox.take().expect("the latest presence")), ["offline"]);
    }

    #[test]
    fn a_newer_presence_replaces_one_that_was_spared() {
        let outbox = outbox();
        outbox.push(Bytes::from_static(b"a"));
        outbox.push(Bytes::from_static(b"b"));
        outbox.knows_presence(1);
        outbox.put(item("offline"), Class::Presence { user_id: 5, change: 2 }, Some(1));
        outbox.take();
        outbox.written(2, 2);
        outbox.put(item("online"), Class::Presence { user_id: 5, change: 2 }, Some(1));
        assert_eq!(texts(outbox.take().expect("one frame")), ["online"]);
    }

    #[test]
    fn presence_is_told_only_of_changes_since_the_socket_was_told_who_is_there() {
        let outbox = outbox();
        let presence = |change| Class::Presence { user_id: 5, change };
        outbox.put(item("not told who is there yet"), presence(3), Some(1));
        outbox.knows_presence(4);
        outbox.put(item("known"), presence(4), Some(1));
        outbox.put(item("new"), presence(5), Some(1));
        assert_eq!(texts(outbox.take().expect("one frame")), ["new"]);
    }
}
