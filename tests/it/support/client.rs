//! A WebSocket client that says what it sends and what it expects, and tells all it saw when that does not come.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{DEADLINE, token};

/// Types that come when they come; [`TestClient::expect`] passes over them unless asked for one.
const BACKGROUND: [&str; 3] = ["user_status", "typing_indicator", "message_status"];

/// A connection about to be made. Without further word it is a guide-only client with a good token in the query.
pub struct Connect {
    address: SocketAddr,
    user_id: i64,
    query: Vec<String>,
    headers: Vec<(&'static str, String)>,
}

impl Connect {
    pub fn new(address: SocketAddr, user_id: i64) -> Self {
        Self { address, user_id, query: vec![format!("token={}", token::for_user(user_id))], headers: vec![] }
    }

    /// Resumes after this event.
    pub fn since(self, event_id: i64) -> Self {
        self.query(&format!("since={event_id}"))
    }

    /// Offers these subprotocols, comma separated.
    pub fn subprotocol(self, offer: &str) -> Self {
        self.header("sec-websocket-protocol", offer)
    }

    /// Another token in the query instead of the user's good one.
    pub fn token(self, token: &str) -> Self {
        self.without_token().query(&format!("token={token}"))
    }

    /// No token in the query.
    pub fn without_token(mut self) -> Self {
        self.query.retain(|part| !part.starts_with("token="));
        self
    }

    /// One more part of the query, as it is.
    pub fn query(mut self, part: &str) -> Self {
        self.query.push(part.to_owned());
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Connects to a conversation.
    pub async fn chat(self, conversation_id: i64) -> TestClient {
        self.path(&format!("/ws/chat/{conversation_id}/")).await
    }

    /// Connects to the user's notifications.
    pub async fn notifications(self) -> TestClient {
        let path = format!("/ws/notifications/{}/", self.user_id);
        self.path(&path).await
    }

    /// Connects to all that is the user's.
    pub async fn user(self) -> TestClient {
        let path = format!("/ws/user/{}/", self.user_id);
        self.path(&path).await
    }

    /// Connects to all that is the user's, and is live without resuming; notifications are passed over.
    pub async fn live_user(self) -> TestClient {
        let mut client = self.user().await;
        client.expect("connected").await;
        for of_notifications in ["notification", "notification_read", "notification_deleted"] {
            client.ignore(of_notifications);
        }
        client.expect_nothing().await;
        client
    }

    /// Connects to a path as it is written.
    pub async fn path(self, path: &str) -> TestClient {
        self.open(path).await.unwrap_or_else(|error| panic!("{path} was not upgraded: {error}"))
    }

    /// Expects that the upgrade is refused, and gives the HTTP answer.
    pub async fn refused(self, path: &str) -> Response<Option<Vec<u8>>> {
        self.try_path(path).await.err().unwrap_or_else(|| panic!("{path} was upgraded"))
    }

    /// Connects, or gives the HTTP answer that refuses the upgrade.
    pub async fn try_path(self, path: &str) -> Result<TestClient, Response<Option<Vec<u8>>>> {
        self.open(path).await.map_err(|error| match error {
            tungstenite::Error::Http(response) => *response,
            error => panic!("{path} was refused without an HTTP answer: {error}"),
        })
    }

    async fn open(self, path: &str) -> Result<TestClient, tungstenite::Error> {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query.join("&")) };
        let mut request = format!("ws://{}{path}{query}", self.address).into_client_request()?;
        for (name, value) in self.headers {
            let value = HeaderValue::from_str(&value).expect("a header value");
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        let connecting = timeout(DEADLINE, connect_async(request));
        let (socket, response) = connecting.await.expect("the handshake is answered in time")?;
        let subprotocol =
            response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned());
        Ok(TestClient { socket, subprotocol, ignored: vec![], seen: vec![], commands: 0 })
    }
}

/// An open connection.
pub struct TestClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The subprotocol that the server chose.
    pub subprotocol: Option<String>,
    ignored: Vec<&'static str>,
    seen: Vec<String>,
    commands: u64,
}

impl TestClient {
    /// From now on, `expect` passes over frames of this type too.
    pub fn ignore(&mut self, frame_type: &'static str) {
        self.ignored.push(frame_type);
    }

