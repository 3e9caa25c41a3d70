//! What users and the platform do to notifications: read, delete, send.

use std::collections::{BTreeSet, HashMap};

use super::UserEvent;
use super::broadcast::insert_broadcast;
use super::log::{ROWS_MAX, UserLog};
use super::settle::mark_read;
use super::unread_notifications;
use crate::error::{Error, Result};
use crate::protocol::client::Notifications;
use crate::protocol::notification::NewNotification;
use crate::protocol::server::WhichNotifications;
use crate::protocol::{Event, Notification, Time};
use crate::store::commit::fingerprint_of;
use crate::store::conversations::take_ids;
use crate::store::events::Told;
use crate::store::idempotency::{IdempotencyKey, SavedAnswer, claim, keep};
use crate::store::sql::{Conn, execute, fetch_all, fetch_optional, insert_rows, list, padded, safe};
use crate::store::users::ensure_users;
use crate::store::{Found, Store};

/// A change to notifications that somebody asks for.
#[derive(Clone, Debug)]
pub enum Change {
    MarkRead {
        user_id: i64,
        which: Notifications,
        /// A socket's command is remembered by its `client_id`, a request by its key.
        client_id: Option<String>,
        key: Option<IdempotencyKey>,
    },
    Delete {
        user_id: i64,
        notification_id: i64,
    },
    /// One for each of these users, who are made where they are not there yet.
    Create {
        user_ids: Vec<i64>,
        new: NewNotification,
        key: Option<IdempotencyKey>,
    },
    /// One for every user there is.
    Broadcast {
        new: NewNotification,
        key: Option<IdempotencyKey>,
    },
}

impl Change {
    /// How many users it concerns; a broadcast none at once.
    pub fn width(&self) -> usize {
        match self {
            Self::Create { user_ids, .. } => user_ids.len(),
            Self::MarkRead { .. } | Self::Delete { .. } => 1,
            Self::Broadcast { .. } => 0,
        }
    }

    fn key(&self) -> Option<&IdempotencyKey> {
        match self {
            Self::MarkRead { key, .. } | Self::Create { key, .. } | Self::Broadcast { key, .. } => key.as_ref(),
            Self::Delete { .. } => None,
        }
    }

    /// The answer to its request, as it is kept for a repeated one.
    fn answer(&self, count: i64) -> (i64, serde_json::Value) {
        match self {
            Self::MarkRead { .. } => (200, serde_json::json!({ "unread_count": count })),
            Self::Create { .. } => (201, serde_json::json!({ "count": count })),
            Self::Broadcast { .. } => (202, serde_json::json!({ "count": count })),
            Self::Delete { .. } => (204, serde_json::Value::Null),
        }
    }

    fn user_ids(&self) -> &[i64] {
        match self {
            Self::MarkRead { user_id, .. } | Self::Delete { user_id, .. } => std::slice::from_ref(user_id),
            Self::Create { user_ids, .. } => user_ids,
            Self::Broadcast { .. } => &[],
        }
    }
}

/// What came of a change. `count` is how many are unread after a reading or deleting, and how many are
/// made otherwise.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It took effect, with one event or one for each user.
    Done { events: Vec<UserEvent>, count: i64 },
    /// It changed nothing; this answers the one who asked.
    Unchanged { told: Told, count: i64 },
    /// It had taken effect before, under the same `client_id`.
    Repeated { told: Told, count: i64 },
    /// Its request had taken effect before, under the same key, and was answered like this.
    Answered(SavedAnswer),
}

/// What is decided about a change before its events have been written.
enum Decided {
    Logged { entries: usize, count: i64 },
    Told(Box<Outcome>),
}

impl Store {
    /// Carries out changes in one transaction, in their order. The answer has one entry for each.
    pub async fn change_notifications(&self, changes: &[Change]) -> Found<Vec<Result<Outcome>>> {
        self.noted(self.change_all(changes).await)
    }

