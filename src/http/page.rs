//! Pages of lists: `{"data": […], "has_more": …}` and the `Link` to the next one.

use axum::Json;
use axum::http::header::{HeaderValue, LINK};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Page<T> {
    pub data: Vec<T>,
    pub has_more: bool,
}

/// A page with the address of the next one in the same direction, where there is more.
pub fn with_next(body: impl Serialize, next: Option<String>) -> Response {
    let mut response = Json(body).into_response();
    if let Some(next) = next
        && let Ok(link) = HeaderValue::try_from(format!("<{next}>; rel=\"next\""))
    {
        response.headers_mut().insert(LINK, link);
    }
    response
}
