//! Users: what the platform says of them, their sessions and presence, and what each sees of oneself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::access::through;
use super::body::{Id, JsonBody, UrlPath};
use super::caller::{PlatformCaller, UserCaller};
use super::idempotency::{Idempotency, answer};
use super::page::{Page, QueryFields};
use super::problem::Problem;
use super::route::{Access, Route};
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::ids::parse_id;
use crate::protocol::Time;
use crate::protocol::fields::Fields;
use crate::protocol::rest::{Me, Profile, Stats, UsersWritten};
use crate::protocol::server::Presence;
use crate::store::Store;
use crate::store::users::{NewUser, User};

/// Most users in one request.
const USERS_MAX: usize = 1_000;
/// Most users whose presence is asked for at once.
const PRESENCE_MAX: usize = 500;
/// Most characters of a name, and of an address.
const NAME_CHARS_MAX: usize = 150;
const ADDRESS_CHARS_MAX: usize = 2_000;

/// A user as the platform writes one. What is absent is emptied.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct UserBody {
    /// Required in a list; otherwise as in the path.
    id: Option<i64>,
    /// At most 150 characters, like the other names.
    first_name: Option<String>,
    last_name: Option<String>,
    username: Option<String>,
    email: Option<String>,
    /// An http or https address, or a path.
    avatar_url: Option<String>,
}

/// Whether somebody is there.
#[derive(Serialize, JsonSchema)]
struct PresenceOf {
    user_id: i64,
    status: Presence,
    /// When they were last there; null while online, or never seen.
    last_seen: Option<Time>,
}

pub fn routes() -> Vec<Route> {
    let one = "/api/v1/users/{id}";
    vec![
        Route::new(Method::GET, "/api/v1/me", Access::User, "Oneself, and what waits.", me).answers::<Me>(200),
        Route::new(Method::PUT, one, Access::Platform, "Writes a user, all of it.", put)
            .takes::<UserBody>()
            .answers::<Profile>(200)
            .answers::<Profile>(201),
        Route::new(Method::DELETE, one, Access::Platform, "Erases a user: names, texts and files.", erase)
            .answers_empty(204),
        Route::new(Method::POST, "/api/v1/users", Access::Platform, "Writes up to 1,000 users, all or none.", put_many)
            .takes::<Vec<UserBody>>()
            .answers::<UsersWritten>(200),
        Route::new(Method::DELETE, "/api/v1/users/{id}/sessions", Access::Platform, "Ends a user's sessions.", revoke)
            .answers_empty(204),
        Route::new(Method::GET, "/api/v1/presence", Access::Platform, "Who of some users is there.", presence)
            .query(&[("user_ids", "Up to 500 user ids, separated by commas.")])
            .answers::<Page<PresenceOf>>(200),
        Route::new(Method::GET, "/api/v1/stats", Access::Platform, "How much there is.", stats).answers::<Stats>(200),
    ]
}

async fn me(State(app): State<Arc<App>>, caller: UserCaller) -> Result<Json<Me>, Problem> {
    app.chat.inbox.settled().await;
    Ok(Json(Me {
        unread_messages: app.store.count_unread_messages(caller.id()).await?,
        unread_notifications: app.store.count_unread_notifications(caller.id()).await?,
        profile: profile(&caller.0),
    }))
}

async fn put(
    State(app): State<Arc<App>>,
    _: PlatformCaller,
    UrlPath(Id(id)): UrlPath<Id>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let fields = body.fields()?;
    if fields.id("id")?.is_some_and(|other| other != id) {
        return Err(Error::field("id", "`id` must be the one of the path").into());
    }
    let (user, is_new) = app.store.put_user(&new_user(id, &fields)?).await?;
    app.hub.people.rename(user.person());
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(profile(&user))).into_response())
}

async fn put_many(
    State(app): State<Arc<App>>,
    _: PlatformCaller,
    idempotency: Idempotency,
    body: JsonBody,
) -> Result<Response, Problem> {
    let items: Vec<&RawValue> = serde_json::from_str(body.text())
        .map_err(|_| Error::new(Code::InvalidJson, "expected a JSON array of users"))?;
    if items.len() > USERS_MAX {
        return Err(Error::new(Code::TooLarge, format!("at most {USERS_MAX} users in one request")).into());
    }
    let mut users = Vec::with_capacity(items.len());
    let mut seen = std::collections::HashSet::new();
    for item in items {
        let fields = Fields::parse(item.get())?;
        let id = fields.id("id")?.ok_or_else(|| Error::field("id", "every user in a list needs an `id`"))?;
        if !seen.insert(id) {
            return Err(Error::field("id", format!("user {id} is there twice")).into());
        }
        users.push(new_user(id, &fields)?);
    }
    let once = app.store.put_users(&users, idempotency.key(0, body.text()).as_ref()).await??;
    let here: Vec<i64> = users.iter().map(|user| user.id).filter(|id| app.hub.people.is_online(*id)).collect();
    for ids in here.chunks(250) {
        app.store.find_users(ids).await?.iter().for_each(|user| app.hub.people.rename(user.person()));
    }
    Ok(answer(once, StatusCode::OK, |written: UsersWritten| written))
}

