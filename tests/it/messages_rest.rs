//! Messages over REST: the same rules as over a socket, and the same events.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::rest::answer;
use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(
    what_rest_changes_reaches_the_sockets_as_the_same_events,
    a_message_is_sent_once_under_its_key_or_client_id,
    the_platform_sends_for_a_participant,
    what_only_the_sender_may_do_is_refused_to_others,
    history_pages_miss_and_repeat_nothing_while_messages_come,
    a_read_cursor_moves_forward_alone,
);

async fn what_rest_changes_reaches_the_sockets_as_the_same_events(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2]).await;
    let messages = format!("/api/v1/conversations/{id}/messages");
    let mut bob = server.connect_as(2).chat(id).await;
    bob.expect_nothing().await;
    let text = "<b>👩‍👩‍👧</b> שלום e\u{301} \u{202E}x";
    let sent = server.post(&messages, 1, json!({ "message": text, "data": { "k": [1.0] } })).await.expect(201);
    let live = bob.expect("chat_message").await;
    assert_eq!((&live["message"], &live["event_id"]), (&sent, &json!(1)));
    assert_eq!((&sent["content"], &sent["data"]), (&json!(text), &json!({ "k": [1.0] })));
    let one = format!("/api/v1/messages/{}", sent["id"]);
    assert_eq!(server.get(&one, 2).await.expect(200), sent);

    let edited = server.patch(&one, 1, json!({ "message": "second" })).await.expect(200);
    assert_eq!(bob.expect("message_edited").await["message"], edited);
    let history = server.get(&format!("{one}/history"), 2).await.expect(200);
    assert_eq!((&history["data"][0]["content"], &history["data"][1]), (&json!(text), &Value::Null));
    assert_eq!(history["data"][0]["edited_at"], edited["edited_at"]);

    let reaction = server.put(&format!("{one}/reactions/love"), 2, json!(null)).await.expect(200);
    assert_eq!(bob.expect("reaction_added").await["reaction"], reaction);
    server.put(&format!("{one}/reactions/hate"), 2, json!(null)).await.refused(400, "invalid_field");
    server.delete(&format!("{one}/reactions/love"), 2).await.expect(204);
    assert_eq!(bob.expect("reaction_removed").await["reaction"], reaction);

    server.delete(&one, 1).await.expect(204);
    let deleted = bob.expect("message_deleted").await;
    assert_eq!((&deleted["message_id"], &deleted["event_id"]), (&sent["id"], &json!(5)));
    assert_eq!(server.get(&one, 2).await.expect(200)["is_deleted"], true);
    assert_eq!(server.get(&format!("{one}/history"), 2).await.expect(200)["data"], json!([]));
    server.patch(&one, 1, json!({ "message": "third" })).await.refused(404, "not_found");
    server.delete(&one, 1).await.expect(204);
    bob.expect_nothing().await;
}

async fn a_message_is_sent_once_under_its_key_or_client_id(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2]).await;
    let messages = format!("/api/v1/conversations/{id}/messages");
    let send = |key: &str, body: Value| {
        answer(server.request(Method::POST, &messages, 1).header("idempotency-key", key).json(&body))
    };
    let first = send("k", json!({ "message": "once" })).await.expect(201);
    assert_eq!(send("k", json!({ "message": "once" })).await.expect(200), first);
    let by_client_id = json!({ "text": "once", "client_id": "k" });
    assert_eq!(server.post(&messages, 1, by_client_id.clone()).await.expect(200), first);
    assert_eq!(send("k", by_client_id).await.expect(200), first);
    send("k", json!({ "message": "twice" })).await.refused(409, "conflict");
    send("k", json!({ "message": "once", "client_id": "other" })).await.refused(400, "invalid_field");
    assert_eq!(server.get(&messages, 2).await.expect(200)["data"].as_array().expect("a list").len(), 1);
    for (body, status, code) in [
        (json!({}), 400, "invalid_field"),
        (json!({ "message": " " }), 400, "invalid_field"),
        (json!({ "message": "x".repeat(8001) }), 413, "too_large"),
        (json!({ "message": "x", "reply_to": 987 }), 404, "not_found"),
        (json!({ "message": "x", "attachment_ids": [987] }), 404, "not_found"),
        (json!([]), 400, "invalid_json"),
    ] {
        server.post(&messages, 1, body).await.refused(status, code);
    }
    server.post(&messages, 1, json!({ "message": "x".repeat(8000) })).await.expect(201);
    server.post(&messages, 3, json!({ "message": "x" })).await.refused(404, "not_found");
}

