//! What is never kept: who types, and who is there.

use serde_json::{Value, json};

use super::{Pair, assert_refused, chat_message, done};
use crate::support::client::TestClient;
use crate::support::raw::{FIN, RawClient, TEXT};
use crate::support::{Caller, Store, TestServer, both_stores, until};

both_stores!(
    typing_is_told_once_to_the_others_and_ends_by_itself,
    a_message_ends_the_typing_of_its_sender,
    typing_ends_with_the_typists_last_socket,
    whoever_comes_is_told_who_is_there_and_who_types,
    somebody_is_online_from_the_first_socket_until_the_last_has_been_gone_a_while,
    a_short_absence_is_not_told,
    who_has_opened_a_socket_is_there_and_is_told_of_once,
    typing_after_a_message_goes_on_after_it,
    a_typist_has_todays_name,
    who_comes_back_after_a_crash_was_never_gone_and_who_does_not_is_after_a_while,
);

fn typing(is_typing: bool) -> Value {
    json!({ "type": "typing_indicator", "is_typing": is_typing })
}

/// The next indicator, which must be of this user and say this.
async fn expect_typing(client: &mut TestClient, user_id: i64, is_typing: bool) -> Value {
    let frame = next_of(client, "typing_indicator").await;
    assert_eq!((&frame["user"]["id"], &frame["is_typing"]), (&json!(user_id), &json!(is_typing)), "{frame}");
    frame
}

/// The next status, which must be of this user and say this.
async fn expect_status(client: &mut TestClient, user_id: i64, status: &str) -> Value {
    let frame = next_of(client, "user_status").await;
    assert_eq!((&frame["user_id"], &frame["status"]), (&json!(user_id), &json!(status)), "{frame}");
    frame
}

async fn next_of(client: &mut TestClient, kind: &str) -> Value {
    loop {
        let frame = client.expect_next().await;
        if frame["type"] == kind {
            return frame;
        }
        assert!(["user_status", "chat_message", "pong"].contains(&frame["type"].as_str().unwrap()), "{frame}");
    }
}

/// The frames of a type up to the answer to a ping sent now.
async fn so_far(client: &mut TestClient, kind: &str) -> Vec<Value> {
    let client_id = uuid::Uuid::new_v4().to_string();
    client.send(json!({ "type": "ping", "client_id": client_id })).await;
    let mut frames = client.collect_until("pong").await;
    frames.retain(|frame| frame["type"] == kind);
    frames
}

async fn typing_is_told_once_to_the_others_and_ends_by_itself(store: Store) {
    let mut pair = Pair::start(store, &[("TIDINGS_TYPING_EXPIRY", "1s")]).await;
    pair.server.put_user(1, "Ada", "Lovelace").await;
    let mut ada = pair.server.connect_as(1).chat(pair.conversation_id).await;
    ada.expect_live().await;
    ada.send(typing(true)).await;
    let told = expect_typing(&mut pair.bob, 1, true).await;
    assert_eq!((&told["user"]["first_name"], &told["user"]["last_name"]), (&json!("Ada"), &json!("Lovelace")));
    assert_eq!(told["conversation_id"], pair.conversation_id);
    assert_eq!((told.get("event_id"), told.get("client_id")), (None, None));
    // A refresh is not told, by whichever device; nobody answers it.
    ada.send(json!({ "type": "typing_indicator", "is_typing": true, "client_id": "t" })).await;
    pair.alice.send(typing(true)).await;
    assert_eq!(so_far(&mut ada, "typing_indicator").await, Vec::<Value>::new());
    assert_eq!(so_far(&mut pair.alice, "typing_indicator").await, Vec::<Value>::new(), "never to the typist");
    expect_typing(&mut pair.bob, 1, false).await;
    // Stopping is told at once, and only once.
    ada.send(typing(true)).await;
    expect_typing(&mut pair.bob, 1, true).await;
    ada.send(typing(false)).await;
    expect_typing(&mut pair.bob, 1, false).await;
    ada.send(typing(false)).await;
    ada.expect_live().await;
    assert_eq!(so_far(&mut pair.bob, "typing_indicator").await, Vec::<Value>::new());
    let error = ada.command(json!({ "type": "typing_indicator", "is_typing": "yes" })).await;
    assert_refused(&error, "invalid_field", Some("is_typing"));
}

async fn a_message_ends_the_typing_of_its_sender(store: Store) {
    let mut pair = Pair::start(store, &[("TIDINGS_TYPING_EXPIRY", "60s")]).await;
    pair.alice.send(typing(true)).await;
    expect_typing(&mut pair.bob, 1, true).await;
    pair.bob.say("A message of somebody else does not").await;
    pair.alice.expect("chat_message").await;
    assert_eq!(so_far(&mut pair.bob, "typing_indicator").await, Vec::<Value>::new());
    pair.alice.say("But one's own does").await;
    expect_typing(&mut pair.bob, 1, false).await;
}

