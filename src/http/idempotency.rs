//! `Idempotency-Key`: a request that is repeated under its key takes effect once, and gets the first answer.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem::Problem;
use crate::error::{Error, Result};
use crate::protocol::client::CLIENT_ID_CHARS_MAX;
use crate::store::commit::fingerprint_of;
use crate::store::idempotency::{IdempotencyKey, Once};

const HEADER: &str = "idempotency-key";

/// A request's key, where it has one, with what tells the request from others.
#[derive(Debug)]
pub struct Idempotency {
    key: Option<String>,
    /// Method and path.
    target: String,
}

impl Idempotency {
    /// The key as it was sent.
    pub fn text(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The key as the store keeps it, for a caller and a body; `caller_id` is 0 for the platform.
    pub fn key(self, caller_id: i64, body: &str) -> Option<IdempotencyKey> {
        // The same JSON written otherwise is the same request.
        let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
        let body = parsed.map_or_else(|| body.to_owned(), |body| body.to_string());
        let fingerprint = fingerprint_of(format!("{}\n{body}", self.target).as_bytes());
        Some(IdempotencyKey { caller_id, key: self.key?, fingerprint })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Idempotency {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let key = match parts.headers.get(HEADER) {
            None => None,
            Some(value) => {
                let key = str::from_utf8(value.as_bytes()).unwrap_or_default();
                if key.is_empty() || key.chars().count() > CLIENT_ID_CHARS_MAX {
                    let message = format!("`Idempotency-Key` must have 1 to {CLIENT_ID_CHARS_MAX} characters");
                    return Err(Error::field("Idempotency-Key", message).into());
                }
                Some(key.to_owned())
            }
        };
        Ok(Self { key, target: format!("{} {}", parts.method, parts.uri.path()) })
    }
}

/// The answer to a request: its own, or the one that its first sending got.
pub fn answer<T, B: Serialize>(once: Once<T>, status: StatusCode, body: impl FnOnce(T) -> B) -> Response {
    match once {
        Once::First(outcome) => (status, Json(body(outcome))).into_response(),
        Once::Repeated(answer) => {
            let status = u16::try_from(answer.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
            let json = [(header::CONTENT_TYPE, "application/json")];
            (status.unwrap_or(StatusCode::OK), json, answer.body).into_response()
        }
    }
}
