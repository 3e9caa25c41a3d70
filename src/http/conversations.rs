//! Conversations: listed, opened, changed, left, cleared, deleted.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use schemars::JsonSchema;

use super::access::{place_of, through};
use super::body::{Id, JsonBody, UrlPath, limit};
use super::caller::{Caller, UserCaller};
use super::idempotency::{Idempotency, answer};
use super::page::{Page, QueryFields, with_next};
use super::problem::Problem;
use super::route::{Access, Route};
use crate::app::App;
use crate::chat::conversation::{NewFlags, no_conversation};
use crate::chat::message::change;
use crate::config::ConversationsBy;
use crate::error::{Error, Result};
use crate::protocol::Role;
use crate::protocol::client::required;
use crate::protocol::fields::{Fields, typed};
use crate::protocol::rest::Conversation;
use crate::store::commit::Change;
use crate::store::conversations::{Activity, NewConversation};
use crate::store::idempotency::Once;
use crate::store::participants::MUTED_FOR_GOOD;

const PATH: &str = "/api/v1/conversations";
const ONE: &str = "/api/v1/conversations/{id}";
/// The platform, among those whose keys are kept.
pub const PLATFORM: i64 = 0;
/// Most characters of a title.
const TITLE_CHARS_MAX: usize = 255;
/// Most people that are named in one request; how many a conversation takes is a setting.
pub const PEOPLE_MAX: usize = 100_000;

/// A conversation to be opened. Two people and no title are their 1:1, of which there is one.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schemars(rename = "NewConversation")]
struct NewBody {
    /// The caller is one of them, named or not.
    participant_ids: Vec<i64>,
    /// At most 255 characters.
    title: Option<String>,
    /// For the platform: the id it is to have.
    id: Option<i64>,
    /// For the platform: the owner of the group.
    owner_id: Option<i64>,
}

/// What is to change; the rest stays.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schemars(rename = "ConversationChange")]
struct ChangeBody {
    /// Of a group, by its owner, an admin or the platform. An empty one takes the title away.
    title: Option<String>,
    /// One's own.
    archived: Option<bool>,
    /// One's own: true, false, or until when.
    muted: Option<Muted>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schemars(untagged)]
enum Muted {
    ForGood(bool),
    Until(crate::protocol::Time),
}

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, PATH, Access::User, "One's own conversations, the latest active first.", list)
            .query(&[
                ("archived", "`true` for those that are archived, which are left out otherwise."),
                ("cursor", "Where the page begins, from the `Link` of the one before."),
                ("limit", "How many at most, 1 to 100; 50 where it is not given."),
            ])
            .answers::<Page<Conversation>>(200),
        Route::new(Method::POST, PATH, Access::Either, "Opens a conversation.", open)
            .takes::<NewBody>()
            .answers::<Conversation>(201)
            .answers::<Conversation>(200),
        Route::new(Method::GET, ONE, Access::Either, "One conversation.", find).answers::<Conversation>(200),
        Route::new(Method::PATCH, ONE, Access::Either, "Changes a title, or how one keeps a conversation.", update)
            .takes::<ChangeBody>()
            .answers::<Conversation>(200),
        Route::new(Method::DELETE, ONE, Access::Either, "Deletes a group, leaves it, or clears a 1:1.", delete)
            .answers_empty(204),
    ]
}

async fn list(State(app): State<Arc<App>>, caller: UserCaller, query: QueryFields) -> Result<Response, Problem> {
    let archived = match query.get("archived") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Error::field("archived", "`archived` must be true or false").into()),
    };
    let after = query.get("cursor").map(parse_cursor).transpose()?;
    let limit = limit(query.get("limit"))?;
    let page = app.store.list_conversations(caller.id(), archived, after, limit).await?;
    let next = page.next.map(|next| {
        let cursor = BASE64_URL_SAFE_NO_PAD.encode(format!("{},{}", next.active_at, next.id));
        format!("{PATH}?archived={archived}&limit={limit}&cursor={cursor}")
    });
    Ok(with_next(&app, Page { has_more: next.is_some(), data: page.conversations }, next))
}

/// Reads the cursor that a page's `Link` holds.
fn parse_cursor(text: &str) -> Result<Activity> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let place = decoded.as_deref().and_then(|text| {
        let (active_at, id) = text.split_once(',')?;
        Some(Activity { active_at: active_at.parse().ok()?, id: id.parse().ok()? })
    });
    place.ok_or_else(|| Error::field("cursor", "`cursor` must be one that a `Link` header gave"))
}

