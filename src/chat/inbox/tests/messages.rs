//! New messages: who is notified, once, with what count and text.

use super::*;
use crate::store::testing::START_MS;

both!(
    several_messages_are_one_notification_that_changes,
    the_text_names_the_sender_as_far_as_there_is_a_name,
    who_is_there_sent_it_or_has_muted_the_conversation_is_not_notified,
    presence_is_that_of_each_message,
    each_conversation_has_its_own_notification,
);

async fn several_messages_are_one_notification_that_changes(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    let jane = scene.socket(2, false).await;
    let first = scene.say(1, 1, &[]).await;
    scene.work().await;
    let made = jane.heard_one();
    let id = made["notification"]["id"].clone();
    assert_eq!(
        made,
        serde_json::json!({"type": "notification", "event_id": 1, "notification": {
            "id": id, "title": "New Message", "message": "You have a new message from John Doe",
            "notification_type": "message", "timestamp": "2025-09-24T10:30:00.000Z", "is_read": false,
            "data": {"conversation_id": 1, "sender_id": 1, "message_id": first, "count": 1}, "action_url": null
        }})
    );
    scene.store.clock.advance_ms(1_000);
    scene.say(1, 1, &[]).await;
    let third = scene.say(1, 1, &[]).await;
    scene.work().await;
    let changed = jane.heard_one();
    assert_eq!((&changed["event_id"], &changed["notification"]["id"]), (&2.into(), &id));
    assert_eq!(changed["notification"]["message"], "You have 3 new messages from John Doe");
    assert_eq!(changed["notification"]["timestamp"], "2025-09-24T10:30:01.000Z");
    assert_eq!(
        changed["notification"]["data"],
        serde_json::json!({"conversation_id": 1, "sender_id": 1, "message_id": third, "count": 3})
    );
    let stored = scene.only(2).await;
    assert_eq!(serde_json::to_value(&stored).expect("JSON"), changed["notification"]);
    assert_eq!((scene.unread(2).await, scene.unread(1).await), (1, 0));
}

async fn the_text_names_the_sender_as_far_as_there_is_a_name(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    scene.say(1, 3, &[]).await;
    scene.work().await;
    assert_eq!(scene.only(1).await.message, "You have a new message from Someone");
    let last = scene.say(1, 2, &[]).await;
    scene.work().await;
    let several = scene.only(1).await;
    assert_eq!(several.message, "You have 2 new messages");
    assert_eq!(data(&several)["sender_id"], 2);
    assert_eq!(data(&several)["message_id"], last);
    // Of the two, each has written one.
    assert_eq!(scene.only(3).await.message, "You have a new message from Jane");
}

async fn who_is_there_sent_it_or_has_muted_the_conversation_is_not_notified(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    scene.store.set_participant(1, 3, "muted_until", START_MS + 1_000).await;
    scene.say(1, 1, &[2]).await;
    scene.work().await;
    for user_id in [1, 2, 3] {
        assert!(scene.list(user_id).await.is_empty(), "{user_id}");
    }
    scene.store.clock.advance_ms(1_000);
    let message_id = scene.say(1, 1, &[2]).await;
    scene.work().await;
    assert_eq!(
        data(&scene.only(3).await),
        serde_json::json!({
            "conversation_id": 1, "sender_id": 1, "message_id": message_id, "count": 1
        })
    );
    assert!(scene.list(2).await.is_empty());
    scene.store.set_participant(1, 3, "muted_until", i64::MAX).await;
    scene.say(1, 1, &[2]).await;
    scene.work().await;
    assert_eq!(data(&scene.only(3).await)["count"], 1);
}

async fn presence_is_that_of_each_message(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    scene.say(1, 1, &[2, 3]).await;
    scene.say(1, 1, &[3]).await;
    scene.say(1, 1, &[]).await;
    scene.say(1, 1, &[2, 3]).await;
    scene.work().await;
    assert_eq!(data(&scene.only(2).await)["count"], 2);
    assert_eq!(data(&scene.only(3).await)["count"], 1);
}

async fn each_conversation_has_its_own_notification(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    scene.store.put_conversation(2, &[1, 2]).await;
    let jane = scene.socket(2, false).await;
    scene.say(1, 1, &[]).await;
    scene.say(2, 1, &[]).await;
    scene.say(1, 1, &[]).await;
    scene.work().await;
    let heard = jane.heard();
    let counts: Vec<(i64, i64)> = heard
        .iter()
        .map(|frame| &frame["notification"]["data"])
        .map(|data| (data["conversation_id"].as_i64().expect("an id"), data["count"].as_i64().expect("a count")))
        .collect();
    assert_eq!(counts.len(), 2);
    assert!(counts.contains(&(1, 2)) && counts.contains(&(2, 1)), "{counts:?}");
    assert_eq!((&heard[0]["event_id"], &heard[1]["event_id"]), (&1.into(), &2.into()));
    assert_eq!(scene.unread(2).await, 2);
}
