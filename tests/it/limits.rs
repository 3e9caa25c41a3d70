//! What is too much is refused clearly, and what was accepted takes effect: waiting commands, requests, bodies.

use std::collections::HashMap;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::rest::answer;
use crate::support::{Caller, Store, TestServer, both_stores, token, until};

both_stores!(
    more_commands_than_may_wait_are_refused_at_once_and_the_others_take_effect,
    requests_are_limited_for_each_user_and_not_for_the_platform,
    a_body_is_taken_up_to_its_bound,
    properties_are_taken_up_to_their_bound,
);

/// How many commands wait for one committer, and how many more one transaction may have taken.
const WAITING_MAX: usize = 4_096;
const BATCH_MAX: usize = 256;

async fn more_commands_than_may_wait_are_refused_at_once_and_the_others_take_effect(store: Store) {
    let settings = [
        ("TIDINGS_COMMANDS_PER_SECOND_MAX", "off"),
        ("TIDINGS_OUTBOX_FRAMES_MAX", "20000"),
        ("TIDINGS_OUTBOX_BYTES_MAX", "64MiB"),
    ];
    let server = TestServer::start_with(store, &settings).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut client = server.connect_as(1).chat(conversation_id).await;
    client.say("Before").await;
    // A batch may fail and be followed by another while the store is held up.
    let sent = WAITING_MAX + 2 * BATCH_MAX + 200;
    let hold = server.database.hold_up_writes().await;
    for number in 0..sent {
        client.send(json!({ "type": "chat_message", "message": "More", "client_id": number.to_string() })).await;
    }
    // Those beyond the queue are answered while nothing can be written.
    let first = client.expect("error").await;
    assert_eq!(first["code"], "unavailable");
    assert!(first["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{first}");
    hold.end().await;
    let mut answers: HashMap<String, String> = HashMap::new();
    let mut take = |frame: &Value| {
        if let Some(client_id) = frame["client_id"].as_str() {
            let twice = answers.insert(client_id.to_owned(), frame["type"].as_str().expect("a type").to_owned());
            assert_eq!(twice, None, "{client_id} was answered twice");
        }
        answers.len()
    };
    let mut answered = take(&first);
    while answered < sent {
        answered = take(&client.expect_next().await);
    }
    let refused = answers.values().filter(|kind| *kind == "error").count();
    let taken = answers.values().filter(|kind| *kind == "chat_message").count();
    assert!(refused >= 200, "{refused} were refused");
    assert!(taken >= WAITING_MAX - BATCH_MAX, "{taken} were taken");
    assert_eq!(refused + taken, sent);
    let stored = server.database.number("SELECT COUNT(*) FROM messages").await;
    assert_eq!(stored as usize, taken + 1, "what was refused was not stored, and what was answered was");
}

async fn requests_are_limited_for_each_user_and_not_for_the_platform(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_REQUESTS_PER_SECOND_MAX", "1")]).await;
    server.put_user(1, "Ada", "Doe").await;
    let answers = join_all((0..12).map(|_| server.get("/api/v1/me", 1))).await;
    let (good, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    // Three seconds' worth at once, and one more where the twelve took longer than a second.
    assert!((3..=5).contains(&good.len()), "{} were taken", good.len());
    for answer in refused {
        let wait: u64 = answer.headers["retry-after"].to_str().expect("text").parse().expect("whole seconds");
        assert!(wait >= 1);
        answer.refused(429, "rate_limited");
    }
    server.get("/api/v1/me", 2).await.expect(200);
    for _ in 0..12 {
        server.get("/api/v1/stats", Caller::Platform).await.expect(200);
    }
}

async fn a_body_is_taken_up_to_its_bound(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_REQUEST_BYTES_MAX", "1KiB")]).await;
    let put = |length: usize| {
        let body = format!("{:length$}", r#"{"first_name":"Ada"}"#);
        let request = server.request(Method::PUT, "/api/v1/users/7", Caller::Platform);
        answer(request.header("Content-Type", "application/json").body(body))
    };
    put(1_024).await.expect(201);
    put(1_025).await.refused(413, "too_large");
}

async fn properties_are_taken_up_to_their_bound(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut client = server.connect_as(1).chat(conversation_id).await;
    let mut send = async |length: usize| {
        let data = json!({ "p": "x".repeat(length - r#"{"p":""}"#.len()) });
        client.command(json!({ "type": "chat_message", "message": "Hi", "data": data })).await
    };
    assert_eq!(send(4_096).await["type"], "chat_message");
    let error = send(4_097).await;
    assert_eq!((&error["code"], &error["field"]), (&json!("too_large"), &json!("data")));
}

#[tokio::test]
async fn no_more_requests_of_a_user_are_under_way_than_may_come_at_once() {
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_REQUESTS_PER_SECOND_MAX", "2")]).await;
    let mut unfinished = vec![];
    let head = format!(
        "POST /api/v1/conversations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
        token::for_user(1)
    );
    for _ in 0..6 {
        let mut connection = tokio::net::TcpStream::connect(server.address()).await.expect("a connection");
        connection.write_all(head.as_bytes()).await.expect("the head is sent");
        // The body is asked for once the caller is known and counted.
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 100");
        unfinished.push(connection);
    }
    let is_told = async |status: u16, word: &str| {
        let answered = server.get("/api/v1/me", 1).await;
        answered.status == status && answered.body.to_string().contains(word)
    };
    until("all places are taken", async || is_told(429, "under way").await).await;
    server.get("/api/v1/me", 2).await.expect(200);
    drop(unfinished);
    until("there is room again", async || is_told(200, "unread_messages").await).await;
}

#[tokio::test]
async fn a_request_answered_before_its_body_is_read_leaves_the_connection_whole() {
    let server = TestServer::start(Store::Sqlite).await;
    let mut connection = tokio::net::TcpStream::connect(server.address()).await.expect("a connection");
    // The head goes in a packet of its own, as HTTP clients do it.
    connection.set_nodelay(true).expect("an option of the socket");
    for size in [20_usize, 200_000] {
        let head = format!(
            "POST /api/v1/conversations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.expect("the head is sent");
        connection.write_all(&vec![b' '; size]).await.expect("the body is sent");
        let mut answer = Vec::new();
        let mut bytes = [0; 4_096];
        while !answer.ends_with(b"}") {
            let count = connection.read(&mut bytes).await.expect("an answer");
            assert!(count > 0, "the connection is lost after {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&bytes[..count]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 401"), "{}", String::from_utf8_lossy(&answer));
    }
}
