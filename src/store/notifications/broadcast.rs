//! Notifications to every user there is: a row that says how far it has come, worked off in pieces, so
//! that a crash continues where it was and nobody gets one twice.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::UserEvent;
use super::change::create;
use super::log::UserLog;
use crate::protocol::notification::NewNotification;
use crate::store::events::empty_object;
use crate::store::sql::{Conn, execute, fetch_all, fetch_one, fetch_optional};
use crate::store::{Found, Store};

/// How many users one transaction notifies.
const USERS_MAX: i64 = 500;

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    title: String,
    message: String,
    notification_type: String,
    data: String,
    action_url: Option<String>,
    user_id: i64,
    created_at: i64,
}

/// Notes a notification that all users are to have, and says how many they are.
pub(super) async fn insert_broadcast(conn: &mut Conn<'_>, new: &NewNotification, now: i64) -> Result<i64, sqlx::Error> {
    execute!(
        conn,
        "INSERT INTO broadcasts (title, message, notification_type, data, action_url, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &new.title,
        &new.message,
        &new.notification_type,
        new.data.get(),
        &new.action_url,
        now
    )?;
    let (count,): (i64,) = fetch_one!(conn, (i64,), "SELECT COUNT(*) FROM users WHERE erased_at IS NULL")?;
    Ok(count)
}

impl Store {
    /// Notifies some more users of the oldest broadcast there is; nothing when there is none.
    pub async fn continue_broadcast(&self) -> Found<Option<Vec<UserEvent>>> {
        self.noted(self.notify_some().await)
    }

    async fn notify_some(&self) -> Found<Option<Vec<UserEvent>>> {
        let now = self.clock.now_ms();
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        let sql = conn.pick(
            "SELECT * FROM broadcasts ORDER BY id LIMIT 1",
            "SELECT * FROM broadcasts ORDER BY id LIMIT 1 FOR UPDATE",
        );
        let Some(row): Option<Row> = fetch_optional!(conn, Row, sql)? else { return Ok(None) };
        let users = fetch_all!(
            conn,
            (i64,),
            "SELECT id FROM users WHERE id > $1 AND created_at <= $2 AND erased_at IS NULL ORDER BY id LIMIT $3",
            row.user_id,
            row.created_at,
            USERS_MAX
        )?;
        let user_ids: BTreeSet<i64> = users.into_iter().map(|(id,)| id).collect();
        let new = NewNotification {
            title: row.title,
            message: row.message,
            notification_type: row.notification_type,
            data: RawValue::from_string(row.data).unwrap_or_else(|_| empty_object()),
            action_url: row.action_url,
        };
        let mut log = UserLog::open(conn, now, &user_ids).await?;
        let takers = user_ids.iter().copied().filter(|user_id| log.takes(*user_id)).collect();
        create(conn, &mut log, takers, &new, now).await?;
        match user_ids.last().filter(|_| user_ids.len() as i64 == USERS_MAX) {
            Some(last) => execute!(conn, "UPDATE broadcasts SET user_id = $1 WHERE id = $2", *last, row.id)?,
            None => execute!(conn, "DELETE FROM broadcasts WHERE id = $1", row.id)?,
        };
        let events = log.write(conn).await?;
        tx.commit().await?;
        Ok(Some(events))
    }
}
