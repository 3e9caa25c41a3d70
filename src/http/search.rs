//! Search over the caller's own conversations.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::body::limit;
use super::caller::UserCaller;
use super::page::{Page, QueryFields, with_next};
use super::problem::Problem;
use super::route::{Access, Route};
use crate::app::App;
use crate::error::Error;
use crate::protocol::Message;
use crate::store::search::{Hit, Piece};

const PATH: &str = "/api/v1/search";
/// Most characters of a question.
const Q_CHARS_MAX: usize = 200;

/// A message that was found.
#[derive(Debug, Serialize, JsonSchema)]
struct Found {
    conversation_id: i64,
    message: Message,
    /// The text around the first match, in pieces that follow each other.
    snippet: Vec<Piece>,
}

impl From<Hit> for Found {
    fn from(hit: Hit) -> Self {
        let Hit { stored, snippet } = hit;
        Self { conversation_id: stored.conversation_id, message: stored.message, snippet }
    }
}

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, PATH, Access::User, "Searches the caller's conversations.", search)
            .query(&[
                ("q", "Beginnings of words, 1 to 200 characters; all must match, none is an operator."),
                ("before", "Only messages older than this id; the newest come first."),
                ("after", "Only messages newer than this id; the oldest come first."),
                ("limit", "How many at most, 1 to 100; 50 where it is not given."),
            ])
            .answers::<Page<Found>>(200),
    ]
}

/// A question without a word in it, such as a lone emoji, is in order and finds nothing.
async fn search(State(app): State<Arc<App>>, caller: UserCaller, query: QueryFields) -> Result<Response, Problem> {
    let q = query.get("q").ok_or_else(|| Error::field("q", "`q` is required"))?;
    if q.chars().count() > Q_CHARS_MAX {
        return Err(Error::field("q", format!("`q` has at most {Q_CHARS_MAX} characters")).into());
    }
    if q.contains('\0') {
        return Err(Error::field("q", "`q` must not contain U+0000").into());
    }
    let (page, limit) = (query.page_by_id()?, limit(query.get("limit"))?);
    let (hits, has_more) = app.store.search_messages(caller.id(), q, page, limit).await?;
    let last = hits.last().filter(|_| has_more).map(|hit| hit.stored.message.id);
    let next = last.map(|id| format!("{PATH}?{}", query.next(page, id)));
    let data: Vec<Found> = hits.into_iter().map(Found::from).collect();
    Ok(with_next(&app, Page { data, has_more }, next))
}