async fn open(
    State(app): State<Arc<App>>,
    caller: Caller,
    idempotency: Idempotency,
    body: JsonBody,
) -> Result<Response, Problem> {
    let fields = body.fields()?;
    let is_platform = caller.user_id().is_none();
    let new = NewConversation {
        by: caller.actor(),
        id: if is_platform { fields.id("id")? } else { None },
        owner_id: if is_platform { fields.id("owner_id")? } else { None },
        participant_ids: required("participant_ids", fields.ids("participant_ids", PEOPLE_MAX)?)?,
        title: title(&fields)?.flatten(),
        participants_max: app.chat.participants_max(),
    };
    if !is_platform && app.settings.conversations_by == ConversationsBy::Platform {
        return Err(Error::forbidden("here, only the platform opens conversations").into());
    }
    let key = idempotency.key(caller.user_id().unwrap_or(PLATFORM), body.text());
    let chat = app.chat.clone();
    let once = through(&app, async move { chat.open_conversation(new, key).await }).await?;
    let status = match &once {
        Once::First(created) if created.is_new => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok(answer(once, status, |created| created.conversation))
}

/// A title that is given; an empty one is none.
fn title(fields: &Fields<'_>) -> Result<Option<Option<String>>> {
    let Some(title) = fields.string("title")? else { return Ok(None) };
    if title.chars().count() > TITLE_CHARS_MAX {
        return Err(Error::too_large("title", format!("`title` takes at most {TITLE_CHARS_MAX} characters")));
    }
    if !title.is_empty() && title.chars().all(char::is_whitespace) {
        return Err(Error::field("title", "`title` must hold more than white space"));
    }
    Ok(Some(Some(title).filter(|title| !title.is_empty())))
}

async fn find(
    State(app): State<Arc<App>>,
    caller: Caller,
    UrlPath(Id(id)): UrlPath<Id>,
) -> Result<Json<Conversation>, Problem> {
    let found = app.store.find_conversation(id, caller.user_id()).await?;
    Ok(Json(found.ok_or_else(no_conversation)?))
}

async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    UrlPath(Id(id)): UrlPath<Id>,
    body: JsonBody,
) -> Result<Json<Conversation>, Problem> {
    let fields = body.fields()?;
    let title = title(&fields)?;
    let flags = NewFlags { archived: fields.boolean("archived")?, muted_until: muted(&fields)? };
    place_of(&app, &caller, id).await?;
    let keeps = flags != NewFlags::default();
    if keeps && caller.user_id().is_none() {
        let sent = if flags.archived.is_some() { "archived" } else { "muted" };
        return Err(Error::field(sent, "`archived` and `muted` are each participant's own").into());
    }
    if let Some(title) = title {
        app.chat.commit(change(id, caller.actor(), None, Change::SetTitle { title })).await?;
    }
    if let (true, Caller::User(user)) = (keeps, &caller) {
        let (chat, person) = (app.chat.clone(), user.person());
        return Ok(Json(through(&app, async move { chat.set_flags(id, person, flags).await }).await?));
    }
    let found = app.store.find_conversation(id, caller.user_id()).await?;
    Ok(Json(found.ok_or_else(no_conversation)?))
}

/// Until when a conversation is to be muted: `true`, `false` or a time.
fn muted(fields: &Fields<'_>) -> Result<Option<Option<i64>>> {
    let Some(raw) = fields.raw("muted") else { return Ok(None) };
    let should = "true, false or a time such as 2025-09-24T10:30:00Z";
    match raw.get() {
        "true" => return Ok(Some(Some(MUTED_FOR_GOOD))),
        "false" => return Ok(Some(None)),
        _ => {}
    }
    let text: String = typed("muted", raw, should)?;
    let until = crate::clock::parse_rfc3339(&text);
    until.map(|until| Some(Some(until))).ok_or_else(|| Error::field("muted", format!("`muted` must be {should}")))
}

async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    UrlPath(Id(id)): UrlPath<Id>,
) -> Result<StatusCode, Problem> {
    let place = place_of(&app, &caller, id).await?.participation;
    let chat = app.chat.clone();
    match (&caller, place) {
        (Caller::User(user), Some(place)) if place.kind == "direct" => {
            let person = user.person();
            through(&app, async move { chat.clear_conversation(id, person).await }).await?;
        }
        (Caller::User(user), Some(place)) if place.role != Role::Owner.as_str() => {
            let leave = Change::RemoveParticipant { user_id: user.id };
            chat.commit(change(id, caller.actor(), None, leave)).await?;
        }
        (Caller::User(user), _) => {
            let by = Some(user.person());
            through(&app, async move { chat.delete_conversation(id, by).await }).await?;
        }
        (Caller::Platform, _) => through(&app, async move { chat.delete_conversation(id, None).await }).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}
