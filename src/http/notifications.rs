//! Notifications: one's own, and those that the platform sends.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::body::{Id, JsonBody, UrlPath, limit};
use super::caller::{PlatformCaller, UserCaller};
use super::idempotency::{Idempotency, answer};
use super::page::{QueryFields, with_next};
use super::problem::Problem;
use super::route::{Access, Route};
use crate::app::App;
use crate::error::{Error, Result};
use crate::protocol::notification::{Addressees, new_notification};
use crate::protocol::{Notification, client};

const PATH: &str = "/api/v1/notifications";
/// The platform, among those whose keys are kept.
const PLATFORM: i64 = 0;

/// One page of notifications.
#[derive(Serialize, JsonSchema)]
struct NotificationPage {
    data: Vec<Notification>,
    has_more: bool,
    /// All that are unread, on this page or not.
    unread_count: i64,
    /// The last event of the user's notifications that the page is true for; a socket goes on from it with `since`.
    last_event_id: i64,
}

/// Which notifications to mark read: `notification_ids`, or `all`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ReadNotifications {
    notification_ids: Option<Vec<i64>>,
    all: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct UnreadCount {
    unread_count: i64,
}

/// A notification for one user, for some, or for all.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct NewNotification {
    /// At most 10,000; those who are not known are made, without names.
    user_ids: Option<Vec<i64>>,
    user_id: Option<i64>,
    all: Option<bool>,
    /// At most 200 characters.
    title: String,
    /// At most 2,000 characters.
    message: String,
    /// At most 64 characters; `system` where it is not given.
    notification_type: Option<String>,
    /// At most 4 KiB.
    data: Option<serde_json::Map<String, serde_json::Value>>,
    /// An http or https address, or a path that begins with one `/`.
    action_url: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Count {
    /// How many users get it.
    count: i64,
}

pub fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, PATH, Access::User, "One's own notifications.", list)
            .query(&[
                ("unread", "`true` for those alone that are unread."),
                ("before", "Only notifications older than this id; the newest come first."),
                ("after", "Only notifications newer than this id; the oldest come first."),
                ("limit", "How many at most, 1 to 100; 50 where it is not given."),
            ])
            .answers::<NotificationPage>(200),
        Route::new(Method::POST, PATH, Access::Platform, "Notifies users; all of them in the background.", insert)
            .takes::<NewNotification>()
            .answers::<Count>(201)
            .answers::<Count>(202),
        Route::new(Method::POST, "/api/v1/notifications/read", Access::User, "Marks notifications read.", read)
            .takes::<ReadNotifications>()
            .answers::<UnreadCount>(200),
        Route::new(Method::DELETE, "/api/v1/notifications/{id}", Access::User, "Deletes a notification.", delete)
            .answers_empty(204),
    ]
}

async fn list(State(app): State<Arc<App>>, caller: UserCaller, query: QueryFields) -> Result<Response, Problem> {
    let unread_only = match query.get("unread") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Error::field("unread", "`unread` must be true or false").into()),
    };
    let (page, limit) = (query.page_by_id()?, limit(query.get("limit"))?);
    app.chat.inbox.settled().await;
    let found = app.store.list_notifications(caller.id(), unread_only, page, limit).await?;
    let last = found.notifications.last().filter(|_| found.has_more).map(|notification| notification.id);
    let next = last.map(|id| format!("{PATH}?{}", query.next(page, id)));
    let body = NotificationPage {
        data: found.notifications,
        has_more: found.has_more,
        unread_count: found.unread_count,
        last_event_id: found.last_event_id,
    };
    Ok(with_next(&app, body, next))
}

async fn read(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    idempotency: Idempotency,
    body: JsonBody,
) -> Result<Response, Problem> {
    let which = client::notifications(&body.fields()?)?;
    let key = idempotency.key(caller.id(), body.text());
    let once = app.chat.inbox.mark_read(caller.id(), which, key).await?;
    Ok(answer(once, StatusCode::OK, |unread_count| UnreadCount { unread_count }))
}

async fn delete(
    State(app): State<Arc<App>>,
    caller: UserCaller,
    UrlPath(Id(id)): UrlPath<Id>,
) -> Result<StatusCode, Problem> {
    app.chat.inbox.delete(caller.id(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn insert(
    State(app): State<Arc<App>>,
    _: PlatformCaller,
    idempotency: Idempotency,
    body: JsonBody,
) -> Result<Response, Problem> {
    let (addressees, new) = new_notification(&body.fields()?)?;
    let status = match addressees {
        Addressees::Users(_) => StatusCode::CREATED,
        Addressees::All => StatusCode::ACCEPTED,
    };
    let key = idempotency.key(PLATFORM, body.text());
    let once = app.chat.inbox.send(addressees, new, key).await?;
    Ok(answer(once, status, |count| Count { count }))
}
