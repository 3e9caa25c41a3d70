//! `Idempotency-Key`: a caller's name for one request, so that a repeat gets the first answer.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::app::App;
use crate::error::{Error, Result};
use crate::protocol::client::CLIENT_ID_CHARS_MAX;
use crate::store::commit::fingerprint_of;
use crate::store::idempotency::{IdempotencyKey, SavedAnswer};

/// The key of a request, where it has one, and what the request is.
#[derive(Debug)]
pub struct RequestKey {
    key: Option<String>,
    request: String,
}

impl RequestKey {
    /// The key as it was sent.
    pub fn text(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The key of a caller (none: the platform) for this method, path and body.
    pub fn of(&self, caller_id: Option<i64>, body: &str) -> Option<IdempotencyKey> {
        let key = self.key.clone()?;
        let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let fingerprint = fingerprint_of(format!("{} {value}", self.request).as_bytes());
        Some(IdempotencyKey { caller_id: caller_id.unwrap_or_default(), key, fingerprint })
    }
}

impl FromRequestParts<Arc<App>> for RequestKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let request = format!("{} {}", parts.method, parts.uri.path());
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self { key: None, request }) };
        let key = value.to_str().ok().filter(|key| !key.is_empty() && key.chars().count() <= CLIENT_ID_CHARS_MAX);
        let key = key.ok_or_else(|| {
            Error::field(
                "Idempotency-Key",
                format!("`Idempotency-Key` must have 1 to {CLIENT_ID_CHARS_MAX} characters"),
            )
        })?;
        Ok(Self { key: Some(key.to_owned()), request })
    }
}

/// The first answer, once more.
pub fn repeated(answer: SavedAnswer) -> Response {
    let status = u16::try_from(answer.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = (status.unwrap_or(StatusCode::OK), answer.body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
