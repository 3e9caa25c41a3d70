//! Notifications: the platform's and those of messages, live, resumed, and over REST.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::rest::answer;
use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(
    a_notification_of_the_platform_arrives_in_the_guides_shape,
    a_message_notifies_those_who_are_not_there,
    a_notification_is_read_with_its_messages_and_goes_with_the_last_of_them,
    what_has_just_been_read_is_not_listed_as_unread,
    reading_on_a_socket_is_answered_and_told_to_those_who_opted_in,
    a_resume_replays_what_was_missed_as_it_stands,
    the_list_is_paged_and_filtered_and_true_for_its_position,
    the_platform_notifies_all_in_the_background,
    notifications_are_refused_with_what_is_wrong,
    notifications_survive_a_crash,
    a_request_repeated_under_its_key_takes_effect_once,
);

const NOTIFICATIONS: &str = "/api/v1/notifications";

impl TestServer {
    /// The platform notifies somebody.
    async fn notify(&self, user_id: i64, title: &str) {
        let body = json!({ "user_id": user_id, "title": title, "message": "Something new" });
        let answer = self.post(NOTIFICATIONS, Caller::Platform, body).await.expect(201);
        assert_eq!(answer, json!({ "count": 1 }));
    }

    async fn notifications(&self, user_id: i64) -> Value {
        self.get(NOTIFICATIONS, user_id).await.expect(200)
    }
}

fn titles(page: &Value) -> Vec<&str> {
    page["data"].as_array().expect("a list").iter().map(|one| one["title"].as_str().expect("a title")).collect()
}

async fn a_notification_of_the_platform_arrives_in_the_guides_shape(store: Store) {
    let server = TestServer::start(store).await;
    let mut alice = server.connect_as(1).notifications().await;
    alice.expect_nothing().await;
    let body = json!({
        "user_ids": [1, 77], "title": "Application received", "message": "<b>Ünïcode</b> 👩‍👩‍👧",
        "notification_type": "application", "data": { "job_id": 5, "nested": { "a": [1.0] } }, "action_url": "/jobs/5"
    });
    let answer = server.post(NOTIFICATIONS, Caller::Platform, body).await.expect(201);
    assert_eq!(answer, json!({ "count": 2 }));
    let heard = alice.expect("notification").await;
    let notification = &heard["notification"];
    assert_eq!(
        heard,
        json!({ "type": "notification", "event_id": 1, "notification": {
            "id": notification["id"], "title": "Application received", "message": "<b>Ünïcode</b> 👩‍👩‍👧",
            "notification_type": "application", "timestamp": notification["timestamp"], "is_read": false,
            "data": { "job_id": 5, "nested": { "a": [1.0] } }, "action_url": "/jobs/5"
        }})
    );
    let page = server.notifications(1).await;
    assert_eq!(page, json!({ "data": [notification], "has_more": false, "unread_count": 1, "last_event_id": 1 }));
    assert_eq!(titles(&server.notifications(77).await), ["Application received"]);
    alice.expect_nothing().await;
}

async fn a_message_notifies_those_who_are_not_there(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2, 3]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut carol = server.connect_as(3).chat(conversation_id).await;
    let mut bob = server.connect_as(2).notifications().await;
    // A socket is open before its token has been looked at; the answer shows that it listens.
    carol.expect_nothing().await;
    bob.expect_nothing().await;
    let first = alice.say("Hello there!").await;
    let made = bob.expect("notification").await;
    assert_eq!(made["notification"]["title"], "New Message");
    assert_eq!(made["notification"]["notification_type"], "message");
    assert_eq!(made["notification"]["timestamp"], first["message"]["timestamp"]);
    assert_eq!(
        made["notification"]["data"],
        json!({ "conversation_id": conversation_id, "sender_id": 1, "message_id": first["message"]["id"], "count": 1 })
    );
    let mut last = Value::Null;
    for _ in 0..4 {
        last = alice.say("And more").await;
    }
    let mut changed = made.clone();
    while changed["notification"]["data"]["count"] != 5 {
        changed = bob.expect("notification").await;
        assert_eq!(changed["notification"]["id"], made["notification"]["id"]);
    }
    assert_eq!(changed["notification"]["data"]["message_id"], last["message"]["id"]);
    assert_eq!(server.notifications(2).await["data"], json!([changed["notification"]]));
    for there in [1, 3] {
        assert_eq!(server.notifications(there).await["data"], json!([]), "{there} was there");
    }
}

