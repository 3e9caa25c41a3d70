//! The inbox from outside: what sockets hear and what the store says afterwards, on both databases.
//! Rounds are driven by hand, so that nothing depends on time.

mod messages;
mod platform;
mod reading;
mod recovery;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Inbox;
use super::round::{Progress, Round};
use crate::auth::Names;
use crate::error::Result;
use crate::hub::{Bounds, Hub, Kind, Outbox, Seat};
use crate::protocol::client::{Endpoint, Notifications};
use crate::protocol::notification::{Addressees, NewNotification};
use crate::protocol::{Notification, Topic};
use crate::store::idempotency::Once;
use crate::store::messages::Page;
use crate::store::testing::{TestStore, both};

/// A server's inbox with a store of its own.
struct Scene {
    store: TestStore,
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
}

/// A notifications socket, as far as the hub knows one.
struct Socket {
    outbox: Arc<Outbox>,
    _seat: Seat,
}

impl Socket {
    /// All frames that have come since the last time.
    fn heard(&self) -> Vec<Value> {
        let frames = self.outbox.take().map(|batch| batch.frames).unwrap_or_default();
        frames.iter().map(|item| serde_json::from_slice(&item.frame).expect("JSON")).collect()
    }

    /// The one frame that has come since the last time.
    fn heard_one(&self) -> Value {
        let mut heard = self.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }
}

impl Scene {
    async fn new(store: TestStore) -> Self {
        let (hub, _) = Hub::new(Duration::from_secs(6));
        let inbox = Inbox::new(store.clone(), hub.clone());
        Self { store, hub, inbox }
    }

    /// Conversation 1 of John Doe (1), Jane (2) and 3, who has no name.
    async fn with_conversation(store: TestStore) -> Self {
        let scene = Self::new(store).await;
        scene.name(1, "John", "Doe").await;
        scene.name(2, "Jane", "").await;
        scene.store.put_conversation(1, &[1, 2, 3]).await;
        scene.work().await;
        scene
    }

    async fn name(&self, id: i64, first: &str, last: &str) {
        let names = Names { first_name: Some(first.to_owned()), last_name: Some(last.to_owned()), username: None };
        self.store.meet_user(id, &names).await.expect("a user");
    }

    /// The server begins anew: what waited in memory is gone.
    fn restart(&mut self) {
        let (hub, _) = Hub::new(Duration::from_secs(6));
        self.hub = hub.clone();
        self.inbox = Inbox::new(self.store.clone(), hub);
    }

    /// Works until nothing waits.
    async fn work(&self) {
        work(&self.inbox).await;
    }

    /// Carries out something that waits for the inbox.
    async fn during<T>(&self, asked: impl Future<Output = T>) -> T {
        tokio::join!(asked, self.work()).0
    }

    /// A message is sent while these users are there.
    async fn say(&self, conversation_id: i64, sender_id: i64, present: &[i64]) -> i64 {
        let message_id = self.store.say(conversation_id, sender_id, "Hello there!", &[]).await;
        self.inbox.raise(conversation_id, message_id, Some(Arc::from(present)));
        message_id
    }

    async fn socket(&self, user_id: i64, opted_in: bool) -> Socket {
        let topic = Topic::User(user_id);
        let position = self.store.last_event_id(topic).await.expect("the store").unwrap_or_default();
        let bounds = Bounds { frames_max: 1_000, bytes_max: 1 << 20 };
        let id = self.hub.next_connection_id();
        let outbox = Arc::new(Outbox::new(id, user_id, Endpoint::Notifications, opted_in, bounds));
        let mut seat = self.hub.open(topic);
        seat.join(&outbox, Kind::Following, position, 0).expect("a place");
        Socket { outbox, _seat: seat }
    }

    async fn list(&self, user_id: i64) -> Vec<Notification> {
        let page = self.store.list_notifications(user_id, false, Page::Before(None), 100).await.expect("a list");
        page.notifications
    }

    /// The only notification that a user has.
    async fn only(&self, user_id: i64) -> Notification {
        let mut list = self.list(user_id).await;
        assert_eq!(list.len(), 1, "{list:?}");
        list.remove(0)
    }

    async fn unread(&self, user_id: i64) -> i64 {
        self.store.count_unread_notifications(user_id).await.expect("a count")
    }

    /// The platform notifies users; how many.
    async fn send(&self, addressees: Addressees, title: &str) -> i64 {
        first(self.during(self.inbox.send(addressees, news(title), None)).await)
    }

    /// A request marks notifications read; how many are left.
    async fn mark_read(&self, user_id: i64, which: Notifications) -> i64 {
        first(self.during(self.inbox.mark_read(user_id, which, None)).await)
    }

    /// A user's log from the beginning, as it would be replayed.
    async fn replay(&self, user_id: i64) -> Vec<Value> {
        let page = self.store.read_log(Topic::User(user_id), 0, 10_000).await.expect("a log");
        page.events
            .iter()
            .map(|told| serde_json::to_value(super::round::frame(told, false, None)).expect("JSON"))
            .collect()
    }
}

async fn work(inbox: &Inbox) {
    let mut progress = Progress::default();
    loop {
        match inbox.round(&mut progress).await {
            Round::Idle => return,
            Round::Failed => panic!("the store failed"),
            Round::Done | Round::Unfinished => {}
        }
    }
}

fn first(answer: Result<Once<i64>>) -> i64 {
    match answer {
        Ok(Once::First(count)) => count,
        other => panic!("{other:?}"),
    }
}

fn data(notification: &Notification) -> Value {
    serde_json::from_str(notification.data.get()).expect("JSON")
}

fn news(title: &str) -> NewNotification {
    NewNotification {
        title: title.to_owned(),
        message: "Something new".to_owned(),
        notification_type: "system".to_owned(),
        data: serde_json::value::to_raw_value(&serde_json::json!({"a": 1})).expect("JSON"),
        action_url: Some("/jobs/7".to_owned()),
    }
}

both!(a_notification_follows_its_message_and_shutdown_ends_the_work);

async fn a_notification_follows_its_message_and_shutdown_ends_the_work(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    let jane = scene.socket(2, false).await;
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let work = tasks.spawn(scene.inbox.clone().run(shutdown.clone()));
    for _ in 0..2 {
        scene.say(1, 1, &[1]).await;
        let batch = tokio::time::timeout(Duration::from_secs(10), jane.outbox.next()).await.expect("a notification");
        assert_eq!(batch.frames.len(), 1);
    }
    assert_eq!(first(scene.inbox.mark_read(2, Notifications::All, None).await), 0);
    shutdown.cancel();
    work.await.expect("the work ends");
    let refused = scene.inbox.mark_read(2, Notifications::All, None).await;
    assert_eq!(refused.expect_err("nobody works").code, crate::error::Code::Unavailable);
}
