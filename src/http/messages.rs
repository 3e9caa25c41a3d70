//! Messages over REST: the same rules and the same events as over a socket, for they join it at `submit`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::access::{Place, place_of, visible_message};
use super::body::{Id, JsonBody, UrlPath, limit};
use super::caller::{Caller, UserCaller};
use super::idempotency::{Idempotency, answer};
use super::page::{Page, QueryFields, with_next};
use super::problem::Problem;
use super::route::{Access, Route};
use crate::app::App;
use crate::chat::message::change;
use crate::error::{Error, Result};
use crate::protocol::client::{client_id, edited_text, new_message, required};
use crate::protocol::rest::Revision;
use crate::protocol::{Event, Message, Reaction, Time};
use crate::store::commit::{Actor, Change, Outcome};
use crate::store::idempotency::{Once, SavedAnswer};

/// One page of a conversation's history.
#[derive(Serialize, JsonSchema)]
struct MessagePage {
    data: Vec<Message>,
    has_more: bool,
    /// The last event of the conversation that the page is true for; a socket goes on from it with `since`.
    last_event_id: i64,
}

/// A message to send: the fields of `chat_message`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct NewMessageBody {
    /// At most `TIDINGS_TEXT_CHARS_MAX` characters; may be empty with an attachment. `text` is an alias.
    message: Option<String>,
    /// `text` (default), `image` or `file`.
    message_type: Option<String>,
    /// A message of the same conversation. `reply_to_id` is an alias.
    reply_to: Option<i64>,
    attachment_ids: Option<Vec<i64>>,
    /// At most 4 KiB.
    data: Option<serde_json::Map<String, serde_json::Value>>,
    /// 1 to 64 characters; a repeat is answered with the first message.
    client_id: Option<String>,
    /// For the platform alone: whose message it is.
    sender_id: Option<i64>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct EditBody {
    message: String,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ReadBody {
    message_id: i64,
}

/// How far the caller has read.
#[derive(Serialize, JsonSchema)]
struct Read {
    message_id: i64,
    read_at: Time,
    unread_count: i64,
}

pub fn routes() -> Vec<Route> {
    let list_of = "/api/v1/conversations/{id}/messages";
    let one = "/api/v1/messages/{id}";
    let reaction = "/api/v1/messages/{id}/reactions/{reaction}";
    vec![
        Route::new(Method::GET, list_of, Access::Either, "A conversation's messages.", list)
            .query(&[
                ("before", "Only messages older than this id; the newest come first."),
                ("after", "Only messages newer than this id; the oldest come first."),
                ("limit", "How many at most, 1 to 100; 50 where it is not given."),
            ])
            .answers::<MessagePage>(200),
        Route::new(Method::POST, list_of, Access::Either, "Sends a message.", send)
            .takes::<NewMessageBody>()
            .answers::<Message>(201)
            .answers::<Message>(200),
        Route::new(
            Method::POST,
            "/api/v1/conversations/{id}/read",
            Access::User,
            "Moves the read cursor forward.",
            read,
        )
        .takes::<ReadBody>()
        .answers::<Read>(200),
        Route::new(Method::GET, one, Access::User, "A message.", find).answers::<Message>(200),
        Route::new(Method::PATCH, one, Access::User, "Edits one's own message.", edit)
            .takes::<EditBody>()
            .answers::<Message>(200),
        Route::new(Method::DELETE, one, Access::User, "Deletes one's own message.", delete).answers_empty(204),
        Route::new(
            Method::GET,
            "/api/v1/messages/{id}/history",
            Access::User,
            "A message's earlier versions.",
            history,
        )
        .answers::<Page<Revision>>(200),
        Route::new(Method::PUT, reaction, Access::User, "Reacts to a message.", react).answers::<Reaction>(200),
        Route::new(Method::DELETE, reaction, Access::User, "Takes a reaction back.", unreact).answers_empty(204),
    ]
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    UrlPath(Id(id)): UrlPath<Id>,
    query: QueryFields,
) -> Result<Response, Problem> {
    // The position is read before the page: what comes in between is told again, never missed.
    let Place { last_event_id, cleared_up_to, .. } = place_of(&app, &caller, id).await?;
    let (page, limit) = (query.page_by_id()?, limit(query.get("limit"))?);
    let (messages, has_more) = app.store.list_messages(id, cleared_up_to, page, limit).await?;
    let last = messages.last().filter(|_| has_more).map(|stored| stored.message.id);
    let next = last.map(|last| format!("/api/v1/conversations/{id}/messages?{}", query.next(page, last)));
    let data = messages.into_iter().map(|stored| stored.message).collect();
    Ok(with_next(&app, MessagePage { data, has_more, last_event_id }, next))
}

async fn send(
    State(app): State<Arc<App>>,
    caller: Caller,
    UrlPath(Id(id)): UrlPath<Id>,
    idempotency: Idempotency,
    body: JsonBody,
) -> Result<Response, Problem> {
    let fields = body.fields()?;
    let sender_id = match caller.user_id() {
        Some(user_id) => user_id,
        None => required("sender_id", fields.id("sender_id")?)?,
    };
    let client_id = match (client_id(&fields)?, idempotency.text()) {
        (Some(given), Some(key)) if given != key => {
            return Err(Error::field("client_id", "`client_id` and `Idempotency-Key` must be the same").into());
        }
        (given, key) => given.or(key.map(str::to_owned)),
    };
    let new = new_message(&fields, app.chat.bounds())?;
    let outcome = app.chat.commit(change(id, Actor::User(sender_id), client_id, Change::Send(new))).await?;
    let status = if matches!(outcome, Outcome::Done(_)) { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(message_of(outcome)?)).into_response())
}

