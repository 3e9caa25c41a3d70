//! REST as the clients of a run use it: requests that are broken off at times, or find no server.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::timeout;

use super::{Part, Phase};
use crate::support::server::API_KEY;
use crate::support::token;

/// How long a request waits for its answer when it is not broken off.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    address: SocketAddr,
}

/// What is asked for, and by whom.
pub struct Ask<'a> {
    pub method: Method,
    pub path: &'a str,
    /// Nobody for the platform.
    pub by: Option<i64>,
    pub body: Option<Value>,
    pub key: Option<&'a str>,
    /// Whether it is never broken off by the client: a request that is may still take effect after later ones.
    pub is_patient: bool,
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, path: &'a str, by: Option<i64>) -> Self {
        Self { method, path, by, body: None, key: None, is_patient: false }
    }

    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub fn key(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }
}

impl Http {
    pub fn new(client: reqwest::Client, address: SocketAddr) -> Self {
        Self { client, address }
    }

    fn request(&self, ask: Ask<'_>) -> reqwest::RequestBuilder {
        let request = self.client.request(ask.method, format!("http://{}{}", self.address, ask.path));
        let request = match ask.by {
            Some(user_id) => request.bearer_auth(token::for_user(user_id)),
            None => request.bearer_auth(API_KEY),
        };
        let request = match ask.key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        match ask.body {
            Some(body) => request.json(&body),
            None => request,
        }
    }

    /// Uploads a text file.
    pub fn upload(&self, user_id: i64, name: &str, text: &str) -> reqwest::RequestBuilder {
        let body = format!(
            "--boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{text}\r\n\
             --boundary--\r\n"
        );
        let request = self.request(Ask::new(Method::POST, "/api/v1/attachments", Some(user_id)));
        request.header("Content-Type", "multipart/form-data; boundary=boundary").body(body)
    }
}

impl Part {
    /// The answer to a request, unless it breaks off, or is broken off, or is to be asked again.
    pub async fn ask(&mut self, ask: Ask<'_>) -> Option<(u16, Value)> {
        let (by, is_patient) = (ask.by, ask.is_patient);
        let request = self.http.request(ask);
        self.answer(request, by, is_patient).await
    }

    pub async fn answer(
        &mut self,
        request: reqwest::RequestBuilder,
        by: Option<i64>,
        is_patient: bool,
    ) -> Option<(u16, Value)> {
        let is_broken_off = !is_patient && self.phase() == Phase::Storm && self.rng.u8(..8) == 0;
        let patience = if is_broken_off { Duration::from_millis(self.rng.u64(1..30)) } else { PATIENCE };
        let answer = async {
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            let body = response.bytes().await.ok()?;
            Some((status, serde_json::from_slice(&body).unwrap_or_default()))
        };
        let (status, body): (u16, Value) = timeout(patience, answer).await.ok()??;
        if status == 401 {
            // A token of the second in which the platform ended its user's sessions.
            let mut book = self.book.lock();
            let is_revoked = by.is_some_and(|by| book.revocations.iter().any(|it| it.user_id == by));
            if !is_revoked || body["code"] != "session_revoked" {
                book.faults.push(format!("a good token was refused: {body}"));
            }
            return None;
        }
        (!matches!(status, 429 | 503)).then_some((status, body))
    }
}