    async fn change_all(&self, changes: &[Change]) -> Found<Vec<Result<Outcome>>> {
        let now = self.clock.now_ms();
        let named: BTreeSet<i64> = changes
            .iter()
            .filter(|change| matches!(change, Change::Create { .. }))
            .flat_map(|change| change.user_ids().iter().copied())
            .collect();
        let user_ids: BTreeSet<i64> = changes.iter().flat_map(|change| change.user_ids().iter().copied()).collect();
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        ensure_users(conn, &named.into_iter().collect::<Vec<_>>(), now).await?;
        let mut log = UserLog::open(conn, now, &user_ids).await?;
        let mut decided = Vec::with_capacity(changes.len());
        for change in changes {
            decided.push(decide_once(conn, &mut log, change, now).await?);
        }
        let mut events = log.write(conn).await?.into_iter();
        tx.commit().await?;
        let outcome = |decided: Decided| match decided {
            Decided::Logged { entries, count } => {
                let events: Vec<UserEvent> = events.by_ref().take(entries).collect();
                Outcome::Done { events, count }
            }
            Decided::Told(outcome) => *outcome,
        };
        let mut outcome = outcome;
        Ok(decided.into_iter().map(|decided| decided.map(&mut outcome)).collect())
    }
}

impl Decided {
    fn count(&self) -> i64 {
        match self {
            Self::Logged { count, .. } => *count,
            Self::Told(outcome) => match outcome.as_ref() {
                Outcome::Done { count, .. } | Outcome::Unchanged { count, .. } | Outcome::Repeated { count, .. } => {
                    *count
                }
                Outcome::Answered(_) => 0,
            },
        }
    }
}

/// Decides a change, unless its request has been answered before.
async fn decide_once(
    conn: &mut Conn<'_>,
    log: &mut UserLog,
    change: &Change,
    now: i64,
) -> Result<Result<Decided>, sqlx::Error> {
    match claim(conn, change.key(), now).await? {
        Ok(None) => {}
        Ok(Some(earlier)) => return Ok(Ok(Decided::Told(Box::new(Outcome::Answered(earlier))))),
        Err(error) => return Ok(Err(error)),
    }
    let decided = decide(conn, log, change, now).await?;
    if let Ok(decided) = &decided {
        let (status, body) = change.answer(decided.count());
        keep(conn, change.key(), status, &body).await?;
    }
    Ok(decided)
}

/// Decides a change. Those that a request may repeat are not refused here, so that no key is taken for nothing.
async fn decide(
    conn: &mut Conn<'_>,
    log: &mut UserLog,
    change: &Change,
    now: i64,
) -> Result<Result<Decided>, sqlx::Error> {
    match change {
        Change::MarkRead { user_id, which, client_id, .. } => {
            read(conn, log, *user_id, which, client_id.as_deref(), now).await
        }
        Change::Delete { user_id, notification_id } => {
            let sql = "DELETE FROM notifications WHERE id = $1 AND user_id = $2";
            if execute!(conn, sql, *notification_id, *user_id)? == 0 {
                return Ok(Err(Error::not_found("there is no such notification of yours")));
            }
            log.deleted(*user_id, vec![*notification_id]);
            Ok(Ok(Decided::Logged { entries: 1, count: unread_notifications(conn, *user_id).await? }))
        }
        Change::Create { user_ids, new, .. } => {
            let user_ids: BTreeSet<i64> = user_ids.iter().copied().filter(|user_id| log.takes(*user_id)).collect();
            create(conn, log, user_ids.iter().copied().collect(), new, now).await?;
            Ok(Ok(Decided::Logged { entries: user_ids.len(), count: user_ids.len() as i64 }))
        }
        Change::Broadcast { new, .. } => {
            let count = insert_broadcast(conn, new, now).await?;
            Ok(Ok(Decided::Told(Box::new(Outcome::Done { events: Vec::new(), count }))))
        }
    }
}

