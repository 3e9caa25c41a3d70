//! Who is in a conversation: listed, added, given a role, put out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::access::{place_of, through};
use super::body::{Id, JsonBody, UrlPath, limit};
use super::caller::Caller;
use super::conversations::{PEOPLE_MAX, PLATFORM};
use super::idempotency::{Idempotency, answer};
use super::page::{Page, QueryFields, with_next};
use super::problem::Problem;
use super::route::{Access, Route};
use crate::app::App;
use crate::chat::message::change;
use crate::error::{Error, Result};
use crate::protocol::Role;
use crate::protocol::client::required;
use crate::protocol::rest::Participant;
use crate::store::commit::Change;
use crate::store::idempotency::{Once, SavedAnswer};
use crate::store::messages::Page as By;

const PATH: &str = "/api/v1/conversations/{id}/participants";
const ONE: &str = "/api/v1/conversations/{id}/participants/{user_id}";
/// How many of them an answer shows that asks for no page.
const SHOWN: i64 = 50;

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schemars(rename = "NewParticipants")]
struct NewBody {
    user_ids: Vec<i64>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schemars(rename = "ParticipantChange")]
struct ChangeBody {
    role: Role,
}

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, PATH, Access::Either, "The participants, by user id.", list)
            .query(&[
                ("before", "Only users with an id below this one; the greatest come first."),
                ("after", "Only users with an id above this one; the least come first."),
                ("limit", "How many at most, 1 to 100; 50 where it is not given."),
            ])
            .answers::<Page<Participant>>(200),
        Route::new(Method::POST, PATH, Access::Either, "Adds people to a group.", insert)
            .takes::<NewBody>()
            .answers::<Page<Participant>>(200),
        Route::new(Method::PATCH, ONE, Access::Either, "Gives a participant a role.", update)
            .takes::<ChangeBody>()
            .answers::<Participant>(200),
        Route::new(Method::DELETE, ONE, Access::Either, "Puts a participant out, or leaves.", delete)
            .answers_empty(204),
    ]
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    UrlPath(Id(id)): UrlPath<Id>,
    query: QueryFields,
) -> Result<Response, Problem> {
    let (page, limit) = (query.page_by_id()?, limit(query.get("limit"))?);
    place_of(&app, &caller, id).await?;
    let (data, has_more) = app.store.list_participants(id, page, limit).await?;
    let last = data.last().filter(|_| has_more).map(|participant| participant.user.id);
    let next = last.map(|user_id| format!("/api/v1/conversations/{id}/participants?{}", query.next(page, user_id)));
    Ok(with_next(&app, Page { data, has_more }, next))
}

async fn insert(
    State(app): State<Arc<App>>,
    caller: Caller,
    UrlPath(Id(id)): UrlPath<Id>,
    idempotency: Idempotency,
    body: JsonBody,
) -> Result<Response, Problem> {
    let user_ids = required("user_ids", body.fields()?.ids("user_ids", PEOPLE_MAX)?)?;
    if user_ids.is_empty() {
        return Err(Error::field("user_ids", "`user_ids` must name somebody").into());
    }
    place_of(&app, &caller, id).await?;
    let key = idempotency.key(caller.user_id().unwrap_or(PLATFORM), body.text());
    let participants_max = app.chat.participants_max();
    let command = change(id, caller.actor(), None, Change::AddParticipants { user_ids, participants_max });
    let (store, chat) = (app.store.clone(), app.chat.clone());
    // Adding the same people twice is adding them once; so it is enough to keep the answer afterwards.
    let once = through(&app, async move {
        if let Some(key) = &key
            && let Some(earlier) = store.find_answer(key).await??
        {
            return Ok(Once::Repeated(earlier));
        }
        chat.commit(command).await?;
        let (data, has_more) = store.list_participants(id, By::Before(None), SHOWN).await?;
        let page = Page { data, has_more };
        let Some(key) = &key else { return Ok(Once::First(page)) };
        store.save_answer(key, saved(&page)?).await?.map(Once::Repeated)
    });
    Ok(answer(once.await?, StatusCode::OK, |page| page))
}

/// An answer of status 200, as it is kept for a repeated request.
fn saved(body: &impl Serialize) -> Result<SavedAnswer> {
    let body = serde_json::to_string(body).map_err(|_| Error::internal())?;
    Ok(SavedAnswer { status: 200, body })
}

async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    UrlPath((Id(id), Id(user_id))): UrlPath<(Id, Id)>,
    body: JsonBody,
) -> Result<Json<Participant>, Problem> {
    let role = required("role", body.fields()?.string("role")?)?;
    let role = Role::parse(&role).ok_or_else(|| Error::field("role", "`role` must be owner, admin or member"))?;
    app.chat.commit(change(id, caller.actor(), None, Change::SetRole { user_id, role })).await?;
    let participant = app.store.find_participant(id, user_id).await?;
    Ok(Json(participant.ok_or_else(|| Error::not_found("that user is not in the conversation"))?))
}

async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    UrlPath((Id(id), Id(user_id))): UrlPath<(Id, Id)>,
) -> Result<StatusCode, Problem> {
    app.chat.commit(change(id, caller.actor(), None, Change::RemoveParticipant { user_id })).await?;
    Ok(StatusCode::NO_CONTENT)
}
