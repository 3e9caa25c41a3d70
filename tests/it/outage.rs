//! A store that takes no writes for a while: refused clearly, nothing half done, and well again by itself.

use std::time::Duration;

use serde_json::json;

use crate::proxy::{Commit, Proxy};
use crate::support::{Caller, Store, TestServer, both_stores, until};

both_stores!(while_the_store_takes_no_writes_commands_are_unavailable_and_sockets_stay);

async fn while_the_store_takes_no_writes_commands_are_unavailable_and_sockets_stay(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    alice.say("Before").await;
    bob.expect("chat_message").await;
    let refusal = server.database.refuse_writes().await;
    let send = json!({ "type": "chat_message", "message": "Meanwhile", "client_id": "m" });
    for _ in 0..2 {
        alice.send(send.clone()).await;
        let error = alice.expect("error").await;
        assert_eq!((&error["code"], &error["client_id"]), (&json!("unavailable"), &json!("m")), "{error}");
        assert!(error["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{error}");
    }
    bob.expect_nothing().await;
    // Whoever is known may come in and read.
    let mut reader = server.connect_as(2).since(0).chat(conversation_id).await;
    let frames = reader.collect_until("resumed").await;
    assert_eq!(frames.iter().filter(|frame| frame["event_id"].is_i64()).count(), 1, "nothing was stored");
    refusal.end().await;
    // The retry takes effect, once.
    until("the store takes writes again", async || {
        alice.send(send.clone()).await;
        loop {
            let frame = alice.expect_next().await;
            if frame["client_id"] == "m" {
                return frame["type"] == "chat_message";
            }
        }
    })
    .await;
    assert_eq!(bob.expect("chat_message").await["event_id"], 2);
    bob.expect_nothing().await;
    server.get("/readyz", Caller::Nobody).await.expect(200);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM messages").await, 2);
}

/// PostgreSQL alone: a server that can't be connected to says why by an error of its own.
#[tokio::test]
async fn while_the_database_takes_nobody_in_commands_are_unavailable() {
    let server = TestServer::start(Store::Postgres).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    alice.say("Before").await;
    let closed = server.database.take_nobody_in().await;
    alice.send(json!({ "type": "chat_message", "message": "Meanwhile", "client_id": "m" })).await;
    let error = alice.expect("error").await;
    assert_eq!((&error["code"], &error["client_id"]), (&json!("unavailable"), &json!("m")), "{error}");
    closed.end().await;
    until("it takes commands again", async || {
        alice.send(json!({ "type": "chat_message", "message": "Meanwhile", "client_id": "m" })).await;
        alice.expect_next().await["type"] == "chat_message"
    })
    .await;
}

#[tokio::test]
async fn where_nothing_comes_from_the_database_a_command_is_unavailable_and_not_stored() {
    let (server, proxy) = behind_a_proxy().await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    alice.say("Before").await;
    proxy.stall();
    alice.send(json!({ "type": "chat_message", "message": "Meanwhile" })).await;
    assert_eq!(alice.expect("error").await["code"], "unavailable");
    proxy.go_on();
    until("it takes commands again", async || {
        alice.send(json!({ "type": "chat_message", "message": "After" })).await;
        alice.expect_next().await["type"] == "chat_message"
    })
    .await;
    let stored = "SELECT COUNT(*) FROM messages WHERE content = 'Meanwhile'";
    assert_eq!(server.database.number(stored).await, 0);
}

/// PostgreSQL alone: SQLite's one writer is in the same process.
#[tokio::test]
async fn clients_that_hang_up_leave_no_transaction_open() {
    let server = TestServer::start(Store::Postgres).await;
    server.put_user(1, "Ann", "").await;
    for round in 0..100 {
        let upload = |number: u64| {
            let form = server.form(1, "form-data; name=\"file\"; filename=\"note.txt\"", b"A note");
            form.timeout(Duration::from_micros(300 * (number + 1) + 7 * round)).send()
        };
        futures_util::future::join_all((0..16).map(upload)).await;
    }
    let open = "SELECT COUNT(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    until("no session is left in a transaction", async || server.database.number(open).await == 0).await;
    let output = server.output();
    assert!(!output.contains("already a transaction in progress"), "{output}");
}

/// A server on PostgreSQL, with something between the two.
async fn behind_a_proxy() -> (TestServer, Proxy) {
    let mut server = TestServer::start(Store::Postgres).await;
    let proxy = Proxy::before(server.database.url()).await;
    server.set("TIDINGS_DATABASE_URL", proxy.url());
    server.restart().await;
    (server, proxy)
}

#[tokio::test]
async fn what_a_commit_did_whose_answer_was_lost_is_found_out_and_told() {
    let (server, proxy) = behind_a_proxy().await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let messages = format!("/api/v1/conversations/{conversation_id}/messages");
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    alice.expect_nothing().await;
    bob.expect_nothing().await;

    proxy.next(Commit::AnswerIsLost, false);
    let sent = alice.command(json!({ "type": "chat_message", "message": "By socket" })).await;
    assert_eq!((&sent["type"], &sent["event_id"]), (&json!("chat_message"), &json!(1)), "{sent}");
    assert!(proxy.has_struck());
    assert_eq!(bob.expect("chat_message").await["message"]["content"], "By socket");

    proxy.next(Commit::AnswerIsLost, false);
    server.post(&messages, 1, json!({ "message": "By request" })).await.expect(201);
    assert_eq!(bob.expect("chat_message").await["message"]["content"], "By request");
    alice.expect("chat_message").await;

    proxy.next(Commit::IsLost, false);
    alice.send(json!({ "type": "chat_message", "message": "Never" })).await;
    assert_eq!(alice.expect("error").await["code"], "unavailable");
    bob.expect_nothing().await;
    assert_eq!(server.database.number("SELECT COUNT(*) FROM messages").await, 2);
}

#[tokio::test]
async fn where_nobody_knows_what_a_commit_did_the_socket_ends_and_what_was_stored_is_heard_later() {
    let (server, proxy) = behind_a_proxy().await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    alice.expect_nothing().await;
    bob.expect_nothing().await;
    proxy.next(Commit::AnswerIsLost, true);
    alice.send(json!({ "type": "chat_message", "message": "Is it there?" })).await;
    alice.expect_close(1013).await;
    proxy.come_back();
    assert_eq!(bob.expect("chat_message").await["message"]["content"], "Is it there?");
}
