//! The doctor against small servers of the test's own, and against nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::*;
use crate::config::Secret;

const NOW_MS: i64 = 1_800_000_000_000;

fn token(claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    format!("{header}.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn good_token() -> String {
    token(&json!({"user_id": 7, "iat": NOW_MS / 1000, "exp": NOW_MS / 1000 + 300}))
}

async fn run(settings: Settings, url: String, token: Option<String>, origin: Option<&str>) -> (bool, String) {
    let target =
        DoctorTarget { url: Secret::new(url), token: token.map(Secret::new), origin: origin.map(String::from) };
    let mut out = Vec::new();
    let accepted = examine(&settings, &target, &Clock::manual(NOW_MS), &mut out).await.expect("a Vec takes all");
    let text = String::from_utf8(out).expect("UTF-8");
    if let Some(token) = &target.token {
        assert!(!text.contains(token.expose()), "the token is shown: {text}");
    }
    (accepted, text)
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}/ws/chat/1/", listener.local_addr().expect("bound"));
    (listener, url)
}

/// Takes the connection that only looks whether somebody listens, then the one to upgrade.
async fn accept_upgraded(listener: &TcpListener, subprotocol: bool) -> WebSocketStream<TcpStream> {
    drop(listener.accept().await.expect("the first connection"));
    let (stream, _) = listener.accept().await.expect("a connection");
    if !subprotocol {
        // The client gives up this one, since its offer was not answered, and asks again without.
        drop(tokio_tungstenite::accept_async(stream).await.expect("a handshake"));
        let (stream, _) = listener.accept().await.expect("a connection");
        return tokio_tungstenite::accept_async(stream).await.expect("a handshake");
    }
    #[expect(clippy::result_large_err, reason = "tungstenite's own signature")]
    let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        assert!(request.uri().query().is_some_and(|query| query.starts_with("token=")));
        response.headers_mut().insert("date", HeaderValue::from_static("Fri, 15 Jan 2027 08:00:00 GMT"));
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("tidings.v1"));
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, answer).await.expect("a handshake")
}

async fn read_to_end(mut socket: WebSocketStream<TcpStream>) {
    while let Some(Ok(_)) = socket.next().await {}
}

/// Answers the handshake with raw HTTP.
async fn answer_http(listener: &TcpListener, answer: &str) {
    drop(listener.accept().await.expect("the first connection"));
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.expect("a request"));
    }
    stream.write_all(answer.as_bytes()).await.expect("written");
}

