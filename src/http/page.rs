//! Pages of lists: `{"data": […], "has_more": …}` and the `Link` to the next one.

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::header::{HeaderValue, LINK};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::config::PublicUrl;
use crate::error::{Error, Result};
use crate::ids::parse_id;
use crate::store::messages::Page as By;

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Page<T> {
    pub data: Vec<T>,
    pub has_more: bool,
}

/// The parameters of a request's query, decoded. Of one that is given twice the first counts.
#[derive(Debug)]
pub struct QueryFields(Vec<(String, String)>);

impl QueryFields {
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// A parameter's value; nothing where it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    fn id(&self, name: &'static str) -> Result<Option<i64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        // 0 is no id, but a place before all of them: `after=0` reads from the beginning.
        let id = if name == "after" && text == "0" { Some(0) } else { parse_id(text) };
        id.map(Some).ok_or_else(|| Error::field(name, format!("`{name}` must be an id")))
    }

    /// Which page of a list by id is asked for.
    pub fn page_by_id(&self) -> Result<By> {
        match (self.id("before")?, self.id("after")?) {
            (Some(_), Some(_)) => Err(Error::field("after", "give `before` or `after`, not both")),
            (_, Some(after)) => Ok(By::After(after)),
            (before, None) => Ok(By::Before(before)),
        }
    }

    /// The query of the next page: the same but for where it begins.
    pub fn next(&self, page: By, last_id: i64) -> String {
        let cursor = match page {
            By::Before(_) => "before",
            By::After(_) => "after",
        };
        let rest = self.0.iter().filter(|(name, _)| name != "before" && name != "after");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(rest).append_pair(cursor, &last_id.to_string());
        query.finish()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryFields {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query()))
    }
}

/// A page with the address of the next one in the same direction, where there is more: a path, below the public URL
/// where there is one.
pub fn with_next(app: &App, body: impl Serialize, next: Option<String>) -> Response {
    let base = app.settings.public_url.as_ref().map_or("", PublicUrl::as_str);
    let mut response = Json(body).into_response();
    if let Some(next) = next
        && let Ok(link) = HeaderValue::try_from(format!("<{base}{next}>; rel=\"next\""))
    {
        response.headers_mut().insert(LINK, link);
    }
    response
}
