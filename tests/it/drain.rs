//! How a server ends, well or badly, and how it ends peers that have gone silent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::client::TestClient;
use crate::support::raw::{CLOSE, FIN, PING, PONG, RawClient, TEXT, frame};
use crate::support::{Caller, Store, TestServer, both_stores, until};

both_stores!(
    a_server_that_is_stopped_sends_its_sockets_elsewhere_and_ends,
    while_it_drains_a_server_is_not_ready_and_takes_nobody_in,
    what_was_accepted_before_the_end_is_stored,
    a_crash_under_load_loses_nothing_that_was_answered,
);

/// The wait that a drained client is told.
fn retry_after_ms(reason: &str) -> u64 {
    let wait = reason.strip_prefix("service_restart retry_after_ms=").unwrap_or_else(|| panic!("{reason:?}"));
    wait.parse().expect("a number")
}

async fn a_server_that_is_stopped_sends_its_sockets_elsewhere_and_ends(store: Store) {
    let mut server = TestServer::start_with(store, &[("TIDINGS_DRAIN_TIME", "60s")]).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut sockets = vec![
        server.connect_as(1).chat(conversation_id).await,
        server.connect_as(1).notifications().await,
        server.connect_as(2).since(0).chat(conversation_id).await,
    ];
    for socket in &mut sockets {
        socket.expect_live().await;
    }
    // One that still waits for its first frame.
    sockets.push(server.connect_as(2).user().await);
    sockets[3].expect("connected").await;
    let began = Instant::now();
    server.terminate();
    let waits = join_all(sockets.iter_mut().map(async |socket| retry_after_ms(&socket.expect_close(1012).await))).await;
    assert!(waits.iter().all(|wait| (1..60_000).contains(wait)), "{waits:?}");
    server.expect_end().await;
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "the last socket had gone, and it still took {:?}",
        began.elapsed()
    );
    server.start_again().await;
    server.stop().await;
}

async fn while_it_drains_a_server_is_not_ready_and_takes_nobody_in(store: Store) {
    let mut server = TestServer::start_with(store, &[("TIDINGS_DRAIN_TIME", "5s")]).await;
    let mut sockets = vec![];
    for user_id in 1..=20 {
        sockets.push(server.connect_as(user_id).notifications().await);
    }
    for socket in &mut sockets {
        socket.expect_live().await;
    }
    server.get("/readyz", Caller::Nobody).await.expect(200);
    server.terminate();
    until("readiness turns red", async || server.get("/readyz", Caller::Nobody).await.status == 503).await;
    let refused = server.connect_as(30).refused("/ws/notifications/30/").await;
    assert_eq!(refused.status().as_u16(), 503);
    assert!(refused.headers()["retry-after"].to_str().is_ok_and(|seconds| seconds.parse::<u64>().is_ok()));
    server.get("/healthz", Caller::Nobody).await.expect(200);
    let closes = join_all(sockets.iter_mut().map(async |socket| {
        socket.expect_close(1012).await;
        Instant::now()
    }));
    let closes = closes.await;
    let spread = closes.iter().max().unwrap().duration_since(*closes.iter().min().unwrap());
    assert!(spread >= Duration::from_millis(500), "all 20 were told at once, within {spread:?}");
    server.expect_end().await;
}

/// What one client has sent, and how it was answered.
#[derive(Default)]
struct Sent {
    commands: Vec<Value>,
    answered: BTreeMap<String, i64>,
}

/// Sends messages without waiting for answers until the connection ends, and keeps account.
async fn send_until_the_end(mut client: TestClient, user_id: i64, most: usize) -> Sent {
    let mut sent = Sent::default();
    loop {
        while sent.commands.len() < most && sent.commands.len() < sent.answered.len() + 64 {
            let client_id = format!("u{user_id}-{}", sent.commands.len());
            let command = json!({ "type": "chat_message", "message": client_id, "client_id": client_id });
            let is_sent = client.try_send(&command).await;
            sent.commands.push(command);
            if !is_sent {
                return sent;
            }
        }
        match client.next_or_end().await {
            None => return sent,
            Some(frame) => {
                if let (Some(client_id), Some(event_id)) = (frame["client_id"].as_str(), frame["event_id"].as_i64()) {
                    sent.answered.insert(client_id.to_owned(), event_id);
                }
            }
        }
    }
}