#[tokio::test]
async fn a_greeting_is_an_acceptance_that_names_user_and_place() {
    let (listener, url) = listen().await;
    let server = async {
        let mut socket = accept_upgraded(&listener, true).await;
        let connected = json!({"type": "connected", "conversation_id": 1, "last_event_id": 12,
            "user": {"id": 7, "first_name": "Ada", "last_name": "L\u{1b}", "username": ""}});
        socket.send(connected.to_string().into()).await.expect("sent");
        read_to_end(socket).await;
    };
    let ((accepted, text), ()) =
        tokio::join!(run(Settings::default(), url, Some(good_token()), Some("https://a.example")), server);
    assert!(accepted, "{text}");
    for part in [
        "the chat socket of conversation 1",
        "HS256, for user 7",
        "5 min from now",
        "https://a.example is allowed",
        "clock and this machine's agree",
        r"user 7 (Ada L\u{1b}) takes part in conversation 1; the last event is 12",
        "close code: 1000",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(!text.contains("FAIL"), "{text}");
}

#[tokio::test]
async fn a_server_that_knows_no_subprotocol_and_says_nothing_has_accepted() {
    let (listener, url) = listen().await;
    let server = async { read_to_end(accept_upgraded(&listener, false).await).await };
    let ((accepted, text), ()) = tokio::join!(run(Settings::default(), url, Some(good_token()), None), server);
    assert!(accepted && text.contains("HTTP 101, no subprotocol"), "{text}");
}

#[tokio::test]
async fn a_close_code_is_a_refusal_that_is_explained() {
    for code in 4001..=4010 {
        let (listener, url) = listen().await;
        let server = async {
            let mut socket = accept_upgraded(&listener, true).await;
            let frame = CloseFrame { code: CloseCode::from(code), reason: "why".into() };
            socket.close(Some(frame)).await.expect("sent");
            read_to_end(socket).await;
        };
        let ((accepted, text), ()) = tokio::join!(run(Settings::default(), url, Some(good_token()), None), server);
        assert!(!accepted, "{text}");
        assert!(text.contains(&format!("close code: {code} why")) && text.contains(explain(code).1), "{text}");
    }
}

#[tokio::test]
async fn an_http_refusal_is_explained_with_its_problem_document() {
    for (status, headers, cure) in [
        ("404 Not Found", "", "check the path"),
        ("426 Upgrade Required", "Upgrade: websocket\r\n", "Upgrade and Connection"),
        ("403 Forbidden", "", "add https://a.example to TIDINGS_ALLOWED_ORIGINS"),
        ("429 Too Many Requests", "Retry-After: 3\r\n", "try again in 3 s"),
        ("503 Service Unavailable", "Retry-After: 5\r\n", "try again in 5 s"),
        ("301 Moved Permanently", "Location: ws://b/\r\n", "connect to ws://b/ itself"),
        ("200 OK", "", "something else than a WebSocket server"),
    ] {
        let (listener, url) = listen().await;
        let body = r#"{"title":"Refused","detail":"the reason is this"}"#;
        let answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        let ((accepted, text), ()) = tokio::join!(
            run(Settings::default(), url, Some(good_token()), Some("https://a.example")),
            answer_http(&listener, &answer)
        );
        assert!(!accepted, "{text}");
        assert!(text.contains(&format!("HTTP {status}: the reason is this")) && text.contains(cure), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_refusal_after_the_token_was_read() {
    let (listener, url) = listen().await;
    drop(listener);
    let (accepted, text) = run(Settings::default(), url, Some(good_token()), None).await;
    assert!(!accepted && text.contains("cannot be reached") && text.contains("for user 7"), "{text}");
}

#[tokio::test]
async fn what_is_wrong_with_the_token_is_said_before_the_server_is_asked() {
    let now_s = NOW_MS / 1000;
    let chat = "ws://127.0.0.1:1/ws/chat/1/";
    for (url, claims, found) in [
        (chat, json!({"user_id": 7, "exp": now_s}), "it has expired: 4002"),
        (chat, json!({"user_id": 7, "exp": now_s + 9, "nbf": now_s + 5}), "not good yet: 4001"),
        (chat, json!({"user_id": 7}), "no exp"),
        (chat, json!({"exp": now_s + 9}), "no claim holds a user id: 4001"),
        (chat, json!({"user_id": 7, "exp": now_s + 9, "token_type": "refresh"}), "token_type is \"refresh\""),
        (
            "ws://127.0.0.1:1/ws/user/8/",
            json!({"user_id": 7, "exp": now_s + 9}),
            "for user 7 and the address for user 8",
        ),
    ] {
        let (accepted, text) = run(Settings::default(), url.into(), Some(token(&claims)), None).await;
        assert!(!accepted && text.contains(found), "{found:?} is not in:\n{text}");
    }
    let (_, text) = run(Settings::default(), chat.into(), None, None).await;
    assert!(text.contains("there is none: 4003"), "{text}");
    let (_, text) = run(Settings::default(), chat.into(), Some("nonsense-token".into()), None).await;
    assert!(text.contains("1 parts"), "{text}");
}

#[tokio::test]
async fn a_secret_in_the_settings_checks_the_signature() {
    let url = || "ws://127.0.0.1:1/ws/chat/1/".to_string();
    let settings = Settings { jwt_secret: Some(Secret::new("the right secret of this test")), ..Settings::default() };
    let (_, text) = run(settings.clone(), url(), Some(good_token()), None).await;
    assert!(text.contains("signature FAIL"), "{text}");
    let holder = crate::config::TokenHolder {
        user_id: 7,
        expires_in: Duration::from_secs(60),
        first_name: String::new(),
        last_name: String::new(),
        username: String::new(),
    };
    let minted = crate::commands::token::mint(&settings, &holder, &Clock::manual(NOW_MS)).expect("a token");
    let (_, text) = run(settings, url(), Some(minted), None).await;
    assert!(text.contains("signature ok"), "{text}");
}

#[test]
fn a_clock_that_is_off_is_told() {
    let mut out = Vec::new();
    let mut headers = tungstenite::http::HeaderMap::new();
    headers.insert("date", HeaderValue::from_static("Fri, 15 Jan 2027 08:02:00 GMT"));
    tell_clock(&mut Report::new(&mut out), &headers, &Clock::manual(NOW_MS)).expect("a Vec takes all");
    let text = String::from_utf8(out).expect("UTF-8");
    assert!(text.contains("FAIL") && text.contains("120 s ahead of"), "{text}");
}
