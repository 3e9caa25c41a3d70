//! REST calls at a test server, and what came back.

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::server::{API_KEY, TestServer};
use super::token;

/// Who calls.
#[derive(Clone, Debug)]
pub enum Caller {
    User(i64),
    Platform,
    Token(String),
    Nobody,
}

impl From<i64> for Caller {
    fn from(user_id: i64) -> Self {
        Self::User(user_id)
    }
}

/// What the server answered. A body that is not JSON is kept as a JSON string.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The body of an answer that must be a success.
    #[track_caller]
    pub fn success(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.body);
        self.body
    }

    /// Checks that this is a refusal: the status and the code, in a problem document.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
    }
}

impl TestServer {
    pub async fn get(&self, path: &str, caller: impl Into<Caller>) -> Answer {
        self.call(Method::GET, path, caller, None).await
    }

    pub async fn post(&self, path: &str, caller: impl Into<Caller>, body: Value) -> Answer {
        self.call(Method::POST, path, caller, Some(body)).await
    }

    pub async fn put(&self, path: &str, caller: impl Into<Caller>, body: Value) -> Answer {
        self.call(Method::PUT, path, caller, Some(body)).await
    }

    pub async fn patch(&self, path: &str, caller: impl Into<Caller>, body: Value) -> Answer {
        self.call(Method::PATCH, path, caller, Some(body)).await
    }

    pub async fn delete(&self, path: &str, caller: impl Into<Caller>) -> Answer {
        self.call(Method::DELETE, path, caller, None).await
    }

    async fn call(&self, method: Method, path: &str, caller: impl Into<Caller>, body: Option<Value>) -> Answer {
        let mut request = self.request(method, path, caller);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// A request to add headers or a body of one's own to; [`answer`] sends it.
    pub fn request(&self, method: Method, path: &str, caller: impl Into<Caller>) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("http://{}{path}", self.address())).timeout(super::DEADLINE);
        match caller.into() {
            Caller::User(user_id) => request.bearer_auth(token::for_user(user_id)),
            Caller::Platform => request.bearer_auth(API_KEY),
            Caller::Token(token) => request.bearer_auth(token),
            Caller::Nobody => request,
        }
    }
}

/// Sends a request and reads the whole answer.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("the server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("the whole body arrives");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, body }
}

impl TestServer {
    /// Uploads a file, as a browser's form does.
    pub async fn upload(&self, caller: impl Into<Caller>, filename: &str, bytes: &[u8]) -> Answer {
        let disposition = format!("form-data; name=\"file\"; filename=\"{filename}\"");
        answer(self.form(caller, &disposition, bytes)).await
    }

    /// A request with a form of one part.
    pub fn form(&self, caller: impl Into<Caller>, disposition: &str, bytes: &[u8]) -> reqwest::RequestBuilder {
        let head = format!("--boundary\r\nContent-Disposition: {disposition}\r\n\r\n");
        let body = [head.as_bytes(), bytes, b"\r\n--boundary--\r\n"].concat();
        let request = self.request(Method::POST, "/api/v1/attachments", caller);
        request.header("Content-Type", "multipart/form-data; boundary=boundary").body(body)
    }
}