async fn read(
    conn: &mut Conn<'_>,
    log: &mut UserLog,
    user_id: i64,
    which: &Notifications,
    client_id: Option<&str>,
    now: i64,
) -> Result<Result<Decided>, sqlx::Error> {
    let fingerprint = match which {
        Notifications::All => fingerprint_of(b"[\"mark_read\",\"all\"]"),
        Notifications::Some(ids) => fingerprint_of(serde_json::json!(["mark_read", ids]).to_string().as_bytes()),
    };
    let (own, unread) = find_own(conn, user_id, which).await?;
    let told = |event_id, unread_count| {
        let event = Event::NotificationRead { which: own.clone(), unread_count };
        Told { event_id, event, about: None, client_id: None }
    };
    if let Some(client_id) = client_id {
        let sql = "SELECT fingerprint, event_id FROM client_ids
                   WHERE topic_kind = 'u' AND topic_id = $1 AND user_id = $1 AND client_id = $2";
        let known: Option<(i64, Option<i64>)> = fetch_optional!(conn, (i64, Option<i64>), sql, user_id, client_id)?;
        if let Some((known, event_id)) = known {
            if known != fingerprint {
                return Ok(Err(crate::store::commit::other_body()));
            }
            let count = unread_notifications(conn, user_id).await?;
            let told = told(event_id, count);
            return Ok(Ok(Decided::Told(Box::new(match event_id {
                Some(_) => Outcome::Repeated { told, count },
                None => Outcome::Unchanged { told, count },
            }))));
        }
    }
    mark_read(conn, &unread).await?;
    let count = unread_notifications(conn, user_id).await?;
    let event_id = if unread.is_empty() { None } else { Some(log.read(user_id, own.clone())) };
    if let Some(client_id) = client_id {
        execute!(
            conn,
            "INSERT INTO client_ids (topic_kind, topic_id, user_id, client_id, fingerprint, kind, event_id, created_at)
             VALUES ('u', $1, $1, $2, $3, 'notification_read', $4, $5)",
            user_id,
            client_id,
            fingerprint,
            event_id,
            now
        )?;
    }
    Ok(Ok(match event_id {
        Some(_) => Decided::Logged { entries: 1, count },
        None => Decided::Told(Box::new(Outcome::Unchanged { told: told(None, count), count })),
    }))
}

/// Of the notifications that are asked for, the user's own, as the answer names them; and the unread ones among them.
async fn find_own(
    conn: &mut Conn<'_>,
    user_id: i64,
    which: &Notifications,
) -> Result<(WhichNotifications, Vec<i64>), sqlx::Error> {
    let Notifications::Some(asked) = which else {
        let sql = "SELECT id FROM notifications WHERE user_id = $1 AND is_read = 0";
        let unread = fetch_all!(conn, (i64,), sql, user_id)?;
        return Ok((WhichNotifications::All { all: true }, unread.into_iter().map(|(id,)| id).collect()));
    };
    let mut is_read: HashMap<i64, bool> = HashMap::new();
    for ids in asked.chunks(ROWS_MAX) {
        let ids = padded(ids);
        let sql =
            format!("SELECT id, is_read FROM notifications WHERE user_id = $1 AND id IN ({})", list(1, ids.len()));
        let found = fetch_all!(conn, (i64, i64), safe(sql), |query| {
            query = query.bind(user_id);
            for id in &ids {
                query = query.bind(*id);
            }
        })?;
        is_read.extend(found.into_iter().map(|(id, is_read)| (id, is_read != 0)));
    }
    let mut unread = Vec::new();
    let mut notification_ids = Vec::new();
    for id in asked {
        let Some(is_read) = is_read.remove(id) else { continue };
        notification_ids.push(*id);
        if !is_read {
            unread.push(*id);
        }
    }
    Ok((WhichNotifications::Some { notification_ids }, unread))
}

/// Makes one notification for each of these users, whose rows the log holds.
pub(super) async fn create(
    conn: &mut Conn<'_>,
    log: &mut UserLog,
    user_ids: Vec<i64>,
    new: &NewNotification,
    now: i64,
) -> Result<(), sqlx::Error> {
    let ids = take_ids(conn, "notification", user_ids.len()).await?;
    let made: Vec<(i64, i64)> = ids.into_iter().zip(user_ids).collect();
    let head = "INSERT INTO notifications
                    (id, user_id, title, message, notification_type, data, action_url, created_at)";
    insert_rows!(conn, head, "", made, 8, |query, row| {
        query = query
            .bind(row.0)
            .bind(row.1)
            .bind(&new.title)
            .bind(&new.message)
            .bind(&new.notification_type)
            .bind(new.data.get())
            .bind(&new.action_url)
            .bind(now);
    })?;
    for (id, user_id) in made {
        let notification = Notification {
            id,
            title: new.title.clone(),
            message: new.message.clone(),
            notification_type: new.notification_type.clone(),
            timestamp: Time(now),
            is_read: false,
            data: new.data.clone(),
            action_url: new.action_url.clone(),
        };
        log.notify(user_id, notification);
    }
    Ok(())
}
