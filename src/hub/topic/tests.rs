//! Who is told of an event that puts somebody out, and of what follows it; who is told last.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use super::*;
use crate::hub::outbox::Bounds;
use crate::protocol::client::Endpoint;

const BOUNDS: Bounds = Bounds { frames_max: 64, bytes_max: 4_096 };
const TOPIC: Topic = Topic::Conversation(1);

struct Listening {
    outbox: Arc<Outbox>,
    _seat: Seat,
}

fn listen(hub: &Arc<Hub>, user_id: i64, kind: Kind, position: i64) -> Listening {
    let outbox = Arc::new(Outbox::new(hub.next_connection_id(), user_id, Endpoint::User, true, BOUNDS));
    let mut seat = hub.open(TOPIC);
    seat.join(&outbox, kind, position, 0).expect("the topic has not moved on");
    Listening { outbox, _seat: seat }
}

fn event(event_id: i64, puts_out: Option<i64>) -> Delivery {
    Delivery { event_id: Some(event_id), puts_out, ..Delivery::new(Bytes::from(event_id.to_string())) }
}

fn told(listening: &Listening) -> Vec<String> {
    let frames = listening.outbox.take().map(|batch| batch.frames).unwrap_or_default();
    frames.iter().map(|item| String::from_utf8_lossy(&item.frame).into_owned()).collect()
}

#[test]
fn whoever_is_put_out_is_told_so_and_nothing_after_it() {
    let (hub, _gaps) = Hub::new(Duration::from_secs(6));
    let (follower, other) = (listen(&hub, 7, Kind::Following, 0), listen(&hub, 8, Kind::Following, 0));
    let attending = listen(&hub, 7, Kind::Attending, 0);
    // What follows waits already when the gap before it is filled.
    hub.deliver(TOPIC, event(2, None));
    hub.deliver(TOPIC, event(1, Some(7)));
    assert_eq!(told(&follower), ["1"]);
    assert_eq!(follower.outbox.closing(), None);
    assert_eq!(told(&attending), ["1"]);
    assert_eq!(attending.outbox.closing(), Some(Close::AccessDenied));
    assert_eq!(told(&other), ["1", "2"]);
}

#[test]
fn whoever_has_come_back_is_not_put_out_by_what_was_before() {
    let (hub, _gaps) = Hub::new(Duration::from_secs(6));
    let _other = listen(&hub, 8, Kind::Following, 0);
    hub.deliver(TOPIC, event(1, None));
    let back = listen(&hub, 7, Kind::Attending, 3);
    hub.deliver(TOPIC, event(2, Some(7)));
    hub.deliver(TOPIC, event(3, None));
    hub.deliver(TOPIC, event(4, None));
    assert_eq!((told(&back), back.outbox.closing()), (vec!["4".to_owned()], None));
}

/// Counts the others who have their copy when it is woken.
struct Look {
    others: [Arc<Outbox>; 2],
    have_it: AtomicUsize,
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        self.have_it.store(self.others.iter().map(|other| other.frames_held()).sum(), Ordering::Relaxed);
    }
}

#[test]
fn whoever_has_asked_is_told_when_all_others_are() {
    let (hub, _gaps) = Hub::new(Duration::from_secs(6));
    let [before, issuer, after] = [7, 8, 9].map(|user_id| listen(&hub, user_id, Kind::Attending, 0));
    let others = [before.outbox.clone(), after.outbox.clone()];
    let look = Arc::new(Look { others, have_it: AtomicUsize::new(0) });
    let waker = Waker::from(look.clone());
    let mut next = pin!(issuer.outbox.next());
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let answers = Issuer { connection_id: issuer.outbox.id, client_id: None };
    hub.deliver(TOPIC, Delivery { issuer: Some(answers), ..event(1, None) });
    assert_eq!(look.have_it.load(Ordering::Relaxed), 2);
}