async fn a_notification_is_read_with_its_messages_and_goes_with_the_last_of_them(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut bob = server.connect_as(2).since(0).notifications().await;
    bob.expect("connected").await;
    bob.expect("resumed").await;
    let brief = alice.say("Never mind").await;
    let made = bob.expect("notification").await;
    alice.command(json!({ "type": "delete_message", "message_id": brief["message"]["id"] })).await;
    let deleted = bob.expect("notification_deleted").await;
    assert_eq!(deleted["notification_ids"], json!([made["notification"]["id"]]));
    let kept = alice.say("This one stays").await;
    let made = bob.expect("notification").await;
    let mut chat = server.connect_as(2).chat(conversation_id).await;
    chat.command(json!({ "type": "mark_read", "message_id": kept["message"]["id"] })).await;
    let read = bob.expect("notification_read").await;
    assert_eq!((&read["notification_ids"], &read["unread_count"]), (&json!([made["notification"]["id"]]), &json!(0)));
    assert_eq!((&made["event_id"], &read["event_id"]), (&json!(3), &json!(4)));
}

async fn what_has_just_been_read_is_not_listed_as_unread(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut bob = server.connect_as(2).notifications().await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    alice.ignore("message_read");
    for event in ["notification_read", "notification_deleted"] {
        bob.ignore(event);
    }
    for round in 0..10 {
        let sent = alice.say("Hello").await["message"]["id"].clone();
        bob.expect("notification").await;
        if round % 2 == 0 {
            let path = format!("/api/v1/conversations/{conversation_id}/read");
            server.post(&path, 2, json!({ "message_id": sent })).await.expect(200);
        } else {
            alice.command(json!({ "type": "delete_message", "message_id": sent })).await;
        }
        let (page, me) = (server.notifications(2).await, server.get("/api/v1/me", 2).await.expect(200));
        assert_eq!((&page["unread_count"], &me["unread_notifications"]), (&json!(0), &json!(0)), "round {round}");
    }
}

async fn reading_on_a_socket_is_answered_and_told_to_those_who_opted_in(store: Store) {
    let server = TestServer::start(store).await;
    let mut plain = server.connect_as(1).notifications().await;
    let mut other = server.connect_as(1).notifications().await;
    let mut user = server.connect_as(1).user().await;
    user.expect("connected").await;
    user.send(json!({ "type": "resume" })).await;
    user.expect("resumed").await;
    plain.expect_nothing().await;
    other.expect_nothing().await;
    server.notify(1, "a").await;
    server.notify(1, "b").await;
    let mut ids = vec![];
    for _ in 0..2 {
        ids.push(plain.expect("notification").await["notification"]["id"].clone());
        other.expect("notification").await;
        user.expect("notification").await;
    }
    let answer = plain.command(json!({ "type": "mark_read", "notification_ids": [ids[0], 999_999] })).await;
    assert_eq!(
        (&answer["type"], &answer["event_id"], &answer["notification_ids"], &answer["unread_count"]),
        (&json!("notification_read"), &json!(3), &json!([ids[0]]), &json!(1))
    );
    assert_eq!(user.expect("notification_read").await["event_id"], 3);
    other.expect_nothing().await;
    for _ in 0..2 {
        plain.send(json!({ "type": "mark_read", "notification_ids": [ids[0]], "client_id": "again" })).await;
        let again = plain.expect("notification_read").await;
        assert_eq!((&again["unchanged"], again.get("event_id")), (&json!(true), None));
    }
    let all = user.command(json!({ "type": "mark_read", "all": true })).await;
    assert_eq!((&all["all"], &all["unread_count"], &all["event_id"]), (&json!(true), &json!(0), &json!(4)));
    for wrong in [json!({ "type": "mark_read" }), json!({ "type": "mark_read", "notification_ids": "x" })] {
        assert_eq!(plain.command(wrong).await["code"], "invalid_field");
    }
    assert_eq!(plain.command(json!({ "type": "chat_message", "message": "x" })).await["code"], "unknown_type");
    let id = ids[1].as_i64().expect("an id");
    server.delete(&format!("{NOTIFICATIONS}/{id}"), 1).await.expect(204);
    assert_eq!(user.expect("notification_deleted").await["notification_ids"], json!([id]));
    server.delete(&format!("{NOTIFICATIONS}/{id}"), 1).await.refused(404, "not_found");
    plain.expect_nothing().await;
}

