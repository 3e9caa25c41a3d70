//! What requests carry besides a caller: ids in paths, pages in queries, JSON objects in bodies.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::request::Parts;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};

use super::problem::Problem;
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::ids::parse_id;
use crate::protocol::fields::Fields;

/// An id in a path. One that can be none is a path that names nothing.
#[derive(Clone, Copy, Debug)]
pub struct Id(pub i64);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        parse_id(&text).map(Self).ok_or_else(|| D::Error::custom("no id"))
    }
}

/// The variables of a path.
#[derive(Debug)]
pub struct UrlPath<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for UrlPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, app).await {
            Ok(Path(variables)) => Ok(Self(variables)),
            Err(PathRejection::FailedToDeserializePathParams(_)) => {
                Err(Error::not_found("there is no such thing").into())
            }
            Err(_) => Err(Error::internal().into()),
        }
    }
}

/// The text of a JSON body; [`JsonBody::fields`] takes it apart.
#[derive(Debug)]
pub struct JsonBody(String);

impl JsonBody {
    pub fn fields(&self) -> Result<Fields<'_>> {
        Fields::parse(&self.0)
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

impl FromRequest<Arc<App>> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Error::new(Code::Unsupported, "send JSON with `Content-Type: application/json`").into());
        }
        let bytes = Bytes::from_request(request, app).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::from(Error::new(Code::TooLarge, "the body is larger than TIDINGS_REQUEST_BYTES_MAX allows"))
            } else {
                Problem::from(Error::new(Code::InvalidJson, "the body could not be read"))
            }
        })?;
        let text =
            String::from_utf8(bytes.into()).map_err(|_| Error::new(Code::InvalidJson, "the body is not UTF-8"))?;
        Ok(Self(text))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

/// The `limit` of a list: 1 to 100, 50 where it is not given, more is taken as 100.
pub fn limit(text: Option<&str>) -> Result<i64> {
    let Some(text) = text else { return Ok(50) };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(0) => Err(Error::field("limit", "`limit` must be at least 1")),
        Ok(limit) => Ok(limit.min(100) as i64),
        // More digits than a number holds is more than 100 all the same.
        Err(_) if is_number => Ok(100),
        Err(_) => Err(Error::field("limit", "`limit` must be a whole number")),
    }
}
