//! Bounds on what one peer may cost the others: slow readers, floods, too many connections.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::raw::{CLOSE, RawClient, TEXT};
use crate::support::{Store, TestServer, both_stores, until};

both_stores!(
    a_reader_that_stops_reading_is_closed_and_resumes_complete,
    a_peer_that_falls_silent_in_a_replay_is_closed_as_a_silent_one,
    too_many_commands_are_refused_with_the_time_to_wait,
    a_flood_closes_the_connection,
    a_user_has_only_so_many_connections,
);

/// A text of 32 KB: few of them fill the buffers of the system as well.
fn long_text() -> String {
    "😀".repeat(8_000)
}

async fn a_reader_that_stops_reading_is_closed_and_resumes_complete(store: Store) {
    let settings = [("TIDINGS_COMMANDS_PER_SECOND_MAX", "off"), ("TIDINGS_OUTBOX_BYTES_MAX", "256KiB")];
    let server = TestServer::start_with(store, &settings).await;
    let conversation_id = server.conversation(&[1, 2, 3]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut healthy = server.connect_as(2).chat(conversation_id).await;
    let path = format!("/ws/chat/{conversation_id}/?since=0");
    let mut slow = RawClient::connect_with_buffer(server.address(), 3, &path, Some(4_096)).await;
    while slow.expect_json().await["type"] != "resumed" {}
    let text = long_text();
    let mut sent = 0;
    while !server.output().contains("close.code=4009") {
        sent += 1;
        assert!(sent < 2_000, "{sent} long messages were not too many for somebody who reads nothing");
        assert_eq!(alice.say(&text).await["event_id"], sent);
        assert_eq!(healthy.expect("chat_message").await["event_id"], sent, "others go on");
        alice.forget();
        healthy.forget();
    }
    let mut seen: Vec<i64> = vec![];
    loop {
        match slow.read().await {
            Some((TEXT, payload)) => {
                let frame: Value = serde_json::from_slice(&payload).expect("a JSON frame");
                seen.extend(frame["event_id"].as_i64());
            }
            Some((CLOSE, payload)) => {
                assert_eq!(payload, [&4009_u16.to_be_bytes()[..], b"slow_consumer"].concat());
                break;
            }
            Some(_) => {}
            None => panic!("the connection ended without a close frame"),
        }
    }
    let last = seen.last().copied().unwrap_or_default();
    assert!(last < sent, "what is being written when the reader is given up is not all there was");
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
    let mut back = server.connect_as(3).since(last).chat(conversation_id).await;
    let frames = back.collect_until("resumed").await;
    let rest: Vec<i64> = frames.iter().filter_map(|frame| frame["event_id"].as_i64()).collect();
    assert_eq!(rest, (last + 1..=sent).collect::<Vec<_>>());
}

async fn a_peer_that_falls_silent_in_a_replay_is_closed_as_a_silent_one(store: Store) {
    let settings = [("TIDINGS_COMMANDS_PER_SECOND_MAX", "off"), ("TIDINGS_HEARTBEAT_INTERVAL", "1s")];
    let server = TestServer::start_with(store, &settings).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let text = long_text();
    for _ in 0..400 {
        alice.say(&text).await;
        alice.forget();
    }
    let path = format!("/ws/chat/{conversation_id}/?since=0");
    let mut silent = RawClient::connect_with_buffer(server.address(), 2, &path, Some(4_096)).await;
    until("it is closed", async || server.output().contains("connection closed user.id=2")).await;
    assert!(server.output().contains("close.code=4010"), "{}", server.output());
    while silent.read().await.is_some() {}
}

// The memory is that of sockets, whatever the store.
#[tokio::test]
async fn a_thousand_clients_that_never_read_cost_bounded_memory_and_harm_nobody() {
    const CLIENTS: usize = 1_000;
    const MESSAGES: i64 = 40;
    let settings = [
        ("TIDINGS_COMMANDS_PER_SECOND_MAX", "off"),
        ("TIDINGS_CONNECTIONS_PER_USER_MAX", "off"),
        ("TIDINGS_HANDSHAKES_PER_ADDRESS_MAX", "off"),
        ("TIDINGS_OUTBOX_BYTES_MAX", "128KiB"),
        ("TIDINGS_LOG", "warn"),
    ];
    let server = TestServer::start_with(Store::Sqlite, &settings).await;
    let conversation_id = server.conversation(&[1, 2, 3]).await;
    let path = format!("/ws/chat/{conversation_id}/");
    let mut silent = vec![];
    while silent.len() < CLIENTS {
        silent.extend(
            join_all((0..50).map(async |_| {
                let mut client = RawClient::connect_with_buffer(server.address(), 3, &path, Some(4_096)).await;
                // It listens once it is told who is there; from then on it reads no more.
                client.read().await.expect("a frame about presence");
                client
            }))
            .await,
        );
    }
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut healthy = server.connect_as(2).chat(conversation_id).await;
    healthy.expect_live().await;
    let before = server.memory_kib();
    let text = long_text();
    let mut most = 0;
    for event_id in 1..=MESSAGES {
        assert_eq!(alice.say(&text).await["event_id"], event_id);
        assert_eq!(healthy.expect("chat_message").await["event_id"], event_id);
        alice.forget();
        healthy.forget();
        most = server.memory_kib().max(most);
    }
    // A frame is shared by all who wait for it, so that this is far less than the bounds of all outboxes together;
    // what a connection holds for itself is the frame that it is writing.
    let each = (most.saturating_sub(before)) / CLIENTS as u64;
    assert!(each <= 128, "{each} KiB for each client that does not read ({before} to {most} KiB)");
    drop(silent);
    alice.expect_live().await;
    healthy.expect_live().await;
}

async fn too_many_commands_are_refused_with_the_time_to_wait(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_COMMANDS_PER_SECOND_MAX", "1")]).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut elsewhere = server.connect_as(1).notifications().await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    // A burst of three seconds' worth; wrong frames count like any others.
    for index in 0..3 {
        let frame = if index % 2 == 0 { json!({ "type": "ping" }) } else { json!({ "type": "nope" }) };
        assert_ne!(alice.command(frame).await["code"], "rate_limited", "frame {index}");
    }
    let mut refused = json!(null);
    for client in [&mut alice, &mut elsewhere] {
        for index in 0..3 {
            client.send(json!({ "type": "ping", "client_id": format!("p{index}") })).await;
        }
        // Now and then one is let through, for time goes on.
        for index in 0..3 {
            let answer = loop {
                let frame = client.expect_next().await;
                if frame["client_id"] == format!("p{index}") {
                    break frame;
                }
            };
            if answer["type"] == "error" {
                refused = answer;
            }
        }
        assert_eq!((&refused["code"], &refused["type"]), (&json!("rate_limited"), &json!("error")));
        let wait = refused["retry_after_ms"].as_u64().expect("a time to wait");
        assert!((1..=1000).contains(&wait), "{refused}");
    }
    // Typing is dropped without a word, and not told.
    for _ in 0..5 {
        alice.send(json!({ "type": "typing_indicator", "is_typing": true })).await;
    }
    // Whoever waits as told is heard again. One of the indicators may have been let through, which costs a second.
    let wait = refused["retry_after_ms"].as_u64().expect("a time to wait") + 1_000;
    let wait = std::time::Duration::from_millis(wait);
    let told = std::time::Instant::now();
    while told.elapsed() < wait {
        server.get("/healthz", crate::support::Caller::Nobody).await.expect(200);
    }
    assert_eq!(alice.command(json!({ "type": "ping" })).await["type"], "pong");
    let mut quiet = server.connect_as(2).chat(conversation_id).await;
    quiet.expect_live().await;
    bob.expect_live().await;
    assert_ne!(bob.command(json!({ "type": "ping" })).await["code"], "rate_limited", "another user is not held up");
}

async fn a_flood_closes_the_connection(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_COMMANDS_PER_SECOND_MAX", "1")]).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let path = format!("/ws/chat/{conversation_id}/");
    let ping = br#"{"type":"ping"}"#;
    let typing = br#"{"type":"typing_indicator","is_typing":true}"#;
    // Refused typing counts, though it is dropped silently.
    for (frame, errors_wanted) in [(&ping[..], 100), (&typing[..], 0)] {
        let mut flooding = RawClient::connect(server.address(), 1, &path).await;
        let mut other = server.connect_as(2).chat(conversation_id).await;
        let flood: Vec<u8> = (0..150).flat_map(|_| crate::support::raw::frame(0x81, frame)).collect();
        flooding.write(&flood).await;
        let mut errors = 0;
        let reason = loop {
            match flooding.read().await.expect("a close frame comes first") {
                (TEXT, payload) => {
                    let frame: Value = serde_json::from_slice(&payload).expect("a JSON frame");
                    errors += i32::from(frame["code"] == "rate_limited");
                }
                (CLOSE, payload) => break payload,
                _ => {}
            }
        };
        assert_eq!(reason, [&4008_u16.to_be_bytes()[..], b"rate_limited"].concat());
        assert_eq!(errors, errors_wanted, "every refused frame is answered, typing aside");
        other.expect_live().await;
    }
}

async fn a_user_has_only_so_many_connections(store: Store) {
    let settings = [("TIDINGS_CONNECTIONS_PER_USER_MAX", "3"), ("TIDINGS_PRESENCE_GRACE", "60s")];
    let server = TestServer::start_with(store, &settings).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut first = server.connect_as(1).chat(conversation_id).await;
    let mut second = server.connect_as(1).notifications().await;
    let mut third = server.connect_as(1).user().await;
    for client in [&mut first, &mut second, &mut third] {
        client.expect_live().await;
    }
    for connect in [server.connect_as(1), server.connect_as(1).since(0)] {
        assert_eq!(connect.chat(conversation_id).await.expect_close(4007).await, "too_many_connections");
    }
    for client in [&mut first, &mut second, &mut third] {
        client.expect_live().await;
    }
    server.connect_as(2).chat(conversation_id).await.expect_live().await;
    second.close().await;
    until("there is room again", async || server.connect_as(1).user().await.is_live().await.is_ok()).await;
}