    /// Forgets the frames seen, where there are very many.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// Sends an object.
    pub async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends a text frame as it is, JSON or not.
    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the frame is sent");
    }

    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::Binary(Bytes::copy_from_slice(bytes))).await.expect("the frame is sent");
    }

    /// Sends a command under a fresh `client_id` and gives its one answer, an event or an error.
    pub async fn command(&mut self, mut command: Value) -> Value {
        self.commands += 1;
        let client_id = format!("command-{}-{}", self.commands, uuid::Uuid::new_v4());
        command["client_id"] = json!(client_id);
        self.send(command.clone()).await;
        loop {
            let frame = self.expect_next().await;
            if frame["client_id"] == client_id.as_str() {
                return frame;
            }
            if !self.is_background(&frame) {
                self.fail(&format!("the answer to {command}"), &format!("got {frame}"));
            }
        }
    }

    /// Sends a text message and gives the event it became.
    pub async fn say(&mut self, text: &str) -> Value {
        let event = self.command(json!({ "type": "chat_message", "message": text })).await;
        assert_eq!(event["type"], "chat_message", "{event}");
        event
    }

    /// The next frame, which must be of this type; what comes of itself (presence, typing) is passed over.
    pub async fn expect(&mut self, frame_type: &str) -> Value {
        loop {
            let frame = self.expect_next().await;
            if frame["type"] == frame_type {
                return frame;
            }
            if !self.is_background(&frame) {
                self.fail(frame_type, &format!("got {frame}"));
            }
        }
    }

    /// The next frame, whatever it is.
    pub async fn expect_next(&mut self) -> Value {
        match self.receive("a frame").await {
            Message::Text(text) => {
                serde_json::from_str(&text).unwrap_or_else(|_| self.fail("a JSON frame", &format!("got {text:?}")))
            }
            other => self.fail("a frame", &format!("got {other:?}")),
        }
    }

    /// The next frame of this type, passing over all others.
    pub async fn next_of(&mut self, frame_type: &str) -> Value {
        loop {
            let frame = self.expect_next().await;
            if frame["type"] == frame_type {
                return frame;
            }
        }
    }

    /// Sends an object over a connection that may have ended; whether it was sent.
    pub async fn try_send(&mut self, frame: &Value) -> bool {
        self.socket.send(Message::text(frame.to_string())).await.is_ok()
    }

    /// The next frame; nothing once the connection has ended, well or badly.
    pub async fn next_or_end(&mut self) -> Option<Value> {
        loop {
            match timeout(DEADLINE, self.socket.next()).await.expect("a frame or the end in time")? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("a JSON frame")),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                _ => return None,
            }
        }
    }

    /// The server closes with this code, after whatever else it sends; gives the reason.
    pub async fn expect_close(&mut self, code: u16) -> String {
        let wanted = format!("a close with {code}");
        loop {
            match self.receive(&wanted).await {
                Message::Close(Some(close)) if u16::from(close.code) == code => return close.reason.to_string(),
                Message::Close(close) => self.fail(&wanted, &format!("got {close:?}")),
                _ => {}
            }
        }
    }

    /// Shows without waiting that the server has sent nothing: the next frame is the answer to a ping sent now.
    pub async fn expect_nothing(&mut self) {
        let answer = self.command(json!({ "type": "ping" })).await;
        assert_eq!(answer["type"], "pong", "{answer}");
    }

    /// Shows that the connection has been accepted: the server answers a ping, after whatever it sends first.
    pub async fn expect_live(&mut self) {
        if let Err(code) = self.is_live().await {
            self.fail("an open connection", &format!("it was closed with {code}"));
        }
    }

    /// Whether the connection has been accepted, or the code with which it was closed.
    pub async fn is_live(&mut self) -> Result<(), u16> {
        let client_id = uuid::Uuid::new_v4().to_string();
        let ping = json!({ "type": "ping", "client_id": client_id }).to_string();
        // A connection that the server is closing takes no more; its close frame says so below.
        let _ = self.socket.send(Message::text(ping)).await;
        loop {
            match self.receive("a pong or a close").await {
                Message::Text(text) if text.contains(&client_id) => return Ok(()),
                Message::Text(_) => {}
                Message::Close(Some(close)) => return Err(close.code.into()),
                other => self.fail("a pong or a close", &format!("got {other:?}")),
            }
        }
    }

    /// The frames up to one of this type, which is the last of them.
    pub async fn collect_until(&mut self, frame_type: &str) -> Vec<Value> {
        let mut frames = vec![];
        loop {
            frames.push(self.expect_next().await);
            if frames.last().is_some_and(|frame| frame["type"] == frame_type) {
                return frames;
            }
        }
    }

    /// The statuses of the others that have been told so far, in order.
    pub fn statuses(&self) -> Vec<String> {
        let frames = self.seen.iter().filter_map(|text| serde_json::from_str::<Value>(text).ok());
        let statuses = frames.filter(|frame| frame["type"] == "user_status");
        statuses.filter_map(|frame| frame["status"].as_str().map(str::to_owned)).collect()
    }

    /// Closes as a well-behaved client does, and waits for the server's side of it.
    pub async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.socket.close(Some(frame)).await.expect("the close is sent");
        self.expect_close(1000).await;
    }

    fn is_background(&self, frame: &Value) -> bool {
        let frame_type = frame["type"].as_str().unwrap_or_default();
        BACKGROUND.contains(&frame_type) || self.ignored.contains(&frame_type)
    }

    /// The next message that is no ping or pong.
    async fn receive(&mut self, wanted: &str) -> Message {
        loop {
            let message = match timeout(DEADLINE, self.socket.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => self.fail(wanted, &format!("the connection broke: {error}")),
                Ok(None) => self.fail(wanted, "the connection ended"),
                Err(_) => self.fail(wanted, &format!("nothing came in {DEADLINE:?}")),
            };
            match &message {
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Text(text) => self.seen.push(text.to_string()),
                other => self.seen.push(format!("{other:?}")),
            }
            return message;
        }
    }

    fn fail(&self, wanted: &str, happened: &str) -> ! {
        let last = &self.seen[self.seen.len().saturating_sub(50)..];
        panic!(
            "expected {wanted}, but {happened}; the frames seen, up to 50 of {}:\n{}",
            self.seen.len(),
            last.join("\n")
        );
    }
}