async fn a_resume_replays_what_was_missed_as_it_stands(store: Store) {
    let mut server = TestServer::start(store).await;
    for title in ["a", "b", "c"] {
        server.notify(1, title).await;
    }
    let page = server.notifications(1).await;
    let id = |index: usize| page["data"][index]["id"].as_i64().expect("an id");
    let body = json!({ "notification_ids": [id(2), id(1)] });
    let unread = server.post(&format!("{NOTIFICATIONS}/read"), 1, body).await.expect(200);
    assert_eq!(unread, json!({ "unread_count": 1 }));
    server.delete(&format!("{NOTIFICATIONS}/{}", id(1)), 1).await.expect(204);
    server.stop().await;
    server.start_again().await;
    let mut alice = server.connect_as(1).since(0).notifications().await;
    let connected = alice.expect("connected").await;
    assert_eq!((&connected["last_event_id"], &connected["unread_count"]), (&json!(5), &json!(1)));
    let first = alice.expect("notification").await;
    assert_eq!((&first["event_id"], &first["notification"]["is_read"]), (&json!(1), &json!(true)));
    let third = alice.expect("notification").await;
    assert_eq!((&third["event_id"], &third["notification"]["title"]), (&json!(3), &json!("c")));
    let read = alice.expect("notification_read").await;
    assert_eq!((&read["event_id"], &read["notification_ids"]), (&json!(4), &json!([id(2)])));
    let deleted = alice.expect("notification_deleted").await;
    assert_eq!((&deleted["event_id"], &deleted["notification_ids"]), (&json!(5), &json!([id(1)])));
    assert_eq!(alice.expect_next().await, json!({ "type": "resumed", "last_event_id": 5, "unread_count": 1 }));
    server.notify(1, "d").await;
    assert_eq!(alice.expect("notification").await["event_id"], 6);
}

async fn the_list_is_paged_and_filtered_and_true_for_its_position(store: Store) {
    let server = TestServer::start(store).await;
    for title in ["a", "b", "c", "d", "e"] {
        server.notify(1, title).await;
    }
    let answer = server.get("/api/v1/notifications?limit=2", 1).await;
    let link = answer.headers["link"].to_str().expect("text").to_owned();
    let page = answer.expect(200);
    assert_eq!((titles(&page), &page["has_more"], &page["last_event_id"]), (vec!["e", "d"], &json!(true), &json!(5)));
    let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).expect("the next page");
    let path = &next[next.find("/api").expect("a path")..];
    server.notify(1, "f").await;
    assert_eq!(titles(&server.get(path, 1).await.expect(200)), ["c", "b"]);
    let id = page["data"][1]["id"].as_i64().expect("an id");
    let newer = server.get(&format!("{NOTIFICATIONS}?after={id}&limit=1"), 1).await;
    assert!(newer.headers.contains_key("link"));
    assert_eq!(titles(&newer.expect(200)), ["e"]);
    server.post(&format!("{NOTIFICATIONS}/read"), 1, json!({ "notification_ids": [id] })).await.expect(200);
    let unread = server.get(&format!("{NOTIFICATIONS}?unread=true"), 1).await.expect(200);
    assert_eq!((titles(&unread), &unread["unread_count"]), (vec!["f", "e", "c", "b", "a"], &json!(5)));
    let all = server.post(&format!("{NOTIFICATIONS}/read"), 1, json!({ "all": true })).await.expect(200);
    assert_eq!(all, json!({ "unread_count": 0 }));
    for query in ["unread=yes", "limit=0", "limit=x", "before=x", "before=1&after=1"] {
        server.get(&format!("{NOTIFICATIONS}?{query}"), 1).await.refused(400, "invalid_field");
    }
}

async fn the_platform_notifies_all_in_the_background(store: Store) {
    let server = TestServer::start(store).await;
    let (mut alice, mut bob) = (server.connect_as(1).notifications().await, server.connect_as(2).notifications().await);
    for (user_id, client) in [(1, &mut alice), (2, &mut bob)] {
        client.expect_nothing().await;
        assert_eq!(server.notifications(user_id).await["data"], json!([]));
    }
    let body = json!({ "all": true, "title": "Maintenance", "message": "Tonight at ten" });
    let answer = server.post(NOTIFICATIONS, Caller::Platform, body).await.expect(202);
    assert_eq!(answer, json!({ "count": 2 }));
    for client in [&mut alice, &mut bob] {
        let heard = client.expect("notification").await;
        assert_eq!((&heard["event_id"], &heard["notification"]["notification_type"]), (&json!(1), &json!("system")));
    }
}

