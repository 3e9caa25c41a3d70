//! What is asked for: the platform's notifications, reading and deleting, each answered.

use super::*;
use crate::error::Code;
use crate::store::idempotency::IdempotencyKey;

both!(
    the_platform_notifies_many_and_makes_those_it_does_not_know,
    a_broadcast_reaches_everybody_once_across_a_crash,
    reading_answers_its_issuer_and_tells_those_who_opted_in,
    a_repeated_client_id_is_answered_and_changes_nothing,
    deleting_is_told_and_its_events_are_skipped_in_a_replay,
    a_list_is_paged_both_ways,
    a_repeated_request_gets_the_first_answer,
);

async fn the_platform_notifies_many_and_makes_those_it_does_not_know(store: TestStore) {
    let scene = Scene::new(store).await;
    scene.name(7, "Ann", "").await;
    scene.name(9, "Gone", "").await;
    scene.store.run("UPDATE users SET erased_at = 1 WHERE id = 9").await;
    let ann = scene.socket(7, false).await;
    assert_eq!(scene.send(Addressees::Users(vec![8, 7, 8, 9]), "Hi").await, 2);
    let heard = ann.heard_one();
    let id = scene.only(7).await.id;
    assert_eq!(
        heard,
        serde_json::json!({"type": "notification", "event_id": 1, "notification": {
            "id": id, "title": "Hi", "message": "Something new", "notification_type": "system",
            "timestamp": "2025-09-24T10:30:00.000Z", "is_read": false, "data": {"a": 1}, "action_url": "/jobs/7"
        }})
    );
    assert_eq!(scene.replay(7).await, [heard]);
    assert_eq!(scene.only(8).await.title, "Hi");
    assert!(scene.list(9).await.is_empty());
}

async fn a_broadcast_reaches_everybody_once_across_a_crash(store: TestStore) {
    let mut scene = Scene::new(store).await;
    let everybody: Vec<i64> = (1..=1_201).collect();
    scene.store.put_conversation(1, &everybody).await;
    let (first, last) = (scene.socket(1, false).await, scene.socket(1_201, false).await);
    let asked = scene.inbox.send(Addressees::All, news("All"), None);
    let mut progress = Progress::default();
    let (count, round) = tokio::join!(asked, scene.inbox.round(&mut progress));
    assert_eq!((super::first(count), round), (1_201, Round::Unfinished));
    assert_eq!((first.heard().len(), last.heard().len()), (1, 0));
    scene.store.clock.advance_ms(1);
    scene.name(2_000, "Late", "").await;
    scene.restart();
    scene.work().await;
    for user_id in [1, 500, 501, 1_000, 1_001, 1_201] {
        assert_eq!(scene.only(user_id).await.title, "All");
    }
    assert!(scene.list(2_000).await.is_empty());
}

async fn reading_answers_its_issuer_and_tells_those_who_opted_in(store: TestStore) {
    let scene = Scene::new(store).await;
    for title in ["a", "b", "c"] {
        scene.send(Addressees::Users(vec![7]), title).await;
    }
    scene.send(Addressees::Users(vec![8]), "foreign").await;
    let foreign = scene.only(8).await.id;
    let ids: Vec<i64> = scene.list(7).await.iter().rev().map(|notification| notification.id).collect();
    let (issuer, plain, opted) =
        (scene.socket(7, false).await, scene.socket(7, false).await, scene.socket(7, true).await);
    let which = Notifications::Some(vec![ids[1], foreign, ids[0], ids[1]]);
    scene.inbox.mark_read_on(&issuer.outbox, which, Some("c1".to_owned()));
    scene.work().await;
    let told = serde_json::json!({
        "type": "notification_read", "event_id": 4, "notification_ids": [ids[1], ids[0]], "unread_count": 1
    });
    assert_eq!(opted.heard_one(), told);
    assert!(plain.heard().is_empty());
    let mut answer = told;
    answer["client_id"] = "c1".into();
    assert_eq!(issuer.heard_one(), answer);
    assert_eq!(scene.unread(8).await, 1);
    // What is read already changes nothing, and is answered to its issuer alone.
    scene.inbox.mark_read_on(&issuer.outbox, Notifications::Some(vec![ids[0]]), None);
    scene.work().await;
    assert_eq!(
        issuer.heard_one(),
        serde_json::json!({
            "type": "notification_read", "notification_ids": [ids[0]], "unread_count": 1, "unchanged": true
        })
    );
    assert!(opted.heard().is_empty());
    assert_eq!(scene.mark_read(7, Notifications::All).await, 0);
    assert_eq!(
        opted.heard_one(),
        serde_json::json!({"type": "notification_read", "event_id": 5, "all": true, "unread_count": 0})
    );
    // A socket that does not listen yet is answered all the same.
    scene.send(Addressees::Users(vec![7]), "d").await;
    let bounds = Bounds { frames_max: 100, bytes_max: 10_000 };
    let deaf = Arc::new(Outbox::new(scene.hub.next_connection_id(), 7, Endpoint::Notifications, true, bounds));
    scene.inbox.mark_read_on(&deaf, Notifications::All, Some("c2".to_owned()));
    scene.work().await;
    assert_eq!(deaf.take().expect("an answer").frames.len(), 1);
}

