//! The terminal chat against small servers of the test's own.

use serde_json::json;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;

use super::*;
use crate::config::Secret;

async fn listen() -> (TcpListener, ChatTarget) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}/ws/chat/1/", listener.local_addr().expect("bound"));
    (listener, ChatTarget { url: Secret::new(url), token: Secret::new("a.b.c") })
}

/// Takes the connection of a client that asks again without the subprotocol.
async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.expect("a connection");
    drop(tokio_tungstenite::accept_async(stream).await.expect("a handshake"));
    let (stream, _) = listener.accept().await.expect("a connection");
    tokio_tungstenite::accept_async(stream).await.expect("a handshake")
}

async fn next_frame(socket: &mut WebSocketStream<TcpStream>) -> Value {
    let frame = socket.next().await.expect("a frame").expect("whole");
    serde_json::from_str(frame.to_text().expect("text")).expect("JSON")
}

async fn chat(target: &ChatTarget, input: impl AsyncBufRead + Unpin) -> (Result<bool>, String) {
    let mut out = Vec::new();
    let ended = run(target, input, std::future::pending(), &mut out).await;
    (ended, String::from_utf8(out).expect("UTF-8"))
}

#[tokio::test]
async fn a_line_is_sent_and_its_answer_shown_before_the_end_of_the_input_ends_the_chat() {
    let (listener, target) = listen().await;
    let server = async {
        let mut socket = accept(&listener).await;
        let command = next_frame(&mut socket).await;
        assert_eq!((&command["type"], &command["message"]), (&json!("chat_message"), &json!("hello")));
        let sender = json!({"id": 7, "first_name": "Ada", "last_name": ""});
        let message = json!({"id": 5, "content": "hello", "sender": sender, "timestamp": "x"});
        let event = json!({"type": "chat_message", "message": message, "client_id": command["client_id"]});
        socket.send(event.to_string().into()).await.expect("sent");
        while let Some(Ok(_)) = socket.next().await {}
    };
    let ((ended, text), ()) = tokio::join!(chat(&target, &b"hello\n"[..]), server);
    assert!(ended.expect("no failure"), "{text}");
    assert!(text.contains("--:--:-- Ada: hello") && text.contains("closed: 1000"), "{text}");
}

#[tokio::test]
async fn quit_closes_in_good_order() {
    let (listener, target) = listen().await;
    let server = async {
        let mut socket = accept(&listener).await;
        let close = socket.next().await.expect("a frame").expect("whole");
        assert!(matches!(close, Message::Close(Some(frame)) if frame.code == CloseCode::Normal));
        while let Some(Ok(_)) = socket.next().await {}
    };
    let ((ended, text), ()) = tokio::join!(chat(&target, &b"/quit\nnever sent\n"[..]), server);
    assert!(ended.expect("no failure"), "{text}");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_meaning_and_is_no_good_end() {
    let (listener, target) = listen().await;
    // Input that stays open, as a terminal does.
    let (_keyboard, input) = tokio::io::duplex(64);
    let server = async {
        let mut socket = accept(&listener).await;
        let frame = CloseFrame { code: CloseCode::from(4004), reason: "access_denied".into() };
        socket.close(Some(frame)).await.expect("sent");
        while let Some(Ok(_)) = socket.next().await {}
    };
    let ((ended, text), ()) = tokio::join!(chat(&target, BufReader::new(input)), server);
    assert!(!ended.expect("no failure"), "{text}");
    assert!(text.contains("closed: 4004 access_denied") && text.contains(explain(4004).1), "{text}");
}

#[tokio::test]
async fn no_connection_is_a_failure_that_names_the_address_and_not_the_token() {
    let (listener, target) = listen().await;
    drop(listener);
    let (ended, _) = chat(&target, &b""[..]).await;
    let error = format!("{:#}", ended.expect_err("nobody listens"));
    assert!(error.contains("/ws/chat/1/") && !error.contains("a.b.c"), "{error}");
}
