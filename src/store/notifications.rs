//! Notifications: a log per user, and rows that change as they are read.

mod broadcast;
pub mod change;
mod log;
pub mod raise;
pub mod settle;
mod tally;

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::events::{Told, empty_object, last_event_id};
use super::messages::Page;
use super::sql::{Conn, fetch_all, fetch_one, list, padded, safe};
use super::{Found, Store};
use crate::protocol::{Notification, Time, Topic};

/// An event in a user's log.
#[derive(Clone, Debug)]
pub struct UserEvent {
    pub user_id: i64,
    pub told: Told,
}

/// A page of somebody's notifications.
#[derive(Debug)]
pub struct NotificationPage {
    pub notifications: Vec<Notification>,
    pub has_more: bool,
    /// All that are unread, on this page or not.
    pub unread_count: i64,
    /// What the page is true for: what came later in the log may show in it already, nothing earlier is missing.
    pub last_event_id: i64,
}

impl Store {
    /// A page of a user's notifications.
    pub async fn list_notifications(
        &self,
        user_id: i64,
        unread_only: bool,
        page: Page,
        limit: i64,
    ) -> Found<NotificationPage> {
        let mut reader = self.reader().await?;
        let conn = &mut reader.conn();
        let last_event_id = last_event_id(conn, Topic::User(user_id)).await?.unwrap_or_default();
        let filter = if unread_only { "AND is_read = 0" } else { "" };
        let (bound, order, cursor) = match page {
            Page::Before(before) => ("<", "DESC", before.unwrap_or(i64::MAX)),
            Page::After(after) => (">", "ASC", after),
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM notifications WHERE user_id = $1 AND id {bound} $2 {filter}
             ORDER BY id {order} LIMIT $3"
        );
        let mut rows = fetch_all!(conn, Row, safe(sql), user_id, cursor, limit + 1)?;
        let has_more = rows.len() as i64 > limit;
        rows.truncate(limit as usize);
        let unread_count = unread_notifications(conn, user_id).await?;
        let notifications = rows.into_iter().map(Notification::from).collect();
        Ok(NotificationPage { notifications, has_more, unread_count, last_event_id })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: i64,
    title: String,
    message: String,
    notification_type: String,
    data: String,
    action_url: Option<String>,
    is_read: i64,
    created_at: i64,
}

pub(super) const COLUMNS: &str = "id, title, message, notification_type, data, action_url, is_read, created_at";

impl From<Row> for Notification {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            title: row.title,
            message: row.message,
            notification_type: row.notification_type,
            timestamp: Time(row.created_at),
            is_read: row.is_read != 0,
            data: RawValue::from_string(row.data).unwrap_or_else(|_| empty_object()),
            action_url: row.action_url,
        }
    }
}

/// Notifications by id, as they stand today; deleted ones are left out.
pub(super) async fn load_notifications(
    conn: &mut Conn<'_>,
    ids: &[i64],
) -> Result<HashMap<i64, Notification>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let ids = padded(ids);
    let sql = format!("SELECT {COLUMNS} FROM notifications WHERE id IN ({})", list(0, ids.len()));
    let rows = fetch_all!(conn, Row, safe(sql), |query| {
        for id in &ids {
            query = query.bind(*id);
        }
    })?;
    Ok(rows.into_iter().map(|row| (row.id, row.into())).collect())
}

/// How many of a user's notifications are unread.
pub(super) async fn unread_notifications(conn: &mut Conn<'_>, user_id: i64) -> Result<i64, sqlx::Error> {
    let sql = "SELECT COUNT(*) FROM notifications WHERE user_id = $1 AND is_read = 0";
    let (count,): (i64,) = fetch_one!(conn, (i64,), sql, user_id)?;
    Ok(count)
}
