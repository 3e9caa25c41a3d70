//! Notifications: a log per user, and rows that change as they are read.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::events::empty_object;
use super::sql::{Conn, fetch_all, fetch_one, list, padded, safe};
use crate::protocol::{Notification, Time};

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
