//! The server as a process: it starts, serves, survives a crash and ends well.

use serde_json::json;

use crate::support::process::Process;
use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(
    a_server_starts_and_says_that_it_is_ready,
    two_clients_in_a_conversation_hear_each_other,
    what_was_answered_is_there_after_a_crash_and_a_restart,
    a_stopped_server_ends_well_and_takes_its_port_again,
);

async fn a_server_starts_and_says_that_it_is_ready(store: Store) {
    let server = TestServer::start(store).await;
    server.get("/healthz", Caller::Nobody).await.expect(200);
    server.get("/readyz", Caller::Nobody).await.expect(200);
}

async fn two_clients_in_a_conversation_hear_each_other(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;

    let sent = alice.say("Hello there!").await;
    let heard = bob.expect("chat_message").await;

    assert_eq!(heard["message"], sent["message"]);
    assert_eq!(heard["message"]["content"], "Hello there!");
    assert_eq!(heard["message"]["sender"]["id"], 1);
    assert_eq!(heard.get("client_id"), None, "a client_id is for the socket that sent it alone");
    alice.expect_nothing().await;
    bob.expect_nothing().await;
}

async fn what_was_answered_is_there_after_a_crash_and_a_restart(store: Store) {
    let mut server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let sent = alice.say("Written down?").await;

    server.kill().await;
    server.start_again().await;

    let path = format!("/api/v1/conversations/{conversation_id}/messages");
    let messages = server.get(&path, 2).await.expect(200);
    assert_eq!(messages["data"], json!([sent["message"]]));
}

async fn a_stopped_server_ends_well_and_takes_its_port_again(store: Store) {
    let mut server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let address = server.address();
    let mut alice = server.connect_as(1).chat(conversation_id).await;

    server.stop().await;
    alice.expect_close(1012).await;
    server.start_again().await;

    assert_eq!(server.address(), address);
    server.connect_as(1).chat(conversation_id).await.say("Back again").await;
}

#[tokio::test]
async fn without_a_key_that_is_said_also_where_the_port_is_taken() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut process = Process::start(&["serve"], folder.path(), &[("TIDINGS_LISTEN".to_owned(), address)]);
    assert!(!process.ended().await.success());
    let output = process.output();
    assert!(output.contains("TIDINGS_JWT_SECRET"), "{output}");
}