async fn the_platform_sends_for_a_participant(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2]).await;
    let messages = format!("/api/v1/conversations/{id}/messages");
    let sent = server.post(&messages, Caller::Platform, json!({ "message": "x", "sender_id": 2 })).await.expect(201);
    assert_eq!(sent["sender"]["id"], 2);
    server.post(&messages, Caller::Platform, json!({ "message": "x" })).await.refused(400, "invalid_field");
    server.post(&messages, Caller::Platform, json!({ "message": "x", "sender_id": 3 })).await.refused(404, "not_found");
    let page = server.get(&messages, Caller::Platform).await.expect(200);
    assert_eq!((&page["data"], &page["last_event_id"]), (&json!([sent]), &json!(1)));
}

async fn what_only_the_sender_may_do_is_refused_to_others(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2]).await;
    let sent = server.post(&format!("/api/v1/conversations/{id}/messages"), 1, json!({ "message": "mine" })).await;
    let one = format!("/api/v1/messages/{}", sent.expect(201)["id"]);
    server.patch(&one, 2, json!({ "message": "yours" })).await.refused(403, "forbidden");
    server.delete(&one, 2).await.refused(403, "forbidden");
    for (method, path) in [
        (Method::GET, one.clone()),
        (Method::PATCH, one.clone()),
        (Method::DELETE, one.clone()),
        (Method::GET, format!("{one}/history")),
        (Method::PUT, format!("{one}/reactions/like")),
        (Method::DELETE, format!("{one}/reactions/like")),
    ] {
        let request = server.request(method, &path, 3).json(&json!({ "message": "x" }));
        answer(request).await.refused(404, "not_found");
    }
}

async fn history_pages_miss_and_repeat_nothing_while_messages_come(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2]).await;
    let messages = format!("/api/v1/conversations/{id}/messages");
    let mut sent = vec![];
    for number in 0..7 {
        let message = server.post(&messages, 1, json!({ "message": number.to_string() })).await.expect(201);
        sent.push(message["id"].as_i64().expect("an id"));
    }
    let through = async |first: String, expected: &[i64]| {
        let (mut seen, mut next) = (vec![], Some(first));
        while let Some(path) = next.take() {
            let page = server.get(&path, 2).await;
            let link = page.headers.get("link").map(|link| link.to_str().expect("text").to_owned());
            next = link.map(|link| link.trim_start_matches('<').replace(">; rel=\"next\"", ""));
            let page = page.expect(200);
            seen.extend(page["data"].as_array().expect("a list").iter().filter_map(|item| item["id"].as_i64()));
            if seen.len() < expected.len() {
                server.post(&messages, 1, json!({ "message": "more" })).await.expect(201);
            }
        }
        seen
    };
    let newest_first: Vec<i64> = sent.iter().rev().copied().collect();
    assert_eq!(through(format!("{messages}?limit=3"), &newest_first).await, newest_first);
    let seen = through(format!("{messages}?limit=3&after={}", sent[0]), &[0; 12]).await;
    assert_eq!(seen[..6], sent[1..]);
    assert!(seen.is_sorted_by(|first, second| first < second), "{seen:?}");
    server.get(&format!("{messages}?before=1&after=1"), 2).await.refused(400, "invalid_field");
    server.get(&format!("{messages}?before=x"), 2).await.refused(400, "invalid_field");
}

async fn a_read_cursor_moves_forward_alone(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2]).await;
    let path = format!("/api/v1/conversations/{id}");
    let mut alice = server.connect_as(1).chat(id).await;
    let first = alice.say("one").await["message"]["id"].clone();
    let second = alice.say("two").await["message"]["id"].clone();
    assert_eq!(server.get("/api/v1/me", 2).await.expect(200)["unread_messages"], 2);
    let read = server.post(&format!("{path}/read"), 2, json!({ "message_id": first })).await.expect(200);
    assert_eq!((&read["message_id"], &read["unread_count"]), (&first, &json!(1)));
    assert_eq!(alice.expect("message_read").await["message_id"], first);
    server.post(&format!("{path}/read"), 2, json!({ "message_id": second })).await.expect(200);
    alice.expect("message_read").await;
    let again = server.post(&format!("{path}/read"), 2, json!({ "message_id": first })).await.expect(200);
    assert_eq!((&again["message_id"], &again["unread_count"]), (&second, &json!(0)));
    alice.expect_nothing().await;
    server.post(&format!("{path}/read"), 2, json!({})).await.refused(400, "invalid_field");
    server.post(&format!("{path}/read"), 2, json!({ "message_id": 98765 })).await.refused(404, "not_found");
    server.post(&format!("{path}/read"), 3, json!({ "message_id": first })).await.refused(404, "not_found");
    server.post(&format!("{path}/read"), Caller::Platform, json!({})).await.refused(401, "invalid_token");
}