async fn notifications_are_refused_with_what_is_wrong(store: Store) {
    let server = TestServer::start(store).await;
    let good = json!({ "user_id": 1, "title": "a", "message": "b" });
    server.post(NOTIFICATIONS, Caller::Nobody, good.clone()).await.refused(401, "missing_token");
    server.post(NOTIFICATIONS, 1, good.clone()).await.refused(403, "forbidden");
    server.get(NOTIFICATIONS, Caller::Platform).await.refused(401, "invalid_token");
    let read = format!("{NOTIFICATIONS}/read");
    server.post(&read, Caller::Nobody, json!({ "all": true })).await.refused(401, "missing_token");
    server.post(&read, 1, json!({})).await.refused(400, "invalid_field");
    for path in ["0", "x", "9007199254740992", "1"] {
        server.delete(&format!("{NOTIFICATIONS}/{path}"), 1).await.refused(404, "not_found");
    }
    let wrong = [
        (json!([]), 400, "invalid_json"),
        (json!({ "title": "a", "message": "b" }), 400, "invalid_field"),
        (json!({ "user_id": 1, "title": "", "message": "b" }), 400, "invalid_field"),
        (json!({ "user_id": 1, "title": "a\u{0}", "message": "b" }), 400, "invalid_field"),
        (json!({ "user_id": 1, "title": "a".repeat(201), "message": "b" }), 413, "too_large"),
        (json!({ "user_id": 1, "title": "a", "message": "b", "data": { "a": "x".repeat(4_096) } }), 413, "too_large"),
        (
            json!({ "user_id": 1, "title": "a", "message": "b", "action_url": "javascript:alert(1)" }),
            400,
            "invalid_field",
        ),
        (json!({ "user_id": 1, "title": "a", "message": "b", "action_url": "//evil.example" }), 400, "invalid_field"),
    ];
    for (body, status, code) in wrong {
        server.post(NOTIFICATIONS, Caller::Platform, body).await.refused(status, code);
    }
    assert_eq!(server.notifications(1).await["data"], json!([]));
}

async fn notifications_survive_a_crash(store: Store) {
    let mut server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    for _ in 0..5 {
        alice.say("Are you there?").await;
    }
    server.kill().await;
    server.start_again().await;
    let mut bob = server.connect_as(2).since(0).notifications().await;
    bob.expect("connected").await;
    bob.ignore("resumed");
    let mut count = Value::Null;
    while count != 5 {
        count = bob.expect("notification").await["notification"]["data"]["count"].clone();
    }
}

async fn a_request_repeated_under_its_key_takes_effect_once(store: Store) {
    let server = TestServer::start(store).await;
    let send = async |key: &str, title: &str| {
        let body = json!({ "user_id": 1, "title": title, "message": "b" });
        let request = server.request(Method::POST, NOTIFICATIONS, Caller::Platform);
        answer(request.header("idempotency-key", key).json(&body)).await
    };
    let (first, second) = tokio::join!(send("k1", "a"), send("k1", "a"));
    assert_eq!((first.expect(201), second.expect(201)), (json!({ "count": 1 }), json!({ "count": 1 })));
    send("k1", "another").await.refused(409, "conflict");
    let written_otherwise = r#"{ "message": "b", "title":"a", "user_id": 1 }"#;
    let request = server.request(Method::POST, NOTIFICATIONS, Caller::Platform).header("idempotency-key", "k1");
    let request = request.header("content-type", "application/json").body(written_otherwise);
    assert_eq!(answer(request).await.expect(201), json!({ "count": 1 }));
    send(&"é".repeat(64), "b").await.expect(201);
    for wrong in ["", &"é".repeat(65)] {
        send(wrong, "c").await.refused(400, "invalid_field");
    }
    assert_eq!(titles(&server.notifications(1).await), ["b", "a"]);
    let read = async || {
        let request = server.request(Method::POST, &format!("{NOTIFICATIONS}/read"), 1);
        answer(request.header("idempotency-key", "k1").json(&json!({ "all": true }))).await
    };
    assert_eq!(read().await.expect(200), json!({ "unread_count": 0 }));
    server.notify(1, "later").await;
    assert_eq!(read().await.expect(200), json!({ "unread_count": 0 }));
    assert_eq!(server.notifications(1).await["unread_count"], 1);
}
