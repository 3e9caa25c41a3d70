//! Users as the platform keeps them: written, seen, their sessions ended, erased.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::rest::answer;
use crate::support::{Caller, Store, TestServer, both_stores, token};

both_stores!(
    a_user_is_written_whole_and_sees_oneself,
    many_users_are_written_all_or_none,
    ended_sessions_close_sockets_and_refuse_their_tokens,
    an_erased_user_leaves_tombstones_and_may_come_again,
    presence_and_stats_are_the_platform_s,
);

async fn a_user_is_written_whole_and_sees_oneself(store: Store) {
    let server = TestServer::start(store).await;
    let body = json!({
        "first_name": "Zoë", "last_name": "O'Neill", "username": "zoe", "email": "zoe@example.org",
        "avatar_url": "https://example.org/zoe.png",
    });
    let written = server.put("/api/v1/users/7", Caller::Platform, body.clone()).await.expect(201);
    let mut expected = body.clone();
    expected["id"] = json!(7);
    assert_eq!(written, expected);
    let replaced = server.put("/api/v1/users/7", Caller::Platform, json!({ "first_name": "Zed" })).await.expect(200);
    let bare = json!({
        "id": 7, "first_name": "Zed", "last_name": "", "username": null, "email": null, "avatar_url": null,
    });
    assert_eq!(replaced, bare);
    // What the platform says of a user stands, whatever tokens claim.
    let mut claims = token::claims(7);
    claims["first_name"] = json!("Claimed");
    let me = server.get("/api/v1/me", Caller::Token(token::mint(&claims, token::SECRET))).await.expect(200);
    let mut expected = bare;
    expected["unread_messages"] = json!(0);
    expected["unread_notifications"] = json!(0);
    assert_eq!(me, expected);

    server.put("/api/v1/users/7", 7, body.clone()).await.refused(403, "forbidden");
    server.put("/api/v1/users/7", Caller::Nobody, body).await.refused(401, "missing_token");
    server.put("/api/v1/users/0", Caller::Platform, json!({})).await.refused(404, "not_found");
    for bad in [json!({ "first_name": 1 }), json!({ "username": "a\u{0}" }), json!({ "id": 8 })] {
        server.put("/api/v1/users/7", Caller::Platform, bad).await.refused(400, "invalid_field");
    }
    server.get("/api/v1/me", Caller::Platform).await.refused(401, "invalid_token");
}

async fn many_users_are_written_all_or_none(store: Store) {
    let server = TestServer::start(store).await;
    let users = |ids: std::ops::RangeInclusive<i64>| ids.map(|id| json!({ "id": id, "first_name": "N" })).collect();
    let post = async |body: Value| server.post("/api/v1/users", Caller::Platform, body).await;
    let mut broken: Vec<Value> = users(1..=3);
    broken[2] = json!({ "first_name": "without an id" });
    post(json!(broken)).await.refused(400, "invalid_field");
    assert_eq!(post(Value::Array(users(1..=1000))).await.success(), json!({ "created": 1000, "updated": 0 }));
    assert_eq!(post(Value::Array(users(1000..=1001))).await.success(), json!({ "created": 1, "updated": 1 }));
    post(Value::Array(users(1..=1001))).await.refused(413, "too_large");
    post(json!({ "id": 1 })).await.refused(400, "invalid_json");
    post(json!([5])).await.refused(400, "invalid_json");
    server.post("/api/v1/users", 1, json!([])).await.refused(403, "forbidden");
    let repeated = async || {
        let request = server.request(Method::POST, "/api/v1/users", Caller::Platform).header("idempotency-key", "one");
        answer(request.json(&json!([{ "id": 5000 }]))).await.success()
    };
    assert_eq!(repeated().await, json!({ "created": 1, "updated": 0 }));
    assert_eq!(repeated().await, json!({ "created": 1, "updated": 0 }));
}

async fn ended_sessions_close_sockets_and_refuse_their_tokens(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2]).await;
    let mut chat = server.connect_as(1).chat(id).await;
    let mut own = server.connect_as(1).live_user().await;
    let mut others = server.connect_as(2).chat(id).await;
    let old = token::for_user(1);
    server.delete("/api/v1/users/1/sessions", Caller::Platform).await.expect(204);
    chat.expect_close(4006).await;
    own.expect_close(4006).await;
    others.expect_nothing().await;
    server.get("/api/v1/me", Caller::Token(old.clone())).await.refused(401, "session_revoked");
    server.connect_as(1).token(&old).chat(id).await.expect_close(4006).await;
    let mut claims = token::claims(1);
    claims["iat"] = json!(token::now() + 2);
    let fresh = token::mint(&claims, token::SECRET);
    server.get("/api/v1/me", Caller::Token(fresh)).await.expect(200);
    server.delete("/api/v1/users/1/sessions", 2).await.refused(403, "forbidden");
}