async fn read(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    UrlPath(Id(id)): UrlPath<Id>,
    idempotency: Idempotency,
    body: JsonBody,
) -> Result<Response, Problem> {
    let message_id = required("message_id", body.fields()?.id("message_id")?)?;
    let key = idempotency.key(caller.id(), body.text());
    if let Some(key) = &key
        && let Some(earlier) = app.store.find_answer(key).await??
    {
        return Ok(answer(Once::Repeated(earlier), StatusCode::OK, |read: Read| read));
    }
    let outcome = commit(&app, id, caller.id(), Change::Read { message_id }).await?;
    let Some(Event::MessageRead { message_id, read_at, .. }) = outcome.answer().map(|told| &told.event) else {
        return Err(Error::internal().into());
    };
    let unread_count = app.store.count_unread(id, caller.id()).await?;
    let read = Read { message_id: *message_id, read_at: *read_at, unread_count };
    let once = match &key {
        None => Once::First(read),
        Some(key) => {
            let body = serde_json::to_string(&read).map_err(|_| Error::internal())?;
            Once::Repeated(app.store.save_answer(key, SavedAnswer { status: 200, body }).await??)
        }
    };
    Ok(answer(once, StatusCode::OK, |read| read))
}

async fn find(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    UrlPath(Id(id)): UrlPath<Id>,
) -> Result<Json<Message>, Problem> {
    Ok(Json(visible_message(&app, &caller, id).await?.message))
}

async fn edit(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    UrlPath(Id(id)): UrlPath<Id>,
    body: JsonBody,
) -> Result<Json<Message>, Problem> {
    let text = required("message", edited_text(&body.fields()?, app.chat.bounds())?)?;
    let stored = visible_message(&app, &caller, id).await?;
    let change = Change::Edit { message_id: id, text };
    let outcome = commit(&app, stored.conversation_id, caller.id(), change).await?;
    Ok(Json(message_of(outcome)?))
}

async fn delete(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    UrlPath(Id(id)): UrlPath<Id>,
) -> Result<StatusCode, Problem> {
    let stored = visible_message(&app, &caller, id).await?;
    commit(&app, stored.conversation_id, caller.id(), Change::Delete { message_id: id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn history(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    UrlPath(Id(id)): UrlPath<Id>,
) -> Result<Json<Page<Revision>>, Problem> {
    visible_message(&app, &caller, id).await?;
    Ok(Json(Page { data: app.store.list_revisions(id).await?, has_more: false }))
}

async fn react(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    UrlPath((Id(id), reaction)): UrlPath<(Id, String)>,
) -> Result<Json<Reaction>, Problem> {
    let stored = visible_message(&app, &caller, id).await?;
    let (reaction, emoji) = app.chat.resolve_reaction(&reaction)?;
    let change = Change::React { message_id: id, reaction, emoji };
    let outcome = commit(&app, stored.conversation_id, caller.id(), change).await?;
    match outcome.answer().map(|told| &told.event) {
        Some(Event::ReactionAdded { reaction, .. }) => Ok(Json(reaction.clone())),
        _ => Err(Error::internal().into()),
    }
}

async fn unreact(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    UrlPath((Id(id), reaction)): UrlPath<(Id, String)>,
) -> Result<StatusCode, Problem> {
    let stored = visible_message(&app, &caller, id).await?;
    let (reaction, emoji) = app.chat.resolve_reaction(&reaction)?;
    let change = Change::Unreact { message_id: id, reaction, emoji };
    commit(&app, stored.conversation_id, caller.id(), change).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn commit(app: &App, conversation_id: i64, user_id: i64, what: Change) -> Result<Outcome> {
    app.chat.commit(change(conversation_id, Actor::User(user_id), None, what)).await
}

fn message_of(outcome: Outcome) -> Result<Message> {
    let told = match outcome {
        Outcome::Done(mut events) => events.pop(),
        Outcome::Unchanged(told) | Outcome::Repeated(told) => Some(told),
    };
    match told.map(|told| told.event) {
        Some(Event::ChatMessage { message } | Event::MessageEdited { message }) => Ok(*message),
        _ => Err(Error::internal()),
    }
}