async fn a_repeated_client_id_is_answered_and_changes_nothing(store: TestStore) {
    let scene = Scene::new(store).await;
    for title in ["a", "b"] {
        scene.send(Addressees::Users(vec![7]), title).await;
    }
    let ids: Vec<i64> = scene.list(7).await.iter().rev().map(|notification| notification.id).collect();
    let (first, second) = (scene.socket(7, true).await, scene.socket(7, true).await);
    let mark = |socket: &Socket, which| scene.inbox.mark_read_on(&socket.outbox, which, Some("c1".to_owned()));
    // Both at once, in one transaction.
    mark(&first, Notifications::Some(vec![ids[0]]));
    mark(&second, Notifications::Some(vec![ids[0]]));
    scene.work().await;
    let answer = first.heard_one();
    assert_eq!(
        (&answer["event_id"], &answer["client_id"], &answer["unread_count"]),
        (&3.into(), &"c1".into(), &1.into())
    );
    let heard = second.heard();
    assert_eq!(heard.len(), 2);
    assert!(heard.contains(&answer), "{heard:?}");
    // Later, it is answered as it stands then.
    scene.mark_read(7, Notifications::Some(vec![ids[1]])).await;
    first.heard();
    mark(&first, Notifications::Some(vec![ids[0]]));
    scene.work().await;
    let again = first.heard_one();
    assert_eq!((&again["event_id"], &again["unread_count"]), (&3.into(), &0.into()));
    mark(&first, Notifications::All);
    scene.work().await;
    let refused = first.heard_one();
    assert_eq!(
        (&refused["type"], &refused["code"], &refused["client_id"]),
        (&"error".into(), &"conflict".into(), &"c1".into())
    );
    assert_eq!(scene.replay(7).await.len(), 4);
}

async fn deleting_is_told_and_its_events_are_skipped_in_a_replay(store: TestStore) {
    let scene = Scene::new(store).await;
    for title in ["a", "b"] {
        scene.send(Addressees::Users(vec![7]), title).await;
    }
    let ids: Vec<i64> = scene.list(7).await.iter().rev().map(|notification| notification.id).collect();
    let (opted, plain) = (scene.socket(7, true).await, scene.socket(7, false).await);
    scene.mark_read(7, Notifications::Some(vec![ids[0]])).await;
    opted.heard();
    scene.during(scene.inbox.delete(7, ids[0])).await.expect("deleted");
    let told = opted.heard_one();
    assert_eq!(
        told,
        serde_json::json!({"type": "notification_deleted", "event_id": 4, "notification_ids": [ids[0]], "unread_count": 1})
    );
    assert!(plain.heard().is_empty());
    let replay = scene.replay(7).await;
    assert_eq!(replay.len(), 2);
    assert_eq!((&replay[0]["notification"]["id"], &replay[1]), (&ids[1].into(), &told));
    for (user_id, id) in [(7, ids[0]), (8, ids[1]), (7, 999)] {
        let refused = scene.during(scene.inbox.delete(user_id, id)).await;
        assert_eq!(refused.expect_err("not there").code, Code::NotFound);
    }
}

async fn a_list_is_paged_both_ways(store: TestStore) {
    let scene = Scene::new(store).await;
    for title in ["a", "b", "c", "d", "e"] {
        scene.send(Addressees::Users(vec![7]), title).await;
    }
    let all: Vec<i64> = scene.list(7).await.iter().map(|notification| notification.id).collect();
    assert_eq!(all.len(), 5);
    scene.mark_read(7, Notifications::Some(vec![all[1]])).await;
    let page = async |unread_only, page, limit| {
        let page = scene.store.list_notifications(7, unread_only, page, limit).await.expect("a page");
        assert_eq!((page.unread_count, page.last_event_id), (4, 6));
        (page.notifications.iter().map(|notification| notification.id).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(page(false, Page::Before(None), 2).await, (all[..2].to_vec(), true));
    assert_eq!(page(false, Page::Before(Some(all[1])), 3).await, (all[2..].to_vec(), false));
    assert_eq!(page(false, Page::After(all[3]), 2).await, (vec![all[2], all[1]], true));
    assert_eq!(page(true, Page::Before(None), 4).await, (vec![all[0], all[2], all[3], all[4]], false));
}

async fn a_repeated_request_gets_the_first_answer(store: TestStore) {
    let scene = Scene::new(store).await;
    scene.name(7, "Ann", "").await;
    let key = |key: &str, fingerprint| Some(IdempotencyKey { caller_id: 0, key: key.to_owned(), fingerprint });
    let repeated = |answer| match answer {
        Ok(Once::Repeated(answer)) => (answer.status, answer.body),
        other => panic!("{other:?}"),
    };
    // Twice at once, in one transaction, and later.
    let ask = || scene.inbox.send(Addressees::Users(vec![7]), news("a"), key("k1", 1));
    let (answer, again) = scene.during(async { tokio::join!(ask(), ask()) }).await;
    assert_eq!(super::first(answer), 1);
    assert_eq!(repeated(again), (201, r#"{"count":1}"#.to_owned()));
    assert_eq!(repeated(scene.during(ask()).await), (201, r#"{"count":1}"#.to_owned()));
    assert_eq!(scene.list(7).await.len(), 1);
    let other = scene.during(scene.inbox.send(Addressees::Users(vec![7]), news("b"), key("k1", 2))).await;
    assert_eq!(other.expect_err("another body").code, Code::Conflict);
    let all = || scene.inbox.send(Addressees::All, news("all"), key("k2", 1));
    assert_eq!(super::first(scene.during(all()).await), 1);
    assert_eq!(repeated(scene.during(all()).await), (202, r#"{"count":1}"#.to_owned()));
    assert_eq!(scene.list(7).await.len(), 2);
    let read = || scene.inbox.mark_read(7, Notifications::All, key("k3", 1));
    assert_eq!(super::first(scene.during(read()).await), 0);
    scene.send(Addressees::Users(vec![7]), "later").await;
    assert_eq!(repeated(scene.during(read()).await), (200, r#"{"unread_count":0}"#.to_owned()));
    assert_eq!(scene.unread(7).await, 1);
}