/// Checks that all that was answered is stored as it was answered, and that retrying everything makes each message
/// exist exactly once, in a log without gaps.
async fn check(server: &TestServer, conversation_id: i64, all: Vec<(i64, Sent)>) {
    let mut reader = server.connect_as(9).since(0).chat(conversation_id).await;
    let replayed = reader.collect_until("resumed").await;
    let stored: BTreeMap<&str, i64> = replayed
        .iter()
        .filter(|frame| frame["type"] == "chat_message")
        .map(|frame| (frame["message"]["content"].as_str().unwrap(), frame["event_id"].as_i64().unwrap()))
        .collect();
    let mut count = 0;
    for (user_id, sent) in all {
        for (client_id, event_id) in &sent.answered {
            assert_eq!(stored.get(client_id.as_str()), Some(event_id), "{client_id} was answered, and is not there");
        }
        let mut client = server.connect_as(user_id).chat(conversation_id).await;
        for command in &sent.commands {
            client.send(command.clone()).await;
            let answer = loop {
                let frame = client.expect_next().await;
                if frame["client_id"] == command["client_id"] {
                    break frame;
                }
            };
            assert_eq!(answer["type"], "chat_message", "{answer}");
            let client_id = command["client_id"].as_str().unwrap();
            if let Some(event_id) = stored.get(client_id) {
                assert_eq!(answer["event_id"].as_i64(), Some(*event_id), "{client_id} took effect twice");
            }
        }
        count += sent.commands.len() as i64;
    }
    assert_eq!(server.database.number("SELECT COUNT(*) FROM messages").await, count);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM events WHERE topic_kind = 'c'").await, count);
    assert_eq!(server.database.number("SELECT MAX(event_id) FROM events WHERE topic_kind = 'c'").await, count);
}

const UNLIMITED: &[(&str, &str)] = &[("TIDINGS_COMMANDS_PER_SECOND_MAX", "off"), ("TIDINGS_LOG", "warn")];

/// Lets four people send as fast as they can; `end` ends the server once some hundred messages have been told.
async fn under_load(store: Store, end: impl AsyncFnOnce(&mut TestServer)) {
    let mut server = TestServer::start_with(store, UNLIMITED).await;
    let conversation_id = server.conversation(&[1, 2, 3, 4, 9]).await;
    let mut observer = server.connect_as(9).chat(conversation_id).await;
    observer.expect_live().await;
    let mut clients = vec![];
    for user_id in 1..=4 {
        clients.push((user_id, server.connect_as(user_id).chat(conversation_id).await));
    }
    let sending = join_all(
        clients.into_iter().map(async |(user_id, client)| (user_id, send_until_the_end(client, user_id, 2_000).await)),
    );
    let ending = async {
        while observer.expect_next().await["event_id"].as_i64().is_none_or(|event_id| event_id < 300) {}
        end(&mut server).await;
    };
    let (all, ()) = tokio::join!(sending, ending);
    let answered: usize = all.iter().map(|(_, sent)| sent.answered.len()).sum();
    let commands: usize = all.iter().map(|(_, sent)| sent.commands.len()).sum();
    eprintln!("{answered} of {commands} were answered before the end");
    assert!(answered >= 100, "the server was ended before it was under load");
    server.start_again().await;
    check(&server, conversation_id, all).await;
}

async fn what_was_accepted_before_the_end_is_stored(store: Store) {
    under_load(store, async |server| server.stop().await).await;
}

async fn a_crash_under_load_loses_nothing_that_was_answered(store: Store) {
    under_load(store, async |server| server.kill().await).await;
}

#[tokio::test]
async fn a_peer_in_the_middle_of_a_frame_is_not_silent() {
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_HEARTBEAT_INTERVAL", "500ms")]).await;
    let mut slow = RawClient::connect(server.address(), 7, "/ws/notifications/7/").await;
    let mut beats = tokio::time::interval(Duration::from_millis(50));
    // Two seconds, which are four intervals.
    for byte in frame(FIN | TEXT, br#"{"type":"ping","client_id":"slow"}"#) {
        beats.tick().await;
        slow.write(&[byte]).await;
    }
    assert_eq!(slow.expect_json().await["client_id"], "slow");
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_closed_and_one_that_answers_is_not() {
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_HEARTBEAT_INTERVAL", "500ms")]).await;
    let mut silent = RawClient::connect(server.address(), 7, "/ws/notifications/7/").await;
    let mut answering = RawClient::connect(server.address(), 7, "/ws/notifications/7/").await;
    let answer_pings = async {
        loop {
            match answering.read().await {
                Some((PING, payload)) => answering.frame(FIN | PONG, &payload).await,
                other => panic!("{other:?}"),
            }
        }
    };
    let began = Instant::now();
    let be_silent = async {
        let mut pings = 0;
        loop {
            match silent.read().await.expect("a close frame comes first") {
                (PING, _) => pings += 1,
                (CLOSE, payload) => return (pings, payload),
                other => panic!("{other:?}"),
            }
        }
    };
    let (pings, close) = tokio::select! {
        end = be_silent => end,
        () = answer_pings => unreachable!("it goes on for ever"),
    };
    assert_eq!(close, [&4010_u16.to_be_bytes()[..], b"heartbeat_timeout"].concat());
    assert!(pings >= 2, "closed after {pings} pings");
    assert!(began.elapsed() >= Duration::from_secs(1), "closed before two intervals had passed");
    answering.frame(FIN | 1, br#"{"type":"ping","client_id":"still here"}"#).await;
    assert_eq!(answering.expect_json().await["client_id"], "still here");
}
