//! One socket of a client, from its handshake on: what comes is noted, and why it ended, and how long its token is good.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::{Part, Phase};
use crate::history::{Endpoint, Session, Shared};
use crate::support::token;

/// The connection is over.
pub struct Gone;

/// How long a handshake, a write or an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long after its token's end a socket may still be there.
const EXPIRY_SLACK: i64 = 8;
/// How long the tokens of clients are good that don't care.
const LONG: i64 = 3_600;

pub struct Wire {
    stream: WebSocketStream<TcpStream>,
    pub session: usize,
    user_id: i64,
    is_slow: bool,
    book: Shared,
    /// When its token expires, in seconds.
    expires: i64,
    renewals: usize,
    /// Fresh tokens that have been shown and not yet been taken.
    shown: HashMap<String, i64>,
}

/// Where to connect to, and how.
pub struct Connect {
    pub device: usize,
    pub user_id: i64,
    pub endpoint: Endpoint,
    pub path: String,
    pub is_slow: bool,
    /// Whether it offers `tidings.v1`.
    pub offers: bool,
}

impl Part {
    /// Opens a socket, at times with a token that is good for some seconds only, or not any more.
    pub async fn connect(&mut self, connect: Connect) -> Option<Wire> {
        let life = match self.rng.u8(..40) {
            0 if self.phase() == Phase::Storm => -1,
            1..6 if self.phase() != Phase::End => self.rng.i64(2..6),
            _ => LONG,
        };
        let Connect { device, user_id, endpoint, path, is_slow, offers } = connect;
        let expires = token::now() + life;
        let token = token_until(user_id, expires);
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut request = format!("ws://{}{path}{separator}token={token}", self.address).into_client_request().ok()?;
        if offers {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("tidings.v1"));
        }
        let mut session = Session::new(device, user_id, endpoint);
        session.is_slow = is_slow;
        let session = self.book.lock().open(session);
        let shake = async {
            let stream = TcpSocket::new_v4().ok()?;
            if is_slow {
                stream.set_recv_buffer_size(4096).ok()?;
            }
            let stream = stream.connect(self.address).await.ok()?;
            let handshake = tokio_tungstenite::client_async(request, stream);
            Some(timeout(PATIENCE, handshake).await.ok()?.ok()?.0)
        };
        let Some(stream) = shake.await else {
            self.book.lock().end(session);
            return None;
        };
        let book = self.book.clone();
        Some(Wire { stream, session, user_id, is_slow, book, expires, renewals: 0, shown: HashMap::new() })
    }
}

fn token_until(user_id: i64, expires: i64) -> String {
    let mut claims = token::claims(user_id);
    claims["exp"] = json!(expires);
    token::mint(&claims, token::SECRET)
}

impl Wire {
    pub async fn send(&mut self, frame: &Value) -> Result<(), Gone> {
        let sending = self.stream.send(Message::text(frame.to_string()));
        timeout(PATIENCE, sending).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// The head of a masked text frame, and no more.
    pub async fn break_off(&mut self) {
        use tokio::io::AsyncWriteExt;
        let _ = self.stream.get_mut().write_all(&[0x81, 0xFE, 0x01]).await;
    }

    pub async fn close(&mut self) {
        let _ = self.stream.close(None).await;
    }

    /// The next frame, noted; nothing where none comes until then.
    pub async fn next(&mut self, until: Instant) -> Result<Option<Value>, Gone> {
        while let Ok(message) = timeout_at(until, self.stream.next()).await {
            match message {
                Some(Ok(Message::Text(text))) => {
                    let Ok(frame) = serde_json::from_str::<Value>(&text) else {
                        self.fault(format!("a frame is no JSON: {text}"));
                        return Err(Gone);
                    };
                    self.take(&frame);
                    return Ok(Some(frame));
                }
                Some(Ok(Message::Close(close))) => {
                    self.ended(close.map_or(0, |close| u16::from(close.code)));
                    return Err(Gone);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    self.book.lock().end(self.session);
                    return Err(Gone);
                }
            }
        }
        Ok(None)
    }

    /// Reads for some time, or until a frame; whether it came.
    pub async fn read_until(
        &mut self,
        milliseconds: u64,
        mut take: impl FnMut(&Value),
        is_last: impl Fn(&Value) -> bool,
    ) -> Result<bool, Gone> {
        let end = Instant::now() + Duration::from_millis(milliseconds);
        while let Some(frame) = self.next(end).await? {
            take(&frame);
            if is_last(&frame) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take(&mut self, frame: &Value) {
        if !self.is_slow && token::now() > self.expires + EXPIRY_SLACK {
            self.fault(format!("a frame came {EXPIRY_SLACK} s after the token's end: {frame}"));
        }
        let mut book = self.book.lock();
        if frame["type"] == "auth_ok"
            && let Some(fresh) = frame["client_id"].as_str().and_then(|id| self.shown.remove(id))
        {
            self.expires = fresh;
            book.saw("renewals of a token");
        }
        book.note(self.session, frame.clone());
    }

    fn ended(&mut self, code: u16) {
        let mut book = self.book.lock();
        book.end(self.session);
        book.sessions[self.session].closed = Some(code);
        let is_expired = self.shown.values().chain([&self.expires]).any(|expires| token::now() >= *expires);
        let is_revoked = book.revocations.iter().any(|revocation| revocation.user_id == self.user_id);
        match code {
            4009 => book.saw("slow readers closed"),
            1012 => book.saw("drains"),
            4002 if is_expired => book.saw("tokens run out"),
            4004 => book.saw("accesses denied"),
            4006 if is_revoked => book.saw("sessions ended by the platform"),
            0 | 1000 | 1001 | 1013 => {}
            _ => {
                let text = format!("device {} was closed with {code}", book.sessions[self.session].device);
                book.faults.push(text);
            }
        }
    }

    /// Whether its token is one of those that run out soon.
    pub fn runs_out(&self) -> bool {
        self.expires < token::now() + LONG / 2
    }

    /// Shows a fresh token, good for `life` seconds or for long.
    pub async fn renew(&mut self, life: Option<i64>) -> Result<(), Gone> {
        self.renewals += 1;
        let client_id = format!("auth-{}-{}", self.session, self.renewals);
        let expires = token::now() + life.unwrap_or(LONG);
        {
            let mut book = self.book.lock();
            book.sessions[self.session].renewals.insert(client_id.clone(), expires);
            book.send(self.session, &client_id);
        }
        self.shown.insert(client_id.clone(), expires);
        let token = token_until(self.user_id, expires);
        self.send(&json!({ "type": "auth", "token": token, "client_id": client_id })).await
    }

    /// Reads until the token has run out, which ends the connection.
    pub async fn run_out(&mut self) -> Gone {
        let left = u64::try_from(self.expires + EXPIRY_SLACK - token::now()).unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(left);
        loop {
            match self.next(until).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.fault(format!("a socket outlived its token by {EXPIRY_SLACK} s"));
                    return Gone;
                }
                Err(gone) => return gone,
            }
        }
    }

    fn fault(&self, text: String) {
        let mut book = self.book.lock();
        let Session { device, user_id, .. } = book.sessions[self.session];
        book.faults.push(format!("device {device} of {user_id}: {text}"));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.book.lock().end(self.session);
    }
}