fn new_user(id: i64, fields: &Fields<'_>) -> Result<NewUser> {
    let text = |name: &'static str, most: usize| -> Result<Option<String>> {
        let text = fields.string(name)?;
        if text.as_ref().is_some_and(|text| text.chars().count() > most) {
            return Err(Error::too_large(name, format!("`{name}` takes at most {most} characters")));
        }
        Ok(text)
    };
    let avatar_url = text("avatar_url", ADDRESS_CHARS_MAX)?.filter(|url| !url.is_empty());
    if avatar_url.as_ref().is_some_and(|url| !is_web_address(url)) {
        return Err(Error::field("avatar_url", "`avatar_url` must be an http or https address, or a path"));
    }
    Ok(NewUser {
        id,
        first_name: text("first_name", NAME_CHARS_MAX)?.unwrap_or_default(),
        last_name: text("last_name", NAME_CHARS_MAX)?.unwrap_or_default(),
        username: text("username", NAME_CHARS_MAX)?,
        email: text("email", 2 * NAME_CHARS_MAX)?,
        avatar_url,
    })
}

/// Whether a page may follow this address: http, https, or a path on its own host.
fn is_web_address(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://") || text.starts_with('/') && !text.starts_with("//")
}

async fn erase(
    State(app): State<Arc<App>>,
    _: PlatformCaller,
    UrlPath(Id(id)): UrlPath<Id>,
) -> Result<StatusCode, Problem> {
    if app.store.find_user(id).await?.is_none() {
        return Err(Error::not_found("there is no such user").into());
    }
    let this = app.clone();
    through(&app, async move {
        // Tokens are refused first, so that nothing new comes while the old is erased.
        this.store.revoke_sessions(id).await?;
        this.chat.forget_names(Store::erased_person(id));
        this.hub.people.end_sessions(id);
        this.store.erase_user(id).await?;
        this.hub.people.end_sessions(id);
        this.chat.inbox.look_over();
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(
    State(app): State<Arc<App>>,
    _: PlatformCaller,
    UrlPath(Id(id)): UrlPath<Id>,
) -> Result<StatusCode, Problem> {
    app.store.revoke_sessions(id).await?;
    app.hub.people.end_sessions(id);
    Ok(StatusCode::NO_CONTENT)
}

async fn presence(
    State(app): State<Arc<App>>,
    _: PlatformCaller,
    query: QueryFields,
) -> Result<Json<Page<PresenceOf>>, Problem> {
    let text = query.get("user_ids").ok_or_else(|| Error::field("user_ids", "say whose: `user_ids`"))?;
    let ids: Option<Vec<i64>> = text.split(',').map(|id| parse_id(id.trim())).collect();
    let ids = ids.ok_or_else(|| Error::field("user_ids", "`user_ids` must be ids separated by commas"))?;
    if ids.len() > PRESENCE_MAX {
        return Err(Error::too_large("user_ids", format!("`user_ids` takes at most {PRESENCE_MAX} ids")).into());
    }
    let mut seen = std::collections::HashMap::new();
    for ids in ids.chunks(250) {
        seen.extend(app.store.find_users(ids).await?.into_iter().map(|user| (user.id, user.last_seen_at)));
    }
    let of = |user_id: i64| match app.hub.people.is_online(user_id) {
        true => PresenceOf { user_id, status: Presence::Online, last_seen: None },
        false => PresenceOf {
            user_id,
            status: Presence::Offline,
            last_seen: seen.get(&user_id).copied().flatten().map(Time),
        },
    };
    Ok(Json(Page { data: ids.into_iter().map(of).collect(), has_more: false }))
}

async fn stats(State(app): State<Arc<App>>, _: PlatformCaller) -> Result<Json<Stats>, Problem> {
    let (users, conversations, messages) = app.store.count_all().await?;
    let (connections, users_online) = app.hub.people.count();
    let (connections, users_online) = (connections as i64, users_online as i64);
    Ok(Json(Stats { connections, users_online, users, conversations, messages }))
}

fn profile(user: &User) -> Profile {
    Profile { person: user.person(), email: user.email.clone() }
}
