//! What reading, deleting, leaving and clearing do to a notification of messages.

use super::*;
use crate::store::commit::Change;

both!(
    it_is_read_once_the_cursor_has_reached_its_last_message,
    a_message_after_a_reading_that_nobody_told_begins_another,
    a_deleted_message_leaves_the_count_and_the_last_one_deletes_it,
    where_only_messages_remain_that_the_cursor_has_passed_it_is_read,
    reading_a_part_changes_nothing_of_the_count,
    leaving_clearing_and_the_end_of_the_conversation_read_it,
);

async fn it_is_read_once_the_cursor_has_reached_its_last_message(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    let first = scene.say(1, 1, &[]).await;
    let last = scene.say(1, 1, &[]).await;
    scene.work().await;
    let (jane, plain) = (scene.socket(2, true).await, scene.socket(2, false).await);
    scene.store.change(1, 2, Change::Read { message_id: first }).await.expect("read");
    scene.inbox.settle(1, 2);
    scene.work().await;
    assert!(jane.heard().is_empty());
    assert_eq!(data(&scene.only(2).await)["count"], 2);
    scene.store.change(1, 2, Change::Read { message_id: last }).await.expect("read");
    scene.inbox.settle(1, 2);
    scene.work().await;
    let id = scene.only(2).await.id;
    assert_eq!(
        jane.heard_one(),
        serde_json::json!({"type": "notification_read", "event_id": 2, "notification_ids": [id], "unread_count": 0})
    );
    assert!(plain.heard().is_empty());
    assert!(scene.only(2).await.is_read);
    scene.say(1, 1, &[]).await;
    scene.work().await;
    let another = jane.heard_one();
    assert_eq!((&another["event_id"], &another["notification"]["data"]["count"]), (&3.into(), &1.into()));
    assert_ne!(another["notification"]["id"], id);
    assert_eq!(plain.heard_one(), another);
}

async fn a_message_after_a_reading_that_nobody_told_begins_another(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    let first = scene.say(1, 1, &[]).await;
    scene.work().await;
    let jane = scene.socket(2, true).await;
    scene.store.change(1, 2, Change::Read { message_id: first }).await.expect("read");
    scene.say(1, 1, &[]).await;
    scene.work().await;
    let heard = jane.heard();
    let kinds: Vec<_> = heard.iter().map(|frame| frame["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["notification_read", "notification"]);
    assert_eq!(heard[0]["unread_count"], 1);
    assert_eq!(heard[1]["notification"]["data"]["count"], 1);
    assert_eq!(scene.unread(2).await, 1);
}

async fn a_deleted_message_leaves_the_count_and_the_last_one_deletes_it(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    let first = scene.say(1, 3, &[]).await;
    let last = scene.say(1, 1, &[]).await;
    scene.work().await;
    let id = scene.only(2).await.id;
    let jane = scene.socket(2, true).await;
    scene.store.change(1, 1, Change::Delete { message_id: last }).await.expect("deleted");
    scene.inbox.message_deleted(last);
    scene.work().await;
    let changed = jane.heard_one();
    assert_eq!(changed["notification"]["id"], id);
    assert_eq!(changed["notification"]["message"], "You have a new message from Someone");
    assert_eq!(
        changed["notification"]["data"],
        serde_json::json!({"conversation_id": 1, "sender_id": 3, "message_id": first, "count": 1})
    );
    scene.inbox.message_deleted(last);
    scene.work().await;
    assert!(jane.heard().is_empty());
    scene.store.change(1, 3, Change::Delete { message_id: first }).await.expect("deleted");
    scene.inbox.message_deleted(first);
    scene.work().await;
    assert_eq!(
        jane.heard_one(),
        serde_json::json!({"type": "notification_deleted", "event_id": 3, "notification_ids": [id], "unread_count": 0})
    );
    assert!(scene.list(2).await.is_empty());
    // A message that is deleted before its turn raises nothing.
    let brief = scene.say(1, 1, &[]).await;
    scene.store.change(1, 1, Change::Delete { message_id: brief }).await.expect("deleted");
    scene.inbox.message_deleted(brief);
    scene.work().await;
    assert!(jane.heard().is_empty());
}

async fn where_only_messages_remain_that_the_cursor_has_passed_it_is_read(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    let first = scene.say(1, 1, &[]).await;
    let last = scene.say(1, 1, &[]).await;
    scene.work().await;
    let jane = scene.socket(2, true).await;
    scene.store.change(1, 2, Change::Read { message_id: first }).await.expect("read");
    scene.inbox.settle(1, 2);
    scene.store.change(1, 1, Change::Delete { message_id: last }).await.expect("deleted");
    scene.inbox.message_deleted(last);
    scene.work().await;
    let heard = jane.heard();
    let kinds: Vec<_> = heard.iter().map(|frame| frame["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["notification", "notification_read"]);
    let left = serde_json::json!({"conversation_id": 1, "sender_id": 1, "message_id": first, "count": 1});
    assert_eq!(heard[0]["notification"]["data"], left);
    let read = scene.only(2).await;
    assert!(read.is_read);
    assert_eq!(data(&read), left, "it names the newest one left");
}

async fn reading_a_part_changes_nothing_of_the_count(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(scene.say(1, 1, &[]).await);
    }
    scene.work().await;
    let delete = async |message_id| {
        scene.store.change(1, 1, Change::Delete { message_id }).await.expect("deleted");
        scene.inbox.message_deleted(message_id);
        scene.work().await;
        data(&scene.only(2).await)["count"].as_i64().expect("a count")
    };
    scene.store.change(1, 2, Change::Read { message_id: ids[1] }).await.expect("read");
    scene.inbox.settle(1, 2);
    scene.work().await;
    assert_eq!(data(&scene.only(2).await)["count"], 4);
    assert_eq!(delete(ids[3]).await, 3, "one that is not read is deleted");
    assert_eq!(delete(ids[0]).await, 2, "one that is read is deleted");
    scene.say(1, 1, &[]).await;
    scene.work().await;
    assert_eq!(data(&scene.only(2).await)["count"], 3, "one more");
    // What is read by the cursor alone is counted nowhere else.
    assert_eq!(scene.store.count_unread(1, 2).await.expect("a count"), 2);
}

async fn leaving_clearing_and_the_end_of_the_conversation_read_it(store: TestStore) {
    let scene = Scene::with_conversation(store).await;
    let last = scene.say(1, 1, &[]).await;
    scene.work().await;
    scene.store.set_participant(1, 2, "cleared_up_to", last).await;
    scene.inbox.settle(1, 2);
    scene.store.change(1, 3, Change::RemoveParticipant { user_id: 3 }).await.expect("left");
    scene.inbox.settle(1, 3);
    scene.work().await;
    assert!(scene.only(2).await.is_read && scene.only(3).await.is_read);
    scene.say(1, 1, &[]).await;
    scene.work().await;
    assert_eq!((scene.unread(2).await, scene.unread(3).await), (1, 0));
    let jane = scene.socket(2, true).await;
    scene.store.run("DELETE FROM conversations WHERE id = 1").await;
    scene.inbox.conversation_deleted(1);
    scene.work().await;
    assert_eq!(jane.heard_one()["type"], "notification_read");
    assert_eq!(scene.unread(2).await, 0);
}
