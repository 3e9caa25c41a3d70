//! Crashes between a commit and its round, several servers, and groups that take several transactions.

use std::collections::BTreeMap;

use super::*;
use crate::store::commit::Change;
use crate::store::notifications::raise::Raise;

both!(
    after_a_crash_a_new_inbox_notifies_of_what_the_old_one_had_not,
    after_a_crash_a_new_inbox_settles_what_the_old_one_had_not,
    a_group_that_takes_several_transactions_is_notified_once_across_a_crash,
    two_servers_give_each_user_a_dense_log_that_replays_to_the_same_state,
);

async fn after_a_crash_a_new_inbox_notifies_of_what_the_old_one_had_not(store: TestStore) {
    let mut scene = Scene::with_conversation(store).await;
    scene.say(1, 1, &[]).await;
    scene.work().await;
    scene.say(1, 1, &[]).await;
    scene.say(1, 1, &[]).await;
    scene.restart();
    // Who was there is not known any more; who is there now counts as such.
    let bounds = Bounds { frames_max: 100, bytes_max: 10_000 };
    let outbox = Arc::new(Outbox::new(1, 3, Endpoint::Chat, false, bounds));
    let mut seat = scene.hub.open(Topic::Conversation(1));
    seat.join(&outbox, Kind::Attending, 3, 0).expect("a place");
    scene.work().await;
    assert_eq!(data(&scene.only(2).await)["count"], 3);
    assert_eq!(data(&scene.only(3).await)["count"], 1);
    let before = scene.store.last_event_id(Topic::User(2)).await.expect("the store");
    scene.restart();
    scene.work().await;
    assert_eq!(scene.store.last_event_id(Topic::User(2)).await.expect("the store"), before);
}

async fn after_a_crash_a_new_inbox_settles_what_the_old_one_had_not(store: TestStore) {
    let mut scene = Scene::with_conversation(store).await;
    let mut last = BTreeMap::new();
    for conversation_id in [2, 3, 4, 5] {
        scene.store.put_conversation(conversation_id, &[1, 2]).await;
        last.insert(conversation_id, scene.say(conversation_id, 1, &[]).await);
    }
    let kept = scene.say(1, 1, &[]).await;
    scene.work().await;
    assert_eq!(scene.unread(2).await, 5);
    scene.store.change(2, 2, Change::Read { message_id: last[&2] }).await.expect("read");
    scene.store.change(3, 1, Change::Delete { message_id: last[&3] }).await.expect("deleted");
    scene.store.change(4, 2, Change::RemoveParticipant { user_id: 2 }).await.expect("left");
    scene.store.run("DELETE FROM conversations WHERE id = 5").await;
    scene.restart();
    scene.work().await;
    let unread: Vec<_> = scene.list(2).await.into_iter().filter(|notification| !notification.is_read).collect();
    assert_eq!((unread.len(), &data(&unread[0])["message_id"]), (1, &kept.into()));
    assert_eq!(scene.list(2).await.len(), 4, "the one whose message was deleted is gone");
}

async fn a_group_that_takes_several_transactions_is_notified_once_across_a_crash(store: TestStore) {
    let mut scene = Scene::new(store).await;
    let members: Vec<i64> = (1..=3_000).collect();
    scene.store.put_conversation(1, &members).await;
    let mut last = 0;
    for _ in 0..4 {
        last = scene.say(1, 1, &[]).await;
    }
    let raise = Raise { conversation_id: 1, up_to: last, seen: Vec::new(), present: Arc::from([]) };
    let raised = scene.store.raise_notifications(std::slice::from_ref(&raise)).await.expect("a first part");
    assert_eq!(raised.unfinished, [1]);
    assert_eq!(raised.events.len(), 512, "no more at a time, for nobody can send meanwhile");
    // Somebody reads theirs by hand before the others have one: it does not come back.
    assert_eq!(scene.mark_read(2, Notifications::All).await, 0);
    scene.restart();
    scene.work().await;
    for user_id in [2, 3, 1_500, 3_000] {
        assert_eq!(data(&scene.only(user_id).await)["count"], 4, "{user_id}");
    }
    assert_eq!((scene.unread(2).await, scene.unread(3_000).await), (0, 1));
    assert!(scene.list(1).await.is_empty());
    scene.say(1, 1, &[]).await;
    scene.work().await;
    assert_eq!(data(&scene.only(3_000).await)["count"], 5);
}

async fn two_servers_give_each_user_a_dense_log_that_replays_to_the_same_state(store: TestStore) {
    let scene = Scene::new(store).await;
    for conversation_id in 1..=4 {
        scene.store.put_conversation(conversation_id, &[10, 11, 12, 13]).await;
    }
    let socket = scene.socket(10, true).await;
    let (hub, _) = Hub::new(Duration::from_secs(6));
    let other = Inbox::new(scene.store.clone(), hub);
    let talk = async |conversation_id: i64, inbox: &Inbox| {
        for turn in 0..12 {
            let sender_id = 11 + turn % 3;
            let message_id = scene.store.say(conversation_id, sender_id, "x", &[]).await;
            inbox.raise(conversation_id, message_id, Some(Arc::from([])));
            if turn % 5 == 4 {
                scene.store.change(conversation_id, 10, Change::Read { message_id }).await.expect("read");
                inbox.settle(conversation_id, 10);
            }
            if turn % 4 == 3 {
                scene.store.change(conversation_id, sender_id, Change::Delete { message_id }).await.expect("deleted");
                inbox.message_deleted(message_id);
            }
            work(inbox).await;
        }
    };
    tokio::join!(talk(1, &scene.inbox), talk(2, &other), talk(3, &scene.inbox), talk(4, &other));
    let (mut known, mut position) = (BTreeMap::new(), 0);
    for frame in scene.replay(10).await {
        let event_id = frame["event_id"].as_i64().expect("an event_id");
        assert!(event_id > position);
        position = event_id;
        match frame["type"].as_str() {
            Some("notification") => {
                let id = frame["notification"]["id"].as_i64().expect("an id");
                known.insert(id, frame["notification"].clone());
            }
            Some("notification_read") => {
                for id in frame["notification_ids"].as_array().expect("ids") {
                    known.get_mut(&id.as_i64().expect("an id")).expect("known")["is_read"] = true.into();
                }
            }
            _ => {
                for id in frame["notification_ids"].as_array().expect("ids") {
                    known.remove(&id.as_i64().expect("an id"));
                }
            }
        }
    }
    let mut today: Vec<Value> =
        scene.list(10).await.iter().map(|today| serde_json::to_value(today).expect("JSON")).collect();
    today.reverse();
    assert_eq!(known.into_values().collect::<Vec<_>>(), today);
    // The first server's socket heard what its own inbox did up to the first gap, in order.
    let heard: Vec<i64> = socket.heard().iter().map(|frame| frame["event_id"].as_i64().expect("an event_id")).collect();
    assert_eq!(heard, (1..=heard.len() as i64).collect::<Vec<_>>());
    let last = scene.store.last_event_id(Topic::User(10)).await.expect("the store").expect("a user");
    assert_eq!(scene.store.count_events(Topic::User(10)).await, last, "the log is dense");
    let counted: i64 =
        today.iter().filter(|one| one["is_read"] == false).map(|one| one["data"]["count"].as_i64().unwrap_or(0)).sum();
    // Of each 12 messages, the last three come after the last reading, and the very last is deleted.
    assert_eq!(counted, 4);
}