async fn an_erased_user_leaves_tombstones_and_may_come_again(store: Store) {
    let server = TestServer::start(store).await;
    server.put_user(1, "Ada", "Doe").await;
    server.put_user(2, "Bob", "Roe").await;
    let id = server.conversation(&[1, 2]).await;
    let messages = format!("/api/v1/conversations/{id}/messages");
    let sent = server.post(&messages, 2, json!({ "message": "a secret" })).await.expect(201);
    server.post(&messages, 1, json!({ "message": "kept", "reply_to": sent["id"] })).await.expect(201);
    let mut erased = server.connect_as(2).chat(id).await;
    let mut other = server.connect_as(1).since(2).chat(id).await;
    other.expect("connected").await;
    other.ignore("message_read");
    other.expect("resumed").await;
    server.delete("/api/v1/users/2", Caller::Platform).await.expect(204);
    erased.expect_close(4006).await;
    other.expect_nothing().await;

    let history = server.get(&messages, 1).await.expect(200);
    let (kept, tombstone) = (&history["data"][0], &history["data"][1]);
    assert_eq!((&tombstone["is_deleted"], &tombstone["content"]), (&json!(true), &json!("")));
    let nobody = json!({ "id": 2, "first_name": "Deleted", "last_name": "user", "username": null, "avatar_url": null });
    assert_eq!(tombstone["sender"], nobody);
    assert_eq!((&kept["content"], &kept["reply_to"]["content"]), (&json!("kept"), &json!("")));
    assert_eq!(history["last_event_id"], 2);
    let seen = server.get(&format!("/api/v1/conversations/{id}"), 1).await.expect(200);
    assert_eq!((&seen["participant_count"], &seen["unread_count"]), (&json!(2), &json!(0)));
    server.get("/api/v1/me", 2).await.refused(401, "session_revoked");
    server.connect_as(2).chat(id).await.expect_close(4006).await;
    let all: Vec<String> = [&messages, "/api/v1/conversations", "/api/v1/notifications", "/api/v1/search?q=secret"]
        .map(str::to_owned)
        .to_vec();
    for path in all {
        let text = server.get(&path, 1).await.expect(200).to_string();
        assert!(!text.contains("secret") && !text.contains("Bob") && !text.contains("Roe"), "{path}: {text}");
    }
    server.put_user(2, "Bob", "Again").await;
    let mut claims = token::claims(2);
    claims["iat"] = json!(token::now() + 2);
    server.get("/api/v1/me", Caller::Token(token::mint(&claims, token::SECRET))).await.expect(200);
    server.delete("/api/v1/users/2", 1).await.refused(403, "forbidden");
}

async fn presence_and_stats_are_the_platform_s(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2]).await;
    let mut chat = server.connect_as(1).chat(id).await;
    chat.say("here").await;
    let presence = server.get("/api/v1/presence?user_ids=1,2,999", Caller::Platform).await.expect(200);
    let expected = json!([
        { "user_id": 1, "status": "online", "last_seen": null },
        { "user_id": 2, "status": "offline", "last_seen": null },
        { "user_id": 999, "status": "offline", "last_seen": null },
    ]);
    assert_eq!(presence, json!({ "data": expected, "has_more": false }));
    let stats = server.get("/api/v1/stats", Caller::Platform).await.expect(200);
    let expected = json!({ "connections": 1, "users_online": 1, "users": 2, "conversations": 1, "messages": 1 });
    assert_eq!(stats, expected);
    for bad in ["", "?user_ids=", "?user_ids=x", "?user_ids=1,,2"] {
        server.get(&format!("/api/v1/presence{bad}"), Caller::Platform).await.refused(400, "invalid_field");
    }
    for path in ["/api/v1/presence?user_ids=1", "/api/v1/stats"] {
        server.get(path, 1).await.refused(403, "forbidden");
    }
}

/// Everything that SQLite's files hold, once all is in its place.
async fn bytes_on_disk(server: &TestServer) -> Vec<u8> {
    server.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let path = server.database_url().strip_prefix("sqlite://").expect("a file");
    let read = |suffix: &str| std::fs::read(format!("{path}{suffix}")).unwrap_or_default();
    [read(""), read("-wal")].concat()
}

/// PostgreSQL keeps what was deleted until its own vacuum.
#[tokio::test]
async fn what_is_deleted_or_erased_is_not_in_sqlite_s_files_any_more() {
    let server = TestServer::start(Store::Sqlite).await;
    server.put_user(2, "Bob", "Roe").await;
    let id = server.conversation(&[1, 2]).await;
    let messages = format!("/api/v1/conversations/{id}/messages");
    // One that its row has room for, and one that has not.
    let texts = |word: &str| [format!("{word}short and sweet"), format!("{word}long {}", "and so on ".repeat(700))];
    for text in texts("qzdeleted").iter().chain(&texts("qzerased")) {
        let sent = server.post(&messages, 2, json!({ "message": text })).await.expect(201);
        if text.starts_with("qzdeleted") {
            let path = format!("/api/v1/messages/{}", sent["id"]);
            server.patch(&path, 2, json!({ "message": "qzdeletedlater" })).await.expect(200);
        }
    }
    // Others around them, so that the index has to be merged.
    for number in 0..200 {
        server.post(&messages, Caller::Platform, json!({ "sender_id": 1, "message": format!("qzkept{number}") })).await;
    }
    let holds = |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    let before = bytes_on_disk(&server).await;
    assert!(["qzdeleted", "qzdeletedlater", "qzerased", "qzkept"].iter().all(|word| holds(&before, word)));
    for message in [1, 2] {
        server.delete(&format!("/api/v1/messages/{message}"), 2).await.expect(204);
    }
    assert!(!holds(&bytes_on_disk(&server).await, "qzdeleted"));
    server.delete("/api/v1/users/2", Caller::Platform).await.expect(204);
    // The server has emptied its log itself.
    let path = server.database_url().strip_prefix("sqlite://").expect("a file");
    assert!(!holds(&std::fs::read(format!("{path}-wal")).unwrap_or_default(), "qzerased"));
    let after = bytes_on_disk(&server).await;
    assert!(!holds(&after, "qzerased") && holds(&after, "qzkept"));
    assert_eq!(server.get("/api/v1/search?q=qzkept19", 1).await.expect(200)["data"].as_array().map(Vec::len), Some(11));
}