async fn typing_ends_with_the_typists_last_socket(store: Store) {
    let mut pair = Pair::start(store, &[("TIDINGS_TYPING_EXPIRY", "60s")]).await;
    let mut everywhere = pair.server.connect_as(1).user().await;
    everywhere.expect_live().await;
    pair.alice.send(typing(true)).await;
    expect_typing(&mut pair.bob, 1, true).await;
    pair.alice.close().await;
    everywhere.expect_live().await;
    assert_eq!(so_far(&mut pair.bob, "typing_indicator").await, Vec::<Value>::new(), "one socket is left");
    // Dropped without a close.
    drop(everywhere);
    expect_typing(&mut pair.bob, 1, false).await;
}

async fn whoever_comes_is_told_who_is_there_and_who_types(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_TYPING_EXPIRY", "60s")]).await;
    let conversation_id = server.conversation(&[1, 2, 3]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let first: Vec<Value> = so_far(&mut alice, "user_status").await;
    let status = |user_id: i64, status: &str| json!({ "type": "user_status", "conversation_id": conversation_id, "user_id": user_id, "status": status, "last_seen": null });
    assert_eq!(first, [status(2, "offline"), status(3, "offline")]);
    alice.send(typing(true)).await;
    alice.expect_live().await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    let client_id = "after the snapshot";
    bob.send(json!({ "type": "ping", "client_id": client_id })).await;
    let mut frames = bob.collect_until("pong").await;
    frames.pop();
    // A change that is still being told may say once more what the snapshot said.
    let mut known: Vec<Value> = vec![];
    frames.retain(|frame| !known.contains(frame) && (known.push(frame.clone()), true).1);
    assert_eq!(frames[..2], [status(1, "online"), status(3, "offline")]);
    assert_eq!((&frames[2]["type"], &frames[2]["is_typing"]), (&json!("typing_indicator"), &json!(true)));
    assert_eq!(frames.len(), 3, "{frames:#?}");
    assert_eq!(expect_status(&mut alice, 2, "online").await, status(2, "online"));
    // One's own presence is nobody's business here.
    assert!(so_far(&mut bob, "user_status").await.iter().all(|frame| frame["user_id"] != 2));
}

async fn somebody_is_online_from_the_first_socket_until_the_last_has_been_gone_a_while(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_PRESENCE_GRACE", "300ms")]).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    expect_status(&mut alice, 2, "offline").await;
    // A socket on any endpoint makes one online.
    let mut notifications = server.connect_as(2).notifications().await;
    notifications.expect_live().await;
    expect_status(&mut alice, 2, "online").await;
    let mut chat = server.connect_as(2).chat(conversation_id).await;
    chat.expect_live().await;
    notifications.close().await;
    let silent = RawClient::connect(server.address(), 2, "/ws/user/2/").await;
    chat.close().await;
    assert_eq!(so_far(&mut alice, "user_status").await, Vec::<Value>::new(), "a second device changes nothing");
    drop(silent);
    let offline = expect_status(&mut alice, 2, "offline").await;
    let last_seen = offline["last_seen"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
    let ago = jiff::Timestamp::now().duration_since(last_seen);
    assert!(ago.as_secs() < 30 && ago.as_millis() >= 300, "{ago:?}");
    // A user socket hears of each person once, without the conversation.
    let mut everywhere = server.connect_as(1).user().await;
    everywhere.expect("connected").await;
    everywhere.send(json!({ "type": "ping" })).await;
    let told = expect_status(&mut everywhere, 2, "offline").await;
    assert_eq!((told.get("conversation_id"), &told["last_seen"]), (None, &offline["last_seen"]));
}

async fn a_short_absence_is_not_told(store: Store) {
    let mut pair = Pair::start(store, &[("TIDINGS_PRESENCE_GRACE", "60s")]).await;
    for _ in 0..5 {
        pair.bob.close().await;
        pair.bob = pair.server.connect_as(2).chat(pair.conversation_id).await;
        done(&mut pair.bob, json!({ "type": "ping" })).await;
    }
    assert_eq!(so_far(&mut pair.alice, "user_status").await, Vec::<Value>::new());
}

async fn who_has_opened_a_socket_is_there_and_is_told_of_once(store: Store) {
    let server = TestServer::start(store).await;
    let round = async |round: i64| {
        let (first, second) = (2 * round + 1, 2 * round + 2);
        let conversation_id = server.conversation(&[first, second]).await;
        let mut early = server.connect_as(first).chat(conversation_id).await;
        let mut late = server.connect_as(second).chat(conversation_id).await;
        late.expect_live().await;
        early.expect_live().await;
        // It is stored when it has been told, so nothing is told late from here on.
        let stored = format!("SELECT COUNT(*) FROM users WHERE id IN ({first}, {second}) AND is_online = 1");
        until("both are told of", async || server.database.number(&stored).await == 2).await;
        let statuses = async |client: &mut TestClient| {
            client.expect_live().await;
            client.statuses()
        };
        assert_eq!(statuses(&mut late).await, ["online"], "round {round}");
        let told = statuses(&mut early).await;
        assert!(told == ["online"] || told == ["offline", "online"], "round {round}: {told:?}");
    };
    for batch in 0..10 {
        futures_util::future::join_all((0..4).map(|index| round(4 * batch + index))).await;
    }
}

async fn typing_after_a_message_goes_on_after_it(store: Store) {
    let mut pair = Pair::start(store, &[("TIDINGS_TYPING_EXPIRY", "60s")]).await;
    let path = format!("/ws/chat/{}/", pair.conversation_id);
    let mut ada = RawClient::connect(pair.server.address(), 1, &path).await;
    let said = |frame: Value| crate::support::raw::frame(FIN | TEXT, frame.to_string().as_bytes());
    let mut heard = async |frames: &[Value], count: usize| {
        ada.write(&frames.iter().cloned().flat_map(said).collect::<Vec<u8>>()).await;
        let mut kinds = vec![];
        while kinds.len() < count {
            let frame = pair.bob.expect_next().await;
            match frame["type"].as_str() {
                Some("chat_message") => kinds.push("message"),
                Some("typing_indicator") if frame["is_typing"] == true => kinds.push("typing"),
                Some("typing_indicator") => kinds.push("no typing"),
                _ => {}
            }
        }
        kinds.extend(so_far(&mut pair.bob, "typing_indicator").await.iter().map(|_| "more"));
        kinds
    };
    assert_eq!(heard(&[chat_message("Hi"), typing(true)], 2).await, ["message", "typing"]);
    // Who was typing before sent what was typed, and goes on.
    let told = heard(&[chat_message("Hi"), typing(true)], 3).await;
    assert_eq!(told, ["message", "no typing", "typing"]);
    // A message after it ends it, also where none of it was told.
    let told = heard(&[chat_message("Hi"), typing(true), chat_message("Bye")], 3).await;
    assert_eq!(told, ["message", "no typing", "message"]);
    assert_eq!(heard(&[chat_message("Hi"), typing(true), typing(false)], 1).await, ["message"]);
    // A message that is refused holds nothing up.
    let refused = json!({ "type": "chat_message", "message": "Hi", "reply_to": 1_000_000 });
    assert_eq!(heard(&[refused, typing(true)], 1).await, ["typing"]);
}

async fn a_typist_has_todays_name(store: Store) {
    let mut pair = Pair::start(store, &[("TIDINGS_TYPING_EXPIRY", "60s")]).await;
    pair.server.put_user(1, "Ada", "Lovelace").await;
    pair.alice.send(typing(true)).await;
    assert_eq!(expect_typing(&mut pair.bob, 1, true).await["user"]["first_name"], "Ada");
    let users = json!([{ "id": 1, "first_name": "Augusta" }]);
    pair.server.post("/api/v1/users", Caller::Platform, users).await.success();
    pair.alice.send(typing(false)).await;
    expect_typing(&mut pair.bob, 1, false).await;
    pair.alice.send(typing(true)).await;
    assert_eq!(expect_typing(&mut pair.bob, 1, true).await["user"]["first_name"], "Augusta");
    // Who is erased while typing is not named any more.
    pair.server.delete("/api/v1/users/1", Caller::Platform).await.success();
    let ended = expect_typing(&mut pair.bob, 1, false).await;
    assert!(!ended.to_string().contains("Augusta"), "{ended}");
}

async fn who_comes_back_after_a_crash_was_never_gone_and_who_does_not_is_after_a_while(store: Store) {
    let mut server = TestServer::start_with(store, &[("TIDINGS_PRESENCE_GRACE", "2s")]).await;
    let conversation_id = server.conversation(&[1, 2, 3, 4]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let _bob = server.connect_as(2).chat(conversation_id).await;
    let _carol = server.connect_as(3).notifications().await;
    // It is told first, and stored right after; the sweep comes once a minute.
    let stored = "SELECT COUNT(*) FROM users WHERE id < 4 AND last_seen_at IS NOT NULL";
    until("it is stored who was there", async || server.database.number(stored).await == 3).await;
    alice.expect_live().await;

    server.kill().await;
    let crashed_at = jiff::Timestamp::now();
    server.start_again().await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let statuses = so_far(&mut alice, "user_status").await;
    let told: Vec<_> = statuses.iter().map(|frame| (frame["user_id"].as_i64(), frame["status"].as_str())).collect();
    assert_eq!(told, [(Some(2), Some("online")), (Some(3), Some("online")), (Some(4), Some("offline"))]);
    let _bob = server.connect_as(2).chat(conversation_id).await;
    // Of Bob nothing more is told, and in the end Carol has gone.
    let offline = expect_status(&mut alice, 3, "offline").await;
    let last_seen = offline["last_seen"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
    assert!(last_seen < crashed_at, "{offline}");
    assert_eq!(so_far(&mut alice, "user_status").await, Vec::<Value>::new());
    // Who has gone for good is not expected back.
    server.restart().await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let statuses = so_far(&mut alice, "user_status").await;
    let told: Vec<_> = statuses.iter().map(|frame| frame["status"].as_str()).collect();
    assert_eq!(told, [Some("online"), Some("offline"), Some("offline")]);
}
